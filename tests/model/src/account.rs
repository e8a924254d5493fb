//! Both accounts as the functions see them: branches, ledgers, buses and pipelines, with their faults.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use event_relay::world as relay;
use pipeline_starter::world as starter;
use sekisho_domain::account::Region;
use sekisho_domain::change::CommitId;
use sekisho_domain::decision::Decision;
use sekisho_domain::notice::Notice;
use sekisho_domain::route::PipelineName;
use sekisho_lambda::ServiceError;
use sekisho_lambda::service_error::Kind;
use sekisho_ledger::{Error, Key, Memory, Row, Store};
use serde::Serialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;

/// The time for which this model's CodePipeline recognizes a client request token.
const TOKEN_KNOWN: time::Duration = time::Duration::minutes(3);

/// The delay after which this model's CodePipeline lists an execution.
const LAG: time::Duration = time::Duration::seconds(5);

/// The paths that commits touch. A list of changed paths has one path per page, in this order. One route watches only
/// the last path.
pub(crate) const PATHS: [&str; 3] = ["README.md", "web/index.html", "api/main.rs"];

/// The content of a commit: for each path, the number of the commit that changed the path last.
pub(crate) type Tree = BTreeMap<&'static str, u64>;

/// An execution of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Execution {
    pub(crate) id: String,
    pub(crate) commit: CommitId,
    pub(crate) token: String,
    at: OffsetDateTime,
    pub(crate) running: bool,
}

/// The state of the model that lasts longer than an invocation.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) rng: RefCell<fastrand::Rng>,
    pub(crate) now: Cell<OffsetDateTime>,
    /// Whether calls can fail. At the end of a history, no call fails.
    pub(crate) faults: Cell<bool>,
    pub(crate) branches: RefCell<BTreeMap<String, CommitId>>,
    /// All heads of each branch so far, in order.
    pub(crate) heads: RefCell<BTreeMap<String, Vec<CommitId>>>,
    pub(crate) trees: RefCell<BTreeMap<CommitId, Tree>>,
    pub(crate) relay_ledger: Memory,
    pub(crate) starter_ledger: Memory,
    /// The details of the events on the pipeline account's bus.
    pub(crate) bus: RefCell<VecDeque<String>>,
    /// The details of all events that were ever put on the bus.
    pub(crate) relayed: RefCell<BTreeSet<String>>,
    /// event-relay's dead-letter queue.
    pub(crate) relay_dead: RefCell<VecDeque<String>>,
    pub(crate) pipelines: RefCell<BTreeMap<String, Vec<Execution>>>,
    /// Pipelines that do not exist at the moment.
    pub(crate) missing: RefCell<BTreeSet<String>>,
    /// The percentage of starts that CodePipeline defers.
    pub(crate) busy: Cell<u32>,
    /// The most executions of one pipeline that may run at the same time.
    pub(crate) room: Cell<usize>,
}

impl Shared {
    pub(crate) fn chance(&self, percent: u32) -> bool {
        self.rng.borrow_mut().u32(0..100) < percent
    }

    /// A random number below `n`, or 0 if `n` is 0.
    pub(crate) fn below(&self, n: usize) -> usize {
        if n == 0 { 0 } else { self.rng.borrow_mut().usize(0..n) }
    }

    /// Decides at random whether a call fails. After the end of the faults, no call fails.
    fn fails(&self, percent: u32) -> bool {
        self.faults.get() && self.chance(percent)
    }
}

/// One of the two accounts, as its function sees it.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) shared: Rc<Shared>,
    ledger: Ledger,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    Relay,
    Starter,
}

impl Account {
    pub(crate) fn new(shared: &Rc<Shared>, duty: Duty) -> Self {
        Self { shared: shared.clone(), ledger: Ledger { shared: shared.clone(), duty } }
    }
}

/// Yields once, so that the history can run another invocation or crash this invocation.
async fn give_way() {
    let mut given = false;
    std::future::poll_fn(|context| {
        if given {
            return std::task::Poll::Ready(());
        }
        given = true;
        // The waker must be called, because a future that joins other futures polls only the futures that were woken.
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

async fn sleep(shared: &Shared, time: Duration) {
    let until = shared.now.get() + time;
    while shared.now.get() < until {
        give_way().await;
    }
}

/// A ledger whose calls sometimes fail, before or after they take effect.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    shared: Rc<Shared>,
    duty: Duty,
}

impl Ledger {
    fn memory(&self) -> &Memory {
        match self.duty {
            Duty::Relay => &self.shared.relay_ledger,
            Duty::Starter => &self.shared.starter_ledger,
        }
    }

    fn out_of_reach(&self, key: &Key) -> Result<(), Error> {
        if self.shared.fails(3) {
            return Err(Error::Unavailable { key: key.clone(), throttled: false, source: "out of reach".into() });
        }
        Ok(())
    }

    async fn call<T>(&self, key: &Key, effect: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        give_way().await;
        self.out_of_reach(key)?;
        let answer = effect.await?;
        give_way().await;
        self.out_of_reach(key)?;
        Ok(answer)
    }
}

impl Store for Ledger {
    async fn read<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<Row<T>>, Error> {
        self.call(key, self.memory().read(key)).await
    }

    async fn list<T: DeserializeOwned>(&self, pk: &str, sk_prefix: &str) -> Result<Vec<Row<T>>, Error> {
        self.call(&Key::state(pk), self.memory().list(pk, sk_prefix)).await
    }

    async fn each<T: DeserializeOwned>(&self, pk: &str, sk_prefix: &str) -> Result<Vec<Result<Row<T>, Error>>, Error> {
        self.call(&Key::state(pk), self.memory().each(pk, sk_prefix)).await
    }

    async fn write<T: Serialize>(
        &self,
        key: &Key,
        state: &T,
        expected: Option<u64>,
        writer: &str,
    ) -> Result<u64, Error> {
        self.call(key, self.memory().write(key, state, expected, writer)).await
    }

    async fn delete(&self, key: &Key, expected: u64) -> Result<(), Error> {
        self.call(key, self.memory().delete(key, expected)).await
    }

    async fn record<O: Serialize>(
        &self,
        function: &str,
        request_id: &str,
        now: OffsetDateTime,
        decisions: &[Decision<O>],
    ) -> Result<(), Error> {
        self.call(&Key::state(function), self.memory().record(function, request_id, now, decisions)).await
    }
}

impl Account {
    /// Begins a call of event-relay to a service. The call may fail before it takes effect.
    async fn begin(&self, call: &'static str) -> Result<(), ServiceError> {
        give_way().await;
        if self.shared.fails(3) {
            return Err(ServiceError::unexpected(call, "the model fails this call").with_kind(Kind::Throttled));
        }
        Ok(())
    }
}

impl relay::World for Account {
    type Ledger = Ledger;

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn now(&self) -> OffsetDateTime {
        self.shared.now.get()
    }

    async fn sleep(&self, time: Duration) {
        sleep(&self.shared, time).await;
    }

    async fn head(&self, _repository: &str, branch: &str) -> Result<relay::Head, ServiceError> {
        self.begin("GetBranch").await?;
        let head = self.shared.branches.borrow().get(branch).cloned();
        // The branch may move before the answer arrives.
        give_way().await;
        Ok(head.map_or(relay::Head::NoBranch, relay::Head::At))
    }

    async fn differences(
        &self,
        _repository: &str,
        before: &CommitId,
        after: &CommitId,
        page: Option<String>,
    ) -> Result<Option<relay::Differences>, ServiceError> {
        self.begin("GetDifferences").await?;
        // After a force-push, one of the commits may not exist any more.
        if self.shared.fails(2) {
            return Ok(None);
        }
        let changed: Vec<String> = {
            let trees = self.shared.trees.borrow();
            let (Some(before), Some(after)) = (trees.get(before), trees.get(after)) else { return Ok(None) };
            let differs = PATHS.iter().filter(|path| before.get(*path) != after.get(*path));
            differs.map(ToString::to_string).collect()
        };
        // Each page has one path.
        let index: usize = page.map_or(0, |page| page.parse().unwrap_or(0));
        let next = (index + 1 < changed.len()).then(|| (index + 1).to_string());
        Ok(Some(relay::Differences { paths: changed.into_iter().skip(index).take(1).collect(), next }))
    }

    async fn branches(&self, _repository: &str) -> Result<Option<Vec<String>>, ServiceError> {
        self.begin("ListBranches").await?;
        Ok(Some(self.shared.branches.borrow().keys().cloned().collect()))
    }

    async fn repositories(&self) -> Result<Vec<String>, ServiceError> {
        self.begin("ListRepositories").await?;
        Ok(vec!["shop".to_owned()])
    }

    async fn put_events(&self, _region: &Region, entries: &[relay::Entry]) -> Vec<relay::EntryResult> {
        give_way().await;
        let mut taken = Vec::new();
        for entry in entries {
            if self.shared.fails(10) {
                taken.push(relay::EntryResult::Retryable("ThrottlingException".to_owned()));
            } else if self.shared.fails(3) {
                taken.push(relay::EntryResult::Refused("AccessDeniedException".to_owned()));
            } else {
                self.shared.bus.borrow_mut().push_back(entry.detail.clone());
                self.shared.relayed.borrow_mut().insert(entry.detail.clone());
                // The bus has accepted the event, but the answer may be lost.
                let lost = self.shared.fails(5);
                taken.push(if lost {
                    relay::EntryResult::Retryable("no answer".to_owned())
                } else {
                    relay::EntryResult::Accepted
                });
            }
        }
        give_way().await;
        taken
    }

    async fn dead_letter(&self, body: String) -> Result<(), ServiceError> {
        self.begin("SendMessage").await?;
        self.shared.relay_dead.borrow_mut().push_back(body);
        give_way().await;
        Ok(())
    }
}

impl starter::World for Account {
    type Ledger = Ledger;

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn now(&self) -> OffsetDateTime {
        self.shared.now.get()
    }

    async fn sleep(&self, time: Duration) {
        sleep(&self.shared, time).await;
    }

    async fn start(&self, start: &starter::PipelineStart) -> starter::StartAnswer {
        give_way().await;
        let shared = &self.shared;
        if shared.fails(shared.busy.get()) {
            return starter::StartAnswer::Deferred("ThrottlingException".to_owned());
        }
        if shared.missing.borrow().contains(start.pipeline.as_str()) {
            return starter::StartAnswer::Rejected("PipelineNotFoundException".to_owned());
        }
        let id = {
            let mut pipelines = shared.pipelines.borrow_mut();
            let executions = pipelines.entry(start.pipeline.to_string()).or_default();
            let now = shared.now.get();
            let known = executions.iter().find(|known| known.token == start.token && known.at + TOKEN_KNOWN > now);
            match known {
                Some(known) => known.id.clone(),
                None if executions.iter().filter(|execution| execution.running).count() >= shared.room.get() => {
                    return starter::StartAnswer::Deferred(
                        "ConcurrentPipelineExecutionsLimitExceededException".to_owned(),
                    );
                }
                None => {
                    let id = format!("{}-{}", start.pipeline, executions.len());
                    let execution = Execution {
                        id: id.clone(),
                        commit: start.commit.clone(),
                        token: start.token.clone(),
                        at: now,
                        running: true,
                    };
                    executions.push(execution);
                    id
                }
            }
        };
        give_way().await;
        // The execution has started, but the answer may be lost.
        if shared.fails(5) {
            starter::StartAnswer::Deferred("no answer".to_owned())
        } else {
            starter::StartAnswer::Started(id)
        }
    }

    async fn find_execution(
        &self,
        pipeline: &PipelineName,
        commit: &CommitId,
        since: OffsetDateTime,
    ) -> Result<Option<String>, ServiceError> {
        give_way().await;
        if self.shared.fails(3) {
            let error = ServiceError::unexpected("codepipeline:ListPipelineExecutions", "throttled");
            return Err(error.with_kind(Kind::Throttled));
        }
        let pipelines = self.shared.pipelines.borrow();
        let executions = pipelines.get(pipeline.as_str()).map(Vec::as_slice).unwrap_or_default();
        // As long as there are faults, an execution that has just started is not listed yet.
        let listed = self.shared.now.get() - if self.shared.faults.get() { LAG } else { time::Duration::ZERO };
        let is_it =
            |execution: &&Execution| execution.commit == *commit && execution.at >= since && execution.at <= listed;
        let found = executions.iter().rev().find(is_it);
        Ok(found.map(|execution| execution.id.clone()))
    }

    async fn failure_details(
        &self,
        _pipeline: &str,
        _execution: &str,
    ) -> Result<starter::FailureDetails, ServiceError> {
        give_way().await;
        Ok(starter::FailureDetails::default())
    }

    async fn execution_commit(&self, _pipeline: &str, _execution: &str) -> Result<Option<String>, ServiceError> {
        give_way().await;
        Ok(None)
    }

    async fn publish(&self, _notice: &Notice) -> Result<(), ServiceError> {
        give_way().await;
        Ok(())
    }
}
