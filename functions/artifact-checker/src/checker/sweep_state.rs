//! Takes and saves the ledger row of a bucket's sweep.

use std::time::Duration;

use sekisho_ledger::{Error, Key, Row, Store, Write};
use time::OffsetDateTime;
use tokio::time::sleep;

use crate::request::{SweepMode, SweepRequest};
use crate::sweep_row::{Before, Start, SweepRow, TERM};

/// How often a change of a sweep's row is repeated if other invocations change it at the same time.
const MOST_CHANGES: u32 = 30;
/// The pause before the first repetition. Each further pause is longer by this time.
const PAUSE: Duration = Duration::from_millis(20);

/// A sweep, or a range of a sweep, that this invocation has taken.
pub(crate) struct TakenSweep {
    key: Key,
    pub(crate) row: SweepRow,
    revision: Option<u64>,
}

/// The result of taking a sweep.
pub(crate) enum Take {
    Taken(Box<TakenSweep>),
    /// The rest of the sweep is in the ranges of this row.
    InRanges(Box<SweepRow>),
    /// There is nothing to do, for this reason.
    Refused(String),
}

/// Takes the bucket's unfinished sweep of the request's mode, or begins a new sweep.
pub(crate) async fn take(
    ledger: &impl Store,
    request: &SweepRequest,
    before: Before<'_>,
    request_id: &str,
    now: OffsetDateTime,
) -> Result<Take, Error> {
    let key = SweepRow::key(&request.bucket, request.mode());
    let row = ledger.read::<SweepRow>(&key).await?;
    let revision = row.as_ref().map(|row| row.revision);
    let row = with_earlier_versions(ledger, request, row, request_id, now).await?;
    let unfinished = row.as_ref().filter(|row| !row.complete);
    let open: Vec<Key> = unfinished.iter().flat_map(|row| row.open_range_keys(&request.bucket)).collect();
    let row = match SweepRow::start(row, request, before, request_id, now) {
        Start::Row(mut row) => {
            // The invocations of the sweep that this one replaces use the rates for some seconds more.
            let ranges = ledger.read_many::<SweepRow>(&open).await?;
            if ranges.into_iter().filter_map(Result::ok).flatten().any(|range| range.state.is_held(now)) {
                row.leave_rest();
            }
            *row
        }
        Start::InRanges(row) => return Ok(Take::InRanges(row)),
        Start::Refused(why) => return Ok(Take::Refused(why)),
    };
    let mut taken = Box::new(TakenSweep { key, row, revision });
    match taken.checkpoint(ledger, now).await {
        Ok(()) => Ok(Take::Taken(taken)),
        Err(Error::Changed(_)) => Ok(Take::Refused("another invocation has begun a sweep of the bucket".to_owned())),
        Err(error) => Err(error),
    }
}

/// The result of taking a range.
pub(crate) enum TakeRange {
    Taken(Box<TakenSweep>),
    /// Every invocation that has begun to check the range has failed.
    Poison(Box<TakenSweep>),
    /// All ranges of the sweep are checked, and nobody has ended the sweep.
    AllChecked,
    /// Each attempt to check the range failed, and it is set aside.
    SetAside,
    /// There is nothing to do, for this reason.
    Refused(String),
}

/// Takes a range of a sweep.
pub(crate) async fn take_range(
    ledger: &impl Store,
    request: &SweepRequest,
    range: u32,
    request_id: &str,
    now: OffsetDateTime,
) -> Result<TakeRange, Error> {
    let refused = |why: &str| Ok(TakeRange::Refused(why.to_owned()));
    let key = SweepRow::range_key(&request.bucket, request.mode(), range);
    // The range is read before the sweep. Another invocation that takes it in between changes its row, so the end that
    // the sweep has for the range is current if this invocation can take it.
    let row = ledger.read::<SweepRow>(&key).await?;
    let sweep = ledger.read::<SweepRow>(&SweepRow::key(&request.bucket, request.mode())).await?;
    let is_same = |row: &SweepRow| request.sweep.as_deref() == Some(row.sweep.as_str()) && !row.complete;
    let Some(sweep) = sweep.map(|row| row.state).filter(is_same) else {
        return refused("the sweep is done, or another sweep has replaced it");
    };
    let Some(end) = sweep.ranges.end(range) else {
        // Without ranges, the sweep has not come to its ranges, or all of them are checked.
        let all_checked = sweep.ranges.is_empty() && sweep.listed;
        let was_poison = row.is_some_and(|row| row.state.sweep == sweep.sweep && row.state.is_poison());
        return match (all_checked, was_poison) {
            (true, _) => Ok(TakeRange::AllChecked),
            (false, true) => Ok(TakeRange::SetAside),
            (false, false) => refused("the range is checked"),
        };
    };
    let Some(Row { state: row, revision, .. }) = row else {
        return refused("the row of the range has ended");
    };
    if row.sweep != sweep.sweep || (row.is_held(now) && row.holder != request_id) {
        return refused("another invocation checks the range");
    }
    let mut taken = Box::new(TakenSweep { key, row, revision: Some(revision) });
    if taken.row.is_poison() {
        return Ok(TakeRange::Poison(taken));
    }
    taken.row.begin_attempt(end, request_id);
    match taken.checkpoint(ledger, now).await {
        Ok(()) => Ok(TakeRange::Taken(taken)),
        Err(Error::Changed(_)) => refused("another invocation has begun to check the range"),
        Err(error) => Err(error),
    }
}

/// Changes the row of a sweep that is in ranges. If another invocation changes the row at the same time, the change is
/// repeated. Returns `None` if the sweep is over, or if `change` returns `None` because there is nothing to change.
/// `change` may add the row of a range, which is written together with the row of the sweep.
pub(crate) async fn change<T>(
    ledger: &impl Store,
    request: &SweepRequest,
    request_id: &str,
    change: impl Fn(&mut SweepRow) -> Option<(T, Option<SweepRow>)>,
) -> Result<Option<T>, Error> {
    let key = SweepRow::key(&request.bucket, request.mode());
    let mut attempts = 0;
    loop {
        let Some(Row { state: mut row, revision, .. }) = ledger.read::<SweepRow>(&key).await? else { return Ok(None) };
        if request.sweep.as_deref() != Some(row.sweep.as_str()) || row.complete {
            return Ok(None);
        }
        let Some((result, range)) = change(&mut row) else { return Ok(None) };
        let written = match range {
            Some(range) => {
                let sweep = Write::new(key.clone(), &row, Some(revision))?;
                let range = write_of_range(ledger, request, &range).await?;
                ledger.write_all(&[sweep, range], request_id).await
            }
            None => ledger.write(&key, &row, Some(revision), request_id).await.map(|_| ()),
        };
        match written {
            Ok(()) => return Ok(Some(result)),
            Err(Error::Changed(_)) if attempts < MOST_CHANGES => {
                attempts += 1;
                sleep(PAUSE * attempts).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The write of the row of a new range. The row may be there from an earlier sweep.
async fn write_of_range(ledger: &impl Store, request: &SweepRequest, range: &SweepRow) -> Result<Write, Error> {
    let key = SweepRow::range_key(&request.bucket, request.mode(), range.range.unwrap_or_default());
    let earlier = ledger.read::<SweepRow>(&key).await?;
    Write::new(key, range, earlier.map(|row| row.revision))
}

/// The row with which a request begins. An earlier version of this function kept the sweeps of all modes in the row of
/// the ordinary mode. From there, a sweep of another mode moves to its own row.
async fn with_earlier_versions(
    ledger: &impl Store,
    request: &SweepRequest,
    row: Option<Row<SweepRow>>,
    request_id: &str,
    now: OffsetDateTime,
) -> Result<Option<SweepRow>, Error> {
    let row = row.map(|row| row.state);
    if request.mode() == SweepMode::ORDINARY {
        if let Some(row) = &row
            && row.mode() != SweepMode::ORDINARY
            && !row.complete
            && !row.is_held(now)
        {
            let key = SweepRow::key(&request.bucket, row.mode());
            match ledger.write(&key, row, None, request_id).await {
                Ok(_) | Err(Error::Changed(_)) => {}
                Err(error) => return Err(error),
            }
        }
        return Ok(row);
    }
    if row.is_some() {
        return Ok(row);
    }
    let ordinary = ledger.read::<SweepRow>(&SweepRow::key(&request.bucket, SweepMode::ORDINARY)).await?;
    Ok(ordinary.map(|row| row.state).filter(|row| row.mode() == request.mode()))
}

impl TakenSweep {
    /// Saves the row, and renews the time in which only this invocation may continue the sweep.
    pub(crate) async fn checkpoint(&mut self, ledger: &impl Store, now: OffsetDateTime) -> Result<(), Error> {
        self.save(ledger, now, TERM).await
    }

    /// Saves the row, and lets another invocation continue the sweep at once.
    pub(crate) async fn release(&mut self, ledger: &impl Store, now: OffsetDateTime) -> Result<(), Error> {
        self.save(ledger, now, Duration::ZERO).await
    }

    /// Saves the row of a sweep that is done before its notices are sent. If the invocation dies now, the next one sends
    /// them.
    pub(crate) async fn save_before_its_end(&mut self, ledger: &impl Store, now: OffsetDateTime) -> Result<(), Error> {
        self.row.complete = false;
        let saved = self.checkpoint(ledger, now).await;
        self.row.complete = true;
        saved
    }

    /// Saves the row of a sweep, and moves what is left of the sweep to the row of its first range.
    pub(crate) async fn hand_off(
        &mut self,
        ledger: &impl Store,
        request: &SweepRequest,
        now: OffsetDateTime,
    ) -> Result<(), Error> {
        let mut range = self.row.hand_off();
        range.lease(now, Duration::ZERO);
        self.row.lease(now, Duration::ZERO);
        let sweep = Write::new(self.key.clone(), &self.row, self.revision)?;
        let range = write_of_range(ledger, request, &range).await?;
        ledger.write_all(&[sweep, range], &self.row.holder).await
    }

    async fn save(&mut self, ledger: &impl Store, now: OffsetDateTime, term: Duration) -> Result<(), Error> {
        self.row.lease(now, term);
        self.revision = Some(ledger.write(&self.key, &self.row, self.revision, &self.row.holder).await?);
        Ok(())
    }
}
