//! The world as AWS has it.

use std::cell::LazyCell;
use std::time::Duration;

use sekisho_domain::change::CommitId;
use sekisho_domain::config::Misconfigured;
use sekisho_domain::notice::Notice;
use sekisho_lambda::Environment;
use sekisho_lambda::aws::{Later, SdkConfig, later};
use sekisho_lambda::environment::LEDGER_TABLE;
use sekisho_ledger::Ledger;
use time::OffsetDateTime;

use crate::notice::Failed;
use crate::pipelines;
use crate::world::{Start, Started, Unanswered, World};

/// The account whose changes are believed.
pub const REPOSITORY_ACCOUNT_ID: &str = "REPOSITORY_ACCOUNT_ID";
/// Where people are told.
pub const NOTICE_TOPIC_ARN: &str = "NOTICE_TOPIC_ARN";

/// One client for each service, built once.
#[derive(Debug)]
pub struct Aws {
    /// The ledger.
    pub ledger: Ledger,
    /// Starts pipelines.
    pub codepipeline: Later<aws_sdk_codepipeline::Client>,
    /// Tells people.
    pub sns: Later<aws_sdk_sns::Client>,
    /// Where.
    pub topic: String,
}

impl Aws {
    /// From the function's environment.
    ///
    /// # Errors
    /// Where a variable is missing.
    pub fn new(environment: &Environment, aws: &SdkConfig) -> Result<Self, Misconfigured> {
        let ledger = Ledger::new(later(aws, aws_sdk_dynamodb::Client::new), environment.required(LEDGER_TABLE)?);
        // Asked first.
        ledger.make_client();
        Ok(Self {
            ledger,
            codepipeline: later(aws, aws_sdk_codepipeline::Client::new),
            sns: later(aws, aws_sdk_sns::Client::new),
            topic: environment.required(NOTICE_TOPIC_ARN)?.to_owned(),
        })
    }

    /// Makes the client that a start needs after the ledger's.
    pub fn make_client(&self) {
        LazyCell::force(&self.codepipeline);
    }
}

impl World for Aws {
    type Ledger = Ledger;

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn now(&self) -> OffsetDateTime {
        sekisho_lambda::now()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    async fn start(&self, start: &Start) -> Started {
        pipelines::start(&self.codepipeline, start).await
    }

    async fn find(
        &self,
        pipeline: &str,
        commit: &CommitId,
        since: OffsetDateTime,
    ) -> Result<Option<String>, Unanswered> {
        pipelines::find(&self.codepipeline, pipeline, commit, since).await
    }

    async fn why_failed(&self, pipeline: &str, execution: &str) -> Result<Failed, Unanswered> {
        pipelines::why_failed(&self.codepipeline, pipeline, execution).await
    }

    async fn tell(&self, notice: &Notice) -> Result<(), Unanswered> {
        pipelines::tell(&self.sns, &self.topic, notice).await
    }
}
