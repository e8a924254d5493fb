//! What the tests of several crates share. Nothing here is built into a function.

#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, reason = "a test fails by a panic")]

pub mod cases;
pub mod invocation;
pub mod page;
pub mod wire;
