//! Events and requests through the real function, in a fake account that records every call.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test may panic"
)]

mod branches;
mod configuration;
mod explain;
mod files;
mod function;
mod reconcile;
mod report;
mod resend;
mod tags;
mod targets;
mod whereabouts;
