//! The AWS adapter of [`World`].

pub mod cloudwatch;
pub mod codepipeline;

use std::cell::LazyCell;
use std::time::Duration;

use sekisho_domain::account::Region;
use sekisho_domain::change::Revision;
use sekisho_domain::config::Misconfigured;
use sekisho_domain::notice::Notice;
use sekisho_domain::route::PipelineName;
use sekisho_lambda::aws::{Later, SdkConfig, later};
use sekisho_lambda::environment::{LEDGER_TABLE, NOTICE_TOPIC_ARN};
use sekisho_lambda::eventbridge::Buses;
use sekisho_lambda::{Environment, ServiceError, Topic};
use sekisho_ledger::Ledger;
use time::OffsetDateTime;

use crate::world::{
    ActionCategory, Alarm, AlarmEvent, BegunAction, Entry, EntryResult, ExecutionPage, ExecutionStatus, Extent,
    FailureDetails, PipelineStart, StartAnswer, Stop, World,
};

/// The clients of all services that the function calls.
#[derive(Debug)]
pub struct Aws {
    ledger: Ledger,
    cloudwatch: Later<aws_sdk_cloudwatch::Client>,
    codepipeline: Later<aws_sdk_codepipeline::Client>,
    buses: Buses,
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
            cloudwatch: later(aws, aws_sdk_cloudwatch::Client::new),
            codepipeline: later(aws, aws_sdk_codepipeline::Client::new),
            buses: Buses::new(aws),
            topic: Topic::new(later(aws, aws_sdk_sns::Client::new), environment.required(NOTICE_TOPIC_ARN)?),
        })
    }

    /// Makes the clients of CodePipeline and EventBridge. A start needs CodePipeline's client as soon as the ledger has
    /// answered.
    pub fn make_clients(&self) {
        LazyCell::force(&self.codepipeline);
        self.buses.make_client();
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

    async fn executions(&self, pipeline: &PipelineName, page: Option<String>) -> Result<ExecutionPage, ServiceError> {
        codepipeline::executions(&self.codepipeline, pipeline, page).await
    }

    async fn execution_status(
        &self,
        pipeline: &PipelineName,
        execution: &str,
    ) -> Result<Option<ExecutionStatus>, ServiceError> {
        codepipeline::execution_status(&self.codepipeline, pipeline, execution).await
    }

    async fn failure_details(&self, pipeline: &str, execution: &str) -> Result<FailureDetails, ServiceError> {
        codepipeline::failure_details(&self.codepipeline, pipeline, execution).await
    }

    async fn execution_revisions(&self, pipeline: &str, execution: &str) -> Result<Vec<Revision>, ServiceError> {
        codepipeline::execution_revisions(&self.codepipeline, pipeline, execution).await
    }

    async fn begun_actions(&self, pipeline: &PipelineName, execution: &str) -> Result<Vec<BegunAction>, ServiceError> {
        codepipeline::begun_actions(&self.codepipeline, pipeline, execution).await
    }

    async fn categories(&self, pipeline: &PipelineName) -> Result<Vec<ActionCategory>, ServiceError> {
        codepipeline::categories(&self.codepipeline, pipeline).await
    }

    async fn stop(&self, pipeline: &PipelineName, execution: &str, how: Stop) -> Result<(), ServiceError> {
        codepipeline::stop(&self.codepipeline, pipeline, execution, how).await
    }

    async fn alarms(&self, prefix: &str, extent: Extent) -> Result<Vec<Alarm>, ServiceError> {
        cloudwatch::alarms(&self.cloudwatch, prefix, extent).await
    }

    async fn alarm_history(
        &self,
        alarm: &str,
        since: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<Vec<AlarmEvent>, ServiceError> {
        cloudwatch::alarm_history(&self.cloudwatch, alarm, since, until).await
    }

    async fn put_event(&self, region: &Region, event: &Entry) -> EntryResult {
        let mut results = self.buses.put_events(region, std::slice::from_ref(event)).await;
        results.pop().unwrap_or_else(|| EntryResult::Retryable("PutEvents returned no result".to_owned()))
    }

    async fn publish(&self, notice: &Notice) -> Result<(), ServiceError> {
        self.topic.publish(notice).await
    }
}
