//! Orders of a wave: an alarm keeps an order from starting, and the bake decides what is healthy.

use std::time::Duration;

use pipeline_starter::Outcome::{Healthy, Ignored, Started, Unhealthy, Unknown, Waiting};
use pipeline_starter::world::AlarmState::{NoData, Quiet, Ringing};
use pipeline_starter::world::{AlarmState, ExecutionStatus, World};
use sekisho_domain::order::Order;
use sekisho_domain::report::ReportState::{self, Baking, RollingBack, Running};
use sekisho_lambda::service_error::Kind;
use time::OffsetDateTime;

use crate::function::{
    COMMITTED_CONFIG, Function, NUMBER, REPORT, WAVE, change, file, listed, of_wave, ordered, pinned, routes,
};

/// The function of a target whose alarm `shop-errors` has been quiet for ten minutes.
pub(crate) async fn quiet() -> Function {
    let function = Function::with_config(WAVE);
    function.world().set_alarm("shop-errors", Quiet);
    tokio::time::advance(Duration::from_mins(10)).await;
    function
}

/// The function while the first order bakes.
pub(crate) async fn baking() -> Function {
    let function = quiet().await;
    assert_eq!(function.outcomes(&ordered(0, of_wave())).await, [Started]);
    tokio::time::advance(Duration::from_mins(5)).await;
    assert_eq!(function.end("pipeline-succeeded", "e1").await, [Waiting]);
    assert_eq!(states(&function), [Running, Baking]);
    function.take_calls();
    function
}

/// The function after the first order has proved healthy.
pub(crate) async fn healthy() -> Function {
    let function = baking().await;
    assert_eq!(function.after(31).await, [Healthy]);
    assert_eq!(states(&function), [ReportState::Healthy]);
    function.take_calls();
    function
}

/// The function while the second order bakes. The first one has proved healthy.
pub(crate) async fn baking_again() -> Function {
    let function = healthy().await;
    assert_eq!(function.outcomes(&ordered(1, of_wave())).await, [Started]);
    assert_eq!(function.end("pipeline-succeeded", "e2").await, [Waiting]);
    assert_eq!(states(&function), [Running, Baking]);
    function.take_calls();
    function
}

/// The states of the reports since the last call.
pub(crate) fn states(function: &Function) -> Vec<ReportState> {
    function.take_reports().into_iter().map(|report| report.state).collect()
}

/// Gives the alarm `shop-errors` these states, a minute each.
pub(crate) async fn flap(function: &Function, flapping: &[AlarmState]) {
    for state in flapping {
        function.world().set_alarm("shop-errors", *state);
        tokio::time::advance(Duration::from_mins(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_of_a_wave_bakes_and_is_healthy_at_the_end() {
    let function = quiet().await;
    assert_eq!(function.outcomes(&ordered(0, of_wave())).await, [Started]);
    let calls = function.take_calls();
    let expected =
        ["DescribeAlarms shop-* Ringing", "ListPipelineExecutions shop", "StartPipelineExecution shop", REPORT];
    assert_eq!(calls, expected);
    function.take_reports();
    tokio::time::advance(Duration::from_mins(5)).await;
    assert_eq!(function.end("pipeline-succeeded", "e1").await, [Waiting]);
    assert_eq!(function.take_calls(), [REPORT, "DescribeAlarms shop-* All"]);
    let until = function.take_reports().pop().unwrap().until.unwrap();
    let ended = function.world().now() + Duration::from_mins(30);
    assert_eq!(until.millis(), sekisho_domain::timestamp::epoch_millis(ended));
    for _ in 0..30 {
        assert_eq!(function.after(1).await, [Ignored]);
        assert_eq!(function.take_calls(), ["DescribeAlarms shop-* Ringing"]);
    }
    assert_eq!(function.after(1).await, [Healthy]);
    assert_eq!(
        function.take_calls(),
        ["DescribeAlarms shop-* All", REPORT],
        "no alarm has changed, so no history is read"
    );
    let report = function.take_reports().pop().unwrap();
    assert_eq!(
        (report.state, report.good, report.until),
        (ReportState::Healthy, Some(change(0).revision), Some(until))
    );
    assert_eq!(function.after(1).await, [Ignored]);
    assert_eq!(function.take_calls(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_flap_between_two_readings_fails_the_bake_at_its_end() {
    let function = baking_again().await;
    assert_eq!(function.after(5).await, [Ignored]);
    flap(&function, &[Ringing, Quiet]).await;
    assert_eq!(function.after(1).await, [Ignored]);
    assert_eq!(function.after(25).await, [Unhealthy, Started]);
    assert_eq!(states(&function), [RollingBack]);
    assert_eq!(pinned(&function.world().starts.borrow()[2], "Source"), change(0).revision);
}

#[tokio::test(start_paused = true)]
async fn an_event_about_an_alarm_fails_the_bake_at_once() {
    let function = baking_again().await;
    tokio::time::advance(Duration::from_mins(3)).await;
    assert_eq!(function.outcomes(&file("alarm-rings")).await, [Ignored], "the event is only a hint");
    function.world().set_alarm("shop-noise", Ringing);
    assert_eq!(function.after(1).await, [Ignored], "the configuration excludes this alarm");
    function.world().set_alarm("shop-errors", Ringing);
    assert_eq!(function.outcomes(&file("alarm-rings")).await, [Unhealthy, Started]);
    assert_eq!(states(&function), [RollingBack]);
    assert_eq!(function.outcomes(&file("alarm-rings")).await, [Ignored]);
}

/// Nothing runs for three hours around the end of the bake.
#[tokio::test(start_paused = true)]
async fn a_dead_starter_over_the_end_of_a_bake_judges_the_window_and_nothing_else() {
    for (minutes, expected) in [(10, vec![Unhealthy, Started]), (60, vec![Healthy])] {
        let function = baking_again().await;
        tokio::time::advance(Duration::from_mins(minutes)).await;
        flap(&function, &[Ringing, Quiet]).await;
        assert_eq!(function.after(180 - minutes).await, expected, "{minutes}");
    }
}

/// The hour for which a reading is repeated begins with the first reading, not with the end of the bake.
#[tokio::test(start_paused = true)]
async fn one_throttled_reading_after_a_dead_starter_is_repeated() {
    let function = baking_again().await;
    function.world().alarms_fail.set(Some(Kind::Throttled));
    assert_eq!(function.after(180).await, [Ignored]);
    function.world().alarms_fail.set(None);
    assert_eq!(function.after(1).await, [Healthy]);
}

/// The bake began when the execution ended, although nobody saw that.
#[tokio::test(start_paused = true)]
async fn a_dead_starter_over_the_end_of_the_execution_bakes_from_that_end() {
    let end =
        |function: &Function, minutes| -> OffsetDateTime { function.world().now() + Duration::from_mins(minutes) };
    for (minutes, expected) in [(170, vec![Waiting]), (10, vec![Waiting, Healthy])] {
        let function = healthy().await;
        assert_eq!(function.outcomes(&ordered(1, of_wave())).await, [Started]);
        let mut execution = listed("e2", function.world().now(), Some(change(1).revision.as_str()));
        (execution.status, execution.updated) = (ExecutionStatus::Succeeded, Some(end(&function, minutes)));
        function.world().listed.replace(vec![execution]);
        function.world().statuses.borrow_mut().insert("e2".to_owned(), ExecutionStatus::Succeeded);
        assert_eq!(function.after(180).await, expected, "{minutes}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_edited_alarm_and_a_deleted_alarm_leave_the_result_unknown() {
    for is_deleted in [false, true] {
        let function = baking_again().await;
        tokio::time::advance(Duration::from_mins(10)).await;
        let now = function.world().now();
        if is_deleted {
            function.world().set_alarm("shop-latency", Quiet);
            function.world().alarms.borrow_mut().remove("shop-errors");
        } else {
            function.world().alarms.borrow_mut().get_mut("shop-errors").unwrap().edited = Some(now);
        }
        assert_eq!(function.after(10).await, [Ignored]);
        assert_eq!(function.after(11).await, [Unknown]);
        let report = function.take_reports().pop().unwrap();
        assert_eq!((report.state, report.good), (ReportState::Unknown, Some(change(0).revision)));
        assert!(report.reason.contains("shop-errors"), "{}", report.reason);
        assert_eq!(function.world().starts.borrow().len(), 2, "an unknown result rolls nothing back");
    }
}

#[tokio::test(start_paused = true)]
async fn an_alarm_without_data_or_without_an_answer_leaves_the_result_unknown() {
    let function = baking_again().await;
    function.world().set_alarm("shop-errors", NoData);
    assert_eq!(function.after(31).await, [Unknown]);

    let function = baking_again().await;
    function.world().alarms_fail.set(Some(Kind::Throttled));
    for minutes in [5, 26, 30, 29] {
        assert_eq!(function.after(minutes).await, [Ignored], "a throttled reading is repeated");
    }
    assert_eq!(function.after(1).await, [Unknown]);

    let function = baking_again().await;
    function.world().alarms_fail.set(Some(Kind::Refused));
    assert_eq!(function.after(5).await, [Ignored]);
    assert_eq!(function.after(26).await, [Unknown], "a refused reading is not repeated");
    assert_eq!(states(&function), [ReportState::Unknown]);
}

#[tokio::test(start_paused = true)]
async fn a_bake_without_alarms_in_the_own_configuration_is_unknown() {
    let function = Function::with_config(COMMITTED_CONFIG);
    assert_eq!(function.outcomes(&ordered(0, of_wave())).await, [Started]);
    assert_eq!(function.end("pipeline-succeeded", "e1").await, [Waiting]);
    assert_eq!(function.after(29).await, [Ignored]);
    assert_eq!(function.after(2).await, [Unknown]);
    let report = function.take_reports().pop().unwrap();
    assert!(report.reason.contains("own configuration has no alarms"), "{}", report.reason);
    assert!(!function.take_calls().iter().any(|call| call.starts_with("Describe")));
}

#[tokio::test(start_paused = true)]
async fn an_order_without_a_bake_bakes_by_the_own_configuration_and_one_without_a_wave_does_not() {
    for (config, expected) in [(WAVE, vec![Waiting]), (COMMITTED_CONFIG, vec![Healthy])] {
        let function = Function::with_config(config);
        assert_eq!(function.outcomes(&ordered(0, Order::deploy(NUMBER))).await, [Started]);
        assert_eq!(function.end("pipeline-succeeded", "e1").await, expected);
    }
    let function = quiet().await;
    let none = Order { bake: Some("0s".parse().unwrap()), ..of_wave() };
    assert_eq!(function.outcomes(&ordered(0, none)).await, [Started]);
    assert_eq!(function.end("pipeline-succeeded", "e1").await, [Waiting], "the longer bake counts");
}

/// The configuration may change while an order bakes.
#[tokio::test(start_paused = true)]
async fn an_order_is_judged_by_the_settings_with_which_it_started() {
    let before = baking_again().await;
    let after = Function::with_config(COMMITTED_CONFIG);
    after.write_row(&before.shop());
    after.world().alarms.replace(before.world().alarms.take());
    let passed = before.world().now() - after.world().now();
    tokio::time::advance(passed.unsigned_abs()).await;
    assert_eq!(after.after(5).await, [Ignored]);
    assert_eq!(after.after(26).await, [Healthy]);
}

/// One deployment may change the wave and edit the pipeline, and CodePipeline then cancels the execution.
#[tokio::test(start_paused = true)]
async fn an_order_that_starts_again_is_judged_by_the_settings_with_which_it_started_first() {
    let mut function = quiet().await;
    assert_eq!(function.outcomes(&ordered(0, Order::deploy(NUMBER))).await, [Started]);
    function.starter.routes = routes(&WAVE.replace("30m", "10m"));
    assert_eq!(function.end("pipeline-canceled", "e1").await, [Waiting, Started]);
    assert_eq!(function.end("pipeline-succeeded", "e2").await, [Waiting]);
    assert_eq!(function.after(11).await, [Ignored]);
    assert_eq!(function.after(20).await, [Healthy]);
}

/// Without the list, nobody knows what to go back to, and people must correct the cause.
#[tokio::test(start_paused = true)]
async fn a_refused_look_at_the_past_sends_one_notice_and_starts_nothing() {
    let function = quiet().await;
    function.world().reads_are_refused.set(true);
    assert_eq!(function.outcomes(&ordered(0, of_wave())).await, [Waiting]);
    for minutes in [1, 2, 4] {
        assert_eq!(function.after(minutes).await, [Ignored]);
    }
    assert_eq!((function.world().notices.borrow().len(), function.world().starts.borrow().len()), (1, 0));
    assert_eq!(states(&function), [ReportState::Waiting]);
    function.world().reads_are_refused.set(false);
    assert_eq!(function.after(8).await, [Started]);
}

#[tokio::test(start_paused = true)]
async fn a_ringing_alarm_keeps_an_order_waiting_and_is_reported_once() {
    let function = healthy().await;
    function.world().set_alarm("shop-errors", Ringing);
    assert_eq!(function.outcomes(&ordered(1, of_wave())).await, [Waiting]);
    let report = function.take_reports().pop().unwrap();
    assert_eq!(report.state, ReportState::Waiting);
    assert!(report.reason.contains("shop-errors"), "{}", report.reason);
    for _ in 0..5 {
        assert_eq!(function.after(1).await, [Ignored]);
    }
    assert_eq!(states(&function), []);
    function.world().set_alarm("shop-latency", Ringing);
    assert_eq!(function.after(1).await, [Waiting], "another alarm rings");
    assert!(function.take_reports().pop().unwrap().reason.contains("shop-latency"));
    function.world().set_alarm("shop-latency", Quiet);
    function.world().alarms_fail.set(Some(Kind::Refused));
    function.world().set_alarm("shop-errors", Quiet);
    assert_eq!(function.after(1).await, [Waiting], "alarms that cannot be read keep the order waiting");
    let report = function.take_reports().pop().unwrap();
    assert!(report.reason.starts_with("the alarms cannot be read: "), "{}", report.reason);
    assert_eq!(function.after(1).await, [Ignored]);
    assert_eq!(states(&function), []);
    function.world().alarms_fail.set(None);
    assert_eq!(function.after(1).await, [Started]);
    assert_eq!(states(&function), [Running]);
    assert_eq!(function.world().starts.borrow().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_waits_for_an_alarm_is_explained() {
    let function = quiet().await;
    function.world().set_alarm("shop-errors", Ringing);
    let explained = format!(r#"{{"action":"explain","event":{}}}"#, ordered(0, of_wave()));
    assert_eq!(function.outcomes(&explained).await, [Waiting]);
    assert_eq!(function.outcomes(&ordered(0, of_wave())).await, [Waiting]);
    let explained = format!(r#"{{"action":"explain","event":{}}}"#, file("schedule"));
    assert_eq!(function.outcomes(&explained).await, [Waiting]);
    function.world().set_alarm("shop-errors", Quiet);
    assert_eq!(function.outcomes(&explained).await, [Started]);
    assert_eq!(function.world().starts.borrow().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_promoted_order_starts_although_an_alarm_rings_which_counts_only_at_the_end() {
    for (is_quiet_at_the_end, expected) in [(true, vec![Healthy]), (false, vec![Unhealthy, Started])] {
        let function = healthy().await;
        function.world().set_alarm("shop-errors", Ringing);
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(function.outcomes(&ordered(1, Order { promoted: true, ..of_wave() })).await, [Started]);
        assert_eq!(function.end("pipeline-succeeded", "e2").await, [Waiting]);
        assert_eq!(function.after(5).await, [Ignored]);
        if is_quiet_at_the_end {
            flap(&function, &[Quiet, Ringing, Quiet]).await;
        }
        assert_eq!(function.after(28).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_newer_order_ends_a_bake_without_a_verdict() {
    let function = baking_again().await;
    assert_eq!(function.outcomes(&ordered(2, of_wave())).await, [Started]);
    function.world().set_alarm("shop-errors", Ringing);
    assert_eq!(function.after(31).await, [Ignored]);
    let reports = function.take_reports();
    assert!(reports.iter().all(|report| report.number == NUMBER + 2), "{reports:?}");
    assert_eq!(reports[0].good, Some(change(0).revision));
}

/// `explain` reads the alarms, and writes and reports nothing.
#[tokio::test(start_paused = true)]
async fn a_bake_is_explained_with_what_the_judge_says() {
    let function = baking_again().await;
    for (state, outcome, detail) in [(Quiet, Waiting, "lasts until"), (Ringing, Unhealthy, "shop-errors rang")] {
        function.world().set_alarm("shop-errors", state);
        tokio::time::advance(Duration::from_mins(2)).await;
        for name in ["schedule", "alarm-rings"] {
            let before = function.world().ledger.rows();
            let payload = format!(r#"{{"action":"explain","event":{}}}"#, file(name));
            let decision = function.decide(&payload).await;
            assert_eq!(decision.outcome, outcome, "{name}: {decision:?}");
            assert!(decision.reason.contains(detail), "{decision:?}");
            let mut calls = vec!["DescribeAlarms shop-* Ringing"];
            calls.extend((name == "alarm-rings" && state == Quiet).then_some("DescribeAlarmHistory shop-errors"));
            assert_eq!(function.take_calls(), calls, "{name}");
            assert_eq!(function.world().ledger.rows(), before);
        }
    }
}

/// The follow-up runs once a minute, but not to the second: the reading that judges must not wait for one minute more.
#[tokio::test(start_paused = true)]
async fn a_bake_is_judged_by_the_first_follow_up_after_its_end() {
    let function = baking().await;
    assert_eq!(function.after(30).await, [Ignored]);
    let decided = function.follow_up_after(Duration::from_secs(20)).await;
    assert_eq!(decided.iter().map(|decision| decision.outcome).collect::<Vec<_>>(), [Healthy]);
}

/// The alarm rings because of the canceled execution, so an order that waited for the alarm would wait for ever.
#[tokio::test(start_paused = true)]
async fn a_canceled_deployment_starts_again_although_it_made_an_alarm_ring() {
    let function = quiet().await;
    assert_eq!(function.outcomes(&ordered(0, of_wave())).await, [Started]);
    function.world().set_alarm("shop-errors", Ringing);
    assert_eq!(function.end("pipeline-canceled", "e1").await, [Waiting, Started]);
    assert_eq!(states(&function).last(), Some(&Running));
}
