//! One change and the pipelines that it starts: once, in order, each on its own.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use pipeline_starter::claim::{Progress, State};
use pipeline_starter::handler::Outcome::{self, Duplicate, Failed, Stale, Started};
use pipeline_starter::world::{Started as Answer, World};
use sekisho_lambda::Failure;
use time::OffsetDateTime;

use crate::world::{COMMITTED, FULL, Function, SEQUENCE, START, change, event, file};

const MISSING: &str = "PipelineNotFoundException: no such pipeline here: create it, or correct the route's target";

/// A second pipeline in this account, and a second source action of the first.
fn two_pipelines() -> Function {
    let route = "[[route]]\nrepository = \"shop\"\nbranches = [\"main\"]\n";
    let target = |pipeline: &str, action: &str| {
        format!(
            "[[route.target]]\naccount = \"222222222222\"\nregion = \"ap-northeast-1\"\npipeline = \"{pipeline}\"\naction = \"{action}\"\n"
        )
    };
    Function::with(&format!(
        "{route}{}{}{route}{}",
        target("shop", "Source"),
        target("audit", "Code"),
        target("shop", "Templates")
    ))
}

/// A claim of the change so many sequences later, taken at `at`.
fn claimed(later: u64, at: OffsetDateTime) -> State {
    State::claimed(&change(later), &"shop".parse().unwrap(), at)
}

#[tokio::test(start_paused = true)]
async fn it_starts_at_the_pinned_commit_and_the_second_time_names_the_execution() {
    let function = Function::new();
    assert_eq!(function.decide(&file("change")).await.outcome, Started);
    let started = function.world().started.take();
    assert_eq!(started.len(), 1);
    assert_eq!((started[0].pipeline.as_str(), &started[0].commit), ("shop", &change(0).commit));
    assert_eq!(started[0].actions, ["Source".parse().unwrap()]);
    assert!(started[0].token.len() == 64 && started[0].token.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!(function.row("shop").unwrap().state.progress, Progress::Started("e1".to_owned()));
    function.calls();

    let before = function.row("shop");
    let again = function.decide(&file("change")).await;
    assert_eq!((again.outcome, again.concerns["execution"].as_str()), (Duplicate, "e1"));
    assert!(again.reason.contains("e1"));
    assert_eq!((function.calls(), function.row("shop")), (vec![], before));
}

#[tokio::test(start_paused = true)]
async fn what_comes_late_is_stale_and_rolls_nothing_back() {
    let function = Function::new();
    assert_eq!(function.decide(&event(change(5), &["shop"])).await.outcome, Started);
    function.calls();
    let late = function.decide(&file("change")).await;
    assert_eq!((late.outcome, late.reason.contains(&(SEQUENCE + 5).to_string())), (Stale, true));
    assert_eq!(function.calls(), [""; 0]);
    assert_eq!(function.decide(&event(change(6), &["shop"])).await.outcome, Started);
}

#[tokio::test(start_paused = true)]
async fn another_reference_has_an_order_of_its_own() {
    let function = Function::new();
    assert_eq!(function.decide(&event(change(5), &["shop"])).await.outcome, Started);
    assert_eq!(function.decide(&file("change-of-a-new-branch")).await.outcome, Started);
}

#[tokio::test(start_paused = true)]
async fn every_source_action_that_routes_name_is_pinned() {
    let function = two_pipelines();
    function.handle(&event(change(0), &["shop"])).await.unwrap();
    let started = function.world().started.take();
    let actions: Vec<&str> = started[0].actions.iter().map(sekisho_domain::route::ActionName::as_str).collect();
    assert_eq!((started.len(), actions), (1, vec!["Source", "Templates"]));
}

/// It gave up after 20 s, with time left for the start.
#[tokio::test(start_paused = true)]
async fn a_live_claim_is_waited_for_while_time_allows_and_is_never_a_duplicate() {
    for later in [0, 1] {
        let function = Function::new();
        function.write("shop", &claimed(0, START));
        let before = function.row("shop");
        let error = function.handle(&event(change(later), &["shop"])).await.unwrap_err();
        assert_eq!(error.error_type().name(), "Internal");
        assert!(error.to_string().contains("another invocation is starting pipeline shop"), "{error}");
        let waited = (function.world().now() - START).whole_seconds();
        // What is left is for the start that could follow.
        assert!((24..28).contains(&waited), "{waited}");
        assert_eq!((function.calls(), function.row("shop")), (vec![], before));
        assert!(function.recorded().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_finds_what_the_other_has_started() {
    let function = Function::new();
    let claim = claimed(0, START);
    function.write("shop", &claim);
    let other = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        function.write("shop", &claim.with(Progress::Started("theirs".to_owned())));
    };
    let payload = file("change");
    let (decision, ()) = futures_util::join!(function.decide(&payload), other);
    assert_eq!((decision.outcome, decision.concerns["execution"].as_str()), (Duplicate, "theirs"));
    assert_eq!(function.calls(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_a_crash_left_is_looked_for_and_then_started_with_the_same_token() {
    for found in [Some("theirs".to_owned()), None] {
        let function = Function::new();
        let claim = claimed(0, START);
        function.write("shop", &claim);
        tokio::time::advance(Duration::from_secs(56)).await;
        function.world().found.replace(found.clone());
        let decision = function.decide(&file("change")).await;
        assert_eq!(decision.outcome, Started);
        assert_eq!(function.world().searched.take(), [(change(0).commit, START)]);
        let started = function.world().started.take();
        match found {
            Some(execution) => assert_eq!((decision.concerns["execution"].clone(), started), (execution, vec![])),
            None => assert_eq!((started.len(), &started[0].token), (1, &claim.token)),
        }
    }
}

/// The claim stayed until its lease ended, and everything newer waited for it.
#[tokio::test(start_paused = true)]
async fn a_search_that_is_not_answered_gives_the_claim_back() {
    let function = Function::new();
    function.write("shop", &claimed(0, START));
    tokio::time::advance(Duration::from_secs(56)).await;
    function.world().search_is_down.set(true);
    assert_eq!(function.handle(&file("change")).await.unwrap_err().error_type().name(), "Throttled");
    assert_eq!(function.calls(), ["ListPipelineExecutions shop"], "and nothing is started unseen");
    assert!(matches!(function.row("shop").unwrap().state.progress, Progress::Waiting(_)));
    function.world().search_is_down.set(false);
    assert_eq!(function.decide(&file("change")).await.outcome, Started);
}

#[tokio::test(start_paused = true)]
async fn a_missing_pipeline_keeps_no_other_from_starting_also_on_a_retry() {
    let function = two_pipelines();
    let exists = Rc::new(Cell::new(false));
    let shop_exists = exists.clone();
    function.says(move |start| match start.pipeline.as_str() {
        "shop" if !shop_exists.get() => Answer::Never(MISSING.to_owned()),
        name => Answer::Execution(format!("{name}-1")),
    });
    let payload = event(change(0), &["shop", "audit"]);
    let outcomes = async || {
        let decisions = function.handle(&payload).await.unwrap().decisions;
        let of = |d: sekisho_domain::decision::Decision<Outcome>| (d.concerns["pipeline"].clone(), d.outcome, d.reason);
        decisions.into_iter().map(of).collect::<Vec<_>>()
    };
    let first = outcomes().await;
    assert_eq!(first[0], ("audit".to_owned(), Started, "execution audit-1 runs at this commit".to_owned()));
    assert_eq!(first[1], ("shop".to_owned(), Failed, MISSING.to_owned()));
    let retry = outcomes().await;
    assert_eq!((retry[0].1, retry[1].1), (Duplicate, Failed));
    // Created meanwhile, and the dead letter or the event comes once more.
    exists.set(true);
    let redriven = outcomes().await;
    assert_eq!((redriven[0].1, redriven[1].1), (Duplicate, Started));
    let tokens: Vec<String> = function.world().started.take().into_iter().map(|start| start.token).collect();
    assert!(tokens[1] == tokens[2] && tokens[2] == tokens[3] && tokens[0] != tokens[1], "{tokens:?}");
}

#[tokio::test(start_paused = true)]
async fn one_pipeline_that_takes_nothing_keeps_no_other_from_starting() {
    let function = two_pipelines();
    function.says(|start| match start.pipeline.as_str() {
        "shop" => Answer::Later("ThrottlingException: slow down".to_owned()),
        name => Answer::Execution(name.to_owned()),
    });
    let error = function.handle(&event(change(0), &["shop", "audit"])).await.unwrap_err();
    assert_eq!(error.error_type().name(), "Throttled");
    assert_eq!(function.recorded()[0]["outcome"], "started", "what was started is kept");
    assert_eq!(function.row("audit").unwrap().state.progress, Progress::Started("audit".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn throttling_is_waited_out() {
    let function = Function::new();
    let mut tries = 0;
    function.says(move |_| {
        tries += 1;
        if tries < 4 { Answer::Later("ConflictException: busy".to_owned()) } else { Answer::Execution("e".to_owned()) }
    });
    assert_eq!(function.decide(&file("change")).await.outcome, Started);
    let started = function.world().started.take();
    assert_eq!(started.len(), 4);
    assert!(started.iter().all(|start| *start == started[0]), "the same token in every try");
    assert!(function.world().now() - START >= Duration::from_millis(3_500), "with growing pauses");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_taken_in_time_is_given_back_and_started_by_the_retry() {
    let function = Function::new();
    function.says(|_| Answer::Later(FULL.to_owned()));
    let error = function.handle(&file("change")).await.unwrap_err();
    assert_eq!(error.error_type().name(), "Throttled");
    assert!(error.to_string().contains(FULL), "{error}");
    assert!(function.world().now() - START < Duration::from_secs(40), "with time to write that down");
    let row = function.row("shop").unwrap().state;
    assert_eq!(row.progress, Progress::Waiting(FULL.to_owned()));
    function.calls();
    // The retry, at once: no lease is in its way.
    function.says(|_| Answer::Execution("e".to_owned()));
    assert_eq!(function.decide(&file("change")).await.outcome, Started);
    assert_eq!(function.calls(), ["ListPipelineExecutions shop", "StartPipelineExecution shop"]);
    assert_eq!(function.world().started.take().last().unwrap().token, row.token);
}

#[tokio::test(start_paused = true)]
async fn without_the_ledger_nothing_starts() {
    let function = Function::new();
    function.world().ledger.set_out_of_reach(true);
    let error = function.handle(&file("change")).await.unwrap_err();
    assert_eq!(error.error_type().name(), "Internal");
    assert!(error.to_string().contains("ledger could not be reached"), "{error}");
    assert_eq!(function.calls(), [""; 0]);
    function.world().ledger.set_out_of_reach(false);
    assert_eq!(function.decide(&file("change")).await.outcome, Started);
}

#[tokio::test(start_paused = true)]
async fn explain_tells_each_step_and_takes_none() {
    let rows = [
        (claimed(0, START), Started, "would be started when another invocation is done"),
        (claimed(0, START).with(Progress::Waiting(FULL.to_owned())), Started, "would be started at this commit"),
        (claimed(0, START).with(Progress::Started("e".to_owned())), Duplicate, "as execution e"),
        (claimed(3, START).with(Progress::Started("e".to_owned())), Stale, "newer change"),
    ];
    for (row, outcome, words) in rows {
        let function = Function::new();
        function.write("shop", &row);
        let before = function.world().ledger.rows();
        let decision = function.decide(&file("explain")).await;
        assert_eq!((decision.outcome, decision.reason.contains(words)), (outcome, true), "{decision:?}");
        assert_eq!((function.calls(), function.world().ledger.rows()), (vec![], before));
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_in_another_region_or_account_is_not_ours() {
    for (from, to) in [("222222222222", "444444444444"), ("\"ap-northeast-1\"\npipeline", "\"us-east-1\"\npipeline")] {
        let config = COMMITTED.replace("         ", " ").replacen(from, to, 1);
        assert_ne!(config, COMMITTED.replace("         ", " "), "{from}");
        let function = Function::with(&config);
        let decision = function.decide(&file("change")).await;
        assert!(decision.reason.contains("routes nothing here"), "{decision:?}");
        assert_eq!(function.calls(), [""; 0]);
    }
}
