//! Every event ends in a decision with a reason. The function returns the decision, logs it and stores it in the
//! ledger, always in the same shape.

use std::collections::BTreeMap;

use serde::Serialize;

/// A decision: its outcome, its reason and its subject.
///
/// Its JSON is one flat object: `{"outcome": "relayed", "reason": "…", "repository": "…", …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision<Outcome> {
    /// One of the function's outcomes. Programs compare outcomes and never reasons.
    pub outcome: Outcome,
    /// One sentence for people. A reason of more than 1,000 characters is cut and ends in `…`.
    pub reason: String,
    /// The subject as names and values, such as `repository`, `ref`, `commit` and `pipeline`.
    #[serde(flatten)]
    pub concerns: BTreeMap<&'static str, String>,
}

/// The longest reason, in characters. Without a limit, a quotation of text from outside could make the decision too
/// large for DynamoDB, whose rows hold 400 KB.
const LONGEST_REASON: usize = 1_000;

impl<Outcome> Decision<Outcome> {
    /// A decision without a subject. A reason of more than 1,000 characters is cut and ends in `…`.
    pub fn new(outcome: Outcome, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        if let Some((end, _)) = reason.char_indices().nth(LONGEST_REASON) {
            reason.truncate(end);
            reason.push('…');
        }
        Self { outcome, reason, concerns: BTreeMap::new() }
    }

    /// Adds a name and a value to the subject.
    #[must_use]
    pub fn about(mut self, what: &'static str, value: impl Into<String>) -> Self {
        self.concerns.insert(what, value.into());
        self
    }

    /// Adds a name and a value to the subject, if there is a value.
    #[must_use]
    pub fn about_some(self, what: &'static str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.about(what, value),
            None => self,
        }
    }
}

/// The decisions about an event, as the JSON object `{"decisions": [ … ]}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decisions<Outcome> {
    /// The decisions, in the order in which the function made them.
    pub decisions: Vec<Decision<Outcome>>,
}

/// The answer of a function that is driven by events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answer<Outcome> {
    /// The decisions about an event.
    Decisions(Decisions<Outcome>),
    /// The answer to a person's request, which Slack shows unchanged, or the HTML of a widget.
    Text(String),
}

impl<Outcome> Answer<Outcome> {
    /// The decisions. A text has none.
    #[must_use]
    pub fn into_decisions(self) -> Vec<Decision<Outcome>> {
        match self {
            Self::Decisions(Decisions { decisions }) => decisions,
            Self::Text(_) => Vec::new(),
        }
    }
}

impl<Outcome> From<Vec<Decision<Outcome>>> for Answer<Outcome> {
    fn from(decisions: Vec<Decision<Outcome>>) -> Self {
        Self::Decisions(Decisions { decisions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut() {
        let cut = Decision::new("refused", "関".repeat(400_000)).reason;
        assert_eq!((cut.chars().count(), cut.ends_with('…')), (1_001, true));
        assert_eq!(Decision::new("refused", "関".repeat(1_000)).reason.chars().count(), 1_000);
    }

    #[test]
    fn a_text_is_a_json_string_and_decisions_are_an_object() {
        let decisions = Answer::from(vec![Decision::new("reported", "it runs")]);
        let object = serde_json::json!({"decisions": [{"outcome": "reported", "reason": "it runs"}]});
        assert_eq!(serde_json::to_value(decisions).unwrap(), object);
        let text: Answer<&str> = Answer::Text("sent".to_owned());
        assert_eq!(serde_json::to_value(text).unwrap(), serde_json::json!("sent"));
    }

    #[test]
    fn a_decision_is_one_flat_object() {
        let decision =
            Decision::new("ignored", "deleted").about("ref", "refs/heads/main").about_some("commit", None::<String>);
        assert_eq!(
            serde_json::to_value(decision).unwrap(),
            serde_json::json!({"outcome": "ignored", "reason": "deleted", "ref": "refs/heads/main"})
        );
    }
}
