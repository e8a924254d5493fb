//! Findings and their states. A finding has a code of its own, and its row in the ledger says whether people know of it.
//!
//! A finding is *new* when it is first found, *open* while it is found again, *accepted* after somebody accepted it, and
//! *resolved* when it is no longer found. People get a notice only about changes.

use std::time::Duration;

use sekisho_domain::code::Code;
use sekisho_domain::decision::Decision;
use sekisho_domain::timestamp::seconds;
use sekisho_ledger::Key;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::bucket_finding::QUIET;
use crate::outcome::Outcome;

/// The partition of all findings.
pub(crate) const PARTITION: &str = "artifact-finding";
/// How long the row of a finding is kept after its last change.
const RETENTION: Duration = Duration::from_hours(24 * 400);
/// How long the row of a resolved finding is kept. Every sweep reads all rows.
const RETENTION_OF_RESOLVED: Duration = Duration::from_hours(24 * 30);

/// The state of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FindingState {
    /// It was not found before, or was resolved since.
    New,
    /// It was found before.
    Open,
    /// It is no longer found.
    Resolved,
    /// Somebody accepted it.
    Accepted,
}

impl FindingState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Open => "open",
            Self::Resolved => "resolved",
            Self::Accepted => "accepted",
        }
    }
}

/// The row of a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FindingRow {
    /// `None` if the finding is about a pipeline whose bucket is unknown.
    pub(crate) bucket: Option<String>,
    /// The object's key; `None` if the finding is about a bucket or a pipeline.
    pub(crate) key: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) pipeline: Option<String>,
    pub(crate) verdict: Outcome,
    pub(crate) reason: String,
    /// `Open`, `Resolved` or `Accepted`.
    pub(crate) state: FindingState,
    /// When the finding got this state, such as `2026-11-21T23:45:00Z`.
    pub(crate) since: String,
    /// The id of the sweep or request that found it. Within that sweep or request, the finding is still new.
    pub(crate) found_by: String,
    /// Whether only a sweep of all versions has found it. No other sweep can resolve it.
    #[serde(default)]
    pub(crate) of_older_version: bool,
    /// Whether people need not be reminded of it every week.
    #[serde(default)]
    pub(crate) is_quiet: bool,
    /// Why somebody accepted it.
    #[serde(default)]
    pub(crate) acceptance: Option<String>,
    /// When DynamoDB may delete the row, in seconds since 1970.
    pub(crate) expires: i64,
}

/// The key of the row of a finding.
pub(crate) fn row_key(id: &Code) -> Key {
    Key { pk: PARTITION.to_owned(), sk: id.to_string() }
}

/// The id of a finding, which depends on the bucket, the key of the object or the problem of the bucket, and the
/// verdict. `None` if the decision is not a finding, or concerns a whole sweep or a malformed event.
pub(crate) fn id(decision: &Decision<Outcome>) -> Option<Code> {
    let about = |name| decision.concerns.get(name).map(String::as_str);
    if !decision.outcome.is_finding() || about("sweep").is_some() {
        return None;
    }
    let verdict = decision.outcome.name();
    match (about("bucket"), about("object"), about("pipeline")) {
        (Some(bucket), Some(object), _) => Some(Code::of(&[verdict, bucket, object])),
        (None, _, None) => None,
        // No bucket has a star in its name, so these subjects differ from those of objects.
        (bucket, _, pipeline) => Some(Code::of(&[
            verdict,
            &format!("*{}", bucket.unwrap_or_default()),
            pipeline.unwrap_or_default(),
            about("problem").unwrap_or_default(),
        ])),
    }
}

/// Adds the id and the state to the decision about a finding.
pub(crate) fn with_state(decision: Decision<Outcome>, id: &Code, state: FindingState) -> Decision<Outcome> {
    decision.about("finding", id.to_string()).about("state", state.name())
}

/// Adds the id to the decision about a finding.
pub(crate) fn with_id(decision: Decision<Outcome>) -> Decision<Outcome> {
    match id(&decision) {
        Some(id) => decision.about("finding", id.to_string()),
        None => decision,
    }
}

impl FindingRow {
    /// The row of a new finding.
    pub(crate) fn new(decision: &Decision<Outcome>, found_by: &str, now: OffsetDateTime) -> Self {
        let about = |name| decision.concerns.get(name).cloned();
        let key = about("object");
        Self {
            bucket: about("bucket"),
            version: key.is_some().then(|| about("version")).flatten(),
            key,
            pipeline: about("pipeline"),
            verdict: decision.outcome,
            reason: decision.reason.clone(),
            state: FindingState::Open,
            since: seconds(now),
            found_by: found_by.to_owned(),
            of_older_version: false,
            is_quiet: about(QUIET).is_some(),
            acceptance: None,
            expires: expires(FindingState::Open, now),
        }
    }

    /// The row after another state has begun.
    pub(crate) fn changed(self, state: FindingState, now: OffsetDateTime) -> Self {
        Self { state, since: seconds(now), expires: expires(state, now), ..self }
    }

    /// The state of the finding if `found_by` finds it, and this is its row.
    pub(crate) fn state_for(row: Option<&Self>, found_by: &str) -> FindingState {
        match row {
            None => FindingState::New,
            Some(row) => match row.state {
                FindingState::Resolved => FindingState::New,
                FindingState::Open | FindingState::New if row.found_by == found_by => FindingState::New,
                FindingState::Open | FindingState::New => FindingState::Open,
                FindingState::Accepted => FindingState::Accepted,
            },
        }
    }

    /// The finding as a decision, without its id and state.
    pub(crate) fn decision(&self) -> Decision<Outcome> {
        Decision::new(self.verdict, self.reason.clone())
            .about_some("bucket", self.bucket.clone())
            .about_some("object", self.key.clone())
            .about_some("version", self.version.clone())
            .about_some("pipeline", self.pipeline.clone())
    }
}

fn expires(state: FindingState, now: OffsetDateTime) -> i64 {
    let retention = if state == FindingState::Resolved { RETENTION_OF_RESOLVED } else { RETENTION };
    (now + retention).unix_timestamp()
}

/// An event about a finding, for the account's default bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FindingEvent {
    version: u32,
    id: Code,
    bucket: Option<String>,
    key: Option<String>,
    object_version: Option<String>,
    verdict: Outcome,
    state: FindingState,
}

impl FindingEvent {
    /// The ARN of the bucket or the object; of `elsewhere` if the finding is about a pipeline whose bucket is unknown.
    pub(crate) fn resource(&self, partition: &str, elsewhere: &str) -> String {
        match (&self.bucket, &self.key) {
            (Some(bucket), Some(key)) => format!("arn:{partition}:s3:::{bucket}/{key}"),
            (Some(bucket), None) => format!("arn:{partition}:s3:::{bucket}"),
            (None, _) => elsewhere.to_owned(),
        }
    }

    pub(crate) fn new(id: &Code, row: &FindingRow, state: FindingState) -> Self {
        Self {
            version: 1,
            id: id.clone(),
            bucket: row.bucket.clone(),
            key: row.key.clone(),
            object_version: row.version.clone(),
            verdict: row.verdict,
            state,
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 23:45 UTC);

    fn about_object(key: &str, version: &str) -> Decision<Outcome> {
        Decision::new(Outcome::ForeignKey, "r").about("bucket", "b").about("object", key).about("version", version)
    }

    #[test]
    fn an_id_depends_on_bucket_key_and_verdict_but_not_on_version_and_reason() {
        let one = about_object("k", "1");
        assert_eq!(id(&one), id(&about_object("k", "2")));
        let others = [
            about_object("l", "1"),
            about_object("k", "1").about("bucket", "c"),
            Decision { outcome: Outcome::Reported, ..one.clone() },
            Decision::new(Outcome::ForeignKey, "r").about("bucket", "b"),
            Decision::new(Outcome::ForeignKey, "r").about("bucket", "b").about("pipeline", "k"),
            Decision::new(Outcome::ForeignKey, "r").about("bucket", "b").about("problem", "k"),
            Decision::new(Outcome::ForeignKey, "r").about("pipeline", "k"),
        ];
        let mut ids: Vec<_> = others.iter().chain([&one]).map(|decision| id(decision).unwrap()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), others.len() + 1);
    }

    #[test]
    fn a_summary_a_repair_and_a_malformed_event_are_no_findings() {
        let no_findings = [
            Decision::new(Outcome::Reported, "swept").about("bucket", "b").about("sweep", "s"),
            Decision::new(Outcome::Repaired, "r").about("bucket", "b").about("object", "k"),
            Decision::new(Outcome::Accepted, "r").about("bucket", "b").about("object", "k"),
            Decision::new(Outcome::Unknown, "malformed"),
        ];
        for decision in no_findings {
            assert_eq!(id(&decision), None, "{decision:?}");
        }
    }

    #[test]
    fn a_finding_is_new_for_the_sweep_that_found_it_until_it_is_resolved() {
        let row = FindingRow::new(&about_object("k", "1"), "first", NOW);
        let state = |row: &FindingRow, by| FindingRow::state_for(Some(row), by);
        assert_eq!(FindingRow::state_for(None, "first"), FindingState::New);
        assert_eq!((state(&row, "first"), state(&row, "second")), (FindingState::New, FindingState::Open));
        let accepted = row.clone().changed(FindingState::Accepted, NOW);
        assert_eq!(
            (state(&accepted, "first"), state(&accepted, "second")),
            (FindingState::Accepted, FindingState::Accepted)
        );
        assert_eq!(state(&row.changed(FindingState::Resolved, NOW), "second"), FindingState::New);
    }

    #[test]
    fn an_event_has_the_shape_of_the_contract() {
        let decision = about_object("k", "1");
        let event =
            FindingEvent::new(&id(&decision).unwrap(), &FindingRow::new(&decision, "r", NOW), FindingState::New);
        let expected = serde_json::json!({
            "version": 1, "id": id(&decision).unwrap().to_string(), "bucket": "b", "key": "k", "object_version": "1",
            "verdict": "foreign-key", "state": "new",
        });
        assert_eq!(serde_json::to_value(&event).unwrap(), expected);
        let of_pipeline =
            Decision::new(Outcome::Unknown, "r").about("pipeline", "shop").about("version", "not of an object");
        let row = FindingRow::new(&of_pipeline, "r", NOW);
        let event =
            serde_json::to_value(FindingEvent::new(&id(&of_pipeline).unwrap(), &row, FindingState::Open)).unwrap();
        assert_eq!(
            (&event["bucket"], &event["key"], &event["object_version"]),
            (&serde_json::Value::Null, &serde_json::Value::Null, &serde_json::Value::Null)
        );
    }
}
