//! What the relay needs of the world. [`crate::aws::Aws`] is the real one; the model test has one that loses, doubles
//! and crashes.

use std::collections::BTreeSet;
use std::time::Duration;

use sekisho_domain::account::{AccountId, Region};
use sekisho_domain::change::CommitId;
use sekisho_ledger::Store;
use time::OffsetDateTime;

/// What CodeCommit says about a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// It points there.
    At(CommitId),
    /// The repository has no such branch.
    NoBranch,
    /// The account has no such repository.
    NoRepository,
}

/// A page of the paths that differ between two commits, old and new names of moved files alike.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// The paths of this page.
    pub paths: BTreeSet<String>,
    /// What asks for the next page.
    pub next: Option<String>,
}

/// One event on its way to a bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose bus.
    pub account: AccountId,
    /// ARN of the bus.
    pub bus: String,
    /// ARN of the repository.
    pub resource: String,
    /// The event's detail, as JSON.
    pub detail: String,
}

/// What a bus said to an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It has it.
    Yes,
    /// Not now: again later.
    Later(String),
    /// Never, for this reason.
    Never(String),
}

/// A call that did not answer the question; unless it is final, the same again later may.
#[derive(Debug, Default, thiserror::Error)]
#[error("{what}")]
pub struct Unanswered {
    /// What was asked, and of whom.
    pub what: String,
    /// Whether it was for too many requests.
    pub throttled: bool,
    /// Whether the same again fails in the same way, until somebody mends what the service names.
    pub is_final: bool,
    /// What the SDK said.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Reads, writes and time. Futures need not be `Send`: the runtime has one thread.
#[expect(async_fn_in_trait, reason = "the runtime has one thread")]
pub trait World {
    /// Where the ledger is.
    type Ledger: Store;
    /// The ledger.
    fn ledger(&self) -> &Self::Ledger;
    /// The time.
    fn now(&self) -> OffsetDateTime;
    /// Waits.
    async fn sleep(&self, time: Duration);
    /// The head of a branch.
    async fn head(&self, repository: &str, branch: &str) -> Result<Head, Unanswered>;
    /// A page of what differs; `None` where that cannot be known: one of the commits does not exist (any more), or
    /// CodeCommit can't compare them.
    async fn differences(
        &self,
        repository: &str,
        before: &CommitId,
        after: &CommitId,
        page: Option<String>,
    ) -> Result<Option<Differences>, Unanswered>;
    /// The names of all branches; `None` where there is no such repository.
    async fn branches(&self, repository: &str) -> Result<Option<Vec<String>>, Unanswered>;
    /// The names of all repositories.
    async fn repositories(&self) -> Result<Vec<String>, Unanswered>;
    /// One PutEvents call: up to 10 entries for buses of one region; one answer for each, in their order.
    async fn put(&self, region: &Region, entries: &[Entry]) -> Vec<Taken>;
    /// Sends a message to the dead-letter queue.
    async fn dead_letter(&self, body: String) -> Result<(), Unanswered>;
}
