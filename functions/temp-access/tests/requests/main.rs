//! People's requests and the schedule's sweeps, against an account with IAM, SNS and a ledger, each of which can fail.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]
#![allow(unreachable_pub, reason = "these modules are one crate, which exports nothing")]

mod account;
mod approval_deaths;
mod approval_records;
mod approvals;
mod board;
mod concurrency;
mod contract;
mod doors;
mod endings;
mod ends;
mod faults;
mod follow_ups;
mod glass;
mod grants;
mod histories;
mod hub;
mod lengths;
mod lists;
mod pairs;
mod people;
mod people_doubts;
mod people_ends;
mod people_faults;
mod people_full;
mod people_later;
mod people_profiles;
mod people_reverts;
mod people_rows;
mod revokes;
mod schedules;
mod sweeps;
