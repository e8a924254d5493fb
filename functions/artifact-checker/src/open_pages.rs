//! The pages of a listing that are being checked.
//!
//! The sweep's position in the ledger moves only past finished pages. An invocation that continues the sweep
//! checks the open pages again, and leaves out no object.

use std::collections::VecDeque;

use crate::object::{ListPage, ListPosition, ListedObject};
use crate::sweep_totals::{CheckedObject, SweepTotals};

/// The most pages that are open at the same time. The limit saves memory if the check of one object takes long.
const MOST_PAGES: usize = 8;
/// No further page is listed while this many objects wait for their check.
const ENOUGH_WAITING: usize = 1000;

/// The open pages, in the order of the listing.
#[derive(Debug, Default)]
pub(crate) struct OpenPages {
    pages: VecDeque<OpenPage>,
    waiting: VecDeque<WaitingObject>,
    /// The number of the first open page; pages are counted from 0.
    first: u64,
}

/// An open page.
#[derive(Debug)]
pub(crate) struct OpenPage {
    /// The number of objects that are not checked yet, without the slow ones.
    unchecked: usize,
    totals: SweepTotals,
    /// The objects whose checks take long, and for which the page does not wait.
    slow: Vec<ListedObject>,
    end: Option<ListPosition>,
}

/// An object that waits for its check.
#[derive(Debug)]
pub(crate) struct WaitingObject {
    /// The number of the object's page.
    pub(crate) page: u64,
    pub(crate) object: ListedObject,
    /// Whether the object is the first of its page. A sweep reads a byte of the first object, and only the metadata of
    /// the page's other objects.
    pub(crate) is_sample: bool,
}

/// A finished page: all its objects, and all objects of earlier pages, are checked, but for the slow ones.
#[derive(Debug)]
pub(crate) struct FinishedPage {
    pub(crate) totals: SweepTotals,
    /// The slow objects, whose checks go on. They move to the row of the sweep only when the page ends: an invocation that
    /// lists the page again must not find them in the row as well.
    pub(crate) slow: Vec<ListedObject>,
    /// The position at the end of the page; `None` if the page is the last.
    pub(crate) end: Option<ListPosition>,
}

impl OpenPages {
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < ENOUGH_WAITING && self.pages.len() < MOST_PAGES
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Adds a page that S3 has listed, without the objects that need no check. `unchanged` is their number.
    pub(crate) fn add(&mut self, page: ListPage, unchanged: u64) {
        let number = self.first + u64::try_from(self.pages.len()).unwrap_or(u64::MAX);
        let mut totals = SweepTotals::default();
        totals.checks.writes_and_lists = 1;
        totals.unchanged = unchanged;
        self.pages.push_back(OpenPage { unchecked: page.objects.len(), totals, slow: Vec::new(), end: page.end });
        let waiting = |(n, object): (usize, ListedObject)| WaitingObject { page: number, object, is_sample: n == 0 };
        self.waiting.extend(page.objects.into_iter().enumerate().map(waiting));
    }

    /// The next object to check.
    pub(crate) fn next_object(&mut self) -> Option<WaitingObject> {
        self.waiting.pop_front()
    }

    /// Page `number`; `None` if it has ended.
    pub(crate) fn page(&mut self, number: u64) -> Option<&mut OpenPage> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.pages.get_mut(index)
    }

    /// The number of slow objects.
    pub(crate) fn slow(&self) -> usize {
        self.pages.iter().map(|page| page.slow.len()).sum()
    }

    /// Removes the first page if it is finished.
    pub(crate) fn pop_finished(&mut self) -> Option<FinishedPage> {
        let page = self.pages.pop_front_if(|page| page.unchecked == 0)?;
        self.first += 1;
        Some(FinishedPage { totals: page.totals, slow: page.slow, end: page.end })
    }
}

impl OpenPage {
    /// Adds the result of the check of an object of the page.
    pub(crate) fn end_object(&mut self, object: &ListedObject, checked: CheckedObject) {
        match self.slow.iter().position(|slow| slow == object) {
            Some(at) => drop(self.slow.swap_remove(at)),
            None => self.unchecked -= 1,
        }
        self.totals.add_object(checked);
    }

    /// Lets the page end without an object whose check takes long.
    pub(crate) fn set_aside(&mut self, object: ListedObject) {
        self.unchecked -= 1;
        self.slow.push(object);
    }
}
