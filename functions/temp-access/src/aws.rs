//! Adapters for AWS services.

pub mod iam;
pub mod ssm;
