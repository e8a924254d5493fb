//! The change of a pipeline's other source.

use sekisho_domain::change::Change;
use serde::{Deserialize, Serialize};

/// The change of the other source that was ordered last.
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

/// Whether two changes come from the same source of a pipeline: one source action cannot have commits and images.
pub(crate) fn is_same_kind(one: &Change, other: &Change) -> bool {
    one.repository.kind() == other.repository.kind()
}
