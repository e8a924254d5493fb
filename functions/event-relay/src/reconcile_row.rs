//! The ledger's row of the reconcile.

use std::time::Duration;

use sekisho_ledger::Key;
use serde::{Deserialize, Serialize};

use crate::caches::Caches;
use crate::repository::Globs;

/// `reached` is written only if the stored time is older than this. Otherwise, every reconcile would write the row.
const REACHED_AFTER: Duration = Duration::from_hours(1);

/// The key of the row.
pub(crate) fn key() -> Key {
    Key::state("reconcile")
}

/// The ledger's row of the reconcile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReconcileRow {
    /// The first repository that the last reconcile did not reach, as the end of its ARN has it. The next one begins
    /// there.
    #[serde(default)]
    pub(crate) next: Option<String>,
    /// The time since when every reconcile left some repositories unexamined, in epoch milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) incomplete_since: Option<u64>,
    /// The globs of the routes.
    #[serde(default)]
    pub(crate) globs: Globs,
    /// The rules about caches of other registries, if a route has a glob for images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) caches: Option<Caches>,
    /// When a reconcile began that reached every CodeCommit repository, in epoch milliseconds. It is at most an hour
    /// older than the last such reconcile. A repository that was created later and has no row yet is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reached: Option<u64>,
}

impl ReconcileRow {
    /// `reached` after a reconcile that began then and reached every CodeCommit repository.
    pub(crate) fn reached_after(&self, began: u64) -> u64 {
        let span = u64::try_from(REACHED_AFTER.as_millis()).unwrap_or(u64::MAX);
        self.reached.filter(|reached| began < reached.saturating_add(span)).unwrap_or(began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_complete_reconcile_is_written_once_an_hour() {
        let row = |reached| ReconcileRow { reached, ..ReconcileRow::default() };
        assert_eq!(row(None).reached_after(5), 5);
        assert_eq!([5, 3_600_004, 3_600_005].map(|began| row(Some(5)).reached_after(began)), [5, 5, 3_600_005]);
    }
}
