use sekisho_lambda::eventbridge::{Buses, Entry, EntryResult, bus_arn};
use serde_json::json;

use sekisho_testing::wire::{Answer, Wire, ok, refused};

fn entries(accounts: &[&str]) -> Vec<Entry> {
    let entry = |account: &&str| Entry {
        account: account.parse().unwrap(),
        bus: bus_arn("aws", &account.parse().unwrap(), &"ap-northeast-1".parse().unwrap()),
        source: "sekisho.relay",
        detail_type: "Source Change",
        resource: "arn:aws:codecommit:ap-northeast-1:111111111111:shop".to_owned(),
        detail: r#"{"version":1}"#.to_owned(),
    };
    accounts.iter().map(entry).collect()
}

async fn put(wire: &Wire, accounts: &[&str]) -> Vec<EntryResult> {
    Buses::new(&wire.config()).put_events(&"ap-northeast-1".parse().unwrap(), &entries(accounts)).await
}

const THREE: [&str; 3] = ["222222222222", "333333333333", "444444444444"];

/// Checks a request to EventBridge and EventBridge's answer, byte for byte.
#[tokio::test]
async fn an_entry_on_the_wire() {
    let wire = Wire::answering([Answer::Http(
        200,
        r#"{"Entries":[{"EventId":"11710aed-b79e-4468-a20b-bb3c0c3b4860"}],"FailedEntryCount":0}"#.to_owned(),
    )]);
    assert_eq!(put(&wire, &THREE[..1]).await, [EntryResult::Accepted]);
    let requests = wire.requests();
    assert_eq!(requests[0].operation, "PutEvents");
    assert_eq!(
        requests[0].body,
        concat!(
            r#"{"Entries":[{"Source":"sekisho.relay","#,
            r#""Resources":["arn:aws:codecommit:ap-northeast-1:111111111111:shop"],"#,
            r#""DetailType":"Source Change","Detail":"{\"version\":1}","#,
            r#""EventBusName":"arn:aws:events:ap-northeast-1:222222222222:event-bus/sekisho"}]}"#,
        )
    );
}

#[tokio::test]
async fn every_entry_has_its_own_result_in_a_call_that_succeeded() {
    let wire = Wire::answering([ok(&json!({"FailedEntryCount": 2, "Entries": [
        {"ErrorCode": "ThrottlingException", "ErrorMessage": "slow down"},
        {"EventId": "1"},
        {"ErrorCode": "ResourceNotFoundException", "ErrorMessage": "no bus"},
    ]}))]);
    let expected = [
        EntryResult::Retryable("ThrottlingException: slow down".to_owned()),
        EntryResult::Accepted,
        EntryResult::Refused("ResourceNotFoundException: no bus".to_owned()),
    ];
    assert_eq!(put(&wire, &THREE).await, expected);
}

#[tokio::test]
async fn only_throttling_and_internal_errors_of_an_entry_are_retried() {
    for (code, passes) in [
        ("InternalFailure", true),
        ("InternalException", true),
        ("ThrottlingException", true),
        ("AccessDeniedException", false),
        ("InvalidArgument", false),
        ("NotAuthorizedForSourceException", false),
        ("MalformedDetail", false),
    ] {
        let wire = Wire::answering([ok(&json!({"Entries": [{"ErrorCode": code}]}))]);
        let said = format!("{code}: no message");
        assert_eq!(
            put(&wire, &THREE[..1]).await,
            [if passes { EntryResult::Retryable(said) } else { EntryResult::Refused(said) }]
        );
    }
}

#[tokio::test]
async fn a_missing_or_empty_result_is_retryable() {
    for body in [json!({}), json!({"Entries": []}), json!({"Entries": [{}]})] {
        let wire = Wire::answering([ok(&body)]);
        let none = EntryResult::Retryable("PutEvents returned no result for the entry".to_owned());
        assert_eq!(put(&wire, &THREE[..2]).await, [none.clone(), none], "{body}");
    }
}

/// A bus that denies access does not keep the event from the other buses.
#[tokio::test]
async fn after_a_refused_call_each_entry_is_sent_in_its_own_call() {
    let wire = Wire::answering([
        refused("AccessDeniedException"),
        ok(&json!({"Entries": [{"EventId": "1"}]})),
        refused("AccessDeniedException"),
        refused("ThrottlingException"),
    ]);
    let expected = [
        EntryResult::Accepted,
        EntryResult::Refused("AccessDeniedException: as it is".to_owned()),
        EntryResult::Retryable("ThrottlingException: as it is".to_owned()),
    ];
    assert_eq!(put(&wire, &THREE).await, expected);
    let alone = |n: usize| wire.requests()[n].json()["Entries"].as_array().unwrap().len();
    assert_eq!([0, 1, 2, 3].map(alone), [3, 1, 1, 1]);
}

#[tokio::test]
async fn after_a_call_that_may_succeed_later_all_entries_are_retryable() {
    for answer in [
        refused("ThrottlingException"),
        refused("InternalException"),
        Answer::Http(500, String::new()),
        Answer::Http(503, String::new()),
        Answer::TimedOut,
    ] {
        let wire = Wire::answering([answer.clone()]);
        let taken = put(&wire, &THREE).await;
        assert_eq!(taken.len(), 3);
        assert!(taken.iter().all(|taken| matches!(taken, EntryResult::Retryable(_))), "{answer:?}: {taken:?}");
        assert_eq!(wire.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_bus_is_reached_at_its_regions_endpoint() {
    let answer = || ok(&json!({"Entries": [{"EventId": "1"}]}));
    let wire = Wire::answering([answer(), answer(), answer()]);
    let buses = Buses::new(&wire.config());
    for region in ["us-east-1", "ap-northeast-1", "us-east-1"] {
        assert_eq!(buses.put_events(&region.parse().unwrap(), &entries(&THREE[..1])).await, [EntryResult::Accepted]);
    }
    let hosts: Vec<String> = wire.requests().into_iter().map(|request| request.host).collect();
    let of = |region: &str| format!("events.{region}.amazonaws.com");
    assert_eq!(hosts, [of("us-east-1"), of("ap-northeast-1"), of("us-east-1")]);
}
