//! Counts the calls of whole invocations on the wire, because each call costs money and time.

use futures_util::FutureExt;
use pipeline_starter::aws::Aws;
use pipeline_starter::order::OrderRow;
use pipeline_starter::{Outcome, Starter};
use sekisho_domain::change::SourceChange;
use sekisho_domain::config::Document;
use sekisho_domain::order::Order;
use sekisho_lambda::Environment;
use sekisho_testing::cases::file;
use sekisho_testing::invocation::invocation;
use sekisho_testing::wire::{Answer, Wire, ok};
use serde_json::{Value, json};
use time::Duration;

const CONFIG: &str = include_str!("../../../../config/sekisho.toml");
const VARIABLES: [(&str, &str); 2] =
    [("LEDGER_TABLE", "sekisho-ledger"), ("NOTICE_TOPIC_ARN", "arn:aws:sns:ap-northeast-1:222222222222:notices")];

/// Sends a payload to the function, and returns the outcome and the operations that the function called.
async fn call(payload: &str, answers: Vec<Answer>) -> (Outcome, Vec<String>) {
    let wire = Wire::answering(answers);
    let environment: Environment = VARIABLES.into_iter().collect();
    let starter = Starter {
        world: Aws::new(&environment, &wire.config()).unwrap(),
        routes: Document::parse("sekisho.toml", CONFIG).unwrap().routes().unwrap(),
        repository_account: "111111111111".parse().unwrap(),
    };
    let deadline = sekisho_lambda::now() + Duration::seconds(45);
    let invocation = invocation("sekisho-pipeline-starter", "222222222222", deadline);
    let decisions = starter.handle(payload, &invocation).boxed_local().await.unwrap().into_decisions();
    let operations = wire.requests().into_iter().map(|request| request.operation).collect();
    (decisions[0].outcome, operations)
}

/// The row of an order for the change of `order.json`, as DynamoDB returns it.
fn item(number: u64) -> Value {
    let event: Value = serde_json::from_str(&file("pipeline-starter", "order")).unwrap();
    let change = SourceChange::parse(&event["detail"].to_string()).unwrap().change;
    let now = sekisho_lambda::now();
    let row = OrderRow::new(Order::deploy(number), &change, &"shop".parse().unwrap(), None, now);
    let row = OrderRow { execution: Some("e".to_owned()), ..row };
    let progress = json!({"ended": "healthy"});
    let mut row = serde_json::to_value(&row).unwrap();
    row["progress"] = progress;
    row["pk"] = "order".into();
    row["sk"] = "shop".into();
    row["revision"] = 4.into();
    attribute(&row)["M"].clone()
}

/// A value in DynamoDB's JSON.
fn attribute(value: &Value) -> Value {
    match value {
        Value::Null => json!({"NULL": true}),
        Value::Bool(value) => json!({"BOOL": value}),
        Value::Number(value) => json!({"N": value.to_string()}),
        Value::String(value) => json!({"S": value}),
        Value::Array(values) => json!({"L": values.iter().map(attribute).collect::<Vec<_>>()}),
        Value::Object(fields) => {
            let fields: serde_json::Map<_, _> =
                fields.iter().map(|(name, value)| (name.clone(), attribute(value))).collect();
            json!({"M": fields})
        }
    }
}

#[tokio::test]
async fn a_started_pipeline_takes_six_calls() {
    let accepted = json!({"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]});
    let answers = vec![
        ok(&json!({"Responses": {"sekisho-ledger": [item(1)]}})),
        ok(&json!({})),
        ok(&json!({"pipelineExecutionId": "e2"})),
        ok(&accepted),
        ok(&json!({})),
        ok(&json!({})),
    ];
    let (outcome, operations) = call(&file("pipeline-starter", "order"), answers).await;
    let expected = ["BatchGetItem", "PutItem", "StartPipelineExecution", "PutEvents", "TransactWriteItems", "PutItem"];
    assert_eq!((outcome, operations), (Outcome::Started, expected.map(str::to_owned).to_vec()));
}

#[tokio::test]
async fn an_idle_follow_up_takes_one_query() {
    for items in [vec![], vec![item(1)]] {
        let answers = vec![ok(&json!({"Items": items, "Count": items.len()}))];
        let (outcome, operations) = call(&file("pipeline-starter", "schedule"), answers).await;
        assert_eq!((outcome, operations), (Outcome::Ignored, vec!["Query".to_owned()]));
    }
}

#[tokio::test]
async fn the_end_of_an_execution_takes_five_calls() {
    let accepted = json!({"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]});
    let mut running = item(1);
    running["progress"] = attribute(&json!({"running": {"check": 0}}));
    let answers = vec![ok(&json!({"Item": running})), ok(&json!({})), ok(&accepted), ok(&json!({})), ok(&json!({}))];
    let payload = file("pipeline-starter", "pipeline-succeeded").replace("a6c6b8f2-0f0f-4f53-9c1e-1d2c3b4a5968", "e");
    let (outcome, operations) = call(&payload, answers).await;
    let expected = ["GetItem", "PutItem", "PutEvents", "PutItem", "PutItem"];
    assert_eq!((outcome, operations), (Outcome::Healthy, expected.map(str::to_owned).to_vec()));
}
