//! SQS: sends messages to the dead-letter queue.

use aws_sdk_sqs::Client;
use sekisho_lambda::ServiceError;
use sekisho_lambda::service_error::Kind;

/// Sends a message.
///
/// # Errors
/// SQS did not accept the message.
pub async fn send(client: &Client, queue_url: &str, body: String) -> Result<(), ServiceError> {
    let sent = client.send_message().queue_url(queue_url).message_body(body).send().await;
    sent.map(drop).map_err(|error| {
        let error = ServiceError::new("SQS's SendMessage to the dead-letter queue", error);
        // A refusal is reported as `Unavailable`, so that the invocation fails and is retried. With the kind `Refused`,
        // the invocation would succeed, and the message would be lost.
        if error.is_refused() { error.with_kind(Kind::Unavailable) } else { error }
    })
}
