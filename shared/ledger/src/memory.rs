//! A ledger in memory, with the conditions and limits of DynamoDB. It is fast enough for tests that run many thousand
//! histories.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_dynamo::{AttributeValue, Item};
use time::OffsetDateTime;

use crate::{
    Error, Key, LARGEST_ITEM, LONGEST_PK, LONGEST_SK, MAX_TRANSACTION, ReadRow, Row, Store, Write, decision_rows,
};
use sekisho_domain::decision::Decision;

/// A table that exists as long as this value.
#[derive(Debug, Default)]
pub struct Memory {
    rows: RefCell<BTreeMap<Key, Stored>>,
    out_of_reach: Cell<bool>,
}

#[derive(Debug, Clone)]
struct Stored {
    revision: u64,
    writer: String,
    item: Item,
}

impl Memory {
    /// While the ledger is out of reach, every operation fails with [`Error::Unavailable`] and does nothing.
    pub fn set_out_of_reach(&self, out_of_reach: bool) {
        self.out_of_reach.set(out_of_reach);
    }

    fn reach(&self, key: &Key) -> Result<(), Error> {
        if self.out_of_reach.get() {
            return Err(Error::Unavailable { key: key.clone(), throttled: false, source: "out of reach".into() });
        }
        Ok(())
    }

    /// The key and the content of every row, for assertions.
    #[must_use]
    pub fn rows(&self) -> Vec<(Key, BTreeMap<String, AttributeValue>)> {
        let rows = self.rows.borrow();
        rows.iter().map(|(key, stored)| (key.clone(), stored.item.clone().into_inner().into_iter().collect())).collect()
    }
}

fn to_item(key: &Key, state: &impl Serialize) -> Result<Item, Error> {
    let item =
        serde_dynamo::to_item(state).map_err(|error| Error::Unreadable { key: key.clone(), source: error.into() })?;
    check_size(key, &item)?;
    Ok(item)
}

fn check_size(key: &Key, item: &Item) -> Result<(), Error> {
    let too_large = if key.pk.len() > LONGEST_PK {
        format!("the partition key has {} bytes", key.pk.len())
    } else if key.sk.len() > LONGEST_SK {
        format!("the sort key has {} bytes", key.sk.len())
    } else {
        let bytes: usize = item.inner().iter().map(|(name, value)| name.len() + size(value)).sum();
        // The stored item also has `pk`, `sk`, `revision` and `writer`. The margin of 100 bytes is for their names and
        // for the values of `revision` and `writer`.
        let bytes = bytes + key.pk.len() + key.sk.len() + 100;
        if bytes <= LARGEST_ITEM {
            return Ok(());
        }
        format!("the item has {bytes} bytes")
    };
    Err(Error::Unavailable {
        key: key.clone(),
        throttled: false,
        source: format!("ValidationException: {too_large}").into(),
    })
}

/// The bytes that DynamoDB counts for a value:
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html>.
fn size(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(digits) => digits.len() / 2 + 2,
        AttributeValue::M(fields) => 3 + fields.iter().map(|(name, value)| 1 + name.len() + size(value)).sum::<usize>(),
        AttributeValue::L(values) => 3 + values.iter().map(|value| 1 + size(value)).sum::<usize>(),
        // The ledger uses neither binary values nor sets.
        _ => 1,
    }
}

fn row<T: DeserializeOwned>(key: &Key, stored: &Stored) -> Result<Row<T>, Error> {
    let state = serde_dynamo::from_item(stored.item.clone())
        .map_err(|error| Error::Unreadable { key: key.clone(), source: error.into() })?;
    Ok(Row { sk: key.sk.clone(), revision: stored.revision, state })
}

impl Store for Memory {
    async fn read<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<Row<T>>, Error> {
        self.reach(key)?;
        self.rows.borrow().get(key).map(|stored| row(key, stored)).transpose()
    }

    async fn read_many<T: DeserializeOwned>(&self, keys: &[Key]) -> Result<Vec<ReadRow<T>>, Error> {
        let Some(first) = keys.first() else { return Ok(Vec::new()) };
        self.reach(first)?;
        let rows = self.rows.borrow();
        Ok(keys.iter().map(|key| rows.get(key).map(|stored| row(key, stored)).transpose()).collect())
    }

    async fn list<T: DeserializeOwned>(&self, pk: &str, sk_prefix: &str) -> Result<Vec<Row<T>>, Error> {
        self.each(pk, sk_prefix).await?.into_iter().collect()
    }

    async fn each<T: DeserializeOwned>(&self, pk: &str, sk_prefix: &str) -> Result<Vec<Result<Row<T>, Error>>, Error> {
        self.reach(&Key { pk: pk.to_owned(), sk: sk_prefix.to_owned() })?;
        let rows = self.rows.borrow();
        let first = Key { pk: pk.to_owned(), sk: sk_prefix.to_owned() };
        let concerned = rows.range(first..).take_while(|(key, _)| key.pk == pk && key.sk.starts_with(sk_prefix));
        Ok(concerned.map(|(key, stored)| row(key, stored)).collect())
    }

    async fn write<T: Serialize>(
        &self,
        key: &Key,
        state: &T,
        expected: Option<u64>,
        writer: &str,
    ) -> Result<u64, Error> {
        self.reach(key)?;
        let new = Stored { revision: expected.unwrap_or(0) + 1, writer: writer.to_owned(), item: to_item(key, state)? };
        let mut rows = self.rows.borrow_mut();
        let old = rows.get(key);
        if old.map(|old| old.revision) == expected {
            let revision = new.revision;
            rows.insert(key.clone(), new);
            return Ok(revision);
        }
        match old {
            Some(old) if old.revision == new.revision && old.writer == new.writer && old.item == new.item => {
                Ok(new.revision)
            }
            _ => Err(Error::Changed(key.clone())),
        }
    }

    async fn write_all(&self, new: &[Write], writer: &str) -> Result<(), Error> {
        let Some(first) = new.first() else { return Ok(()) };
        self.reach(&first.key)?;
        let keys: BTreeSet<&Key> = new.iter().map(|write| &write.key).collect();
        if new.len() > MAX_TRANSACTION || keys.len() < new.len() {
            let source = "ValidationException: too many writes, or two writes of one row".into();
            return Err(Error::Unavailable { key: first.key.clone(), throttled: false, source });
        }
        let mut rows = self.rows.borrow_mut();
        for write in new {
            check_size(&write.key, &write.item)?;
            if rows.get(&write.key).map(|old| old.revision) != write.expected {
                return Err(Error::Changed(write.key.clone()));
            }
        }
        for write in new {
            let stored = Stored { revision: write.revision(), writer: writer.to_owned(), item: write.item.clone() };
            rows.insert(write.key.clone(), stored);
        }
        Ok(())
    }

    async fn delete(&self, key: &Key, expected: u64) -> Result<(), Error> {
        self.reach(key)?;
        let mut rows = self.rows.borrow_mut();
        match rows.get(key) {
            Some(stored) if stored.revision != expected => Err(Error::Changed(key.clone())),
            _ => {
                rows.remove(key);
                Ok(())
            }
        }
    }

    async fn record<O: Serialize>(
        &self,
        function: &str,
        request_id: &str,
        now: OffsetDateTime,
        decisions: &[Decision<O>],
    ) -> Result<(), Error> {
        for (key, row) in decision_rows(function, request_id, now, decisions) {
            self.reach(&key)?;
            let item = to_item(&key, &row)?;
            self.rows.borrow_mut().insert(key, Stored { revision: 0, writer: String::new(), item });
        }
        Ok(())
    }
}
