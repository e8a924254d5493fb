//! One random history. It begins with the first push, and ends when no event is left to process after the last redrive.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use event_relay::Relay;
use pipeline_starter::Starter;
use sekisho_domain::change::CommitId;
use sekisho_domain::config::Document;
use sekisho_domain::route::Routes;
use sekisho_lambda::Invocation;
use sekisho_ledger::Memory;
use time::{Duration, OffsetDateTime};

use crate::account::{Account, Duty, PATHS, Shared, Tree};
use crate::check::{self, Broken};
use crate::event::{self, REPOSITORY_ACCOUNT};
use crate::lambda::{AnswerFuture, Lambda};

/// The number of steps in a history before the faults end.
const STEPS: usize = 250;
/// After this many steps without faults, no event may be on its way and no invocation may run.
const MAX_SETTLE_STEPS: usize = 200_000;
/// The most rounds of redriving. Without faults a redriven event succeeds, so the dead-letter queues must be empty
/// after these rounds.
const MAX_ROUNDS: usize = 10;

/// Two pipelines follow the branch `main`, and one of these two only for some paths. A third pipeline follows
/// `release/*`.
pub(crate) const CONFIG: &str = r#"
    [[route]]
    repository = "shop"
    branches = ["main"]
    [[route.target]]
    account = "222222222222"
    region = "ap-northeast-1"
    pipeline = "all"
    action = "Source"
    [[route]]
    repository = "shop"
    branches = ["main"]
    paths = ["api/**", "!**/*.md"]
    [[route.target]]
    account = "222222222222"
    region = "ap-northeast-1"
    pipeline = "api"
    action = "Source"
    [[route]]
    repository = "sh*"
    branches = ["release/*"]
    [[route.target]]
    account = "222222222222"
    region = "ap-northeast-1"
    pipeline = "release"
    action = "Source"
"#;

const BRANCHES: [&str; 3] = ["main", "release/1", "other"];

/// The number of times that each kind of thing happened in a history. A test checks that each kind happened often
/// enough.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Pushes, including force-pushes.
    pub pushes: usize,
    /// Lost events about a push or a deletion.
    pub lost: usize,
    /// Invocations that crashed between two calls.
    pub crashes: usize,
    /// Retries of failed invocations.
    pub retries: usize,
    /// Messages that were sent again from the dead-letter queues.
    pub redriven: usize,
    /// Changes that pipeline-starter could not start in three attempts.
    pub starter_dead: usize,
    /// Events that event-relay could not handle in three attempts.
    pub relay_dead: usize,
    /// Deliveries that a bus refused permanently, or did not accept in time.
    pub undelivered: usize,
    /// Started executions.
    pub executions: usize,
}

struct History {
    shared: Rc<Shared>,
    lambda: Lambda,
    /// The events of CodeCommit that were not delivered yet.
    hints: Vec<String>,
    commits: u64,
    events: u64,
    report: Report,
    /// Whether time passes rarely, so that many things happen within one millisecond.
    is_crowded: bool,
    /// While this many invocations run, no push, event, reconcile or end of an execution happens. The number is small
    /// in half of the histories. If a hundred invocations ran at once, the model would not find mistakes, because
    /// another invocation would always repair what one invocation missed.
    max_running: usize,
}

/// Runs the history of this seed.
///
/// # Errors
/// The history broke a promise. The error describes the promise.
pub fn run(seed: u64) -> Result<Report, Broken> {
    let routes = Document::parse("model", CONFIG).and_then(|document| document.routes());
    let routes = routes.map_err(|error| Broken(error.to_string()))?;
    let mut history = History::new(seed, routes)?;
    for _ in 0..STEPS {
        history.step();
    }
    history.settle_without_faults()?;
    let recorded: BTreeSet<String> = [&history.shared.relay_ledger, &history.shared.starter_ledger]
        .into_iter()
        .flat_map(Memory::rows)
        .filter_map(|(key, _)| key.sk.split('#').nth(1).map(ToOwned::to_owned))
        .collect();
    if let Some(request) = history.lambda.succeeded.iter().find(|request| !recorded.contains(*request)) {
        return Err(Broken(format!("invocation {request} succeeded without a decision in the ledger")));
    }
    check::check(&history.shared)?;
    Ok(history.into_report())
}

impl History {
    fn new(seed: u64, routes: Routes) -> Result<Self, Broken> {
        let repository_account =
            REPOSITORY_ACCOUNT.parse().map_err(|_| Broken("the account id is wrong".to_owned()))?;
        let shared = Rc::new(Shared {
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
            now: Cell::new(OffsetDateTime::UNIX_EPOCH + Duration::days(20_000)),
            faults: Cell::new(true),
            branches: RefCell::default(),
            heads: RefCell::default(),
            trees: RefCell::default(),
            relay_ledger: Memory::default(),
            starter_ledger: Memory::default(),
            bus: RefCell::default(),
            relayed: RefCell::default(),
            relay_dead: RefCell::default(),
            pipelines: RefCell::default(),
            missing: RefCell::default(),
            room: Cell::new(3),
            // One history in five has the higher percentage, because pipeline-starter gives up a change only if
            // CodePipeline defers nearly every start for an hour.
            busy: Cell::new(if seed.is_multiple_of(5) { 95 } else { 10 }),
        });
        let relay = Rc::new(Relay { world: Account::new(&shared, Duty::Relay), routes: routes.clone() });
        let starter = Rc::new(Starter { world: Account::new(&shared, Duty::Starter), routes, repository_account });
        let handler = move |duty: Duty, payload: String, invocation: Invocation| -> AnswerFuture {
            let (relay, starter) = (relay.clone(), starter.clone());
            match duty {
                Duty::Relay => Box::pin(async move {
                    let answer = relay.handle(&payload, &invocation).await;
                    answer.map(|d| d.decisions.len()).map_err(|error| error.to_string())
                }),
                Duty::Starter => Box::pin(async move {
                    let answer = starter.handle(&payload, &invocation).await;
                    answer.map(|d| d.decisions.len()).map_err(|error| error.to_string())
                }),
            }
        };
        Ok(Self {
            lambda: Lambda::new(&shared, Box::new(handler)),
            shared,
            hints: Vec::new(),
            commits: 0,
            events: 0,
            report: Report::default(),
            is_crowded: seed.is_multiple_of(4),
            max_running: if seed.is_multiple_of(2) { usize::MAX } else { 2 },
        })
    }

    fn into_report(self) -> Report {
        Report {
            crashes: self.lambda.crashes,
            retries: self.lambda.retries,
            relay_dead: self.lambda.relay_dead,
            starter_dead: self.lambda.starter_dead,
            executions: self.shared.pipelines.borrow().values().map(Vec::len).sum(),
            ..self.report
        }
    }

    fn below(&self, n: usize) -> usize {
        self.shared.below(n)
    }

    /// Makes one random thing happen.
    fn step(&mut self) {
        let thing = self.below(100);
        match thing {
            0..=41 if self.lambda.running() >= self.max_running => self.lambda.poll(),
            42..=53 if self.is_crowded && self.below(20) > 0 => self.lambda.poll(),
            0..=6 => self.push(),
            7 => self.push_back(),
            8 => self.delete(),
            9..=20 => self.deliver_hint(),
            21..=22 => self.reconcile(),
            23..=36 => self.deliver_change(),
            37..=38 => self.end_execution(),
            41 => self.toggle_pipeline(),
            42..=47 => self.pass(Duration::milliseconds(1)),
            48..=52 => self.pass(Duration::seconds(1)),
            53 => self.pass(Duration::seconds(20)),
            54..=55 => self.lambda.crash(),
            // Without steps of one minute, no event would reach its third attempt before the end of the history.
            56..=57 => self.pass(Duration::minutes(1)),
            39..=40 | 58..=59 => self.lambda.start_retry(),
            _ => self.lambda.poll(),
        }
    }

    /// Ends all faults and runs until nothing is left to do: every event arrives, failed events are redriven, and
    /// reconciles examine every branch.
    fn settle_without_faults(&mut self) -> Result<(), Broken> {
        self.shared.faults.set(false);
        self.shared.missing.borrow_mut().clear();
        self.shared.room.set(usize::MAX);
        for round in 0..MAX_ROUNDS {
            self.settle()?;
            let dead: Vec<(String, Duty)> = {
                let relay = std::mem::take(&mut *self.shared.relay_dead.borrow_mut());
                let relay = relay.into_iter().map(|body| (body, Duty::Relay));
                relay.chain(self.lambda.starter_failed.drain(..).map(|body| (body, Duty::Starter))).collect()
            };
            if dead.is_empty() && round > 1 {
                return Ok(());
            }
            self.report.redriven += dead.len();
            self.report.undelivered += dead.iter().filter(|(body, _)| body.contains("\"redeliver\"")).count();
            for (payload, duty) in dead {
                self.lambda.invoke(payload, duty);
            }
            self.reconcile();
        }
        Err(Broken(format!("after {MAX_ROUNDS} rounds of redriving, an event still fails")))
    }

    /// Runs until no event is on its way and no invocation runs.
    fn settle(&mut self) -> Result<(), Broken> {
        for _ in 0..MAX_SETTLE_STEPS {
            while !self.hints.is_empty() {
                self.deliver_hint();
            }
            while !self.shared.bus.borrow().is_empty() {
                self.deliver_change();
            }
            self.lambda.start_retry();
            let before = self.lambda.running();
            self.lambda.poll();
            let is_same = self.lambda.running() == before;
            if self.lambda.is_idle() && self.shared.bus.borrow().is_empty() {
                return Ok(());
            }
            // The clock must move forward, because an invocation may sleep or wait for the end of a lease.
            if is_same && self.below(8) == 0 {
                self.pass(Duration::seconds(1));
            }
            if self.lambda.running() == 0 {
                self.pass(Duration::seconds(30));
            }
        }
        Err(Broken(format!("the history does not become quiet: {} invocations run", self.lambda.running())))
    }

    fn push(&mut self) {
        let branch = BRANCHES[self.below(BRANCHES.len())].to_owned();
        let before = self.shared.branches.borrow().get(&branch).cloned();
        let mut tree: Tree =
            before.as_ref().and_then(|commit| self.shared.trees.borrow().get(commit).cloned()).unwrap_or_default();
        self.commits += 1;
        tree.insert(PATHS[self.below(PATHS.len())], self.commits);
        let Ok(commit) = CommitId::try_from(format!("{:040x}", self.commits)) else { return };
        self.shared.trees.borrow_mut().insert(commit.clone(), tree);
        self.point(&branch, &commit, before.as_ref());
    }

    /// Force-pushes a branch to a random earlier commit.
    fn push_back(&mut self) {
        let branch = BRANCHES[self.below(2)].to_owned();
        let commits: Vec<CommitId> = self.shared.trees.borrow().keys().cloned().collect();
        let before = self.shared.branches.borrow().get(&branch).cloned();
        if let Some(commit) = commits.get(self.below(commits.len())) {
            self.point(&branch, commit, before.as_ref());
        }
    }

    fn point(&mut self, branch: &str, commit: &CommitId, before: Option<&CommitId>) {
        self.shared.branches.borrow_mut().insert(branch.to_owned(), commit.clone());
        self.shared.heads.borrow_mut().entry(branch.to_owned()).or_default().push(commit.clone());
        self.report.pushes += 1;
        let kind = if before.is_some() { "referenceUpdated" } else { "referenceCreated" };
        self.hint(branch, kind, Some(commit));
    }

    fn delete(&mut self) {
        let branch = BRANCHES[self.below(BRANCHES.len())];
        if self.shared.branches.borrow_mut().remove(branch).is_some() {
            self.hint(branch, "referenceDeleted", None);
        }
    }

    /// Sends CodeCommit's event about a branch. CodeCommit's events are best effort, so the model loses some of them.
    fn hint(&mut self, branch: &str, kind: &str, commit: Option<&CommitId>) {
        self.events += 1;
        if self.shared.chance(20) {
            self.report.lost += 1;
            return;
        }
        self.hints.push(event::branch_changed(self.events, branch, kind, commit));
    }

    /// Delivers a random event of CodeCommit to event-relay. Some events are delivered twice.
    fn deliver_hint(&mut self) {
        if self.hints.is_empty() {
            return;
        }
        let index = self.below(self.hints.len());
        let event = if self.shared.faults.get() && self.shared.chance(10) {
            self.hints[index].clone()
        } else {
            self.hints.swap_remove(index)
        };
        self.lambda.invoke(event, Duty::Relay);
    }

    fn reconcile(&mut self) {
        self.events += 1;
        self.lambda.invoke(event::schedule(self.events), Duty::Relay);
    }

    /// Delivers a random event from the bus to pipeline-starter. Some events are delivered twice.
    fn deliver_change(&mut self) {
        let detail = {
            let mut bus = self.shared.bus.borrow_mut();
            if bus.is_empty() {
                return;
            }
            let index = self.shared.rng.borrow_mut().usize(0..bus.len());
            let again = self.shared.faults.get() && self.shared.chance(10);
            if again { bus.get(index).cloned() } else { bus.remove(index) }
        };
        let Some(detail) = detail.and_then(|detail| serde_json::from_str::<serde_json::Value>(&detail).ok()) else {
            return;
        };
        self.events += 1;
        self.lambda.invoke(event::source_change(self.events, &detail), Duty::Starter);
    }

    /// Ends a random execution. The event about the end may be lost.
    fn end_execution(&mut self) {
        let ended = {
            let mut pipelines = self.shared.pipelines.borrow_mut();
            let mut running: Vec<_> = pipelines
                .iter_mut()
                .flat_map(|(name, executions)| executions.iter_mut().map(move |execution| (name.clone(), execution)))
                .filter(|(_, execution)| execution.running)
                .collect();
            let index = self.below(running.len());
            running.get_mut(index).map(|(name, execution)| {
                execution.running = false;
                (name.clone(), execution.id.clone())
            })
        };
        let Some((pipeline, id)) = ended else { return };
        if self.shared.chance(20) {
            return;
        }
        let state = if self.shared.chance(30) { "FAILED" } else { "SUCCEEDED" };
        self.events += 1;
        self.lambda.invoke(event::execution_ended(self.events, &pipeline, &id, state), Duty::Starter);
    }

    fn toggle_pipeline(&self) {
        let name = ["all", "api", "release"][self.below(3)].to_owned();
        let mut missing = self.shared.missing.borrow_mut();
        if !missing.remove(&name) {
            missing.insert(name);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.shared.now.set(self.shared.now.get() + time);
        self.lambda.end_late_invocations();
    }
}
