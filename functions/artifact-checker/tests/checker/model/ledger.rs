//! The ledger as a process sees it. Its calls take time, and fail before or after they take effect.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sekisho_domain::decision::Decision;
use sekisho_ledger::{Error, Key, Memory, ReadRow, Row, Store, Write};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::sleep;

use super::process::Life;

pub(super) struct Ledger {
    pub(super) memory: Rc<Memory>,
    pub(super) life: Arc<Life>,
}

impl Ledger {
    /// The time before a call takes effect, and the fault that keeps it from doing so.
    async fn begin(&self, key: &Key) -> Result<(), Error> {
        self.life.step().await;
        self.fail(key, "")
    }

    /// The time after a call took effect, and the fault that loses its answer.
    async fn end<T>(&self, key: &Key, result: Result<T, Error>) -> Result<T, Error> {
        self.life.step().await;
        if result.is_ok() {
            self.fail(key, "lost answers of the ledger")?;
        }
        result
    }

    fn fail(&self, key: &Key, kind: &'static str) -> Result<(), Error> {
        let mut state = self.life.cloud.state();
        let faults = state.faults.ledger;
        if !state.per_mille(faults) {
            return Ok(());
        }
        if !kind.is_empty() {
            state.count(kind);
        }
        Err(Error::Unavailable { key: key.clone(), throttled: true, source: "throttled".into() })
    }

    /// Shows the witness a row that several invocations share.
    async fn show(&self, key: &Key) {
        let is_shown = ["repair#", "sweep#", "artifact-repair"].iter().any(|start| key.pk.starts_with(start));
        if !is_shown {
            return;
        }
        let row = self.memory.read::<Value>(key).await.unwrap().unwrap().state;
        if let Some(object) = key.pk.strip_prefix("repair#") {
            let mut current = self.life.current();
            if row["until"] == 0 {
                current.claims.remove(object);
            } else {
                current.claims.insert(object.to_owned());
            }
        }
        let hops = self.life.current().hops;
        let mut state = self.life.cloud.state();
        let state = &mut *state;
        state.witness.saw_shared_row(key, &row, hops, &mut state.counts);
        if key.pk.starts_with("sweep#") && key.sk == "state" {
            let news = state.witness.saw_row(&row, &self.life.cloud.world, &mut state.counts);
            if let Some(news) = news {
                state.log(&format!("the pass {} {news}: {}", row["sweep"], row["totals"]["outcomes"]));
            }
        }
    }
}

impl Store for Ledger {
    async fn read<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<Row<T>>, Error> {
        self.begin(key).await?;
        let row = self.memory.read(key).await;
        self.life.step().await;
        row
    }

    async fn read_many<T: DeserializeOwned>(&self, keys: &[Key]) -> Result<Vec<ReadRow<T>>, Error> {
        let Some(first) = keys.first() else { return Ok(Vec::new()) };
        self.begin(first).await?;
        let rows = self.memory.read_many(keys).await;
        self.life.step().await;
        rows
    }

    async fn list<T: DeserializeOwned>(&self, pk: &str, sk_prefix: &str) -> Result<Vec<Row<T>>, Error> {
        self.begin(&Key { pk: pk.to_owned(), sk: sk_prefix.to_owned() }).await?;
        let rows = self.memory.list(pk, sk_prefix).await;
        self.life.step().await;
        rows
    }

    async fn write<T: Serialize>(
        &self,
        key: &Key,
        state: &T,
        expected: Option<u64>,
        writer: &str,
    ) -> Result<u64, Error> {
        self.begin(key).await?;
        let written = self.memory.write(key, state, expected, writer).await;
        if written.is_ok() {
            self.show(key).await;
        }
        self.end(key, written).await
    }

    async fn write_all(&self, rows: &[Write], writer: &str) -> Result<(), Error> {
        let Some(first) = rows.first() else { return Ok(()) };
        self.begin(first.key()).await?;
        let written = self.memory.write_all(rows, writer).await;
        if written.is_ok() {
            for row in rows {
                self.show(row.key()).await;
            }
        }
        // A transaction that is refused and repeated would be late twice, which no invocation has time for.
        let late = if written.is_ok() { self.life.cloud.state().faults.late_transactions } else { Duration::ZERO };
        sleep(late).await;
        self.end(first.key(), written).await
    }

    async fn delete(&self, key: &Key, expected: u64) -> Result<(), Error> {
        self.begin(key).await?;
        let deleted = self.memory.delete(key, expected).await;
        self.end(key, deleted).await
    }

    async fn record<O: Serialize>(
        &self,
        function: &str,
        request_id: &str,
        now: OffsetDateTime,
        decisions: &[Decision<O>],
    ) -> Result<(), Error> {
        let key = Key { pk: format!("decision#{function}"), sk: request_id.to_owned() };
        self.begin(&key).await?;
        let recorded = self.memory.record(function, request_id, now, decisions).await;
        self.end(&key, recorded).await
    }
}
