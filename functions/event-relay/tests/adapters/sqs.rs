use aws_sdk_sqs::Client;
use event_relay::aws::sqs::send;
use serde_json::json;

use sekisho_testing::wire::{Answer, Wire, ok, refused};

const QUEUE: &str = "https://sqs.ap-northeast-1.amazonaws.com/111111111111/sekisho-event-relay-dead-letters";

#[tokio::test]
async fn a_message_is_sent_unchanged() {
    let body = r#"{"action":"redeliver"}"#;
    let wire = Wire::answering([ok(&json!({"MessageId": "1"}))]);
    send(&Client::new(&wire.config()), QUEUE, body.to_owned()).await.unwrap();
    let requests = wire.requests();
    assert_eq!(requests[0].operation, "SendMessage");
    assert_eq!(requests[0].json(), json!({"QueueUrl": QUEUE, "MessageBody": body}));
}

#[tokio::test]
async fn a_message_that_the_queue_did_not_accept_is_an_error() {
    for (answer, throttled) in
        [(refused("RequestThrottled"), true), (refused("QueueDoesNotExist"), false), (Answer::TimedOut, false)]
    {
        let wire = Wire::answering([answer]);
        let error = send(&Client::new(&wire.config()), QUEUE, "{}".to_owned()).await.unwrap_err();
        assert_eq!(error.is_throttled(), throttled);
        assert_eq!(error.operation, "SQS's SendMessage to the dead-letter queue");
    }
}
