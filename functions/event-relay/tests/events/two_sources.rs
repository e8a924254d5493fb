//! A pipeline with two sources: a commit and an image. Each source has its own newest change.

use std::time::Duration;

use event_relay::Outcome::{self, Duplicate, Failed, Ignored, Ordered, Relayed};
use event_relay::target::TargetRow;
use event_relay::world::World;
use sekisho_domain::change::Revision;

use crate::function::{Function, commit, file, outcomes, routes};
use crate::images::{delete, digest, image, push, pushed};
use crate::targets::{SHOP_2, SHOP_3, report, target_row};

/// Two routes to one pipeline of each account.
fn config(accounts: &str) -> String {
    let route = |keys: &str, action: &str| {
        format!(
            "[[route]]\n{keys}\nexisting = \"relay\"\n[[route.target]]\naccounts = [{accounts}]\n\
             region = \"ap-northeast-1\"\npipeline = \"shop\"\naction = \"{action}\"\n"
        )
    };
    route("name = \"code\"\nrepository = \"shop\"\nbranches = [\"main\", \"release/*\"]", "Source")
        + &route("name = \"image\"\nimage = \"shop\"\ntags = [\"**\"]", "Image")
}

/// A function that has ordered the first commit and then the first image. `state` is the report on the commit, if there
/// was one.
async fn ordered_both(state: Option<&str>) -> (Function, TargetRow) {
    let function = Function::with(&config("\"222222222222\""));
    function.point("release/1.2", None);
    function.account().images.borrow_mut().insert("shop".to_owned(), vec![]);
    assert_eq!(function.decide("branch-created").await.outcome, Relayed);
    let of_commit = row(&function);
    if let Some(state) = state {
        send(&function, &of_commit, state, 1).await;
    }
    function.account().sleep(Duration::from_secs(1)).await;
    push(&function, image(1, &["v1"]));
    assert_eq!(outcomes(&function.handle(&pushed("v1")).await.unwrap().decisions), [Relayed]);
    assert_eq!(desired(&function), digest(1));
    function.accepted();
    (function, of_commit)
}

fn row(function: &Function) -> TargetRow {
    target_row(function.account(), SHOP_2).unwrap()
}

/// The revision of the target's current order.
fn desired(function: &Function) -> Revision {
    row(function).order.unwrap().change.revision
}

/// Lets the target report on the order in `row`.
async fn send(function: &Function, row: &TargetRow, state: &str, minute: u64) -> Vec<Outcome> {
    let event = report(SHOP_2, row, state, minute).to_string();
    outcomes(&function.handle(&event).await.unwrap().decisions)
}

/// The revisions that a reconcile orders.
async fn reconcile(function: &Function) -> Vec<Revision> {
    function.file("schedule").await.unwrap();
    function.accepted().into_iter().map(|(_, event)| event.change.revision).collect()
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_never_reached_its_target_is_ordered_again_after_the_image() {
    for refused in [None, Some("refused")] {
        let (function, of_commit) = ordered_both(refused).await;
        assert_eq!(reconcile(&function).await, [], "the target has not taken the image yet");
        let of_image = row(&function);
        send(&function, &of_image, "running", 2).await;
        assert_eq!(reconcile(&function).await, [commit(1)]);
        let again = row(&function);
        let (first, order) = (of_commit.order.unwrap(), again.order.clone().unwrap());
        assert!(order.number > of_image.number && order.change.sequence > first.change.sequence);
        assert_eq!(again.other.as_ref().map(|other| (&other.change.revision, other.open)), Some((&digest(1), false)));
        send(&function, &again, "healthy", 3).await;
        assert_eq!(reconcile(&function).await, []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_its_target_has_taken_is_not_ordered_again() {
    for is_late in [false, true] {
        let (function, of_commit) = ordered_both((!is_late).then_some("running")).await;
        if is_late {
            assert_eq!(send(&function, &of_commit, "running", 1).await, [Ignored]);
        }
        let of_image = row(&function);
        assert!(of_image.other.as_ref().is_some_and(|other| !other.open));
        send(&function, &of_image, "healthy", 2).await;
        assert_eq!(reconcile(&function).await, []);
        assert_eq!(desired(&function), digest(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_newer_commit_replaces_the_one_that_never_arrived() {
    let (function, _) = ordered_both(None).await;
    function.point("main", Some(commit(2)));
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    send(&function, &row(&function), "running", 2).await;
    function.accepted();
    // The target has not reported on the image either.
    assert_eq!(reconcile(&function).await, [digest(1)]);
    send(&function, &row(&function), "running", 3).await;
    assert_eq!(reconcile(&function).await, []);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_was_deleted_is_not_ordered_again() {
    let (function, _) = ordered_both(None).await;
    function.point("main", Some(commit(2)));
    function.decide("branch-updated").await;
    send(&function, &row(&function), "running", 2).await;
    function.accepted();
    delete(&function, 1);
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert!(outcomes(&decisions).contains(&Failed), "{decisions:?}");
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert!(!outcomes(&decisions).contains(&Failed), "{decisions:?}");
    assert_eq!((function.accepted(), desired(&function)), (vec![], commit(2)));
}

#[tokio::test(start_paused = true)]
async fn each_source_has_its_own_duplicates() {
    let (function, _) = ordered_both(Some("running")).await;
    function.point("release/1.2", Some(commit(1)));
    assert_eq!(function.decide("branch-created-release").await.outcome, Duplicate);
    push(&function, image(2, &["v2"]));
    function.handle(&pushed("v2")).await.unwrap();
    function.point("main", Some(commit(2)));
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    // A further tag of the second image, while the current order is about a commit.
    function.account().images.borrow_mut().get_mut("shop").unwrap()[1].tags.push("latest".to_owned());
    assert_eq!(outcomes(&function.handle(&pushed("latest")).await.unwrap().decisions), [Duplicate]);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_joins_gets_the_newest_head_of_each_source() {
    let (mut function, _) = ordered_both(Some("healthy")).await;
    send(&function, &row(&function), "healthy", 2).await;
    function.file("schedule").await.unwrap();
    function.accepted();
    function.relay.routes = routes(&config("\"222222222222\", \"333333333333\""));
    let mut revisions = reconcile(&function).await;
    revisions.extend(reconcile(&function).await);
    revisions.sort();
    assert_eq!(revisions, [commit(1), digest(1)]);
    let row = target_row(function.account(), SHOP_3).unwrap();
    assert!(row.other.is_some());
    assert_eq!(reconcile(&function).await, []);
}

/// The ledger lost the rows of its targets.
#[tokio::test(start_paused = true)]
async fn a_target_without_an_order_gets_both_sources_by_resend() {
    let (function, _) = ordered_both(Some("healthy")).await;
    let lost = TargetRow::default();
    crate::targets::write_target(function.account(), SHOP_2, &lost);
    let resend = r#"{"action":"resend","route":"code","account":"222222222222"}"#;
    let answer = function.ask(resend).await.unwrap();
    assert!(answer.contains("000000000000 v1 of shop"), "{answer}");
    function.accepted();
    send(&function, &row(&function), "running", 2).await;
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert!(outcomes(&decisions).contains(&Ordered), "{decisions:?}");
    assert_eq!(desired(&function), commit(1));
}

/// Two routes with waves to one pipeline, at which neither source has a revision yet.
fn trains() -> Function {
    let function = Function::with(
        &config("\"222222222222\"").replace("[[route.target]]", "[[route.wave]]\nname = \"w\"\n[[route.wave.target]]"),
    );
    function.point("main", None);
    function.point("release/1.2", None);
    function.account().images.borrow_mut().insert("shop".to_owned(), vec![]);
    function
}

/// Lets the target report that its order waits for the source action `action`, or for something else.
async fn wait_for(function: &Function, action: Option<&str>, minute: u64) {
    let mut event = report(SHOP_2, &row(function), "waiting", minute);
    if let Some(action) = action {
        event["detail"]["lacks"] = serde_json::json!([action]);
    }
    function.handle(&event.to_string()).await.unwrap();
}

async fn push_commit(function: &Function) {
    function.point("main", Some(commit(1)));
    function.file("branch-created").await.unwrap();
}

async fn push_image(function: &Function) {
    push(function, image(1, &["v1"]));
    function.handle(&pushed("v1")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn two_trains_from_nothing_bring_both_sources_to_their_target() {
    for is_image_first in [false, true] {
        let function = trains();
        let (lacking, revisions) =
            if is_image_first { ("Source", [digest(1), commit(1)]) } else { ("Image", [commit(1), digest(1)]) };
        if is_image_first {
            push_image(&function).await;
            push_commit(&function).await;
        } else {
            push_commit(&function).await;
            push_image(&function).await;
        }
        assert_eq!(desired(&function), revisions[0], "the target has not answered yet");
        wait_for(&function, None, 1).await;
        assert_eq!(reconcile(&function).await, revisions[..1], "the target may wait for an alarm");
        wait_for(&function, Some(lacking), 2).await;
        assert_eq!(desired(&function), revisions[1]);
        send(&function, &row(&function), "running", 3).await;
        assert_eq!(desired(&function), revisions[1]);
        send(&function, &row(&function), "healthy", 4).await;
        assert_eq!(desired(&function), revisions[0], "its own train judges the change");
        send(&function, &row(&function), "healthy", 5).await;
        function.accepted();
        assert_eq!(reconcile(&function).await, []);
    }
}

/// Two repositories to two source actions of one pipeline, and an image to the third.
fn three_sources() -> Function {
    let route = |keys: &str, action: &str| {
        format!(
            "[[route]]\nname = \"{action}\"\n{keys}\nexisting = \"relay\"\n[[route.target]]\naccount = \"222222222222\"\n\
             region = \"ap-northeast-1\"\npipeline = \"shop\"\naction = \"{action}\"\n"
        )
    };
    let routes = [
        route("repository = \"shop\"\nbranches = [\"main\"]", "Source"),
        route("repository = \"website\"\nbranches = [\"main\"]", "Website"),
        route("image = \"shop\"\ntags = [\"**\"]", "Image"),
    ];
    let function = Function::with(&routes.concat());
    function.point("release/1.2", None);
    function.account().images.borrow_mut().insert("shop".to_owned(), vec![]);
    function
}

/// Relays the head of `main` of this repository.
async fn relay(function: &Function, repository: &str) -> Vec<Outcome> {
    let event = file("branch-created").replace("shop", repository);
    outcomes(&function.handle(&event).await.unwrap().decisions)
}

#[tokio::test(start_paused = true)]
async fn two_repositories_of_two_source_actions_are_two_sources() {
    let function = three_sources();
    // Both repositories of the fake account have the same commits.
    assert_eq!(relay(&function, "shop").await, [Relayed]);
    let of_shop = row(&function);
    assert_eq!(relay(&function, "website").await, [Relayed]);
    push_image(&function).await;
    let (of_image, repository) =
        (row(&function), |row: &TargetRow| row.order.as_ref().unwrap().change.repository.clone());
    assert_eq!((of_image.other.is_some(), of_image.more.len()), (true, 1));
    // The target has taken neither of the commits.
    send(&function, &of_image, "running", 1).await;
    function.accepted();
    reconcile(&function).await;
    assert_eq!(repository(&row(&function)).name(), "website");
    send(&function, &row(&function), "running", 2).await;
    reconcile(&function).await;
    let again = row(&function);
    assert_eq!(repository(&again), repository(&of_shop));
    send(&function, &again, "running", 3).await;
    assert_eq!(reconcile(&function).await, []);
    // A new commit of one repository replaces nothing of the other one.
    function.point("main", Some(commit(2)));
    assert_eq!(relay(&function, "website").await, [Relayed]);
    assert_eq!(relay(&function, "website").await, [Duplicate]);
    let others = |row: &TargetRow| row.other.iter().chain(&row.more).map(|one| one.change.clone()).collect::<Vec<_>>();
    let names: Vec<String> = others(&row(&function)).iter().map(|one| one.repository.to_string()).collect();
    assert_eq!(names, [repository(&again).to_string(), repository(&of_image).to_string()]);
}
