//! Events as they come, through the real handler, in an account that remembers every call.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test may fail so"
)]

mod changes;
mod delivery;
mod files;
mod reconcile;
mod wiring;
mod world;
