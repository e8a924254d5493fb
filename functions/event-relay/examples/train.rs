//! Measures what a report costs in a train of ten waves with a hundred targets each, and how fast the last report of a
//! wave lets the change enter the next wave. The account is a fake in which each call to DynamoDB and EventBridge takes
//! 30 ms. All reports of a wave arrive one after the other.
//!
//! ```sh
//! cargo run --release -p event-relay --example train            # ten waves with 100 targets each
//! cargo run --release -p event-relay --example train -- 4 25    # four waves with 25 targets each
//! ```

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a measurement may panic")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use event_relay::Relay;
use event_relay::fake::FakeAccount;
use event_relay::world::{Entry, World};
use sekisho_domain::config::Document;
use sekisho_lambda::Invocation;
use sekisho_testing::invocation::invocation;
use serde_json::{Value, json};

const CALL: Duration = Duration::from_millis(30);
/// The limit for the work after the last report of a wave.
const LIMIT: Duration = Duration::from_secs(1);
const EVENT: &str = include_str!("../../../events/event-relay/branch-created.json");
const REPORT: &str = include_str!("../../../events/event-relay/order-report.json");
const HEAD: &str = "1f0c2a9be4d5760f8c3b7a6e5d4c3b2a19080706";

fn relay(waves: usize, targets: usize) -> Relay<FakeAccount> {
    let mut config = "[[route]]\nname = \"shop\"\nrepository = \"shop\"\nbranches = [\"main\"]\n".to_owned();
    for wave in 0..waves {
        writeln!(config, "[[route.wave]]\nname = \"w{wave}\"\n[[route.wave.target]]\naccounts = [").expect("a string");
        for target in 0..targets {
            writeln!(config, "\"{:012}\",", 222_222_000_000 + wave * targets + target).expect("a string");
        }
        config += "]\nregion = \"ap-northeast-1\"\npipeline = \"shop\"\naction = \"Source\"\n";
    }
    let routes = Document::parse("train", &config).and_then(|document| document.routes()).expect("a configuration");
    let world = FakeAccount::default();
    world.branches.replace(Some(BTreeMap::from([("main".to_owned(), HEAD.parse().expect("a commit id"))])));
    Relay { world, routes }
}

/// The report of a target that its order is healthy.
fn report(entry: &Entry) -> String {
    let order: Value = serde_json::from_str(&entry.detail).expect("an event");
    let mut report: Value = serde_json::from_str(REPORT).expect("a report");
    report["account"] = json!(entry.account);
    report["detail"]["number"] = order["orders"]["shop"]["number"].clone();
    report["detail"]["id"] = order["id"].clone();
    report["detail"]["revision"] = order["change"]["commit"].clone();
    report["detail"]["state"] = json!("healthy");
    report.to_string()
}

/// The costs of some invocations.
#[derive(Debug, Default)]
struct Cost {
    invocations: usize,
    took: Vec<Duration>,
    ledger: BTreeMap<&'static str, usize>,
    /// The rows of the ledger that were read or written.
    rows: usize,
    sent: usize,
}

impl Cost {
    fn print(&mut self, what: &str) {
        self.took.sort();
        let each = |count: usize| count as f64 / self.invocations as f64;
        let calls: Vec<String> =
            self.ledger.iter().map(|(call, count)| format!("{:.2} {call}", each(*count))).collect();
        println!(
            "{what}: {} invocations, median {:.0} ms, longest {:.0} ms; calls for each: {}, {:.2} PutEvents; {:.1} rows",
            self.invocations,
            self.took[self.took.len() / 2].as_secs_f64() * 1_000.0,
            self.took[self.took.len() - 1].as_secs_f64() * 1_000.0,
            calls.join(", "),
            each(self.sent),
            each(self.rows),
        );
    }
}

async fn measure(relay: &Relay<FakeAccount>, payload: &str, invocation: &Invocation, cost: &mut Cost) {
    let began = Instant::now();
    relay.handle(payload, invocation).await.expect("decisions");
    cost.took.push(began.elapsed());
    cost.invocations += 1;
    for call in relay.world.ledger.calls.take() {
        *cost.ledger.entry(call).or_default() += 1;
    }
    cost.rows += relay.world.ledger.rows.take();
    cost.sent += relay.world.calls.take().iter().filter(|call| call.starts_with("PutEvents")).count();
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut sizes = std::env::args().skip(1).map(|text| text.parse().expect("a number"));
    let (waves, targets) = (sizes.next().unwrap_or(10), sizes.next().unwrap_or(100));
    let relay = relay(waves, targets);
    let deadline = relay.world.now() + Duration::from_hours(4);
    let invocation = invocation("sekisho-event-relay", "111111111111", deadline);
    relay.world.ledger.call_time.set(CALL);
    relay.world.send_time.set(CALL);
    let (mut arrival, mut reports, mut promotions) = (Cost::default(), Cost::default(), Cost::default());
    measure(&relay, EVENT, &invocation, &mut arrival).await;
    for wave in 0..waves {
        let ordered = relay.world.accepted.take();
        assert_eq!(ordered.len(), targets, "each target of the wave {wave} got one order");
        for (index, entry) in ordered.iter().enumerate() {
            let request_id = format!("report-{wave}-{index}");
            let invocation = Invocation { request_id, ..invocation.clone() };
            let is_last = index + 1 == targets && wave + 1 < waves;
            let cost = if is_last { &mut promotions } else { &mut reports };
            measure(&relay, &report(entry), &invocation, cost).await;
        }
    }
    assert!(relay.world.accepted.borrow().is_empty(), "the last wave is the end of the train");
    println!("{waves} waves with {targets} targets each");
    arrival.print("the change enters the first wave");
    reports.print("a report");
    promotions.print("the last report of a wave, which lets the change enter the next wave");
    assert!(waves * targets > 1_000 || *promotions.took.last().expect("a promotion") < LIMIT, "the limit");
}
