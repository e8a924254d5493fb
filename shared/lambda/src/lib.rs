//! What every function needs to be one: environment, configuration file, clients, log, metrics, errors, and the loop.

pub mod aws;
pub mod environment;
pub mod failure;
pub mod invocation;
pub mod log;
pub mod metrics;

pub use environment::Environment;
pub use failure::{ErrorType, Failure};
pub use invocation::{Invocation, now, serve};
