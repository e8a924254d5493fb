//! The rows of pipelines with one and with several sources, and of pipelines that get a second source.

use pipeline_starter::Outcome::{ExecutionFailed, Healthy, RolledBack, Started, Unhealthy, Unknown, Waiting};
use pipeline_starter::order::OrderRow;
use pipeline_starter::world::AlarmState::{Quiet, Ringing};
use pipeline_starter::world::{ActionCategory, BegunAction, StartAnswer, World};
use serde_json::json;

use crate::function::{Function, PIPELINE_IS_FULL, change, claimed, file, order_event, pinned};
use crate::sources::{
    CODE_AND_IMAGE, IMAGE_ROUTE, MISSING, bake, code, image, image_change, in_wave, last_start, order_of_code,
    order_of_image, starts, waves, with_both,
};

/// The row of a pipeline that had one source, as an earlier version wrote it.
#[tokio::test(start_paused = true)]
async fn the_row_of_one_source_gives_the_pins_of_the_second_ones_first_order() {
    let function = Function::with_config(CODE_AND_IMAGE);
    let row = claimed(2, function.world().now());
    for (state, good, expected) in [("healthy", 2, 2), ("unknown", 1, 2), ("failed", 1, 1)] {
        let mut old = serde_json::to_value(&row).unwrap();
        assert!(old.get("sources").is_none());
        old["progress"] = json!({"ended": state});
        old["good"] = json!(code(good));
        old["good_repository"] = json!(change(0).repository);
        let old: OrderRow = serde_json::from_value(old).unwrap();
        let function = Function::with_config(CODE_AND_IMAGE);
        function.write_row(&old);
        assert_eq!(function.outcomes(&order_of_image(3)).await, [Started]);
        assert_eq!(last_start(&function), (code(expected), image(3)), "{state}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_with_one_source_has_a_row_as_before() {
    let function = Function::new();
    for later in [0, 1] {
        function.outcomes(&order_event(later)).await;
        let row = serde_json::to_value(function.shop()).unwrap();
        assert!(row.get("sources").is_none(), "{row}");
    }
    let image = Function::with_config(IMAGE_ROUTE);
    assert_eq!(image.outcomes(&file("order-of-an-image")).await, [Started]);
    let start = image.world().starts.borrow()[0].clone();
    assert!(pinned(&start, "Image").is_digest());
    let rows = image.world().ledger.rows();
    assert!(!rows.iter().any(|row| format!("{row:?}").contains("pipeline#shop-image")), "{rows:?}");
}

#[tokio::test(start_paused = true)]
async fn an_explanation_names_the_source_action_without_a_revision() {
    let function = Function::with_config(CODE_AND_IMAGE);
    let event: serde_json::Value = serde_json::from_str(&order_of_code(0)).unwrap();
    let explain = json!({"action": "explain", "event": event}).to_string();
    let decision = function.decide(&explain).await;
    assert_eq!((decision.outcome, decision.reason.contains(MISSING)), (Waiting, true), "{}", decision.reason);
}

/// A start got no answer, and CodePipeline has not started it. In the meantime, the code in its pins has failed.
#[tokio::test(start_paused = true)]
async fn a_lost_start_is_not_repeated_with_code_that_has_failed_since() {
    let function = with_both().await;
    function.outcomes(&order_of_code(2)).await;
    function.answer_starts(|_| StartAnswer::Unanswered("timeout".to_owned()));
    assert_eq!(function.outcomes(&order_of_image(3)).await, [Waiting]);
    assert_eq!(last_start(&function), (code(2), image(3)));
    function.answer_starts(|_| StartAnswer::Started("later".to_owned()));
    assert_eq!(function.end("pipeline-failed", "e2").await, [ExecutionFailed]);
    let attempts = starts(&function).len();
    // The ledger must have the new pins before the start.
    assert_eq!(function.after(3).await, [Waiting]);
    assert_eq!(function.after(1).await, [Started]);
    assert_eq!(starts(&function)[attempts..], [(code(0), image(3))]);
}

/// An earlier version, which CloudFormation may bring back, does not know images.
#[tokio::test(start_paused = true)]
async fn the_row_of_an_order_for_a_commit_names_a_commit_as_healthy() {
    let function = with_both().await;
    assert_eq!(function.shop().good, Some(image(1)));
    function.outcomes(&order_of_code(2)).await;
    let row = function.shop();
    assert_eq!((row.good, row.good_repository), (Some(code(0)), Some(change(0).repository)));
    assert_eq!(function.take_reports()[0].good, Some(code(0)));
}

/// Nobody can tell about commit 2. The set of commit 2 and image 3 fails, and the target leaves both.
#[tokio::test(start_paused = true)]
async fn code_that_was_taken_back_with_an_image_does_not_ride_along_with_the_next_one() {
    let function = waves();
    function.outcomes(&in_wave(change(0), 0)).await;
    bake(&function, &in_wave(image_change(1), 1), "e1").await;
    assert_eq!(function.outcomes(&in_wave(change(2), 2)).await, [Started]);
    assert_eq!(function.end("pipeline-stopped", "e2").await, [Unknown]);
    assert_eq!(function.outcomes(&in_wave(image_change(3), 3)).await, [Started]);
    assert_eq!(last_start(&function), (code(2), image(3)));
    assert_eq!(function.end("pipeline-succeeded", "e3").await, [Waiting]);
    function.world().set_alarm("shop-errors", Ringing);
    assert_eq!(function.after(1).await, [Unhealthy, Started]);
    assert_eq!(last_start(&function), (code(0), image(1)));
    assert_eq!(function.end("pipeline-succeeded", "e4").await, [RolledBack]);
    function.world().set_alarm("shop-errors", Quiet);
    function.outcomes(&in_wave(image_change(5), 5)).await;
    assert_eq!(last_start(&function), (code(0), image(5)));
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_is_retried_before_the_rollback_has_started_keeps_the_pins() {
    let function = waves();
    function.outcomes(&in_wave(change(0), 0)).await;
    bake(&function, &in_wave(image_change(1), 1), "e1").await;
    function.outcomes(&in_wave(image_change(2), 2)).await;
    let deploys = BegunAction { category: ActionCategory::Deploy, is_in_progress: false };
    function.world().begun.borrow_mut().insert("e2".to_owned(), vec![deploys]);
    function.answer_starts(|_| StartAnswer::Deferred(PIPELINE_IS_FULL.to_owned()));
    assert_eq!(function.end("pipeline-failed", "e2").await, [ExecutionFailed]);
    assert_eq!(last_start(&function), (code(0), image(1)));
    assert_eq!(function.end("pipeline-resumed", "e2").await, [Started]);
    function.answer_starts(|_| StartAnswer::Started("later".to_owned()));
    assert_eq!(function.end("pipeline-succeeded", "e2").await, [Waiting]);
    assert_eq!(function.after(31).await, [Healthy]);
    assert_eq!(function.take_reports().pop().unwrap().good, Some(image(2)));
    function.outcomes(&in_wave(change(3), 3)).await;
    assert_eq!(last_start(&function), (code(3), image(2)));
}

/// Another train may replace an order that lacks a source, but not one that waits for an alarm.
#[tokio::test(start_paused = true)]
async fn a_report_names_the_missing_source_only_as_long_as_the_order_waits_for_it() {
    let function = waves();
    function.world().set_alarm("shop-errors", Ringing);
    assert_eq!(function.outcomes(&in_wave(change(0), 0)).await, [Waiting]);
    let lacks = |function: &Function| {
        let reports = function.take_reports().into_iter();
        reports.map(|report| report.lacks.iter().map(ToString::to_string).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    assert_eq!(lacks(&function), [["Image"]]);
    function.after(11).await;
    assert_eq!(lacks(&function), [[""; 0]; 0], "another attempt has no news");
    assert_eq!(function.outcomes(&in_wave(image_change(1), 1)).await, [Waiting]);
    assert_eq!(lacks(&function), [[""; 0]]);
    function.world().set_alarm("shop-errors", Quiet);
    assert_eq!(function.after(1).await, [Started]);
    assert_eq!(last_start(&function), (code(0), image(1)));
}
