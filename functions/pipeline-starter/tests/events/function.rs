//! The function in a fake account, and the events that the tests send to the function.

use std::cell::Cell;
use std::time::Duration;

use futures_util::FutureExt;
use pipeline_starter::claim::{self, ClaimRow, Progress as ClaimProgress};
use pipeline_starter::fake::FakeAccount;
use pipeline_starter::order::{self, OrderRow};
use pipeline_starter::world::{
    ExecutionStatus, FailureDetails, ListedExecution, ListedRevision, PipelineStart, StartAnswer, World,
};
use pipeline_starter::{Error, Outcome, Starter};
use sekisho_domain::change::{Change, Revision, SourceChange};
use sekisho_domain::config::Document;
use sekisho_domain::decision::{Decision, Decisions};
use sekisho_domain::order::Order;
use sekisho_domain::report::{OrderReport, ReportState};
use sekisho_domain::route::{PipelineName, Routes};
use sekisho_domain::timestamp::{self, epoch_millis};
use sekisho_lambda::Invocation;
use sekisho_ledger::{Row, Store};
use sekisho_testing::cases;
use sekisho_testing::invocation::invocation;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;

pub const COMMITTED_CONFIG: &str = include_str!("../../../../config/sekisho.toml");
/// A configuration in which the pipeline `shop` is a wave that bakes for 30 minutes.
pub const WAVE: &str = r#"
[[route]]
name = "shop"
repository = "shop"
branches = ["main"]
[[route.wave]]
name = "one-box"
bake = "30m"
alarms = ["shop-*", "!shop-noise"]
[[route.wave.target]]
account = "222222222222"
region = "ap-northeast-1"
pipeline = "shop"
action = "Source"
"#;
pub const START: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);
/// The function's timeout in the template.
pub const TIMEOUT: Duration = Duration::from_secs(45);
/// The sequence of `change.json`.
pub const SEQUENCE: u64 = 1_795_312_345_678;
/// CodePipeline's answer to a start if the pipeline already runs as many executions as it can.
pub const PIPELINE_IS_FULL: &str = "ConcurrentPipelineExecutionsLimitExceededException: no more for now";
/// The number of the order in `order.json`.
pub const NUMBER: u64 = 1_795_312_345_999;
/// The call that sends a report.
pub const REPORT: &str = "PutEvents arn:aws:events:ap-northeast-1:111111111111:event-bus/sekisho";
/// The commit of `change.json`.
pub const COMMIT: &str = "1f0c2a9be4d5760f8c3b7a6e5d4c3b2a19080706";
/// The execution in the files about the end of an execution.
pub const EXECUTION: &str = "a6c6b8f2-0f0f-4f53-9c1e-1d2c3b4a5968";
/// An empty list of calls, to compare with the result of [`Function::take_calls`].
pub const NO_CALLS: [&str; 0] = [];

/// The function in an account in which nothing has happened yet.
pub struct Function {
    pub starter: Starter<FakeAccount>,
    requests: Cell<u32>,
}

impl Function {
    /// The function with the committed configuration.
    pub fn new() -> Self {
        Self::with_config(COMMITTED_CONFIG)
    }

    pub fn with_config(config: &str) -> Self {
        let routes = routes(config);
        let repository_account = "111111111111".parse().unwrap();
        let world = FakeAccount::new(START);
        world.failure.replace(FailureDetails {
            place: Some("Build / Build".to_owned()),
            reason: Some("exit status 1".to_owned()),
            revisions: vec![COMMIT.parse().unwrap()],
            is_in_source: false,
        });
        Self { starter: Starter { world, routes, repository_account }, requests: Cell::new(0) }
    }

    pub fn world(&self) -> &FakeAccount {
        &self.starter.world
    }

    pub async fn handle(&self, payload: &str) -> Result<Decisions<Outcome>, Error> {
        self.requests.set(self.requests.get() + 1);
        let deadline = self.world().now() + TIMEOUT;
        let invocation = Invocation {
            request_id: format!("request-{}", self.requests.get()),
            ..invocation("sekisho-pipeline-starter", "222222222222", deadline)
        };
        // Boxed, so that the compiler does not build the function into each test once more.
        let answer = self.starter.handle(payload, &invocation).boxed_local().await?;
        Ok(Decisions { decisions: answer.into_decisions() })
    }

    /// Handles a payload that leads to exactly one decision, and returns the decision.
    pub async fn decide(&self, payload: &str) -> Decision<Outcome> {
        let mut decisions = self.handle(payload).await.unwrap().decisions;
        assert_eq!(decisions.len(), 1, "{decisions:?}");
        decisions.remove(0)
    }

    pub fn answer_starts(&self, answer: impl FnMut(&PipelineStart) -> StartAnswer + 'static) {
        *self.world().answer_start.borrow_mut() = Box::new(answer);
    }

    /// The calls to CodePipeline and SNS that the function made since the test last called this method.
    pub fn take_calls(&self) -> Vec<String> {
        self.world().calls.take()
    }

    /// The row of the newest order of a pipeline.
    pub fn row(&self, pipeline: &str) -> Option<Row<OrderRow>> {
        let key = order::key(&pipeline.parse().unwrap());
        self.world().ledger.read(&key).now_or_never().unwrap().unwrap()
    }

    /// The newest order of the pipeline `shop`.
    pub fn shop(&self) -> OrderRow {
        self.row("shop").unwrap().state
    }

    /// Writes the row of the pipeline `shop`, as another invocation would.
    pub fn write_row(&self, row: &OrderRow) {
        self.write_row_of(&shop(), row);
    }

    /// Writes the row of a pipeline, as another invocation would.
    pub fn write_row_of(&self, pipeline: &PipelineName, row: &OrderRow) {
        let revision = self.row(pipeline.as_str()).map(|row| row.revision);
        let key = order::key(pipeline);
        let written = self.world().ledger.write(&key, row, revision, "another request");
        written.now_or_never().unwrap().unwrap();
    }

    /// Writes the claim of the pipeline `shop` for the reference of a change, as an earlier version did.
    pub fn write_claim(&self, change: &Change, progress: ClaimProgress) {
        let key = claim::key(&shop(), &change.repository, &change.source_ref);
        let claim = ClaimRow {
            sequence: change.sequence,
            commit: change.revision.clone(),
            token: "0f".repeat(32),
            since: epoch_millis(self.world().now()),
            progress,
        };
        let ledger = &self.world().ledger;
        let known: Option<Row<ClaimRow>> = ledger.read(&key).now_or_never().unwrap().unwrap();
        let revision = known.map(|row| row.revision);
        ledger.write(&key, &claim, revision, "another request").now_or_never().unwrap().unwrap();
    }

    /// The claim of the pipeline `shop` for the reference of a change.
    pub fn claim(&self, change: &Change) -> Option<ClaimRow> {
        let key = claim::key(&shop(), &change.repository, &change.source_ref);
        let row = self.world().ledger.read(&key).now_or_never().unwrap().unwrap();
        row.map(|row: Row<ClaimRow>| row.state)
    }

    /// The reports that the bus has accepted since the test last called this method.
    pub fn take_reports(&self) -> Vec<OrderReport> {
        let events = self.world().events.take();
        events.into_iter().map(|(_, event)| OrderReport::parse(&event.detail).unwrap()).collect()
    }

    /// The states and the numbers of these reports.
    pub fn take_states(&self) -> Vec<(u64, ReportState)> {
        self.take_reports().into_iter().map(|report| (report.number, report.state)).collect()
    }

    /// Handles the event about the end of an execution that ends now, and returns the outcomes.
    pub async fn end(&self, name: &str, execution: &str) -> Vec<Outcome> {
        let mut event: Value = serde_json::from_str(&end_of(name, execution)).unwrap();
        event["time"] = json!(timestamp::seconds(self.world().now()));
        self.outcomes(&event.to_string()).await
    }

    /// Handles an event, and returns the outcomes.
    pub async fn outcomes(&self, payload: &str) -> Vec<Outcome> {
        self.handle(payload).await.unwrap().decisions.into_iter().map(|decision| decision.outcome).collect()
    }

    /// Runs the follow-up after these minutes, and returns the outcomes.
    pub async fn after(&self, minutes: u64) -> Vec<Outcome> {
        let decisions = self.follow_up_after(Duration::from_mins(minutes)).await;
        decisions.into_iter().map(|decision| decision.outcome).collect()
    }

    /// Lets time pass, and then runs the follow-up of the schedule.
    pub async fn follow_up_after(&self, time: Duration) -> Vec<Decision<Outcome>> {
        tokio::time::advance(time).await;
        self.handle(&file("schedule")).await.unwrap().decisions
    }

    /// The decisions in the ledger, as JSON.
    pub fn recorded_decisions(&self) -> Vec<Value> {
        #[derive(Deserialize)]
        struct DecisionRow {
            decisions: Vec<Value>,
        }
        let rows = self.world().ledger.list::<DecisionRow>("decision#pipeline-starter#2026-11-21", "");
        rows.now_or_never().unwrap().unwrap().into_iter().flat_map(|row| row.state.decisions).collect()
    }
}

/// The routes of a configuration.
pub fn routes(config: &str) -> Routes {
    Document::parse("sekisho.toml", config).unwrap().routes().unwrap()
}

pub fn shop() -> PipelineName {
    "shop".parse().unwrap()
}

/// The change of `change.json` with a sequence that is greater by `later`. Each change has its own commit.
pub fn change(later: u64) -> Change {
    let event: Value = serde_json::from_str(&file("change")).unwrap();
    let mut change: Change = serde_json::from_value(event["detail"]["change"].clone()).unwrap();
    change.sequence += later;
    if later > 0 {
        change.revision = format!("{later:040x}").parse().unwrap();
    }
    change
}

/// The row of the pipeline `shop` after an invocation has claimed the order [`NUMBER`] plus `later` at the time `at`.
pub fn claimed(later: u64, at: OffsetDateTime) -> OrderRow {
    OrderRow::new(Order::deploy(NUMBER + later), &change(later), &shop(), None, at).claimed(at)
}

/// An execution that a call started, as CodePipeline lists it.
pub fn listed(id: &str, started: OffsetDateTime, commit: Option<&str>) -> ListedExecution {
    ListedExecution {
        id: id.to_owned(),
        status: ExecutionStatus::Running,
        started: Some(started),
        updated: None,
        revisions: commit.into_iter().map(|commit| revision("Source", commit)).collect(),
        is_by_call: true,
    }
}

/// The revision that a start pins a source action to.
pub fn pinned(start: &PipelineStart, action: &str) -> Revision {
    start.pins[&action.parse().unwrap()].clone()
}

/// A source revision, as CodePipeline lists it.
pub fn revision(action: &str, revision: &str) -> ListedRevision {
    ListedRevision { action: action.to_owned(), revision: revision.to_owned() }
}

/// The event that orders the change [`change`] for the pipeline `shop`, with the number [`NUMBER`] plus `later`.
pub fn order_event(later: u64) -> String {
    let orders = [(shop(), Order::deploy(NUMBER + later))].into();
    with_detail(&SourceChange::with_orders(change(later), &orders))
}

/// The event that orders the change [`change`] for the pipeline `shop`, with the number [`NUMBER`] plus `later`.
pub fn ordered(later: u64, order: Order) -> String {
    let orders = [(shop(), Order { number: NUMBER + later, ..order })].into();
    with_detail(&SourceChange::with_orders(change(later), &orders))
}

/// An order of a wave that bakes for 30 minutes.
pub fn of_wave() -> Order {
    Order { bake: Some("30m".parse().unwrap()), ..Order::deploy(NUMBER) }
}

/// The event about the end of the execution of [`EXECUTION`], for another execution.
pub fn end_of(name: &str, execution: &str) -> String {
    file(name).replace(EXECUTION, execution)
}

/// The event about a change for these pipelines.
pub fn event(change: Change, pipelines: &[&str]) -> String {
    with_detail(&SourceChange::new(change, pipelines.iter().map(ToString::to_string).collect()))
}

pub fn with_detail(detail: &SourceChange) -> String {
    let mut event: Value = serde_json::from_str(&file("change")).unwrap();
    event["detail"] = json!(detail);
    event.to_string()
}

/// The text of a file of `events/pipeline-starter`.
pub fn file(name: &str) -> String {
    cases::file("pipeline-starter", name)
}
