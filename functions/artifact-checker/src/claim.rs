//! The ledger row of a repair: which invocation is repairing an object, and how often the object was repaired.
//!
//! A copy causes another event, and somebody else's automation may undo a repair. The count of repairs must therefore
//! outlive the invocation.

use std::time::Duration;

use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::{Key, Lease};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::object::ObjectId;

/// A repair within this time after the previous repair of the same object belongs to the same series.
const SERIES_GAP: Duration = Duration::from_mins(10);
/// How long a claim lasts if its invocation dies: the time of the longest copy, and a margin.
const TERM: Duration = Duration::from_mins(5);
/// How many repairs a series may have.
const MOST_REPAIRS: u32 = 3;

/// A write that repairs an object.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RepairWrite<'a> {
    /// A copy. Copies are counted together, whichever version they make.
    Copy,
    /// An update of this version. Updates are counted for each version.
    Update(&'a str),
}

/// The row of one object.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ClaimRow {
    /// The number of copies in this series.
    copies: u32,
    /// The version that `updates` counts.
    version: String,
    /// The number of updates of that version in this series.
    updates: u32,
    /// The time of the last repair, in milliseconds since 1970.
    last: u64,
    /// The end of the holder's claim.
    until: Lease,
    /// The id of the request or sweep that has the claim.
    holder: String,
    /// When DynamoDB may delete the row, in seconds since 1970.
    expires: u64,
}

impl ClaimRow {
    pub(crate) fn key(object: &ObjectId) -> Key {
        Key::state(format!("repair#{}#{}", object.bucket, object.key))
    }

    pub(crate) fn holder(&self) -> &str {
        &self.holder
    }

    /// Whether an invocation other than `holder` is repairing the object.
    pub(crate) fn is_held_by_other(&self, holder: &str, now: OffsetDateTime) -> bool {
        self.until.is_held(now, TERM) && self.holder != holder
    }

    /// The row after `holder` has taken the claim.
    pub(crate) fn claimed(mut self, holder: &str, now: OffsetDateTime) -> Self {
        if self.last + millis(SERIES_GAP) < epoch_millis(now) {
            (self.copies, self.updates) = (0, 0);
        }
        holder.clone_into(&mut self.holder);
        self.extend(now);
        self
    }

    /// Counts a write before it is made. `false` if the series has as many repairs as are allowed.
    pub(crate) fn count(&mut self, write: RepairWrite<'_>, now: OffsetDateTime) -> bool {
        if let RepairWrite::Update(version) = write
            && version != self.version
        {
            version.clone_into(&mut self.version);
            self.updates = 0;
        }
        let count = self.counter(write);
        if *count >= MOST_REPAIRS {
            return false;
        }
        *count += 1;
        self.last = epoch_millis(now);
        self.extend(now);
        true
    }

    /// Takes back the count of a write that S3 refused or did not answer. The next HEAD request shows whether S3 wrote
    /// the object.
    pub(crate) fn discount(&mut self, write: RepairWrite<'_>) {
        *self.counter(write) -= 1;
    }

    pub(crate) fn release(&mut self, now: OffsetDateTime) {
        self.extend(now);
        self.until = Lease::FREE;
    }

    fn counter(&mut self, write: RepairWrite<'_>) -> &mut u32 {
        match write {
            RepairWrite::Copy => &mut self.copies,
            RepairWrite::Update(_) => &mut self.updates,
        }
    }

    fn extend(&mut self, now: OffsetDateTime) {
        self.until = Lease::new(now, TERM);
        self.expires = (epoch_millis(now) + millis(SERIES_GAP) + millis(TERM)) / 1000;
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
