//! The checks of a sweep that are running, and the objects whose checks take long.
//!
//! A copy of a very large object takes longer than an invocation. Its page may end without such an object, so that the
//! sweep's position moves on. The object then stays in the sweep's row until its check ends in this invocation or in a
//! later one.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::object::ListedObject;
use crate::open_pages::{OpenPages, WaitingObject};
use crate::sweep_row::SweepRow;
use crate::sweep_totals::CheckedObject;

/// A page waits no longer than this for a check. The time for which the check waits for the rates does not count, because
/// it says nothing about the object.
pub(crate) const SLOW: Duration = Duration::from_mins(1);

/// The running checks by number.
#[derive(Debug, Default)]
pub(crate) struct RunningChecks {
    by_number: BTreeMap<u64, RunningCheck>,
    next: u64,
    /// The number of running checks for which no page waits.
    slow: usize,
    /// The keys of the objects whose checks ended after their pages.
    ended_late: Vec<String>,
}

#[derive(Debug)]
struct RunningCheck {
    object: ListedObject,
    /// The number of the object's page; `None` if an earlier invocation has ended the page.
    page: Option<u64>,
    /// Whether the check takes long, so that its page ends without it.
    is_slow: bool,
    began: Rc<Cell<Instant>>,
}

/// A check that has begun.
#[derive(Debug)]
pub(crate) struct BegunCheck {
    pub(crate) number: u64,
    /// Whether the check may read a byte of the object.
    pub(crate) is_sample: bool,
    /// When it began. The time for which it waits for the rates is added.
    pub(crate) began: Rc<Cell<Instant>>,
}

impl RunningChecks {
    /// Begins the check of an object that waits in a page.
    pub(crate) fn begin(&mut self, waiting: &WaitingObject) -> BegunCheck {
        self.add(waiting.object.clone(), Some(waiting.page), waiting.is_sample())
    }

    /// Begins the check of an object whose page has ended in an earlier invocation.
    pub(crate) fn begin_slow(&mut self, object: &ListedObject) -> BegunCheck {
        self.add(object.clone(), None, true)
    }

    fn add(&mut self, object: ListedObject, page: Option<u64>, is_sample: bool) -> BegunCheck {
        let (number, began) = (self.next, Rc::new(Cell::new(Instant::now())));
        let is_slow = page.is_none();
        self.next += 1;
        self.slow += usize::from(is_slow);
        self.by_number.insert(number, RunningCheck { object, page, is_slow, began: Rc::clone(&began) });
        BegunCheck { number, is_sample, began }
    }

    /// The number of running checks for which pages wait.
    pub(crate) fn in_pages(&self) -> usize {
        self.by_number.len() - self.slow
    }

    /// Adds the result of a check to the object's page, or to the row of the sweep if the page has ended.
    pub(crate) fn end(&mut self, number: u64, checked: CheckedObject, pages: &mut OpenPages, row: &mut SweepRow) {
        let Some(RunningCheck { object, page, is_slow, .. }) = self.by_number.remove(&number) else { return };
        self.slow -= usize::from(is_slow);
        if let Some(page) = page.and_then(|page| pages.page(page)) {
            page.end_object(&object, checked);
        } else {
            row.end_slow(&object, checked);
            self.ended_late.push(object.key);
        }
    }

    /// The keys of the objects whose checks ended after their pages.
    pub(crate) fn ended_late(&self) -> &[String] {
        &self.ended_late
    }

    /// Lets the pages end without the objects whose checks take this long, as many as the row of the sweep has room for.
    pub(crate) fn set_slow_aside(&mut self, slow: Duration, pages: &mut OpenPages, row: &SweepRow) {
        for check in self.by_number.values_mut() {
            if !check.is_slow
                && check.began.get().elapsed() >= slow
                && row.has_room_for_slow(pages.slow())
                && let Some(page) = check.page.and_then(|page| pages.page(page))
            {
                page.set_aside(check.object.clone());
                check.is_slow = true;
                self.slow += 1;
            }
        }
    }
}
