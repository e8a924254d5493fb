//! The ranges of a sweep that is too large for one invocation.
//!
//! A range is a part of the bucket's listing, from one key to another. The row of the sweep says which ranges are open
//! and where each of them ends; the row of a range says how far it has come. Every change of the set of ranges is one
//! conditional write of the row of the sweep, so the ranges never overlap and never leave a gap.

use serde::{Deserialize, Serialize};

/// The most ranges that are open at the same time. Their keys have to fit into the row of the sweep.
pub(crate) const MOST_RANGES: u32 = 100;
/// The most unchecked ranges that the row of the sweep names.
const NAMED_UNCHECKED: usize = 10;

/// The ranges of a sweep.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct SweepRanges {
    open: Vec<OpenRange>,
    /// The number of the next range.
    next: u32,
    /// The number of ranges that could not be checked.
    #[serde(default)]
    pub(crate) unchecked: u64,
    /// The first ranges that could not be checked, in words.
    #[serde(default)]
    pub(crate) named_unchecked: Vec<String>,
}

/// A range that is not checked yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct OpenRange {
    number: u32,
    /// The last key of the range; `None` if the range ends with the listing.
    end: Option<String>,
}

impl SweepRanges {
    /// Whether no range is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The number of open ranges.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// The numbers of the open ranges.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.open.iter().map(|range| range.number)
    }

    /// The last key of an open range. The outer option is `None` if the range is not open.
    #[expect(clippy::option_option, reason = "a range without an end is not the same as no range")]
    pub(crate) fn end(&self, number: u32) -> Option<Option<&str>> {
        self.open.iter().find(|range| range.number == number).map(|range| range.end.as_deref())
    }

    /// Adds a range, and returns its number.
    pub(crate) fn add(&mut self, end: Option<String>) -> u32 {
        let number = self.next;
        self.next += 1;
        self.open.push(OpenRange { number, end });
        number
    }

    /// Ends a range at a key, and adds a range for the rest. Returns the number of the new range; `None` if the range
    /// is not open.
    pub(crate) fn divide(&mut self, number: u32, at: &str) -> Option<u32> {
        let range = self.open.iter_mut().find(|range| range.number == number)?;
        let end = range.end.replace(at.to_owned());
        Some(self.add(end))
    }

    /// Removes a range that is checked, or that is given up. Returns `false` if the range is not open.
    pub(crate) fn close(&mut self, number: u32) -> bool {
        let before = self.open.len();
        self.open.retain(|range| range.number != number);
        self.open.len() < before
    }

    /// Remembers a part of the listing that could not be checked.
    pub(crate) fn add_unchecked(&mut self, range: String) {
        self.unchecked += 1;
        if self.named_unchecked.len() < NAMED_UNCHECKED {
            self.named_unchecked.push(range);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_divided_range_and_its_rest_cover_what_the_range_covered() {
        let mut ranges = SweepRanges::default();
        let first = ranges.add(Some("z".to_owned()));
        let second = ranges.divide(first, "m").unwrap();
        let third = ranges.divide(first, "c").unwrap();
        assert_eq!(
            [ranges.end(first), ranges.end(third), ranges.end(second)],
            [Some(Some("c")), Some(Some("m")), Some(Some("z"))]
        );
        assert!(ranges.close(second) && !ranges.close(second));
        assert_eq!((ranges.divide(second, "n"), ranges.end(second), ranges.len()), (None, None, 2));
    }
}
