//! A pipeline account to test in: CodePipeline and SNS that do as they are told, and remember each call.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use futures_util::FutureExt;
use pipeline_starter::claim::{self, State};
use pipeline_starter::handler::{Error, Outcome, Starter};
use pipeline_starter::notice::Failed;
use pipeline_starter::world::{Start, Started, Unanswered, World};
use sekisho_domain::change::{Change, CommitId, GitRef, SourceChange};
use sekisho_domain::config::Document;
use sekisho_domain::decision::{Decision, Decisions};
use sekisho_domain::notice::Notice;
use sekisho_lambda::Invocation;
use sekisho_ledger::{Key, Memory, Row, Store};
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::time::Instant;

pub const COMMITTED: &str = include_str!("../../../../config/sekisho.toml");
pub const START: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);
/// The function's timeout.
pub const TIMEOUT: Duration = Duration::from_secs(45);
/// The sequence of `change.json`.
pub const SEQUENCE: u64 = 1_795_312_345_678;
pub const FULL: &str = "ConcurrentPipelineExecutionsLimitExceededException: no more for now";

type Answer = Box<dyn FnMut(&Start) -> Started>;

pub struct Account {
    pub ledger: Memory,
    began: Instant,
    /// What CodePipeline says to a start; unless told otherwise, execution `e1`, `e2`, ….
    pub codepipeline: RefCell<Answer>,
    pub started: RefCell<Vec<Start>>,
    /// What a search for a start whose answer was lost finds.
    pub found: RefCell<Option<String>>,
    pub search_is_down: Cell<bool>,
    pub searched: RefCell<Vec<(CommitId, OffsetDateTime)>>,
    pub failed: RefCell<Failed>,
    pub told: RefCell<Vec<Notice>>,
    pub topic_is_down: Cell<bool>,
    pub calls: RefCell<Vec<String>>,
}

impl Account {
    fn new() -> Self {
        let mut executions = 0;
        let execution = move |_: &Start| {
            executions += 1;
            Started::Execution(format!("e{executions}"))
        };
        Self {
            ledger: Memory::default(),
            began: Instant::now(),
            codepipeline: RefCell::new(Box::new(execution)),
            started: RefCell::default(),
            found: RefCell::default(),
            search_is_down: Cell::new(false),
            searched: RefCell::default(),
            failed: RefCell::new(Failed {
                place: Some("Build / Build".to_owned()),
                reason: Some("exit status 1".to_owned()),
                commit: Some("1f0c2a9be4d5760f8c3b7a6e5d4c3b2a19080706".to_owned()),
            }),
            told: RefCell::default(),
            topic_is_down: Cell::new(false),
            calls: RefCell::default(),
        }
    }

    fn call(&self, what: impl Into<String>) {
        self.calls.borrow_mut().push(what.into());
    }
}

impl World for Account {
    type Ledger = Memory;

    fn ledger(&self) -> &Memory {
        &self.ledger
    }

    fn now(&self) -> OffsetDateTime {
        START + self.began.elapsed()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    async fn start(&self, start: &Start) -> Started {
        self.call(format!("StartPipelineExecution {}", start.pipeline));
        self.started.borrow_mut().push(start.clone());
        (self.codepipeline.borrow_mut())(start)
    }

    async fn find(
        &self,
        pipeline: &str,
        commit: &CommitId,
        since: OffsetDateTime,
    ) -> Result<Option<String>, Unanswered> {
        self.call(format!("ListPipelineExecutions {pipeline}"));
        if self.search_is_down.get() {
            return Err(Unanswered { what: "CodePipeline did not list".to_owned(), throttled: true, source: None });
        }
        self.searched.borrow_mut().push((commit.clone(), since));
        Ok(self.found.borrow().clone())
    }

    async fn why_failed(&self, pipeline: &str, execution: &str) -> Result<Failed, Unanswered> {
        self.call(format!("ListActionExecutions {pipeline} {execution}"));
        Ok(self.failed.borrow().clone())
    }

    async fn tell(&self, notice: &Notice) -> Result<(), Unanswered> {
        self.call("Publish");
        if self.topic_is_down.get() {
            return Err(Unanswered { what: "SNS did not take a notice".to_owned(), throttled: true, source: None });
        }
        self.told.borrow_mut().push(notice.clone());
        Ok(())
    }
}

/// The function in that account.
pub struct Function {
    pub starter: Starter<Account>,
    requests: Cell<u32>,
}

impl Function {
    /// With the committed configuration.
    pub fn new() -> Self {
        Self::with(COMMITTED)
    }

    pub fn with(config: &str) -> Self {
        sekisho_lambda::log::off();
        let routes = Document::parse("sekisho.toml", config).unwrap().routes().unwrap();
        let repository_account = "111111111111".parse().unwrap();
        Self { starter: Starter { world: Account::new(), routes, repository_account }, requests: Cell::new(0) }
    }

    pub fn world(&self) -> &Account {
        &self.starter.world
    }

    pub async fn handle(&self, payload: &str) -> Result<Decisions<Outcome>, Error> {
        self.requests.set(self.requests.get() + 1);
        let invocation = Invocation {
            request_id: format!("request-{}", self.requests.get()),
            partition: "aws".to_owned(),
            account: "222222222222".parse().unwrap(),
            region: "ap-northeast-1".parse().unwrap(),
            function: "sekisho-pipeline-starter".to_owned(),
            deadline: self.world().now() + TIMEOUT,
        };
        self.starter.handle(payload, &invocation).await
    }

    /// The one decision about a payload.
    pub async fn decide(&self, payload: &str) -> Decision<Outcome> {
        let mut decisions = self.handle(payload).await.unwrap().decisions;
        assert_eq!(decisions.len(), 1, "{decisions:?}");
        decisions.remove(0)
    }

    pub fn says(&self, codepipeline: impl FnMut(&Start) -> Started + 'static) {
        *self.world().codepipeline.borrow_mut() = Box::new(codepipeline);
    }

    /// The calls since the last time.
    pub fn calls(&self) -> Vec<String> {
        self.world().calls.take()
    }

    pub fn row(&self, pipeline: &str) -> Option<Row<State>> {
        self.world().ledger.read(&key(pipeline)).now_or_never().unwrap().unwrap()
    }

    /// Writes a pipeline's row of `main`, as another invocation would.
    pub fn write(&self, pipeline: &str, state: &State) {
        let revision = self.row(pipeline).map(|row| row.revision);
        let key = key(pipeline);
        let written = self.world().ledger.write(&key, state, revision, "another");
        written.now_or_never().unwrap().unwrap();
    }

    /// Decisions in the ledger, as JSON.
    pub fn recorded(&self) -> Vec<Value> {
        #[derive(Deserialize)]
        struct Recorded {
            decisions: Vec<Value>,
        }
        let rows = self.world().ledger.list::<Recorded>("decision#pipeline-starter#2026-11-21", "");
        rows.now_or_never().unwrap().unwrap().into_iter().flat_map(|row| row.state.decisions).collect()
    }
}

fn key(pipeline: &str) -> Key {
    let main: GitRef = "refs/heads/main".parse().unwrap();
    claim::key(&pipeline.parse().unwrap(), &change(0).repository, &main)
}

/// The change of `change.json`, so many sequences later; each has its own commit.
pub fn change(later: u64) -> Change {
    let event: Value = serde_json::from_str(&file("change")).unwrap();
    let mut change: Change = serde_json::from_value(event["detail"]["change"].clone()).unwrap();
    change.sequence += later;
    if later > 0 {
        change.commit = format!("{later:040x}").parse().unwrap();
    }
    change
}

/// The event of that change for these pipelines.
pub fn event(change: Change, pipelines: &[&str]) -> String {
    let mut event: Value = serde_json::from_str(&file("change")).unwrap();
    event["detail"] = json!(SourceChange::new(change, pipelines.iter().map(ToString::to_string).collect()));
    event.to_string()
}

pub fn directory() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events/pipeline-starter")
}

pub fn file(name: &str) -> String {
    let path = directory().join(format!("{name}.json"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
