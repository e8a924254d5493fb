//! Events about a change. A change starts each of its pipelines once, in the order of the changes, and independently of
//! the other pipelines.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use pipeline_starter::Error;
use pipeline_starter::Outcome::{self, Duplicate, Failed, Filtered, Stale, Started};
use pipeline_starter::claim::Progress;
use pipeline_starter::world::{StartAnswer, World};
use sekisho_domain::decision::Decision;
use sekisho_domain::route::ActionName;
use sekisho_lambda::Failure;

use crate::function::{
    COMMITTED_CONFIG, Function, NO_CALLS, PIPELINE_IS_FULL, SEQUENCE, START, change, claimed, event, file,
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
    assert_eq!((starts[0].pipeline.as_str(), &starts[0].commit), ("shop", &change(0).commit));
    assert_eq!(starts[0].actions, ["Source".parse().unwrap()]);
    assert!(starts[0].token.len() == 64 && starts[0].token.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!(function.row("shop").unwrap().state.progress, Progress::Started("e1".to_owned()));
    function.take_calls();

    let before = function.row("shop");
    let again = function.decide(&file("change")).await;
    assert_eq!((again.outcome, again.concerns["execution"].as_str()), (Duplicate, "e1"));
    assert!(again.reason.contains("e1"));
    assert_eq!((function.take_calls(), function.row("shop")), (vec![], before));
}

#[tokio::test(start_paused = true)]
async fn a_change_that_comes_late_is_stale_and_rolls_nothing_back() {
    let function = Function::new();
    assert_eq!(function.decide(&event(change(5), &["shop"])).await.outcome, Started);
    function.take_calls();
    let late = function.decide(&file("change")).await;
    assert_eq!((late.outcome, late.reason.contains(&(SEQUENCE + 5).to_string())), (Stale, true));
    assert_eq!(function.take_calls(), NO_CALLS);
    assert_eq!(function.decide(&event(change(6), &["shop"])).await.outcome, Started);
}

#[tokio::test(start_paused = true)]
async fn each_reference_has_its_own_order() {
    let function = Function::new();
    assert_eq!(function.decide(&event(change(5), &["shop"])).await.outcome, Started);
    assert_eq!(function.decide(&file("change-of-a-new-branch")).await.outcome, Started);
}

#[tokio::test(start_paused = true)]
async fn every_source_action_that_the_routes_name_is_pinned() {
    let function = two_pipelines();
    function.handle(&event(change(0), &["shop"])).await.unwrap();
    let starts = function.world().starts.take();
    let actions: Vec<&str> = starts[0].actions.iter().map(ActionName::as_str).collect();
    assert_eq!((starts.len(), actions), (1, vec!["Source", "Templates"]));
}

#[tokio::test(start_paused = true)]
async fn an_invocation_waits_for_a_live_claim_as_long_as_time_allows_and_never_decides_duplicate() {
    for later in [0, 1] {
        let function = Function::new();
        function.write_row("shop", &claimed(0, START));
        let before = function.row("shop");
        let error = function.handle(&event(change(later), &["shop"])).await.unwrap_err();
        assert_eq!(error.error_type().name(), "Internal");
        assert!(matches!(&error, Error::Busy(pipeline) if pipeline.as_str() == "shop"), "{error}");
        let waited = (function.world().now() - START).whole_seconds();
        // The function waits no longer, because it reserves the rest of the timeout for a start.
        assert!((24..28).contains(&waited), "{waited}");
        assert_eq!((function.take_calls(), function.row("shop")), (vec![], before));
        assert!(function.recorded_decisions().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_invocation_that_waited_finds_the_execution_that_the_other_one_started() {
    let function = Function::new();
    let row = claimed(0, START);
    function.write_row("shop", &row);
    let other = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        function.write_row("shop", &row.with(Progress::Started("theirs".to_owned())));
    };
    let payload = file("change");
    let (decision, ()) = futures_util::join!(function.decide(&payload), other);
    assert_eq!((decision.outcome, decision.concerns["execution"].as_str()), (Duplicate, "theirs"));
    assert_eq!(function.take_calls(), NO_CALLS);
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_the_execution_is_searched_for_and_then_started_with_the_same_token() {
    for existing in [Some("theirs".to_owned()), None] {
        let function = Function::new();
        let row = claimed(0, START);
        function.write_row("shop", &row);
        tokio::time::advance(Duration::from_secs(56)).await;
        function.world().existing_execution.replace(existing.clone());
        let decision = function.decide(&file("change")).await;
        assert_eq!(decision.outcome, Started);
        assert_eq!(function.world().searches.take(), [(change(0).commit, START)]);
        let starts = function.world().starts.take();
        match existing {
            Some(execution) => assert_eq!((decision.concerns["execution"].clone(), starts), (execution, vec![])),
            None => assert_eq!((starts.len(), &starts[0].token), (1, &row.token)),
        }
    }
}

/// If the function kept the claim until the lease ends, every newer change would wait for the end of the lease.
#[tokio::test(start_paused = true)]
async fn a_failed_search_gives_the_claim_back() {
    let function = Function::new();
    function.write_row("shop", &claimed(0, START));
    tokio::time::advance(Duration::from_secs(56)).await;
    function.world().search_is_down.set(true);
    assert_eq!(function.handle(&file("change")).await.unwrap_err().error_type().name(), "Throttled");
    assert_eq!(function.take_calls(), ["ListPipelineExecutions shop"], "no start without a search");
    assert!(matches!(function.row("shop").unwrap().state.progress, Progress::Waiting(_)));
    function.world().search_is_down.set(false);
    assert_eq!(function.decide(&file("change")).await.outcome, Started);
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
    let outcomes = async || {
        let decisions = function.handle(&payload).await.unwrap().decisions;
        let pipeline_and_outcome = |d: Decision<Outcome>| (d.concerns["pipeline"].clone(), d.outcome, d.reason);
        decisions.into_iter().map(pipeline_and_outcome).collect::<Vec<_>>()
    };
    let first = outcomes().await;
    assert_eq!((first[0].0.as_str(), first[0].1), ("audit", Started));
    assert!(first[0].2.contains("audit-1"), "{first:?}");
    assert_eq!(first[1], ("shop".to_owned(), Failed, NO_SUCH_PIPELINE.to_owned()));
    let retry = outcomes().await;
    assert_eq!((retry[0].1, retry[1].1), (Duplicate, Failed));
    // Somebody creates the pipeline, and the event is delivered again.
    exists.set(true);
    let redelivered = outcomes().await;
    assert_eq!((redelivered[0].1, redelivered[1].1), (Duplicate, Started));
    let tokens: Vec<String> = function.world().starts.take().into_iter().map(|start| start.token).collect();
    assert!(tokens[1] == tokens[2] && tokens[2] == tokens[3] && tokens[0] != tokens[1], "{tokens:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_accepts_no_start_does_not_keep_another_from_starting() {
    let function = two_pipelines();
    function.answer_starts(|start| match start.pipeline.as_str() {
        "shop" => StartAnswer::Deferred("ThrottlingException: slow down".to_owned()),
        name => StartAnswer::Started(name.to_owned()),
    });
    let error = function.handle(&event(change(0), &["shop", "audit"])).await.unwrap_err();
    assert_eq!(error.error_type().name(), "Throttled");
    assert_eq!(function.recorded_decisions()[0]["outcome"], "started", "the decision about the other one is recorded");
    assert_eq!(function.row("audit").unwrap().state.progress, Progress::Started("audit".to_owned()));
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
async fn a_start_that_is_not_accepted_in_time_is_given_back_and_the_retry_starts_it() {
    let function = Function::new();
    function.answer_starts(|_| StartAnswer::Deferred(PIPELINE_IS_FULL.to_owned()));
    let error = function.handle(&file("change")).await.unwrap_err();
    assert_eq!(error.error_type().name(), "Throttled");
    assert!(error.to_string().contains(PIPELINE_IS_FULL), "{error}");
    assert!(function.world().now() - START < Duration::from_secs(40), "with time left to write the row");
    let row = function.row("shop").unwrap().state;
    assert_eq!(row.progress, Progress::Waiting(PIPELINE_IS_FULL.to_owned()));
    function.take_calls();
    // The retry starts the pipeline without waiting, because the claim was given back.
    function.answer_starts(|_| StartAnswer::Started("e".to_owned()));
    assert_eq!(function.decide(&file("change")).await.outcome, Started);
    assert_eq!(function.take_calls(), ["ListPipelineExecutions shop", "StartPipelineExecution shop"]);
    assert_eq!(function.world().starts.take().last().unwrap().token, row.token);
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
