//! Tests of the function in a simulated world. They send events, requests and schedules to the function, and compare
//! its decisions, rows, notices and calls to AWS services.

#![allow(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::format_push_string,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::struct_excessive_bools,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

mod any_bucket;
mod batch;
mod batch_faults;
mod batch_sweeps;
mod board;
mod concurrency;
mod finding_states;
mod findings;
mod incremental;
mod losses;
mod model;
mod objects;
mod obstacles;
mod other_buckets;
mod pipelines;
mod posture;
mod range_faults;
mod ranges;
mod repair_faults;
mod repairs;
mod reports;
mod requests;
mod retries;
mod retry_faults;
mod simulation;
mod sweep_findings;
mod sweep_modes;
mod sweep_progress;
mod sweep_reads;
mod sweeps;
mod verdicts;
mod world;
