//! The ledger row of a bucket's sweep, with the sweep's position and its findings so far.

use std::mem;
use std::time::Duration;

use sekisho_domain::timestamp::{epoch_millis, seconds};
use sekisho_ledger::{Key, Lease};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::key::KeyArn;
use crate::object::{ListPosition, ListedObject};
use crate::proofs::Proofs;
use crate::request::{SweepMode, SweepRequest};
use crate::slow_objects::{SlowObjects, UnfinishedChecks};
use crate::sweep_ranges::SweepRanges;
use crate::sweep_totals::{CheckedObject, SweepTotals};

/// The time after a checkpoint in which only the invocation that saved the checkpoint may continue the sweep.
pub(crate) const TERM: Duration = Duration::from_mins(1);
/// How long the row of a finished or abandoned sweep is kept.
const RETENTION: Duration = Duration::from_hours(24 * 30);

/// How many invocations in a row may fail on a range without progress. Then the range is set aside.
const MOST_ATTEMPTS: u32 = 3;

/// How many characters of a key the name of an unchecked part has. The row of the sweep keeps several such names.
const LONGEST_NAME: usize = 150;

/// The row of one bucket and mode, or of one range of such a sweep.
#[expect(clippy::struct_excessive_bools, reason = "each is an attribute of its own in the ledger")]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SweepRow {
    /// The sweep's id, which is the id of the request that began the sweep.
    pub(crate) sweep: String,
    /// Whether the sweep checks all versions.
    pub(crate) versions: bool,
    /// Whether the sweep changes nothing.
    pub(crate) dry_run: bool,
    /// When the sweep began, such as `2026-11-21T23:45:00Z`.
    pub(crate) started: String,
    /// The end of a page of the listing, or the place at which a page was cut off. Every object of this page and of all earlier pages is checked.
    pub(crate) position: Option<ListPosition>,
    /// Whether the last page of the listing is checked.
    #[serde(default)]
    pub(crate) listed: bool,
    /// Whether S3 refused to list the bucket, so that the objects after the last listed page are not checked.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) listing_refused: bool,
    /// The objects up to `position` that are not checked yet, because their checks take long.
    #[serde(default)]
    slow: SlowObjects,
    /// The results of the reads.
    #[serde(default)]
    pub(crate) proofs: Proofs,
    /// Whether the sweep is done.
    pub(crate) complete: bool,
    /// The id of the unfinished sweep that this one replaces. Nobody was notified of what only that sweep found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replaces: Option<String>,
    /// The bucket's right key when the sweep began. `None` if an earlier version wrote the row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) right_key: Option<String>,
    /// What the sweep has found up to `position`, without its open ranges.
    pub(crate) totals: SweepTotals,
    /// The number of objects that the previous sweep in this mode listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expected: Option<u64>,
    /// In an incremental sweep, a time in seconds since 1970. Objects that were written before it are not checked.
    #[serde(default)]
    pub(crate) since: Option<i64>,
    /// The ranges of the sweep. If there are open ones, they contain everything after `position`.
    #[serde(default)]
    pub(crate) ranges: SweepRanges,
    /// In the row of a range, its number.
    #[serde(default)]
    pub(crate) range: Option<u32>,
    /// In the row of a range, the range's last key; `None` if the range ends with the listing.
    #[serde(default)]
    pub(crate) end: Option<String>,
    /// How many invocations in a row began and made no progress.
    #[serde(default)]
    attempts: u32,
    /// In the row of a range, whether an attempt is under way, or died, or ended with an error.
    #[serde(default, skip_serializing_if = "is_false")]
    begun: bool,
    /// Whether the attempt before the one that has begun died or failed. An invocation that checks a whole bucket and
    /// does not come to its end leaves the rest to ranges, so a sweep that is continued without ranges, and has something
    /// left to check, was interrupted.
    #[serde(skip)]
    was_interrupted: bool,
    /// Whether an invocation that checks a whole bucket leaves what it has not listed to the ranges of the sweep.
    #[serde(skip)]
    leaves_rest: bool,
    /// The id of the request that continues the sweep.
    pub(crate) holder: String,
    /// The end of the time in which only the holder may continue the sweep.
    until: Lease,
    /// When DynamoDB may delete the row, in seconds since 1970.
    expires: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(crate) fn is_false(value: &bool) -> bool {
    !value
}

/// What an invocation has read for the sweep that it may begin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Before<'a> {
    /// The bucket's right key.
    pub(crate) right_key: &'a KeyArn,
    /// See the field of the row.
    pub(crate) since: Option<i64>,
}

/// What an invocation does about the sweep of a bucket.
#[derive(Debug)]
pub(crate) enum Start {
    /// Begin or continue the sweep that this row describes.
    Row(Box<SweepRow>),
    /// The rest of the sweep is in the ranges of this row.
    InRanges(Box<SweepRow>),
    /// Do nothing, for this reason.
    Refused(String),
}

impl SweepRow {
    /// The key of the row. Each mode has a row of its own, so that the daily sweep does not replace another sweep of the
    /// bucket.
    pub(crate) fn key(bucket: &str, mode: SweepMode) -> Key {
        Key::state(format!("sweep#{bucket}{}", mode.suffix()))
    }

    /// The key of the row of a range.
    pub(crate) fn range_key(bucket: &str, mode: SweepMode, range: u32) -> Key {
        Key { sk: format!("range#{range:05}"), ..Self::key(bucket, mode) }
    }

    pub(crate) fn mode(&self) -> SweepMode {
        SweepMode { versions: self.versions, dry_run: self.dry_run }
    }

    /// The keys of the rows of the open ranges.
    pub(crate) fn open_range_keys(&self, bucket: &str) -> impl Iterator<Item = Key> {
        self.ranges.numbers().map(move |number| Self::range_key(bucket, self.mode(), number))
    }

    /// Adds what an open range has found so far, which the row gets when the range is checked to its end. The sum is
    /// shown, and never saved.
    pub(crate) fn add_open_range(&mut self, range: Self) {
        if range.sweep == self.sweep {
            self.totals.add(range.totals);
        }
    }

    /// Decides what a request does with the row of its mode. A request that names a sweep continues only that sweep. Any
    /// other request continues an unfinished sweep of the same mode, or begins a new sweep.
    pub(crate) fn start(
        row: Option<Self>,
        request: &SweepRequest,
        before: Before<'_>,
        request_id: &str,
        now: OffsetDateTime,
    ) -> Start {
        let Before { right_key, since } = before;
        let last = row.as_ref().filter(|row| row.complete && row.mode() == request.mode() && !row.listing_refused);
        let expected = last.map(|row| row.totals.objects + row.totals.unchanged);
        let unfinished = row.filter(|row| !row.complete);
        if let Some(row) = &unfinished
            && row.is_held(now)
            && row.holder != request_id
        {
            return Start::Refused(row.is_running());
        }
        // A person's request checks all objects, so it does not continue an incremental sweep, and neither does a
        // request that has to be complete. Under another right key, the objects that such a sweep leaves out are wrong.
        let may_continue =
            |row: &Self| row.since.is_none() || (request.scheduled && since.is_some() && row.is_under(right_key));
        let is_same = |row: &Self| match &request.sweep {
            Some(sweep) => row.sweep == *sweep,
            None => row.mode() == request.mode() && may_continue(row),
        };
        let replaces = unfinished.as_ref().filter(|row| row.mode() == request.mode()).map(|row| row.sweep.clone());
        match unfinished.filter(is_same) {
            Some(row) if !row.ranges.is_empty() => Start::InRanges(Box::new(row)),
            Some(row) => {
                let attempts = row.attempts + 1;
                let holder = request_id.to_owned();
                let was_interrupted = !row.listed || row.has_slow();
                Start::Row(Box::new(Self { attempts, was_interrupted, holder, ..row }))
            }
            None if request.sweep.is_some() => {
                Start::Refused("the sweep to continue is done, or another sweep has replaced it".to_owned())
            }
            None => {
                let right_key = Some(right_key.to_string());
                let new = Self::new(request, request_id, now);
                Start::Row(Box::new(Self { replaces, right_key, expected, since, ..new }))
            }
        }
    }

    /// The reason why a request to sweep the bucket does nothing.
    pub(crate) fn is_running(&self) -> String {
        let found = self.totals.summary();
        format!("another sweep of the bucket has been running since {}: {found}", self.started)
    }

    fn new(request: &SweepRequest, request_id: &str, now: OffsetDateTime) -> Self {
        Self {
            sweep: request_id.to_owned(),
            versions: request.versions,
            dry_run: request.dry_run,
            started: seconds(now),
            position: None,
            listed: false,
            listing_refused: false,
            slow: SlowObjects::default(),
            proofs: Proofs::default(),
            complete: false,
            replaces: None,
            right_key: None,
            totals: SweepTotals::default(),
            expected: None,
            since: None,
            ranges: SweepRanges::default(),
            range: None,
            end: None,
            attempts: 0,
            begun: false,
            was_interrupted: false,
            leaves_rest: false,
            holder: request_id.to_owned(),
            until: Lease::FREE,
            expires: 0,
        }
    }

    /// Moves the position past a finished page. `end` is `None` for the last page.
    pub(crate) fn advance(&mut self, end: Option<ListPosition>, totals: SweepTotals) {
        self.listed = end.is_none();
        self.position = end;
        self.totals.add(totals);
        self.attempts = 0;
        self.settle();
    }

    /// Moves what is left of the sweep to its first range, and returns the row of the range.
    pub(crate) fn hand_off(&mut self) -> Self {
        let number = self.ranges.add(None);
        let range = self.new_range(number, self.position.clone(), None);
        Self { listed: self.listed, slow: mem::take(&mut self.slow), ..range }
    }

    /// Ends a range at a key, and returns the row of the new range for the rest. `None` if the range is not open.
    pub(crate) fn divide(&mut self, range: u32, at: &str) -> Option<Self> {
        let number = self.ranges.divide(range, at)?;
        let end = self.ranges.end(number)?.map(str::to_owned);
        Some(self.new_range(number, Some(ListPosition { key: at.to_owned(), version: None }), end))
    }

    fn new_range(&self, number: u32, position: Option<ListPosition>, end: Option<String>) -> Self {
        Self {
            position,
            range: Some(number),
            end,
            listed: false,
            slow: SlowObjects::default(),
            complete: false,
            attempts: 0,
            totals: SweepTotals::default(),
            ranges: SweepRanges::default(),
            until: Lease::FREE,
            ..self.clone()
        }
    }

    /// Adds a range that is checked. Returns `false` if the range is not open, such as after a message that was delivered
    /// twice.
    pub(crate) fn close_range(&mut self, number: u32, totals: SweepTotals) -> bool {
        let was_open = self.ranges.close(number);
        if was_open {
            self.totals.add(totals);
            self.listed = self.ranges.is_empty();
        }
        was_open
    }

    /// Begins an attempt to check the range.
    pub(crate) fn begin_attempt(&mut self, end: Option<&str>, holder: &str) {
        self.end = end.map(str::to_owned);
        holder.clone_into(&mut self.holder);
        self.attempts += 1;
        self.was_interrupted = self.begun;
        self.begun = true;
    }

    /// Ends an attempt whose invocation had no error.
    pub(crate) fn end_attempt(&mut self) {
        self.attempts = 0;
        self.begun = false;
    }

    /// The number of attempts that have begun since the last progress.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether the attempt before the one that has begun died or failed.
    pub(crate) fn was_interrupted(&self) -> bool {
        self.was_interrupted
    }

    /// Forgets that the attempt before this one died or failed, because nothing of it is left.
    pub(crate) fn forget_interruption(&mut self) {
        self.was_interrupted = false;
    }

    /// In the row of a range, its number.
    pub(crate) fn range_number(&self) -> u32 {
        self.range.unwrap_or_default()
    }

    /// Leaves what is not listed to the ranges of the sweep.
    pub(crate) fn leave_rest(&mut self) {
        self.leaves_rest = true;
    }

    pub(crate) fn leaves_rest(&self) -> bool {
        self.leaves_rest
    }

    /// How many objects an invocation checks before it leaves the others to the ranges of the sweep. `None` if the row is
    /// that of a range, which has no other ranges. `usual` is the number for a whole bucket.
    pub(crate) fn alone(&self, usual: usize) -> Option<usize> {
        let alone = match self.attempts {
            // Two invocations have made no progress. A range that fails again and again is set aside.
            2.. => 0,
            _ if self.leaves_rest => 0,
            _ => usual,
        };
        self.range.is_none().then_some(alone)
    }

    /// Whether so many attempts have begun since the last progress that no other one may begin.
    pub(crate) fn is_poison(&self) -> bool {
        self.attempts >= MOST_ATTEMPTS
    }

    /// The part of the listing from the row's position up to a key, in words. `None` is the end of the listing.
    pub(crate) fn part(&self, end: Option<&str>) -> String {
        if self.listed {
            return "the objects whose checks take long".to_owned();
        }
        let name = |key: Option<&str>, otherwise: &str| key.map_or_else(|| otherwise.to_owned(), shortened);
        let after = name(self.position.as_ref().map(|position| position.key.as_str()), "the beginning");
        format!("the objects after {after} up to {}", name(end, "the end"))
    }

    /// Whether no invocation has begun to check the range.
    pub(crate) fn is_untouched(&self) -> bool {
        self.until == Lease::FREE
    }

    /// Whether this was the bucket's right key when the sweep began.
    pub(crate) fn is_under(&self, right_key: &KeyArn) -> bool {
        self.right_key.as_deref() == Some(right_key.as_str())
    }

    /// Whether an invocation holds the sweep.
    pub(crate) fn is_held(&self, now: OffsetDateTime) -> bool {
        self.until.is_held(now, TERM)
    }

    /// Whether a page has ended without an object whose check takes long.
    pub(crate) fn has_slow(&self) -> bool {
        !self.slow.is_empty()
    }

    /// The objects whose checks an earlier invocation did not finish.
    pub(crate) fn slow_objects(&self) -> Vec<ListedObject> {
        self.slow.objects()
    }

    /// Whether the row has room for one more object whose check takes long, besides so many others.
    pub(crate) fn has_room_for_slow(&self, others: usize) -> bool {
        self.slow.has_room(others)
    }

    /// Remembers the objects without which a page has ended.
    pub(crate) fn add_slow(&mut self, objects: Vec<ListedObject>) {
        self.slow.add(objects);
    }

    /// Adds the result of a check that took long.
    pub(crate) fn end_slow(&mut self, object: &ListedObject, checked: CheckedObject) {
        self.slow.remove(object);
        self.totals.add_object(checked);
        self.settle();
    }

    /// Counts this invocation for the checks that it did not finish.
    pub(crate) fn end_run(&mut self) -> UnfinishedChecks {
        self.slow.end_run()
    }

    /// Leaves the slow objects of a range that is set aside to the range of its rest. Returns the keys of those that
    /// nobody will check.
    pub(crate) fn leave_slow(&self, rest: Option<&mut Self>) -> Vec<String> {
        self.slow.leave(rest.map(|rest| &mut rest.slow))
    }

    pub(crate) fn settle(&mut self) {
        self.complete = self.listed && self.slow.is_empty();
    }

    /// Sets the time after `now` in which only the holder may continue the sweep.
    pub(crate) fn lease(&mut self, now: OffsetDateTime, term: Duration) {
        self.until = Lease::new(now, term);
        self.expires = epoch_millis(now + RETENTION) / 1000;
    }
}

/// A key in the description of what could not be checked.
pub(crate) fn shortened(key: &str) -> String {
    format!("{:?}", key.chars().take(LONGEST_NAME).collect::<String>())
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_range_that_is_closed_twice_counts_once_and_the_last_one_ends_the_listing() {
        let mut sweep = SweepRow::new(&SweepRequest::scheduled("b"), "r", datetime!(2026-11-21 00:00 UTC));
        let first = sweep.hand_off().range_number();
        let second = sweep.divide(first, "m").unwrap();
        assert_eq!((second.position.unwrap().key.as_str(), second.end, sweep.listed), ("m", None, false));
        let mut totals = SweepTotals::default();
        totals.objects = 7;
        assert!(sweep.close_range(first, totals.clone()));
        assert!(!sweep.close_range(first, totals.clone()));
        assert_eq!((sweep.totals.objects, sweep.listed), (7, false));
        assert!(sweep.close_range(second.range.unwrap(), totals));
        assert_eq!((sweep.totals.objects, sweep.listed), (14, true));
    }
}
