//! A reconcile's look at one repository: compares the heads of its references with the ledger.

use std::collections::BTreeSet;

use futures_util::future::join;
use futures_util::{StreamExt, stream};
use sekisho_domain::change::{RefKind, RepositoryArn, Revision, SourceKind};
use sekisho_domain::decision::Decision;
use sekisho_domain::route::TargetId;
use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::{MAX_TRANSACTION, Store, Write};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;

use crate::branch::{self, BranchRow};
use crate::caches::Caches;
use crate::decision_log::DecisionLog;
use crate::error::Error;
use crate::hint::{Hint, Trigger};
use crate::outcome::{Outcome, about_hint, needs_repair};
use crate::relay::settle::{Settled, settle};
use crate::relay::source;
use crate::repository::{self, Covering, Globs, RepositoryRow};
use crate::route::plain_targets;
use crate::run::Run;
use crate::snapshot::Snapshot;
use crate::worklist::{Examination, Listed, Reference, Task, Worklist};
use crate::world::{Head, World};

/// The number of references of one repository that are examined at the same time.
const CONCURRENT_TASKS: usize = 16;
/// For this time, in milliseconds, a reconcile that reached every repository shows which repositories are new. If none has
/// reached them since, a repository may have been created and renamed meanwhile.
const REACHED_FOR: u64 = 24 * 60 * 60 * 1_000;

/// The result of a look at one repository.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    /// The names of its branches, if they could be read. The list is empty if the repository does not exist.
    pub(crate) branches: Option<Vec<String>>,
    /// Whether the repository does not exist.
    is_missing: bool,
    /// The decisions that were not sent to the reconcile yet.
    decisions: Vec<Decision<Outcome>>,
    /// The number of references whose head was relayed before or touches no routed path.
    pub(crate) unchanged: usize,
    /// The first failure that a later look may not have.
    pub(crate) failure: Option<Error>,
    /// Whether a reference was not examined, because no time was left or a call failed.
    pub(crate) is_incomplete: bool,
    /// Whether no time was left for a reference.
    pub(crate) is_out_of_time: bool,
    /// The references for which nothing was ordered.
    pub(crate) unmoved: Vec<Reference>,
    /// The targets of references that got a new head.
    pub(crate) moved: BTreeSet<TargetId>,
}

/// What the looks at all repositories have in common.
#[derive(Debug)]
pub(crate) struct Look<'r, W> {
    pub(crate) run: &'r Run<'r, W>,
    /// Limits the calls of all repositories together.
    pub(crate) permits: &'r Semaphore,
    pub(crate) globs: &'r Globs,
    /// The rules about caches of other registries, if they were ever read.
    pub(crate) caches: Option<&'r Caches>,
    /// When the reconcile began, in epoch milliseconds.
    pub(crate) began: u64,
    /// When an earlier reconcile began that reached every CodeCommit repository, in epoch milliseconds.
    pub(crate) reached: Option<u64>,
    /// Receives the decisions as soon as they are made, so that they can be stored before the look ends.
    pub(crate) decisions: UnboundedSender<Decision<Outcome>>,
}

/// The rows that a look leads to.
#[derive(Debug, Default)]
struct Findings {
    recorded: Vec<Reference>,
    /// Whether the head of a reference that should be recorded was not read.
    is_unrecorded: bool,
    deleted: Vec<Reference>,
}

impl<W: World> Look<'_, W> {
    /// Examines all references of a repository. `stored` is the repository's row.
    pub(crate) async fn at(&self, repository: &RepositoryArn, stored: &Snapshot<RepositoryRow>) -> Looked {
        let mut looked = Looked::default();
        if !self.run.has_time() {
            looked.run_out_of_time();
            return looked;
        }
        let worklist = match self.read(repository, &stored.row, &mut looked).await {
            Ok(worklist) => worklist,
            Err(error) => {
                looked.fail(error, |decision| decision.about("repository", repository.as_str()));
                self.send(&mut looked);
                return looked;
            }
        };
        looked.decisions.extend(worklist.mistakes);
        looked.unmoved.extend(worklist.resting);
        let mut findings = Findings { deleted: worklist.deleted, ..Findings::default() };
        let mut results = stream::iter(worklist.tasks)
            .map(|one| self.examine(one, stored.row.floor))
            .buffer_unordered(CONCURRENT_TASKS)
            .chain(stream::iter(worklist.in_turn).map(|one| self.examine(one, stored.row.floor)).buffered(1));
        while let Some((reference, task, found)) = results.next().await {
            looked.add(self.run, reference, task, found, &mut findings);
            self.send(&mut looked);
        }
        drop(results);
        if let Err(error) = self.write(repository, stored, &mut looked, findings).await {
            looked.fail(error.into(), |decision| decision.about("repository", repository.as_str()));
        }
        self.send(&mut looked);
        looked
    }

    fn send(&self, looked: &mut Looked) {
        for decision in looked.decisions.drain(..) {
            // The reconcile receives decisions until the last look has ended, so the channel is open.
            let _ = self.decisions.send(decision);
        }
    }

    async fn read(
        &self,
        repository: &RepositoryArn,
        stored: &RepositoryRow,
        looked: &mut Looked,
    ) -> Result<Worklist, Error> {
        let _permit = self.permits.acquire().await;
        let world = self.run.world;
        let partition = branch::partition(repository);
        let rows = world.ledger().each::<BranchRow>(&partition, "");
        let (listed, rows) = match repository.kind() {
            SourceKind::Git => join(source::list(world, repository), rows).await,
            // The list has the heads. They are read after the rows, so that an old head cannot get a newer sequence.
            SourceKind::Image => {
                let rows = rows.await;
                (source::list(world, repository).await, rows)
            }
        };
        let (listed, rows) = (listed?, rows?);
        let created = if listed.is_some() { self.created(repository, stored).await? } else { 0 };
        if repository.kind() == SourceKind::Image {
            let image = |one: &Listed| match &one.head {
                Some(Head::At(image)) => Some(image.clone()),
                _ => None,
            };
            self.run.note_images(repository, listed.iter().flatten().filter_map(image).collect());
        }
        looked.is_missing = listed.is_none();
        let branches = listed.iter().flatten().filter(|one| one.source_ref.kind() == RefKind::Branch);
        looked.branches = Some(branches.map(|one| one.source_ref.name().to_owned()).collect());
        let caches_ended = self.caches.map_or(0, |caches| caches.ended);
        let (routes, globs) = (self.run.routes, self.globs);
        let covering = Covering { routes, globs, caches_ended, created, is_upgrade: false };
        Ok(Worklist::new(repository, listed, rows, stored, covering, self.run.now()))
    }

    /// When the repository was created, in epoch milliseconds, if that was after a recent reconcile that reached every
    /// repository. Otherwise 0. An older repository that this reconcile did not see had another name then, so its branches
    /// may be older than the moment when a glob covered it.
    async fn created(&self, repository: &RepositoryArn, stored: &RepositoryRow) -> Result<u64, Error> {
        let Self { run, globs, began, reached, .. } = self;
        let is_recent = |reached: &u64| began.saturating_sub(*reached) < REACHED_FOR;
        let reached = reached.filter(is_recent).filter(|_| repository.kind() == SourceKind::Git);
        let Some(reached) = reached else { return Ok(0) };
        if !stored.may_be_young(run.routes, globs, repository, *began) {
            return Ok(0);
        }
        let created = run.world.repository_created(repository.name()).await?;
        Ok(created.filter(|created| reached < *created).unwrap_or(0))
    }

    async fn examine(&self, examination: Examination, floor: u64) -> (Reference, Task, Found) {
        let Examination { reference, task, head } = examination;
        let _permit = self.permits.acquire().await;
        let run = self.run;
        if !run.has_time() {
            return (reference, task, Found::NoTime);
        }
        let Reference { repository, source_ref, snapshot } = &reference;
        let found = match task {
            Task::Settle => {
                let hint = Hint::without_event(repository, source_ref.clone());
                Found::Settled(settle(run, &hint, Trigger::Reconcile, Some(snapshot.clone()), head).await)
            }
            Task::Record => {
                let head = match head {
                    Some(head) => Ok(head),
                    None => source::head(run.world, repository, source_ref).await,
                };
                match head {
                    Ok(Head::At(head)) => Found::Recorded(self.record(&reference, head, floor)),
                    Ok(Head::Unroutable(_) | Head::NoRef | Head::NoRepository) => Found::Deleted,
                    Err(error) => Found::Failed(error.into()),
                }
            }
        };
        (reference, task, found)
    }

    /// The row with a head that is not ordered.
    fn record(
        &self,
        Reference { repository, source_ref, snapshot }: &Reference,
        head: Revision,
        floor: u64,
    ) -> BranchRow {
        let routes = self.run.routes.concerning(repository, source_ref);
        let targets = plain_targets(routes).into_iter().collect();
        if snapshot.revision.is_some() {
            // Earlier versions relayed a tag with a row, so the head is not new to its targets.
            return BranchRow { commit: Some(head), expires: None, ..snapshot.row.covering(targets) };
        }
        BranchRow::recorded(head, epoch_millis(self.run.now()).max(floor + 1), targets)
    }

    async fn write(
        &self,
        repository: &RepositoryArn,
        stored: &Snapshot<RepositoryRow>,
        looked: &mut Looked,
        findings: Findings,
    ) -> Result<(), sekisho_ledger::Error> {
        let Findings { recorded, is_unrecorded, deleted } = findings;
        let written = self.write_rows(&recorded).await?;
        if written > 0 {
            let reason =
                format!("{written} heads existed before a route covered them: they were recorded and not ordered");
            looked.decisions.push(
                Decision::new(Outcome::Baseline, reason)
                    .about("repository", repository.as_str())
                    .about("count", written.to_string()),
            );
        }
        // The bound is written before the rows get a time to live, so that no sequence is lost.
        let sequences = deleted.iter().map(|one| one.snapshot.row.newest_sequence());
        let floor = sequences.chain([stored.row.floor]).max().unwrap_or(0);
        let row = if looked.is_missing {
            // A repository that is created or renamed to this name later is looked at for the first time.
            stored.row.unseen()
        } else if is_unrecorded || written < recorded.len() {
            stored.row.clone()
        } else {
            stored.row.looked(self.run.routes, self.globs, repository, epoch_millis(self.run.now()))
        };
        let row = RepositoryRow { floor, ..row };
        if row != stored.row {
            let writer = &self.run.invocation.request_id;
            match self.run.world.ledger().write(&repository::key(repository), &row, stored.revision, writer).await {
                Ok(_) => {}
                // Another reconcile wrote the row. The next one writes the rest.
                Err(sekisho_ledger::Error::Changed(_)) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        let now = self.run.now();
        let expiring = |mut one: Reference| {
            one.snapshot.row = one.snapshot.row.expiring(now);
            one
        };
        let deleted: Vec<Reference> = deleted.into_iter().map(expiring).collect();
        self.write_rows(&deleted).await.map(drop)
    }

    /// Writes rows of references and returns the number of rows that were written. Rows that another invocation wrote
    /// first are left to the next reconcile.
    async fn write_rows(&self, references: &[Reference]) -> Result<usize, sekisho_ledger::Error> {
        let mut written = 0;
        for part in references.chunks(MAX_TRANSACTION) {
            if write_part(self.run, part).await? {
                written += part.len();
                continue;
            }
            for one in part {
                written += usize::from(write_part(self.run, std::slice::from_ref(one)).await?);
            }
        }
        Ok(written)
    }
}

/// Writes rows of references in one transaction. Returns whether the rows were written: if another invocation wrote one
/// of them first, none is written.
pub(crate) async fn write_part<W: World>(
    run: &Run<'_, W>,
    references: &[Reference],
) -> Result<bool, sekisho_ledger::Error> {
    let mut writes = Vec::with_capacity(references.len());
    for Reference { repository, source_ref, snapshot } in references {
        writes.push(Write::new(branch::key(repository, source_ref), &snapshot.row, snapshot.revision)?);
    }
    run.write_all_unless_changed(&writes).await
}

/// What became of one reference.
#[derive(Debug)]
enum Found {
    Settled(Settled),
    /// The row with a head that is not ordered.
    Recorded(BranchRow),
    /// The reference does not exist.
    Deleted,
    Failed(Error),
    NoTime,
}

impl Looked {
    fn add<W: World>(
        &mut self,
        run: &Run<'_, W>,
        reference: Reference,
        task: Task,
        found: Found,
        findings: &mut Findings,
    ) {
        let hint = Hint::without_event(&reference.repository, reference.source_ref.clone());
        match found {
            Found::NoTime => {
                findings.is_unrecorded |= task == Task::Record;
                self.run_out_of_time();
            }
            Found::Deleted => findings.add_deleted(reference),
            Found::Failed(error) => {
                findings.is_unrecorded = true;
                self.fail(error, |decision| about_hint(&hint, decision));
            }
            Found::Recorded(row) => {
                let revision = reference.snapshot.revision;
                findings.recorded.push(Reference { snapshot: Snapshot { row, revision }, ..reference });
            }
            Found::Settled(Settled { report, unmoved, is_deleted, .. }) => {
                self.add_decisions(report.log, is_deleted);
                let failure = report.failure.map(|error| match error {
                    Error::NoTime { .. } => self.run_out_of_time(),
                    Error::Busy { .. } => self.is_incomplete = true,
                    error => self.fail(error, |decision| about_hint(&hint, decision)),
                });
                match unmoved {
                    Some(snapshot) if is_deleted => findings.add_deleted(Reference { snapshot, ..reference }),
                    Some(snapshot) => self.unmoved.push(Reference { snapshot, ..reference }),
                    None if failure.is_some() => self.unmoved.push(reference),
                    None => {
                        let routes = run.routes.concerning(&reference.repository, &reference.source_ref);
                        self.moved.extend(plain_targets(routes));
                    }
                }
            }
        }
    }

    fn run_out_of_time(&mut self) {
        (self.is_incomplete, self.is_out_of_time) = (true, true);
    }

    fn add_decisions(&mut self, log: DecisionLog, is_deleted: bool) {
        for decision in log.into_decisions() {
            // A filtered decision that names an account is about a pending change that lost its route. Such a decision
            // is logged separately, and not added to the number of unchanged references.
            let is_unchanged = decision.outcome == Outcome::Duplicate
                || decision.outcome == Outcome::Filtered && !decision.concerns.contains_key("account");
            if is_unchanged {
                self.unchanged += 1;
            } else if !(is_deleted && decision.outcome == Outcome::Ignored) {
                self.decisions.push(decision);
            }
        }
    }

    /// Records an error. If no retry cures the error, it becomes a decision; otherwise the look is incomplete.
    fn fail(&mut self, error: Error, about: impl FnOnce(Decision<Outcome>) -> Decision<Outcome>) {
        if error.is_final() {
            self.decisions.push(about(needs_repair(&error)));
        } else {
            self.is_incomplete = true;
            self.failure.get_or_insert(error);
        }
    }
}

impl Findings {
    fn add_deleted(&mut self, reference: Reference) {
        if reference.snapshot.revision.is_some() && reference.snapshot.row.expires.is_none() {
            self.deleted.push(reference);
        }
    }
}
