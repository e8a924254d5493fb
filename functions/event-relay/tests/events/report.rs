//! The reports of targets. `files.rs` has the reports that are ignored or refused in an account without orders.

use std::time::Duration;

use event_relay::Outcome::{Duplicate, Ignored, Refused, Reported};
use event_relay::target::TargetRow;
use sekisho_domain::decision::Decision;
use sekisho_domain::report::ReportState;
use serde_json::{Value, json};

use crate::function::{Function, file, only_main, routes};
use crate::targets::{SHOP_2, SHOP_3, ordered, report, target_row, write_target, write_unreadable};

/// A function that ordered the second commit to both targets.
fn with_orders() -> Function {
    let function = Function::new();
    for target in [SHOP_2, SHOP_3] {
        write_target(function.account(), target, &ordered(2));
    }
    function
}

async fn decide(function: &Function, report: &Value) -> Decision<event_relay::Outcome> {
    let mut decisions = function.handle(&report.to_string()).await.unwrap().decisions;
    assert_eq!(decisions.len(), 1, "{decisions:?}");
    decisions.remove(0)
}

/// The state of the last report in the row of a target.
fn state(function: &Function, target: &str) -> Option<ReportState> {
    target_row(function.account(), target)?.report.map(|report| report.state)
}

#[tokio::test(start_paused = true)]
async fn a_report_on_the_order_is_stored_and_its_repetition_is_a_duplicate() {
    let function = with_orders();
    let running = report(SHOP_2, &ordered(2), "running", 1);
    let decision = decide(&function, &running).await;
    assert_eq!(decision.outcome, Reported);
    let number = ordered(2).number.to_string();
    let concerns = [("target", SHOP_2), ("order", number.as_str()), ("state", "running")];
    for (what, value) in concerns {
        assert_eq!(decision.concerns[what], value);
    }
    assert_eq!((state(&function, SHOP_2), state(&function, SHOP_3)), (Some(ReportState::Running), None));
    assert_eq!(decide(&function, &running).await.outcome, Duplicate);
    assert_eq!(function.calls(), [""; 0]);
}

/// A wrong report does not fill the target's row.
#[tokio::test(start_paused = true)]
async fn a_report_with_an_id_that_is_too_long_is_refused() {
    for field in ["id", "execution", "foreign_execution"] {
        for (length, outcome) in [(201, Refused), (200, if field == "id" { Ignored } else { Reported })] {
            let function = with_orders();
            let mut event = report(SHOP_2, &ordered(2), "running", 1);
            event["detail"][field] = json!("x".repeat(length));
            let decision = decide(&function, &event).await;
            assert_eq!(decision.outcome, outcome, "{field} {length}: {}", decision.reason);
            assert!(outcome != Refused || decision.reason.contains(&format!("{field}: longer than")), "{decision:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_reports_the_later_one_counts_whatever_order_they_arrive_in() {
    let function = with_orders();
    let reports = [report(SHOP_2, &ordered(2), "healthy", 9), report(SHOP_2, &ordered(2), "running", 1)];
    assert_eq!(decide(&function, &reports[0]).await.outcome, Reported);
    assert_eq!(decide(&function, &reports[1]).await.outcome, Duplicate);
    assert_eq!(state(&function, SHOP_2), Some(ReportState::Healthy));
}

#[tokio::test(start_paused = true)]
async fn a_report_on_an_earlier_order_changes_nothing() {
    let function = with_orders();
    write_target(function.account(), SHOP_2, &ordered(3));
    assert_eq!(decide(&function, &report(SHOP_2, &ordered(2), "healthy", 9)).await.outcome, Ignored);
    assert_eq!(target_row(function.account(), SHOP_2), Some(ordered(3)));
}

/// An account with an older configuration refuses an order each time that the order is offered.
#[tokio::test(start_paused = true)]
async fn a_target_that_refuses_an_order_is_reported_to_people_once_per_order() {
    let function = with_orders();
    let mut outcomes = Vec::new();
    for minute in 1..4 {
        outcomes.push(decide(&function, &report(SHOP_2, &ordered(2), "refused", minute)).await.outcome);
    }
    let row = target_row(function.account(), SHOP_2).unwrap();
    write_target(function.account(), SHOP_2, &TargetRow { report: row.report, ..ordered(3) });
    outcomes.push(decide(&function, &report(SHOP_2, &ordered(3), "refused", 9)).await.outcome);
    assert_eq!(outcomes, [Refused, Reported, Reported, Refused]);
}

#[tokio::test(start_paused = true)]
async fn after_the_ledger_was_lost_later_orders_get_larger_numbers() {
    let function = Function::new();
    let lost = report(SHOP_2, &ordered(2), "running", 1);
    assert_eq!(decide(&function, &lost).await.outcome, Ignored);
    let row = target_row(function.account(), SHOP_2).unwrap();
    assert_eq!((row.number, &row.order), (ordered(2).number, &None));
    // The same report changes the row only once.
    assert_eq!(decide(&function, &lost).await.outcome, Ignored);
    assert_eq!(target_row(function.account(), SHOP_2), Some(row));
}

/// Otherwise a compromised account could report that production in another account is healthy.
#[tokio::test(start_paused = true)]
async fn an_account_can_report_only_about_its_own_targets() {
    let function = with_orders();
    let mut forged = report(SHOP_3, &ordered(2), "healthy", 1);
    forged["account"] = "222222222222".into();
    decide(&function, &forged).await;
    assert_eq!(state(&function, SHOP_3), None);
    forged["account"] = "444444444444".into();
    assert_eq!(decide(&function, &forged).await.outcome, Ignored);
    assert_eq!(state(&function, SHOP_3), None);
    // Nor does a starter's event become trusted because it looks like an event of CodeCommit.
    let mut disguised: Value = serde_json::from_str(&file("branch-updated")).unwrap();
    disguised["account"] = "222222222222".into();
    assert_eq!(decide(&function, &disguised).await.outcome, Refused);
}

/// The event's outer region is the bus's region, so the target's region comes from the report.
#[tokio::test(start_paused = true)]
async fn the_region_in_the_report_is_the_region_of_the_target() {
    const ABROAD: &str = "222222222222/us-east-1/shop";
    let config = only_main().replacen(r#""ap-northeast-1""#, r#""us-east-1""#, 1);
    let function = Function::with(&config);
    write_target(function.account(), ABROAD, &ordered(2));
    assert_eq!(decide(&function, &report(ABROAD, &ordered(2), "running", 1)).await.outcome, Reported);
    assert_eq!(decide(&function, &report(SHOP_2, &ordered(2), "running", 1)).await.outcome, Ignored);
}

#[tokio::test(start_paused = true)]
async fn a_route_of_another_region_takes_no_report() {
    let mut function = with_orders();
    let elsewhere = only_main().replacen("[[route]]", "[[route]]\nregion = \"eu-west-1\"", 1);
    function.relay.routes = routes(&elsewhere);
    assert_eq!(decide(&function, &report(SHOP_2, &ordered(2), "running", 1)).await.outcome, Ignored);
    assert_eq!(state(&function, SHOP_2), None);
}

#[tokio::test(start_paused = true)]
async fn a_long_report_leaves_a_small_row_and_oversized_ids_are_refused() {
    let function = with_orders();
    let mut long = report(SHOP_2, &ordered(2), "waiting", 1);
    long["detail"]["reason"] = "あ".repeat(50_000).into();
    assert_eq!(decide(&function, &long).await.outcome, Reported);
    let row = target_row(function.account(), SHOP_2).unwrap();
    assert_eq!(row.report.unwrap().reason.chars().count(), 1_000);
    for field in ["id", "execution"] {
        let mut long = report(SHOP_2, &ordered(2), "running", 2);
        long["detail"][field] = "a".repeat(1_000).into();
        let refused = decide(&function, &long).await;
        assert_eq!(refused.outcome, Refused, "{field}");
        assert!(refused.reason.contains(&format!("event.detail.{field}")), "{refused:?}");
    }
}

/// Two reports on one order, and a new order, may arrive at the same time.
#[tokio::test(start_paused = true)]
async fn a_report_that_loses_the_race_for_the_row_is_decided_again() {
    let function = with_orders();
    function.account().ledger.call_time.set(Duration::from_millis(30));
    let (running, healthy) = (report(SHOP_2, &ordered(2), "running", 1), report(SHOP_2, &ordered(2), "healthy", 2));
    let decided = futures_util::join!(decide(&function, &running), decide(&function, &healthy));
    assert_eq!(state(&function, SHOP_2), Some(ReportState::Healthy), "{decided:?}");
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_row_is_a_decision_that_names_the_row() {
    let function = with_orders();
    write_unreadable(function.account(), SHOP_2);
    let decision = decide(&function, &report(SHOP_2, &ordered(2), "running", 1)).await;
    assert_eq!(decision.outcome, event_relay::Outcome::Failed);
    assert!(decision.reason.contains(SHOP_2), "{decision:?}");
}

#[tokio::test(start_paused = true)]
async fn explain_shows_what_a_report_would_lead_to_and_stores_nothing() {
    let function = with_orders();
    let before = function.account().ledger.rows();
    let explain = json!({"action": "explain", "event": report(SHOP_2, &ordered(2), "refused", 1)});
    assert_eq!(decide(&function, &explain).await.outcome, Refused);
    assert_eq!(function.account().ledger.rows(), before);
}

/// The figure of the contract: at most three calls for a report.
#[tokio::test(start_paused = true)]
async fn a_report_costs_three_calls() {
    let function = with_orders();
    decide(&function, &report(SHOP_2, &ordered(2), "running", 1)).await;
    assert_eq!(function.account().ledger.calls.take(), ["GetItem", "PutItem", "PutItem"]);
    assert_eq!(function.calls(), [""; 0]);
}

/// Other accounts may be able to put events on the bus.
#[tokio::test(start_paused = true)]
async fn a_malformed_report_of_a_stranger_alerts_nobody() {
    let function = with_orders();
    for (account, expected) in [("222222222222", Refused), ("444444444444", Ignored)] {
        let mut malformed = report(SHOP_2, &ordered(2), "running", 1);
        malformed["account"] = account.into();
        malformed["detail"]["state"] = "great".into();
        assert_eq!(decide(&function, &malformed).await.outcome, expected);
        malformed["detail-type"] = "Source Change".into();
        assert_eq!(decide(&function, &malformed).await.outcome, expected);
    }
}
