//! The use case of the schedule's event: compares every routed reference with the ledger, orders what is new, and
//! offers open orders again. The events of CodeCommit and ECR are best effort, so the reconcile finds the changes whose
//! event was lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use sekisho_domain::change::{RepositoryArn, SourceKind};
use sekisho_domain::decision::Decision;
use sekisho_domain::route::{Route, Target, TargetId};
use sekisho_domain::timestamp::epoch_millis;
use sekisho_lambda::metrics;
use sekisho_ledger::{Key, Row, Store};
use tokio::sync::{Semaphore, mpsc};

use crate::caches::Caches;
use crate::decision_log::{DecisionLog, Report};
use crate::error::Error;
use crate::heads::Heads;
use crate::next::Scope;
use crate::outcome::{Outcome, needs_repair};
use crate::reconcile_row::{self, ReconcileRow};
use crate::relay::images::{Images, LeftOut};
use crate::relay::join::order_joined;
use crate::relay::look::{Look, Looked};
use crate::relay::reoffer::offer_again;
use crate::relay::source;
use crate::relay::train::advance;
use crate::repository::{self, RepositoryRow};
use crate::run::{CONCURRENT_CALLS, Run};
use crate::selection::routes_here;
use crate::snapshot::Snapshot;
use crate::worklist::{Branches, Reference, unmatched_globs};
use crate::world::World;

/// The number of repositories that are examined at the same time.
const CONCURRENT_REPOSITORIES: usize = 12;
/// The number of reads and plans of all repositories that run at the same time. One after the other, the calls for a
/// thousand repositories would take longer than the function's timeout.
const CONCURRENT_READS: usize = 16;
/// The reconcile stores its decisions whenever it has this many new decisions, and at the end. If Lambda ends the
/// invocation at the timeout, only the decisions that are not stored are lost.
const STORE_AFTER: usize = 100;
/// Joining targets wait for repositories that were not examined for at most this time. A target that joined in between
/// still gets the head of such a repository later.
const JOIN_PATIENCE: Duration = Duration::from_hours(1);
/// The metric of the repositories that a reconcile did not reach. The template's alarm refers to the name.
const NOT_REACHED: &str = "RepositoriesNotReached";

/// The row of the reconcile, or the error of the ledger.
type ReadRow = Result<Option<Row<ReconcileRow>>, sekisho_ledger::Error>;

/// Examines every routed reference. A repository that fails never fails the reconcile: it is counted, and the next
/// reconcile begins with it.
pub(crate) async fn reconcile<W: World>(run: &Run<'_, W>) -> Report {
    let row: ReadRow = run.world.ledger().read(&reconcile_row::key()).await;
    let stored = row.as_ref().ok().and_then(|row| row.as_ref()?.state.caches.as_ref());
    let (routes, images) = Images::find(run, stored).await;
    let run = run.with_routes(&routes);
    let mut pass = Pass::new(&run);
    pass.look_everywhere(row, images).await;
    pass.finish()
}

/// A running reconcile.
struct Pass<'r, W> {
    run: &'r Run<'r, W>,
    /// When the reconcile began, in epoch milliseconds.
    began: u64,
    log: DecisionLog,
    /// The number of references whose head was relayed before or touches no routed path.
    unchanged: usize,
    /// Whether the repositories that a glob matches could not be found out.
    is_unlisted: bool,
    /// The repositories that were not examined completely.
    not_reached: BTreeSet<RepositoryArn>,
    /// The repositories for which no time was left.
    out_of_time: BTreeSet<RepositoryArn>,
    /// Why the first of these repositories was not examined completely, unless no time was left.
    first_failure: Option<Error>,
    references: Vec<Reference>,
    /// The targets of references that got a new head.
    moved: BTreeSet<TargetId>,
    /// The branches of each repository that was examined.
    found: Vec<Branches>,
}

/// The repositories that routes match.
struct Repositories {
    /// The repositories, sorted by the ends of their ARNs.
    all: Vec<RepositoryArn>,
    /// The kinds of repositories of which some that a glob matches may be missing.
    incomplete: Vec<SourceKind>,
}

/// The rows that a reconcile needs before it examines repositories.
struct Stored {
    pass: Snapshot<ReconcileRow>,
    repositories: BTreeMap<RepositoryArn, Snapshot<RepositoryRow>>,
}

impl<'r, W: World> Pass<'r, W> {
    fn new(run: &'r Run<'r, W>) -> Self {
        Self {
            run,
            began: epoch_millis(run.now()),
            log: DecisionLog::default(),
            unchanged: 0,
            is_unlisted: false,
            not_reached: BTreeSet::new(),
            out_of_time: BTreeSet::new(),
            first_failure: None,
            references: Vec::new(),
            moved: BTreeSet::new(),
            found: Vec::new(),
        }
    }

    /// Examines all repositories.
    async fn look_everywhere(&mut self, row: ReadRow, Images { names, left_out, caches }: Images) {
        let Repositories { mut all, incomplete } = self.routed_repositories(names, left_out).await;
        let is_complete = incomplete.is_empty();
        let mut stored = match self.read_rows(row, &all).await {
            Ok(stored) => stored,
            Err(error) => {
                self.not_reached.extend(all);
                self.first_failure = Some(error.into());
                return self.measure();
            }
        };
        self.write_globs(&mut stored.pass, caches).await;
        if let Some(next) = &stored.pass.row.next {
            let first = all.iter().position(|one| one.resource() >= next.as_str()).unwrap_or(0);
            all.rotate_left(first);
        }
        self.look_at_all(&all, &stored).await;
        if is_complete && self.found.len() == all.len() {
            self.log.extend(unmatched_globs(self.run.routes, &self.run.invocation.region, &self.found));
        }
        let row = self.next_row(&all, &incomplete, &stored.pass.row);
        let mut undecided = self.unexamined(&incomplete, &row);
        undecided.append(&mut self.moved);
        let joined = order_joined(self.run, &self.references, &undecided).await;
        self.add(joined);
        self.advance_trains().await;
        // The metric, the row and the decisions come before the offers, which may take the rest of the time.
        self.measure();
        self.write_row(row, &mut stored.pass).await;
        self.record().await;
        let heads = Heads::new(self.run.routes, &self.run.invocation.region, &self.references);
        let offered = offer_again(self.run, &heads, &undecided).await;
        self.add(offered);
    }

    /// Moves all trains on: the time may have come for a change, and a report may have been lost halfway.
    async fn advance_trains(&mut self) {
        let run = self.run;
        let trains = routes_here(run.routes, &run.invocation.region).filter(|route| !route.waves().is_empty());
        let mut advanced = stream::iter(trains)
            .map(async |route| if run.has_time() { Some(advance(run, route, Scope::All).await) } else { None })
            .buffer_unordered(CONCURRENT_CALLS);
        while let Some(result) = advanced.next().await {
            match result {
                Some(Ok(log)) => self.log.extend(log.into_decisions()),
                Some(Err(error)) if error.is_final() => self.log.push(needs_repair(&error)),
                Some(Err(error)) => self.add(error.into()),
                None => self.add(Report::from(Decision::new(Outcome::Ignored, "no time was left for a train"))),
            }
        }
    }

    fn measure(&self) {
        let unlisted = u64::from(self.is_unlisted);
        let count = u64::try_from(self.not_reached.len()).unwrap_or(u64::MAX).saturating_add(unlisted);
        metrics::count(&self.run.invocation.function, &BTreeMap::from([(NOT_REACHED.to_owned(), count)]));
    }

    /// Stores the decisions. If this fails, the decisions are stored later or the invocation fails at its end.
    async fn record(&mut self) {
        let _ = self.run.record(&mut self.log).await;
    }

    /// The repositories that routes name, and those that the routes' globs match. `images` are the image repositories
    /// that this reconcile may look at, if globs need them.
    async fn routed_repositories(&mut self, images: Vec<String>, left_out: Option<LeftOut>) -> Repositories {
        let Run { world, routes, invocation, .. } = self.run;
        let mut globs = routes_here(routes, &invocation.region).filter(|route| route.is_glob_for(SourceKind::Git));
        let listed = if globs.next().is_some() { world.repositories().await } else { Ok(vec![]) };
        let (names, unlisted) =
            listed.map_or_else(|error| (vec![], Some(LeftOut::Unlisted(error))), |names| (names, None));
        let (mut all, mut incomplete) = (Vec::new(), Vec::new());
        for (kind, names, left_out) in [(SourceKind::Git, names, unlisted), (SourceKind::Image, images, left_out)] {
            let mut of_kind = self.named_repositories(kind);
            if !self.add_matching(&mut of_kind, kind, &names, left_out) {
                incomplete.push(kind);
            }
            all.append(&mut of_kind);
        }
        all.sort_by(|one, other| one.resource().cmp(other.resource()));
        all.dedup();
        Repositories { all, incomplete }
    }

    /// The repositories of a kind that routes name.
    fn named_repositories(&mut self, kind: SourceKind) -> Vec<RepositoryArn> {
        let Run { routes, invocation, .. } = self.run;
        let routes = routes_here(routes, &invocation.region).filter(|route| route.source() == kind);
        let names: BTreeSet<&str> = routes.filter_map(|route| route.repository().literal()).collect();
        let mut all = Vec::with_capacity(names.len());
        for name in names {
            if let Ok(arn) = source::arn(invocation, kind, name) {
                all.push(arn);
            } else {
                let reason = format!("a route names `{name}`, which is not a repository name: correct the route");
                self.log.push(Decision::new(Outcome::Failed, reason));
            }
        }
        all
    }

    /// Adds the repositories of a kind that globs match. Returns false if some of them are left out. The reconcile then
    /// continues with the others, and with those that a route names without a glob.
    fn add_matching(
        &mut self,
        all: &mut Vec<RepositoryArn>,
        kind: SourceKind,
        names: &[String],
        left_out: Option<LeftOut>,
    ) -> bool {
        let Run { routes, invocation, .. } = self.run;
        let routes = routes_here(routes, &invocation.region);
        let globs: Vec<&Route> = routes.filter(|route| route.is_glob_for(kind)).collect();
        let is_matched = |arn: &RepositoryArn| globs.iter().any(|route| route.covers_repository(arn));
        let found = names.iter().filter_map(|name| source::arn(invocation, kind, name).ok());
        all.extend(found.filter(is_matched));
        let error = match left_out {
            None => return true,
            Some(LeftOut::RulesRead) => {
                let reason = "the rules about caches of other registries were read: the next reconcile looks at the \
                              image repositories that globs match";
                self.log.push(Decision::new(Outcome::Ignored, reason));
                return false;
            }
            Some(LeftOut::New(names)) => {
                // A glob may match one of these only because nobody knows that it is a cache.
                all.retain(|arn| !names.contains(arn.name()));
                let reason = format!(
                    "{} image repositories are new: the next reconcile reads the rules about caches of other \
                     registries, and the one after it looks at them",
                    names.len()
                );
                self.log.push(Decision::new(Outcome::Ignored, reason).about("count", names.len().to_string()));
                return false;
            }
            Some(LeftOut::UnknownCaches(error)) => {
                all.retain(|arn| !is_matched(arn));
                error
            }
            Some(LeftOut::Unlisted(error)) => error,
        };
        self.is_unlisted = true;
        if error.is_refused() {
            self.log.push(needs_repair(&error.into()));
        } else {
            self.first_failure.get_or_insert(error.into());
        }
        false
    }

    async fn read_rows(&mut self, pass: ReadRow, all: &[RepositoryArn]) -> Result<Stored, sekisho_ledger::Error> {
        let pass = pass?;
        let keys: Vec<Key> = all.iter().map(repository::key).collect();
        let rows = self.run.world.ledger().read_many::<RepositoryRow>(&keys).await?;
        let mut repositories = BTreeMap::new();
        for (repository, row) in all.iter().zip(rows) {
            match row {
                Ok(row) => drop(repositories.insert(repository.clone(), Snapshot::from(row))),
                Err(error) => self.log.push(needs_repair(&error.into())),
            }
        }
        Ok(Stored { pass: Snapshot::from(pass), repositories })
    }

    /// Examines the repositories, several at a time.
    async fn look_at_all(&mut self, all: &[RepositoryArn], stored: &Stored) {
        let permits = Semaphore::new(CONCURRENT_READS);
        let (decisions, mut received) = mpsc::unbounded_channel();
        let Stored { pass: Snapshot { row: ReconcileRow { globs, caches, reached, .. }, .. }, repositories: rows } =
            stored;
        let (caches, began, reached) = (caches.as_ref(), self.began, *reached);
        let look = Look { run: self.run, permits: &permits, globs, caches, began, reached, decisions };
        let readable: Vec<_> = all.iter().filter_map(|repository| Some((repository, rows.get(repository)?))).collect();
        let mut answers = stream::iter(readable)
            .map(async |(repository, row)| (repository, look.at(repository, row).await))
            .buffer_unordered(CONCURRENT_REPOSITORIES);
        loop {
            tokio::select! {
                // A seed of the model test must always lead to the same history.
                biased;
                answer = answers.next() => match answer {
                    Some((repository, looked)) => self.add_looked(repository, looked),
                    None => break,
                },
                Some(decision) = received.recv() => self.log.push(decision),
            }
            if self.log.unstored().len() >= STORE_AFTER {
                self.record().await;
            }
        }
        while let Ok(decision) = received.try_recv() {
            self.log.push(decision);
        }
    }

    fn add_looked(&mut self, repository: &RepositoryArn, looked: Looked) {
        self.unchanged += looked.unchanged;
        self.references.extend(looked.unmoved);
        self.moved.extend(looked.moved);
        if looked.is_incomplete {
            self.not_reached.insert(repository.clone());
        }
        if looked.is_out_of_time {
            self.out_of_time.insert(repository.clone());
        }
        if self.first_failure.is_none() {
            self.first_failure = looked.failure;
        }
        if let Some(names) = looked.branches {
            self.found.push(Branches { repository: repository.clone(), names });
        }
    }

    /// The targets of repositories that were not examined. A target that joins gets the newest head of all its
    /// references, so these targets wait for a while. A repository that cannot be examined before a person fixes it
    /// counts as examined.
    fn unexamined(&self, incomplete: &[SourceKind], row: &ReconcileRow) -> BTreeSet<TargetId> {
        let patience = u64::try_from(JOIN_PATIENCE.as_millis()).unwrap_or(u64::MAX);
        let now = epoch_millis(self.run.now());
        if row.incomplete_since.is_some_and(|since| now >= since.saturating_add(patience)) {
            return BTreeSet::new();
        }
        let is_open = |route: &&Route| {
            self.not_reached.iter().any(|repository| route.covers_repository(repository))
                || incomplete.contains(&route.source()) && route.repository().literal().is_none()
        };
        routes_here(self.run.routes, &self.run.invocation.region)
            .filter(is_open)
            .flat_map(Route::targets)
            .map(Target::id)
            .collect()
    }

    fn add(&mut self, report: Report) {
        self.log.extend(report.log.into_decisions());
        if let Some(error) = report.failure {
            // The next reconcile tries again, so a repetition of the whole reconcile would only add to the load.
            let reason = format!("{}; the next reconcile tries again", sekisho_lambda::failure::chain(&error));
            self.log.push(Decision::new(Outcome::Ignored, reason));
        }
    }

    /// The row after this reconcile. The next one begins with the first repository for which no time was left, and
    /// otherwise with the first one that failed. If a reconcile cannot even finish its first repository, the next one
    /// begins with another one.
    fn next_row(&self, all: &[RepositoryArn], incomplete: &[SourceKind], stored: &ReconcileRow) -> ReconcileRow {
        let is_complete = incomplete.is_empty();
        let first = |open: &BTreeSet<RepositoryArn>| {
            let mut open = all.iter().filter(|one| open.contains(*one));
            let first = open.next();
            let next = if first == all.first() { open.next().or(first) } else { first };
            next.map(|repository| repository.resource().to_owned())
        };
        let next = first(&self.out_of_time).or_else(|| first(&self.not_reached));
        // Without the list of all repositories, the stored repository may be one that was not examined.
        let next = if is_complete { next } else { next.or_else(|| stored.next.clone()) };
        let is_incomplete = !is_complete || !self.not_reached.is_empty();
        let since = || stored.incomplete_since.unwrap_or_else(|| epoch_millis(self.run.now()));
        let is_git = |one: &RepositoryArn| one.kind() == SourceKind::Git;
        let is_git_incomplete = incomplete.contains(&SourceKind::Git) || self.not_reached.iter().any(is_git);
        let reached = if is_git_incomplete { stored.reached } else { Some(stored.reached_after(self.began)) };
        ReconcileRow { next, incomplete_since: is_incomplete.then(since), reached, ..stored.clone() }
    }

    /// Writes the globs of the routes, if they changed, before a look depends on them, and the rules about caches if
    /// they were read.
    async fn write_globs(&mut self, stored: &mut Snapshot<ReconcileRow>, caches: Option<Caches>) {
        let Run { routes, invocation, .. } = self.run;
        let globs = stored.row.globs.configured(routes, &invocation.region, epoch_millis(self.run.now()));
        let caches = caches.or_else(|| stored.row.caches.clone());
        self.write_row(ReconcileRow { globs, caches, ..stored.row.clone() }, stored).await;
    }

    /// Writes the row if it differs from the stored one.
    async fn write_row(&mut self, row: ReconcileRow, stored: &mut Snapshot<ReconcileRow>) {
        if row == stored.row {
            return;
        }
        stored.row = row;
        let writer = &self.run.invocation.request_id;
        match self.run.world.ledger().write(&reconcile_row::key(), &stored.row, stored.revision, writer).await {
            Ok(revision) => stored.revision = Some(revision),
            // Another reconcile wrote the row, also with the globs of these routes.
            Err(sekisho_ledger::Error::Changed(_)) => {}
            Err(error) => self.add(Error::from(error).into()),
        }
    }

    fn finish(mut self) -> Report {
        if self.unchanged > 0 {
            let reason = format!(
                "for {} routed references, the head was already relayed or touches no routed path",
                self.unchanged
            );
            self.log.push(Decision::new(Outcome::Duplicate, reason));
        }
        if let Some(first) = self.not_reached.first() {
            let why = self.first_failure.as_ref().map(|error| sekisho_lambda::failure::chain(error));
            let why = why.unwrap_or_else(|| "no time was left".to_owned());
            let count = self.not_reached.len();
            let reason = format!(
                "{count} repositories were not reached, the first: {}: {why}; the next reconcile begins with one of \
                 them",
                first.name()
            );
            self.log.push(Decision::new(Outcome::Ignored, reason).about("count", count.to_string()));
        } else if let Some(error) = &self.first_failure {
            let why = sekisho_lambda::failure::chain(error);
            self.log.push(Decision::new(Outcome::Ignored, format!("some repositories are not known: {why}")));
        }
        if self.log.is_empty() {
            let reason = "no existing branch, known tag or image tag matches a route, and no order is open";
            self.log.push(Decision::new(Outcome::Ignored, reason));
        }
        Report { log: self.log, failure: None }
    }
}
