//! References that existed before a route covered them.

use std::time::Duration;

use event_relay::Outcome::{self, Baseline, Duplicate, Relayed};
use event_relay::world::World;
use sekisho_domain::decision::Decision;
use sekisho_domain::timestamp::epoch_millis;

use crate::function::{Function, SHOP, commit, only_main, routes};

fn with_releases() -> String {
    only_main().replace(r#"["main"]"#, r#"["main", "release/*"]"#)
}

fn of(decisions: &[Decision<Outcome>], outcome: Outcome) -> Vec<&Decision<Outcome>> {
    decisions.iter().filter(|decision| decision.outcome == outcome).collect()
}

/// A function that has relayed `main`, in a repository with 31 old release branches.
async fn with_old_branches() -> Function {
    let function = Function::with(&only_main());
    function.point("release/1.2", None);
    for n in 0..31 {
        function.point(&format!("release/{n}"), Some(commit(100 + n)));
    }
    function.file("branch-created").await.unwrap();
    function.file("schedule").await.unwrap();
    function.accepted();
    function
}

#[tokio::test(start_paused = true)]
async fn adding_release_branches_to_a_route_starts_nothing_for_the_old_ones() {
    let mut function = with_old_branches().await;
    function.relay.routes = routes(&with_releases());
    let decisions = function.file("schedule").await.unwrap().decisions;
    let baseline = of(&decisions, Baseline);
    assert_eq!((baseline.len(), baseline[0].concerns["count"].as_str()), (1, "31"), "{decisions:?}");
    assert_eq!(baseline[0].concerns["repository"], SHOP);
    assert_eq!(function.accepted(), []);
    assert!(function.row("refs/heads/release/7").unwrap().state.baseline);

    // A branch that appears later is relayed, also if its event was lost. So is an old one that moves.
    function.point("release/31", Some(commit(200)));
    function.point("release/7", Some(commit(201)));
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!((of(&decisions, Relayed).len(), of(&decisions, Baseline).len()), (2, 0), "{decisions:?}");
    assert!(!function.row("refs/heads/release/7").unwrap().state.baseline);
}

#[tokio::test(start_paused = true)]
async fn a_route_can_ask_for_its_existing_branches() {
    let mut function = with_old_branches().await;
    function.relay.routes =
        routes(&with_releases().replace(r#"repository = "shop""#, "repository = \"shop\"\nexisting = \"relay\""));
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!((of(&decisions, Relayed).len(), of(&decisions, Baseline).len()), (31, 0));
}

/// A repository that was renamed, or a ledger that was lost, looks like a repository that was never seen.
#[tokio::test(start_paused = true)]
async fn a_lost_ledger_starts_no_old_branch() {
    let function = Function::with(&with_releases());
    for n in 0..31 {
        function.point(&format!("release/{n}"), Some(commit(100 + n)));
    }
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!((of(&decisions, Relayed).len(), of(&decisions, Baseline).len()), (1, 1), "{decisions:?}");
    assert!(function.accepted().iter().all(|(_, event)| event.change.source_ref.name() == "main"));
}

#[tokio::test(start_paused = true)]
async fn an_event_of_an_old_branch_is_relayed_before_the_first_look() {
    let function = Function::with(&with_releases());
    assert_eq!(function.decide("branch-created-release").await.outcome, Relayed);
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(of(&decisions, Baseline).len(), 0, "a branch with a row is never a baseline");
}

#[tokio::test(start_paused = true)]
async fn a_failed_first_look_is_repeated() {
    let function = Function::with(&with_releases());
    function.account().throttled_branches.borrow_mut().push("release/1.2".to_owned());
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(of(&decisions, Baseline).len(), 0, "{decisions:?}");
    function.account().throttled_branches.borrow_mut().clear();
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(of(&decisions, Baseline).len(), 1, "{decisions:?}");
}

/// The configuration has the new name first, and the repository is renamed later.
#[tokio::test(start_paused = true)]
async fn a_repository_that_appears_after_its_route_starts_no_old_branch() {
    let function = Function::with(&with_releases());
    let branches = function.account().branches.replace(None);
    function.file("schedule").await.unwrap();
    function.account().branches.replace(branches);
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!((of(&decisions, Relayed).len(), of(&decisions, Baseline).len()), (1, 1), "{decisions:?}");
}

/// The events of its branches were lost. A repository that was created before the last complete reconcile must have had
/// another name then, so its branches are not new under this one.
#[tokio::test(start_paused = true)]
async fn the_branches_of_a_repository_that_was_created_after_its_route_are_relayed() {
    // If no reconcile has reached every repository for a day, nobody knows any more whether it had another name.
    let cases = [(Some(-1), 2, (1, 1)), (Some(1), 2, (2, 0)), (Some(1), 25, (1, 1)), (None, 2, (1, 1))];
    for (hours_after, hours, expected) in cases {
        let function = Function::with(&with_releases());
        let branches = function.account().branches.replace(None);
        let mut began = function.account().now();
        if hours_after.is_some() {
            // The first one stores the glob, and the second one a later time at which it has reached every repository.
            function.file("schedule").await.unwrap();
            tokio::time::advance(Duration::from_hours(5)).await;
            began = function.account().now();
            function.file("schedule").await.unwrap();
        }
        let created = began + time::Duration::hours(hours_after.unwrap_or(1));
        function.account().repositories_created.set(epoch_millis(created));
        tokio::time::advance(Duration::from_hours(hours)).await;
        function.account().branches.replace(branches);
        function.point("release/1.2", Some(commit(7)));
        function.calls();
        let decisions = function.file("schedule").await.unwrap().decisions;
        let found = (of(&decisions, Relayed).len(), of(&decisions, Baseline).len());
        assert_eq!(found, expected, "{hours_after:?} {hours} {decisions:?}");
        let asked = || function.calls().iter().filter(|call| call.starts_with("GetRepository")).count();
        assert_eq!(asked(), usize::from(hours_after.is_some() && hours < 24), "{hours_after:?} {hours}");
        function.file("schedule").await.unwrap();
        assert_eq!(asked(), 0, "only the first look asks");
    }
}

/// A function that reached every repository before this one was created, whose branches cannot be listed yet.
async fn with_young_repository(config: &str) -> Function {
    let function = Function::with(config);
    let branches = function.account().branches.replace(None);
    function.file("schedule").await.unwrap();
    tokio::time::advance(Duration::from_mins(1)).await;
    function.account().repositories_created.set(epoch_millis(function.account().now()));
    function.account().branches.replace(branches);
    function.point("release/1.2", Some(commit(7)));
    function.account().throttled_repositories.borrow_mut().push("shop".to_owned());
    function
}

/// If the look at a new repository fails, the repository is still new to the next look.
#[tokio::test(start_paused = true)]
async fn a_young_repository_stays_young_until_a_look_succeeds() {
    let route = with_releases().replace(r#"repository = "shop""#, "repository = \"shop\"\nexisting = \"baseline\"");
    let function = with_young_repository(&route).await;
    for _ in 0..30 {
        tokio::time::advance(Duration::from_mins(5)).await;
        function.file("schedule").await.unwrap();
    }
    function.account().throttled_repositories.borrow_mut().clear();
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!((of(&decisions, Relayed).len(), of(&decisions, Baseline).len()), (2, 0), "{decisions:?}");
}

/// The repository cannot be read when the glob is configured. The first look that succeeds comes later.
#[tokio::test(start_paused = true)]
async fn the_branches_of_a_repository_that_was_created_before_its_glob_are_recorded() {
    let mut function = with_young_repository(&only_main()).await;
    tokio::time::advance(Duration::from_mins(1)).await;
    function.relay.routes = routes(&with_releases());
    for _ in 0..2 {
        function.file("schedule").await.unwrap();
        tokio::time::advance(Duration::from_mins(5)).await;
    }
    function.account().throttled_repositories.borrow_mut().clear();
    function.calls();
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert!(function.calls().iter().any(|call| call.starts_with("GetRepository")), "it could be younger");
    let found = (of(&decisions, Relayed).len(), of(&decisions, Baseline).len());
    assert_eq!(found, (1, 1), "main is named by the route: {decisions:?}");
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_was_renamed_away_and_back_starts_no_branch_of_the_meantime() {
    let function = Function::with(&with_releases());
    function.file("schedule").await.unwrap();
    let branches = function.account().branches.replace(None);
    function.file("schedule").await.unwrap();
    function.account().branches.replace(branches);
    function.point("release/9", Some(commit(9)));
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!((of(&decisions, Relayed).len(), of(&decisions, Baseline).len()), (0, 1), "{decisions:?}");
}

/// A branch that can never be compared does not turn new branches into old ones.
#[tokio::test(start_paused = true)]
async fn a_branch_that_fails_does_not_keep_the_first_look_open() {
    let function = Function::with(&with_releases());
    function.account().throttled_branches.borrow_mut().push("main".to_owned());
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(of(&decisions, Baseline).len(), 1, "{decisions:?}");
    function.point("release/2", Some(commit(2)));
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!((of(&decisions, Relayed).len(), of(&decisions, Baseline).len()), (1, 0), "{decisions:?}");
}

/// The first look recorded a new branch before the branch's event arrived.
#[tokio::test(start_paused = true)]
async fn an_event_of_a_branch_that_the_first_look_just_recorded_is_relayed() {
    let function = Function::with(&with_releases());
    function.point("release/1.2", Some(commit(9)));
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(of(&decisions, Baseline).len(), 1, "{decisions:?}");
    function.accepted();
    function.calls();
    assert_eq!(function.decide("branch-created-release").await.outcome, Relayed);
    let calls = function.calls();
    assert!(
        !calls.iter().any(|call| call.starts_with("GetDifferences")),
        "a new branch has no earlier commit: {calls:?}"
    );
    assert_eq!(function.accepted().len(), 2);
    assert_eq!(function.decide("branch-created-release").await.outcome, Duplicate);
}

/// CodeCommit fails for every attempt of the event, and the first look comes after that.
#[tokio::test(start_paused = true)]
async fn a_new_branch_whose_head_could_not_be_read_is_no_baseline() {
    let function = Function::with(&with_releases());
    function.account().throttled_branches.borrow_mut().push("release/1.2".to_owned());
    function.file("branch-created-release").await.unwrap_err();
    function.account().throttled_branches.borrow_mut().clear();
    function.file("schedule").await.unwrap();
    let accepted = function.accepted();
    assert!(accepted.iter().any(|(_, event)| event.change.source_ref.name() == "release/1.2"), "{accepted:?}");
}

/// Nobody looks at a repository without a route, so its row still has the glob.
#[tokio::test(start_paused = true)]
async fn a_route_that_returns_starts_no_branch_of_the_meantime() {
    let mut function = Function::with(&with_releases());
    function.file("schedule").await.unwrap();
    let routed = function.relay.routes.clone();
    function.relay.routes = routes(&with_releases().replace(r#"repository = "shop""#, r#"repository = "website""#));
    function.file("schedule").await.unwrap();
    for n in 0..20 {
        function.point(&format!("release/9.{n}"), Some(commit(9)));
    }
    function.accepted();
    function.relay.routes = routed;
    tokio::time::advance(std::time::Duration::from_hours(720)).await;
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!((of(&decisions, Relayed).len(), of(&decisions, Baseline).len()), (0, 1), "{decisions:?}");
    function.point("release/10", Some(commit(10)));
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!((of(&decisions, Relayed).len(), of(&decisions, Baseline).len()), (1, 0), "{decisions:?}");
}

#[tokio::test(start_paused = true)]
async fn a_literal_tag_of_a_new_repository_is_relayed() {
    let function = Function::with(&only_main().replace(r#"branches   = ["main"]"#, r#"tags = ["v1.0.0"]"#));
    function.point_tag("v1.0.0", Some(commit(2)));
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!((of(&decisions, Relayed).len(), of(&decisions, Baseline).len()), (1, 0), "{decisions:?}");
}
