//! Remembers for each bucket that a first pass was made, and when people were last reminded of the open findings.

use std::time::Duration;

use sekisho_domain::timestamp::parse_seconds;
use sekisho_ledger::{Error, Key, Store};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::key::KeyArn;
use crate::outcome::Outcome;
use crate::request::SweepMode;
use crate::run::Run;
use crate::sweep_row::SweepRow;

/// How often a write of the row is tried if other invocations write it at the same time.
const MOST_ATTEMPTS: u32 = 5;
/// The time between two summaries of the open findings.
const WEEK: Duration = Duration::from_hours(24 * 7);
/// The time after which the next sweep is complete again. It is shorter than a week, because the schedule's days do not
/// begin to the second.
const COMPLETE_EVERY: Duration = Duration::from_hours(24 * 7 - 12);
/// For an upload in parts, S3 gives the time at which the upload began, which may be before the last sweep. Only an
/// upload whose event was lost depends on this.
const LONGEST_UPLOAD: Duration = Duration::from_hours(24);

/// The row of a bucket.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct PassRow {
    /// When the next summary is due, in seconds since 1970.
    summary_due: i64,
    /// The last sweep after which the next one may be incremental.
    #[serde(default)]
    basis: Option<Basis>,
    /// The number of objects that the last sweep of the latest versions listed. `None` if an earlier version wrote the row.
    #[serde(default)]
    objects: Option<u64>,
}

/// The sweeps on which an incremental sweep may build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Basis {
    /// When the last complete sweep began, in seconds since 1970.
    complete: i64,
    /// When the last sweep began that checked everything that it had to check, in seconds since 1970.
    last: i64,
    /// The right key of these sweeps.
    right_key: String,
}

/// What a pass leaves to the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// The pass decided about every latest version, and each finding has a row or is in a manifest.
    Nothing,
    /// The pass did not look at every latest version, and recorded what it found.
    OtherObjects,
    /// The pass found an object wrong or could not look at it, and neither a row nor a manifest has the object.
    Unrecorded,
}

impl Leaves {
    /// What a sweep that is done leaves. `is_adopted` says whether a repair has the objects that the sweep has left.
    pub(crate) fn of(sweep: &SweepRow, right_key: &KeyArn, is_adopted: bool) -> Self {
        let SweepRow { totals, ranges, .. } = sweep;
        let is_recorded = totals.untracked == 0 && (totals.left == 0 || is_adopted);
        let is_whole = sweep.is_under(right_key)
            && ranges.unchecked == 0
            && !sweep.listing_refused
            && !totals.outcomes.contains_key(&Outcome::Ignored);
        match (sweep.mode() == SweepMode::ORDINARY, is_recorded, is_whole) {
            (true, true, true) => Self::Nothing,
            // A sweep of all versions is no basis of other sweeps, so its gaps are not theirs.
            (false, true, _) => Self::OtherObjects,
            _ => Self::Unrecorded,
        }
    }
}

/// What the ledger says about the earlier passes over a bucket.
#[derive(Debug)]
pub(crate) struct Passes {
    key: Key,
    revision: Option<u64>,
    row: PassRow,
}

/// The key of a bucket's row.
fn key(bucket: &str) -> Key {
    Key::state(format!("artifact-pass#{bucket}"))
}

impl Passes {
    /// For each of these buckets, the number of objects that its last finished sweep listed, as far as it is known.
    pub(crate) async fn objects<L: Store>(ledger: &L, buckets: &[String]) -> Result<Vec<Option<u64>>, Error> {
        let keys: Vec<Key> = buckets.iter().map(|bucket| key(bucket)).collect();
        let rows = ledger.read_many::<PassRow>(&keys).await?;
        Ok(rows.into_iter().map(|row| row.ok().flatten()?.state.objects).collect())
    }

    pub(crate) async fn read<L: Store>(run: &Run<'_, L>, bucket: &str) -> Result<Self, Error> {
        Self::read_row(run, key(bucket)).await
    }

    async fn read_row<L: Store>(run: &Run<'_, L>, key: Key) -> Result<Self, Error> {
        let row = run.ledger.read::<PassRow>(&key).await?;
        let revision = row.as_ref().map(|row| row.revision);
        Ok(Self { key, revision, row: row.map(|row| row.state).unwrap_or_default() })
    }

    /// Whether no pass over the bucket has ended yet.
    pub(crate) fn is_first(&self) -> bool {
        self.revision.is_none()
    }

    pub(crate) fn is_summary_due(&self, now: OffsetDateTime) -> bool {
        !self.is_first() && self.row.summary_due <= now.unix_timestamp()
    }

    /// The time in seconds since 1970 from which an incremental sweep has to check what was written. `None` if the next
    /// sweep has to be complete.
    pub(crate) fn since(&self, right_key: &KeyArn, now: OffsetDateTime) -> Option<i64> {
        let basis = self.row.basis.as_ref()?;
        let is_recent = basis.complete > (now - COMPLETE_EVERY).unix_timestamp();
        let is_usable = is_recent && basis.right_key == right_key.as_str();
        is_usable.then(|| basis.last - LONGEST_UPLOAD.as_secs().cast_signed())
    }

    /// Lets the next scheduled sweep of a bucket be complete.
    pub(crate) async fn require_complete<L: Store>(run: &Run<'_, L>, bucket: &str) -> Result<(), Error> {
        let passes = Self::read(run, bucket).await?;
        passes.change(run, |passes| PassRow { basis: None, ..passes.row.clone() }).await
    }

    /// Writes the row. If another invocation has written it, the change is made to the other row.
    async fn change<L: Store>(mut self, run: &Run<'_, L>, change: impl Fn(&Self) -> PassRow) -> Result<(), Error> {
        let mut attempts = 1;
        loop {
            let row = change(&self);
            match run.ledger.write(&self.key, &row, self.revision, run.request_id()).await {
                Err(Error::Changed(key)) if attempts < MOST_ATTEMPTS => self = Self::read_row(run, key).await?,
                written => return written.map(drop),
            }
            attempts += 1;
        }
    }

    /// Records that people got a summary of the open findings although no pass has ended.
    pub(crate) async fn summary_sent<L: Store>(self, run: &Run<'_, L>) -> Result<(), Error> {
        let summary_due = (run.now() + WEEK).unix_timestamp();
        self.change(run, |passes| PassRow { summary_due, ..passes.row.clone() }).await
    }

    /// Records that a pass has ended. `was_sent` says whether people got the notice; if they did not, a summary is due.
    pub(crate) async fn end<L: Store>(
        self,
        run: &Run<'_, L>,
        pass: &SweepRow,
        right_key: &KeyArn,
        was_sent: bool,
        leaves: Leaves,
    ) -> Result<(), Error> {
        let now = run.now();
        self.change(run, |passes| passes.after(pass, right_key, was_sent, leaves, now)).await
    }

    /// The row after a pass.
    fn after(
        &self,
        pass: &SweepRow,
        right_key: &KeyArn,
        was_sent: bool,
        leaves: Leaves,
        now: OffsetDateTime,
    ) -> PassRow {
        let mut row = self.row.clone();
        if pass.complete && pass.mode() == SweepMode::ORDINARY && !pass.listing_refused {
            row.objects = Some(pass.totals.objects + pass.totals.unchanged);
        }
        if !was_sent {
            row.summary_due = 0;
        } else if self.is_first() || self.is_summary_due(now) {
            row.summary_due = (now + WEEK).unix_timestamp();
        }
        if leaves == Leaves::Nothing
            && let Some(began) = parse_seconds(&pass.started)
        {
            let last = began.unix_timestamp();
            let complete = match (&row.basis, pass.since) {
                (_, None) => Some(last),
                (Some(basis), Some(_)) => Some(basis.complete),
                // While this incremental sweep ran, a repair that left something required a complete one.
                (None, Some(_)) => None,
            };
            row.basis = complete.map(|complete| Basis { complete, last, right_key: right_key.to_string() });
        } else if leaves == Leaves::Unrecorded && (pass.since.is_none() || pass.totals.untracked > 0) {
            // An incremental sweep leaves out old objects without a finding, such as one that this pass found wrong and
            // did not record. An incremental pass that only left objects unchecked keeps the basis, because the next one
            // checks what it has not checked.
            row.basis = None;
        }
        row
    }
}
