//! The rows of all findings of an account, as far as one invocation has read and written them.

use std::collections::HashMap;

use sekisho_domain::code::Code;

use crate::finding::{FindingRow, FindingState};

/// The most findings of an account that have rows and are not resolved. The log, the list and the counts have the others.
const MOST_UNRESOLVED: usize = 10_000;
/// The most rows of findings, resolved ones included. Every invocation of a sweep reads all of them.
const MOST_ROWS: usize = 3 * MOST_UNRESOLVED;

/// The rows of findings, with their revisions.
#[derive(Debug, Default)]
pub(crate) struct FindingRows {
    rows: HashMap<Code, (FindingRow, u64)>,
    /// The number of rows whose finding is not resolved.
    unresolved: usize,
}

impl FindingRows {
    pub(crate) fn get(&self, id: &Code) -> Option<&(FindingRow, u64)> {
        self.rows.get(id)
    }

    pub(crate) fn insert(&mut self, id: Code, row: FindingRow, revision: u64) {
        self.unresolved += usize::from(is_unresolved(&row));
        if let Some((before, _)) = self.rows.insert(id, (row, revision)) {
            self.unresolved -= usize::from(is_unresolved(&before));
        }
    }

    /// Whether a further finding about an object gets no row.
    pub(crate) fn is_full(&self) -> bool {
        self.unresolved >= MOST_UNRESOLVED || self.rows.len() >= MOST_ROWS
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Code, &FindingRow)> {
        self.rows.iter().map(|(id, (row, _))| (id, row))
    }
}

fn is_unresolved(row: &FindingRow) -> bool {
    row.state != FindingState::Resolved
}

#[cfg(test)]
mod tests {
    use sekisho_domain::decision::Decision;
    use time::macros::datetime;

    use super::*;
    use crate::outcome::Outcome;

    #[test]
    fn resolved_findings_leave_their_places_to_others() {
        let now = datetime!(2026-11-21 23:45 UTC);
        let row = FindingRow::new(&Decision::new(Outcome::ForeignKey, "r"), "sweep", now);
        let id = |n: usize| Code::of(&[&n.to_string()]);
        let mut rows = FindingRows::default();
        for n in 0..MOST_UNRESOLVED {
            assert!(!rows.is_full());
            rows.insert(id(n), row.clone(), 1);
        }
        assert!(rows.is_full());
        rows.insert(id(0), row.clone(), 2);
        for n in 0..MOST_UNRESOLVED {
            rows.insert(id(n), row.clone().changed(FindingState::Resolved, now), 3);
            assert!(!rows.is_full());
        }
        rows.insert(id(0), row.clone(), 4);
        assert_eq!((rows.unresolved, rows.iter().count()), (1, MOST_UNRESOLVED));
        for n in MOST_UNRESOLVED..MOST_ROWS {
            rows.insert(id(n), row.clone().changed(FindingState::Resolved, now), 3);
        }
        assert!(rows.is_full());
    }
}
