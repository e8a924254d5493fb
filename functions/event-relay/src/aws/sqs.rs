//! SQS: sends messages to the dead-letter queue.

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::ProvideErrorMetadata;

use crate::world::Unanswered;

/// Sends a message.
///
/// # Errors
/// SQS did not accept the message.
pub async fn send(client: &Client, queue_url: &str, body: String) -> Result<(), Unanswered> {
    match client.send_message().queue_url(queue_url).message_body(body).send().await {
        Ok(_) => Ok(()),
        Err(error) => Err(Unanswered {
            what: "the dead-letter queue did not accept the message for a refused delivery".to_owned(),
            throttled: error.code().is_some_and(|code| code.contains("Throttl")),
            is_final: false,
            source: Some(error.into()),
        }),
    }
}
