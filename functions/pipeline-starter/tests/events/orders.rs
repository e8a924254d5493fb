//! Orders: each order starts once, none starts after a newer one, and each is answered with a report.

use std::time::Duration;

use pipeline_starter::Outcome::{Duplicate, Filtered, Refused, Stale, Started, Waiting};
use pipeline_starter::order::Progress;
use pipeline_starter::world::{EntryResult, StartAnswer};
use sekisho_domain::change::Change;
use sekisho_domain::report::ReportState;
use sekisho_domain::timestamp::epoch_millis;
use serde_json::{Value, json};

use crate::function::{
    COMMIT, COMMITTED_CONFIG, Function, NO_CALLS, NUMBER, PIPELINE_IS_FULL, REPORT, START, change, claimed, event,
    file, listed, order_event, pinned,
};

#[tokio::test(start_paused = true)]
async fn an_order_starts_and_is_reported_on_the_bus_of_the_repository() {
    let function = Function::new();
    let decision = function.decide(&file("order")).await;
    assert_eq!((decision.outcome, decision.concerns["order"].as_str()), (Started, "1795312345999"));
    let (region, event) = function.world().events.borrow()[0].clone();
    assert_eq!((region.as_str(), event.account.as_str()), ("ap-northeast-1", "111111111111"));
    assert_eq!(event.bus, "arn:aws:events:ap-northeast-1:111111111111:event-bus/sekisho");
    assert_eq!((event.source, event.detail_type), ("sekisho.starter", "Order Report"));
    assert_eq!(event.resource, "arn:aws:codecommit:ap-northeast-1:111111111111:shop");
    let detail: Value = serde_json::from_str(&event.detail).unwrap();
    let expected = json!({
        "version": 1, "pipeline": "shop", "number": NUMBER, "id": change(0).id(), "revision": COMMIT,
        "state": "running", "region": "ap-northeast-1", "execution": "e1", "reason": "the execution runs",
        "at": "2026-11-21T12:00:00.000Z", "until": null, "good": null,
    });
    assert_eq!(detail, expected);
}

/// Each AWS call costs money and time: reading the row, the claim, the start, the report, the result and the decision.
#[tokio::test(start_paused = true)]
async fn a_started_pipeline_takes_three_writes_and_two_other_calls() {
    let function = Function::new();
    function.decide(&file("order")).await;
    assert_eq!(function.take_calls(), ["StartPipelineExecution shop", REPORT]);
    assert_eq!(function.row("shop").unwrap().revision, 2, "the claim and the result");
    assert_eq!(function.recorded_decisions().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_arrives_again_or_late_starts_nothing_and_gets_the_last_report_again() {
    let function = Function::new();
    function.decide(&order_event(1)).await;
    let first = function.take_reports();
    function.take_calls();
    tokio::time::advance(Duration::from_mins(5)).await;
    for (later, outcome) in [(1, Duplicate), (0, Stale)] {
        assert_eq!(function.decide(&order_event(later)).await.outcome, outcome);
        assert_eq!(function.take_calls(), [REPORT]);
        assert_eq!(function.take_reports(), first, "the report keeps its time");
    }
}

#[tokio::test(start_paused = true)]
async fn a_newer_order_ends_the_older_one() {
    let function = Function::new();
    function.answer_starts(|_| StartAnswer::Deferred(PIPELINE_IS_FULL.to_owned()));
    assert_eq!(function.decide(&order_event(0)).await.outcome, Waiting);
    function.answer_starts(|_| StartAnswer::Started("e".to_owned()));
    assert_eq!(function.decide(&order_event(1)).await.outcome, Started);
    assert_eq!(function.follow_up_after(Duration::from_hours(1)).await[0].outcome, pipeline_starter::Outcome::Ignored);
    let commits: Vec<_> = function.world().starts.borrow().iter().map(|start| pinned(start, "Source")).collect();
    assert_eq!(commits.iter().filter(|commit| **commit == change(1).revision).count(), 1);
    assert_eq!(commits.last(), Some(&change(1).revision));
}

/// The older order's invocation may start its execution at any time until its lease ends.
#[tokio::test(start_paused = true)]
async fn a_newer_order_waits_while_another_invocation_may_start_an_older_one() {
    let function = Function::new();
    function.write_row(&claimed(0, START));
    assert_eq!(function.decide(&order_event(0)).await.outcome, Duplicate, "the same order");
    assert_eq!(function.take_calls(), NO_CALLS);
    assert_eq!(function.decide(&order_event(1)).await.outcome, Waiting);
    assert_eq!(
        (function.take_calls(), function.take_states()),
        (vec![REPORT.to_owned()], vec![(NUMBER + 1, ReportState::Waiting)])
    );
    function.follow_up_after(Duration::from_secs(179)).await;
    assert_eq!(function.take_calls(), NO_CALLS);
    assert_eq!(function.follow_up_after(Duration::from_secs(2)).await[0].outcome, Started);
    assert_eq!(pinned(&function.world().starts.borrow()[0], "Source"), change(1).revision);
}

#[tokio::test(start_paused = true)]
async fn an_invocation_whose_order_was_replaced_lets_the_newer_order_start() {
    let function = Function::new();
    let mut attempts = 0;
    function.answer_starts(move |_| {
        attempts += 1;
        match attempts {
            1 => StartAnswer::Deferred(PIPELINE_IS_FULL.to_owned()),
            _ => StartAnswer::Started(format!("e{attempts}")),
        }
    });
    let newer = async {
        // The older order's invocation pauses before its second attempt.
        tokio::time::sleep(Duration::from_millis(100)).await;
        function.decide(&order_event(1)).await
    };
    let payload = order_event(0);
    let (older, newer) = futures_util::join!(function.handle(&payload), newer);
    let older = older.unwrap().decisions;
    assert_eq!(newer.outcome, Waiting);
    let started: Vec<_> =
        older.iter().map(|decision| (decision.outcome, decision.concerns["execution"].as_str())).collect();
    assert_eq!(started, [(Started, "e2"), (Started, "e3")], "the newer order starts without a follow-up");
    assert_eq!((function.shop().number, function.shop().executions), (NUMBER + 1, vec!["e2".to_owned()]));
    let states =
        [(NUMBER + 1, ReportState::Waiting), (NUMBER, ReportState::Running), (NUMBER + 1, ReportState::Running)];
    assert_eq!(function.take_states(), states);
}

/// The call without an answer takes effect a minute later, after its invocation has ended.
#[tokio::test(start_paused = true)]
async fn a_start_that_takes_effect_late_is_never_the_last_one() {
    let function = Function::new();
    let mut attempts = 0;
    function.answer_starts(move |_| {
        attempts += 1;
        match attempts {
            1 => StartAnswer::Deferred(PIPELINE_IS_FULL.to_owned()),
            2 => StartAnswer::Unanswered("no answer in time".to_owned()),
            _ => StartAnswer::Started("newer".to_owned()),
        }
    });
    let newer = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        function.decide(&order_event(1)).await
    };
    let payload = order_event(0);
    let (older, newer) = futures_util::join!(function.decide(&payload), newer);
    assert_eq!((older.outcome, newer.outcome), (Waiting, Waiting));
    for _ in 0..3 {
        function.follow_up_after(Duration::from_secs(38)).await;
    }
    assert_eq!(function.world().starts.borrow().len(), 2, "the late call may still take effect");
    assert_eq!(function.follow_up_after(Duration::from_secs(10)).await[0].outcome, Started);
    assert_eq!(function.shop().execution.as_deref(), Some("newer"));
}

/// One number must not make every later order of the pipeline stale.
#[tokio::test(start_paused = true)]
async fn a_number_far_ahead_of_the_clock_is_refused_without_a_row_or_a_report() {
    let day = 86_400_000;
    let now = epoch_millis(START);
    let implicit = |sequence| event(Change { sequence, ..change(0) }, &["shop"]);
    let explicit = |number: u64| file("order").replace(&NUMBER.to_string(), &number.to_string());
    for number in [now + day + 1, u64::MAX] {
        for payload in [implicit(number), explicit(number)] {
            let function = Function::new();
            let decision = function.decide(&payload).await;
            assert_eq!((decision.outcome, &decision.concerns["order"]), (Refused, &number.to_string()), "{payload}");
            assert_eq!((function.take_calls(), function.row("shop")), (vec![], None));
        }
        let unreadable = explicit(number).replace("deploy", "unknown");
        let function = Function::new();
        assert_eq!(function.decide(&unreadable).await.outcome, Refused);
        assert_eq!(function.take_calls(), NO_CALLS);
    }
    for payload in [implicit(now + day), explicit(now + day)] {
        assert_eq!(Function::new().decide(&payload).await.outcome, Started);
    }
}

#[tokio::test(start_paused = true)]
async fn a_malformed_order_with_the_number_of_a_readable_one_gets_the_last_report() {
    let function = Function::new();
    assert_eq!(function.decide(&file("order")).await.outcome, Started);
    let reports = function.take_reports();
    assert_eq!(function.decide(&file("order-of-unknown-kind")).await.outcome, Refused);
    assert_eq!(function.take_reports(), reports);
}

/// A report has a limit, because it is stored and sent, and its reason may quote the event.
#[tokio::test(start_paused = true)]
async fn an_order_with_a_huge_kind_leads_to_a_small_report() {
    let function = Function::new();
    let mut huge: Value = serde_json::from_str(&file("order-of-unknown-kind")).unwrap();
    huge["detail"]["orders"]["shop"]["kind"] = "k".repeat(100_000).into();
    let huge = huge.to_string();
    assert_eq!(function.decide(&huge).await.outcome, Refused);
    assert!(function.take_reports()[0].reason.chars().count() <= 1_001);
}

/// CodePipeline throttles at about 20 calls at once.
#[tokio::test(start_paused = true)]
async fn an_event_for_many_pipelines_starts_a_few_of_them_at_once() {
    let pipelines: Vec<String> = (0..30).map(|index| format!("shop-{index:02}")).collect();
    let targets = pipelines.iter().map(|pipeline| {
        format!(
            "[[route.target]]\naccount = \"222222222222\"\nregion = \"ap-northeast-1\"\n\
             pipeline = \"{pipeline}\"\naction = \"Source\"\n"
        )
    });
    let route = "[[route]]\nrepository = \"shop\"\nbranches = [\"main\"]\n";
    let function = Function::with_config(&format!("{route}{}", targets.collect::<String>()));
    function.world().start_takes.set(Duration::from_secs(1));
    let names: Vec<&str> = pipelines.iter().map(String::as_str).collect();
    let decisions = function.handle(&event(change(0), &names)).await.unwrap().decisions;
    let decided: Vec<&str> = decisions.iter().map(|decision| decision.concerns["pipeline"].as_str()).collect();
    assert_eq!(decided, names);
    assert_eq!(function.world().most_starts_at_once.get(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_start_without_an_answer_is_searched_for_and_never_repeated_before_the_list_could_show_it() {
    for is_listed in [true, false] {
        let function = Function::new();
        function.answer_starts(|_| StartAnswer::Unanswered("no answer in time".to_owned()));
        assert_eq!(function.decide(&file("order")).await.outcome, Waiting);
        assert_eq!(function.take_states(), [(NUMBER, ReportState::Waiting)]);
        function.take_calls();
        function.answer_starts(|_| StartAnswer::Started("second".to_owned()));
        function.follow_up_after(Duration::from_mins(1)).await;
        assert_eq!(function.take_calls(), NO_CALLS);
        if is_listed {
            function.world().listed.replace(vec![listed("ours", START - Duration::from_secs(20), Some(COMMIT))]);
        }
        let decision = &function.follow_up_after(Duration::from_mins(1)).await[0];
        let execution = if is_listed { "ours" } else { "second" };
        assert_eq!((decision.outcome, decision.concerns["execution"].as_str()), (Started, execution));
        let starts = function.world().starts.take();
        assert_eq!(starts.len(), if is_listed { 1 } else { 2 });
        assert!(starts.iter().all(|start| start.token == starts[0].token), "CodePipeline can recognize the repetition");
        assert_eq!(function.take_states(), [(NUMBER, ReportState::Running)]);
    }
}

/// The call without an answer may take effect late, and the older execution would then be the last one.
#[tokio::test(start_paused = true)]
async fn a_newer_order_waits_after_a_start_without_an_answer() {
    let function = Function::new();
    function.answer_starts(|_| StartAnswer::Unanswered("no answer in time".to_owned()));
    assert_eq!(function.decide(&order_event(0)).await.outcome, Waiting);
    function.answer_starts(|_| StartAnswer::Started("e".to_owned()));
    assert_eq!(function.decide(&order_event(1)).await.outcome, Waiting);
    assert_eq!(function.follow_up_after(Duration::from_secs(121)).await[0].outcome, Started);
    let commits: Vec<_> = function.world().starts.borrow().iter().map(|start| pinned(start, "Source")).collect();
    assert_eq!(commits, [change(0).revision, change(1).revision]);
}

/// Right after a start, CodePipeline may list an execution without its revision.
#[tokio::test(start_paused = true)]
async fn nothing_starts_while_an_execution_without_a_revision_may_be_the_orders() {
    let function = Function::new();
    function.write_row(&claimed(0, START));
    function.world().listed.replace(vec![listed("ours", START + Duration::from_secs(1), None)]);
    assert_eq!(function.follow_up_after(Duration::from_mins(3)).await[0].outcome, Waiting);
    function.follow_up_after(Duration::from_mins(1)).await;
    assert!(function.world().starts.borrow().is_empty());
    function.world().listed.replace(vec![listed("ours", START + Duration::from_secs(1), Some(COMMIT))]);
    let decision = &function.follow_up_after(Duration::from_mins(1)).await[0];
    assert_eq!((decision.outcome, decision.concerns["execution"].as_str()), (Started, "ours"));
    assert!(function.world().starts.borrow().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failed_search_starts_nothing_and_is_repeated() {
    let function = Function::new();
    function.write_row(&claimed(0, START));
    function.world().list_is_down.set(true);
    assert_eq!(function.follow_up_after(Duration::from_mins(3)).await[0].outcome, Waiting);
    assert_eq!(function.take_calls(), ["ListPipelineExecutions shop", REPORT], "no start without a search");
    function.world().list_is_down.set(false);
    assert_eq!(function.follow_up_after(Duration::from_mins(1)).await[0].outcome, Started);
    assert_eq!(function.world().starts.borrow()[0].token, claimed(0, START).token);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_not_routed_is_refused_and_starts_when_it_is_offered_again_after_the_route_exists() {
    let function = Function::with_config(&COMMITTED_CONFIG.replace("\"main\", ", ""));
    let decision = function.decide(&file("order")).await;
    assert_eq!((decision.outcome, decision.concerns["order"].as_str()), (Filtered, "1795312345999"));
    let refused = function.take_reports();
    assert_eq!((refused[0].number, refused[0].state), (NUMBER, ReportState::Refused));
    // The next invocation's clock is 40 s behind, and its report is later all the same.
    let mut deployed = Function::new();
    deployed.starter.world.start_time = START - Duration::from_secs(40);
    assert_eq!(deployed.decide(&file("order")).await.outcome, Started);
    assert!(deployed.take_reports()[0].at > refused[0].at);
}

#[tokio::test(start_paused = true)]
async fn a_malformed_order_is_refused_and_does_not_keep_another_pipeline_from_starting() {
    let function = Function::with_config(&COMMITTED_CONFIG.replacen("pipeline = \"shop\"", "pipeline = \"web\"", 1));
    let web = file("order-of-unknown-kind").replace("\"pipelines\": [", "\"pipelines\": [\"web\",");
    let decisions = function.handle(&web).await.unwrap().decisions;
    assert_eq!(decisions.iter().map(|decision| decision.outcome).collect::<Vec<_>>(), [Refused, Started]);
    let mut states = function.take_states();
    states.sort_by_key(|(number, _)| *number);
    assert_eq!(states, [(change(0).sequence, ReportState::Running), (NUMBER, ReportState::Refused)]);
}

#[tokio::test(start_paused = true)]
async fn a_report_that_the_bus_does_not_accept_is_sent_by_the_follow_up_with_its_time() {
    let function = Function::new();
    function.world().bus_answer.replace(EntryResult::Retryable("ThrottlingException".to_owned()));
    assert_eq!(function.decide(&file("order")).await.outcome, Started);
    let at = function.shop().report.unwrap().report.at;
    function.follow_up_after(Duration::from_secs(61)).await;
    function.world().bus_answer.replace(EntryResult::Accepted);
    function.follow_up_after(Duration::from_secs(30)).await;
    assert_eq!(function.take_states(), [], "the pause has doubled");
    function.follow_up_after(Duration::from_secs(100)).await;
    let reports = function.take_reports();
    assert_eq!((reports.len(), reports[0].at), (1, at));
    function.take_calls();
    function.follow_up_after(Duration::from_secs(100)).await;
    assert!(!function.take_calls().contains(&REPORT.to_owned()));
}

/// A repository account of an earlier version has no bus for reports.
#[tokio::test(start_paused = true)]
async fn a_bus_that_refuses_the_report_about_an_implicit_order_is_not_tried_again() {
    let function = Function::new();
    function.world().bus_answer.replace(EntryResult::Refused("ResourceNotFoundException".to_owned()));
    assert_eq!(function.decide(&file("change")).await.outcome, Started);
    function.take_calls();
    function.follow_up_after(Duration::from_mins(1)).await;
    assert_eq!(function.take_calls(), NO_CALLS);
}

#[tokio::test(start_paused = true)]
async fn the_times_of_reports_rise_even_if_the_clock_goes_back() {
    let mut function = Function::new();
    function.decide(&order_event(0)).await;
    function.starter.world.start_time = START - Duration::from_secs(40);
    function.decide(&order_event(1)).await;
    let reports = function.take_reports();
    assert!(reports[1].at > reports[0].at, "{reports:?}");
}

#[tokio::test(start_paused = true)]
async fn people_get_one_notice_about_a_rejected_order_and_a_repeated_order_is_tried_at_once() {
    let function = Function::new();
    function.answer_starts(|_| StartAnswer::Rejected("PipelineNotFoundException: create it".to_owned()));
    assert_eq!(function.decide(&file("order")).await.outcome, Waiting);
    for minutes in [1, 2, 4, 8] {
        function.follow_up_after(Duration::from_mins(minutes)).await;
    }
    assert_eq!(function.world().starts.borrow().len(), 5, "the pauses double");
    assert_eq!(function.take_states(), [(NUMBER, ReportState::Waiting)], "nothing new is reported");
    let notices = function.world().notices.take();
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].title, "Pipeline shop cannot be started in 222222222222, ap-northeast-1");
    // Somebody has created the pipeline, and sends the order again.
    function.answer_starts(|_| StartAnswer::Started("e".to_owned()));
    assert_eq!(function.decide(&file("order")).await.outcome, Duplicate);
    assert_eq!(function.follow_up_after(Duration::from_secs(1)).await[0].outcome, Started);
    function.answer_starts(|_| StartAnswer::Rejected("PipelineNotFoundException: create it".to_owned()));
    function.decide(&order_event(1)).await;
    assert_eq!(function.world().notices.borrow().len(), 1, "another order, another notice");
}

#[tokio::test(start_paused = true)]
async fn variables_get_their_values() {
    let config = COMMITTED_CONFIG.replacen(
        "action   = \"Source\"",
        "action = \"Source\"\nvariables = { BRANCH = \"{branch}\", TAG = \"{tag}\", ORDER = \"{order}\" }\n#",
        1,
    );
    let function = Function::with_config(&config);
    function.decide(&file("order")).await;
    let variables = function.world().starts.borrow()[0].variables.clone();
    let expected = [("BRANCH", "main"), ("ORDER", "1795312345999"), ("TAG", "none")];
    assert_eq!(variables, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    assert!(matches!(function.shop().progress, Progress::Running { .. }));
}
