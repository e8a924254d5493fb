//! Sends each file of `events/event-relay` to the function in an account that has relayed nothing yet, and checks the
//! decisions.

use event_relay::Outcome::{self, Baseline, Filtered, Ignored, Refused, Relayed};
use event_relay::{Answer, Error};
use sekisho_lambda::Failure;
use sekisho_testing::cases::assert_complete;
use serde_json::Value;

use crate::function::{Function, SHOP as SHOP_ARN, file, outcomes};

/// The name and the value of an entry that a decision must have in `concerns`.
type Concern = (&'static str, &'static str);

/// The expected answer to the event in a file.
enum Expected {
    /// Decisions with these outcomes. The first decision has these concerns, and its reason contains this text.
    Decided(&'static [Outcome], &'static str, &'static [Concern]),
    /// One decision with this outcome, this text in the reason and these concerns. The decision is not stored.
    Explained(Outcome, &'static str, &'static [Concern]),
    /// A text that contains this text. Nothing is stored.
    Answered(&'static str),
    /// The error `InvalidRequest`, whose message contains this text.
    Invalid(&'static str),
    /// The error `NotFound`, whose message contains this text.
    NotFound(&'static str),
    /// The error `Refused`, whose message contains this text.
    Forbidden(&'static str),
}
use Expected::{Answered, Decided, Explained, Forbidden, Invalid, NotFound};

const MAIN: Concern = ("ref", "refs/heads/main");
const SHOP: Concern = ("repository", SHOP_ARN);
const REPORTER: Concern = ("target", "222222222222/ap-northeast-1/shop");
const RELAY_MAIN: &[&str] = &["GetBranch shop main", "PutEvents ap-northeast-1 2"];
const IMAGE: &[Concern] =
    &[("repository", "arn:aws:ecr:ap-northeast-1:111111111111:repository/shop"), ("ref", "refs/images/v1.2.0")];
const RELAY_RELEASE: &[&str] = &["GetBranch shop release/1.2", "PutEvents ap-northeast-1 2"];

/// The name of a file, the expected answer, and the expected calls to CodeCommit and the buses.
#[rustfmt::skip]
const CASES: &[(&str, Expected, &[&str])] = &[
    ("accept-and-rollback", Invalid("several actions"), &[]),
    ("branch-created", Decided(&[Relayed], "", &[SHOP, MAIN, ("targets", "2")]), RELAY_MAIN),
    ("branch-created-release",
     Decided(&[Relayed], "", &[("ref", "refs/heads/release/1.2"), ("targets", "2")]),
     RELAY_RELEASE),
    ("branch-deleted", Decided(&[Ignored], "deleted", &[("repository", "shop"), MAIN]), &[]),
    ("branch-merged", Decided(&[Relayed], "", &[SHOP, MAIN, ("targets", "2")]), RELAY_MAIN),
    ("branch-of-no-route", Decided(&[Filtered], "no route", &[SHOP, ("ref", "refs/heads/feature/search")]), &[]),
    ("branch-updated",
     Decided(&[Relayed], "", &[SHOP, MAIN, ("targets", "2"), ("event", "fb378474-af59-43be-a611-fcb2602c5b61")]),
     RELAY_MAIN),
    ("comment", Decided(&[Ignored], "`CodeCommit Comment on Commit`", &[("repository", "shop")]), &[]),
    ("explain",
     Explained(Relayed, "",
        &[SHOP, MAIN, ("targets", "222222222222/ap-northeast-1: shop; 333333333333/ap-northeast-1: shop")]),
     &["GetBranch shop main"]),
    ("explain-deleted", Explained(Ignored, "deleted", &[MAIN]), &[]),
    ("explain-foreign-account", Explained(Refused, "account 444444444444", &[("account", "444444444444")]), &[]),
    ("explain-image", Explained(Filtered, "no route", IMAGE), &[]),
    ("explain-order-report", Explained(Ignored, "", &[REPORTER, ("order", "1795312345999")]), &[]),
    ("explain-schedule", Explained(Ignored, "every routed branch of shop", &[]), &[]),
    ("explain-without-event", Invalid("`event` is missing"), &[]),
    ("foreign-account",
     Decided(&[Refused], "account 444444444444", &[("account", "444444444444"), ("repository", "shop")]),
     &[]),
    ("foreign-region", Decided(&[Refused], "region us-east-1", &[MAIN]), &[]),
    ("hold-of-a-wave-that-does-not-exist", NotFound("it has no waves, so leave out `wave`"), &[]),
    ("hold-without-reason", Invalid(r#"{"action":"hold","route":"shop","reason":"…"}"#), &[]),
    ("image-deleted", Decided(&[Ignored], "deleted", &[("repository", "shop"), ("tag", "v1.2.0")]), &[]),
    ("image-of-a-malformed-repository", Decided(&[Refused], "event.detail.repository-name", &[]), &[]),
    ("image-of-a-spoofed-repository",
     Decided(&[Refused], "event.resources names a repository other than", &[("repository", "shop")]),
     &[]),
    ("image-of-another-region", Decided(&[Refused], "region us-east-1", &[("tag", "v1.2.0")]), &[]),
    ("image-of-another-registry", Decided(&[Refused], "account 444444444444", &[("account", "444444444444")]), &[]),
    ("image-push-failed", Decided(&[Ignored], "`FAILURE`", &[("repository", "shop")]), &[]),
    ("image-pushed", Decided(&[Filtered], "no route", IMAGE), &[]),
    ("image-pushed-without-tag", Decided(&[Ignored], "without a tag", &[("repository", "shop")]), &[]),
    ("image-replicated", Decided(&[Filtered], "no route", IMAGE), &[]),
    ("image-scanned", Decided(&[Ignored], "`ECR Image Scan`", &[("repository", "shop")]), &[]),
    ("image-with-odd-tag", Decided(&[Refused], "event.detail.image-tag", &[("tag", "../v1 .2")]), &[]),
    ("image-with-spoofed-digest", Decided(&[Filtered], "no route", IMAGE), &[]),
    ("image-without-repository", Decided(&[Refused], "missing field `repository-name`", &[]), &[]),
    ("malformed-commit-of-a-tag", Decided(&[Filtered], "no route", &[("ref", "refs/tags/v1.0.0")]), &[]),
    ("malformed-detail", Decided(&[Refused], "event.detail", &[]), &[]),
    ("malformed-reference", Decided(&[Refused], "event.detail.referenceFullName: `main`", &[("ref", "main")]), &[]),
    ("malformed-repository", Decided(&[Refused], "event.detail.repositoryName", &[("repository", "../shop")]), &[]),
    ("merge-commit-of-no-reference", Decided(&[Ignored], "merge commit", &[("repository", "shop")]), &[]),
    ("not-an-event", Decided(&[Refused], "not an EventBridge event", &[]), &[]),
    ("order-report", Decided(&[Ignored], "", &[REPORTER, ("order", "1795312345999"), ("state", "running")]), &[]),
    ("order-report-from-another-region", Decided(&[Refused], "region us-east-1", &[("pipeline", "shop")]), &[]),
    ("order-report-of-a-stranger",
     Decided(&[Ignored], "no route", &[("target", "444444444444/ap-northeast-1/shop")]),
     &[]),
    ("order-report-of-an-unknown-state",
     Decided(&[Refused], "event.detail.state", &[("account", "222222222222"), ("pipeline", "shop")]),
     &[]),
    ("order-report-of-another-pipeline", Decided(&[Ignored], "no route", &[]), &[]),
    ("order-report-of-another-version", Decided(&[Refused], "event.detail.version", &[]), &[]),
    ("order-report-too-far-ahead", Decided(&[Refused], "event.detail.number", &[REPORTER]), &[]),
    ("order-report-without-number", Decided(&[Refused], "missing field `number`", &[]), &[]),
    ("other-event-of-a-starter", Decided(&[Refused], "`Source Change`", &[("account", "222222222222")]), &[]),
    ("other-source", Decided(&[Refused], "`shop.codecommit`", &[MAIN]), &[]),
    ("oversized-reference", Decided(&[Refused], "event.detail.referenceFullName", &[("repository", "shop")]), &[]),
    ("pardon-of-an-unknown-code", NotFound("a code of the last 14 days"), &[]),
    ("promote-without-revision", Invalid("`revision` is missing"), &[]),
    ("pull-request-created", Decided(&[Ignored], "has not been merged", &[]), &[]),
    ("pull-request-merged", Decided(&[Relayed], "", &[SHOP, MAIN, ("targets", "2")]), RELAY_MAIN),
    ("pull-request-merged-spelled-together", Decided(&[Relayed], "", &[SHOP, MAIN, ("targets", "2")]), RELAY_MAIN),
    ("pull-request-not-merged", Decided(&[Ignored], "has not been merged", &[]), &[]),
    ("pull-request-without-destination", Decided(&[Refused], "missing field `destinationReference`", &[]), &[]),
    ("redeliver",
     Decided(&[Refused], "no change of this reference", &[SHOP, MAIN, ("sequence", "1795312345678")]),
     &[]),
    ("redeliver-of-another-account", Decided(&[Refused], "444444444444", &[]), &[]),
    ("redeliver-to-no-route", Decided(&[Filtered], "no route leads to this target", &[SHOP, MAIN]), &[]),
    ("redeliver-without-commit", Invalid("missing field `commit`"), &[]),
    ("resend", NotFound("333333333333/ap-northeast-1/shop: no change"), &[]),
    ("resend-of-no-route", NotFound("write one of shop"), &[]),
    ("resend-to-unknown-account", Invalid("write one of 222222222222, 333333333333"), &[]),
    ("resend-without-account", Invalid("missing field `account`"), &[]),
    ("rollback-in-a-route-without-waves", Forbidden("has no waves"), &[]),
    ("resume-short", Answered("No hold of shop was found"), &[]),
    ("schedule",
     Decided(&[Relayed, Baseline], "", &[SHOP, MAIN, ("targets", "2")]),
     &["ListBranches shop", "GetBranch shop release/1.2", "GetBranch shop main", "PutEvents ap-northeast-1 2"]),
    ("spoofed-repository",
     Decided(&[Refused], "event.resources names a repository other than", &[("repository", "shop")]),
     &[]),
    ("tag-created", Decided(&[Filtered], "no route", &[("ref", "refs/tags/v1.0.0")]), &[]),
    ("tag-deleted", Decided(&[Ignored], "deleted", &[("ref", "refs/tags/v1.0.0")]), &[]),
    ("tag-moved", Decided(&[Filtered], "no route", &[("ref", "refs/tags/v1.0.0")]), &[]),
    ("tag-without-commit", Decided(&[Filtered], "no route", &[("ref", "refs/tags/v1.0.0")]), &[]),
    ("train", Answered("shop has no waves"), &[]),
    ("train-of-no-route", NotFound("write one of shop"), &[]),
    ("train-short", Answered("shop has no waves"), &[]),
    ("unknown-action", Invalid("`retry`"), &[]),
    ("unknown-change", Decided(&[Ignored], "`referenceRenamed`", &[MAIN]), &[]),
    ("unknown-fields", Decided(&[Relayed], "", &[SHOP, MAIN, ("targets", "2")]), RELAY_MAIN),
    ("where", Answered("333333333333/ap-northeast-1/shop"), &[]),
    ("where-of-no-route", NotFound("write one of shop"), &[]),
    ("where-with-unknown-field", Invalid("unknown field `account`"), &[]),
    ("without-account", Decided(&[Refused], "missing field `account`", &[MAIN]), &[]),
    ("without-detail", Decided(&[Refused], "missing field `detail`", &[]), &[]),
    ("without-reference", Decided(&[Refused], "missing field `referenceFullName`", &[("repository", "shop")]), &[]),
    ("without-repository", Decided(&[Refused], "missing field `repositoryName`", &[MAIN]), &[]),
];

#[test]
fn every_file_has_a_case_and_every_case_a_file() {
    assert_complete("event-relay", CASES.iter().map(|(name, ..)| *name));
}

#[tokio::test(start_paused = true)]
async fn every_file_leads_to_the_expected_answer() {
    for (name, expected, calls) in CASES {
        let function = Function::new();
        let answer = function.answer(&file(name)).await;
        assert_eq!(function.calls(), *calls, "{name}");
        let rows = function.account().ledger.rows();
        match expected {
            Decided(expected, words, concerns) => {
                let decisions = answer.unwrap().into_decisions();
                let decided = outcomes(&decisions);
                assert_eq!(decided, *expected, "{name}: {decisions:?}");
                assert_decision(name, &serde_json::to_value(&decisions[0]).unwrap(), words, concerns);
                let returned: Vec<Value> = decisions.iter().map(|d| serde_json::to_value(d).unwrap()).collect();
                assert_eq!(function.stored_decisions(), returned, "{name}");
                // The ledger has one row with the decisions, and one row for a branch whose head was relayed or
                // recorded. Nothing is pending in the branch's row. The first look at a repository has a row, too, and
                // so has the reconcile.
                let relayed = decided.iter().filter(|o| **o == Relayed).count();
                let recorded = decided.iter().filter(|o| **o == Baseline).count();
                let targets = rows.iter().filter(|(key, _)| key.pk.starts_with("target#")).count();
                assert_eq!(rows.len() - targets, 1 + relayed + 3 * recorded, "{name}: {rows:?}");
                // A report on an order that the ledger lost raises the number in the row of its target.
                assert!(relayed > 0 || targets == usize::from(*name == "order-report"), "{name}: {rows:?}");
                for (key, _) in rows.iter().filter(|(key, _)| key.pk.starts_with("branch#")) {
                    assert_eq!(function.row(&key.sk).unwrap().state.pending, None, "{name}");
                }
            }
            Explained(outcome, words, concerns) => {
                let decisions = answer.unwrap().into_decisions();
                assert_eq!((decisions.len(), decisions[0].outcome), (1, *outcome), "{name}");
                assert_decision(name, &serde_json::to_value(&decisions[0]).unwrap(), words, concerns);
                assert!(rows.is_empty(), "{name}: {rows:?}");
            }
            Answered(words) => {
                let Answer::Text(text) = answer.unwrap() else { panic!("{name}: not a text") };
                assert!(text.contains(words), "{name}: {text}");
                assert!(rows.is_empty(), "{name}: {rows:?}");
            }
            Invalid(words) => assert_error(name, &answer.unwrap_err(), ("InvalidRequest", words), &rows),
            NotFound(words) => assert_error(name, &answer.unwrap_err(), ("NotFound", words), &rows),
            Forbidden(words) => assert_error(name, &answer.unwrap_err(), ("Refused", words), &rows),
        }
    }
}

fn assert_error<R: std::fmt::Debug>(name: &str, error: &Error, (error_type, words): (&str, &str), rows: &[R]) {
    assert_eq!(error.error_type().name(), error_type, "{name}: {error}");
    assert!(error.to_string().contains(words), "{name}: {error}");
    assert!(rows.is_empty(), "{name}: {rows:?}");
}

fn assert_decision(name: &str, decision: &Value, words: &str, concerns: &[(&str, &str)]) {
    assert!(decision["reason"].as_str().unwrap().contains(words), "{name}: {decision}");
    for (what, value) in concerns {
        assert_eq!(decision[*what], *value, "{name}: {what} of {decision}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_too_large_is_refused_and_leaves_a_small_row() {
    let function = Function::new();
    let mut event: Value = serde_json::from_str(&file("branch-updated")).unwrap();
    event["detail"]["callerUserArn"] = "a".repeat(300_000).into();
    let decisions = function.handle(&event.to_string()).await.unwrap().decisions;
    assert_eq!(decisions[0].outcome, Refused);
    assert!(decisions[0].reason.contains("bytes"), "{decisions:?}");
    assert_eq!(function.calls(), [""; 0]);
    assert!(serde_json::to_string(&function.stored_decisions()).unwrap().len() < 1_000);
}
