//! How a target goes back: by itself after a failed bake or a failed deployment, or because of an order.

use std::time::Duration;

use pipeline_starter::Outcome::{ExecutionFailed, Filtered, Healthy, Ignored, RolledBack, Started, Unhealthy, Waiting};
use pipeline_starter::order::OrderRow;
use pipeline_starter::world::ActionCategory::{Approval, Build, Deploy, Source};
use pipeline_starter::world::AlarmState::{Quiet, Ringing};
use pipeline_starter::world::{ActionCategory, BegunAction, ExecutionStatus, ListedExecution, StartAnswer, World};
use sekisho_domain::change::{Change, SourceChange};
use sekisho_domain::order::{Order, OrderKind};
use sekisho_domain::report::ReportState::{self, Baking, Failed, RollingBack, Running};
use serde_json::{Value, json};

use crate::bakes::{baking, baking_again, healthy, states};
use crate::function::{
    COMMIT, Function, NUMBER, PIPELINE_IS_FULL, REPORT, WAVE, change, file, listed, of_wave, ordered, pinned, shop,
};

/// The actions that an execution has begun. The last one may still be in progress.
fn actions(categories: &[ActionCategory], is_in_progress: bool) -> Vec<BegunAction> {
    let mut actions: Vec<BegunAction> =
        categories.iter().map(|category| BegunAction { category: *category, is_in_progress: false }).collect();
    actions.last_mut().unwrap().is_in_progress = is_in_progress;
    actions
}

/// The event that orders the target back to the change `to`. The order has the number [`NUMBER`] plus `later`.
fn order_back(later: u64, to: u64) -> String {
    let change = Change { sequence: change(later).sequence, ..change(to) };
    let order = Order { number: NUMBER + later, kind: OrderKind::Rollback, ..of_wave() };
    let mut event: Value = serde_json::from_str(&file("change")).unwrap();
    event["detail"] = json!(SourceChange::with_orders(change, &[(shop(), order)].into()));
    event.to_string()
}

/// The function while the execution `e2` of the second order runs. The first order has proved healthy.
async fn deploying() -> Function {
    let function = healthy().await;
    assert_eq!(function.outcomes(&ordered(1, of_wave())).await, [Started]);
    assert_eq!(states(&function), [Running]);
    function.take_calls();
    function
}

#[tokio::test(start_paused = true)]
async fn a_failed_bake_goes_back_and_people_get_one_notice() {
    let function = baking_again().await;
    function.world().set_alarm("shop-errors", Ringing);
    assert_eq!(function.after(1).await, [Unhealthy, Started]);
    let start = function.world().starts.borrow()[2].clone();
    assert_eq!((pinned(&start, "Source"), start.token.len()), (change(0).revision, 66));
    let reports = function.take_reports();
    for report in &reports {
        assert_eq!((report.state, report.number, &report.revision), (RollingBack, NUMBER + 1, &change(1).revision));
        assert_eq!((report.good.as_ref(), report.id.as_str()), (Some(&change(0).revision), change(1).id().as_str()));
    }
    assert_eq!(reports.iter().map(|report| report.execution.as_deref()).collect::<Vec<_>>(), [Some("e3")]);
    let notices = function.world().notices.take();
    assert_eq!(notices.len(), 1);
    let text = notices[0].lines.join("\n");
    assert!(text.contains("alarm shop-errors rang"), "{text}");
    assert!(
        text.contains(change(1).revision.as_str()) && text.contains(&format!("goes back to commit {COMMIT}")),
        "{text}"
    );
    assert!(notices[0].link.as_ref().unwrap().1.contains("/executions/e2/"), "{notices:?}");
    assert_eq!(function.end("pipeline-succeeded", "e3").await, [RolledBack]);
    let report = function.take_reports().pop().unwrap();
    assert_eq!((report.state, report.good), (ReportState::RolledBack, Some(change(0).revision)));
    assert!(report.reason.contains("alarm shop-errors rang"), "the report says why: {}", report.reason);
    assert_eq!(function.after(60).await, [Ignored]);
}

#[tokio::test(start_paused = true)]
async fn a_notice_that_the_topic_does_not_accept_is_sent_later_and_does_not_delay_the_way_back() {
    let function = baking_again().await;
    function.world().topic_is_down.set(true);
    function.world().set_alarm("shop-errors", Ringing);
    assert_eq!(function.after(1).await, [Unhealthy, Started]);
    function.after(1).await;
    function.world().topic_is_down.set(false);
    for _ in 0..3 {
        function.after(1).await;
    }
    assert_eq!(function.world().notices.borrow().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_fails_leaves_the_target_as_it_is_and_the_next_change_may_enter() {
    let function = baking_again().await;
    function.world().set_alarm("shop-errors", Ringing);
    assert_eq!(function.after(1).await, [Unhealthy, Started]);
    function.world().begun.borrow_mut().insert("e3".to_owned(), actions(&[Source, Deploy], false));
    function.take_reports();
    assert_eq!(function.end("pipeline-failed", "e3").await, [ExecutionFailed]);
    assert_eq!(states(&function), [Failed]);
    let notices = function.world().notices.take();
    assert!(notices[1].lines.iter().any(|line| line.contains("stays as it is")), "{notices:?}");
    assert_eq!(function.after(60).await, [Ignored], "a rollback is never rolled back");
    function.world().set_alarm("shop-errors", Quiet);
    assert_eq!(function.outcomes(&ordered(2, of_wave())).await, [Started]);
    assert_eq!(function.take_reports()[0].good, Some(change(0).revision));
}

#[tokio::test(start_paused = true)]
async fn a_target_without_a_healthy_commit_stays_as_it_is() {
    let function = baking().await;
    function.world().set_alarm("shop-errors", Ringing);
    assert_eq!(function.after(1).await, [Unhealthy]);
    assert_eq!(states(&function), [Failed]);
    let notices = function.world().notices.take();
    let text = notices[0].lines.join("\n");
    assert!(text.contains("nothing was healthy here before"), "{text}");
    // The fix waits for the alarm that only the fix can quiet.
    assert!(text.contains("while an alarm rings, it has to be promoted"), "{text}");
    // The list names the failed order's execution as the last successful one, which proves nothing.
    let failed = listed("e1", function.world().now(), Some(COMMIT));
    function.world().listed.replace(vec![listed_as(failed, ExecutionStatus::Succeeded)]);
    function.world().set_alarm("shop-errors", Quiet);
    assert_eq!(function.outcomes(&ordered(1, of_wave())).await, [Started]);
    assert_eq!(function.take_reports()[0].good, None);
}

fn listed_as(execution: ListedExecution, status: ExecutionStatus) -> ListedExecution {
    ListedExecution { status, ..execution }
}

#[tokio::test(start_paused = true)]
async fn before_the_first_order_the_last_successful_execution_is_what_to_go_back_to() {
    let function = Function::with_config(WAVE);
    let now = function.world().now();
    let execution =
        |id, commit: u64, status| listed_as(listed(id, now, Some(change(commit).revision.as_str())), status);
    function.world().listed.replace(vec![
        execution("failed", 8, ExecutionStatus::Failed),
        execution("last", 7, ExecutionStatus::Succeeded),
        execution("older", 6, ExecutionStatus::Succeeded),
    ]);
    assert_eq!(function.outcomes(&ordered(0, of_wave())).await, [Started]);
    assert_eq!(function.take_reports()[0].good, Some(change(7).revision));
    function.world().begun.borrow_mut().insert("e1".to_owned(), actions(&[Source, Build, Deploy], false));
    assert_eq!(function.end("pipeline-failed", "e1").await, [ExecutionFailed, Started]);
    assert_eq!(pinned(&function.world().starts.borrow()[1], "Source"), change(7).revision);
}

#[tokio::test(start_paused = true)]
async fn only_an_execution_that_fails_in_or_after_a_deploy_action_is_taken_back() {
    let back = vec![ExecutionFailed, Started];
    let cases = [
        (vec![Source, Build, Deploy], vec![Source, Build, Deploy], back.clone(), vec![RollingBack]),
        (vec![Source, Build], vec![Source, Build, Deploy], vec![ExecutionFailed], vec![Failed]),
        (vec![Source, Build], vec![Source, Build], back, vec![RollingBack]),
        (vec![Source, Approval], vec![Source, Approval, Build], vec![ExecutionFailed], vec![Failed]),
    ];
    for (begun, categories, outcomes, expected) in cases {
        let function = deploying().await;
        function.world().begun.borrow_mut().insert("e2".to_owned(), actions(&begun, false));
        function.world().categories.replace(categories);
        assert_eq!(function.end("pipeline-failed", "e2").await, outcomes, "{begun:?}");
        assert_eq!(states(&function), expected, "{begun:?}");
        let notices = function.world().notices.take();
        assert_eq!(notices.len(), 1);
        let next = if expected == [Failed] { "no deploy action has begun" } else { "goes back to commit" };
        assert!(notices[0].lines.iter().any(|line| line.contains(next)), "{notices:?}");
    }
}

/// If CodePipeline does not say what has run, going back is the safe side.
#[tokio::test(start_paused = true)]
async fn an_execution_whose_actions_cannot_be_read_is_taken_back() {
    let function = deploying().await;
    function.world().reads_are_refused.set(true);
    assert_eq!(function.end("pipeline-failed", "e2").await, [ExecutionFailed, Started]);
    assert_eq!(pinned(&function.world().starts.borrow()[2], "Source"), change(0).revision);
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_is_retried_before_the_rollback_has_started_counts() {
    let function = deploying().await;
    function.world().begun.borrow_mut().insert("e2".to_owned(), actions(&[Source, Deploy], false));
    function.answer_starts(|_| StartAnswer::Deferred(PIPELINE_IS_FULL.to_owned()));
    assert_eq!(function.end("pipeline-failed", "e2").await, [ExecutionFailed]);
    assert_eq!(states(&function), [RollingBack]);
    assert_eq!(function.end("pipeline-resumed", "e2").await, [Started]);
    assert_eq!(states(&function), [Running]);
    assert_eq!(function.after(1).await, [Ignored], "no rollback waits any more");
    assert_eq!(function.end("pipeline-succeeded", "e2").await, [Waiting]);
    assert_eq!(states(&function), [Baking]);
    assert_eq!(function.after(31).await, [Healthy]);
    assert_eq!(function.take_reports()[0].good, Some(change(1).revision));
}

/// The event about the retry is lost, and the retried stage fails, too.
#[tokio::test(start_paused = true)]
async fn a_second_failure_before_the_rollback_has_started_goes_back_as_the_first() {
    let function = deploying().await;
    function.world().begun.borrow_mut().insert("e2".to_owned(), actions(&[Source, Deploy], false));
    function.answer_starts(|_| StartAnswer::Deferred(PIPELINE_IS_FULL.to_owned()));
    assert_eq!(function.end("pipeline-failed", "e2").await, [ExecutionFailed]);
    assert_eq!(function.end("pipeline-failed-again", "e2").await, [ExecutionFailed]);
    function.answer_starts(|_| StartAnswer::Started("back".to_owned()));
    assert_eq!(function.after(1).await, [Started]);
    assert_eq!(function.shop().change.revision, change(0).revision);
    assert_eq!(states(&function).last(), Some(&RollingBack));
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_is_retried_after_the_rollback_has_started_changes_nothing() {
    let function = deploying().await;
    function.world().begun.borrow_mut().insert("e2".to_owned(), actions(&[Source, Deploy], false));
    assert_eq!(function.end("pipeline-failed", "e2").await, [ExecutionFailed, Started]);
    let before = function.shop();
    for name in ["pipeline-resumed", "pipeline-succeeded"] {
        assert_eq!(function.end(name, "e2").await, [Ignored], "{name}");
    }
    assert_eq!(function.shop(), before);
}

#[tokio::test(start_paused = true)]
async fn an_approval_inside_the_pipeline_may_take_two_days() {
    let function = deploying().await;
    for _ in 0..48 {
        assert_eq!(function.after(60).await, [Ignored]);
    }
    assert_eq!(states(&function), []);
    assert_eq!(function.end("pipeline-succeeded", "e2").await, [Waiting]);
    assert_eq!(function.after(31).await, [Healthy]);
    assert_eq!(states(&function), [Baking, ReportState::Healthy]);
}

/// Nothing of the change was deployed, so nothing has to be deployed to take it back.
#[tokio::test(start_paused = true)]
async fn an_order_back_stops_an_execution_that_waits_for_an_approval_and_starts_nothing() {
    let function = deploying().await;
    let now = function.world().now();
    let first = listed_as(listed("e1", now, Some(COMMIT)), ExecutionStatus::Succeeded);
    function.world().listed.replace(vec![listed("e2", now, Some(change(1).revision.as_str())), first]);
    function.world().begun.borrow_mut().insert("e2".to_owned(), actions(&[Source, Approval], true));
    assert_eq!(function.outcomes(&order_back(2, 0)).await, [RolledBack]);
    let calls = function.take_calls();
    assert!(calls.contains(&"StopPipelineExecution shop e2 AbandonApproval".to_owned()), "{calls:?}");
    let report = function.take_reports().pop().unwrap();
    assert_eq!((report.state, report.execution), (ReportState::RolledBack, None));
    assert_eq!((report.number, report.good), (NUMBER + 2, Some(change(0).revision)));
    assert_eq!(function.world().starts.borrow().len(), 2);
    assert_eq!(function.after(1).await, [Ignored]);
}

#[tokio::test(start_paused = true)]
async fn an_order_back_starts_an_execution_if_anything_may_have_been_deployed() {
    let commit = change(1).revision;
    let cases = [
        ("it deploys at the moment", ExecutionStatus::Running, vec![Source, Deploy], true, false),
        ("it has deployed and waits for its next stage", ExecutionStatus::Running, vec![Source, Deploy], false, true),
        ("it builds at the moment", ExecutionStatus::Running, vec![Source, Build], true, false),
        ("it has failed after a deploy action", ExecutionStatus::Failed, vec![Source, Deploy], false, false),
    ];
    for (what, status, begun, is_in_progress, is_stopped) in cases {
        let function = deploying().await;
        let now = function.world().now();
        let first = listed_as(listed("e1", now, Some(COMMIT)), ExecutionStatus::Succeeded);
        let second = listed_as(listed("e2", now, Some(commit.as_str())), status);
        function.world().listed.replace(vec![second, first]);
        function.world().categories.replace(vec![Source, Build, Deploy]);
        function.world().begun.borrow_mut().insert("e2".to_owned(), actions(&begun, is_in_progress));
        assert_eq!(function.outcomes(&order_back(2, 0)).await, [Started], "{what}");
        let calls = function.take_calls();
        let stops = calls.iter().filter(|call| *call == "StopPipelineExecution shop e2 BeforeNextAction").count();
        assert_eq!(stops, usize::from(is_stopped), "{what}: {calls:?}");
        assert_eq!(pinned(&function.world().starts.borrow()[2], "Source"), change(0).revision);
        assert_eq!(states(&function), [RollingBack]);
        assert_eq!(function.end("pipeline-succeeded", "e3").await, [RolledBack]);
        assert_eq!(states(&function), [ReportState::RolledBack]);
    }
}

/// The alarms are not asked, and nothing bakes.
#[tokio::test(start_paused = true)]
async fn an_order_back_after_the_bake_was_over_makes_its_commit_good() {
    let function = baking_again().await;
    assert_eq!(function.after(31).await, [Healthy]);
    function.world().set_alarm("shop-errors", Ringing);
    function.take_calls();
    function.take_reports();
    assert_eq!(function.outcomes(&order_back(2, 0)).await, [Started]);
    assert_eq!(function.end("pipeline-succeeded", "e3").await, [RolledBack]);
    assert!(!function.take_calls().iter().any(|call| call.starts_with("Describe")));
    let reports = function.take_reports();
    let found: Vec<_> = reports.iter().map(|report| (report.state, report.good.clone())).collect();
    let good = |later| Some(change(later).revision);
    assert_eq!(found, [(RollingBack, good(1)), (ReportState::RolledBack, good(0))]);
    assert_eq!(function.after(60).await, [Ignored]);
}

#[tokio::test(start_paused = true)]
async fn the_notice_about_an_order_back_that_fails_says_what_happens_next() {
    let function = baking_again().await;
    assert_eq!(function.after(31).await, [Healthy]);
    assert_eq!(function.outcomes(&order_back(2, 0)).await, [Started]);
    assert_eq!(function.end("pipeline-failed", "e3").await, [ExecutionFailed]);
    let notices = function.world().notices.take();
    let next = notices[0].lines.last().unwrap();
    assert!(next.starts_with("Next: the target stays as it is") && next.contains(COMMIT), "{notices:?}");
}

/// The bus of the repository account and the topic may take half a minute not to answer.
#[tokio::test(start_paused = true)]
async fn a_rollback_starts_before_its_report_and_its_notice_are_sent() {
    let start_and_tell = ["ListPipelineExecutions shop", "StartPipelineExecution shop", REPORT, "Publish"];
    let function = baking_again().await;
    function.world().set_alarm("shop-errors", Ringing);
    assert_eq!(function.after(1).await, [Unhealthy, Started]);
    let mut calls = function.take_calls();
    assert_eq!(calls.remove(0), "DescribeAlarms shop-* Ringing");
    assert_eq!(calls, start_and_tell);

    let function = deploying().await;
    function.world().begun.borrow_mut().insert("e2".to_owned(), actions(&[Source, Deploy], false));
    assert_eq!(function.end("pipeline-failed", "e2").await, [ExecutionFailed, Started]);
    let calls = function.take_calls();
    let ends = calls.len() - start_and_tell.len();
    assert_eq!(calls[ends..], start_and_tell, "{calls:?}");
    assert!(calls[..ends].iter().all(|call| call == "ListActionExecutions shop e2"), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn an_order_back_needs_only_the_repository_to_be_routed() {
    let function = healthy().await;
    let gone = order_back(2, 0).replace("refs/heads/main", "refs/heads/gone");
    let id = Change { source_ref: "refs/heads/gone".parse().unwrap(), sequence: change(2).sequence, ..change(0) }.id();
    let mut event: Value = serde_json::from_str(&gone).unwrap();
    event["detail"]["id"] = json!(id);
    assert_eq!(function.outcomes(&event.to_string()).await, [Started]);
    event["detail"]["orders"]["shop"]["kind"] = json!("deploy");
    event["detail"]["orders"]["shop"]["number"] = json!(NUMBER + 3);
    assert_eq!(function.decide(&event.to_string()).await.outcome, Filtered);
}

/// A target that goes back must not be closed, because a closed order starts its change again when it is offered.
#[tokio::test(start_paused = true)]
async fn a_target_that_goes_back_keeps_trying_although_no_route_leads_to_it() {
    let function = baking_again().await;
    function.answer_starts(|_| StartAnswer::Deferred(PIPELINE_IS_FULL.to_owned()));
    function.world().set_alarm("shop-errors", Ringing);
    assert_eq!(function.after(1).await, [Unhealthy]);
    let row = function.shop();
    let repository = "arn:aws:codecommit:ap-northeast-1:111111111111:other".parse().unwrap();
    function.write_row(&OrderRow { change: Change { repository, ..row.change.clone() }, ..row.clone() });
    function.take_reports();
    assert_eq!(function.after(1).await, [Waiting]);
    assert_eq!(states(&function), [RollingBack]);
    function.answer_starts(|_| StartAnswer::Started("e3".to_owned()));
    function.write_row(&OrderRow { change: row.change, ..function.shop() });
    assert_eq!(function.after(60).await, [Started]);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_list_delays_a_rollback_and_a_refused_one_does_not() {
    let function = baking_again().await;
    function.world().list_is_down.set(true);
    function.world().set_alarm("shop-errors", Ringing);
    assert_eq!(function.after(1).await, [Unhealthy]);
    function.world().list_is_down.set(false);
    function.world().reads_are_refused.set(true);
    assert_eq!(function.after(1).await, [Started]);
    assert_eq!(pinned(&function.world().starts.borrow()[2], "Source"), change(0).revision);
}

/// A crash between the verdict and the rollback leaves the rollback to the follow-up.
#[tokio::test(start_paused = true)]
async fn a_rollback_whose_start_got_no_answer_is_searched_for() {
    let function = baking_again().await;
    function.answer_starts(|_| StartAnswer::Unanswered("no answer".to_owned()));
    function.world().set_alarm("shop-errors", Ringing);
    assert_eq!(function.after(1).await, [Unhealthy, Waiting]);
    let now = function.world().now();
    let second = listed_as(listed("e2", now, Some(change(1).revision.as_str())), ExecutionStatus::Succeeded);
    function.world().listed.replace(vec![listed("back", now, Some(COMMIT)), second]);
    tokio::time::advance(Duration::from_mins(1)).await;
    let decision = &function.follow_up_after(Duration::from_mins(2)).await[0];
    assert_eq!((decision.outcome, decision.concerns["execution"].as_str()), (Started, "back"));
    assert_eq!(function.world().starts.borrow().len(), 3);
}
