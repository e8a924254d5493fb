//! Fan-out of one change to many targets, in an account where PutEvents and SendMessage take 30 ms a call: how many times
//! (calls ÷ calls in flight) × 30 ms it takes, and the peak memory; calls, and how many were in flight, as they were counted.
//! Then again in a process of its own, with 3 % of the buses refusing for good: exactly those must be in the dead-letter
//! queue in the end. The SDK's own work, signatures and TLS are not in it: see `make bench` for them.
//!
//! ```sh
//! cargo run --release -p event-relay --example fan_out            # 1,000 targets
//! cargo run --release -p event-relay --example fan_out -- 5000
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a program that measures may stop where it cannot"
)]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use event_relay::deliver::Redelivery;
use event_relay::handler::{Outcome, Relay};
use event_relay::world::{Differences, Entry, Head, Taken, Unanswered, World};
use sekisho_domain::account::{AccountId, Region};
use sekisho_domain::change::CommitId;
use sekisho_domain::config::Document;
use sekisho_lambda::Invocation;
use sekisho_ledger::Memory;
use time::OffsetDateTime;

const CALL: Duration = Duration::from_millis(30);
const EVENT: &str = include_str!("../../../events/event-relay/branch-created.json");

/// Everything answers at once but the buses.
struct Account {
    ledger: Memory,
    refusing: BTreeSet<AccountId>,
    calls: Cell<usize>,
    open: Cell<usize>,
    /// The most that were open at once.
    in_flight: Cell<usize>,
    taken: Cell<usize>,
    queue: RefCell<Vec<String>>,
}

impl Account {
    async fn call(&self) {
        self.calls.set(self.calls.get() + 1);
        self.open.set(self.open.get() + 1);
        self.in_flight.set(self.in_flight.get().max(self.open.get()));
        tokio::time::sleep(CALL).await;
        self.open.set(self.open.get() - 1);
    }
}

impl World for Account {
    type Ledger = Memory;

    fn ledger(&self) -> &Memory {
        &self.ledger
    }

    fn now(&self) -> OffsetDateTime {
        sekisho_lambda::now()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    async fn head(&self, _: &str, _: &str) -> Result<Head, Unanswered> {
        Ok(Head::At("1f0c2a9be4d5760f8c3b7a6e5d4c3b2a19080706".parse().expect("a commit id")))
    }

    async fn differences(
        &self,
        _: &str,
        _: &CommitId,
        _: &CommitId,
        _: Option<String>,
    ) -> Result<Option<Differences>, Unanswered> {
        Ok(None)
    }

    async fn branches(&self, _: &str) -> Result<Option<Vec<String>>, Unanswered> {
        Ok(None)
    }

    async fn repositories(&self) -> Result<Vec<String>, Unanswered> {
        Ok(Vec::new())
    }

    async fn put(&self, _: &Region, entries: &[Entry]) -> Vec<Taken> {
        self.call().await;
        let refused = || Taken::Never("ResourceNotFoundException: Event bus sekisho does not exist.".to_owned());
        let offer = |entry: &Entry| {
            if self.refusing.contains(&entry.account) {
                return refused();
            }
            self.taken.set(self.taken.get() + 1);
            Taken::Yes
        };
        entries.iter().map(offer).collect()
    }

    async fn dead_letter(&self, body: String) -> Result<(), Unanswered> {
        self.call().await;
        self.queue.borrow_mut().push(body);
        Ok(())
    }
}

fn account(n: usize) -> AccountId {
    format!("{n:012}").parse().expect("12 digits")
}

/// From the kernel, in KiB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn relay(targets: usize, refuses: impl Fn(usize) -> bool) -> Relay<Account> {
    let mut config = "[[route]]\nrepository = \"shop\"\nbranches = [\"main\"]\n".to_owned();
    for n in 0..targets {
        writeln!(
            config,
            "[[route.target]]\naccount = \"{}\"\nregion = \"ap-northeast-1\"\npipeline = \"shop\"\naction = \"Source\"",
            account(n)
        )
        .expect("a string takes it");
    }
    let routes = Document::parse("fan_out", &config).and_then(|document| document.routes()).expect("a configuration");
    let refusing = (0..targets).filter(|n| refuses(*n)).map(account).collect();
    let world = Account {
        ledger: Memory::default(),
        refusing,
        calls: Cell::new(0),
        open: Cell::new(0),
        in_flight: Cell::new(0),
        taken: Cell::new(0),
        queue: RefCell::default(),
    };
    Relay { world, routes }
}

async fn run(name: &str, targets: usize, refuses: impl Fn(usize) -> bool) {
    let relay = relay(targets, refuses);
    let invocation = Invocation {
        request_id: "fan-out".to_owned(),
        partition: "aws".to_owned(),
        account: "111111111111".parse().expect("12 digits"),
        region: "ap-northeast-1".parse().expect("a region"),
        function: "sekisho-event-relay".to_owned(),
        deadline: sekisho_lambda::now() + Duration::from_secs(45),
    };
    let began = Instant::now();
    let decisions = relay.handle(EVENT, &invocation).await.expect("a decision").decisions;
    let took = began.elapsed();

    let world = &relay.world;
    let letters = world.queue.borrow();
    let queued: BTreeSet<AccountId> = letters
        .iter()
        .map(|body| serde_json::from_str::<Redelivery>(body).expect("a redelivery").delivery.account)
        .collect();
    assert_eq!(queued, world.refusing, "exactly those that refused are in the queue");
    assert_eq!(letters.len(), queued.len(), "each once");
    assert_eq!(world.taken.get(), targets - queued.len(), "every other bus has it, once");
    assert_eq!(decisions.iter().filter(|decision| decision.outcome == Outcome::Failed).count(), queued.len());

    let (calls, in_flight) = (world.calls.get(), world.in_flight.get());
    let bound = CALL.mul_f64(calls as f64 / in_flight as f64);
    println!(
        "{name}: {targets} targets, {calls} calls of 30 ms, at most {in_flight} in flight: {:.0} ms, {:.2} times {:.0} ms; {} in the queue; peak {} KiB",
        took.as_secs_f64() * 1e3,
        took.as_secs_f64() / bound.as_secs_f64(),
        bound.as_secs_f64() * 1e3,
        queued.len(),
        peak_memory(),
    );
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    sekisho_lambda::log::off();
    let mut arguments = std::env::args().skip(1);
    let targets = arguments.next().map_or(1_000, |text| text.parse().expect("a number of targets"));
    match arguments.next().as_deref() {
        Some("refusing") => run("3 % refuse for good", targets, |n| n % 100 >= 97).await,
        Some(other) => panic!("no run `{other}`: leave it out"),
        None => {
            run("all take it", targets, |_| false).await;
            // The peak is the process's: the second run must not have the first one's.
            let itself = std::env::current_exe().expect("its own path");
            let status = std::process::Command::new(itself).args([&targets.to_string(), "refusing"]).status();
            assert!(status.expect("it starts once, so again").success());
        }
    }
}
