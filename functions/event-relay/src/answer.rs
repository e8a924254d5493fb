//! The function's answer.

use sekisho_domain::decision::{Decision, Decisions};
use serde::Serialize;

use crate::outcome::Outcome;

/// The decisions about an event, or a text for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// The JSON object `{"decisions": […]}`.
    Decisions(Decisions<Outcome>),
    /// The answer to a person's request, which Slack shows unchanged.
    Text(String),
}

impl Answer {
    /// The decisions. A text has none.
    #[must_use]
    pub fn into_decisions(self) -> Vec<Decision<Outcome>> {
        match self {
            Self::Decisions(Decisions { decisions }) => decisions,
            Self::Text(_) => Vec::new(),
        }
    }
}

impl From<Vec<Decision<Outcome>>> for Answer {
    fn from(decisions: Vec<Decision<Outcome>>) -> Self {
        Self::Decisions(Decisions { decisions })
    }
}
