//! A fake [`World`] for tests. A test sets the answers of CodePipeline and SNS, and the fake records every call.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use sekisho_domain::change::CommitId;
use sekisho_domain::notice::Notice;
use sekisho_domain::route::PipelineName;
use sekisho_lambda::ServiceError;
use sekisho_lambda::service_error::Kind;
use sekisho_ledger::Memory;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::world::{FailureDetails, PipelineStart, StartAnswer, World};

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
    /// The parameters of all starts, in order.
    pub starts: RefCell<Vec<PipelineStart>>,
    /// The result of every search for an execution.
    pub existing_execution: RefCell<Option<String>>,
    /// Whether searches for an execution are throttled.
    pub search_is_down: Cell<bool>,
    /// The commit and the earliest start time of every search, in order.
    pub searches: RefCell<Vec<(CommitId, OffsetDateTime)>>,
    /// What CodePipeline reports about every failed execution.
    pub failure: RefCell<FailureDetails>,
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
            starts: RefCell::default(),
            existing_execution: RefCell::default(),
            search_is_down: Cell::default(),
            searches: RefCell::default(),
            failure: RefCell::default(),
            notices: RefCell::default(),
            topic_is_down: Cell::default(),
            calls: RefCell::default(),
        }
    }

    fn record(&self, call: impl Into<String>) {
        self.calls.borrow_mut().push(call.into());
    }
}

fn throttled(operation: &'static str) -> ServiceError {
    ServiceError::unexpected(operation, "ThrottlingException: slow down").with_kind(Kind::Throttled)
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
        (self.answer_start.borrow_mut())(start)
    }

    async fn find_execution(
        &self,
        pipeline: &PipelineName,
        commit: &CommitId,
        since: OffsetDateTime,
    ) -> Result<Option<String>, ServiceError> {
        self.record(format!("ListPipelineExecutions {pipeline}"));
        if self.search_is_down.get() {
            return Err(throttled("codepipeline:ListPipelineExecutions"));
        }
        self.searches.borrow_mut().push((commit.clone(), since));
        Ok(self.existing_execution.borrow().clone())
    }

    async fn failure_details(&self, pipeline: &str, execution: &str) -> Result<FailureDetails, ServiceError> {
        self.record(format!("ListActionExecutions {pipeline} {execution}"));
        Ok(self.failure.borrow().clone())
    }

    async fn execution_commit(&self, pipeline: &str, execution: &str) -> Result<Option<String>, ServiceError> {
        self.record(format!("GetPipelineExecution {pipeline} {execution}"));
        Ok(self.failure.borrow().commit.clone())
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
