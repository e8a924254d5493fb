//! Takes and saves the ledger row of a bucket's sweep.

use std::time::Duration;

use sekisho_ledger::{Error, Key, Row, Store};
use time::OffsetDateTime;

use crate::request::{SweepMode, SweepRequest};
use crate::sweep_row::{Start, SweepRow, TERM};

/// A sweep that this invocation has taken.
pub(crate) struct TakenSweep {
    key: Key,
    pub(crate) row: SweepRow,
    revision: Option<u64>,
}

/// The result of taking a sweep.
pub(crate) enum Take {
    Taken(Box<TakenSweep>),
    /// There is nothing to do, for this reason.
    Refused(String),
}

/// Takes the bucket's unfinished sweep of the request's mode, or begins a new sweep.
pub(crate) async fn take(
    ledger: &impl Store,
    request: &SweepRequest,
    request_id: &str,
    now: OffsetDateTime,
) -> Result<Take, Error> {
    let key = SweepRow::key(&request.bucket, request.mode());
    let row = ledger.read::<SweepRow>(&key).await?;
    let revision = row.as_ref().map(|row| row.revision);
    let row = with_earlier_versions(ledger, request, row, request_id, now).await?;
    let row = match SweepRow::start(row, request, request_id, now) {
        Start::Row(row) => *row,
        Start::Refused(why) => return Ok(Take::Refused(why)),
    };
    let mut taken = Box::new(TakenSweep { key, row, revision });
    match taken.checkpoint(ledger, now).await {
        Ok(()) => Ok(Take::Taken(taken)),
        Err(Error::Changed(_)) => Ok(Take::Refused("another invocation has begun a sweep of the bucket".to_owned())),
        Err(error) => Err(error),
    }
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

    async fn save(&mut self, ledger: &impl Store, now: OffsetDateTime, term: Duration) -> Result<(), Error> {
        self.row.lease(now, term);
        self.revision = Some(ledger.write(&self.key, &self.row, self.revision, &self.row.holder).await?);
        Ok(())
    }
}
