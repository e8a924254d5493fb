//! A repository account to test in: branches, buses and a queue that do as they are told, and remember each call.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use event_relay::handler::{Error, Outcome, Relay};
use event_relay::reference::{self, State};
use event_relay::world::{Differences, Entry, Head, Taken, Unanswered, World};
use futures_util::FutureExt;
use sekisho_domain::account::Region;
use sekisho_domain::change::{CommitId, GitRef, RepositoryArn, SourceChange};
use sekisho_domain::config::Document;
use sekisho_domain::decision::{Decision, Decisions};
use sekisho_lambda::Invocation;
use sekisho_ledger::{Memory, Row, Store};
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::time::Instant;

pub const COMMITTED: &str = include_str!("../../../../config/sekisho.toml");
pub const SHOP: &str = "arn:aws:codecommit:ap-northeast-1:111111111111:shop";
pub const START: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);
/// The function's timeout.
pub const TIMEOUT: Duration = Duration::from_secs(45);

/// The n-th commit.
pub fn commit(n: u64) -> CommitId {
    format!("{n:040x}").parse().unwrap()
}

/// Something that happens while a call is on its way.
type Meanwhile = Box<dyn FnOnce(&Account)>;
type Answer = Box<dyn FnMut(&Entry) -> Taken>;

pub struct Account {
    pub ledger: Memory,
    began: Instant,
    /// Where each branch points; `None`: there is no such repository.
    pub branches: RefCell<Option<BTreeMap<String, CommitId>>>,
    /// Branches that CodeCommit does not answer about.
    pub silent: RefCell<Vec<String>>,
    /// Whether CodeCommit refuses for good.
    pub forbidden: Cell<bool>,
    /// Whether it lists no repositories for now.
    pub unlisted: Cell<bool>,
    pub repositories: Vec<&'static str>,
    /// Pages of changed paths; `None`: a commit is gone.
    pub changed: RefCell<Option<Vec<Vec<String>>>>,
    /// What the buses say; all take everything unless told otherwise.
    pub bus: RefCell<Answer>,
    /// What the buses have taken.
    pub taken: RefCell<Vec<Entry>>,
    pub queue: RefCell<Vec<String>>,
    pub queue_is_down: Cell<bool>,
    /// How long each call takes.
    pub takes: Cell<Duration>,
    /// Each happens during one reading of a head, after the head has been read.
    pub meanwhile: RefCell<VecDeque<Meanwhile>>,
    pub calls: RefCell<Vec<String>>,
}

impl Account {
    fn new() -> Self {
        let heads = ["main", "release/1.2", "feature/search"].map(|branch| (branch.to_owned(), commit(1)));
        Self {
            ledger: Memory::default(),
            began: Instant::now(),
            branches: RefCell::new(Some(BTreeMap::from(heads))),
            silent: RefCell::default(),
            forbidden: Cell::new(false),
            unlisted: Cell::new(false),
            repositories: vec!["shop", "website"],
            changed: RefCell::new(Some(vec![vec!["api/main.rs".to_owned()]])),
            bus: RefCell::new(Box::new(|_| Taken::Yes)),
            taken: RefCell::default(),
            queue: RefCell::default(),
            queue_is_down: Cell::new(false),
            takes: Cell::new(Duration::ZERO),
            meanwhile: RefCell::default(),
            calls: RefCell::default(),
        }
    }

    async fn call(&self, what: String) {
        self.calls.borrow_mut().push(what);
        tokio::time::sleep(self.takes.get()).await;
    }
}

fn unanswered(what: &str) -> Unanswered {
    Unanswered { what: what.to_owned(), throttled: true, ..Unanswered::default() }
}

impl World for Account {
    type Ledger = Memory;

    fn ledger(&self) -> &Memory {
        &self.ledger
    }

    fn now(&self) -> OffsetDateTime {
        START + self.began.elapsed()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    async fn head(&self, repository: &str, branch: &str) -> Result<Head, Unanswered> {
        self.call(format!("GetBranch {repository} {branch}")).await;
        if self.silent.borrow().iter().any(|silent| silent == branch) {
            return Err(unanswered("CodeCommit did not say"));
        }
        if self.forbidden.get() {
            return Err(Unanswered {
                what: "CodeCommit did not say".to_owned(),
                is_final: true,
                ..Unanswered::default()
            });
        }
        let head = match &*self.branches.borrow() {
            None => Head::NoRepository,
            Some(branches) => branches.get(branch).cloned().map_or(Head::NoBranch, Head::At),
        };
        let meanwhile = self.meanwhile.borrow_mut().pop_front();
        if let Some(meanwhile) = meanwhile {
            meanwhile(self);
        }
        Ok(head)
    }

    async fn differences(
        &self,
        repository: &str,
        before: &CommitId,
        after: &CommitId,
        page: Option<String>,
    ) -> Result<Option<Differences>, Unanswered> {
        self.call(format!("GetDifferences {repository} {before}..{after}")).await;
        let index: usize = page.map_or(0, |page| page.parse().unwrap());
        Ok(self.changed.borrow().as_ref().map(|pages| Differences {
            paths: pages[index].iter().cloned().collect(),
            next: (index + 1 < pages.len()).then(|| (index + 1).to_string()),
        }))
    }

    async fn branches(&self, repository: &str) -> Result<Option<Vec<String>>, Unanswered> {
        self.call(format!("ListBranches {repository}")).await;
        Ok(self.branches.borrow().as_ref().map(|branches| branches.keys().cloned().collect()))
    }

    async fn repositories(&self) -> Result<Vec<String>, Unanswered> {
        self.call("ListRepositories".to_owned()).await;
        if self.unlisted.get() {
            return Err(unanswered("CodeCommit did not list"));
        }
        Ok(self.repositories.iter().map(ToString::to_string).collect())
    }

    async fn put(&self, region: &Region, entries: &[Entry]) -> Vec<Taken> {
        self.call(format!("PutEvents {region} {}", entries.len())).await;
        let offer = |entry: &Entry| {
            let said = (self.bus.borrow_mut())(entry);
            if said == Taken::Yes {
                self.taken.borrow_mut().push(entry.clone());
            }
            said
        };
        entries.iter().map(offer).collect()
    }

    async fn dead_letter(&self, body: String) -> Result<(), Unanswered> {
        self.call("SendMessage".to_owned()).await;
        if self.queue_is_down.get() {
            return Err(unanswered("the dead-letter queue did not take what a bus refused"));
        }
        self.queue.borrow_mut().push(body);
        Ok(())
    }
}

/// The function in that account.
pub struct Function {
    pub relay: Relay<Account>,
    requests: Cell<u32>,
}

impl Function {
    /// With the committed configuration.
    pub fn new() -> Self {
        Self::with(COMMITTED)
    }

    pub fn with(config: &str) -> Self {
        sekisho_lambda::log::off();
        let routes = Document::parse("sekisho.toml", config).unwrap().routes().unwrap();
        Self { relay: Relay { world: Account::new(), routes }, requests: Cell::new(0) }
    }

    pub fn world(&self) -> &Account {
        &self.relay.world
    }

    pub async fn handle(&self, payload: &str) -> Result<Decisions<Outcome>, Error> {
        self.requests.set(self.requests.get() + 1);
        let invocation = Invocation {
            request_id: format!("request-{}", self.requests.get()),
            partition: "aws".to_owned(),
            account: "111111111111".parse().unwrap(),
            region: "ap-northeast-1".parse().unwrap(),
            function: "sekisho-event-relay".to_owned(),
            deadline: self.world().now() + TIMEOUT,
        };
        self.relay.handle(payload, &invocation).await
    }

    /// Handles a file of `events/event-relay`.
    pub async fn file(&self, name: &str) -> Result<Decisions<Outcome>, Error> {
        self.handle(&file(name)).await
    }

    /// The one decision about a file.
    pub async fn decide(&self, name: &str) -> Decision<Outcome> {
        let mut decisions = self.file(name).await.unwrap().decisions;
        assert_eq!(decisions.len(), 1, "{decisions:?}");
        decisions.remove(0)
    }

    pub fn point(&self, branch: &str, to: Option<CommitId>) {
        let mut branches = self.world().branches.borrow_mut();
        let branches = branches.as_mut().unwrap();
        match to {
            Some(to) => drop(branches.insert(branch.to_owned(), to)),
            None => drop(branches.remove(branch)),
        }
    }

    pub fn changes(&self, pages: &[&[&str]]) {
        let pages = pages.iter().map(|page| page.iter().map(ToString::to_string).collect());
        *self.world().changed.borrow_mut() = Some(pages.collect());
    }

    pub fn says(&self, bus: impl FnMut(&Entry) -> Taken + 'static) {
        *self.world().bus.borrow_mut() = Box::new(bus);
    }

    /// The calls since the last time.
    pub fn calls(&self) -> Vec<String> {
        self.world().calls.take()
    }

    /// What the buses have taken since the last time.
    pub fn taken(&self) -> Vec<(String, SourceChange)> {
        let taken = self.world().taken.take();
        taken.iter().map(|entry| (entry.account.to_string(), SourceChange::parse(&entry.detail).unwrap())).collect()
    }

    pub fn row(&self, git_ref: &str) -> Option<Row<State>> {
        row(self.world(), git_ref)
    }

    /// Decisions in the ledger, as JSON.
    pub fn recorded(&self) -> Vec<Value> {
        #[derive(Deserialize)]
        struct Recorded {
            decisions: Vec<Value>,
        }
        let rows = self.world().ledger.list::<Recorded>("decision#event-relay#2026-11-21", "");
        rows.now_or_never().unwrap().unwrap().into_iter().flat_map(|row| row.state.decisions).collect()
    }
}

/// The ledger's row of a reference of `shop`.
pub fn row(account: &Account, git_ref: &str) -> Option<Row<State>> {
    account.ledger.read(&key(git_ref)).now_or_never().unwrap().unwrap()
}

/// Writes the row of a reference of `shop`, as another invocation would.
pub fn write(account: &Account, git_ref: &str, state: &State) {
    let revision = row(account, git_ref).map(|row| row.revision);
    account.ledger.write(&key(git_ref), state, revision, "another").now_or_never().unwrap().unwrap();
}

fn key(git_ref: &str) -> sekisho_ledger::Key {
    let (repository, git_ref): (RepositoryArn, GitRef) = (SHOP.parse().unwrap(), git_ref.parse().unwrap());
    reference::key(&repository, &git_ref)
}

pub fn directory() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events/event-relay")
}

pub fn file(name: &str) -> String {
    let path = directory().join(format!("{name}.json"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
