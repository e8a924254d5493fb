//! The ledger: one DynamoDB table per account, in which functions keep state, claims and decisions.
//!
//! Every row has `pk` and `sk`. State rows carry a `revision` that grows by one with every write; a write names the
//! revision that it has read, so that of two writers one wins and the other looks again. A row's own field `expires`
//! (epoch seconds) is the table's TTL.

mod dynamodb;
mod memory;

use std::fmt;
use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;
use time::{Duration, OffsetDateTime};

pub use dynamodb::Ledger;
pub use memory::Memory;
use sekisho_domain::decision::Decision;
use sekisho_domain::timestamp;

/// How long decisions are kept. More than a year, since audits ask about the last one.
pub const DECISIONS_KEPT: Duration = Duration::days(400);

/// DynamoDB's largest item, names and values together, in bytes.
pub const LARGEST_ITEM: usize = 400 * 1024;
/// DynamoDB's longest partition key, in bytes.
pub const LONGEST_PK: usize = 2_048;
/// DynamoDB's longest sort key, in bytes.
pub const LONGEST_SK: usize = 1_024;
/// Bytes of JSON after which decisions go on in a further row. JSON's quotes take more than what DynamoDB adds to a name and
/// a value, so that this is never less than what DynamoDB counts.
const DECISIONS_A_ROW: usize = 300_000;

/// A row's key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Partition: what kind of row, and of what: `branch#<repository ARN>`.
    pub pk: String,
    /// Sort key: `state` where the partition holds one row.
    pub sk: String,
}

impl Key {
    /// The one row of this partition.
    #[must_use]
    pub fn state(pk: impl Into<String>) -> Self {
        Self { pk: pk.into(), sk: "state".to_owned() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} / {}", self.pk, self.sk)
    }
}

/// A state row as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<T> {
    /// Its sort key.
    pub sk: String,
    /// What a write that replaces it must name.
    pub revision: u64,
    /// The state.
    pub state: T,
}

/// Why the ledger did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else has written the row since it was read: look again.
    #[error("the ledger's row {0} was changed by another invocation")]
    Changed(Key),
    /// DynamoDB did not answer, or refused; whether a write took effect is unknown.
    #[error("the ledger could not be reached for {key}")]
    Unavailable {
        /// The row.
        key: Key,
        /// Whether it was for too many requests.
        throttled: bool,
        /// What the SDK said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The row is not what this version writes.
    #[error("the ledger's row {key} cannot be read: mend or delete it")]
    Unreadable {
        /// The row.
        key: Key,
        /// What was wrong in it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What a ledger does. [`Ledger`] is the real one; [`Memory`] has the same conditions, for tests that need many.
pub trait Store {
    /// Reads a state row, consistently.
    fn read<T: DeserializeOwned>(&self, key: &Key) -> impl Future<Output = Result<Option<Row<T>>, Error>>;

    /// All state rows of a partition whose sort key begins so, consistently, in the order of their sort keys.
    ///
    /// # Errors
    /// [`Error::Unreadable`] where one of them is: who can go on with the others asks for [`Store::each`].
    fn list<T: DeserializeOwned>(&self, pk: &str, sk_prefix: &str) -> impl Future<Output = Result<Vec<Row<T>>, Error>>;

    /// The same rows, each with its own result: one that cannot be read ([`Error::Unreadable`]) hides no other.
    fn each<T: DeserializeOwned>(
        &self,
        pk: &str,
        sk_prefix: &str,
    ) -> impl Future<Output = Result<Vec<Result<Row<T>, Error>>, Error>> {
        async { Ok(self.list(pk, sk_prefix).await?.into_iter().map(Ok).collect()) }
    }

    /// Writes a state row if it still has the revision that was read (`None`: if there is none), and returns its new
    /// revision. `writer` is the request id: a write whose answer was lost is recognised by it when it is tried again.
    ///
    /// # Errors
    /// [`Error::Changed`] where the condition does not hold.
    fn write<T: Serialize>(
        &self,
        key: &Key,
        state: &T,
        expected: Option<u64>,
        writer: &str,
    ) -> impl Future<Output = Result<u64, Error>>;

    /// Deletes a state row if it still has this revision; one that is gone already is no error.
    ///
    /// # Errors
    /// [`Error::Changed`] where it has another revision.
    fn delete(&self, key: &Key, expected: u64) -> impl Future<Output = Result<(), Error>>;

    /// Keeps what an invocation decided: one row, found by function and day, in the order of time; where DynamoDB takes no
    /// row as large, further ones whose sort keys end in `#2`, `#3`, ….
    fn record<O: Serialize>(
        &self,
        function: &str,
        request_id: &str,
        now: OffsetDateTime,
        decisions: &[Decision<O>],
    ) -> impl Future<Output = Result<(), Error>>;
}

fn decision_key(function: &str, request_id: &str, now: OffsetDateTime, part: usize) -> Key {
    let at = timestamp::millis(now);
    let day = at.split('T').next().unwrap_or_default();
    let part = if part > 1 { format!("#{part}") } else { String::new() };
    Key { pk: format!("decision#{function}#{day}"), sk: format!("{at}#{request_id}{part}") }
}

/// The decisions of each row, with the row's key.
fn decision_rows<'a, O: Serialize>(
    function: &str,
    request_id: &'a str,
    now: OffsetDateTime,
    decisions: &'a [Decision<O>],
) -> Vec<(Key, DecisionRow<'a, O>)> {
    let mut rows = Vec::new();
    let mut rest = decisions;
    loop {
        let mut bytes = 0;
        let fits = |decision: &&Decision<O>| {
            bytes += serde_json::to_vec(decision).map_or(DECISIONS_A_ROW, |json| json.len());
            bytes <= DECISIONS_A_ROW
        };
        // An everyday row has one decision, which always fits.
        let count = if rest.len() > 1 { rest.iter().take_while(fits).count().max(1) } else { rest.len() };
        let (these, others) = rest.split_at(count);
        let key = decision_key(function, request_id, now, rows.len() + 1);
        rows.push((key, DecisionRow::new(request_id, now, these)));
        if others.is_empty() {
            return rows;
        }
        rest = others;
    }
}

#[derive(Serialize)]
struct DecisionRow<'a, O> {
    decisions: &'a [Decision<O>],
    request: &'a str,
    expires: i64,
}

impl<'a, O> DecisionRow<'a, O> {
    fn new(request: &'a str, now: OffsetDateTime, decisions: &'a [Decision<O>]) -> Self {
        Self { decisions, request, expires: (now + DECISIONS_KEPT).unix_timestamp() }
    }
}
