//! A repair that this invocation works on, and the limits of its work.

use std::time::Duration;

use sekisho_ledger::{Error as LedgerError, Store};

use crate::batch::{BatchRow, TERM};
use crate::run::Run;

/// If less time than this is left, another invocation continues.
pub(super) const RESERVE: Duration = Duration::from_secs(30);
/// More bytes than a part of the sweep has.
pub(super) const LARGEST: u64 = 1 << 30;

/// A repair that this invocation works on.
pub(super) struct TakenBatch {
    pub(super) row: BatchRow,
    pub(super) revision: Option<u64>,
}

impl TakenBatch {
    pub(super) async fn save<L: Store>(&mut self, run: &Run<'_, L>) -> Result<(), LedgerError> {
        self.write(run, TERM).await
    }

    pub(super) async fn release<L: Store>(&mut self, run: &Run<'_, L>) -> Result<(), LedgerError> {
        self.write(run, Duration::ZERO).await
    }

    async fn write<L: Store>(&mut self, run: &Run<'_, L>, term: Duration) -> Result<(), LedgerError> {
        self.row.lease(run.now(), term);
        run.request_id().clone_into(&mut self.row.holder);
        let key = BatchRow::key(&self.row.bucket);
        self.revision = Some(run.ledger.write(&key, &self.row, self.revision, run.request_id()).await?);
        Ok(())
    }
}
