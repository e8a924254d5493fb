//! One random history, from its first push to the quiet after the last redrive.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use event_relay::Relay;
use pipeline_starter::handler::Starter;
use sekisho_domain::change::{CommitId, RELAY_DETAIL_TYPE, RELAY_SOURCE};
use sekisho_domain::config::Document;
use sekisho_lambda::Invocation;
use sekisho_ledger::Memory;
use serde_json::json;
use time::{Duration, OffsetDateTime};

use crate::account::{Account, Duty, PATHS, Shared, Tree};
use crate::check::{self, Broken};

const REPOSITORIES: &str = "111111111111";
const PIPELINES: &str = "222222222222";
const REGION: &str = "ap-northeast-1";
/// The functions' timeout, in the template.
const TIMEOUT: Duration = Duration::seconds(45);
/// Lambda tries an asynchronous invocation again after one minute and after two.
const RETRIES: [Duration; 2] = [Duration::minutes(1), Duration::minutes(2)];
/// Steps of a history before its faults end.
const STEPS: usize = 250;
/// Steps after which a history that does not become quiet is broken.
const PATIENCE: usize = 200_000;

/// Rounds of redriving after which nothing may be left: without faults what is redriven is done.
const ROUNDS: usize = 10;

/// Two pipelines follow `main`, one of them by paths; `release/*` has a third.
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

/// What a history did, so that a test can show that it was one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Pushes of any kind.
    pub pushes: usize,
    /// Events of pushes that were lost.
    pub lost: usize,
    /// Invocations that were dropped between two calls.
    pub crashes: usize,
    /// Invocations that failed and were tried again.
    pub retries: usize,
    /// Messages that were redriven from a dead-letter queue.
    pub redriven: usize,
    /// Changes that the starter could not start in three tries.
    pub starter_dead: usize,
    /// Events that the relay could not see to in three tries.
    pub relay_dead: usize,
    /// Deliveries that a bus refused for good, or did not take.
    pub undelivered: usize,
    /// Executions that were started.
    pub executions: usize,
}

type Answer = Result<usize, String>;

struct Running {
    payload: String,
    duty: Duty,
    request_id: String,
    attempt: usize,
    deadline: OffsetDateTime,
    future: Pin<Box<dyn Future<Output = Answer>>>,
}

struct Asleep {
    payload: String,
    duty: Duty,
    request_id: String,
    attempt: usize,
    not_before: OffsetDateTime,
}

struct History {
    shared: Rc<Shared>,
    relay: Rc<Relay<Account>>,
    starter: Rc<Starter<Account>>,
    /// Events of CodeCommit on their way.
    hints: Vec<String>,
    running: Vec<Running>,
    asleep: Vec<Asleep>,
    starter_dead: Vec<String>,
    requests: u64,
    commits: u64,
    events: u64,
    report: Report,
    /// Much happens within one millisecond.
    crowded: bool,
    /// With so many running invocations nothing new happens: among a hundred, some other always sees to what one missed.
    at_once: usize,
    /// Invocations that ended well and have to have left a decision.
    decided: Vec<String>,
}

/// Runs the history of this seed.
///
/// # Errors
/// Which of the promises was broken.
pub fn run(seed: u64) -> Result<Report, Broken> {
    sekisho_lambda::log::off();
    let routes = Document::parse("model", CONFIG).and_then(|document| document.routes());
    let (Ok(routes), Ok(repository_account)) = (routes, REPOSITORIES.parse()) else {
        return Err(Broken("the model's own configuration is wrong".to_owned()));
    };
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
        // An hour in which CodePipeline takes next to nothing is what makes the starter give up.
        busy: Cell::new(if seed.is_multiple_of(5) { 95 } else { 10 }),
    });
    let mut history = History {
        relay: Rc::new(Relay { world: Account::new(&shared, Duty::Relay), routes: routes.clone() }),
        starter: Rc::new(Starter { world: Account::new(&shared, Duty::Starter), routes, repository_account }),
        shared,
        hints: Vec::new(),
        running: Vec::new(),
        asleep: Vec::new(),
        starter_dead: Vec::new(),
        requests: 0,
        commits: 0,
        events: 0,
        report: Report::default(),
        crowded: seed.is_multiple_of(4),
        at_once: if seed.is_multiple_of(2) { usize::MAX } else { 2 },
        decided: Vec::new(),
    };
    for _ in 0..STEPS {
        history.step();
    }
    history.quiet()?;
    let recorded: BTreeSet<String> = [&history.shared.relay_ledger, &history.shared.starter_ledger]
        .into_iter()
        .flat_map(Memory::rows)
        .filter_map(|(key, _)| key.sk.split('#').nth(1).map(ToOwned::to_owned))
        .collect();
    if let Some(request) = history.decided.iter().find(|request| !recorded.contains(*request)) {
        return Err(Broken(format!("invocation {request} ended well without a decision in the ledger")));
    }
    let report = &mut history.report;
    report.executions = history.shared.pipelines.borrow().values().map(Vec::len).sum();
    check::check(&history.shared)?;
    Ok(history.report)
}

impl History {
    fn below(&self, n: usize) -> usize {
        if n == 0 { 0 } else { self.shared.rng.borrow_mut().usize(0..n) }
    }

    /// One random thing happens.
    fn step(&mut self) {
        let thing = self.below(100);
        match thing {
            0..=41 if self.running.len() >= self.at_once => self.poll(),
            42..=53 if self.crowded && self.below(20) > 0 => self.poll(),
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
            54..=55 => self.crash(),
            // Without it no invocation lives to its third try.
            56..=57 => self.pass(Duration::minutes(1)),
            39..=40 | 58..=59 => self.wake(),
            _ => self.poll(),
        }
    }

    /// No more faults: everything on its way arrives, what failed is redriven, a reconcile looks.
    fn quiet(&mut self) -> Result<(), Broken> {
        self.shared.faults.set(false);
        self.shared.missing.borrow_mut().clear();
        self.shared.room.set(usize::MAX);
        for round in 0..ROUNDS {
            self.settle()?;
            let dead: Vec<(String, Duty)> = {
                let relay =
                    self.shared.relay_dead.borrow_mut().drain(..).map(|body| (body, Duty::Relay)).collect::<Vec<_>>();
                relay.into_iter().chain(self.starter_dead.drain(..).map(|body| (body, Duty::Starter))).collect()
            };
            if dead.is_empty() && round > 1 {
                return Ok(());
            }
            self.report.redriven += dead.len();
            self.report.undelivered += dead.iter().filter(|(body, _)| body.contains("\"redeliver\"")).count();
            for (payload, duty) in dead {
                self.invoke(payload, duty);
            }
            self.reconcile();
        }
        Err(Broken(format!("after {ROUNDS} rounds of redriving something is dead yet")))
    }

    fn settle(&mut self) -> Result<(), Broken> {
        for _ in 0..PATIENCE {
            while !self.hints.is_empty() {
                self.deliver_hint();
            }
            while !self.shared.bus.borrow().is_empty() {
                self.deliver_change();
            }
            self.wake();
            let before = self.running.len();
            self.poll();
            let still = self.running.len() == before;
            if self.running.is_empty() && self.asleep.is_empty() && self.shared.bus.borrow().is_empty() {
                return Ok(());
            }
            // Who sleeps or waits for a lease needs the time to pass.
            if still && self.below(8) == 0 {
                self.pass(Duration::seconds(1));
            }
            if self.running.is_empty() {
                self.pass(Duration::seconds(30));
            }
        }
        Err(Broken(format!("it does not become quiet: {} invocations run", self.running.len())))
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

    /// A force-push to any commit that there has been.
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

    /// CodeCommit's event: best effort, so that some are lost.
    fn hint(&mut self, branch: &str, kind: &str, commit: Option<&CommitId>) {
        self.events += 1;
        if self.shared.chance(20) {
            self.report.lost += 1;
            return;
        }
        let detail = json!({
            "event": kind, "repositoryName": "shop", "referenceType": "branch", "referenceName": branch,
            "referenceFullName": format!("refs/heads/{branch}"), "commitId": commit, "callerUserArn": "arn:aws:iam::111111111111:user/dev",
        });
        let event = envelope(
            &format!("hint-{}", self.events),
            "aws.codecommit",
            "CodeCommit Repository State Change",
            REPOSITORIES,
            &detail,
        );
        self.hints.push(event);
    }

    /// In any order, and some twice.
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
        self.invoke(event, Duty::Relay);
    }

    fn reconcile(&mut self) {
        self.events += 1;
        let event =
            envelope(&format!("tick-{}", self.events), "aws.events", "Scheduled Event", REPOSITORIES, &json!({}));
        self.invoke(event, Duty::Relay);
    }

    /// In any order, and some twice.
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
        let event =
            envelope(&format!("change-{}", self.events), RELAY_SOURCE, RELAY_DETAIL_TYPE, REPOSITORIES, &detail);
        self.invoke(event, Duty::Starter);
    }

    /// An execution ends, and its event comes, or is lost.
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
        let detail = json!({"pipeline": pipeline, "execution-id": id, "state": state, "version": 1});
        self.events += 1;
        let event = envelope(
            &format!("end-{}", self.events),
            "aws.codepipeline",
            "CodePipeline Pipeline Execution State Change",
            PIPELINES,
            &detail,
        );
        self.invoke(event, Duty::Starter);
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
        // Lambda ends who is over time; a lease lasts longer than that.
        while let Some(index) = self.running.iter().position(|running| running.deadline <= self.shared.now.get()) {
            let over = self.running.swap_remove(index);
            self.again(over);
        }
    }

    fn crash(&mut self) {
        if !self.running.is_empty() {
            let crashed = self.running.swap_remove(self.below(self.running.len()));
            self.report.crashes += 1;
            self.again(crashed);
        }
    }

    /// Lambda tries it twice more; then it is the dead-letter queue's.
    fn again(&mut self, failed: Running) {
        let Running { payload, duty, request_id, attempt, .. } = failed;
        match RETRIES.get(attempt) {
            Some(pause) => {
                self.report.retries += 1;
                let not_before = self.shared.now.get() + *pause;
                self.asleep.push(Asleep { payload, duty, request_id, attempt: attempt + 1, not_before });
            }
            None => match duty {
                Duty::Relay => {
                    self.report.relay_dead += 1;
                    self.shared.relay_dead.borrow_mut().push_back(payload);
                }
                Duty::Starter => {
                    self.report.starter_dead += 1;
                    self.starter_dead.push(payload);
                }
            },
        }
    }

    fn wake(&mut self) {
        let now = self.shared.now.get();
        if let Some(index) = self.asleep.iter().position(|asleep| asleep.not_before <= now) {
            let Asleep { payload, duty, request_id, attempt, .. } = self.asleep.swap_remove(index);
            self.start(payload, duty, request_id, attempt);
        }
    }

    fn invoke(&mut self, payload: String, duty: Duty) {
        self.requests += 1;
        let request_id = format!("request-{}", self.requests);
        self.start(payload, duty, request_id, 0);
    }

    fn start(&mut self, payload: String, duty: Duty, request_id: String, attempt: usize) {
        let deadline = self.shared.now.get() + TIMEOUT;
        let (Ok(own), Ok(region)) =
            ((if duty == Duty::Relay { REPOSITORIES } else { PIPELINES }).parse(), REGION.parse())
        else {
            return;
        };
        let invocation = Invocation {
            request_id: request_id.clone(),
            partition: "aws".to_owned(),
            account: own,
            region,
            function: "model".to_owned(),
            deadline,
        };
        let text = payload.clone();
        let future: Pin<Box<dyn Future<Output = Answer>>> = match duty {
            Duty::Relay => {
                let relay = self.relay.clone();
                Box::pin(async move {
                    relay.handle(&text, &invocation).await.map(|d| d.decisions.len()).map_err(|error| error.to_string())
                })
            }
            Duty::Starter => {
                let starter = self.starter.clone();
                Box::pin(async move {
                    let answer = starter.handle(&text, &invocation).await;
                    answer.map(|d| d.decisions.len()).map_err(|error| error.to_string())
                })
            }
        };
        self.running.push(Running { payload, duty, request_id, attempt, deadline, future });
    }

    /// One step of one running invocation.
    fn poll(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let index = self.below(self.running.len());
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(answer) = self.running[index].future.as_mut().poll(&mut context) else { return };
        let done = self.running.swap_remove(index);
        match answer {
            Err(_) => self.again(done),
            Ok(_) => self.decided.push(done.request_id),
        }
    }
}

fn envelope(id: &str, source: &str, detail_type: &str, account: &str, detail: &serde_json::Value) -> String {
    json!({
        "version": "0", "id": id, "source": source, "detail-type": detail_type, "account": account, "region": REGION,
        "time": "2026-11-21T12:00:00Z", "resources": [], "detail": detail,
    })
    .to_string()
}
