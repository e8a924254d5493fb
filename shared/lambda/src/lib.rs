//! What every Lambda function needs: the environment, the configuration file, clients, the log, metrics, errors, and
//! the loop that answers invocations.

pub mod aws;
pub mod board;
pub mod environment;
pub mod event;
pub mod eventbridge;
pub mod failure;
pub mod head;
pub mod invocation;
pub mod metrics;
pub mod service_error;
pub mod signed;
pub mod telemetry;
pub mod topic;

pub use environment::Environment;
pub use failure::{ErrorType, Failure};
pub use invocation::{Invocation, now, serve};
pub use service_error::ServiceError;
pub use topic::Topic;
