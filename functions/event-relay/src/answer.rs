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
    /// The answer to a person's request, which Slack shows unchanged, or the HTML of a widget.
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_is_a_json_string_and_decisions_are_an_object() {
        let decisions = Answer::from(vec![Decision::new(Outcome::Reported, "it runs")]);
        let object = json!({"decisions": [{"outcome": "reported", "reason": "it runs"}]});
        assert_eq!(serde_json::to_value(decisions).unwrap(), object);
        assert_eq!(serde_json::to_value(Answer::Text("sent".to_owned())).unwrap(), json!("sent"));
    }
}
