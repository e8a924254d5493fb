//! A ledger in memory whose calls take time and are recorded.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::time::Duration;

use sekisho_domain::decision::Decision;
use sekisho_ledger::{Error, Key, Memory, Row, Store, Write};
use serde::Serialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;

/// The most rows that one `BatchGetItem` call reads.
const MAX_BATCH: usize = 100;
/// The rows of a page of `Query`: DynamoDB reads 1 MB at a time, and a reference with a target has some 400 bytes.
const PAGE: usize = 2_500;

/// A ledger in memory. `Deref` gives the rows without a recorded call, so that a test can look at them.
#[derive(Debug, Default)]
pub struct FakeLedger {
    memory: Memory,
    /// The duration of each call.
    pub call_time: Cell<Duration>,
    /// The names of DynamoDB's operations that were called so far.
    pub calls: RefCell<Vec<&'static str>>,
    /// The number of rows that were read or written so far.
    pub rows: Cell<usize>,
    /// The row whose writes in a transaction are throttled.
    pub throttled_row: RefCell<Option<Key>>,
    /// The row that another invocation writes just before the next transaction with the row.
    pub changed_row: RefCell<Option<Key>>,
    in_flight: Cell<usize>,
    max_in_flight: Cell<usize>,
}

impl FakeLedger {
    /// The largest number of calls that were in flight at once.
    #[must_use]
    pub fn max_in_flight(&self) -> usize {
        self.max_in_flight.get()
    }

    fn count_rows(&self, rows: usize) {
        self.rows.set(self.rows.get() + rows);
    }

    /// Records the calls for further pages, which take no time here.
    fn count_pages(&self, rows: usize) {
        let further = rows.div_ceil(PAGE).saturating_sub(1);
        self.calls.borrow_mut().extend(std::iter::repeat_n("Query", further));
    }

    async fn call(&self, operation: &'static str, count: usize) {
        self.calls.borrow_mut().extend(std::iter::repeat_n(operation, count));
        let time = self.call_time.get();
        if time.is_zero() {
            return;
        }
        self.in_flight.set(self.in_flight.get() + count);
        self.max_in_flight.set(self.max_in_flight.get().max(self.in_flight.get()));
        tokio::time::sleep(time).await;
        self.in_flight.set(self.in_flight.get() - count);
    }
}

impl Deref for FakeLedger {
    type Target = Memory;
    fn deref(&self) -> &Memory {
        &self.memory
    }
}

impl Store for FakeLedger {
    async fn read<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<Row<T>>, Error> {
        self.call("GetItem", 1).await;
        self.count_rows(1);
        self.memory.read(key).await
    }

    async fn read_many<T: DeserializeOwned>(&self, keys: &[Key]) -> Result<Vec<Result<Option<Row<T>>, Error>>, Error> {
        self.call("BatchGetItem", keys.len().div_ceil(MAX_BATCH)).await;
        self.count_rows(keys.len());
        self.memory.read_many(keys).await
    }

    async fn list<T: DeserializeOwned>(&self, pk: &str, sk_prefix: &str) -> Result<Vec<Row<T>>, Error> {
        self.call("Query", 1).await;
        let rows = self.memory.list(pk, sk_prefix).await?;
        self.count_rows(rows.len());
        self.count_pages(rows.len());
        Ok(rows)
    }

    async fn each<T: DeserializeOwned>(&self, pk: &str, sk_prefix: &str) -> Result<Vec<Result<Row<T>, Error>>, Error> {
        self.call("Query", 1).await;
        let rows = self.memory.each(pk, sk_prefix).await?;
        self.count_rows(rows.len());
        self.count_pages(rows.len());
        Ok(rows)
    }

    async fn write<T: Serialize>(
        &self,
        key: &Key,
        state: &T,
        expected: Option<u64>,
        writer: &str,
    ) -> Result<u64, Error> {
        self.call("PutItem", 1).await;
        self.count_rows(1);
        self.memory.write(key, state, expected, writer).await
    }

    async fn write_all(&self, rows: &[Write], writer: &str) -> Result<(), Error> {
        self.call("TransactWriteItems", 1).await;
        self.count_rows(rows.len());
        let throttled = self.throttled_row.borrow().clone();
        if let Some(key) = throttled.filter(|key| rows.iter().any(|write| write.key() == key)) {
            return Err(Error::Unavailable { key, throttled: true, source: "the test throttles this row".into() });
        }
        let changed = self.changed_row.borrow_mut().take_if(|key| rows.iter().any(|write| write.key() == key));
        if let Some(key) = changed {
            return Err(Error::Changed(key));
        }
        self.memory.write_all(rows, writer).await
    }

    async fn delete(&self, key: &Key, expected: u64) -> Result<(), Error> {
        self.call("DeleteItem", 1).await;
        self.count_rows(1);
        self.memory.delete(key, expected).await
    }

    async fn record<O: Serialize>(
        &self,
        function: &str,
        request_id: &str,
        now: OffsetDateTime,
        decisions: &[Decision<O>],
    ) -> Result<(), Error> {
        self.call("PutItem", 1).await;
        self.count_rows(1);
        self.memory.record(function, request_id, now, decisions).await
    }
}
