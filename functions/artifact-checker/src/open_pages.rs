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

#[derive(Debug)]
struct OpenPage {
    /// The number of objects that are not checked yet.
    unchecked: usize,
    totals: SweepTotals,
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

/// A finished page: all its objects, and all objects of earlier pages, are checked.
#[derive(Debug)]
pub(crate) struct FinishedPage {
    pub(crate) totals: SweepTotals,
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
        self.pages.push_back(OpenPage { unchecked: page.objects.len(), totals, end: page.end });
        let waiting = |(n, object): (usize, ListedObject)| WaitingObject { page: number, object, is_sample: n == 0 };
        self.waiting.extend(page.objects.into_iter().enumerate().map(waiting));
    }

    /// The next object to check.
    pub(crate) fn next_object(&mut self) -> Option<WaitingObject> {
        self.waiting.pop_front()
    }

    /// Adds the result of a checked object to page `number`.
    pub(crate) fn object_checked(&mut self, number: u64, object: CheckedObject) {
        let index = usize::try_from(number - self.first).unwrap_or(usize::MAX);
        if let Some(page) = self.pages.get_mut(index) {
            page.unchecked -= 1;
            page.totals.add_object(object);
        }
    }

    /// Lets page `number` finish without an object whose check takes long.
    pub(crate) fn object_left(&mut self, number: u64) {
        let index = usize::try_from(number - self.first).unwrap_or(usize::MAX);
        if let Some(page) = self.pages.get_mut(index) {
            page.unchecked -= 1;
        }
    }

    /// Removes the first page if it is finished.
    pub(crate) fn pop_finished(&mut self) -> Option<FinishedPage> {
        let page = self.pages.pop_front_if(|page| page.unchecked == 0)?;
        self.first += 1;
        Some(FinishedPage { totals: page.totals, end: page.end })
    }
}
