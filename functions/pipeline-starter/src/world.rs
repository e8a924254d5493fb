//! What the starter needs of the world. [`crate::aws::Aws`] is the real one; the model test has one that loses, doubles
//! and crashes.

use std::time::Duration;

use sekisho_domain::change::CommitId;
use sekisho_domain::notice::Notice;
use sekisho_domain::route::{ActionName, PipelineName};
use sekisho_ledger::Store;
use time::OffsetDateTime;

use crate::notice::Failed;

/// One StartPipelineExecution call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Which pipeline.
    pub pipeline: PipelineName,
    /// Its source actions that are pinned.
    pub actions: Vec<ActionName>,
    /// To this commit.
    pub commit: CommitId,
    /// The same in every try, so that CodePipeline knows a repetition: 64 of `[0-9a-f]`.
    pub token: String,
}

/// What CodePipeline said to a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// The execution's id.
    Execution(String),
    /// Not now: again later.
    Later(String),
    /// Never, for this reason.
    Never(String),
}

/// A call that did not answer the question; the same again later may.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Unanswered {
    /// What was asked, and of whom.
    pub what: String,
    /// Whether it was for too many requests.
    pub throttled: bool,
    /// What the SDK said.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Reads, writes and time. Futures need not be `Send`: the runtime has one thread.
#[expect(async_fn_in_trait, reason = "the runtime has one thread")]
pub trait World {
    /// Where the ledger is.
    type Ledger: Store;
    /// The ledger.
    fn ledger(&self) -> &Self::Ledger;
    /// The time.
    fn now(&self) -> OffsetDateTime;
    /// Waits.
    async fn sleep(&self, time: Duration);
    /// Starts an execution.
    async fn start(&self, start: &Start) -> Started;
    /// An execution of the pipeline at this commit that has started since then: what became of a start whose answer
    /// was lost. CodePipeline knows a token again for a time that it does not tell.
    async fn find(
        &self,
        pipeline: &str,
        commit: &CommitId,
        since: OffsetDateTime,
    ) -> Result<Option<String>, Unanswered>;
    /// Why an execution failed, as far as CodePipeline says; where it does not let us ask, that is the reason.
    async fn why_failed(&self, pipeline: &str, execution: &str) -> Result<Failed, Unanswered>;
    /// Tells people.
    async fn tell(&self, notice: &Notice) -> Result<(), Unanswered>;
}
