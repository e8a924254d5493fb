//! The ledger's row of a branch or tag: the commit that was relayed last, and the targets for which it was decided.

use std::time::Duration;

use sekisho_domain::change::{Change, RepositoryArn, Revision, SourceRef};
use sekisho_domain::route::TargetId;
use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::{Key, Lease};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::delivery::Delivery;

/// The time for which the row of a reference is kept after the reference was deleted.
const RETENTION: Duration = Duration::from_hours(90 * 24);
/// A pending change of a reference that no longer exists is continued for this time. Afterwards, the targets that do
/// not have it do not need it.
const PENDING_TERM: Duration = Duration::from_hours(24);

/// The key of a reference's row.
#[must_use]
pub fn key(repository: &RepositoryArn, source_ref: &SourceRef) -> Key {
    Key { pk: partition(repository), sk: source_ref.to_string() }
}

/// The partition key that the rows of all references in a repository share.
pub(crate) fn partition(repository: &RepositoryArn) -> String {
    format!("branch#{repository}")
}

/// The row of a branch or tag. Earlier versions can read it, because a stack may be rolled back: new fields are
/// optional, and the earlier fields keep their shapes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchRow {
    /// The last commit that was relayed, or recorded as a baseline.
    pub commit: Option<Revision>,
    /// The sequence of the change that was relayed last.
    pub sequence: u64,
    /// The change that some targets do not have yet, if there is such a change. Only a change to more targets than one
    /// transaction can write is pending for a moment.
    pub pending: Option<Pending>,
    /// The ids of a tag's latest events, which earlier versions wrote. This version compares heads instead.
    #[serde(default)]
    pub events: Vec<String>,
    /// The time of a tag's newest event in epoch milliseconds, which earlier versions wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<u64>,
    /// The latest head that touched no routed path. The row stores the head so that the next reconciles do not compare
    /// it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untouched: Option<Untouched>,
    /// The routed targets for which nothing is left to decide about `commit`: it was ordered, its paths do not touch
    /// them, or it was recorded as a baseline. A routed target that is missing here has joined since. `None` in a row
    /// of an earlier version. While a change is pending, the field has the targets that the change does not go to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<TargetId>>,
    /// Whether `commit` was recorded without an order, because it existed before a route covered the reference.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub baseline: bool,
    /// When DynamoDB may delete the row, in seconds since 1970. Only a row of a deleted reference has this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<i64>,
}

/// A head that was compared with the commit that was relayed last, and touched no routed path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untouched {
    /// The commit of the head.
    pub commit: Revision,
    /// A digest of the routes' path globs. If the globs change, the head is compared again.
    pub paths: String,
}

/// A change that some targets do not have yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The change to relay.
    pub change: Change,
    /// The targets to which the change goes.
    pub deliveries: Vec<Delivery>,
    /// Always free. Earlier versions, which can read the row, wrote the lease of an invocation here.
    pub lease: Lease,
    /// Always 0. Earlier versions counted their attempts here.
    #[serde(default)]
    pub tries: u32,
    /// The time at which the change became pending, in epoch milliseconds.
    #[serde(default)]
    pub since: u64,
    /// The time of a tag's event in epoch milliseconds, which earlier versions wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
}

impl Pending {
    /// Whether the change became pending too long ago to be continued for a reference that no longer exists.
    #[must_use]
    pub fn is_over(&self, now: OffsetDateTime) -> bool {
        self.since < epoch_millis(now - PENDING_TERM)
    }

    /// The targets to which the change goes.
    pub(crate) fn targets(&self) -> impl Iterator<Item = TargetId> {
        self.deliveries.iter().flat_map(Delivery::targets)
    }
}

impl BranchRow {
    /// The row of a reference that existed before a route covered it.
    #[must_use]
    pub fn recorded(commit: Revision, sequence: u64, targets: Vec<TargetId>) -> Self {
        Self { commit: Some(commit), sequence, targets: Some(targets), baseline: true, ..Self::default() }
    }

    /// The row of a new reference whose head could not be relayed yet. Its head is relayed to all targets.
    #[must_use]
    pub fn unread() -> Self {
        Self { targets: Some(Vec::new()), ..Self::default() }
    }

    /// The sequence of the newest change, whether it is relayed or pending.
    #[must_use]
    pub fn newest_sequence(&self) -> u64 {
        self.pending.as_ref().map_or(self.sequence, |pending| pending.change.sequence)
    }

    /// The change that was relayed last. It has the id of the relayed change, because the id depends only on the
    /// repository, the reference, the sequence and the commit. Returns `None` if no commit is recorded.
    #[must_use]
    pub fn change(&self, repository: &RepositoryArn, source_ref: &SourceRef) -> Option<Change> {
        Some(Change {
            kind: source_ref.kind(),
            repository: repository.clone(),
            source_ref: source_ref.clone(),
            revision: self.commit.clone()?,
            previous: None,
            sequence: self.sequence,
            actor: None,
            event: None,
        })
    }

    /// The row with `change` as the pending change to `deliveries`. `others` are the targets that the change does not
    /// go to.
    #[must_use]
    pub fn with_pending(
        &self,
        change: Change,
        deliveries: Vec<Delivery>,
        others: Vec<TargetId>,
        now: OffsetDateTime,
    ) -> Self {
        let since = epoch_millis(now);
        let pending = Pending { change, deliveries, lease: Lease::FREE, tries: 0, since, at: None };
        Self { pending: Some(pending), targets: Some(others), ..self.clone() }
    }

    /// The row without its pending change. No later change gets the sequence of the dropped change. Some targets may
    /// have received the dropped change, so the row also forgets the commit that was relayed last. If a route covers
    /// the reference again, its head is therefore relayed, even if the head is that commit.
    #[must_use]
    pub fn dropped(&self) -> Self {
        let sequence = self.newest_sequence();
        Self { commit: None, sequence, pending: None, untouched: None, targets: Some(Vec::new()), ..self.clone() }
    }

    /// The row after `change` was ordered.
    #[must_use]
    pub fn relayed(&self, change: &Change, targets: Vec<TargetId>) -> Self {
        Self {
            commit: Some(change.revision.clone()),
            sequence: change.sequence,
            pending: None,
            events: self.events.clone(),
            newest: self.newest,
            untouched: None,
            targets: Some(targets),
            baseline: false,
            expires: None,
        }
    }

    /// The row with the targets for which its commit is decided.
    #[must_use]
    pub fn covering(&self, targets: Vec<TargetId>) -> Self {
        Self { targets: Some(targets), ..self.clone() }
    }

    /// The row after its reference was deleted.
    #[must_use]
    pub fn expiring(&self, now: OffsetDateTime) -> Self {
        Self { expires: Some((now + RETENTION).unix_timestamp()), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);
    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    const SHOP: &str = "arn:aws:codecommit:ap-northeast-1:111111111111:shop";

    /// The row as the version before orders had it.
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "the test only reads the row")]
    struct EarlierRow {
        commit: Option<Revision>,
        sequence: u64,
        pending: Option<EarlierPending>,
        #[serde(default)]
        events: Vec<String>,
        #[serde(default)]
        newest: Option<u64>,
        #[serde(default)]
        untouched: Option<Untouched>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "the test only reads the row")]
    struct EarlierPending {
        change: Change,
        deliveries: Vec<Delivery>,
        lease: Lease,
        #[serde(default)]
        tries: u32,
        #[serde(default)]
        since: u64,
        #[serde(default)]
        at: Option<u64>,
    }

    fn change() -> Change {
        let row = BranchRow { commit: Some(COMMIT.parse().unwrap()), sequence: 8, ..BranchRow::default() };
        row.change(&SHOP.parse().unwrap(), &"refs/heads/main".parse().unwrap()).unwrap()
    }

    fn target() -> TargetId {
        "222222222222/ap-northeast-1/shop".parse().unwrap()
    }

    #[test]
    fn rows_of_an_earlier_version_can_be_read() {
        let change = serde_json::to_value(change()).unwrap();
        let deliveries = json!([{"account": "222222222222", "region": "ap-northeast-1", "pipelines": ["shop"]}]);
        let rows = [
            json!({"commit": null, "sequence": 7, "pending": null}),
            json!({"commit": COMMIT, "sequence": 7, "pending": null, "events": ["e1"], "newest": 1_763_726_400_u64}),
            json!({"commit": COMMIT, "sequence": 7, "pending": null, "events": [], "untouched":
                {"commit": COMMIT, "paths": "00000000000000aa"}}),
            json!({"commit": COMMIT, "sequence": 7, "events": [],
                "pending": {"change": change, "deliveries": deliveries,
                "lease": 1_763_726_455_000_u64, "tries": 2, "since": 1_763_726_400_000_u64, "at": 5}}),
        ];
        for row in rows {
            let read: BranchRow = serde_json::from_value(row.clone()).unwrap();
            assert_eq!((read.sequence, &read.targets, read.baseline, read.expires), (7, &None, false, None), "{row}");
        }
    }

    #[test]
    fn an_earlier_version_can_read_every_row() {
        let delivery = Delivery {
            account: "222222222222".parse().unwrap(),
            region: "ap-northeast-1".parse().unwrap(),
            pipelines: vec!["shop".parse().unwrap()],
        };
        let relayed = BranchRow::default().relayed(&change(), vec![target()]);
        let rows = [
            BranchRow::recorded(COMMIT.parse().unwrap(), 7, vec![target()]),
            relayed.with_pending(change(), vec![delivery], vec![target()], NOW),
            relayed.dropped(),
            relayed.expiring(NOW),
            relayed,
        ];
        for row in rows {
            let earlier: EarlierRow = serde_json::from_value(serde_json::to_value(&row).unwrap()).unwrap();
            assert_eq!((&earlier.commit, earlier.sequence), (&row.commit, row.sequence));
            assert_eq!(earlier.pending.map(|pending| pending.change), row.pending.map(|pending| pending.change));
        }
    }

    #[test]
    fn the_change_of_a_row_has_the_id_of_the_relayed_change() {
        let relayed = Change { previous: None, actor: Some("arn".to_owned()), event: Some("e".to_owned()), ..change() };
        let row = BranchRow::default().relayed(&relayed, vec![]);
        assert_eq!(row.change(&relayed.repository, &relayed.source_ref).unwrap().id(), relayed.id());
        assert_eq!(row.dropped().change(&relayed.repository, &relayed.source_ref), None);
        assert_eq!(row.with_pending(Change { sequence: 9, ..change() }, vec![], vec![], NOW).dropped().sequence, 9);
    }

    #[test]
    fn a_pending_change_is_over_after_a_day() {
        let row = BranchRow::default().with_pending(change(), vec![], vec![], NOW);
        let pending = row.pending.unwrap();
        assert!(!pending.is_over(NOW + Duration::from_hours(24)));
        assert!(pending.is_over(NOW + Duration::from_hours(25)));
    }

    #[test]
    fn the_row_of_a_deleted_reference_expires_after_ninety_days() {
        let row = BranchRow::default().relayed(&change(), vec![]).expiring(NOW);
        assert_eq!(row.expires, Some((NOW + time::Duration::days(90)).unix_timestamp()));
        assert_eq!(row.relayed(&change(), vec![]).expires, None);
    }
}
