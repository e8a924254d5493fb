//! Sends each file of `events/pipeline-starter` to the function in an account that has started nothing yet, and checks
//! the decision.

use pipeline_starter::Outcome::{self, ExecutionFailed, Filtered, Ignored, Refused, Started, Waiting};
use sekisho_lambda::Failure;
use serde_json::Value;

use crate::function::{COMMITTED_CONFIG, Function, REPORT, file};
use crate::sources::IMAGE_ROUTE;

/// The expected result of a file.
enum Expected {
    /// A recorded decision with this outcome and these fields. The decision's reason contains the text.
    Decided(Outcome, &'static str, &'static [(&'static str, &'static str)]),
    /// A decision with this outcome, this text in the reason and these fields. The decision is returned, but not
    /// recorded.
    Explained(Outcome, &'static str, &'static [(&'static str, &'static str)]),
    /// A decision with the outcome `Ignored`, which is returned and logged, but not recorded.
    Idle,
    /// The error `InvalidRequest`, whose message contains the text.
    Invalid(&'static str),
}
use Expected::{Decided, Explained, Idle, Invalid};

const NOT_ROUTED: &str = "this account's configuration";
const FOREIGN_SHOP: &str = "arn:aws:codecommit:ap-northeast-1:444444444444:shop";
const LEGACY: (&str, &str) = ("repository", "arn:aws:codecommit:ap-northeast-1:111111111111:legacy");
const STARTED: &[(&str, &str)] = &[SHOP, MAIN, PIPELINE, ("execution", "e1"), ("sequence", "1795312345678"), COMMIT];
const FAILED: &[(&str, &str)] = &[PIPELINE, EXECUTION, ("place", "Build / Build"), COMMIT];
const MAIN: (&str, &str) = ("ref", "refs/heads/main");
const SHOP: (&str, &str) = ("repository", "arn:aws:codecommit:ap-northeast-1:111111111111:shop");
const PIPELINE: (&str, &str) = ("pipeline", "shop");
const EXECUTION: (&str, &str) = ("execution", "a6c6b8f2-0f0f-4f53-9c1e-1d2c3b4a5968");
const COMMIT: (&str, &str) = ("commit", "1f0c2a9be4d5760f8c3b7a6e5d4c3b2a19080706");
const FOREIGN: (&str, &str) = ("account", "444444444444");
const ORDER: (&str, &str) = ("order", "1795312345999");
const ORDERED: &[(&str, &str)] = &[SHOP, MAIN, PIPELINE, ORDER, ("execution", "e1"), COMMIT];
const ECR: (&str, &str) = ("repository", "arn:aws:ecr:ap-northeast-1:111111111111:repository/shop");
const TAG: (&str, &str) = ("ref", "refs/images/v1.2.0");
const IMAGE_PIPELINE: (&str, &str) = ("pipeline", "shop-image");
const DIGEST: (&str, &str) = ("digest", "sha256:4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f");
const START_IMAGE: &[&str] = &["StartPipelineExecution shop-image", REPORT];
const LIST_AND_START_IMAGE: &[&str] =
    &["ListPipelineExecutions shop-image", "StartPipelineExecution shop-image", REPORT];
const START_SHOP: &[&str] = &["StartPipelineExecution shop", REPORT];
const LIST_AND_START: &[&str] = &["ListPipelineExecutions shop", "StartPipelineExecution shop", REPORT];
const REFUSE: &[&str] = &[REPORT];
const NOTIFY: &[&str] = &["ListActionExecutions shop a6c6b8f2-0f0f-4f53-9c1e-1d2c3b4a5968", "Publish"];
const APPROVAL: (&str, &str) = ("place", "Deploy / Approval");
const ASK: &[&str] = &["GetPipelineExecution shop a6c6b8f2-0f0f-4f53-9c1e-1d2c3b4a5968", "Publish"];
const ASK_BILLING: &[&str] = &["GetPipelineExecution billing a6c6b8f2-0f0f-4f53-9c1e-1d2c3b4a5968", "Publish"];

/// The name of a file, the expected result, and the expected calls to CodePipeline and SNS.
#[rustfmt::skip]
const CASES: &[(&str, Expected, &[&str])] = &[
    ("action-started", Decided(Ignored, "approval", &[PIPELINE, EXECUTION, ("place", "Build / Build")]), &[]),
    ("alarm-quiet", Idle, &[]),
    ("alarm-rings", Idle, &[]),
    ("alarm-rings-foreign", Decided(Refused, "only account 222222222222", &[FOREIGN]), &[]),
    ("alarm-without-name", Decided(Refused, "`alarmName`", &[]), &[]),
    ("approval-answered", Decided(Ignored, "approval", &[PIPELINE, EXECUTION, APPROVAL]), &[]),
    ("approval-waits", Decided(Waiting, "was sent", &[PIPELINE, EXECUTION, APPROVAL, COMMIT]), ASK),
    ("approval-waits-foreign", Decided(Refused, "only account 222222222222", &[FOREIGN]), &[]),
    ("approval-waits-of-no-route", Decided(Waiting, "was sent", &[("pipeline", "billing"), APPROVAL]), ASK_BILLING),
    ("approval-waits-without-stage", Decided(Refused, "`stage`", &[]), &[]),
    ("change", Decided(Started, "e1", STARTED), START_SHOP),
    ("change-for-more-pipelines", Decided(Started, "e1", &[PIPELINE]), START_SHOP),
    ("change-for-other-pipelines", Decided(Filtered, "the event names none", &[SHOP, MAIN]), &[]),
    ("change-found-by-reconcile", Decided(Started, "e1", &[PIPELINE, MAIN]), START_SHOP),
    ("change-of-a-new-branch", Decided(Started, "e1", &[PIPELINE, ("ref", "refs/heads/release/1.2")]), START_SHOP),
    ("change-of-a-tag", Decided(Filtered, NOT_ROUTED, &[("ref", "refs/tags/v1.0.0")]), &[]),
    ("change-of-an-image", Decided(Started, "runs at this image", &[ECR, TAG, IMAGE_PIPELINE, DIGEST]), START_IMAGE),
    ("change-of-another-repository", Decided(Filtered, NOT_ROUTED, &[LEGACY]), &[]),
    ("change-of-no-route", Decided(Filtered, NOT_ROUTED, &[("ref", "refs/heads/feature/search")]), &[]),
    ("event-of-codecommit", Decided(Refused, "`aws.codecommit`", &[("account", "111111111111")]), &[]),
    ("explain", Explained(Started, "would be started", &[SHOP, MAIN, PIPELINE]), &[]),
    ("explain-approval-waits", Explained(Waiting, "would be sent", &[PIPELINE, EXECUTION, APPROVAL]), &[]),
    ("explain-foreign-account", Explained(Refused, "only account 111111111111", &[FOREIGN]), &[]),
    ("explain-of-no-route", Explained(Filtered, NOT_ROUTED, &[]), &[]),
    ("explain-order", Explained(Started, "would be started", &[SHOP, MAIN, PIPELINE, ORDER]), &[]),
    ("explain-order-of-an-image", Explained(Started, "at this image", &[ECR, TAG, IMAGE_PIPELINE, ORDER, DIGEST]), &[]),
    ("explain-pipeline-failed", Explained(ExecutionFailed, "would be sent", &[PIPELINE, EXECUTION]), &[]),
    ("explain-schedule", Explained(Ignored, "nothing is due", &[]), &[]),
    ("explain-without-event", Invalid("`event`"), &[]),
    ("foreign-account", Decided(Refused, "account 444444444444: only account 111111111111", &[FOREIGN, MAIN]), &[]),
    ("foreign-repository", Decided(Refused, FOREIGN_SHOP, &[("repository", FOREIGN_SHOP)]), &[]),
    ("image-of-a-foreign-registry", Decided(Refused, "does not belong to the account", &[TAG]), &[]),
    ("image-of-no-route", Decided(Filtered, NOT_ROUTED, &[("ref", "refs/images/latest")]), REFUSE),
    ("image-with-a-commit", Decided(Refused, "missing field `digest`", &[ECR, TAG]), &[]),
    ("image-with-an-odd-tag", Decided(Refused, "the tag of an image", &[ECR]), &[]),
    ("kind-against-reference", Decided(Refused, "`kind` contradicts `ref`", &[SHOP, MAIN]), &[]),
    ("malformed-commit", Decided(Refused, "detail.change.commit: `main`", &[SHOP, MAIN]), &[]),
    ("malformed-repository", Decided(Refused, "detail.change.repository: `shop`", &[("repository", "shop")]), &[]),
    ("not-an-event", Decided(Refused, "EventBridge", &[]), &[]),
    ("order", Decided(Started, "e1", ORDERED), START_SHOP),
    ("order-for-an-unrouted-pipeline", Decided(Filtered, NOT_ROUTED, &[("pipeline", "billing"), ORDER]), REFUSE),
    ("order-for-another-pipeline-only", Decided(Started, "e1", &[PIPELINE, ("sequence", "1795312345678")]), START_SHOP),
    ("order-of-a-rollback", Decided(Started, "e1", ORDERED), LIST_AND_START),
    ("order-of-a-rollback-to-an-image", Decided(Started, "e1", &[ECR, DIGEST, ORDER]), LIST_AND_START_IMAGE),
    ("order-of-an-image", Decided(Started, "runs at this image", &[ECR, TAG, IMAGE_PIPELINE, ORDER]), START_IMAGE),
    ("order-of-no-route", Decided(Filtered, NOT_ROUTED, &[ORDER, ("ref", "refs/heads/feature/search")]), REFUSE),
    ("order-of-unknown-kind", Decided(Refused, "detail.orders.shop.kind", &[PIPELINE, ORDER]), REFUSE),
    ("order-with-unknown-fields", Decided(Started, "e1", ORDERED), LIST_AND_START),
    ("order-without-kind", Decided(Refused, "detail.orders.shop", &[PIPELINE, ORDER]), REFUSE),
    ("order-without-number", Decided(Refused, "detail.orders.shop", &[PIPELINE, COMMIT]), &[]),
    ("other-detail-type", Decided(Refused, "`Source Changed`", &[SHOP, MAIN]), &[]),
    ("other-source", Decided(Refused, "`shop.relay`", &[SHOP, MAIN]), &[]),
    ("oversized-kind", Decided(Refused, "detail.change.kind: unknown variant", &[SHOP, MAIN]), &[]),
    ("pipeline-canceled", Decided(Ignored, "waits", &[PIPELINE, EXECUTION]), &[]),
    ("pipeline-failed", Decided(ExecutionFailed, "exit status 1", FAILED), NOTIFY),
    ("pipeline-failed-again", Decided(ExecutionFailed, "exit status 1", FAILED), NOTIFY),
    ("pipeline-failed-foreign", Decided(Refused, "only account 222222222222", &[FOREIGN]), &[]),
    ("pipeline-failed-of-no-route", Decided(Ignored, "no route", &[("pipeline", "billing"), EXECUTION]), &[]),
    ("pipeline-failed-without-execution", Decided(Refused, "`execution-id`", &[]), &[]),
    ("pipeline-resumed", Decided(Ignored, "waits", &[PIPELINE, EXECUTION]), &[]),
    ("pipeline-stopped", Decided(Ignored, "waits", &[PIPELINE, EXECUTION]), &[]),
    ("pipeline-succeeded", Decided(Ignored, "waits", &[PIPELINE, EXECUTION]), &[]),
    ("pipeline-superseded", Decided(Ignored, "waits", &[PIPELINE, EXECUTION]), &[]),
    ("schedule", Idle, &[]),
    ("schedule-foreign", Decided(Refused, "only account 222222222222", &[FOREIGN]), &[]),
    ("spoofed-commit", Decided(Refused, "detail.id", &[SHOP, MAIN]), &[]),
    ("spoofed-digest", Decided(Refused, "detail.id", &[ECR, TAG]), &[]),
    ("spoofed-id", Decided(Refused, "detail.id", &[SHOP, MAIN]), &[]),
    ("spoofed-sequence", Decided(Refused, "detail.id", &[SHOP, MAIN]), &[]),
    ("unknown-action", Invalid("`start`"), &[]),
    ("unknown-fields", Decided(Started, "e1", &[PIPELINE]), START_SHOP),
    ("unknown-version", Decided(Refused, "detail.version is 2", &[SHOP, MAIN]), &[]),
    ("without-account", Decided(Refused, "`account`", &[SHOP, MAIN]), &[]),
    ("without-id", Decided(Refused, "`id`", &[SHOP, MAIN]), &[]),
    ("without-pipelines", Decided(Refused, "`pipelines`", &[SHOP, MAIN]), &[]),
    ("without-sequence", Decided(Refused, "`sequence`", &[SHOP, MAIN]), &[]),
    ("without-version", Decided(Refused, "`version`", &[SHOP, MAIN]), &[]),
];

#[test]
fn every_file_has_a_case_and_every_case_has_a_file() {
    sekisho_testing::cases::assert_complete("pipeline-starter", CASES.iter().map(|(name, ..)| *name));
}

#[tokio::test(start_paused = true)]
async fn every_file_leads_to_its_decision() {
    for (name, expected, calls) in CASES {
        let function = Function::with_config(&format!("{COMMITTED_CONFIG}{IMAGE_ROUTE}"));
        let result = function.handle(&file(name)).await;
        assert_eq!(function.take_calls(), *calls, "{name}");
        let rows = function.world().ledger.rows();
        match expected {
            Decided(outcome, text, fields) => {
                let decisions = result.unwrap().decisions;
                assert_eq!((decisions.len(), decisions[0].outcome), (1, *outcome), "{name}: {decisions:?}");
                let decision = serde_json::to_value(&decisions[0]).unwrap();
                assert_contains(name, &decision, text, fields);
                assert_eq!(function.recorded_decisions(), [decision], "{name}");
                // In addition to the decision's row, a started order has its row and a claim, and a sent notice has a
                // row.
                let other_rows = match *calls {
                    [] | REFUSE => 0,
                    START_SHOP | LIST_AND_START => 2,
                    _ => 1,
                };
                assert_eq!(rows.len(), 1 + other_rows, "{name}: {rows:?}");
            }
            Explained(outcome, text, fields) => {
                let decisions = result.unwrap().decisions;
                assert_eq!((decisions.len(), decisions[0].outcome), (1, *outcome), "{name}");
                assert_contains(name, &serde_json::to_value(&decisions[0]).unwrap(), text, fields);
                assert!(rows.is_empty(), "{name}: {rows:?}");
            }
            Idle => {
                let decisions = result.unwrap().decisions;
                assert_eq!((decisions.len(), decisions[0].outcome), (1, Ignored), "{name}");
                assert!(rows.is_empty(), "{name}: {rows:?}");
            }
            Invalid(text) => {
                let error = result.unwrap_err();
                assert_eq!(error.error_type().name(), "InvalidRequest", "{name}: {error}");
                assert!(error.to_string().contains(text), "{name}: {error}");
                assert!(rows.is_empty(), "{name}: {rows:?}");
            }
        }
    }
}

fn assert_contains(name: &str, decision: &Value, text: &str, fields: &[(&str, &str)]) {
    assert!(decision["reason"].as_str().unwrap().contains(text), "{name}: {decision}");
    for (field, value) in fields {
        assert_eq!(decision[*field], *value, "{name}: {field} of {decision}");
    }
}

/// If the reason quoted the whole field, the decision would not fit into a row of DynamoDB, and every retry would fail.
#[tokio::test(start_paused = true)]
async fn an_event_with_a_huge_field_is_refused_and_leaves_a_small_row() {
    let function = Function::new();
    let huge = file("change").replace("\"branch\"", &format!("\"{}\"", "k".repeat(900_000)));
    assert_eq!(function.decide(&huge).await.outcome, Refused);
    assert!(serde_json::to_string(&function.recorded_decisions()).unwrap().len() < 3_000);
}
