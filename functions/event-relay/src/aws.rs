//! The real [`World`]: DynamoDB, CodeCommit, EventBridge, SNS and the clock.

pub mod codecommit;
pub mod ecr;

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::time::Duration;

use sekisho_domain::account::Region;
use sekisho_domain::change::{Revision, SourceRef};
use sekisho_domain::config::Misconfigured;
use sekisho_domain::notice::Notice;
use sekisho_lambda::aws::{Later, SdkConfig, later};
use sekisho_lambda::environment::{LEDGER_TABLE, NOTICE_TOPIC_ARN};
use sekisho_lambda::eventbridge::Buses;
use sekisho_lambda::{Environment, ServiceError, Topic};
use sekisho_ledger::Ledger;
use time::OffsetDateTime;

use crate::image::{Image, ImageRepository};
use crate::world::{Differences, Entry, EntryResult, FoundImage, Head, ImageId, World};

/// The clients of all services that the function calls.
#[derive(Debug)]
pub struct Aws {
    ledger: Ledger,
    codecommit: Later<aws_sdk_codecommit::Client>,
    /// Few changes are changes of images, so the client is made only when it is used.
    ecr: Later<aws_sdk_ecr::Client>,
    buses: Buses,
    /// Few invocations publish a notice, so the client is made only when it is used.
    topic: Topic,
}

impl Aws {
    /// Reads the names of the table and of the notice topic from the environment.
    ///
    /// # Errors
    /// The environment variable is missing.
    pub fn new(environment: &Environment, aws: &SdkConfig) -> Result<Self, Misconfigured> {
        let ledger = Ledger::new(later(aws, aws_sdk_dynamodb::Client::new), environment.required(LEDGER_TABLE)?);
        // The ledger's client is made at once, because an invocation calls the ledger first.
        ledger.make_client();
        Ok(Self {
            ledger,
            codecommit: later(aws, aws_sdk_codecommit::Client::new),
            ecr: later(aws, aws_sdk_ecr::Client::new),
            buses: Buses::new(aws),
            topic: Topic::new(later(aws, aws_sdk_sns::Client::new), environment.required(NOTICE_TOPIC_ARN)?),
        })
    }

    /// Makes the clients of CodeCommit and EventBridge, which a change needs as soon as the ledger has answered.
    pub fn make_clients(&self) {
        LazyCell::force(&self.codecommit);
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

    async fn head(&self, repository: &str, source_ref: &SourceRef) -> Result<Head, ServiceError> {
        codecommit::head(&self.codecommit, repository, source_ref).await
    }

    async fn differences(
        &self,
        repository: &str,
        before: &Revision,
        after: &Revision,
        page: Option<String>,
    ) -> Result<Option<Differences>, ServiceError> {
        codecommit::differences(&self.codecommit, repository, before, after, page).await
    }

    async fn branches(&self, repository: &str) -> Result<Option<Vec<String>>, ServiceError> {
        codecommit::branches(&self.codecommit, repository).await
    }

    async fn repository_created(&self, repository: &str) -> Result<Option<u64>, ServiceError> {
        codecommit::created(&self.codecommit, repository).await
    }

    async fn repositories(&self) -> Result<Vec<String>, ServiceError> {
        codecommit::repositories(&self.codecommit).await
    }

    async fn image(&self, repository: &str, id: &ImageId<'_>) -> Result<FoundImage, ServiceError> {
        ecr::image(&self.ecr, repository, id).await
    }

    async fn images(&self, repository: &str) -> Result<Option<Vec<Image>>, ServiceError> {
        ecr::images(&self.ecr, repository).await
    }

    async fn image_repositories(&self) -> Result<Vec<ImageRepository>, ServiceError> {
        ecr::repositories(&self.ecr).await
    }

    async fn cache_prefixes(&self) -> Result<BTreeSet<String>, ServiceError> {
        ecr::cache_prefixes(&self.ecr).await
    }

    async fn put_events(&self, region: &Region, entries: &[Entry]) -> Vec<EntryResult> {
        self.buses.put_events(region, entries).await
    }

    async fn publish(&self, notice: &Notice) -> Result<(), ServiceError> {
        self.topic.publish(notice).await
    }
}
