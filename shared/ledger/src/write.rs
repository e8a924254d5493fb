//! One write of a transaction.

use serde::Serialize;
use serde_dynamo::Item;

use crate::{Error, Key};

/// A state row that [`Store::write_all`](crate::Store::write_all) writes together with other rows.
#[derive(Debug, Clone)]
pub struct Write {
    pub(crate) key: Key,
    pub(crate) item: Item,
    pub(crate) expected: Option<u64>,
}

impl Write {
    /// The write of a state row. `expected` is the revision that was read, or `None` if the row does not exist yet.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if the state has a value that DynamoDB cannot hold.
    pub fn new(key: Key, state: &impl Serialize, expected: Option<u64>) -> Result<Self, Error> {
        match serde_dynamo::to_item(state) {
            Ok(item) => Ok(Self { key, item, expected }),
            Err(error) => Err(Error::Unreadable { key, source: error.into() }),
        }
    }

    /// The key of the row.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    pub(crate) fn revision(&self) -> u64 {
        self.expected.unwrap_or(0) + 1
    }
}
