//! The adapters, against the services' own words on the wire.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, unreachable_pub, reason = "a test may fail so")]

mod codecommit;
mod eventbridge;
mod sqs;
