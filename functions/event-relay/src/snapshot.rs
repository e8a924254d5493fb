//! Rows of the ledger at the time when they were read.

use std::collections::BTreeMap;

use sekisho_domain::decision::Decision;
use sekisho_domain::route::TargetId;
use sekisho_ledger::Row;

use crate::outcome::Outcome;
use crate::target::TargetRow;
use crate::train::TrainRow;

/// The content of a row at the time when the ledger was read. If the ledger has no row, the snapshot has an empty row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Snapshot<T> {
    pub(crate) row: T,
    /// The revision that a write must name; `None` if the ledger has no row.
    pub(crate) revision: Option<u64>,
}

impl<T: Default> From<Option<Row<T>>> for Snapshot<T> {
    fn from(row: Option<Row<T>>) -> Self {
        row.map(|row| Self { row: row.state, revision: Some(row.revision) }).unwrap_or_default()
    }
}

/// The rows of trains, by the names of their routes.
pub(crate) type TrainRows = BTreeMap<String, Snapshot<TrainRow>>;

/// The rows of targets.
#[derive(Debug, Default)]
pub(crate) struct TargetRows {
    /// The rows that were read.
    pub(crate) read: BTreeMap<TargetId, Snapshot<TargetRow>>,
    /// The decisions about rows that cannot be read. Their targets get no order until a person repairs the rows.
    pub(crate) unreadable: BTreeMap<TargetId, Decision<Outcome>>,
}

impl TargetRows {
    /// Whether the row of a target was read, with or without success.
    pub(crate) fn has(&self, target: &TargetId) -> bool {
        self.read.contains_key(target) || self.unreadable.contains_key(target)
    }
}
