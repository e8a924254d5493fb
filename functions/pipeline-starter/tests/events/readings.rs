//! How often the alarms of bakes are read, and what the first reading, an event and a late reading show.

use std::time::Duration;

use pipeline_starter::Outcome::{Healthy, Ignored, Started, Unhealthy, Unknown, Waiting};
use pipeline_starter::order::{OrderRow, Progress};
use pipeline_starter::world::AlarmState::{NoData, Quiet, Ringing};
use pipeline_starter::world::{AlarmChange, AlarmEvent, EntryResult, ExecutionStatus, World};
use sekisho_domain::order::Order;
use sekisho_domain::report::ReportState::{Baking, RollingBack};
use sekisho_domain::route::PipelineName;
use sekisho_domain::timestamp::{epoch_millis, from_epoch_millis};
use sekisho_lambda::service_error::Kind;

use crate::bakes::{baking, baking_again, flap, healthy, quiet, states};
use crate::function::{
    COMMITTED_CONFIG, Function, REPORT, START, TIMEOUT, WAVE, change, file, listed, of_wave, ordered, routes,
};

/// The function while this number of pipelines bakes, all of them on the same alarms.
async fn all_baking(count: usize) -> (Function, Vec<PipelineName>) {
    let mut function = baking_again().await;
    let others = (1..count).map(|index| format!("shop-{index:02}"));
    let pipelines: Vec<PipelineName> =
        std::iter::once("shop".to_owned()).chain(others).map(|name| name.parse().unwrap()).collect();
    let (wave, target) = WAVE.split_once("[[route.wave.target]]").unwrap();
    let target = |name: &PipelineName| {
        let target = target.replace("pipeline = \"shop\"", &format!("pipeline = \"{name}\""));
        format!("[[route.wave.target]]{target}")
    };
    function.starter.routes = routes(&(wave.to_owned() + &pipelines.iter().map(target).collect::<String>()));
    let row = function.shop();
    for pipeline in &pipelines {
        function.write_row_of(pipeline, &row);
    }
    (function, pipelines)
}

/// Gives each of these pipelines an order that waits and that a person promoted.
fn promoted(function: &Function, pipelines: &[PipelineName]) {
    for pipeline in pipelines {
        let waiting = OrderRow::new(Order { promoted: true, ..of_wave() }, &change(0), pipeline, None, START);
        function.write_row_of(pipeline, &OrderRow { is_past_known: true, ..waiting });
    }
}

#[tokio::test(start_paused = true)]
async fn an_invocation_reads_the_alarms_of_many_orders_once() {
    let (function, _) = all_baking(20).await;
    assert_eq!(function.outcomes(&file("alarm-rings")).await, [Ignored]);
    assert_eq!(function.take_calls(), ["DescribeAlarms shop-* Ringing", "DescribeAlarmHistory shop-errors"]);
    assert_eq!(function.after(1).await, [Ignored]);
    assert_eq!(function.take_calls(), ["DescribeAlarms shop-* Ringing"]);
    assert_eq!(function.after(30).await, [Healthy; 20]);
    let reads: Vec<String> = function.take_calls().into_iter().filter(|call| call != REPORT).collect();
    assert_eq!(reads, ["DescribeAlarms shop-* All"]);
}

/// Each rollback takes ten seconds, and an invocation starts eight of them at the same time. An invocation that Lambda
/// stops would leave claims behind, which block their orders for minutes.
#[tokio::test(start_paused = true)]
async fn an_event_leaves_orders_to_the_follow_up_if_the_time_does_not_suffice() {
    let (function, pipelines) = all_baking(40).await;
    function.world().start_takes.set(Duration::from_secs(5));
    function.world().set_alarm("shop-errors", Ringing);
    let before = function.world().now();
    let decided = function.outcomes(&file("alarm-rings")).await;
    assert!(function.world().now() - before < TIMEOUT);
    let count = |outcome| decided.iter().filter(|one| **one == outcome).count();
    assert_eq!((count(Unhealthy), count(Started)), (24, 24));
    let rows = || pipelines.iter().map(|pipeline| function.row(pipeline.as_str()).unwrap().state);
    assert!(!rows().any(|row| matches!(row.progress, Progress::Claimed(_))));
    assert_eq!(function.after(1).await.len(), 32);
    assert!(rows().all(|row| row.execution.is_some() && row.way_back.is_some()));
}

/// The bake ends while the invocation starts other orders, and an alarm rings just before the end.
#[tokio::test(start_paused = true)]
async fn a_list_from_before_the_end_of_a_bake_does_not_judge_the_bake() {
    let (function, pipelines) = all_baking(42).await;
    tokio::time::advance(Duration::from_mins(20)).await;
    let now = epoch_millis(function.world().now());
    let baking = |until: u64, check: u64| {
        let mut row = function.shop();
        row.bake.as_mut().unwrap().window.as_mut().unwrap().until = until;
        OrderRow { progress: Progress::Running { check }, ..row }
    };
    let (over, not_over) = (baking(now - 60_000, 0), baking(now + 1_000, now));
    function.write_row_of(&pipelines[0], &over);
    function.write_row_of(&pipelines[1], &not_over);
    for pipeline in &pipelines[2..] {
        let waiting = OrderRow::new(of_wave(), &change(0), pipeline, None, START);
        function.write_row_of(pipeline, &OrderRow { is_past_known: true, ..waiting });
    }
    function.world().start_takes.set(Duration::from_secs(5));
    let ring = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        function.world().set_alarm("shop-errors", Ringing);
        tokio::time::sleep(Duration::from_millis(400)).await;
        function.world().set_alarm("shop-errors", Quiet);
    };
    let schedule = file("schedule");
    let (decided, ()) = futures_util::join!(function.outcomes(&schedule), ring);
    let count = |outcome| decided.iter().filter(|one| **one == outcome).count();
    assert_eq!((decided.len(), count(Healthy), count(Started)), (41, 1, 40));
    assert!(function.world().now() > from_epoch_millis(i64::try_from(now).unwrap()).unwrap() + Duration::from_secs(21));
    function.world().start_takes.set(Duration::ZERO);
    assert_eq!(function.after(1).await, [Unhealthy, Started]);
}

/// An execution ends while the invocation starts other orders. Before its end, an alarm rang that is quiet since.
#[tokio::test(start_paused = true)]
async fn a_list_from_before_the_beginning_of_a_bake_does_not_judge_the_bake() {
    let (function, pipelines) = all_baking(42).await;
    tokio::time::advance(Duration::from_mins(20)).await;
    let now = function.world().now();
    let row = function.shop();
    let mut over = OrderRow { progress: Progress::Running { check: 0 }, ..row.clone() };
    over.bake.as_mut().unwrap().window.as_mut().unwrap().until = epoch_millis(now) - 60_000;
    let mut running = OrderRow { progress: Progress::Running { check: epoch_millis(now) }, ..row };
    running.bake.as_mut().unwrap().window = None;
    function.write_row_of(&pipelines[0], &over);
    function.write_row_of(&pipelines[1], &running);
    promoted(&function, &pipelines[2..]);
    function.world().set_alarm("shop-errors", Ringing);
    function.world().start_takes.set(Duration::from_secs(5));
    let end = async {
        tokio::time::sleep(Duration::from_secs(15)).await;
        function.world().set_alarm("shop-errors", Quiet);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut execution = listed("e2", now, Some(change(1).revision.as_str()));
        (execution.status, execution.updated) = (ExecutionStatus::Succeeded, Some(function.world().now()));
        function.world().listed.replace(vec![execution]);
        function.world().statuses.borrow_mut().insert("e2".to_owned(), ExecutionStatus::Succeeded);
    };
    let schedule = file("schedule");
    let (decided, ()) = futures_util::join!(function.outcomes(&schedule), end);
    let count = |outcome| decided.iter().filter(|one| **one == outcome).count();
    assert_eq!((decided.len(), count(Healthy), count(Started), count(Waiting)), (42, 1, 40, 1), "{decided:?}");
    let window = function.row(pipelines[1].as_str()).unwrap().state.bake.unwrap().window.unwrap();
    assert_eq!((window.since, window.watched.map(|names| names.len())), (epoch_millis(now) + 18_000, Some(1)));
}

/// Eight orders start at the same time, and each start takes five seconds.
#[tokio::test(start_paused = true)]
async fn an_order_does_not_start_if_an_alarm_has_begun_to_ring_while_others_started() {
    for (rings, started) in [(false, 40), (true, 16)] {
        let (function, pipelines) = all_baking(40).await;
        for pipeline in &pipelines {
            let waiting = OrderRow::new(of_wave(), &change(0), pipeline, None, START);
            function.write_row_of(pipeline, &OrderRow { is_past_known: true, ..waiting });
        }
        function.world().start_takes.set(Duration::from_secs(5));
        let ring = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            function.world().set_alarm("shop-errors", if rings { Ringing } else { Quiet });
        };
        let schedule = file("schedule");
        let (decided, ()) = futures_util::join!(function.outcomes(&schedule), ring);
        let count = |outcome| decided.iter().filter(|one| **one == outcome).count();
        assert_eq!((count(Started), count(Waiting)), (started, 40 - started));
        let lists = function.take_calls().into_iter().filter(|call| call.starts_with("DescribeAlarms")).count();
        assert!(lists <= 8, "{lists}");
    }
}

/// EventBridge may be late, or Lambda may throttle the function.
#[tokio::test(start_paused = true)]
async fn an_event_that_arrives_when_the_alarm_is_quiet_again_fails_the_bake_at_once() {
    let function = baking_again().await;
    tokio::time::advance(Duration::from_mins(3)).await;
    flap(&function, &[Ringing, Quiet]).await;
    assert_eq!(function.outcomes(&file("alarm-rings")).await, [Unhealthy, Started]);
    assert_eq!(states(&function), [RollingBack]);
    assert!(function.shop().way_back.unwrap().reason.contains("shop-errors rang during the bake, since"));

    let function = healthy().await;
    flap(&function, &[Ringing, Quiet]).await;
    assert_eq!(function.outcomes(&ordered(1, of_wave())).await, [Started]);
    assert_eq!(function.end("pipeline-succeeded", "e2").await, [Waiting]);
    assert_eq!(function.outcomes(&file("alarm-rings")).await, [Ignored], "it rang before the bake");
}

/// The event about the end of the execution is lost, and the follow-up finds the end some minutes later.
#[tokio::test(start_paused = true)]
async fn a_flap_between_the_end_of_the_execution_and_the_first_reading_fails_the_bake_at_once() {
    for (before, expected) in [(0, vec![Waiting, Unhealthy, Started]), (3, vec![Waiting])] {
        let function = healthy().await;
        assert_eq!(function.outcomes(&ordered(1, of_wave())).await, [Started]);
        tokio::time::advance(Duration::from_mins(1)).await;
        let mut execution = listed("e2", function.world().now(), Some(change(1).revision.as_str()));
        let ended = function.world().now() + Duration::from_mins(before);
        (execution.status, execution.updated) = (ExecutionStatus::Succeeded, Some(ended));
        function.world().listed.replace(vec![execution]);
        function.world().statuses.borrow_mut().insert("e2".to_owned(), ExecutionStatus::Succeeded);
        tokio::time::advance(Duration::from_mins(1)).await;
        flap(&function, &[Ringing, Quiet]).await;
        function.take_calls();
        assert_eq!(function.after(1).await, expected, "{before}");
        let histories = function.take_calls().iter().filter(|call| call.starts_with("DescribeAlarmHistory")).count();
        assert_eq!(histories, usize::from(before == 0), "an alarm that has not changed in the window has no history");
    }
}

/// The first reading is complete only with the histories.
#[tokio::test(start_paused = true)]
async fn a_first_reading_without_a_history_is_repeated() {
    let function = baking().await;
    let mut row = function.shop();
    row.bake.as_mut().unwrap().window.as_mut().unwrap().watched = None;
    function.write_row(&row);
    flap(&function, &[Ringing, Quiet]).await;
    function.world().histories_fail.set(Some(Kind::Throttled));
    assert_eq!(function.after(1).await, [Ignored]);
    function.world().histories_fail.set(None);
    assert_eq!(function.after(1).await, [Unhealthy]);
}

/// A mistake in the globs, or an account with an older configuration.
#[tokio::test(start_paused = true)]
async fn a_bake_without_an_alarm_is_reported_when_it_begins() {
    for (config, expected) in [(WAVE, "no alarm matches shop-*"), (COMMITTED_CONFIG, "has no alarms for the bake")] {
        let function = Function::with_config(config);
        assert_eq!(function.outcomes(&ordered(0, of_wave())).await, [Started]);
        function.take_reports();
        assert_eq!(function.end("pipeline-succeeded", "e1").await, [Waiting]);
        let reports = function.take_reports();
        assert_eq!(reports.iter().map(|report| report.state).collect::<Vec<_>>(), [Baking, Baking]);
        let reason = &reports[1].reason;
        assert!(reason.contains("cannot end healthy") && reason.contains(expected), "{reason}");
        assert!(reports[1].at > reports[0].at && reports[1].until == reports[0].until);
        assert_eq!(function.after(1).await, [Ignored]);
        assert_eq!(states(&function), [], "it is reported once");
        assert_eq!(function.after(30).await, [Unknown]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_report_that_no_bus_accepts_is_not_sent_with_every_reading() {
    let function = quiet().await;
    function.world().bus_answer.replace(EntryResult::Retryable("no answer".to_owned()));
    assert_eq!(function.outcomes(&ordered(0, of_wave())).await, [Started]);
    assert_eq!(function.end("pipeline-succeeded", "e1").await, [Waiting]);
    function.take_calls();
    for _ in 0..30 {
        assert_eq!(function.after(1).await, [Ignored]);
    }
    let calls = function.take_calls();
    let count = |call: &str| calls.iter().filter(|one| *one == call).count();
    assert_eq!((count("DescribeAlarms shop-* Ringing"), count(REPORT)), (30, 4));
    function.world().bus_answer.replace(EntryResult::Accepted);
    assert_eq!(function.after(1).await, [Healthy]);
}

/// The last known state of a deleted alarm may be days old.
#[tokio::test(start_paused = true)]
async fn an_alarm_that_is_deleted_after_the_bake_is_judged_by_its_history() {
    let function = quiet().await;
    flap(&function, &[NoData, Quiet]).await;
    tokio::time::advance(Duration::from_hours(100)).await;
    assert_eq!(function.outcomes(&ordered(0, of_wave())).await, [Started]);
    assert_eq!(function.end("pipeline-succeeded", "e1").await, [Waiting]);
    tokio::time::advance(Duration::from_mins(40)).await;
    function.world().alarms.borrow_mut().remove("shop-errors");
    let deleted = AlarmEvent { at: function.world().now(), what: AlarmChange::Edited };
    function.world().alarm_histories.borrow_mut().get_mut("shop-errors").unwrap().push(deleted);
    assert_eq!(function.after(1).await, [Healthy]);
}
