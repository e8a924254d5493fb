//! Adapters, one for each AWS service. The ledger's adapter is a crate of its own.

pub mod iam;
pub mod sns;
