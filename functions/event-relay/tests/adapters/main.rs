//! Tests of the adapters, which check the requests and answers on the wire.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, unreachable_pub, reason = "a test may panic")]

mod codecommit;
mod ecr;
mod eventbridge;
