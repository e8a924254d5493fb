//! Pending changes: an invocation crashed while it ordered a change to many targets, or an earlier version left a
//! change behind.

use std::fmt::Write as _;
use std::time::Duration;

use event_relay::Outcome::{Duplicate, Failed, Filtered, Ignored, Relayed};
use event_relay::world::World;
use sekisho_domain::change::Change;
use serde_json::json;

use crate::function::{CONFIG, Function, MAIN, SHOP, change_to_second_commit, commit, outcomes, relayed, write};
use crate::targets::{target_row, write_target, write_unreadable};

/// The pending row that the version before orders wrote: one target does not have the second commit.
fn earlier_pending(change: &Change, pipeline: &str) -> event_relay::branch::BranchRow {
    let row = json!({
        "commit": commit(1), "sequence": change.sequence - 1, "events": [],
        "pending": {
            "change": change, "lease": 1_763_726_455_000_u64, "tries": 1, "since": 1_795_262_400_000_u64,
            "deliveries": [{"account": "333333333333", "region": "ap-northeast-1", "pipelines": [pipeline]}],
        },
    });
    serde_json::from_value(row).unwrap()
}

/// A function whose ledger has a pending change of an earlier version, with this pipeline as the open target.
async fn with_earlier_pending(pipeline: &str) -> (Function, Change) {
    let function = relayed().await;
    let change = change_to_second_commit(&function.row(MAIN).unwrap().state);
    write(function.account(), MAIN, &earlier_pending(&change, pipeline));
    (function, change)
}

#[tokio::test(start_paused = true)]
async fn a_change_that_an_earlier_version_left_pending_keeps_its_sequence_and_id() {
    let (function, change) = with_earlier_pending("shop").await;
    function.point("main", Some(commit(2)));
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    let accepted = function.accepted();
    assert_eq!(accepted.len(), 1, "the other target has the change already");
    let (account, event) = &accepted[0];
    assert_eq!((account.as_str(), &event.change, &event.id), ("333333333333", &change, &change.id()));
    assert_eq!(function.decide("branch-updated").await.outcome, Duplicate);
}

#[tokio::test(start_paused = true)]
async fn a_pending_change_that_is_no_longer_the_head_is_replaced_by_the_head() {
    let (function, change) = with_earlier_pending("shop").await;
    function.point("main", Some(commit(3)));
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    let accepted = function.accepted();
    assert_eq!(accepted.len(), 2);
    assert!(accepted.iter().all(|(_, event)| event.change.revision == commit(3)));
    assert!(accepted.iter().all(|(_, event)| event.change.sequence > change.sequence));
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_whose_name_is_corrected_while_a_change_is_pending_gets_the_head() {
    let (function, _) = with_earlier_pending("shpo").await;
    function.point("main", Some(commit(2)));
    let decisions = function.file("branch-updated").await.unwrap().decisions;
    assert_eq!(outcomes(&decisions), [Filtered, Relayed]);
    assert!(decisions[0].reason.contains("no longer routed to shpo"), "{decisions:?}");
    let accepted = function.accepted();
    assert_eq!(accepted.len(), 2);
    assert!(accepted.iter().all(|(_, event)| event.pipelines == ["shop"] && event.change.revision == commit(2)));
}

#[tokio::test(start_paused = true)]
async fn a_pending_change_whose_branch_is_gone_is_finished_by_the_next_reconcile() {
    let (function, change) = with_earlier_pending("shop").await;
    let mut row = function.row(MAIN).unwrap().state;
    row.pending.as_mut().unwrap().since = sekisho_domain::timestamp::epoch_millis(function.account().now());
    write(function.account(), MAIN, &row);
    function.point("main", None);
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(decisions.iter().filter(|d| d.outcome == Relayed).count(), 1, "{decisions:?}");
    assert_eq!(function.accepted()[0].1.change, change);
    assert_eq!(function.row(MAIN).unwrap().state.pending, None);
}

/// The route was removed, and it comes back months later, when the branch has moved on or is gone.
#[tokio::test(start_paused = true)]
async fn a_pending_change_does_not_come_back_months_later_with_its_route() {
    let (mut function, _) = with_earlier_pending("shop").await;
    let routes = function.relay.routes.clone();
    function.relay.routes = crate::function::routes(&CONFIG.replace(r#"["main", "release/*"]"#, r#"["hotfix/*"]"#));
    let decisions = function.file("schedule").await.unwrap().decisions;
    assert_eq!(outcomes(&decisions), [Filtered]);
    assert_eq!(function.row(MAIN).unwrap().state.pending, None);
    function.relay.routes = routes;
    function.point("main", Some(commit(7)));
    function.file("schedule").await.unwrap();
    let accepted = function.accepted();
    assert!(
        !accepted.is_empty() && accepted.iter().all(|(_, event)| event.change.revision == commit(7)),
        "{accepted:?}"
    );

    // Without a reconcile in between, the pending row is still there when the route comes back.
    let (function, _) = with_earlier_pending("shop").await;
    tokio::time::advance(Duration::from_hours(90 * 24)).await;
    function.point("main", None);
    assert_eq!(function.decide("branch-updated").await.outcome, Ignored);
    assert_eq!((function.accepted(), function.row(MAIN).unwrap().state.pending), (vec![], None));
}

/// A configuration that routes the branch `main` to this many accounts.
fn many(count: usize) -> String {
    let mut config = "[[route]]\nrepository = \"shop\"\nbranches = [\"main\"]\n".to_owned();
    for n in 0..count {
        let target = "region = \"ap-northeast-1\"\npipeline = \"shop\"\naction = \"Source\"";
        writeln!(config, "[[route.target]]\naccount = \"{n:012}\"\n{target}").unwrap();
    }
    config
}

fn id(n: usize) -> String {
    format!("{n:012}/ap-northeast-1/shop")
}

#[tokio::test(start_paused = true)]
async fn a_change_to_many_targets_is_pending_until_all_have_the_order() {
    let function = Function::with(&many(250));
    let decision = function.decide("branch-updated").await;
    assert_eq!((decision.outcome, decision.concerns["targets"].as_str()), (Relayed, "250"));
    let writes: Vec<_> = function.ledger_calls().into_iter().filter(|call| call.starts_with("Transact")).collect();
    assert_eq!(writes.len(), 3);
    let row = function.row(MAIN).unwrap();
    // The first write made the change pending, and the last transaction finished it.
    assert_eq!((row.revision, &row.state.pending), (2, &None));
    assert_eq!(row.state.targets.map(|targets| targets.len()), Some(250));
    assert_eq!(function.decide("branch-updated").await.outcome, Duplicate);
}

/// A reconcile reads the rows of the targets once, and not for each reference again.
#[tokio::test(start_paused = true)]
async fn a_reconcile_of_unchanged_branches_reads_the_rows_of_many_targets_once() {
    let branches = ["main", "release/1.2", "feature/search"];
    let batches = async |count: usize| {
        let names = serde_json::to_string(&branches[..count]).unwrap();
        let function = Function::with(&many(250).replace(r#"["main"]"#, &names));
        function.file("schedule").await.unwrap();
        function.ledger_calls();
        function.file("schedule").await.unwrap();
        function.ledger_calls().into_iter().filter(|call| *call == "BatchGetItem").count()
    };
    assert_eq!((batches(1).await, batches(3).await), (4, 4));
}

/// A fan-out to 1,000 targets takes at most 1.2 times as long as its calls need at least, with eight calls at once.
#[tokio::test(start_paused = true)]
async fn a_change_to_a_thousand_targets_takes_half_a_second() {
    let function = Function::with(&many(1_000));
    function.set_call_time(Duration::from_millis(30));
    let began = function.account().now();
    assert_eq!(function.decide("branch-updated").await.outcome, Relayed);
    let took = function.account().now() - began;
    let calls = function.calls().len() + function.ledger_calls().len();
    let bound = Duration::from_millis(30).mul_f64(f64::from(u32::try_from(calls).unwrap()) / 8.0);
    assert!(took <= bound.mul_f64(1.2), "{calls} calls in {took}, more than 1.2 times {bound:?}");
    assert_eq!(function.account().accepted.borrow().len(), 1_000);
}

/// A newer order reached one of the targets between this invocation's read and its write.
#[tokio::test(start_paused = true)]
async fn a_conflict_about_one_of_many_targets_costs_only_that_target() {
    let function = Function::with(&many(250));
    let newer = crate::targets::ordered(900_000);
    let row = newer.clone();
    // The rows of many targets are read while the head is read.
    function.account().read_time.set(Duration::from_millis(30));
    function.account().interruptions.borrow_mut().push_back(Box::new(move |account| {
        write_target(account, &id(7), &row);
    }));
    let decision = function.decide("branch-updated").await;
    assert_eq!((decision.outcome, decision.concerns["targets"].as_str()), (Relayed, "249"));
    assert_eq!(decision.concerns["superseded"], "1");
    assert_eq!(target_row(function.account(), &id(7)), Some(newer));
    assert_eq!(function.row(MAIN).unwrap().state.pending, None);
}

/// The row of one of the targets became unreadable between this invocation's read and its write. The target joins when
/// its row can be read again.
#[tokio::test(start_paused = true)]
async fn an_unreadable_row_of_one_of_many_targets_costs_only_that_target() {
    let function = Function::with(&many(250));
    function.account().read_time.set(Duration::from_millis(30));
    function.account().interruptions.borrow_mut().push_back(Box::new(|account| write_unreadable(account, &id(7))));
    let decisions = function.file("branch-updated").await.unwrap().decisions;
    assert_eq!(outcomes(&decisions), [Failed, Relayed]);
    assert_eq!((decisions[0].concerns["target"].as_str(), decisions[1].concerns["targets"].as_str()), (&*id(7), "249"));
    let targets = function.row(MAIN).unwrap().state.targets.unwrap();
    assert_eq!((targets.len(), targets.contains(&id(7).parse().unwrap())), (249, false));
}

/// The invocation was ended after the first of three transactions.
#[tokio::test(start_paused = true)]
async fn a_crash_in_a_large_change_is_continued_with_the_same_change() {
    let function = Function::with(&many(250));
    function.decide("branch-updated").await;
    let finished = function.row(MAIN).unwrap().state;
    let change = finished.change(&SHOP.parse().unwrap(), &MAIN.parse().unwrap()).unwrap();
    function.accepted();
    // The row as the first transaction left it, and the targets that it did not reach.
    let deliveries: Vec<_> = (0..250)
        .map(|n| json!({"account": format!("{n:012}"), "region": "ap-northeast-1", "pipelines": ["shop"]}))
        .collect();
    let deliveries = serde_json::from_value(json!(deliveries)).unwrap();
    let before = event_relay::branch::BranchRow::default();
    write(function.account(), MAIN, &before.with_pending(change.clone(), deliveries, vec![], function.account().now()));
    for n in 99..250 {
        write_target(function.account(), &id(n), &event_relay::target::TargetRow::default());
    }
    let decision = function.decide("branch-updated").await;
    assert_eq!((decision.outcome, decision.concerns["duplicates"].as_str()), (Relayed, "99"));
    let accepted = function.accepted();
    assert_eq!(accepted.len(), 151);
    assert!(accepted.iter().all(|(_, event)| event.id == change.id()));
    assert_eq!(function.row(MAIN).unwrap().state.pending, None);
}
