//! Every event ends in a decision with a reason: returned, logged and kept in the ledger in this one shape.

use std::collections::BTreeMap;

use serde::Serialize;

/// What was decided, why, and about what.
///
/// Written as one flat JSON object: `{"outcome": "relayed", "reason": "…", "repository": "…", …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision<Outcome> {
    /// One of the function's outcomes.
    pub outcome: Outcome,
    /// One sentence for people.
    pub reason: String,
    /// What it concerns: names and values, such as `repository`, `ref`, `commit`, `pipeline`.
    #[serde(flatten)]
    pub concerns: BTreeMap<&'static str, String>,
}

/// Characters of a reason that are kept: it may quote a stranger, and DynamoDB takes 400 KB a row.
const REASON: usize = 1_000;

impl<Outcome> Decision<Outcome> {
    /// A decision that concerns nothing yet. A reason of more than 1,000 characters ends in `…`.
    pub fn new(outcome: Outcome, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        if let Some((end, _)) = reason.char_indices().nth(REASON) {
            reason.truncate(end);
            reason.push('…');
        }
        Self { outcome, reason, concerns: BTreeMap::new() }
    }

    /// Adds what it concerns.
    #[must_use]
    pub fn about(mut self, what: &'static str, value: impl Into<String>) -> Self {
        self.concerns.insert(what, value.into());
        self
    }

    /// Adds what it concerns, where there is such a thing.
    #[must_use]
    pub fn about_some(self, what: &'static str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.about(what, value),
            None => self,
        }
    }
}

/// What a function that events drive returns: `{"decisions": [ … ]}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decisions<Outcome> {
    /// In the order in which they were taken.
    pub decisions: Vec<Decision<Outcome>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_quotes_a_flood_is_cut() {
        let cut = Decision::new("refused", "関".repeat(400_000)).reason;
        assert_eq!((cut.chars().count(), cut.ends_with('…')), (1_001, true));
        assert_eq!(Decision::new("refused", "関".repeat(1_000)).reason.chars().count(), 1_000);
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
