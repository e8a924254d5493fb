//! People's requests and the schedule's sweeps, against an account with IAM, SNS and a ledger, each of which can fail.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]
#![allow(unreachable_pub, reason = "these modules are one crate, which exports nothing")]

mod account;
mod concurrency;
mod contract;
mod ends;
mod faults;
mod follow_ups;
mod grants;
mod lists;
mod revokes;
mod sweeps;
