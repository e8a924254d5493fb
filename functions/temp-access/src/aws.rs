//! Adapters, one for each AWS service. Those for DynamoDB and SNS are in the shared crates.

pub mod iam;
