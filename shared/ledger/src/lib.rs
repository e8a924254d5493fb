//! The ledger: one DynamoDB table per account, in which the functions keep state, leases and decisions.
//!
//! Every row has `pk` and `sk`. A state row also has a `revision`, which grows by one with every write. A write names
//! the revision that its writer has read, so if two writers compete, only one succeeds, and the other must read the row
//! again. A row may have the field `expires` (seconds since 1970), which is the table's time to live.

mod dynamodb;
mod lease;
mod memory;
mod sent_notice;
mod write;

use std::fmt;
use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;
use time::{Duration, OffsetDateTime};

pub use dynamodb::Ledger;
pub use lease::Lease;
pub use memory::Memory;
use sekisho_domain::decision::Decision;
use sekisho_domain::timestamp;
pub use sent_notice::SentNotice;
pub use write::Write;

/// How long decisions are kept. This is more than a year, because audits ask about the previous year.
const DECISIONS_KEPT: Duration = Duration::days(400);

/// The largest item of DynamoDB in bytes, names and values together.
const LARGEST_ITEM: usize = 400 * 1024;
/// The longest partition key of DynamoDB in bytes.
const LONGEST_PK: usize = 2_048;
/// The longest sort key of DynamoDB in bytes.
const LONGEST_SK: usize = 1_024;
/// The most bytes that the decisions in one row may have as JSON; further decisions are stored in further rows.
/// DynamoDB never counts more bytes than the JSON has, because JSON's quotes take more space than DynamoDB's overhead
/// for each name and value.
const DECISIONS_PER_ROW: usize = 300_000;

/// The most rows that one call of [`Store::write_all`] may write, which is the limit of a transaction of DynamoDB.
pub const MAX_TRANSACTION: usize = 100;

/// A row's key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Partition key: the kind of row and its subject, such as `branch#<repository ARN>`.
    pub pk: String,
    /// Sort key: `state` if the partition has only one row.
    pub sk: String,
}

impl Key {
    /// The key of a partition's only row.
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

/// A state row with the revision that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<T> {
    /// The sort key.
    pub sk: String,
    /// The revision that the next write of this row must name.
    pub revision: u64,
    /// The state.
    pub state: T,
}

/// Why an operation on the ledger failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another invocation has written the row since it was read. The caller must read the row again.
    #[error("the ledger's row {0} was changed by another invocation")]
    Changed(Key),
    /// DynamoDB did not answer, or refused the call. It is unknown whether a write took effect.
    #[error("the ledger could not be reached for {key}")]
    Unavailable {
        /// The row's key.
        key: Key,
        /// Whether DynamoDB throttled the call.
        throttled: bool,
        /// The SDK's error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The row does not have the shape that this version writes.
    #[error("the ledger's row {key} cannot be read: fix or delete it")]
    Unreadable {
        /// The row's key.
        key: Key,
        /// The field and what is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// Whether DynamoDB throttled the call.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        matches!(self, Self::Unavailable { throttled: true, .. })
    }
}

/// The result of reading one of several rows: `None` if the row does not exist, or why the row cannot be read.
pub type ReadRow<T> = Result<Option<Row<T>>, Error>;

/// The operations of a ledger. [`Ledger`] works on the DynamoDB table; [`Memory`] enforces the same conditions in
/// memory, for tests that need many ledgers.
pub trait Store {
    /// Reads a state row with strong consistency.
    fn read<T: DeserializeOwned>(&self, key: &Key) -> impl Future<Output = Result<Option<Row<T>>, Error>>;

    /// Reads state rows with strong consistency. The results are in the order of the keys; a row that does not exist is
    /// `None`. An unreadable row ([`Error::Unreadable`]) does not hide the other rows.
    fn read_many<T: DeserializeOwned>(&self, keys: &[Key]) -> impl Future<Output = Result<Vec<ReadRow<T>>, Error>>;

    /// Reads all state rows of a partition whose sort keys have this prefix, with strong consistency and in the order
    /// of their sort keys.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if one of the rows is unreadable. [`Store::each`] returns the other rows in this case.
    fn list<T: DeserializeOwned>(&self, pk: &str, sk_prefix: &str) -> impl Future<Output = Result<Vec<Row<T>>, Error>>;

    /// Like [`Store::list`], but with one result per row, so that an unreadable row ([`Error::Unreadable`]) does not
    /// hide the other rows.
    fn each<T: DeserializeOwned>(
        &self,
        pk: &str,
        sk_prefix: &str,
    ) -> impl Future<Output = Result<Vec<Result<Row<T>, Error>>, Error>> {
        async { Ok(self.list(pk, sk_prefix).await?.into_iter().map(Ok).collect()) }
    }

    /// Writes a state row and returns its new revision. `expected` is the revision that was read, or `None` if the row
    /// does not exist yet. `writer` is the request id. If the answer to a write is lost, the retry recognizes its own
    /// write by this id.
    ///
    /// # Errors
    /// [`Error::Changed`] if the row has another revision, or if a transaction writes the row now.
    fn write<T: Serialize>(
        &self,
        key: &Key,
        state: &T,
        expected: Option<u64>,
        writer: &str,
    ) -> impl Future<Output = Result<u64, Error>>;

    /// Writes up to [`MAX_TRANSACTION`] state rows, either all of them or none. The new revision of each row is the
    /// expected one plus 1, or 1. If the answer is lost, the caller does not know whether the rows were written, and must
    /// read them again.
    ///
    /// # Errors
    /// [`Error::Changed`] names the first row that has another revision, or that another transaction writes now.
    fn write_all(&self, writes: &[Write], writer: &str) -> impl Future<Output = Result<(), Error>>;

    /// Deletes a state row if it still has this revision. It is no error if the row does not exist.
    ///
    /// # Errors
    /// [`Error::Changed`] if the row has another revision, or if a transaction writes the row now.
    fn delete(&self, key: &Key, expected: u64) -> impl Future<Output = Result<(), Error>>;

    /// Records the decisions of an invocation in one row, in a partition for the function and the day. If the decisions
    /// exceed DynamoDB's largest item, further rows follow, whose sort keys end in `#2`, `#3`, ….
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

/// Distributes decisions over rows, each with its key.
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
            bytes += serde_json::to_vec(decision).map_or(DECISIONS_PER_ROW, |json| json.len());
            bytes <= DECISIONS_PER_ROW
        };
        // The size is computed only if there are several decisions. Most invocations make one decision, which always
        // fits.
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
