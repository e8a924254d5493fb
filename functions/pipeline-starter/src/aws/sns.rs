//! SNS: publishes notices.

use aws_sdk_sns::Client;
use aws_sdk_sns::error::ProvideErrorMetadata;
use sekisho_domain::notice::Notice;

use super::codepipeline::is_throttling;
use crate::world::Unanswered;

/// Publishes a notice.
///
/// # Errors
/// If SNS did not accept it.
pub async fn publish(client: &Client, topic: &str, notice: &Notice) -> Result<(), Unanswered> {
    let publish = client.publish().topic_arn(topic).subject(notice.subject()).message_structure("json");
    match publish.message(notice.message()).send().await {
        Ok(_) => Ok(()),
        Err(error) => Err(Unanswered {
            what: "SNS did not accept a notice".to_owned(),
            throttled: error.code().is_some_and(is_throttling),
            source: Some(error.into()),
        }),
    }
}
