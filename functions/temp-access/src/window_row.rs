//! The ledger's row of `sekisho-window`: its last version, and the lease of its writer.

use sekisho_domain::timestamp;
use sekisho_ledger::{Key, Lease};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::row::LEASE_TERM;

/// The row of the policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WindowRow {
    /// The number of the last version; 0 if none was written yet, or if it is not known.
    pub(crate) version: u64,
    /// The text of the last version.
    pub(crate) document: String,
    /// When the last version was written, in milliseconds since 1970.
    pub(crate) written: u64,
    /// Id of the request that wrote the row. While the row has a lease, this request holds it.
    pub(crate) request: String,
    /// The lease of the request that is writing the policy.
    #[serde(rename = "held_until")]
    pub(crate) lease: Lease,
    /// Whether the last version has to be repaired, because its writer overlooked one that it could not read in time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_unsettled: bool,
}

/// The row as the ledger has it.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Stored {
    Readable(WindowRow),
    Unreadable(IgnoredAny),
}

impl Stored {
    /// The row, or what takes the place of one that cannot be read.
    pub(crate) fn or_unknown(self, now: OffsetDateTime) -> WindowRow {
        match self {
            Self::Readable(row) => row,
            Self::Unreadable(_) => WindowRow::unknown(now),
        }
    }
}

impl WindowRow {
    /// Takes the place of a row that cannot be read.
    pub(crate) fn unknown(now: OffsetDateTime) -> Self {
        Self { written: timestamp::epoch_millis(now), is_unsettled: true, ..Self::default() }
    }

    /// Whether the last version is not known, because the row could not be read. It was written before `written`.
    pub(crate) fn is_unknown(&self) -> bool {
        self.version == 0 && self.is_unsettled
    }

    /// Whether another request is writing the policy.
    pub(crate) fn is_held_by_another(&self, request: &str, now: OffsetDateTime) -> bool {
        self.request != request && self.lease.is_held(now, LEASE_TERM)
    }

    /// Whether a writer died, or left something to be repaired.
    pub(crate) fn needs_repair(&self, now: OffsetDateTime) -> bool {
        self.is_unsettled || self.lease != Lease::FREE && !self.lease.is_held(now, LEASE_TERM)
    }
}

/// The key of the policy's row.
pub(crate) fn key() -> Key {
    Key { pk: "window".to_owned(), sk: "sekisho-window".to_owned() }
}
