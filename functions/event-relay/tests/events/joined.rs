//! Targets that a route leads to only after its heads were relayed, and accounts that are deployed one after the other.

use std::time::Duration;

use event_relay::Outcome::{self, Ordered, Relayed};
use event_relay::target::{self, TargetRow};
use sekisho_domain::decision::Decision;
use sekisho_ledger::{Key, Memory, Store};

use crate::function::{Function, MAIN, SHOP, commit, only_main, routes};
use crate::targets::{SHOP_2, report, target_row};

/// The configuration with a third target.
fn with_third(config: &str) -> String {
    let target = "[[route.target]]\naccount = \"444444444444\"\nregion = \"us-east-1\"\npipeline = \"shop\"\n\
                  action = \"Source\"\n";
    config.replacen("[access]", &format!("{target}[access]"), 1)
}

const THIRD: &str = "444444444444/us-east-1/shop";

fn count(decisions: &[Decision<Outcome>], outcome: Outcome) -> usize {
    decisions.iter().filter(|decision| decision.outcome == outcome).count()
}

#[tokio::test(start_paused = true)]
async fn a_target_added_to_a_route_runs_the_head_within_one_reconcile() {
    let mut function = Function::with(&only_main());
    function.file("branch-created").await.unwrap();
    function.file("schedule").await.unwrap();
    function.accepted();
    function.relay.routes = routes(&with_third(&only_main()));
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!((count(&decisions, Ordered), count(&decisions, Relayed)), (1, 0), "{decisions:?}");
    let accepted = function.accepted();
    assert_eq!((accepted.len(), accepted[0].0.as_str()), (1, "444444444444"));
    assert_eq!(accepted[0].1.change.revision, commit(1));
    // The change has the id that the other targets know, so a target that ran it under an earlier version adopts it.
    let first = target_row(function.account(), SHOP_2).unwrap().order.unwrap().change;
    assert_eq!(accepted[0].1.id, first.id());
    assert_eq!(count(&function.file("schedule").await.unwrap().decisions, Ordered), 0);
    assert_eq!(function.accepted(), []);
}

#[tokio::test(start_paused = true)]
async fn a_target_of_two_branches_joins_with_the_newest_head_only() {
    let two = only_main().replace(r#"["main"]"#, r#"["main", "release/1.2"]"#);
    let mut function = Function::with(&two);
    function.point("release/1.2", Some(commit(9)));
    function.file("branch-created").await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    function.file("branch-created-release").await.unwrap();
    function.file("schedule").await.unwrap();
    function.accepted();
    function.relay.routes = routes(&with_third(&two));
    function.file("schedule").await.unwrap();
    let accepted = function.accepted();
    assert_eq!((accepted.len(), accepted[0].1.change.revision.clone()), (1, commit(9)));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_left_and_came_back_gets_what_it_missed() {
    let mut function = Function::with(&with_third(&only_main()));
    function.file("branch-created").await.unwrap();
    function.file("schedule").await.unwrap();
    function.relay.routes = routes(&only_main());
    function.file("schedule").await.unwrap();
    function.point("main", Some(commit(2)));
    function.file("branch-updated").await.unwrap();
    function.accepted();
    function.relay.routes = routes(&with_third(&only_main()));
    function.file("schedule").await.unwrap();
    let accepted = function.accepted();
    assert_eq!((accepted.len(), accepted[0].0.as_str()), (1, "444444444444"));
    assert_eq!(accepted[0].1.change.revision, commit(2));
}

/// The repository account has the new route, and the pipeline account does not have it yet: its starter refuses the
/// order. After the account is deployed, the order is offered again, without a push and without a person.
#[tokio::test(start_paused = true)]
async fn an_account_that_is_deployed_later_gets_its_order_without_a_push() {
    let function = Function::with(&only_main());
    function.file("branch-created").await.unwrap();
    let row = target_row(function.account(), SHOP_2).unwrap();
    let refusal = report(SHOP_2, &row, "refused", 1).to_string();
    assert_eq!(function.handle(&refusal).await.unwrap().decisions[0].outcome, Outcome::Refused);
    function.file("schedule").await.unwrap();
    function.accepted();
    tokio::time::advance(Duration::from_mins(6)).await;
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(count(&decisions, Ordered), 1, "{decisions:?}");
    let accepted = function.accepted();
    let again: Vec<_> = accepted.iter().filter(|(account, _)| account == "222222222222").collect();
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].1.order(&"shop".parse().unwrap()).unwrap().number, row.number);
    // A second refusal of the same order is no second alarm.
    let refusal = report(SHOP_2, &row, "refused", 7).to_string();
    assert_ne!(function.handle(&refusal).await.unwrap().decisions[0].outcome, Outcome::Refused);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_row_of_a_target_keeps_no_other_target_from_its_order() {
    let function = Function::with(&with_third(&only_main()));
    crate::targets::write_unreadable(function.account(), THIRD);
    let decisions = function.file("branch-created").await.unwrap().decisions;
    assert_eq!((count(&decisions, Outcome::Failed), count(&decisions, Relayed)), (1, 1), "{decisions:?}");
    assert_eq!(function.accepted().len(), 2);
    // After the row was repaired, the target joins.
    let memory: &Memory = &function.account().ledger;
    let key = target::key(&THIRD.parse().unwrap());
    memory.write(&key, &TargetRow::default(), Some(1), "a person").await.unwrap();
    function.file("schedule").await.unwrap();
    let accepted = function.accepted();
    assert_eq!((accepted.len(), accepted[0].0.as_str()), (1, "444444444444"));
}

/// A function that has relayed `main` and, a second later, `release/1.2`, with a third target that joins both.
async fn joining_two_branches() -> Function {
    let two = only_main().replace(r#"["main"]"#, r#"["main", "release/1.2"]"#);
    let mut function = Function::with(&two);
    function.point("release/1.2", Some(commit(9)));
    function.file("branch-created").await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    function.file("branch-created-release").await.unwrap();
    function.file("schedule").await.unwrap();
    function.accepted();
    function.relay.routes = routes(&with_third(&two));
    function
}

#[tokio::test(start_paused = true)]
async fn a_target_whose_first_order_fails_gets_it_from_the_next_reconcile() {
    let function = joining_two_branches().await;
    function.account().ledger.throttled_row.replace(Some(target::key(&THIRD.parse().unwrap())));
    function.file("schedule").await.unwrap();
    assert_eq!(function.accepted(), []);
    function.account().ledger.throttled_row.replace(None);
    function.file("schedule").await.unwrap();
    let accepted = function.accepted();
    assert_eq!((accepted.len(), accepted[0].1.change.revision.clone()), (1, commit(9)));
    function.file("schedule").await.unwrap();
    let third = THIRD.parse().unwrap();
    assert!(function.row(MAIN).unwrap().state.targets.unwrap().contains(&third));
    assert_eq!(function.accepted(), []);
}

#[tokio::test(start_paused = true)]
async fn a_target_joins_a_second_branch_only_if_its_head_was_seen_later() {
    for (joined_later, expected) in [("main", 0), ("release/1.2", 1)] {
        let mut function = joining_two_branches().await;
        let both = function.relay.routes.clone();
        let first = if joined_later == "main" { "release/1.2" } else { "main" };
        let route = format!(
            "[[route]]\nrepository = \"shop\"\nbranches = [\"{first}\"]\n[[route.target]]\n\
             account = \"444444444444\"\nregion = \"us-east-1\"\npipeline = \"shop\"\naction = \"Source\"\n"
        );
        function.relay.routes = routes(&only_main().replacen("[access]", &format!("{route}[access]"), 1));
        function.file("schedule").await.unwrap();
        assert_eq!(function.accepted().len(), 1, "{first}");
        function.relay.routes = both;
        for _ in 0..2 {
            function.file("schedule").await.unwrap();
        }
        assert_eq!(function.accepted().len(), expected, "{joined_later}");
        let order = target_row(function.account(), THIRD).unwrap().order.unwrap();
        assert_eq!(order.change.revision, commit(9));
    }
}

/// An earlier version relayed the head of another branch to the target later than the head of the branch that joins.
#[tokio::test(start_paused = true)]
async fn a_branch_that_joins_after_an_upgrade_moves_no_target_back() {
    let function = joining_two_branches().await;
    let memory: &Memory = &function.account().ledger;
    let release = "refs/heads/release/1.2";
    let row = function.row(release).unwrap().state;
    let targets = row.targets.clone().unwrap().into_iter().chain([THIRD.parse().unwrap()]).collect();
    crate::function::write(function.account(), release, &row.covering(targets));
    function.file("schedule").await.unwrap();
    assert_eq!(function.accepted(), []);
    let row = memory.read::<TargetRow>(&target::key(&THIRD.parse().unwrap())).await.unwrap();
    assert!(row.is_none());
    assert!(function.row(MAIN).unwrap().state.targets.unwrap().contains(&THIRD.parse().unwrap()));
}

/// One repository that can never be examined keeps no target of a route for all repositories from its first order.
#[tokio::test(start_paused = true)]
async fn a_repository_that_fails_delays_joining_targets_by_at_most_an_hour() {
    let all = only_main().replace(r#"repository = "shop""#, r#"repository = "*""#);
    for (is_final, hours) in [(true, 0), (false, 1)] {
        let mut function = Function::with(&all);
        function.account().repositories.replace(Some(vec!["shop".to_owned(), "website".to_owned()]));
        function.file("schedule").await.unwrap();
        function.accepted();
        if is_final {
            let key = Key::state(format!("repository#{}", SHOP.replace("shop", "website")));
            let memory: &Memory = &function.account().ledger;
            let revision = memory.read::<serde_json::Value>(&key).await.unwrap().map(|row| row.revision);
            memory.write(&key, &serde_json::json!({"covered": 7}), revision, "another").await.unwrap();
        } else {
            function.account().throttled_repositories.borrow_mut().push("website".to_owned());
        }
        function.relay.routes = routes(&with_third(&all));
        function.file("schedule").await.unwrap();
        assert_eq!(joined(&function), is_final);
        tokio::time::advance(Duration::from_hours(hours)).await;
        function.file("schedule").await.unwrap();
        assert!(joined(&function), "{is_final}");
    }
}

fn joined(function: &Function) -> bool {
    target_row(function.account(), THIRD).is_some_and(|row| row.order.is_some())
}
