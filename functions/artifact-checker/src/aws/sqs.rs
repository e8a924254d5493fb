//! SQS: the queue of the ranges of sweeps.

use std::time::Duration;

use sekisho_lambda::ServiceError;
use sekisho_lambda::aws::Later;
use sekisho_lambda::signed::{Service, Signed};
use serde_json::json;

/// SQS as the signed calls know it.
pub(crate) const SQS: Service = Service { id: "SQS", host: "sqs" };

const HEADERS: [(&str, &str); 2] =
    [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", "AmazonSQS.SendMessage")];

/// Sends a message that nobody receives before `delay`, which is at most 15 minutes.
pub(crate) async fn send(
    client: &Later<Signed>,
    queue_url: &str,
    message: &str,
    delay: Duration,
) -> Result<(), ServiceError> {
    let body = json!({"QueueUrl": queue_url, "MessageBody": message, "DelaySeconds": delay.as_secs()});
    client.post("/", &HEADERS, body.to_string()).await.map(|_| ())
}
