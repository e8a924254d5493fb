use pipeline_starter::aws::Aws;
use pipeline_starter::world::{Entry, EntryResult, World};
use sekisho_lambda::Environment;
use sekisho_testing::wire::{Answer, Wire, ok};
use serde_json::json;

#[tokio::test]
async fn a_report_on_the_wire() {
    let wire = Wire::answering([
        ok(&json!({"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]})),
        ok(&json!({"FailedEntryCount": 1, "Entries": [{"ErrorCode": "AccessDeniedException", "ErrorMessage": "no"}]})),
        Answer::TimedOut,
    ]);
    let variables = [("LEDGER_TABLE", "t"), ("NOTICE_TOPIC_ARN", "arn:aws:sns:ap-northeast-1:222222222222:n")];
    let environment: Environment = variables.into_iter().collect();
    let aws = Aws::new(&environment, &wire.config()).unwrap();
    let bus = "arn:aws:events:us-east-1:111111111111:event-bus/sekisho";
    let repository = "arn:aws:codecommit:us-east-1:111111111111:shop";
    let event = Entry {
        account: "111111111111".parse().unwrap(),
        bus: bus.to_owned(),
        source: "sekisho.starter",
        detail_type: "Order Report",
        resource: repository.to_owned(),
        detail: r#"{"version":1}"#.to_owned(),
    };
    let region = "us-east-1".parse().unwrap();
    assert_eq!(aws.put_event(&region, &event).await, EntryResult::Accepted);
    assert_eq!(aws.put_event(&region, &event).await, EntryResult::Refused("AccessDeniedException: no".to_owned()));
    assert!(matches!(aws.put_event(&region, &event).await, EntryResult::Retryable(_)));
    let request = &wire.requests()[0];
    assert_eq!(request.host, "events.us-east-1.amazonaws.com", "the endpoint of the bus's region");
    let entry = json!({"Source": "sekisho.starter", "DetailType": "Order Report", "Resources": [repository],
        "Detail": r#"{"version":1}"#, "EventBusName": bus});
    assert_eq!(request.json(), json!({"Entries": [entry]}));
}
