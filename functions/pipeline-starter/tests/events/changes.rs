//! Events about a change without an order, as event-relay sends them in a version that does not know orders. The
//! change's sequence takes the place of an order's number.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use pipeline_starter::Error;
use pipeline_starter::Outcome::{self, Duplicate, Filtered, Stale, Started, Waiting};
use pipeline_starter::world::{StartAnswer, World};
use sekisho_domain::decision::Decision;
use sekisho_domain::route::ActionName;
use sekisho_lambda::Failure;

use crate::function::{
    COMMITTED_CONFIG, Function, NO_CALLS, PIPELINE_IS_FULL, REPORT, SEQUENCE, START, change, event, file, pinned,
};

const NO_SUCH_PIPELINE: &str = "PipelineNotFoundException: create it";

/// The function with two pipelines: `audit`, and `shop` with a second source action.
fn two_pipelines() -> Function {
    let route = "[[route]]\nrepository = \"shop\"\nbranches = [\"main\"]\n";
    let target = |pipeline: &str, action: &str| {
        format!(
            "[[route.target]]\naccount = \"222222222222\"\nregion = \"ap-northeast-1\"\n\
             pipeline = \"{pipeline}\"\naction = \"{action}\"\n"
        )
    };
    Function::with_config(&format!(
        "{route}{}{}{route}{}",
        target("shop", "Source"),
        target("audit", "Code"),
        target("shop", "Templates")
    ))
}

#[tokio::test(start_paused = true)]
async fn a_change_starts_at_its_commit_and_a_repetition_names_the_execution() {
    let function = Function::new();
    assert_eq!(function.decide(&file("change")).await.outcome, Started);
    let starts = function.world().starts.take();
    assert_eq!(starts.len(), 1);
    assert_eq!((starts[0].pipeline.as_str(), &pinned(&starts[0], "Source")), ("shop", &change(0).revision));
    assert_eq!(starts[0].pins.len(), 1);
    assert!(starts[0].token.len() == 64 && starts[0].token.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!(function.shop().execution.as_deref(), Some("e1"));
    function.take_calls();

    let before = function.row("shop");
    let again = function.decide(&file("change")).await;
    assert_eq!((again.outcome, again.concerns["execution"].as_str()), (Duplicate, "e1"));
    assert!(again.reason.contains("e1"));
    assert_eq!((function.take_calls(), function.row("shop")), (vec![REPORT.to_owned()], before));
}

#[tokio::test(start_paused = true)]
async fn a_change_that_comes_late_is_stale_and_rolls_nothing_back() {
    let function = Function::new();
    assert_eq!(function.decide(&event(change(5), &["shop"])).await.outcome, Started);
    function.take_calls();
    let late = function.decide(&file("change")).await;
    assert_eq!((late.outcome, late.reason.contains(&(SEQUENCE + 5).to_string())), (Stale, true));
    assert_eq!(function.take_calls(), [REPORT]);
    assert_eq!(function.decide(&event(change(6), &["shop"])).await.outcome, Started);
}

/// A pipeline that several references feed must not go backward.
#[tokio::test(start_paused = true)]
async fn the_changes_of_all_references_have_one_order() {
    let function = Function::new();
    let release = sekisho_domain::change::Change { source_ref: "refs/heads/release/1.2".parse().unwrap(), ..change(4) };
    assert_eq!(function.decide(&event(change(5), &["shop"])).await.outcome, Started);
    assert_eq!(function.decide(&event(release.clone(), &["shop"])).await.outcome, Stale);
    let newer = sekisho_domain::change::Change { sequence: SEQUENCE + 6, ..release };
    assert_eq!(function.decide(&event(newer, &["shop"])).await.outcome, Started);
}

#[tokio::test(start_paused = true)]
async fn every_source_action_that_the_routes_name_is_pinned() {
    let function = two_pipelines();
    function.handle(&event(change(0), &["shop"])).await.unwrap();
    let starts = function.world().starts.take();
    let actions: Vec<&str> = starts[0].pins.keys().map(ActionName::as_str).collect();
    assert_eq!((starts.len(), actions), (1, vec!["Source", "Templates"]));
}

#[tokio::test(start_paused = true)]
async fn a_missing_pipeline_does_not_keep_another_from_starting_and_starts_once_it_exists() {
    let function = two_pipelines();
    let exists = Rc::new(Cell::new(false));
    let shop_exists = exists.clone();
    function.answer_starts(move |start| match start.pipeline.as_str() {
        "shop" if !shop_exists.get() => StartAnswer::Rejected(NO_SUCH_PIPELINE.to_owned()),
        name => StartAnswer::Started(format!("{name}-1")),
    });
    let payload = event(change(0), &["shop", "audit"]);
    let outcomes = async |payload: &str| {
        let decisions = function.handle(payload).await.unwrap().decisions;
        let pipeline_and_outcome = |d: Decision<Outcome>| (d.concerns["pipeline"].clone(), d.outcome, d.reason);
        decisions.into_iter().map(pipeline_and_outcome).collect::<Vec<_>>()
    };
    let first = outcomes(&payload).await;
    assert_eq!((first[0].0.as_str(), first[0].1), ("audit", Started));
    assert!(first[0].2.contains("audit-1"), "{first:?}");
    assert_eq!(first[1], ("shop".to_owned(), Waiting, NO_SUCH_PIPELINE.to_owned()));
    let retry = outcomes(&payload).await;
    assert_eq!((retry[0].1, retry[1].1), (Duplicate, Duplicate));
    // Somebody creates the pipeline. Nobody sends anything again.
    exists.set(true);
    let followed = outcomes(&file("schedule")).await;
    assert_eq!((followed[0].0.as_str(), followed[0].1), ("shop", Started));
    let tokens: Vec<String> = function.world().starts.take().into_iter().map(|start| start.token).collect();
    assert!(tokens.len() == 3 && tokens[1] == tokens[2] && tokens[0] != tokens[1], "{tokens:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_accepts_no_start_does_not_keep_another_from_starting() {
    let function = two_pipelines();
    function.answer_starts(|start| match start.pipeline.as_str() {
        "shop" => StartAnswer::Deferred("ThrottlingException: slow down".to_owned()),
        name => StartAnswer::Started(name.to_owned()),
    });
    let decisions = function.handle(&event(change(0), &["shop", "audit"])).await.unwrap().decisions;
    assert_eq!(decisions.iter().map(|decision| decision.outcome).collect::<Vec<_>>(), [Started, Waiting]);
    assert_eq!(function.recorded_decisions().len(), 2);
    assert_eq!(function.row("audit").unwrap().state.execution.as_deref(), Some("audit"));
}

#[tokio::test(start_paused = true)]
async fn a_deferred_start_is_retried_with_growing_pauses() {
    let function = Function::new();
    let mut attempts = 0;
    function.answer_starts(move |_| {
        attempts += 1;
        if attempts < 4 {
            StartAnswer::Deferred("ConflictException: busy".to_owned())
        } else {
            StartAnswer::Started("e".to_owned())
        }
    });
    assert_eq!(function.decide(&file("change")).await.outcome, Started);
    let starts = function.world().starts.take();
    assert_eq!(starts.len(), 4);
    assert!(starts.iter().all(|start| *start == starts[0]), "the same token in every attempt");
    assert!(function.world().now() - START >= Duration::from_millis(3_500), "pauses of 0.5 s, 1 s and 2 s, at least");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_not_accepted_in_time_waits_and_the_follow_up_starts_it() {
    let function = Function::new();
    function.answer_starts(|_| StartAnswer::Deferred(PIPELINE_IS_FULL.to_owned()));
    let decision = function.decide(&file("change")).await;
    assert_eq!((decision.outcome, decision.reason.as_str()), (Waiting, PIPELINE_IS_FULL));
    let token = function.shop().token;
    function.take_calls();
    function.answer_starts(|_| StartAnswer::Started("e".to_owned()));
    assert_eq!(function.follow_up_after(Duration::from_mins(1)).await[0].outcome, Started);
    assert_eq!(function.take_calls(), ["StartPipelineExecution shop", REPORT]);
    assert_eq!(function.world().starts.take().last().unwrap().token, token);
}

#[tokio::test(start_paused = true)]
async fn without_the_ledger_nothing_starts() {
    let function = Function::new();
    function.world().ledger.set_out_of_reach(true);
    let error = function.handle(&file("change")).await.unwrap_err();
    assert_eq!(error.error_type().name(), "Internal");
    assert!(matches!(error, Error::Ledger(sekisho_ledger::Error::Unavailable { .. })), "{error}");
    assert_eq!(function.take_calls(), NO_CALLS);
    function.world().ledger.set_out_of_reach(false);
    assert_eq!(function.decide(&file("change")).await.outcome, Started);
}

#[tokio::test(start_paused = true)]
async fn a_target_in_another_region_or_account_is_filtered() {
    for (from, to) in [("222222222222", "444444444444"), ("\"ap-northeast-1\"\npipeline", "\"us-east-1\"\npipeline")] {
        let unpadded = COMMITTED_CONFIG.replace("         ", " ");
        let config = unpadded.replacen(from, to, 1);
        assert_ne!(config, unpadded, "{from}");
        let function = Function::with_config(&config);
        let decision = function.decide(&file("change")).await;
        assert_eq!(decision.outcome, Filtered, "{decision:?}");
        assert_eq!(function.take_calls(), NO_CALLS);
    }
}
