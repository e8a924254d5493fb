//! The port to everything outside the function. [`crate::aws::Aws`] is the real adapter. The `testing` feature adds a
//! fake. The model test has another fake, which loses answers and simulates crashes.

use std::collections::BTreeMap;
use std::time::Duration;

use sekisho_domain::account::Region;
use sekisho_domain::change::CommitId;
use sekisho_domain::notice::Notice;
use sekisho_domain::route::{ActionName, PipelineName};
use sekisho_lambda::ServiceError;
pub use sekisho_lambda::eventbridge::{Entry, EntryResult};
use sekisho_ledger::Store;
use time::OffsetDateTime;

/// The parameters of a StartPipelineExecution call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineStart {
    /// The pipeline to start.
    pub pipeline: PipelineName,
    /// The source actions whose revision is pinned to the commit.
    pub actions: Vec<ActionName>,
    /// The commit to run.
    pub commit: CommitId,
    /// The names and values of the pipeline variables.
    pub variables: BTreeMap<String, String>,
    /// The client request token, 64 characters of `[0-9a-f]`. Every attempt of one start sends the same token,
    /// so that CodePipeline recognizes a repetition.
    pub token: String,
}

/// CodePipeline's answer to a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartAnswer {
    /// CodePipeline started the execution with this id.
    Started(String),
    /// CodePipeline started nothing for this reason. A later attempt may succeed.
    Deferred(String),
    /// CodePipeline did not answer for this reason. The execution may have started.
    Unanswered(String),
    /// CodePipeline started nothing for this reason. Later attempts fail too, until a person corrects the cause.
    Rejected(String),
}

/// The status of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutionStatus {
    /// The execution has not ended. A status that this code does not know counts as running.
    Running,
    /// Every stage succeeded.
    Succeeded,
    /// A stage failed. A person may retry the stage.
    Failed,
    /// A person stopped the execution.
    Stopped,
    /// A newer execution took the place of this one.
    Superseded,
    /// CodePipeline canceled the execution, because the pipeline was edited.
    Canceled,
}

/// An execution as CodePipeline lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedExecution {
    /// The execution's id.
    pub id: String,
    /// The status.
    pub status: ExecutionStatus,
    /// The time of the start, by CodePipeline's clock.
    pub started: Option<OffsetDateTime>,
    /// The source revisions. A revision is missing until its source action has run.
    pub revisions: Vec<ListedRevision>,
    /// Whether a StartPipelineExecution call may have started the execution. `false` if CodePipeline reports another
    /// trigger, such as a webhook or an event.
    pub is_by_call: bool,
}

/// A source revision of an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRevision {
    /// The name of the source action.
    pub action: String,
    /// The revision. It is a commit if the source is a repository.
    pub revision: String,
}

/// A page of the list of executions, from the newest to the oldest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecutionPage {
    /// The executions.
    pub executions: Vec<ListedExecution>,
    /// The token of the next page, if there are older executions.
    pub next: Option<String>,
}

/// What CodePipeline reports about a failed execution. A field is `None` if CodePipeline does not report it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FailureDetails {
    /// The stage and the action that failed, as `stage / action`.
    pub place: Option<String>,
    /// The error message of that action.
    pub reason: Option<String>,
    /// The source revision that the execution ran at.
    pub commit: Option<String>,
    /// Whether the failed action is a source action. The revision itself was not run in this case.
    pub is_in_source: bool,
}

/// The ledger, the clock, CodePipeline, the report buses and the notice topic.
#[expect(async_fn_in_trait, reason = "futures need not be Send: the runtime has one thread")]
pub trait World {
    /// The type of the ledger.
    type Ledger: Store;
    /// The ledger.
    fn ledger(&self) -> &Self::Ledger;
    /// The current time.
    fn now(&self) -> OffsetDateTime;
    /// Waits for this time.
    async fn sleep(&self, time: Duration);
    /// Makes one attempt to start an execution.
    async fn start(&self, start: &PipelineStart) -> StartAnswer;
    /// Reads a page of the list of executions. The list of a pipeline that does not exist is empty. The list may lag
    /// some seconds behind.
    async fn executions(&self, pipeline: &PipelineName, page: Option<String>) -> Result<ExecutionPage, ServiceError>;
    /// Reads the status of an execution. Returns `None` if the execution does not exist.
    async fn execution_status(
        &self,
        pipeline: &PipelineName,
        execution: &str,
    ) -> Result<Option<ExecutionStatus>, ServiceError>;
    /// Reads why an execution failed. If CodePipeline refuses to report the reason, the field `reason` names the
    /// refusal.
    async fn failure_details(&self, pipeline: &str, execution: &str) -> Result<FailureDetails, ServiceError>;
    /// Reads the source revision of an execution. Returns `None` if the revision is not a commit, or if CodePipeline
    /// refuses to report the revision.
    async fn execution_commit(&self, pipeline: &str, execution: &str) -> Result<Option<String>, ServiceError>;
    /// Puts an event on a bus in this region.
    async fn put_event(&self, region: &Region, event: &Entry) -> EntryResult;
    /// Publishes a notice.
    async fn publish(&self, notice: &Notice) -> Result<(), ServiceError>;
}
