//! How a target goes back by itself: to the commit that was last healthy, under the same order.
//!
//! The row then has the change to go back to and the kind `rollback`, so that everything that starts and follows an
//! execution works as it does for an order of this kind. A rollback is therefore never rolled back. A version without
//! bakes, which CloudFormation may bring back, also goes on with the rollback.

use sekisho_domain::change::Change;
use serde::{Deserialize, Serialize};

use crate::bake::Bake;

/// The way back of a target, and what the order was before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retreat {
    /// Why the target goes back.
    pub reason: String,
    /// The change of the order.
    pub change: Change,
    /// The execution that is taken back.
    pub execution: Option<String>,
    /// The number of the last run of this execution.
    pub run: u32,
    /// The settings with which the order started.
    pub bake: Option<Bake>,
}

/// A notice about a bake that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Announcement {
    /// The target goes back.
    GoesBack,
    /// The target cannot go back.
    CannotGoBack,
}
