//! The checks of a sweep that are running, and the objects whose checks take long.
//!
//! A copy of a very large object takes longer than an invocation. Such an object leaves its page, so that the sweep's
//! position moves on, and stays in the sweep's row until its check ends in this invocation or in a later one.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::object::ListedObject;
use crate::open_pages::{OpenPages, WaitingObject};
use crate::sweep_row::SweepRow;
use crate::sweep_totals::CheckedObject;

/// A check that runs for longer than this leaves its page.
const SLOW: Duration = Duration::from_mins(1);

/// The running checks by number.
#[derive(Debug, Default)]
pub(crate) struct RunningChecks {
    by_number: BTreeMap<u64, RunningCheck>,
    next: u64,
    /// The number of checks whose objects have left their pages.
    slow: usize,
}

#[derive(Debug)]
struct RunningCheck {
    object: ListedObject,
    /// The number of the object's page; `None` if the object has left its page.
    page: Option<u64>,
    since: Instant,
}

impl RunningChecks {
    /// Begins the check of an object that waits in a page. Returns the check's number.
    pub(crate) fn begin(&mut self, waiting: &WaitingObject) -> u64 {
        self.add(waiting.object.clone(), Some(waiting.page))
    }

    /// Begins the check of an object that has left its page in an earlier invocation.
    pub(crate) fn begin_slow(&mut self, object: &ListedObject) -> u64 {
        self.add(object.clone(), None)
    }

    fn add(&mut self, object: ListedObject, page: Option<u64>) -> u64 {
        self.next += 1;
        self.slow += usize::from(page.is_none());
        self.by_number.insert(self.next, RunningCheck { object, page, since: Instant::now() });
        self.next
    }

    /// The number of running checks whose object still belongs to a page. A slow object has left its page.
    pub(crate) fn in_pages(&self) -> usize {
        self.by_number.len() - self.slow
    }

    /// Adds the result of a check to the object's page, or to the row of the sweep if the object has left its page.
    pub(crate) fn end(&mut self, number: u64, checked: CheckedObject, pages: &mut OpenPages, row: &mut SweepRow) {
        match self.by_number.remove(&number) {
            Some(RunningCheck { page: Some(page), .. }) => pages.object_checked(page, checked),
            Some(RunningCheck { object, page: None, .. }) => {
                self.slow -= 1;
                row.end_slow(&object, checked);
            }
            None => {}
        }
    }

    /// Moves the objects whose checks take long from their pages to the row of the sweep.
    pub(crate) fn set_slow_aside(&mut self, pages: &mut OpenPages, row: &mut SweepRow) {
        for check in self.by_number.values_mut() {
            if check.since.elapsed() > SLOW
                && let Some(page) = check.page
                && row.set_aside(&check.object)
            {
                check.page = None;
                self.slow += 1;
                pages.object_left(page);
            }
        }
    }
}
