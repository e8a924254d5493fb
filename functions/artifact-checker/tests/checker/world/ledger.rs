//! A ledger in memory. A test can delay its reads and make its writes fail.

use std::cell::Cell;
use std::time::Duration;

use sekisho_domain::decision::Decision;
use sekisho_ledger::{Error, Key, Memory, ReadRow, Row, Store, Write};
use serde::Serialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;

/// The ledger of one invocation among several that share `memory`.
#[derive(Debug)]
pub(crate) struct Faulty<'m> {
    pub(crate) memory: &'m Memory,
    /// The number of the read that waits, counted from 1, and how long.
    pub(crate) late_read: (u32, Duration),
    /// A row whose partition begins with this text is read, and arrives after this time.
    pub(crate) slow_rows: (&'static str, Duration),
    /// Writes of single rows of this partition fail.
    pub(crate) unwritable: &'static str,
    /// Whether other invocations change one of the rows before each write of several rows.
    pub(crate) is_busy: bool,
    pub(crate) reads: Cell<u32>,
    /// How many such rows were read.
    pub(crate) slow_reads: Cell<u32>,
}

impl<'m> Faulty<'m> {
    pub(crate) fn new(memory: &'m Memory) -> Self {
        let late_read = (0, Duration::ZERO);
        let (reads, slow_reads) = (Cell::default(), Cell::default());
        let slow_rows = ("\n", Duration::ZERO);
        Self { memory, late_read, slow_rows, unwritable: "", is_busy: false, reads, slow_reads }
    }
}

impl Store for Faulty<'_> {
    async fn read<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<Row<T>>, Error> {
        self.reads.set(self.reads.get() + 1);
        if self.reads.get() == self.late_read.0 {
            tokio::time::sleep(self.late_read.1).await;
        }
        let row = self.memory.read(key).await;
        if key.pk.starts_with(self.slow_rows.0) {
            self.slow_reads.set(self.slow_reads.get() + 1);
            tokio::time::sleep(self.slow_rows.1).await;
        }
        row
    }

    async fn read_many<T: DeserializeOwned>(&self, keys: &[Key]) -> Result<Vec<ReadRow<T>>, Error> {
        self.memory.read_many(keys).await
    }

    async fn list<T: DeserializeOwned>(&self, pk: &str, sk_prefix: &str) -> Result<Vec<Row<T>>, Error> {
        self.memory.list(pk, sk_prefix).await
    }

    async fn write<T: Serialize>(
        &self,
        key: &Key,
        state: &T,
        expected: Option<u64>,
        writer: &str,
    ) -> Result<u64, Error> {
        if key.pk == self.unwritable {
            return Err(Error::Unavailable { key: key.clone(), throttled: true, source: "throttled".into() });
        }
        self.memory.write(key, state, expected, writer).await
    }

    async fn write_all(&self, rows: &[Write], writer: &str) -> Result<(), Error> {
        if self.is_busy {
            return Err(Error::Changed(rows[0].key().clone()));
        }
        self.memory.write_all(rows, writer).await
    }

    async fn delete(&self, key: &Key, expected: u64) -> Result<(), Error> {
        self.memory.delete(key, expected).await
    }

    async fn record<O: Serialize>(
        &self,
        function: &str,
        request_id: &str,
        now: OffsetDateTime,
        decisions: &[Decision<O>],
    ) -> Result<(), Error> {
        self.memory.record(function, request_id, now, decisions).await
    }
}
