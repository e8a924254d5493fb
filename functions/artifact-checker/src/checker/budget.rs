//! Counts the objects that a sweep repairs. A sweep that has repaired as many as the configuration allows leaves the
//! others to S3 Batch Operations or, if no job can repair them, reports them.

use std::cell::Cell;
use std::time::Duration;

use futures_util::try_join;
use sekisho_domain::timestamp::epoch_millis;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Error, Key, Store};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tracing::warn;

use crate::batch::BatchRow;
use crate::repair::{RepairRule, Step};
use crate::request::SweepRequest;
use crate::run::Run;
use crate::sweep_row::SweepRow;

/// How long the row is kept.
const RETENTION: Duration = Duration::from_hours(24 * 30);
/// How often a write of the row is repeated if other invocations write it at the same time.
const MOST_WRITES: u32 = 30;
/// The pause before the first repetition. Each further pause is longer by this time.
const PAUSE: Duration = Duration::from_millis(20);

/// The row with which the invocations of one sweep count together.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct BudgetRow {
    repaired: u64,
    /// When DynamoDB may delete the row, in seconds since 1970.
    expires: u64,
}

/// How many objects a sweep may repair.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// `None` means no limit.
    limit: Option<u64>,
    /// Whether another repair is open, whose jobs may put the same objects under the right key in place.
    is_other_open: Cell<bool>,
    /// The repairs of the sweep as far as the ledger had them at the last look.
    shared: Cell<u64>,
    /// The repairs of this invocation that the ledger does not have.
    own: Cell<u64>,
    /// The repairs that are under way.
    running: Cell<u64>,
}

/// The right to repair one object. If the object is not repaired after all, another one may be.
pub(crate) struct Permit<'b> {
    budget: &'b Budget,
    is_used: bool,
}

impl Permit<'_> {
    pub(crate) fn used(mut self) {
        self.is_used = true;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let Budget { own, running, .. } = self.budget;
        running.set(running.get() - 1);
        own.set(own.get() + u64::from(self.is_used));
    }
}

/// The key of a sweep's row. A sweep that was replaced may go on for some seconds, and has its own row.
fn key(request: &SweepRequest, sweep: &str) -> Key {
    Key { sk: format!("repairs#{sweep}"), ..SweepRow::key(&request.bucket, request.mode()) }
}

/// Reads how many objects a sweep has repaired, with the revision of its row.
async fn repaired<L: Store>(run: &Run<'_, L>, key: &Key) -> Result<(u64, Option<u64>), Error> {
    let row = run.ledger.read::<BudgetRow>(key).await?;
    Ok(row.map_or((0, None), |row| (row.state.repaired, Some(row.revision))))
}

impl Budget {
    fn new(limit: u64, shared: u64) -> Self {
        Self { limit: Some(limit), shared: Cell::new(shared), ..Self::default() }
    }

    /// The budget of a sweep. While a repair of the bucket is left to S3 Batch Operations, a sweep changes no key in
    /// place, so that nothing is repaired twice.
    pub(crate) async fn of<L: Store>(
        run: &Run<'_, L>,
        request: &SweepRequest,
        rule: &RepairRule,
        sweep: &SweepRow,
    ) -> Result<Self, Error> {
        let Some(limit) = run.settings.most_repairs(request, rule) else { return Ok(Self::default()) };
        let key = key(request, &sweep.sweep);
        let (is_other_open, (repaired, _)) = try_join!(is_other_open(run, request, &sweep.sweep), repaired(run, &key))?;
        let budget = Self::new(limit, repaired);
        budget.is_other_open.set(is_other_open);
        Ok(budget)
    }

    /// The right to repair one more object with this step. `None` if the sweep does not repair it.
    pub(crate) fn take(&self, step: Step) -> Option<Permit<'_>> {
        let taken = self.shared.get() + self.own.get() + self.running.get();
        let is_kept_for_job = step == Step::Update && self.is_other_open.get();
        if is_kept_for_job || self.limit.is_some_and(|limit| taken >= limit) {
            return None;
        }
        self.running.set(self.running.get() + 1);
        Some(Permit { budget: self, is_used: false })
    }

    /// Adds this invocation's repairs to those of the sweep, and learns of those of the other invocations, and whether
    /// another repair is open. After an error, this invocation goes on with what it knows.
    pub(crate) async fn share<L: Store>(&self, run: &Run<'_, L>, request: &SweepRequest, sweep: &str) {
        if self.limit.is_none() {
            return;
        }
        match is_other_open(run, request, sweep).await {
            Ok(is_other_open) => self.is_other_open.set(is_other_open),
            Err(error) => warn!(error = chain(&error), "it is looked up later whether a repair is open"),
        }
        let own = self.own.get();
        if own == 0 {
            return;
        }
        match self.add(run, request, sweep, own).await {
            Ok(repaired) => {
                self.shared.set(repaired);
                self.own.set(self.own.get() - own);
            }
            Err(error) => warn!(error = chain(&error), "the repairs of a sweep are counted later"),
        }
    }

    async fn add<L: Store>(
        &self,
        run: &Run<'_, L>,
        request: &SweepRequest,
        sweep: &str,
        own: u64,
    ) -> Result<u64, Error> {
        let key = key(request, sweep);
        let mut attempts = 0;
        loop {
            let (before, revision) = repaired(run, &key).await?;
            let expires = epoch_millis(run.now() + RETENTION) / 1000;
            let row = BudgetRow { repaired: before + own, expires };
            match run.ledger.write(&key, &row, revision, run.request_id()).await {
                Ok(_) => return Ok(row.repaired),
                Err(Error::Changed(_)) if attempts < MOST_WRITES => {
                    attempts += 1;
                    sleep(PAUSE * attempts).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether a repair of the bucket is open that another sweep has left.
async fn is_other_open<L: Store>(run: &Run<'_, L>, request: &SweepRequest, sweep: &str) -> Result<bool, Error> {
    let batch = run.ledger.read::<BatchRow>(&BatchRow::key(&request.bucket)).await?;
    Ok(batch.is_some_and(|row| row.state.is_open() && row.state.sweep != sweep))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repair_that_was_not_made_leaves_its_place_to_another_one() {
        let budget = Budget::new(3, 1);
        let take = || budget.take(Step::Update);
        let (first, second) = (take().unwrap(), budget.take(Step::Copy).unwrap());
        assert!(take().is_none());
        drop(first);
        second.used();
        take().unwrap().used();
        assert!(take().is_none() && budget.take(Step::Copy).is_none());
        assert!(Budget::new(0, 0).take(Step::Update).is_none());
        assert!(Budget::default().take(Step::Update).is_some());
    }

    #[test]
    fn while_another_repair_is_open_objects_are_only_copied() {
        let budget = Budget::new(3, 0);
        budget.is_other_open.set(true);
        assert!(budget.take(Step::Update).is_none() && budget.take(Step::Copy).is_some());
    }
}
