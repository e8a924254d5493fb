//! The values and rules that several functions share: accounts, changes, routes, access profiles, decisions, notices.
//!
//! Everything here is pure: no AWS SDK, no async runtime, no clock, no environment. The caller passes all facts as
//! values.

pub mod access;
pub mod account;
pub mod artifacts;
pub mod bake;
pub mod change;
pub mod code;
pub mod config;
pub mod decision;
mod mistake;
pub mod notice;
pub mod order;
pub mod pause;
pub mod report;
pub mod route;
pub mod slack;
pub mod timestamp;
pub mod window;
