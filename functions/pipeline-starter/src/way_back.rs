//! How a target goes back by itself: to what was last healthy, under the same order.
//!
//! The row then has the change to go back to and the kind `rollback`, so that everything that starts and follows an
//! execution works as it does for an order of this kind. A rollback is therefore never rolled back.

use sekisho_domain::change::Change;
use serde::{Deserialize, Serialize};

use crate::bake::Bake;
use crate::pins::PinSet;

/// The way back of a target, and what the order was before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayBack {
    /// Why the target goes back.
    pub reason: String,
    /// The change of the order.
    pub change: Change,
    /// The execution that is taken back.
    pub execution: Option<String>,
    /// The number of the last run of this execution.
    pub run: u32,
    /// The settings with which the order started, for a retried stage. `None` after a failed bake, because no stage of
    /// a successful execution can be retried.
    pub bake: Option<Bake>,
    /// The pins of this execution, if the pipeline has several sources.
    #[serde(default, skip_serializing_if = "PinSet::is_empty")]
    pub pins: PinSet,
}
