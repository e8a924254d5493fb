//! A fake [`World`] for tests. A test sets the answers of CodePipeline and SNS, and the fake records every call.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use sekisho_domain::account::Region;
use sekisho_domain::change::Revision;
use sekisho_domain::notice::Notice;
use sekisho_domain::route::PipelineName;
use sekisho_lambda::ServiceError;
use sekisho_lambda::service_error::Kind;
use sekisho_ledger::Memory;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::world::{
    ActionCategory, Alarm, AlarmChange, AlarmEvent, AlarmState, BegunAction, Entry, EntryResult, ExecutionPage,
    ExecutionStatus, Extent, FailureDetails, ListedExecution, PipelineStart, StartAnswer, Stop, World,
};

type AnswerStart = Box<dyn FnMut(&PipelineStart) -> StartAnswer>;

/// A pipeline account in memory, with a ledger, CodePipeline and a topic.
pub struct FakeAccount {
    /// The ledger.
    pub ledger: Memory,
    /// The time at which the clock of a new account starts. From then on, the clock follows tokio's clock.
    pub start_time: OffsetDateTime,
    made_at: Instant,
    /// The function that answers a start. By default, it starts the executions `e1`, `e2`, and so on.
    pub answer_start: RefCell<AnswerStart>,
    /// How long CodePipeline takes for a start or a list.
    pub start_takes: Cell<Duration>,
    starts_at_once: Cell<usize>,
    /// The largest number of starts that CodePipeline got at the same time.
    pub most_starts_at_once: Cell<usize>,
    /// The parameters of all starts, in order.
    pub starts: RefCell<Vec<PipelineStart>>,
    /// The executions that CodePipeline lists for every pipeline, from the newest to the oldest.
    pub listed: RefCell<Vec<ListedExecution>>,
    /// The number of executions on a page of the list.
    pub page: Cell<usize>,
    /// Whether CodePipeline throttles the list of executions.
    pub list_is_down: Cell<bool>,
    /// Whether CodePipeline refuses to list executions and to return their status.
    pub reads_are_refused: Cell<bool>,
    /// The status of each execution. An execution without a status runs.
    pub statuses: RefCell<BTreeMap<String, ExecutionStatus>>,
    /// The ids of executions that do not exist any more.
    pub removed: RefCell<Vec<String>>,
    /// What CodePipeline reports about every failed execution.
    pub failure: RefCell<FailureDetails>,
    /// The actions that each execution has begun.
    pub begun: RefCell<BTreeMap<String, Vec<BegunAction>>>,
    /// The categories of the actions of every pipeline.
    pub categories: RefCell<Vec<ActionCategory>>,
    /// The alarms by name.
    pub alarms: RefCell<BTreeMap<String, Alarm>>,
    /// The history of each alarm.
    pub alarm_histories: RefCell<BTreeMap<String, Vec<AlarmEvent>>>,
    /// The error of every reading of alarms and their history.
    pub alarms_fail: Cell<Option<Kind>>,
    /// The error of every reading of a history, while alarms can be listed.
    pub histories_fail: Cell<Option<Kind>>,
    /// The regions and the events of all accepted events, in order.
    pub events: RefCell<Vec<(Region, Entry)>>,
    /// The answer of the bus to every event.
    pub bus_answer: RefCell<EntryResult>,
    /// All published notices in order.
    pub notices: RefCell<Vec<Notice>>,
    /// Whether publishing is throttled.
    pub topic_is_down: Cell<bool>,
    /// The operation of every call to CodePipeline and SNS, with its main arguments, in order.
    pub calls: RefCell<Vec<String>>,
}

impl FakeAccount {
    /// An account in which nothing has happened yet.
    #[must_use]
    pub fn new(start_time: OffsetDateTime) -> Self {
        let mut executions = 0;
        let start_next = move |_: &PipelineStart| {
            executions += 1;
            StartAnswer::Started(format!("e{executions}"))
        };
        Self {
            ledger: Memory::default(),
            start_time,
            made_at: Instant::now(),
            answer_start: RefCell::new(Box::new(start_next)),
            start_takes: Cell::default(),
            starts_at_once: Cell::default(),
            most_starts_at_once: Cell::default(),
            starts: RefCell::default(),
            listed: RefCell::default(),
            page: Cell::new(100),
            list_is_down: Cell::default(),
            reads_are_refused: Cell::default(),
            statuses: RefCell::default(),
            removed: RefCell::default(),
            failure: RefCell::default(),
            begun: RefCell::default(),
            categories: RefCell::default(),
            alarms: RefCell::default(),
            alarm_histories: RefCell::default(),
            alarms_fail: Cell::default(),
            histories_fail: Cell::default(),
            events: RefCell::default(),
            bus_answer: RefCell::new(EntryResult::Accepted),
            notices: RefCell::default(),
            topic_is_down: Cell::default(),
            calls: RefCell::default(),
        }
    }

    async fn take_time(&self) {
        if !self.start_takes.get().is_zero() {
            tokio::time::sleep(self.start_takes.get()).await;
        }
    }

    /// Gives an alarm a state at the present time, as CloudWatch does, and creates the alarm if it does not exist.
    pub fn set_alarm(&self, name: &str, state: AlarmState) {
        let now = self.now();
        let mut alarms = self.alarms.borrow_mut();
        let new = || Alarm {
            name: name.to_owned(),
            state,
            changed: Some(now),
            edited: Some(now),
            is_evaluated: true,
            takes: Some(Duration::from_mins(1)),
        };
        let alarm = alarms.entry(name.to_owned()).or_insert_with(new);
        if alarm.state != state {
            let what = AlarmChange::State { from: alarm.state, to: state };
            self.alarm_histories.borrow_mut().entry(name.to_owned()).or_default().push(AlarmEvent { at: now, what });
            (alarm.state, alarm.changed) = (state, Some(now));
        }
    }

    fn record(&self, call: impl Into<String>) {
        self.calls.borrow_mut().push(call.into());
    }
}

fn alarm_failure(kind: Option<Kind>, operation: &'static str) -> Result<(), ServiceError> {
    match kind {
        Some(kind) => Err(ServiceError::unexpected(operation, "the alarms cannot be read").with_kind(kind)),
        None => Ok(()),
    }
}

fn throttled(operation: &'static str) -> ServiceError {
    ServiceError::unexpected(operation, "ThrottlingException: slow down").with_kind(Kind::Throttled)
}

fn refused(operation: &'static str) -> ServiceError {
    ServiceError::unexpected(operation, "AccessDeniedException: allow it").with_kind(Kind::Refused)
}

impl World for FakeAccount {
    type Ledger = Memory;

    fn ledger(&self) -> &Memory {
        &self.ledger
    }

    fn now(&self) -> OffsetDateTime {
        self.start_time + self.made_at.elapsed()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    async fn start(&self, start: &PipelineStart) -> StartAnswer {
        self.record(format!("StartPipelineExecution {}", start.pipeline));
        self.starts.borrow_mut().push(start.clone());
        self.starts_at_once.set(self.starts_at_once.get() + 1);
        self.most_starts_at_once.set(self.most_starts_at_once.get().max(self.starts_at_once.get()));
        self.take_time().await;
        self.starts_at_once.set(self.starts_at_once.get() - 1);
        (self.answer_start.borrow_mut())(start)
    }

    async fn executions(&self, pipeline: &PipelineName, page: Option<String>) -> Result<ExecutionPage, ServiceError> {
        self.record(format!("ListPipelineExecutions {pipeline}"));
        self.take_time().await;
        if self.list_is_down.get() {
            return Err(throttled("codepipeline:ListPipelineExecutions"));
        }
        if self.reads_are_refused.get() {
            return Err(refused("codepipeline:ListPipelineExecutions"));
        }
        let listed = self.listed.borrow();
        let from = page.map_or(0, |page| page.parse().unwrap_or(0));
        let until = from + self.page.get();
        let executions = listed.iter().skip(from).take(self.page.get()).cloned().collect();
        Ok(ExecutionPage { executions, next: (until < listed.len()).then(|| until.to_string()) })
    }

    async fn execution_status(
        &self,
        pipeline: &PipelineName,
        execution: &str,
    ) -> Result<Option<ExecutionStatus>, ServiceError> {
        self.record(format!("GetPipelineExecution {pipeline} {execution}"));
        if self.reads_are_refused.get() {
            return Err(refused("codepipeline:GetPipelineExecution"));
        }
        if self.removed.borrow().iter().any(|removed| removed == execution) {
            return Ok(None);
        }
        let status = self.statuses.borrow().get(execution).copied();
        Ok(Some(status.unwrap_or(ExecutionStatus::Running)))
    }

    async fn failure_details(&self, pipeline: &str, execution: &str) -> Result<FailureDetails, ServiceError> {
        self.record(format!("ListActionExecutions {pipeline} {execution}"));
        Ok(self.failure.borrow().clone())
    }

    async fn execution_revisions(&self, pipeline: &str, execution: &str) -> Result<Vec<Revision>, ServiceError> {
        self.record(format!("GetPipelineExecution {pipeline} {execution}"));
        Ok(self.failure.borrow().revisions.clone())
    }

    async fn begun_actions(&self, pipeline: &PipelineName, execution: &str) -> Result<Vec<BegunAction>, ServiceError> {
        self.record(format!("ListActionExecutions {pipeline} {execution}"));
        if self.reads_are_refused.get() {
            return Err(refused("codepipeline:ListActionExecutions"));
        }
        Ok(self.begun.borrow().get(execution).cloned().unwrap_or_default())
    }

    async fn categories(&self, pipeline: &PipelineName) -> Result<Vec<ActionCategory>, ServiceError> {
        self.record(format!("GetPipeline {pipeline}"));
        Ok(self.categories.borrow().clone())
    }

    async fn stop(&self, pipeline: &PipelineName, execution: &str, how: Stop) -> Result<(), ServiceError> {
        self.record(format!("StopPipelineExecution {pipeline} {execution} {how:?}"));
        self.statuses.borrow_mut().insert(execution.to_owned(), ExecutionStatus::Stopped);
        let mut listed = self.listed.borrow_mut();
        for execution in listed.iter_mut().filter(|listed| listed.id == execution) {
            execution.status = ExecutionStatus::Stopped;
        }
        Ok(())
    }

    async fn alarms(&self, prefix: &str, extent: Extent) -> Result<Vec<Alarm>, ServiceError> {
        self.record(format!("DescribeAlarms {prefix}* {extent:?}"));
        alarm_failure(self.alarms_fail.get(), "cloudwatch:DescribeAlarms")?;
        let alarms = self.alarms.borrow();
        let listed = alarms.values().filter(|alarm| {
            alarm.name.starts_with(prefix) && (extent == Extent::All || alarm.state == AlarmState::Ringing)
        });
        Ok(listed.cloned().collect())
    }

    async fn alarm_history(
        &self,
        alarm: &str,
        since: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<Vec<AlarmEvent>, ServiceError> {
        self.record(format!("DescribeAlarmHistory {alarm}"));
        let failure = self.alarms_fail.get().or(self.histories_fail.get());
        alarm_failure(failure, "cloudwatch:DescribeAlarmHistory")?;
        let histories = self.alarm_histories.borrow();
        let events = histories.get(alarm).into_iter().flatten();
        Ok(events.filter(|event| since <= event.at && event.at <= until).copied().collect())
    }

    async fn put_event(&self, region: &Region, event: &Entry) -> EntryResult {
        self.record(format!("PutEvents {}", event.bus));
        let answer = self.bus_answer.borrow().clone();
        if answer == EntryResult::Accepted {
            self.events.borrow_mut().push((region.clone(), event.clone()));
        }
        answer
    }

    async fn publish(&self, notice: &Notice) -> Result<(), ServiceError> {
        self.record("Publish");
        if self.topic_is_down.get() {
            return Err(throttled("sns:Publish"));
        }
        self.notices.borrow_mut().push(notice.clone());
        Ok(())
    }
}
