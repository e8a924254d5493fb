//! The context of one invocation.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use sekisho_domain::change::{Change, RepositoryArn, Revision, SourceKind, SourceRef};
use sekisho_domain::route::{Routes, TargetId};
use sekisho_lambda::{Invocation, telemetry};
use sekisho_ledger::{Store, Write};
use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::branch::{self, BranchRow};
use crate::decision_log::DecisionLog;
use crate::error::Error;
use crate::snapshot::Snapshot;
use crate::world::World;

/// The function's name in the keys of the ledger's decision rows.
const FUNCTION: &str = "event-relay";

/// The safety margin before Lambda's timeout. The margin is enough for a call that has begun (three attempts of 5 s)
/// and for the record of the decisions afterwards.
pub(crate) const RESERVE: Duration = Duration::from_secs(20);
/// The number of calls that run at once. More calls would only wait for the CPU, because a function with 128 MB of
/// memory has a small share of it.
pub(crate) const CONCURRENT_CALLS: usize = 8;

/// The context of one invocation.
#[derive(Debug)]
pub(crate) struct Run<'r, W> {
    pub(crate) world: &'r W,
    pub(crate) routes: &'r Routes,
    pub(crate) invocation: &'r Invocation,
    /// Limits the calls that run at once when an ordering goes to many targets.
    pub(crate) calls: Semaphore,
    /// For the images that this invocation has read as heads or by their digests, whether they are gone.
    pub(crate) gone_images: RefCell<BTreeMap<(RepositoryArn, Revision), bool>>,
    /// The images of the repositories that this invocation has listed.
    listed_images: RefCell<BTreeMap<RepositoryArn, BTreeSet<Revision>>>,
    locks: RefCell<BTreeMap<TargetId, Arc<Semaphore>>>,
}

/// Keeps other tasks of the same invocation from ordering some targets, until the value is dropped. Other invocations
/// are kept out by the revisions of rows.
#[derive(Debug, Default)]
pub(crate) struct TargetLocks {
    _permits: Vec<OwnedSemaphorePermit>,
}

impl<'r, W> Run<'r, W> {
    pub(crate) fn new(world: &'r W, routes: &'r Routes, invocation: &'r Invocation) -> Self {
        let calls = Semaphore::new(CONCURRENT_CALLS);
        let (gone_images, listed_images) = (RefCell::default(), RefCell::default());
        Self { world, routes, invocation, calls, gone_images, listed_images, locks: RefCell::default() }
    }

    /// The same invocation with other routes.
    pub(crate) fn with_routes<'o>(&'o self, routes: &'o Routes) -> Run<'o, W> {
        Run::new(self.world, routes, self.invocation)
    }

    /// Notes that a change was read as the head of its reference, so that its image need not be read again.
    pub(crate) fn note_head(&self, change: &Change) {
        if change.repository.kind() == SourceKind::Image {
            let key = (change.repository.clone(), change.revision.clone());
            self.gone_images.borrow_mut().insert(key, false);
        }
    }

    /// Notes the images that a repository has, so that none of them needs to be read by its digest.
    pub(crate) fn note_images(&self, repository: &RepositoryArn, images: BTreeSet<Revision>) {
        self.listed_images.borrow_mut().insert(repository.clone(), images);
    }

    /// Whether a list of the repository had this image.
    pub(crate) fn has_listed(&self, repository: &RepositoryArn, image: &Revision) -> bool {
        self.listed_images.borrow().get(repository).is_some_and(|images| images.contains(image))
    }
}

impl<W: World> Run<'_, W> {
    pub(crate) fn now(&self) -> OffsetDateTime {
        self.world.now()
    }

    /// Waits until no other task of this invocation orders one of these targets. Without the locks, references that
    /// feed the same target would plan again and again, because each of them writes the target's row.
    pub(crate) async fn lock(&self, targets: &BTreeSet<TargetId>) -> TargetLocks {
        let mut permits = Vec::with_capacity(targets.len());
        // The targets are sorted, so two tasks never wait for each other.
        for target in targets {
            let new = || Arc::new(Semaphore::new(1));
            let lock = self.locks.borrow_mut().entry(target.clone()).or_insert_with(new).clone();
            permits.extend(lock.acquire_owned().await);
        }
        TargetLocks { _permits: permits }
    }

    /// The time until Lambda ends the invocation.
    pub(crate) fn time_left(&self) -> Duration {
        self.invocation.time_left(self.now())
    }

    /// Whether enough time is left to examine a reference or to order a change.
    pub(crate) fn has_time(&self) -> bool {
        self.time_left() > RESERVE
    }

    /// Reads the row of a reference.
    pub(crate) async fn read_row(
        &self,
        repository: &RepositoryArn,
        source_ref: &SourceRef,
    ) -> Result<Snapshot<BranchRow>, sekisho_ledger::Error> {
        self.world.ledger().read::<BranchRow>(&branch::key(repository, source_ref)).await.map(Snapshot::from)
    }

    /// Writes the row of a reference if the ledger still has the revision `replaces`, and returns the new revision.
    pub(crate) async fn write_row(
        &self,
        repository: &RepositoryArn,
        source_ref: &SourceRef,
        row: &BranchRow,
        replaces: Option<u64>,
    ) -> Result<u64, sekisho_ledger::Error> {
        let key = branch::key(repository, source_ref);
        self.world.ledger().write(&key, row, replaces, &self.invocation.request_id).await
    }

    /// Writes rows in one transaction.
    ///
    /// # Errors
    /// [`sekisho_ledger::Error::Changed`] if another invocation wrote one of the rows first. Then no row is written.
    pub(crate) async fn write_all(&self, writes: &[Write]) -> Result<(), sekisho_ledger::Error> {
        self.world.ledger().write_all(writes, &self.invocation.request_id).await
    }

    /// Writes rows in one transaction. Returns whether the rows were written: if another invocation wrote one of them
    /// first, none is written.
    pub(crate) async fn write_all_unless_changed(&self, writes: &[Write]) -> Result<bool, sekisho_ledger::Error> {
        match self.write_all(writes).await {
            Ok(()) => Ok(true),
            Err(sekisho_ledger::Error::Changed(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Repeats `action` as long as another invocation writes one of its rows first and time is left. The action reads
    /// the rows again each time.
    ///
    /// # Errors
    /// The last error of `action`.
    pub(crate) async fn until_unchanged<T>(
        &self,
        mut action: impl AsyncFnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut pauses = self.pauses();
        loop {
            match action().await {
                Err(Error::Ledger(sekisho_ledger::Error::Changed(_))) if self.has_time() => {}
                result => return result,
            }
            self.world.sleep(pauses.next().unwrap_or_default()).await;
        }
    }

    /// The pauses after another invocation wrote a row first, from 50 to 500 ms. Hundreds of invocations may write the
    /// same row at once, so the pauses grow and differ between the invocations.
    pub(crate) fn pauses(&self) -> ExponentialBackoff {
        ExponentialBuilder::default()
            .with_jitter()
            .with_jitter_seed(self.invocation.jitter_seed())
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_millis(250))
            .without_max_times()
            .build()
    }

    /// Logs, counts and stores the decisions that were added to the log since the last call of this function.
    pub(crate) async fn record(&self, log: &mut DecisionLog) -> Result<(), sekisho_ledger::Error> {
        telemetry::decisions(&self.invocation.function, log.take_unlogged());
        if !log.unstored().is_empty() {
            let row_time = log.next_row_time(self.now());
            self.world.ledger().record(FUNCTION, &self.invocation.request_id, row_time, log.unstored()).await?;
            log.set_stored(row_time);
        }
        Ok(())
    }
}
