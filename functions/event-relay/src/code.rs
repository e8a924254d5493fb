//! The ledger's rows of codes: what a notice is about, so that a button below the notice can name it.

use std::collections::BTreeMap;

use sekisho_domain::change::{RepositoryArn, Revision, SourceRef};
use sekisho_domain::code::Code;
use sekisho_domain::route::TargetId;
use sekisho_ledger::Key;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

/// The time for which a code can be used.
const KEPT: Duration = Duration::days(14);

/// What a notice is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CodeRow {
    /// The route's name.
    pub(crate) route: String,
    /// The wave's name; `None` if the notice is about the whole train.
    pub(crate) wave: Option<String>,
    /// What happened.
    pub(crate) event: Event,
    /// When the code ends, in seconds since 1970. DynamoDB deletes the row some time later.
    expires: i64,
}

/// The event that a notice reports. Its time or its orders tell it from a later event of the same kind, so that an old
/// button never acts on something that its notice did not mention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Event {
    /// A revision was condemned.
    Condemned {
        /// The revision.
        revision: RepositoryRevision,
        /// When it was condemned, in epoch milliseconds.
        at: u64,
    },
    /// A wave or a train is held.
    Held {
        /// The only reference whose changes are held.
        #[serde(rename = "ref")]
        source_ref: Option<SourceRef>,
        /// When the hold began, in epoch milliseconds.
        since: u64,
    },
    /// Targets of a wave are unknown.
    Unknown {
        /// The revision of the change in the wave.
        revision: RepositoryRevision,
        /// The sequence that the change had when it entered the wave.
        sequence: u64,
        /// The unknown targets, each with the number of its order. The code accepts only these orders.
        orders: BTreeMap<TargetId, u64>,
    },
}

/// A commit of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RepositoryRevision {
    pub(crate) repository: RepositoryArn,
    pub(crate) commit: Revision,
}

impl CodeRow {
    pub(crate) fn new(route: &str, wave: Option<&str>, event: Event, now: OffsetDateTime) -> Self {
        let expires = (now + KEPT).unix_timestamp();
        Self { route: route.to_owned(), wave: wave.map(ToOwned::to_owned), event, expires }
    }

    /// The code. The same event always has the same code.
    pub(crate) fn code(&self) -> Code {
        let wave = self.wave.as_deref().unwrap_or_default();
        match &self.event {
            // The wave may get another name as long as the notice is due.
            Event::Condemned { revision, at } => {
                let repository = revision.repository.as_str();
                Code::of(&["condemned", &self.route, repository, revision.commit.as_str(), &at.to_string()])
            }
            Event::Held { source_ref, since } => {
                let source_ref = source_ref.as_ref().map_or("", SourceRef::as_str);
                Code::of(&["held", &self.route, wave, source_ref, &since.to_string()])
            }
            Event::Unknown { orders, .. } => {
                let orders: Vec<String> = orders.iter().map(|(target, number)| format!("{target} {number}")).collect();
                let parts = ["unknown", &self.route, wave].into_iter().chain(orders.iter().map(String::as_str));
                Code::of(&parts.collect::<Vec<_>>())
            }
        }
    }

    /// Whether the code can still be used.
    pub(crate) fn is_valid(&self, now: OffsetDateTime) -> bool {
        now.unix_timestamp() < self.expires
    }
}

/// The key of a code's row.
pub(crate) fn key(code: &Code) -> Key {
    Key::state(format!("code#{code}"))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-28 12:00 UTC);

    fn held(wave: Option<&str>, since: u64) -> CodeRow {
        CodeRow::new("shop", wave, Event::Held { source_ref: None, since }, NOW)
    }

    #[test]
    fn an_event_has_its_own_code() {
        let row = held(Some("tokyo"), 7);
        assert_eq!(CodeRow::new("shop", Some("tokyo"), row.event.clone(), NOW + KEPT).code(), row.code());
        for other in [held(None, 7), held(Some("osaka"), 7), held(Some("tokyo"), 8)] {
            assert_ne!(other.code(), row.code(), "{other:?}");
        }
    }

    #[test]
    fn a_code_can_be_used_for_two_weeks() {
        let row = held(None, 7);
        assert!(row.is_valid(NOW + Duration::days(14) - Duration::SECOND));
        assert!(!row.is_valid(NOW + Duration::days(14)));
    }
}
