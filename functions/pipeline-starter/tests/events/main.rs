//! Events through the whole function, in an account whose CodePipeline and topic are fakes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test may panic"
)]

mod approvals;
mod bakes;
mod board;
mod changes;
mod executions;
mod explain;
mod files;
mod follow_up;
mod function;
mod orders;
mod readings;
mod source_rows;
mod sources;
mod upgrades;
mod ways_back;
mod wiring;
