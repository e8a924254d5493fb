//! Each file of `events/pipeline-starter` and the decision it leads to in an account that has started nothing yet.

use std::collections::BTreeSet;

use pipeline_starter::handler::Outcome::{self, Failed, Filtered, Ignored, Refused, Started};
use sekisho_lambda::Failure;
use serde_json::Value;

use crate::world::{Function, directory, file};

/// What a file leads to.
enum To {
    /// This decision, which has these words and concerns this.
    Decided(Outcome, &'static str, &'static [(&'static str, &'static str)]),
    /// An answer that is written nowhere.
    Explained(Outcome, &'static str, &'static [(&'static str, &'static str)]),
    /// An `InvalidRequest` with these words.
    Invalid(&'static str),
}
use To::{Decided, Explained, Invalid};

const MAIN: (&str, &str) = ("ref", "refs/heads/main");
const SHOP: (&str, &str) = ("repository", "arn:aws:codecommit:ap-northeast-1:111111111111:shop");
const PIPELINE: (&str, &str) = ("pipeline", "shop");
const EXECUTION: (&str, &str) = ("execution", "a6c6b8f2-0f0f-4f53-9c1e-1d2c3b4a5968");
const START_SHOP: &[&str] = &["StartPipelineExecution shop"];
const TELL: &[&str] = &["ListActionExecutions shop a6c6b8f2-0f0f-4f53-9c1e-1d2c3b4a5968", "Publish"];

/// File, what it leads to, and the calls to CodePipeline and SNS.
#[rustfmt::skip]
const CASES: &[(&str, To, &[&str])] = &[
    ("change", Decided(Started, "execution e1 runs at this commit", &[SHOP, MAIN, PIPELINE, ("execution", "e1"), ("sequence", "1795312345678"), ("commit", "1f0c2a9be4d5760f8c3b7a6e5d4c3b2a19080706")]), START_SHOP),
    ("change-for-more-pipelines", Decided(Started, "e1", &[PIPELINE]), START_SHOP),
    ("change-for-other-pipelines", Decided(Filtered, "names none of the pipelines", &[SHOP, MAIN]), &[]),
    ("change-found-by-reconcile", Decided(Started, "e1", &[PIPELINE, MAIN]), START_SHOP),
    ("change-of-a-new-branch", Decided(Started, "e1", &[PIPELINE, ("ref", "refs/heads/release/1.2")]), START_SHOP),
    ("change-of-a-tag", Decided(Filtered, "routes nothing here", &[("ref", "refs/tags/v1.0.0")]), &[]),
    ("change-of-another-repository", Decided(Filtered, "routes nothing here", &[("repository", "arn:aws:codecommit:ap-northeast-1:111111111111:legacy")]), &[]),
    ("change-of-no-route", Decided(Filtered, "routes nothing here", &[("ref", "refs/heads/feature/search")]), &[]),
    ("event-of-codecommit", Decided(Refused, "source `aws.codecommit`", &[("account", "111111111111")]), &[]),
    ("explain", Explained(Started, "would be started at this commit", &[SHOP, MAIN, PIPELINE]), &[]),
    ("explain-foreign-account", Explained(Refused, "only account 111111111111 is believed", &[("account", "444444444444")]), &[]),
    ("explain-of-no-route", Explained(Filtered, "routes nothing here", &[]), &[]),
    ("explain-pipeline-failed", Explained(Failed, "the failure would be told", &[PIPELINE, EXECUTION]), &[]),
    ("explain-without-event", Invalid("`event` is missing"), &[]),
    ("foreign-account", Decided(Refused, "account 444444444444: only account 111111111111", &[("account", "444444444444"), MAIN]), &[]),
    ("foreign-repository", Decided(Refused, "which is not the sender's", &[("repository", "arn:aws:codecommit:ap-northeast-1:444444444444:shop")]), &[]),
    ("kind-against-reference", Decided(Refused, "detail.change.kind does not fit", &[SHOP, MAIN]), &[]),
    ("malformed-commit", Decided(Refused, "detail.change.commit: `main`", &[SHOP, MAIN]), &[]),
    ("malformed-repository", Decided(Refused, "detail.change.repository: `shop`", &[("repository", "shop")]), &[]),
    ("not-an-event", Decided(Refused, "not an event of EventBridge", &[]), &[]),
    ("other-detail-type", Decided(Refused, "detail-type `Source Changed`", &[SHOP, MAIN]), &[]),
    ("other-source", Decided(Refused, "source `shop.relay`", &[SHOP, MAIN]), &[]),
    ("oversized-kind", Decided(Refused, "detail.change.kind: unknown variant", &[SHOP, MAIN]), &[]),
    ("pipeline-failed", Decided(Failed, "the execution failed: exit status 1", &[PIPELINE, EXECUTION, ("place", "Build / Build"), ("commit", "1f0c2a9be4d5760f8c3b7a6e5d4c3b2a19080706")]), TELL),
    ("pipeline-failed-foreign", Decided(Refused, "only account 222222222222 is believed", &[("account", "444444444444")]), &[]),
    ("pipeline-failed-of-no-route", Decided(Ignored, "no route starts this pipeline", &[("pipeline", "billing"), EXECUTION]), &[]),
    ("pipeline-failed-without-execution", Decided(Refused, "missing field `execution-id`", &[]), &[]),
    ("pipeline-succeeded", Decided(Ignored, "nothing waits for this pipeline", &[PIPELINE, EXECUTION]), &[]),
    ("pipeline-superseded", Decided(Ignored, "nothing waits for this pipeline", &[PIPELINE, EXECUTION]), &[]),
    ("spoofed-commit", Decided(Refused, "detail.id does not belong", &[SHOP, MAIN]), &[]),
    ("spoofed-id", Decided(Refused, "detail.id does not belong", &[SHOP, MAIN]), &[]),
    ("spoofed-sequence", Decided(Refused, "detail.id does not belong", &[SHOP, MAIN]), &[]),
    ("unknown-action", Invalid("no action `start`: send `explain`"), &[]),
    ("unknown-fields", Decided(Started, "e1", &[PIPELINE]), START_SHOP),
    ("unknown-version", Decided(Refused, "detail.version is 2", &[SHOP, MAIN]), &[]),
    ("without-account", Decided(Refused, "missing field `account`", &[SHOP, MAIN]), &[]),
    ("without-id", Decided(Refused, "missing field `id`", &[SHOP, MAIN]), &[]),
    ("without-pipelines", Decided(Refused, "missing field `pipelines`", &[SHOP, MAIN]), &[]),
    ("without-sequence", Decided(Refused, "missing field `sequence`", &[SHOP, MAIN]), &[]),
    ("without-version", Decided(Refused, "missing field `version`", &[SHOP, MAIN]), &[]),
];

#[test]
fn every_file_has_a_case_and_every_case_a_file() {
    let files: BTreeSet<String> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let cases: BTreeSet<String> = CASES.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(files, cases);
    assert_eq!(cases.len(), CASES.len());
}

#[tokio::test(start_paused = true)]
async fn every_file_leads_to_its_decision() {
    for (name, to, calls) in CASES {
        let function = Function::new();
        let answer = function.handle(&file(name)).await;
        assert_eq!(function.calls(), *calls, "{name}");
        let rows = function.world().ledger.rows();
        match to {
            Decided(outcome, words, concerns) => {
                let decisions = answer.unwrap().decisions;
                assert_eq!((decisions.len(), decisions[0].outcome), (1, *outcome), "{name}: {decisions:?}");
                let decision = serde_json::to_value(&decisions[0]).unwrap();
                holds(name, &decision, words, concerns);
                assert_eq!(function.recorded(), [decision], "{name}");
                // A claim, or that a failure was told, only where something was done.
                let done = usize::from(!calls.is_empty());
                assert_eq!(rows.len(), 1 + done, "{name}: {rows:?}");
            }
            Explained(outcome, words, concerns) => {
                let decisions = answer.unwrap().decisions;
                assert_eq!((decisions.len(), decisions[0].outcome), (1, *outcome), "{name}");
                holds(name, &serde_json::to_value(&decisions[0]).unwrap(), words, concerns);
                assert!(rows.is_empty(), "{name}: {rows:?}");
            }
            Invalid(words) => {
                let error = answer.unwrap_err();
                assert_eq!(error.error_type().name(), "InvalidRequest", "{name}: {error}");
                assert!(error.to_string().contains(words), "{name}: {error}");
                assert!(rows.is_empty(), "{name}: {rows:?}");
            }
        }
    }
}

fn holds(name: &str, decision: &Value, words: &str, concerns: &[(&str, &str)]) {
    assert!(decision["reason"].as_str().unwrap().contains(words), "{name}: {decision}");
    for (what, value) in concerns {
        assert_eq!(decision[*what], *value, "{name}: {what} of {decision}");
    }
}

/// The reason quoted the field whole, and DynamoDB takes no such row: the invocation failed, again and again.
#[tokio::test(start_paused = true)]
async fn a_flood_in_a_field_is_refused_and_leaves_a_small_row() {
    let function = Function::new();
    let flood = file("change").replace("\"branch\"", &format!("\"{}\"", "k".repeat(900_000)));
    assert_eq!(function.decide(&flood).await.outcome, Refused);
    assert!(serde_json::to_string(&function.recorded()).unwrap().len() < 3_000);
}
