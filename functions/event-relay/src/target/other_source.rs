//! The change of another source of a target's pipeline.

use sekisho_domain::change::Change;
use serde::{Deserialize, Serialize};

/// The change of another source that was ordered last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherSource {
    /// The change.
    pub change: Change,
    /// The number of its order; 0 if the change had no order.
    #[serde(default)]
    pub number: u64,
    /// Whether the target has not taken the order. An order that arrives after a newer one starts nothing, so the
    /// change is ordered again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub open: bool,
}
