//! A ledger that takes time for each operation, and can fail or hang.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use sekisho_domain::decision::Decision;
use sekisho_ledger::{Error, Key, Memory, ReadRow, Row, Store, Write};
use serde::Serialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use tokio::time::sleep;

/// Decides from an operation's name, or from a row's sort key, whether the operation fails.
pub type Fails = Box<dyn Fn(&str) -> bool>;

/// The ledger in memory, with delays and faults.
pub struct FaultyLedger {
    pub memory: Memory,
    pub fails: RefCell<Fails>,
    /// Decides whether the answer to a write that was carried out is lost.
    pub loses: RefCell<Fails>,
    /// The names of all operations so far.
    pub operations: RefCell<Vec<&'static str>>,
    /// How many milliseconds the operations take. Each operation takes the next delay; the first delay follows the last
    /// one.
    pub delays: RefCell<Vec<u64>>,
    /// Whether the row of `sekisho-window` has lost its revision, so that it can be neither read nor replaced.
    pub lost_revision: Cell<bool>,
    /// Whether each operation ends with a timeout.
    pub hangs: Cell<bool>,
}

impl FaultyLedger {
    pub fn new() -> Self {
        Self {
            memory: Memory::default(),
            fails: RefCell::new(Box::new(|_| false)),
            loses: RefCell::new(Box::new(|_| false)),
            operations: RefCell::default(),
            delays: RefCell::default(),
            lost_revision: Cell::default(),
            hangs: Cell::default(),
        }
    }

    fn has_no_revision(&self, key: &Key) -> bool {
        self.lost_revision.get() && key.sk == "sekisho-window"
    }

    async fn step(&self, operation: &'static str, key: &Key) -> Result<(), Error> {
        let turn = self.operations.borrow().len();
        self.operations.borrow_mut().push(operation);
        let delay = {
            let delays = self.delays.borrow();
            if delays.is_empty() { 1 } else { delays[turn % delays.len()] }
        };
        sleep(Duration::from_millis(delay)).await;
        if self.hangs.get() {
            // DynamoDB's client gives up after three attempts of 2.5 s.
            sleep(Duration::from_millis(7_500)).await;
            return Err(Error::Unavailable { key: key.clone(), throttled: false, source: "timeout".into() });
        }
        if self.fails.borrow()(operation) {
            return Err(Error::Unavailable { key: key.clone(), throttled: false, source: "down".into() });
        }
        Ok(())
    }
}

impl Store for FaultyLedger {
    async fn read<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<Row<T>>, Error> {
        self.step("read", key).await?;
        if self.has_no_revision(key) {
            return Err(Error::Unreadable { key: key.clone(), source: "the field `revision` is missing".into() });
        }
        self.memory.read(key).await
    }

    async fn read_many<T: DeserializeOwned>(&self, keys: &[Key]) -> Result<Vec<ReadRow<T>>, Error> {
        for key in keys {
            self.step("read", key).await?;
        }
        self.memory.read_many(keys).await
    }

    async fn list<T: DeserializeOwned>(&self, pk: &str, sk_prefix: &str) -> Result<Vec<Row<T>>, Error> {
        self.step("list", &Key { pk: pk.to_owned(), sk: sk_prefix.to_owned() }).await?;
        self.memory.list(pk, sk_prefix).await
    }

    async fn each<T: DeserializeOwned>(&self, pk: &str, sk_prefix: &str) -> Result<Vec<Result<Row<T>, Error>>, Error> {
        self.step("list", &Key { pk: pk.to_owned(), sk: sk_prefix.to_owned() }).await?;
        self.memory.each(pk, sk_prefix).await
    }

    async fn write<T: Serialize>(
        &self,
        key: &Key,
        state: &T,
        expected: Option<u64>,
        writer: &str,
    ) -> Result<u64, Error> {
        self.step("write", key).await?;
        if self.has_no_revision(key) {
            return Err(Error::Changed(key.clone()));
        }
        let written = self.memory.write(key, state, expected, writer).await;
        if self.loses.borrow()(&key.sk) {
            return Err(Error::Unavailable { key: key.clone(), throttled: false, source: "no answer".into() });
        }
        written
    }

    async fn write_all(&self, rows: &[Write], writer: &str) -> Result<(), Error> {
        for row in rows {
            self.step("write", row.key()).await?;
        }
        self.memory.write_all(rows, writer).await
    }

    async fn delete(&self, key: &Key, expected: u64) -> Result<(), Error> {
        self.step("delete", key).await?;
        self.memory.delete(key, expected).await
    }

    async fn record<O: Serialize>(
        &self,
        function: &str,
        request_id: &str,
        now: OffsetDateTime,
        decisions: &[Decision<O>],
    ) -> Result<(), Error> {
        self.step("record", &Key { pk: function.to_owned(), sk: request_id.to_owned() }).await?;
        self.memory.record(function, request_id, now, decisions).await
    }
}
