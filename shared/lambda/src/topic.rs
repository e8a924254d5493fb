//! SNS: publishes notices to the account's topic.

use aws_sdk_sns::Client;
use sekisho_domain::notice::Notice;

use crate::aws::Later;
use crate::service_error::ServiceError;

/// The topic that people subscribe to.
#[derive(Debug)]
pub struct Topic {
    client: Later<Client>,
    arn: String,
}

impl Topic {
    /// `arn` is the value of [`NOTICE_TOPIC_ARN`](crate::environment::NOTICE_TOPIC_ARN).
    #[must_use]
    pub fn new(client: Later<Client>, arn: impl Into<String>) -> Self {
        Self { client, arn: arn.into() }
    }

    /// Publishes a notice.
    ///
    /// # Errors
    /// If SNS refuses the notice or does not answer.
    pub async fn publish(&self, notice: &Notice) -> Result<(), ServiceError> {
        let publish = self.client.publish().topic_arn(&self.arn).subject(notice.subject());
        let answer = publish.message_structure("json").message(notice.message()).send().await;
        answer.map(drop).map_err(|error| ServiceError::new("sns:Publish of a notice", error))
    }
}
