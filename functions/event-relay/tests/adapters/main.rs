//! The adapters, against the services' own words on the wire.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, unreachable_pub, reason = "a test may fail so")]

mod buses;
mod codecommit;
mod queue;
#[path = "../../../../tests/wire.rs"]
mod wire;
