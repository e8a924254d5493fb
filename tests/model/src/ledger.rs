//! A ledger whose calls sometimes fail, before or after they take effect.

use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use event_relay::target::TargetRow;
use sekisho_domain::change::Change;
use sekisho_domain::decision::Decision;
use sekisho_ledger::{Error, Key, Memory, Row, Store, Write};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use time::{Duration, OffsetDateTime};

use crate::check::Broken;
use crate::cloud::{Cloud, Placing, give_way};
use crate::lambda::Function;
use crate::train::witness;

/// An invocation that orders an image has read it, and lasts at most this long.
const LONGEST_INVOCATION: Duration = Duration::seconds(45);

/// The ledger of one function.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    pub(crate) cloud: Rc<Cloud>,
    pub(crate) function: Function,
}

impl Ledger {
    fn memory(&self) -> &Memory {
        match self.function {
            Function::Relay => &self.cloud.relay_ledger,
            Function::Starter(place) => &self.cloud.places[place].ledger,
        }
    }

    fn out_of_reach(&self, key: &Key) -> Result<(), Error> {
        if self.cloud.chance.fails(1) {
            return Err(Error::Unavailable { key: key.clone(), throttled: false, source: "out of reach".into() });
        }
        Ok(())
    }

    /// Remembers the order in the row of a target that was just written, if the order is new.
    async fn note_order(&self, key: &Key, request_id: &str) -> Result<(), Error> {
        if !key.pk.starts_with("target#") {
            return Ok(());
        }
        let row: Option<Row<TargetRow>> = self.memory().read(key).await?;
        let mut placed = self.cloud.placed.borrow_mut();
        if let Some(order) = row.and_then(|row| row.state.order) {
            witness::see_row(&self.cloud, &order);
            let last = placed.iter().rfind(|placing| placing.key == *key).map(|placing| &placing.order);
            if last.is_none_or(|last| last.number != order.number || last.change != order.change) {
                let is_after_loss = self.cloud.is_ledger_lost.get();
                let request = request_id.to_owned();
                placed.push(Placing { key: key.clone(), order: order.clone(), request, is_after_loss });
                drop(placed);
                witness::see_order(&self.cloud, key, &order);
                see_image(&self.cloud, &order.change);
            }
        }
        Ok(())
    }

    async fn call<T>(&self, key: &Key, effect: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        give_way().await;
        self.out_of_reach(key)?;
        let answer = effect.await?;
        give_way().await;
        self.out_of_reach(key)?;
        Ok(answer)
    }
}

impl Store for Ledger {
    async fn read<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<Row<T>>, Error> {
        self.call(key, self.memory().read(key)).await
    }

    async fn read_many<T: DeserializeOwned>(&self, keys: &[Key]) -> Result<Vec<Result<Option<Row<T>>, Error>>, Error> {
        let Some(first) = keys.first() else { return Ok(Vec::new()) };
        self.call(first, self.memory().read_many(keys)).await
    }

    async fn list<T: DeserializeOwned>(&self, pk: &str, sk_prefix: &str) -> Result<Vec<Row<T>>, Error> {
        self.call(&Key::state(pk), self.memory().list(pk, sk_prefix)).await
    }

    async fn each<T: DeserializeOwned>(&self, pk: &str, sk_prefix: &str) -> Result<Vec<Result<Row<T>, Error>>, Error> {
        self.call(&Key::state(pk), self.memory().each(pk, sk_prefix)).await
    }

    async fn write<T: Serialize>(
        &self,
        key: &Key,
        state: &T,
        expected: Option<u64>,
        writer: &str,
    ) -> Result<u64, Error> {
        let write = async {
            let revision = self.memory().write(key, state, expected, writer).await?;
            self.note_order(key, writer).await?;
            Ok(revision)
        };
        self.call(key, write).await
    }

    async fn write_all(&self, writes: &[Write], request_id: &str) -> Result<(), Error> {
        let Some(first) = writes.first() else { return Ok(()) };
        let write = async {
            self.memory().write_all(writes, request_id).await?;
            for write in writes {
                self.note_order(write.key(), request_id).await?;
            }
            Ok(())
        };
        self.call(first.key(), write).await
    }

    async fn delete(&self, key: &Key, expected: u64) -> Result<(), Error> {
        self.call(key, self.memory().delete(key, expected)).await
    }

    async fn record<O: Serialize>(
        &self,
        function: &str,
        request_id: &str,
        now: OffsetDateTime,
        decisions: &[Decision<O>],
    ) -> Result<(), Error> {
        self.call(&Key::state(function), self.memory().record(function, request_id, now, decisions)).await
    }
}

/// Checks that the image of an order that was just placed existed when event-relay last read it. If ECR did not answer,
/// the image counts as present, and an execution with an image that is gone fails in its source action.
fn see_image(cloud: &Cloud, change: &Change) {
    let read = cloud.clock.now.get() - LONGEST_INVOCATION;
    if cloud.registry.unanswered(&change.revision).is_some_and(|asked| asked >= read) {
        return;
    }
    if cloud.registry.gone_since(&change.revision).is_some_and(|gone| gone < read) {
        let what = format!("{} was ordered after it had been deleted", change.revision);
        cloud.broken.borrow_mut().push(Broken(what));
    }
}

/// The answer of a ledger in memory, which answers at once.
pub(crate) fn at_once<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Broken> {
    match pin!(call).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer.map_err(|error| Broken::of(&error)),
        Poll::Pending => Err(Broken("a ledger in memory answers at once".to_owned())),
    }
}

/// Deletes all rows except the decisions, which the check needs.
pub(crate) fn lose(ledger: &Memory) -> Result<(), Broken> {
    for (key, _) in ledger.rows() {
        if key.pk.starts_with("decision#") {
            continue;
        }
        if let Some(row) = at_once(ledger.read::<IgnoredAny>(&key))? {
            at_once(ledger.delete(&key, row.revision))?;
        }
    }
    Ok(())
}
