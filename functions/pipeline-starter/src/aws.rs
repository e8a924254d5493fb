//! The AWS adapter of [`World`].

pub mod codepipeline;
pub mod sns;

use std::cell::LazyCell;
use std::time::Duration;

use sekisho_domain::change::CommitId;
use sekisho_domain::config::Misconfigured;
use sekisho_domain::notice::Notice;
use sekisho_domain::route::PipelineName;
use sekisho_lambda::Environment;
use sekisho_lambda::aws::{Later, SdkConfig, later};
use sekisho_lambda::environment::LEDGER_TABLE;
use sekisho_ledger::Ledger;
use time::OffsetDateTime;

use crate::world::{FailureDetails, PipelineStart, StartAnswer, Unanswered, World};

/// The account whose changes are trusted.
pub(crate) const REPOSITORY_ACCOUNT_ID: &str = "REPOSITORY_ACCOUNT_ID";
/// The ARN of the topic for notices.
const NOTICE_TOPIC_ARN: &str = "NOTICE_TOPIC_ARN";

/// The clients of all services that the function calls.
#[derive(Debug)]
pub struct Aws {
    ledger: Ledger,
    codepipeline: Later<aws_sdk_codepipeline::Client>,
    sns: Later<aws_sdk_sns::Client>,
    topic: String,
}

impl Aws {
    /// Reads the function's environment.
    ///
    /// # Errors
    /// If a variable is missing.
    pub fn new(environment: &Environment, aws: &SdkConfig) -> Result<Self, Misconfigured> {
        let ledger = Ledger::new(later(aws, aws_sdk_dynamodb::Client::new), environment.required(LEDGER_TABLE)?);
        // Every request reads the ledger first.
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

    async fn start(&self, start: &PipelineStart) -> StartAnswer {
        codepipeline::start(&self.codepipeline, start).await
    }

    async fn find_execution(
        &self,
        pipeline: &PipelineName,
        commit: &CommitId,
        since: OffsetDateTime,
    ) -> Result<Option<String>, Unanswered> {
        codepipeline::find_execution(&self.codepipeline, pipeline, commit, since).await
    }

    async fn failure_details(&self, pipeline: &str, execution: &str) -> Result<FailureDetails, Unanswered> {
        codepipeline::failure_details(&self.codepipeline, pipeline, execution).await
    }

    async fn publish(&self, notice: &Notice) -> Result<(), Unanswered> {
        sns::publish(&self.sns, &self.topic, notice).await
    }
}
