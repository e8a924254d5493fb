//! The ledger in DynamoDB, checked against requests and answers on the wire.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::cell::LazyCell;

use aws_sdk_dynamodb::Client;
use sekisho_domain::decision::Decision;
use sekisho_ledger::{Error, Key, Ledger, Store, Write};
use sekisho_testing::wire::{Answer, Request, Wire, ok, refused};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::macros::datetime;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct State {
    sequence: u64,
    pending: Option<String>,
}

fn ledger(wire: &Wire) -> Ledger {
    let client = Client::new(&wire.config());
    Ledger::new(LazyCell::new(Box::new(|| client)), "sekisho-ledger")
}

fn key() -> Key {
    Key { pk: "branch#arn".to_owned(), sk: "refs/heads/main".to_owned() }
}

fn state() -> State {
    State { sequence: 1_795_312_345_678, pending: None }
}

/// The row with the state of `state()`, as DynamoDB returns the row.
fn item(revision: u64, writer: &str) -> Value {
    json!({
        "pk": {"S": "branch#arn"}, "sk": {"S": "refs/heads/main"}, "sequence": {"N": "1795312345678"},
        "pending": {"NULL": true}, "revision": {"N": revision.to_string()}, "writer": {"S": writer},
    })
}

fn condition_failed(old: Option<&Value>) -> Answer {
    let code = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException";
    let mut body = json!({"__type": code, "message": "The conditional request failed"});
    if let Some(old) = old {
        body["Item"] = old.clone();
    }
    Answer::Http(400, body.to_string())
}

#[tokio::test]
async fn a_row_is_read_consistently() {
    let wire = Wire::answering([ok(&json!({"Item": item(7, "r")})), ok(&json!({}))]);
    let row = ledger(&wire).read::<State>(&key()).await.unwrap().unwrap();
    assert_eq!((row.sk.as_str(), row.revision, row.state), ("refs/heads/main", 7, state()));
    assert!(ledger(&wire).read::<State>(&key()).await.unwrap().is_none());
    let request = &wire.requests()[0];
    assert_eq!(request.operation, "GetItem");
    let asked = json!({
        "TableName": "sekisho-ledger", "ConsistentRead": true,
        "Key": {"pk": {"S": "branch#arn"}, "sk": {"S": "refs/heads/main"}},
    });
    assert_eq!(request.json(), asked);
}

#[tokio::test]
async fn a_write_names_the_revision_that_was_read() {
    let wire = Wire::answering([ok(&json!({})), ok(&json!({}))]);
    assert_eq!(ledger(&wire).write(&key(), &state(), None, "r1").await.unwrap(), 1);
    assert_eq!(ledger(&wire).write(&key(), &state(), Some(7), "r1").await.unwrap(), 8);
    let requests = wire.requests();
    let first = json!({
        "TableName": "sekisho-ledger", "Item": item(1, "r1"), "ConditionExpression": "attribute_not_exists(pk)",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    });
    assert_eq!((requests[0].operation.as_str(), requests[0].json()), ("PutItem", first));
    let next = json!({
        "TableName": "sekisho-ledger", "Item": item(8, "r1"), "ConditionExpression": "revision = :expected",
        "ExpressionAttributeValues": {":expected": {"N": "7"}}, "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    });
    assert_eq!(requests[1].json(), next);
}

#[tokio::test]
async fn a_write_after_another_writer_fails_with_changed() {
    for old in [Some(item(8, "another")), Some(item(9, "r1")), None] {
        let wire = Wire::answering([condition_failed(old.as_ref())]);
        let error = ledger(&wire).write(&key(), &state(), Some(7), "r1").await.unwrap_err();
        assert!(matches!(&error, Error::Changed(changed) if *changed == key()), "{error:?}");
        assert!(error.to_string().contains("branch#arn / refs/heads/main"), "{error}");
    }
}

/// While a transaction writes a row, DynamoDB rejects every other write of the row.
#[tokio::test]
async fn a_write_during_a_transaction_fails_with_changed() {
    let conflict = || refused("com.amazonaws.dynamodb.v20120810#TransactionConflictException");
    let wire = Wire::answering([conflict(), conflict()]);
    let error = ledger(&wire).write(&key(), &state(), Some(7), "r1").await.unwrap_err();
    assert!(matches!(error, Error::Changed(_)), "{error:?}");
    let error = ledger(&wire).delete(&key(), 7).await.unwrap_err();
    assert!(matches!(error, Error::Changed(_)), "{error:?}");
}

/// If the answer to a write is lost, the SDK repeats the write, and the row already has the new content.
#[tokio::test]
async fn a_repeated_write_of_the_same_content_succeeds() {
    let wire = Wire::answering([condition_failed(Some(&item(8, "r1")))]);
    assert_eq!(ledger(&wire).write(&key(), &state(), Some(7), "r1").await.unwrap(), 8);
}

#[tokio::test]
async fn a_deletion_names_the_revision_that_was_read_and_succeeds_if_the_row_is_gone() {
    let wire = Wire::answering([ok(&json!({})), condition_failed(None)]);
    ledger(&wire).delete(&key(), 7).await.unwrap();
    let error = ledger(&wire).delete(&key(), 7).await.unwrap_err();
    assert!(matches!(error, Error::Changed(_)), "{error:?}");
    let asked = json!({
        "TableName": "sekisho-ledger", "Key": {"pk": {"S": "branch#arn"}, "sk": {"S": "refs/heads/main"}},
        "ConditionExpression": "attribute_not_exists(pk) OR revision = :expected",
        "ExpressionAttributeValues": {":expected": {"N": "7"}},
    });
    assert_eq!(wire.requests()[0].json(), asked);
}

#[tokio::test]
async fn a_partition_is_listed_to_its_last_page() {
    let at = json!({"pk": {"S": "branch#arn"}, "sk": {"S": "refs/heads/main"}});
    let wire = Wire::answering([
        ok(&json!({"Items": [item(7, "r")], "Count": 1, "LastEvaluatedKey": at})),
        ok(&json!({"Items": [item(3, "r")], "Count": 1})),
        ok(&json!({"Items": []})),
    ]);
    let rows = ledger(&wire).list::<State>("branch#arn", "").await.unwrap();
    assert_eq!(rows.iter().map(|row| row.revision).collect::<Vec<_>>(), [7, 3]);
    assert!(ledger(&wire).list::<State>("grant", "user/").await.unwrap().is_empty());
    let requests: Vec<Value> = wire.requests().iter().map(Request::json).collect();
    let asked = json!({
        "TableName": "sekisho-ledger", "ConsistentRead": true, "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": {":pk": {"S": "branch#arn"}},
    });
    assert_eq!(requests[0], asked);
    assert_eq!(requests[1]["ExclusiveStartKey"], at);
    assert_eq!(requests[2]["KeyConditionExpression"], "pk = :pk AND begins_with(sk, :sk)");
    assert_eq!(requests[2]["ExpressionAttributeValues"][":sk"], json!({"S": "user/"}));
}

#[tokio::test]
async fn a_row_of_another_shape_is_unreadable_and_named() {
    let broken = json!({
        "pk": {"S": "branch#arn"}, "sk": {"S": "refs/heads/main"},
        "sequence": {"S": "many"}, "revision": {"N": "1"},
    });
    let wire = Wire::answering([ok(&json!({"Item": broken})), ok(&json!({"Items": [broken]}))]);
    for error in [
        ledger(&wire).read::<State>(&key()).await.unwrap_err(),
        ledger(&wire).list::<State>("branch#arn", "").await.unwrap_err(),
    ] {
        assert!(matches!(&error, Error::Unreadable { key: broken, .. } if *broken == key()), "{error:?}");
        assert!(error.to_string().contains("fix or delete it"), "{error}");
    }
}

/// An earlier version read a row without a revision as revision 0, so no later write of the row could succeed.
#[tokio::test]
async fn a_row_without_a_revision_is_unreadable() {
    let mut bare = item(7, "r");
    bare.as_object_mut().unwrap().remove("revision");
    let wire = Wire::answering([ok(&json!({"Item": bare}))]);
    let error = ledger(&wire).read::<State>(&key()).await.unwrap_err();
    assert!(matches!(&error, Error::Unreadable { source, .. } if source.to_string().contains("revision")), "{error:?}");
}

#[tokio::test]
async fn an_unreadable_row_does_not_hide_other_rows() {
    let broken = json!({
        "pk": {"S": "branch#arn"}, "sk": {"S": "refs/heads/a"},
        "sequence": {"S": "many"}, "revision": {"N": "1"},
    });
    let wire = Wire::answering([ok(&json!({"Items": [broken, item(7, "r")]}))]);
    let rows = ledger(&wire).each::<State>("branch#arn", "").await.unwrap();
    assert!(matches!(&rows[0], Err(Error::Unreadable { key, .. }) if key.sk == "refs/heads/a"), "{rows:?}");
    assert!(matches!(&rows[1], Ok(row) if row.revision == 7), "{rows:?}");
}

#[tokio::test]
async fn an_operation_that_dynamodb_does_not_answer_is_unavailable() {
    for (answer, is_throttled) in [
        (refused("ProvisionedThroughputExceededException"), true),
        (refused("ThrottlingException"), true),
        (refused("RequestLimitExceeded"), true),
        (refused("ResourceNotFoundException"), false),
        (refused("ValidationException"), false),
        (Answer::Http(500, String::new()), false),
        (Answer::TimedOut, false),
    ] {
        let wire = Wire::answering(std::iter::repeat_n(answer, 5));
        let ledger = ledger(&wire);
        let decisions = [Decision::new("ignored", "deleted")];
        for error in [
            ledger.read::<State>(&key()).await.unwrap_err(),
            ledger.list::<State>("branch#arn", "").await.unwrap_err(),
            ledger.write(&key(), &state(), None, "r").await.unwrap_err(),
            ledger.delete(&key(), 1).await.unwrap_err(),
            ledger.record("event-relay", "r", datetime!(2026-11-21 12:00 UTC), &decisions).await.unwrap_err(),
        ] {
            assert!(matches!(error, Error::Unavailable { throttled, .. } if throttled == is_throttled), "{error:?}");
        }
        wire.requests();
    }
}

#[tokio::test]
async fn decisions_are_kept_by_function_and_day_for_four_hundred_days() {
    let wire = Wire::answering([ok(&json!({}))]);
    let decisions = [Decision::new("ignored", "deleted").about("ref", "refs/heads/main")];
    let now = datetime!(2026-11-21 23:59:59.987 UTC);
    ledger(&wire).record("event-relay", "request-1", now, &decisions).await.unwrap();
    let request = &wire.requests()[0];
    assert_eq!(request.operation, "PutItem");
    let written = json!({
        "TableName": "sekisho-ledger",
        "Item": {
            "pk": {"S": "decision#event-relay#2026-11-21"},
            "sk": {"S": "2026-11-21T23:59:59.987Z#request-1"},
            "request": {"S": "request-1"},
            "expires": {"N": "1829865599"},
            "decisions": {"L": [{"M": {
                "outcome": {"S": "ignored"}, "reason": {"S": "deleted"}, "ref": {"S": "refs/heads/main"},
            }}]},
        },
    });
    assert_eq!(request.json(), written);
}

fn branch(name: &str) -> Key {
    Key { pk: "branch#arn".to_owned(), sk: format!("refs/heads/{name}") }
}

#[tokio::test]
async fn many_rows_are_read_in_batches_and_returned_in_the_order_of_their_keys() {
    let row = |name: &str| {
        let mut row = item(7, "r");
        row["sk"] = json!({"S": format!("refs/heads/{name}")});
        row
    };
    let rest = json!({"sekisho-ledger": {"ConsistentRead": true, "Keys": [
        {"pk": {"S": "branch#arn"}, "sk": {"S": "refs/heads/2"}},
    ]}});
    let mut unreadable = row("3");
    unreadable["sequence"] = json!({"S": "seven"});
    let wire = Wire::answering([
        ok(&json!({"Responses": {"sekisho-ledger": [unreadable, row("0")]}, "UnprocessedKeys": rest})),
        ok(&json!({"Responses": {"sekisho-ledger": [row("2")]}, "UnprocessedKeys": {}})),
    ]);
    let keys: Vec<Key> = (0..4).map(|n| branch(&n.to_string())).collect();
    let rows = ledger(&wire).read_many::<State>(&keys).await.unwrap();
    let found: Vec<_> =
        rows.iter().map(|row| row.as_ref().ok().map(|row| row.as_ref().map(|row| row.revision))).collect();
    assert_eq!(found, [Some(Some(7)), Some(None), Some(Some(7)), None]);
    let requests = wire.requests();
    assert_eq!(requests.iter().map(|r| r.operation.as_str()).collect::<Vec<_>>(), ["BatchGetItem", "BatchGetItem"]);
    let asked = &requests[0].json()["RequestItems"]["sekisho-ledger"];
    assert_eq!(asked["ConsistentRead"], true);
    assert_eq!(asked["Keys"].as_array().unwrap().len(), 4);
    assert_eq!(requests[1].json()["RequestItems"], rest);
}

#[tokio::test]
async fn a_batch_has_at_most_a_hundred_keys_and_an_empty_one_is_not_sent() {
    let answer = || ok(&json!({"Responses": {"sekisho-ledger": []}}));
    let wire = Wire::answering([answer(), answer()]);
    let keys: Vec<Key> = (0..101).map(|n| branch(&n.to_string())).collect();
    assert_eq!(ledger(&wire).read_many::<State>(&keys).await.unwrap().len(), 101);
    assert!(ledger(&wire).read_many::<State>(&[]).await.unwrap().is_empty());
    let mut counts: Vec<usize> = wire.requests().iter().map(batch_size).collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 100]);
}

fn batch_size(request: &Request) -> usize {
    request.json()["RequestItems"]["sekisho-ledger"]["Keys"].as_array().unwrap().len()
}

#[tokio::test]
async fn keys_that_dynamodb_never_processes_are_an_error() {
    let rest = json!({"sekisho-ledger": {"Keys": [{"pk": {"S": "branch#arn"}, "sk": {"S": "refs/heads/2"}}]}});
    let answer = ok(&json!({"Responses": {}, "UnprocessedKeys": rest}));
    let wire = Wire::answering(vec![answer; 5]);
    let error = ledger(&wire).read_many::<State>(&[branch("2")]).await.unwrap_err();
    assert!(error.is_throttled(), "{error}");
    assert_eq!(wire.requests().len(), 5);
}

/// The answer that cancels a transaction, with one code for each write.
fn canceled(codes: &[&str]) -> Answer {
    let code = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
    let reasons: Vec<Value> = codes.iter().map(|code| json!({"Code": code})).collect();
    Answer::Http(400, json!({"__type": code, "Message": "cancelled", "CancellationReasons": reasons}).to_string())
}

fn two_writes() -> [Write; 2] {
    [Write::new(branch("0"), &state(), None).unwrap(), Write::new(branch("1"), &state(), Some(6)).unwrap()]
}

#[tokio::test]
async fn a_transaction_writes_each_row_under_its_own_condition() {
    let wire = Wire::answering([ok(&json!({}))]);
    ledger(&wire).write_all(&two_writes(), "request-1").await.unwrap();
    ledger(&wire).write_all(&[], "request-1").await.unwrap();
    let requests = wire.requests();
    assert_eq!(requests[0].operation, "TransactWriteItems");
    let items = requests[0].json()["TransactItems"].clone();
    assert_eq!(items[0]["Put"]["ConditionExpression"], "attribute_not_exists(pk)");
    assert_eq!(items[0]["Put"]["Item"]["revision"], json!({"N": "1"}));
    assert_eq!(items[1]["Put"]["ConditionExpression"], "revision = :expected");
    assert_eq!(items[1]["Put"]["ExpressionAttributeValues"], json!({":expected": {"N": "6"}}));
    let mut expected = item(7, "request-1");
    expected["sk"] = json!({"S": "refs/heads/1"});
    assert_eq!(items[1]["Put"]["Item"], expected);
}

#[tokio::test]
async fn a_canceled_transaction_names_the_row_that_another_invocation_has_written() {
    let failed = async |answer: Answer| {
        let wire = Wire::answering([answer]);
        ledger(&wire).write_all(&two_writes(), "request-1").await.unwrap_err()
    };
    for code in ["ConditionalCheckFailed", "TransactionConflict"] {
        let error = failed(canceled(&["None", code])).await;
        assert!(matches!(error, Error::Changed(key) if key == branch("1")), "{code}");
    }
}

#[tokio::test]
async fn a_transaction_that_dynamodb_throttles_is_repeated_a_few_times() {
    for code in ["ThrottlingError", "ProvisionedThroughputExceeded"] {
        let throttled = || canceled(&["None", code]);
        let wire = Wire::answering([throttled(), throttled(), ok(&json!({}))]);
        ledger(&wire).write_all(&two_writes(), "request-1").await.unwrap();
        assert_eq!(wire.requests().len(), 3);
        let wire = Wire::answering(vec![throttled(); 4]);
        let error = ledger(&wire).write_all(&two_writes(), "request-1").await.unwrap_err();
        assert!(error.is_throttled() && matches!(error, Error::Unavailable { key, .. } if key == branch("1")));
    }
    let wire = Wire::answering([canceled(&["ValidationError", "None"])]);
    let error = ledger(&wire).write_all(&two_writes(), "request-1").await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { throttled: false, .. }));
}
