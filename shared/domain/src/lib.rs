//! What Sekisho knows and decides: accounts, changes, routes, access profiles, decisions.
//!
//! Pure values and functions. No AWS SDK, no async runtime, no clock, no environment: whoever calls brings the facts.

pub mod access;
pub mod account;
pub mod artifacts;
pub mod change;
pub mod config;
pub mod decision;
pub mod envelope;
pub mod notice;
pub mod route;
pub mod slack;
pub mod timestamp;
