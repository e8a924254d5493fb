//! The port to everything outside the function. [`crate::aws::Aws`] is the real adapter. The `testing` feature adds a
//! fake. The model test has another fake, which loses answers and simulates crashes.

use std::time::Duration;

use sekisho_domain::change::CommitId;
use sekisho_domain::notice::Notice;
use sekisho_domain::route::{ActionName, PipelineName};
use sekisho_lambda::ServiceError;
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
    /// The client request token, 64 characters of `[0-9a-f]`. Every attempt sends the same token, so that CodePipeline
    /// recognizes a repetition.
    pub token: String,
}

/// CodePipeline's answer to a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartAnswer {
    /// CodePipeline started the execution with this id.
    Started(String),
    /// CodePipeline defers the start for this reason. A later attempt may succeed.
    Deferred(String),
    /// CodePipeline rejects the start for this reason. Later attempts fail too, until a person corrects the cause.
    Rejected(String),
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
}

/// The ledger, the clock, CodePipeline and the notice topic.
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
    /// Starts an execution.
    async fn start(&self, start: &PipelineStart) -> StartAnswer;
    /// Finds an execution of the pipeline that was started at this commit at or after `since`, and returns its id. The
    /// function needs this search for a start whose answer was lost, because CodePipeline does not document how long it
    /// recognizes a client request token.
    async fn find_execution(
        &self,
        pipeline: &PipelineName,
        commit: &CommitId,
        since: OffsetDateTime,
    ) -> Result<Option<String>, ServiceError>;
    /// Reads why an execution failed. If CodePipeline refuses to report the reason, the field `reason` names the
    /// refusal.
    async fn failure_details(&self, pipeline: &str, execution: &str) -> Result<FailureDetails, ServiceError>;
    /// Reads the source revision of an execution. Returns `None` if the revision is not a commit, or if CodePipeline
    /// refuses to report the revision.
    async fn execution_commit(&self, pipeline: &str, execution: &str) -> Result<Option<String>, ServiceError>;
    /// Publishes a notice.
    async fn publish(&self, notice: &Notice) -> Result<(), ServiceError>;
}
