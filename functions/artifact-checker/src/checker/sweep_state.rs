//! Takes and saves the ledger row of a bucket's sweep.

use std::time::Duration;

use sekisho_ledger::{Error, Key, Store};
use time::OffsetDateTime;

use crate::request::SweepRequest;
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

/// Takes the bucket's unfinished sweep, or begins a new sweep.
pub(crate) async fn take(
    ledger: &impl Store,
    request: &SweepRequest,
    request_id: &str,
    now: OffsetDateTime,
) -> Result<Take, Error> {
    let key = SweepRow::key(&request.bucket);
    let row = ledger.read::<SweepRow>(&key).await?;
    let revision = row.as_ref().map(|row| row.revision);
    let row = match SweepRow::start(row.map(|row| row.state), request, request_id, now) {
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
