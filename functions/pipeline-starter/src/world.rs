//! The port to everything outside the function. [`crate::aws::Aws`] is the real adapter. The `testing` feature adds a
//! fake. The model test has another fake, which loses answers and simulates crashes.

use std::collections::BTreeMap;
use std::time::Duration;

use sekisho_domain::account::Region;
use sekisho_domain::change::Revision;
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
    /// The commit or the image that each source action is pinned to.
    pub pins: BTreeMap<ActionName, Revision>,
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
    /// The time of the last change, by CodePipeline's clock. For an execution that has ended, it is the end.
    pub updated: Option<OffsetDateTime>,
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
    /// The revision. It is a commit if the source is a repository of CodeCommit, and the digest of an image if the
    /// source is one of ECR.
    pub revision: String,
}

impl ListedExecution {
    /// The revision that the source action ran at, if it has run.
    pub(crate) fn revision_of(&self, action: &ActionName) -> Option<&str> {
        let listed = self.revisions.iter().find(|listed| listed.action == action.as_str());
        listed.map(|listed| listed.revision.as_str())
    }
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
    /// The commits and images that the execution ran at, as far as its source actions have run.
    pub revisions: Vec<Revision>,
    /// Whether the failed action is a source action. The revision itself was not run in this case.
    pub is_in_source: bool,
}

/// The category of an action of a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionCategory {
    /// Fetches a revision.
    Source,
    /// Builds, or runs commands. CodePipeline's categories Build and Compute.
    Build,
    /// Calls a function or another service.
    Invoke,
    /// Deploys.
    Deploy,
    /// Waits for a person.
    Approval,
    /// Another category, such as Test.
    Other,
}

/// An action that an execution has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BegunAction {
    /// The category.
    pub category: ActionCategory,
    /// Whether the action has not ended.
    pub is_in_progress: bool,
}

/// The state of an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlarmState {
    /// The alarm is quiet.
    Quiet,
    /// The alarm rings. CloudWatch calls the state `ALARM`.
    Ringing,
    /// The alarm has no data. CloudWatch calls the state `INSUFFICIENT_DATA`. A state that this code does not know
    /// counts as this state.
    NoData,
}

/// A metric alarm or a composite alarm of CloudWatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// The name.
    pub name: String,
    /// The state.
    pub state: AlarmState,
    /// When the state became what it is.
    pub changed: Option<OffsetDateTime>,
    /// When somebody last edited or created the alarm.
    pub edited: Option<OffsetDateTime>,
    /// Whether CloudWatch can evaluate the alarm. Otherwise, the state may be old.
    pub is_evaluated: bool,
    /// How long bad data must come in until the alarm rings: its period times the number of periods that must be bad.
    /// `None` for a composite alarm.
    pub takes: Option<Duration>,
}

/// An entry in the history of an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlarmEvent {
    /// The time, by CloudWatch's clock.
    pub at: OffsetDateTime,
    /// What happened.
    pub what: AlarmChange,
}

/// What happened to an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlarmChange {
    /// The state changed.
    State {
        /// The state before.
        from: AlarmState,
        /// The state after.
        to: AlarmState,
    },
    /// Somebody created, edited or deleted the alarm.
    Edited,
}

/// How much of the alarms a reading lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// Only the alarms that ring.
    Ringing,
    /// All alarms.
    All,
}

/// How to stop an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Start no further action. An action that is in progress ends first.
    BeforeNextAction,
    /// Give up the approval for which the execution waits. An execution with such an approval would otherwise go on
    /// waiting for a person.
    AbandonApproval,
}

/// The ledger, the clock, CodePipeline, CloudWatch, the report buses and the notice topic.
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
    /// Reads the commits and images that an execution runs at. There are none if CodePipeline refuses to report them.
    async fn execution_revisions(&self, pipeline: &str, execution: &str) -> Result<Vec<Revision>, ServiceError>;
    /// Reads the actions that an execution has begun. An execution that does not exist has none.
    async fn begun_actions(&self, pipeline: &PipelineName, execution: &str) -> Result<Vec<BegunAction>, ServiceError>;
    /// Reads the categories of all actions of a pipeline. A pipeline that does not exist has none.
    async fn categories(&self, pipeline: &PipelineName) -> Result<Vec<ActionCategory>, ServiceError>;
    /// Stops an execution. It is no error if the execution has ended or is being stopped.
    async fn stop(&self, pipeline: &PipelineName, execution: &str, how: Stop) -> Result<(), ServiceError>;
    /// Reads the metric alarms and the composite alarms whose names begin with this prefix.
    async fn alarms(&self, prefix: &str, extent: Extent) -> Result<Vec<Alarm>, ServiceError>;
    /// Reads the history of the alarm of this name between two times. The history of a deleted alarm can be read.
    async fn alarm_history(
        &self,
        alarm: &str,
        since: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<Vec<AlarmEvent>, ServiceError>;
    /// Puts an event on a bus in this region.
    async fn put_event(&self, region: &Region, event: &Entry) -> EntryResult;
    /// Publishes a notice.
    async fn publish(&self, notice: &Notice) -> Result<(), ServiceError>;
}
