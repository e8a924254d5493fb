//! The function's answer.

use sekisho_domain::decision::{Decision, Decisions};
use serde::Serialize;

use crate::outcome::Outcome;

/// The decisions about an event, or a widget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// The JSON object `{"decisions": […]}`.
    Decisions(Decisions<Outcome>),
    /// The HTML of a widget, or its documentation.
    Text(String),
}

impl Answer {
    /// The decisions. A widget has none.
    #[must_use]
    pub fn into_decisions(self) -> Vec<Decision<Outcome>> {
        match self {
            Self::Decisions(Decisions { decisions }) => decisions,
            Self::Text(_) => Vec::new(),
        }
    }
}

impl From<Decisions<Outcome>> for Answer {
    fn from(decisions: Decisions<Outcome>) -> Self {
        Self::Decisions(decisions)
    }
}
