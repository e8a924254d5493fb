//! Measures the time in which event-relay processes the reports of many targets, if Lambda runs ten invocations at a
//! time. The account is a fake in which each call to DynamoDB takes 30 ms. The program prints the measured time, the
//! number of calls, and the ratio of the time to (calls ÷ calls in flight) × 30 ms. No report may lose a race for its
//! row, because different targets have different rows.
//!
//! ```sh
//! cargo run --release -p event-relay --example reports            # 1,000 targets
//! cargo run --release -p event-relay --example reports -- 5000
//! ```

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a measurement may panic")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use event_relay::fake::FakeAccount;
use event_relay::world::World;
use event_relay::{Outcome, Relay};
use futures_util::{StreamExt, stream};
use sekisho_domain::config::Document;
use sekisho_testing::invocation::invocation;
use serde_json::{Value, json};

const CALL: Duration = Duration::from_millis(30);
/// The number of reports that Lambda processes at the same time.
const IN_FLIGHT: usize = 10;
/// The issue's limit for 1,000 reports.
const LIMIT: Duration = Duration::from_mins(1);
const EVENT: &str = include_str!("../../../events/event-relay/branch-created.json");
const REPORT: &str = include_str!("../../../events/event-relay/order-report.json");
const HEAD: &str = "1f0c2a9be4d5760f8c3b7a6e5d4c3b2a19080706";

fn relay(targets: usize) -> Relay<FakeAccount> {
    let mut config = "[[route]]\nrepository = \"shop\"\nbranches = [\"main\"]\n".to_owned();
    for n in 0..targets {
        writeln!(
            config,
            "[[route.target]]\naccount = \"{n:012}\"\nregion = \"ap-northeast-1\"\npipeline = \"shop\"\n\
             action = \"Source\""
        )
        .expect("writing to a string succeeds");
    }
    let routes = Document::parse("reports", &config).and_then(|document| document.routes()).expect("a configuration");
    let world = FakeAccount::default();
    world.branches.replace(Some(BTreeMap::from([("main".to_owned(), HEAD.parse().expect("a commit id"))])));
    Relay { world, routes }
}

/// The report of each target that got an order.
fn reports(relay: &Relay<FakeAccount>) -> Vec<String> {
    let accepted = relay.world.accepted.take();
    let report = |entry: &event_relay::world::Entry| {
        let order: Value = serde_json::from_str(&entry.detail).expect("an event");
        let mut report: Value = serde_json::from_str(REPORT).expect("a report");
        report["account"] = json!(entry.account);
        report["detail"]["number"] = order["orders"]["shop"]["number"].clone();
        report["detail"]["id"] = order["id"].clone();
        report.to_string()
    };
    accepted.iter().map(report).collect()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let targets = std::env::args().nth(1).map_or(1_000, |text| text.parse().expect("a number of targets"));
    let relay = relay(targets);
    let deadline = relay.world.now() + Duration::from_hours(1);
    let invocation = invocation("sekisho-event-relay", "111111111111", deadline);
    relay.handle(EVENT, &invocation).await.expect("decisions");
    let reports = reports(&relay);
    assert_eq!(reports.len(), targets, "each target got one order");

    let ledger = &relay.world.ledger;
    ledger.calls.take();
    ledger.call_time.set(CALL);
    let began = Instant::now();
    let answers: Vec<_> = stream::iter(reports.iter().enumerate())
        .map(async |(n, report)| {
            let invocation = sekisho_lambda::Invocation { request_id: format!("report-{n}"), ..invocation.clone() };
            relay.handle(report, &invocation).await.expect("decisions")
        })
        .buffer_unordered(IN_FLIGHT)
        .collect()
        .await;
    let took = began.elapsed();

    let is_reported = |decision: &sekisho_domain::decision::Decision<Outcome>| decision.outcome == Outcome::Reported;
    let stored = answers.into_iter().flat_map(event_relay::Answer::into_decisions).filter(is_reported).count();
    assert_eq!(stored, targets, "each report is stored");
    let calls = ledger.calls.borrow().len();
    assert_eq!(calls, 3 * targets, "each report costs three calls, because no row changes in between");
    let bound = CALL.mul_f64(calls as f64 / IN_FLIGHT as f64);
    println!(
        "{targets} reports, {calls} calls of 30 ms, {IN_FLIGHT} reports in flight: {:.1} s, {:.2} times {:.1} s",
        took.as_secs_f64(),
        took.as_secs_f64() / bound.as_secs_f64(),
        bound.as_secs_f64(),
    );
    assert!(targets > 1_000 || took < LIMIT, "1,000 reports are processed within a minute");
}
