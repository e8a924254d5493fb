//! Adapters, one for each AWS service. The adapters for DynamoDB and SNS are in the shared crates.

pub mod iam;
