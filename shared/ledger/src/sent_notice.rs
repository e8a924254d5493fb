//! Remembers for some time that a notice was sent, so that people do not get the same notice again.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{Error, Key, Store};

/// The row of a notice.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    /// When the notice may be sent again, in seconds since 1970. DynamoDB deletes the row some time later.
    expires: i64,
}

/// Whether a notice was sent, according to the ledger.
#[derive(Debug)]
pub struct SentNotice {
    key: Key,
    revision: Option<u64>,
    is_recent: bool,
}

impl SentNotice {
    /// Reads the row of a notice.
    ///
    /// # Errors
    /// If the ledger cannot be read. A caller that goes on without the ledger may use [`SentNotice::unknown`].
    pub async fn read(ledger: &impl Store, key: Key, now: OffsetDateTime) -> Result<Self, Error> {
        let row = ledger.read::<Row>(&key).await?;
        let is_recent = row.as_ref().is_some_and(|row| now.unix_timestamp() < row.state.expires);
        Ok(Self { key, revision: row.map(|row| row.revision), is_recent })
    }

    /// A notice whose row could not be read. The notice is treated as not sent, because a second notice is better than
    /// none.
    #[must_use]
    pub fn unknown(key: Key) -> Self {
        Self { key, revision: None, is_recent: false }
    }

    /// Whether the notice was sent and must not be sent again yet.
    #[must_use]
    pub fn is_recent(&self) -> bool {
        self.is_recent
    }

    /// Records that the notice was sent and must not be sent again before `expires`.
    ///
    /// # Errors
    /// If the ledger cannot be written. It is no error if another invocation has recorded the same notice.
    pub async fn record(&self, ledger: &impl Store, expires: OffsetDateTime, writer: &str) -> Result<(), Error> {
        let row = Row { expires: expires.unix_timestamp() };
        match ledger.write(&self.key, &row, self.revision, writer).await {
            Ok(_) | Err(Error::Changed(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::Memory;
    use time::Duration;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);

    /// The result of a future that never waits.
    fn ready<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer,
            Poll::Pending => unreachable!("the ledger in memory never waits"),
        }
    }

    #[test]
    fn a_notice_is_recent_until_its_row_expires() {
        let ledger = Memory::default();
        let key = || Key::state("notice#e1");
        let read = |now| ready(SentNotice::read(&ledger, key(), now)).unwrap();
        assert!(!read(NOW).is_recent());
        ready(read(NOW).record(&ledger, NOW + Duration::DAY, "r1")).unwrap();
        assert!(read(NOW + Duration::HOUR).is_recent());
        let expired = read(NOW + Duration::DAY);
        assert!(!expired.is_recent());
        ready(expired.record(&ledger, NOW + Duration::DAY * 2, "r2")).unwrap();
        assert!(read(NOW + Duration::DAY).is_recent());
    }

    #[test]
    fn two_invocations_may_record_the_same_notice() {
        let ledger = Memory::default();
        let first = SentNotice::unknown(Key::state("notice#e1"));
        let second = SentNotice::unknown(Key::state("notice#e1"));
        ready(first.record(&ledger, NOW, "r1")).unwrap();
        ready(second.record(&ledger, NOW, "r2")).unwrap();
    }
}
