//! Pipelines that get images, and pipelines with several sources: code and an image.

use std::time::Duration;

use pipeline_starter::Outcome::{
    Duplicate, ExecutionFailed, Healthy, Ignored, RolledBack, Started, Unhealthy, Waiting,
};
use pipeline_starter::world::AlarmState::{Quiet, Ringing};
use pipeline_starter::world::{ExecutionStatus, ListedExecution, StartAnswer, World};
use sekisho_domain::change::{Change, RefKind, Revision, SourceChange};
use sekisho_domain::order::{Order, OrderKind};
use sekisho_domain::report::ReportState;

use crate::function::{
    Function, NUMBER, REPORT, WAVE, change, listed, of_wave, order_event, pinned, revision, shop, with_detail,
};

/// A route of images to a pipeline of their own.
pub const IMAGE_ROUTE: &str = r#"
[[route]]
name = "image"
image = "shop"
tags = ["v*"]
[[route.target]]
account = "222222222222"
region = "ap-northeast-1"
pipeline = "shop-image"
action = "Image"
"#;
/// Code and images of the pipeline `shop`, outside of waves.
pub const CODE_AND_IMAGE: &str = r#"
[[route]]
name = "code"
repository = "shop"
branches = ["main"]
[[route.target]]
account = "222222222222"
region = "ap-northeast-1"
pipeline = "shop"
action = "Source"
variables = { IMAGE = "{image}", COMMIT = "{commit}", TAG = "{tag}" }
[[route]]
name = "image"
image = "shop"
tags = ["v*"]
[[route.target]]
account = "222222222222"
region = "ap-northeast-1"
pipeline = "shop"
action = "Image"
"#;
/// Images of the pipeline `shop` in a wave, for a configuration in which its code is in a wave too.
const IMAGE_WAVE: &str = r#"
[[route]]
name = "image"
image = "shop"
tags = ["v*"]
[[route.wave]]
name = "one-box"
bake = "30m"
alarms = ["shop-*"]
[[route.wave.target]]
account = "222222222222"
region = "ap-northeast-1"
pipeline = "shop"
action = "Image"
"#;
const LIST: &str = "ListPipelineExecutions shop";
const START: &str = "StartPipelineExecution shop";
pub const MISSING: &str = "source action Image has a revision";

/// The commit of [`change`].
pub fn code(later: u64) -> Revision {
    change(later).revision
}

pub fn image(later: u64) -> Revision {
    format!("sha256:{later:064x}").parse().unwrap()
}

pub fn image_change(later: u64) -> Change {
    Change {
        kind: RefKind::Image,
        repository: "arn:aws:ecr:ap-northeast-1:111111111111:repository/shop".parse().unwrap(),
        source_ref: format!("refs/images/v{later}").parse().unwrap(),
        revision: image(later),
        previous: None,
        actor: None,
        ..change(later)
    }
}

/// The event that gives the pipeline `shop` this order, with the number [`NUMBER`] plus `later`.
fn order(change: Change, later: u64, order: Order) -> String {
    let orders = [(shop(), Order { number: NUMBER + later, ..order })].into();
    with_detail(&SourceChange::with_orders(change, &orders))
}

pub fn order_of_code(later: u64) -> String {
    order_event(later)
}

pub fn order_of_image(later: u64) -> String {
    order(image_change(later), later, Order::deploy(0))
}

/// The commit and the image of each start, in order.
pub fn starts(function: &Function) -> Vec<(Revision, Revision)> {
    let starts = function.world().starts.borrow();
    starts.iter().map(|start| (pinned(start, "Source"), pinned(start, "Image"))).collect()
}

pub fn last_start(function: &Function) -> (Revision, Revision) {
    starts(function).pop().unwrap()
}

/// An execution of both sources, as CodePipeline lists it.
fn execution(id: &str, status: ExecutionStatus, function: &Function, source: u64, tag: u64) -> ListedExecution {
    let listed = listed(id, function.world().now(), Some(code(source).as_str()));
    let revisions = [listed.revisions, vec![revision("Image", image(tag).as_str())]].concat();
    ListedExecution { status, revisions, ..listed }
}

/// The function after the commit 0 and the image 1 have proved healthy, by the execution `e1`.
pub async fn with_both() -> Function {
    let function = Function::with_config(CODE_AND_IMAGE);
    assert_eq!(function.outcomes(&order_of_code(0)).await, [Waiting]);
    assert_eq!(function.outcomes(&order_of_image(1)).await, [Started]);
    assert_eq!(function.end("pipeline-succeeded", "e1").await, [Healthy]);
    function.take_calls();
    function.take_reports();
    function
}

#[tokio::test(start_paused = true)]
async fn no_execution_starts_with_an_unpinned_source() {
    let function = Function::with_config(CODE_AND_IMAGE);
    let decision = function.decide(&order_of_code(0)).await;
    assert_eq!((decision.outcome, decision.reason.contains(MISSING)), (Waiting, true), "{}", decision.reason);
    assert_eq!(function.take_calls(), [LIST, REPORT]);
    let report = function.take_reports().pop().unwrap();
    assert_eq!((report.state, report.reason.contains(MISSING)), (ReportState::Waiting, true));
    assert_eq!(report.lacks, ["Image".parse().unwrap()].into());
    assert_eq!(function.after(1).await, [Ignored]);
    assert_eq!(function.take_calls(), [""; 0]);
    // Another attempt has no news, and says nothing.
    assert_eq!(function.after(10).await, [Ignored]);
    assert_eq!(function.take_calls(), [LIST]);
    let decision = function.decide(&order_of_image(1)).await;
    assert_eq!(decision.outcome, Started);
    assert!(
        decision.reason.contains(&format!("at this image with commit {} of Source", code(0))),
        "{}",
        decision.reason
    );
    let start = function.world().starts.borrow()[0].clone();
    assert_eq!((pinned(&start, "Source"), pinned(&start, "Image")), (code(0), image(1)));
    let uri = format!("111111111111.dkr.ecr.ap-northeast-1.amazonaws.com/shop@{}", image(1));
    let variables = [("COMMIT", code(0).to_string()), ("IMAGE", uri), ("TAG", "v1".to_owned())];
    assert_eq!(start.variables, variables.map(|(name, value)| (name.to_owned(), value)).into());
}

#[tokio::test(start_paused = true)]
async fn an_order_that_lacks_a_revision_starts_when_an_execution_has_succeeded() {
    let function = Function::with_config(CODE_AND_IMAGE);
    function.outcomes(&order_of_code(0)).await;
    let released = execution("released", ExecutionStatus::Succeeded, &function, 7, 9);
    function.world().listed.replace(vec![released]);
    assert_eq!(function.end("pipeline-succeeded", "released").await, [Started]);
    assert_eq!(last_start(&function), (code(0), image(9)));
}

#[tokio::test(start_paused = true)]
async fn code_that_failed_never_rides_along_with_a_new_image() {
    let function = with_both().await;
    assert_eq!(function.outcomes(&order_of_code(2)).await, [Started]);
    assert_eq!(last_start(&function), (code(2), image(1)));
    // An everyday start makes no more calls than one of a pipeline with one source.
    assert_eq!(function.take_calls(), [START, REPORT]);
    assert_eq!(function.end("pipeline-failed", "e2").await, [ExecutionFailed]);
    function.take_calls();
    for later in [3, 4] {
        assert_eq!(function.outcomes(&order_of_image(later)).await, [Started]);
        assert_eq!(last_start(&function), (code(0), image(later)));
        assert_eq!(function.take_calls(), [START, REPORT]);
        assert_eq!(function.end("pipeline-succeeded", &format!("e{later}")).await, [Healthy]);
        function.take_calls();
    }
    // A new commit is a new chance, and an image that failed does not ride along either.
    assert_eq!(function.outcomes(&order_of_image(5)).await, [Started]);
    assert_eq!(function.end("pipeline-failed", "e5").await, [ExecutionFailed]);
    assert_eq!(function.outcomes(&order_of_code(6)).await, [Started]);
    assert_eq!(last_start(&function), (code(6), image(4)));
}

/// The execution of the code fails when the image's order has already replaced the code's.
#[tokio::test(start_paused = true)]
async fn code_that_fails_late_does_not_ride_along_with_the_next_image() {
    for is_event_lost in [false, true] {
        let function = with_both().await;
        function.outcomes(&order_of_code(2)).await;
        assert_eq!(function.outcomes(&order_of_image(3)).await, [Started]);
        assert_eq!(last_start(&function), (code(2), image(3)));
        // Whether the code has failed is not known, so the list is read: one call more.
        assert_eq!(function.take_calls(), [START, REPORT, LIST, START, REPORT]);
        if is_event_lost {
            function.world().listed.replace(vec![execution("e2", ExecutionStatus::Failed, &function, 2, 1)]);
        } else {
            assert_eq!(function.end("pipeline-failed", "e2").await, [ExecutionFailed]);
            assert_eq!(function.shop().number, NUMBER + 3);
        }
        assert_eq!(function.outcomes(&order_of_image(4)).await, [Started]);
        assert_eq!(last_start(&function), (code(0), image(4)), "lost: {is_event_lost}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retried_stage_gives_the_code_of_an_earlier_order_another_chance() {
    let function = with_both().await;
    function.outcomes(&order_of_code(2)).await;
    function.outcomes(&order_of_image(3)).await;
    assert_eq!(function.end("pipeline-failed", "e2").await, [ExecutionFailed]);
    // A retry that somebody stops says nothing.
    for event in ["pipeline-resumed", "pipeline-stopped", "pipeline-superseded"] {
        assert_eq!(function.end(event, "e2").await, [Ignored], "{event}");
    }
    function.outcomes(&order_of_image(4)).await;
    assert_eq!(last_start(&function), (code(0), image(4)));
    assert_eq!(function.end("pipeline-succeeded", "e2").await, [Ignored]);
    function.outcomes(&order_of_image(5)).await;
    assert_eq!(last_start(&function), (code(2), image(5)));
}

/// The event about the failure must not be lost only because an invocation starts the next order at this moment.
#[tokio::test(start_paused = true)]
async fn the_end_of_an_earlier_execution_comes_again_if_an_invocation_holds_the_claim() {
    let function = with_both().await;
    function.outcomes(&order_of_code(2)).await;
    function.outcomes(&order_of_image(3)).await;
    let row = function.shop();
    function.write_row(&row.claimed(function.world().now()));
    let failed = crate::function::end_of("pipeline-failed", "e2");
    assert!(function.handle(&failed).await.is_err());
    function.write_row(&row);
    assert_eq!(function.outcomes(&failed).await, [Duplicate]);
    function.outcomes(&order_of_image(4)).await;
    assert_eq!(last_start(&function), (code(0), image(4)));
}

/// An order that waits for the pipeline takes the revisions at its start, not those at its arrival.
#[tokio::test(start_paused = true)]
async fn code_that_fails_while_the_image_waits_does_not_ride_along() {
    let function = with_both().await;
    function.outcomes(&order_of_code(2)).await;
    function.answer_starts(|_| StartAnswer::Deferred(crate::function::PIPELINE_IS_FULL.to_owned()));
    assert_eq!(function.outcomes(&order_of_image(3)).await, [Waiting]);
    let attempts = starts(&function).len();
    function.answer_starts(|_| StartAnswer::Started("later".to_owned()));
    assert_eq!(function.end("pipeline-failed", "e2").await, [ExecutionFailed, Started]);
    assert_eq!(starts(&function)[attempts..], [(code(0), image(3))]);
}

pub fn waves() -> Function {
    let function = Function::with_config(&format!("{WAVE}{IMAGE_WAVE}"));
    function.world().set_alarm("shop-errors", Quiet);
    function
}

/// The function after an order of a wave has proved healthy.
pub async fn bake(function: &Function, event: &str, execution: &str) {
    assert_eq!(function.outcomes(event).await, [Started]);
    assert_eq!(function.end("pipeline-succeeded", execution).await, [Waiting]);
    assert_eq!(function.after(31).await, [Healthy]);
}

pub fn in_wave(change: Change, later: u64) -> String {
    order(change, later, of_wave())
}

#[tokio::test(start_paused = true)]
async fn a_way_back_restores_the_whole_set_of_the_last_successful_execution() {
    let function = waves();
    tokio::time::advance(Duration::from_mins(10)).await;
    let past = execution("past", ExecutionStatus::Succeeded, &function, 7, 9);
    let failed = execution("failed", ExecutionStatus::Failed, &function, 8, 10);
    function.world().listed.replace(vec![failed, past]);
    tokio::time::advance(Duration::from_mins(10)).await;
    assert_eq!(function.outcomes(&in_wave(image_change(1), 1)).await, [Started]);
    assert_eq!(starts(&function), [(code(7), image(1))]);
    assert_eq!(function.take_reports()[0].good, Some(image(9)), "it counts as healthy");
    assert_eq!(function.end("pipeline-succeeded", "e1").await, [Waiting]);
    function.world().set_alarm("shop-errors", Ringing);
    assert_eq!(function.after(1).await, [Unhealthy, Started]);
    assert_eq!(last_start(&function), (code(7), image(9)));
    let lines = function.world().notices.borrow()[0].lines.join("\n");
    let back = format!("goes back to image {} with commit {} of Source", image(9), code(7));
    assert!(lines.contains(&back) && lines.contains(&format!("Image: {}", image(1))), "{lines}");
    assert_eq!(function.end("pipeline-succeeded", "e2").await, [RolledBack]);
    let report = function.take_reports().pop().unwrap();
    assert_eq!((report.revision, report.good), (image(1), Some(image(9))));
    function.world().set_alarm("shop-errors", Quiet);
    assert_eq!(function.outcomes(&in_wave(change(2), 2)).await, [Started]);
    assert_eq!(last_start(&function), (code(2), image(9)), "the image that was taken back does not ride along");
}

/// Commit 0 with image 1, then commit 2, then image 3 prove healthy. Then event-relay takes commit 2 back.
#[tokio::test(start_paused = true)]
async fn a_rollback_pins_the_newest_healthy_set_with_its_revision() {
    let function = waves();
    function.outcomes(&in_wave(change(0), 0)).await;
    bake(&function, &in_wave(image_change(1), 1), "e1").await;
    bake(&function, &in_wave(change(2), 2), "e2").await;
    bake(&function, &in_wave(image_change(3), 3), "e3").await;
    assert_eq!(starts(&function), [(code(0), image(1)), (code(2), image(1)), (code(2), image(3))]);
    let back = Order { kind: OrderKind::Rollback, ..of_wave() };
    let to_first = Change { sequence: change(4).sequence, ..change(0) };
    assert_eq!(function.outcomes(&order(to_first, 4, back)).await, [Started]);
    assert_eq!(last_start(&function), (code(0), image(1)));
    assert_eq!(function.end("pipeline-failed", "e4").await, [ExecutionFailed]);
    // The rollback has failed. Even so, the commit that was taken back does not come back.
    function.world().set_alarm("shop-errors", Quiet);
    assert_eq!(function.outcomes(&in_wave(image_change(5), 5)).await, [Started]);
    assert_eq!(last_start(&function), (code(0), image(5)));
}

/// Nothing has been deployed since the set was healthy.
#[tokio::test(start_paused = true)]
async fn a_rollback_to_the_set_that_still_runs_starts_nothing() {
    let function = waves();
    function.outcomes(&in_wave(change(0), 0)).await;
    bake(&function, &in_wave(image_change(1), 1), "e1").await;
    for (running, outcome) in [((0, 1), RolledBack), ((0, 2), Started)] {
        let listed = execution("e1", ExecutionStatus::Succeeded, &function, running.0, running.1);
        function.world().listed.replace(vec![listed]);
        let later = if outcome == RolledBack { 2 } else { 3 };
        let again = Change { sequence: change(later).sequence, ..image_change(1) };
        let back = Order { kind: OrderKind::Rollback, ..of_wave() };
        assert_eq!(function.outcomes(&order(again, later, back)).await, [outcome], "{running:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_start_is_found_by_its_whole_set() {
    let cases = [((2, 1), true), ((2, 8), false), ((9, 1), false)];
    for ((source, tag), is_found) in cases {
        let function = with_both().await;
        function.answer_starts(|_| StartAnswer::Unanswered("timeout".to_owned()));
        assert_eq!(function.outcomes(&order_of_code(2)).await, [Waiting]);
        function.answer_starts(|_| StartAnswer::Started("again".to_owned()));
        let listed = execution("other", ExecutionStatus::Running, &function, source, tag);
        function.world().listed.replace(vec![listed]);
        assert_eq!(function.after(3).await, [Started]);
        let found = if is_found { "other" } else { "again" };
        assert_eq!(function.shop().execution.as_deref(), Some(found), "{source} {tag}");
    }
    // One source action has run at its pin, and the other one has not run yet.
    let function = with_both().await;
    function.answer_starts(|_| StartAnswer::Unanswered("timeout".to_owned()));
    function.outcomes(&order_of_code(2)).await;
    let listed = listed("half", function.world().now(), Some(code(2).as_str()));
    function.world().listed.replace(vec![listed]);
    function.after(3).await;
    assert_eq!(function.shop().execution, None);
}

/// An image that is not replicated yet is no verdict. Neither is one that was deleted.
#[tokio::test(start_paused = true)]
async fn an_image_that_cannot_be_pulled_is_waited_for_and_condemns_nothing() {
    for kind in [OrderKind::Deploy, OrderKind::Rollback] {
        let function = with_both().await;
        function.world().failure.borrow_mut().is_in_source = true;
        let payload = order(image_change(2), 2, Order { kind, ..Order::deploy(0) });
        assert_eq!(function.outcomes(&payload).await, [Started]);
        let mut number = 2;
        while function.shop().execution.is_some() && number < 20 {
            function.end("pipeline-failed", &format!("e{number}")).await;
            if function.shop().execution.is_some() {
                break;
            }
            assert_eq!(last_start(&function), (code(0), image(2)));
            function.after(31).await;
            number += 1;
        }
        assert!((5..10).contains(&number), "{number}");
        let report = function.take_reports().pop().unwrap();
        assert_eq!((report.state, report.in_source), (ReportState::Failed, kind == OrderKind::Deploy));
        assert_eq!(report.good, Some(image(1)));
        function.world().failure.borrow_mut().is_in_source = false;
        assert_eq!(function.outcomes(&order_of_code(3)).await, [Started]);
        assert_eq!(last_start(&function), (code(3), image(1)));
    }
}
