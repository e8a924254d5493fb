//! SNS: the topic for notices.

use aws_sdk_sns::Client;
use aws_sdk_sns::error::SdkError;
use aws_sdk_sns::operation::publish::PublishError;
use sekisho_domain::notice::Notice;
use sekisho_lambda::aws::Later;

/// The topic for notices.
#[derive(Debug)]
pub struct Topic {
    client: Later<Client>,
    arn: String,
}

impl Topic {
    /// A topic by its ARN.
    #[must_use]
    pub fn new(client: Later<Client>, arn: impl Into<String>) -> Self {
        Self { client, arn: arn.into() }
    }

    pub(crate) async fn publish(&self, notice: &Notice) -> Result<(), SdkError<PublishError>> {
        let publish = self.client.publish().topic_arn(&self.arn).subject(notice.subject());
        publish.message_structure("json").message(notice.message()).send().await.map(drop)
    }
}
