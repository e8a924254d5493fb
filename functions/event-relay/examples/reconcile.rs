//! Measures a reconcile of many repositories with three branches each. The account is a fake in which each call to AWS
//! takes 30 ms.
//!
//! By default, tokio's clock is paused, so the program prints the time that the calls take and nothing else. With
//! `cpu`, the clock runs, and the program prints the CPU time of the reconcile without the work of the SDK, signatures
//! and TLS.
//!
//! ```sh
//! cargo run --release -p event-relay --example reconcile              # 1,000 repositories
//! cargo run --release -p event-relay --example reconcile -- 1000 cpu
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a measurement may panic")]

use std::collections::BTreeMap;
use std::time::Duration;

use event_relay::Relay;
use event_relay::fake::FakeAccount;
use event_relay::world::World;
use sekisho_domain::config::Document;
use sekisho_testing::invocation::invocation;
use time::OffsetDateTime;

const CALL: Duration = Duration::from_millis(30);
const EVENT: &str = include_str!("../../../events/event-relay/schedule.json");
const BRANCHES: [&str; 3] = ["main", "develop", "release/1"];
const ROUTE: &str = r#"
    [[route]]
    repository = "*"
    branches = ["**"]
    [[route.target]]
    account = "222222222222"
    region = "ap-northeast-1"
    pipeline = "shop"
    action = "Source"
    [[route.target]]
    account = "333333333333"
    region = "us-east-1"
    pipeline = "shop"
    action = "Source"
"#;

/// The CPU time of this process in milliseconds. The kernel counts it in units of 10 ms.
fn cpu_millis() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<u64> =
        stat.rsplit(") ").next().unwrap_or_default().split(' ').map(|n| n.parse().unwrap_or(0)).collect();
    fields.get(11..13).unwrap_or_default().iter().sum::<u64>() * 10
}

async fn reconcile(relay: &Relay<FakeAccount>, name: &str) {
    let world = &relay.world;
    let began: OffsetDateTime = world.now();
    let invocation = invocation("sekisho-event-relay", "111111111111", began + Duration::from_secs(45));
    let cpu = cpu_millis();
    let decisions = relay.handle(EVENT, &invocation).await.expect("decisions").into_decisions();
    let took = world.now() - began;
    let calls = world.calls.take().len() + world.ledger.calls.take().len();
    println!(
        "{name}: {calls} calls in {:.1} s, {} ms of CPU, {} decisions, the last: {:?}",
        took.as_seconds_f64(),
        cpu_millis() - cpu,
        decisions.len(),
        decisions.last().map(|decision| &decision.reason),
    );
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let repositories: usize = arguments.next().map_or(1_000, |text| text.parse().expect("a number of repositories"));
    let is_real = match arguments.next().as_deref() {
        None => false,
        Some("cpu") => true,
        Some(other) => panic!("unknown argument `{other}`: write `cpu`, or leave it out"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(!is_real).build();
    runtime.expect("a runtime").block_on(async {
        let world = FakeAccount::default();
        let head =
            |(n, branch): (usize, &&str)| ((*branch).to_owned(), format!("{n:040x}").parse().expect("a commit id"));
        world.branches.replace(Some(BRANCHES.iter().enumerate().map(head).collect::<BTreeMap<_, _>>()));
        world.repositories.replace(Some((0..repositories).map(|n| format!("r{n:06}")).collect()));
        world.read_time.set(CALL);
        world.send_time.set(CALL);
        world.ledger.call_time.set(CALL);
        let routes = Document::parse("reconcile", ROUTE).and_then(|document| document.routes());
        let relay = Relay { world, routes: routes.expect("a configuration") };
        println!("{repositories} repositories with {} branches, 30 ms per call", BRANCHES.len());
        reconcile(&relay, "first look").await;
        reconcile(&relay, "nothing new").await;
    });
}
