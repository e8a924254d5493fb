//! The ledger row of a repair: which invocation is repairing an object, and how often the object was repaired.
//!
//! A copy causes another event, which invokes the function again. If somebody else's automation undid every repair, the
//! repairs would never end. Therefore the ledger keeps the count of repairs between invocations.

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
/// How long a row with an unfinished upload is kept. The bucket's lifecycle rule removes the parts after this time.
const UPLOAD_RETENTION: Duration = Duration::from_hours(24 * 7);
/// How many repairs a series may have.
const MOST_REPAIRS: u32 = 3;

/// A write that repairs an object.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RepairWrite<'a> {
    /// A copy. All copies of an object have one counter, although each copy makes a new version.
    Copy,
    /// An update of this version. The counter of updates restarts when another version is updated.
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
    /// The upload of a copy in parts that has not ended.
    #[serde(default)]
    upload: Option<Box<UnfinishedUpload>>,
    /// When DynamoDB may delete the row, in seconds since 1970.
    expires: u64,
}

/// A multipart upload that a repair has begun. The next invocation with the claim continues it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnfinishedUpload {
    pub(crate) id: String,
    /// The entity tag of the copied version.
    pub(crate) etag: String,
    /// The ARN of the copy's key.
    pub(crate) key: String,
    /// The size of a part in bytes.
    pub(crate) part: u64,
}

impl ClaimRow {
    pub(crate) fn key(object: &ObjectId) -> Key {
        Key::state(format!("repair#{}#{}", object.bucket, object.key))
    }

    pub(crate) fn holder(&self) -> &str {
        &self.holder
    }

    /// Whether a request or sweep other than `holder` has the claim.
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

    /// Counts a write before it is made. Returns `false`, and counts nothing, if the series already has the allowed
    /// number of repairs.
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

    /// Subtracts a write that S3 refused or did not answer from the count. If S3 did not answer, the next HEAD request
    /// shows whether S3 wrote the object.
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

    pub(crate) fn extend(&mut self, now: OffsetDateTime) {
        let retention = if self.upload.is_some() { UPLOAD_RETENTION } else { SERIES_GAP + TERM };
        self.until = Lease::new(now, TERM);
        self.expires = (epoch_millis(now) + millis(retention)) / 1000;
    }

    pub(crate) fn upload(&self) -> Option<&UnfinishedUpload> {
        self.upload.as_deref()
    }

    pub(crate) fn set_upload(&mut self, upload: Option<UnfinishedUpload>) {
        self.upload = upload.map(Box::new);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
