//! Measures the time in which event-relay orders many targets to run one change. The account is a fake in which each
//! call to AWS waits for 30 ms: reads of CodeCommit, reads and writes of the ledger, and PutEvents. A timer fires late,
//! so the program first measures how long such a call really takes. It counts the calls, and prints the measured time,
//! the ratio of this time to (calls ÷ calls in flight) × the time of a call, and the peak memory. In a second run, which has its own process, 3 % of the buses refuse the change permanently. The ledger must
//! have an order for every target all the same. The measured time does not include the work of the SDK, signatures and
//! TLS:
//! `make bench` measures them.
//!
//! ```sh
//! cargo run --release -p event-relay --example fan_out            # 1,000 targets
//! cargo run --release -p event-relay --example fan_out -- 5000
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a measurement may panic"
)]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use event_relay::Relay;
use event_relay::fake::FakeAccount;
use event_relay::world::{EntryResult, World};
use sekisho_domain::account::AccountId;
use sekisho_domain::config::Document;
use sekisho_testing::invocation::invocation;

const CALL: Duration = Duration::from_millis(30);
/// The calls that event-relay has in flight at once while it writes and offers orders.
const IN_FLIGHT: f64 = 8.0;
const EVENT: &str = include_str!("../../../events/event-relay/branch-created.json");
const HEAD: &str = "1f0c2a9be4d5760f8c3b7a6e5d4c3b2a19080706";

fn account(n: usize) -> AccountId {
    format!("{n:012}").parse().expect("12 digits")
}

/// The peak memory of this process in KiB, as the kernel reports it.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn is_refusing(n: usize) -> bool {
    n % 100 >= 97
}

fn relay(targets: usize, refusing: &BTreeSet<AccountId>) -> Relay<FakeAccount> {
    let mut config = "[[route]]\nrepository = \"shop\"\nbranches = [\"main\"]\n".to_owned();
    for n in 0..targets {
        writeln!(
            config,
            "[[route.target]]\naccount = \"{}\"\nregion = \"ap-northeast-1\"\npipeline = \"shop\"\naction = \"Source\"",
            account(n)
        )
        .expect("writing to a string succeeds");
    }
    let routes = Document::parse("fan_out", &config).and_then(|document| document.routes()).expect("a configuration");
    let world = FakeAccount::default();
    world.read_time.set(CALL);
    world.send_time.set(CALL);
    world.ledger.call_time.set(CALL);
    world.branches.replace(Some(BTreeMap::from([("main".to_owned(), HEAD.parse().expect("a commit id"))])));
    let refusing = refusing.clone();
    *world.bus.borrow_mut() = Box::new(move |entry| {
        if refusing.contains(&entry.account) {
            return EntryResult::Refused("ResourceNotFoundException: Event bus sekisho does not exist.".to_owned());
        }
        EntryResult::Accepted
    });
    Relay { world, routes }
}

/// The median time of a call, in seconds.
async fn call_time() -> f64 {
    let mut times = Vec::new();
    for _ in 0..21 {
        let began = Instant::now();
        tokio::time::sleep(CALL).await;
        times.push(began.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

async fn run(name: &str, targets: usize, refusing: &BTreeSet<AccountId>) {
    let relay = relay(targets, refusing);
    let deadline = relay.world.now() + Duration::from_secs(45);
    let invocation = invocation("sekisho-event-relay", "111111111111", deadline);
    let began = Instant::now();
    let decisions = relay.handle(EVENT, &invocation).await.expect("decisions").into_decisions();
    let took = began.elapsed();

    let world = &relay.world;
    assert_eq!(world.accepted.borrow().len(), targets - refusing.len(), "every other bus received its order once");
    let ordered = world.ledger.rows().iter().filter(|(key, _)| key.pk.starts_with("target#")).count();
    assert_eq!((ordered, decisions.len()), (targets, 1), "the ledger has an order for every target");

    let calls = world.calls.borrow().len() + world.ledger.calls.borrow().len();
    let call = call_time().await;
    let bound = call * calls as f64 / IN_FLIGHT;
    println!(
        "{targets} targets, {name}: {calls} calls of {:.1} ms in {:.0} ms, {:.2} times {:.0} ms; peak {} KiB",
        call * 1e3,
        took.as_secs_f64() * 1e3,
        took.as_secs_f64() / bound,
        bound * 1e3,
        peak_memory(),
    );
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let targets = arguments.next().map_or(1_000, |text| text.parse().expect("a number of targets"));
    match arguments.next().as_deref() {
        Some("refusing") => {
            let refusing = (0..targets).filter(|n| is_refusing(*n)).map(account).collect();
            run("3 % refuse permanently", targets, &refusing).await;
        }
        Some(other) => panic!("unknown argument `{other}`: leave it out"),
        None => {
            run("all accept", targets, &BTreeSet::new()).await;
            // The peak memory is measured per process, so the second run needs its own process.
            let program = std::env::current_exe().expect("the path of this program");
            let status = std::process::Command::new(program).args([&targets.to_string(), "refusing"]).status();
            assert!(status.expect("the program starts again").success());
        }
    }
}
