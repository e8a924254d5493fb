//! The pages of a listing that are being checked.
//!
//! The sweep's position in the ledger moves only past finished pages. When an invocation's time ends, it cuts the last page
//! off after the last object whose check has begun. If an invocation dies, the next one checks the open pages again. No
//! object is left out.

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
    /// The last object whose check has begun.
    last_begun: Option<WaitingObject>,
    /// The number of the first open page; pages are counted from 0.
    first: u64,
}

/// An open page.
#[derive(Debug)]
pub(crate) struct OpenPage {
    /// The number of all its objects.
    listed: usize,
    /// The number of objects that are not checked yet, without the slow ones.
    unchecked: usize,
    totals: SweepTotals,
    /// The objects whose checks take long, and for which the page does not wait.
    slow: Vec<ListedObject>,
    end: Option<ListPosition>,
}

/// An object that waits for its check.
#[derive(Debug, Clone)]
pub(crate) struct WaitingObject {
    /// The number of the object's page.
    pub(crate) page: u64,
    pub(crate) object: ListedObject,
    /// The object's place among all objects of its page, from 0.
    index: usize,
}

impl WaitingObject {
    /// Whether the object is the first of its page. A sweep reads a byte of the first object, and only the metadata of
    /// the page's other objects.
    pub(crate) fn is_sample(&self) -> bool {
        self.index == 0
    }
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

    /// Adds a page that S3 has listed. Its first object is checked in any case, and the others if `is_due` says so. Returns
    /// how many objects are checked.
    pub(crate) fn add(&mut self, page: ListPage, is_due: impl Fn(&ListedObject) -> bool) -> usize {
        let number = self.first + count(self.pages.len());
        let (listed, before) = (page.objects.len(), self.waiting.len());
        let due = page.objects.into_iter().enumerate().filter(|(index, object)| *index == 0 || is_due(object));
        self.waiting.extend(due.map(|(index, object)| WaitingObject { page: number, object, index }));
        let unchecked = self.waiting.len() - before;
        let mut totals = SweepTotals::default();
        totals.checks.writes_and_lists = 1;
        totals.unchanged = count(listed - unchecked);
        self.pages.push_back(OpenPage { listed, unchecked, totals, slow: Vec::new(), end: page.end });
        unchecked
    }

    /// The next object to check.
    pub(crate) fn next_object(&mut self) -> Option<WaitingObject> {
        let next = self.waiting.pop_front()?;
        self.last_begun = Some(next.clone());
        Some(next)
    }

    /// Leaves the objects whose check has not begun to the next invocation.
    pub(crate) fn leave_waiting(&mut self) {
        let Some(number) = self.waiting.front().map(|object| object.page) else { return };
        let waiting = self.waiting.drain(..).filter(|object| object.page == number).count();
        let cut = self.last_begun.take().filter(|last| last.page == number);
        let kept = number - self.first + u64::from(cut.is_some());
        self.pages.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        if let (Some(page), Some(last)) = (self.pages.back_mut(), cut) {
            page.cut(last, waiting);
        }
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
    /// Ends the page after its last object whose check has begun. `waiting` is the number of those whose check has not.
    fn cut(&mut self, last: WaitingObject, waiting: usize) {
        let WaitingObject { object: ListedObject { key, version, .. }, index, .. } = last;
        self.unchecked -= waiting;
        self.totals.unchanged -= count(self.listed - (index + 1) - waiting);
        self.end = Some(ListPosition { key, version });
    }

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

fn count(objects: usize) -> u64 {
    u64::try_from(objects).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(key: &str, written: i64) -> ListedObject {
        ListedObject { key: key.to_owned(), version: None, is_latest: true, written: Some(written) }
    }

    fn end_of(page: &FinishedPage) -> Option<&str> {
        page.end.as_ref().map(|end| end.key.as_str())
    }

    #[test]
    fn a_page_is_cut_off_after_the_last_object_whose_check_has_begun() {
        let page = |keys: &str, end: Option<&str>| ListPage {
            objects: keys.chars().map(|key| listed(&key.to_string(), i64::from(key.is_uppercase()))).collect(),
            end: end.map(|key| ListPosition { key: key.to_owned(), version: None }),
        };
        // Of each page, the first object is checked, and those in upper case. (begun, ends of the pages, unchanged in each)
        for (begun, ends, unchanged) in [
            (0, vec![], vec![]),
            (1, vec!["a"], vec![0]),
            (2, vec!["C"], vec![1]),
            (3, vec!["f"], vec![3]),
            (4, vec!["f", "g"], vec![3, 0]),
        ] {
            let mut pages = OpenPages::default();
            let is_due = |object: &ListedObject| object.written == Some(1);
            assert_eq!(pages.add(page("abCdEf", Some("f")), is_due), 3);
            assert_eq!(pages.add(page("ghI", None), is_due), 2);
            let begun: Vec<WaitingObject> = (0..begun).filter_map(|_| pages.next_object()).collect();
            pages.leave_waiting();
            assert!(pages.next_object().is_none());
            for object in begun {
                let page = pages.page(object.page).unwrap();
                page.set_aside(object.object);
            }
            let finished: Vec<FinishedPage> = std::iter::from_fn(|| pages.pop_finished()).collect();
            assert_eq!(finished.iter().filter_map(end_of).collect::<Vec<_>>(), ends);
            assert_eq!(finished.iter().map(|page| page.totals.unchanged).collect::<Vec<_>>(), unchanged);
            assert!(pages.pages.is_empty());
        }
    }
}
