//! Adapters for AWS services.

pub mod iam;
pub mod identity_center;
pub mod lambda;
pub mod ssm;
pub mod trail;
