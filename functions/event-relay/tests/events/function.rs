//! Runs the function in a fake account, and returns what the function read, sent and stored.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use event_relay::branch::{self, BranchRow};
use event_relay::fake::FakeAccount;
use event_relay::world::{Entry, EntryResult, World};
use event_relay::{Answer, Error, Outcome, Relay};
use futures_util::FutureExt;
use sekisho_domain::change::{Change, RepositoryArn, Revision, SourceChange, SourceRef};
use sekisho_domain::config::Document;
use sekisho_domain::decision::{Decision, Decisions};
use sekisho_domain::route::Routes;
use sekisho_lambda::Invocation;
use sekisho_ledger::{Memory, Row, Store};
use sekisho_testing::cases;
use sekisho_testing::invocation::invocation;
use serde::Deserialize;
use serde_json::{Value, json};

pub use event_relay::fake::START;

/// The configuration file of the repository.
pub const CONFIG: &str = include_str!("../../../../config/sekisho.toml");
pub const SHOP: &str = "arn:aws:codecommit:ap-northeast-1:111111111111:shop";
pub const MAIN: &str = "refs/heads/main";
/// The function's timeout.
pub const TIMEOUT: Duration = Duration::from_secs(45);

/// The n-th commit.
pub fn commit(n: u64) -> Revision {
    format!("{n:040x}").parse().unwrap()
}

/// The configuration file, changed so that it routes only the branch `main`.
pub fn only_main() -> String {
    CONFIG.replace(r#"["main", "release/*"]"#, r#"["main"]"#)
}

/// The configuration file, changed so that it routes tags instead of branches.
pub fn only_tags() -> String {
    CONFIG.replace(r#"branches   = ["main", "release/*"]"#, r#"tags = ["v*"]"#)
}

pub fn routes(config: &str) -> Routes {
    Document::parse("sekisho.toml", config).unwrap().routes().unwrap()
}

/// An account with three branches and two repositories. Every change touches the path `api/main.rs`.
fn account() -> FakeAccount {
    let heads = ["main", "release/1.2", "feature/search"].map(|branch| (branch.to_owned(), commit(1)));
    let account = FakeAccount::default();
    account.branches.replace(Some(BTreeMap::from(heads)));
    account.repositories.replace(Some(vec!["shop".to_owned(), "website".to_owned()]));
    account.changed_paths.replace(Some(vec![vec!["api/main.rs".to_owned()]]));
    account
}

/// The function in a fake account.
pub struct Function {
    pub relay: Relay<FakeAccount>,
    requests: Cell<u32>,
}

impl Function {
    /// The function with the configuration file of the repository.
    pub fn new() -> Self {
        Self::with(CONFIG)
    }

    pub fn with(config: &str) -> Self {
        Self { relay: Relay { world: account(), routes: routes(config) }, requests: Cell::new(0) }
    }

    pub fn account(&self) -> &FakeAccount {
        &self.relay.world
    }

    /// Handles an event, whose answer has decisions.
    pub async fn handle(&self, payload: &str) -> Result<Decisions<Outcome>, Error> {
        match self.answer(payload).await? {
            Answer::Decisions(decisions) => Ok(decisions),
            Answer::Text(text) => panic!("a text instead of decisions: {text}"),
        }
    }

    /// Handles a person's request, whose answer is a text.
    pub async fn ask(&self, payload: &str) -> Result<String, Error> {
        match self.answer(payload).await? {
            Answer::Text(text) => Ok(text),
            Answer::Decisions(decisions) => panic!("decisions instead of a text: {decisions:?}"),
        }
    }

    pub async fn answer(&self, payload: &str) -> Result<Answer, Error> {
        self.requests.set(self.requests.get() + 1);
        let request_id = format!("request-{}", self.requests.get());
        let invocation = invocation("sekisho-event-relay", "111111111111", self.account().now() + TIMEOUT);
        let invocation = Invocation { request_id, ..invocation };
        // Boxed, so that the compiler does not build the function into each test once more.
        self.relay.handle(payload, &invocation).boxed_local().await
    }

    /// Sends a file of `events/event-relay` to the function.
    pub async fn file(&self, name: &str) -> Result<Decisions<Outcome>, Error> {
        self.handle(&file(name)).await
    }

    /// Sends a file to the function that leads to exactly one decision, and returns the decision.
    pub async fn decide(&self, name: &str) -> Decision<Outcome> {
        let mut decisions = self.file(name).await.unwrap().decisions;
        assert_eq!(decisions.len(), 1, "{decisions:?}");
        decisions.remove(0)
    }

    /// Moves or creates the branch, or deletes the branch if `to` is `None`.
    pub fn point(&self, branch: &str, to: Option<Revision>) {
        let mut branches = self.account().branches.borrow_mut();
        let branches = branches.as_mut().unwrap();
        match to {
            Some(to) => drop(branches.insert(branch.to_owned(), to)),
            None => drop(branches.remove(branch)),
        }
    }

    /// Moves or creates the tag, or deletes the tag if `to` is `None`.
    pub fn point_tag(&self, tag: &str, to: Option<Revision>) {
        let mut tags = self.account().tags.borrow_mut();
        match to {
            Some(to) => drop(tags.insert(tag.to_owned(), to)),
            None => drop(tags.remove(tag)),
        }
    }

    /// Sets the pages of changed paths.
    pub fn set_changed_paths(&self, pages: &[&[&str]]) {
        let pages = pages.iter().map(|page| page.iter().map(ToString::to_string).collect());
        self.account().changed_paths.replace(Some(pages.collect()));
    }

    /// Sets the function that answers for the buses.
    pub fn set_bus(&self, bus: impl FnMut(&Entry) -> EntryResult + 'static) {
        *self.account().bus.borrow_mut() = Box::new(bus);
    }

    /// Sets the duration of every call.
    pub fn set_call_time(&self, time: Duration) {
        self.account().read_time.set(time);
        self.account().send_time.set(time);
        self.account().ledger.call_time.set(time);
    }

    /// The calls to DynamoDB that the function made since the test last called this method.
    pub fn ledger_calls(&self) -> Vec<&'static str> {
        self.account().ledger.calls.take()
    }

    /// The calls to AWS that the function made since the test last called this method.
    pub fn calls(&self) -> Vec<String> {
        self.account().calls.take()
    }

    /// The events that the buses accepted since the test last called this method, each with the account of its bus.
    pub fn accepted(&self) -> Vec<(String, SourceChange)> {
        let accepted = self.account().accepted.take();
        accepted.iter().map(|entry| (entry.account.to_string(), SourceChange::parse(&entry.detail).unwrap())).collect()
    }

    pub fn row(&self, source_ref: &str) -> Option<Row<BranchRow>> {
        row(self.account(), source_ref)
    }

    /// The decisions in the ledger, as JSON.
    pub fn stored_decisions(&self) -> Vec<Value> {
        #[derive(Deserialize)]
        struct DecisionRow {
            decisions: Vec<Value>,
        }
        let memory: &Memory = &self.account().ledger;
        let rows = memory.list::<DecisionRow>("decision#event-relay#2026-11-21", "");
        rows.now_or_never().unwrap().unwrap().into_iter().flat_map(|row| row.state.decisions).collect()
    }
}

/// The ledger's row of a reference of `shop`.
pub fn row(account: &FakeAccount, source_ref: &str) -> Option<Row<BranchRow>> {
    let memory: &Memory = &account.ledger;
    memory.read(&key(source_ref)).now_or_never().unwrap().unwrap()
}

/// Writes the row of a reference of `shop`, as another invocation would.
pub fn write(account: &FakeAccount, source_ref: &str, new: &BranchRow) {
    let revision = row(account, source_ref).map(|row| row.revision);
    let memory: &Memory = &account.ledger;
    memory.write(&key(source_ref), new, revision, "another").now_or_never().unwrap().unwrap();
}

fn key(source_ref: &str) -> sekisho_ledger::Key {
    let (repository, source_ref): (RepositoryArn, SourceRef) = (SHOP.parse().unwrap(), source_ref.parse().unwrap());
    branch::key(&repository, &source_ref)
}

/// The text of a file of `events/event-relay`.
pub fn file(name: &str) -> String {
    cases::file("event-relay", name)
}

/// A function that has relayed the first commit of `main`.
pub async fn relayed() -> Function {
    let function = Function::new();
    assert_eq!(function.decide("branch-created").await.outcome, Outcome::Relayed);
    function.accepted();
    function.calls();
    function.ledger_calls();
    function
}

/// The change of `main` to the second commit, as another invocation would make it.
pub fn change_to_second_commit(row: &BranchRow) -> Change {
    let change = json!({
        "kind": "branch", "repository": SHOP, "ref": MAIN, "commit": commit(2), "previous": commit(1),
        "sequence": row.sequence + 1, "actor": null, "event": "another",
    });
    serde_json::from_value(change).unwrap()
}

pub fn outcomes(decisions: &[Decision<Outcome>]) -> Vec<Outcome> {
    decisions.iter().map(|decision| decision.outcome).collect()
}
