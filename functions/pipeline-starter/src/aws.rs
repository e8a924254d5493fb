//! The AWS adapter of [`World`].

pub mod codepipeline;

use std::cell::LazyCell;
use std::time::Duration;

use sekisho_domain::change::CommitId;
use sekisho_domain::config::Misconfigured;
use sekisho_domain::notice::Notice;
use sekisho_domain::route::PipelineName;
use sekisho_lambda::aws::{Later, SdkConfig, later};
use sekisho_lambda::environment::{LEDGER_TABLE, NOTICE_TOPIC_ARN};
use sekisho_lambda::{Environment, ServiceError, Topic};
use sekisho_ledger::Ledger;
use time::OffsetDateTime;

use crate::world::{FailureDetails, PipelineStart, StartAnswer, World};

/// The clients of all services that the function calls.
#[derive(Debug)]
pub struct Aws {
    ledger: Ledger,
    codepipeline: Later<aws_sdk_codepipeline::Client>,
    topic: Topic,
}

impl Aws {
    /// Reads the names of the ledger's table and of the notice topic from the function's environment.
    ///
    /// # Errors
    /// An environment variable is missing.
    pub fn new(environment: &Environment, aws: &SdkConfig) -> Result<Self, Misconfigured> {
        let ledger = Ledger::new(later(aws, aws_sdk_dynamodb::Client::new), environment.required(LEDGER_TABLE)?);
        // The ledger's client is made at once, because every request reads the ledger first.
        ledger.make_client();
        Ok(Self {
            ledger,
            codepipeline: later(aws, aws_sdk_codepipeline::Client::new),
            topic: Topic::new(later(aws, aws_sdk_sns::Client::new), environment.required(NOTICE_TOPIC_ARN)?),
        })
    }

    /// Makes CodePipeline's client. A start needs this client as soon as the ledger has answered.
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
    ) -> Result<Option<String>, ServiceError> {
        codepipeline::find_execution(&self.codepipeline, pipeline, commit, since).await
    }

    async fn failure_details(&self, pipeline: &str, execution: &str) -> Result<FailureDetails, ServiceError> {
        codepipeline::failure_details(&self.codepipeline, pipeline, execution).await
    }

    async fn execution_commit(&self, pipeline: &str, execution: &str) -> Result<Option<String>, ServiceError> {
        codepipeline::execution_commit(&self.codepipeline, pipeline, execution).await
    }

    async fn publish(&self, notice: &Notice) -> Result<(), ServiceError> {
        self.topic.publish(notice).await
    }
}
