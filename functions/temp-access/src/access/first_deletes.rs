//! Lets the sessions of a principal wait until a revoke has tried to delete each policy once.

use std::cell::Cell;

use time::OffsetDateTime;
use tokio::sync::Notify;

/// How many policies a revoke still has to delete for the first time, and which sessions belong to their access.
pub(crate) struct FirstDeletes {
    left: Cell<usize>,
    /// The time from which the sessions of the principal belong to the access; `None` if there was no access.
    pub(crate) from: Cell<Option<OffsetDateTime>>,
    done: Notify,
}

impl FirstDeletes {
    pub(crate) fn of(policies: usize, due: Option<OffsetDateTime>) -> Self {
        Self { left: Cell::new(policies), from: Cell::new(due), done: Notify::new() }
    }

    /// Notes that `count` policies were deleted, and that access had begun at `start`.
    pub(crate) fn count(&self, count: usize, start: Option<OffsetDateTime>) {
        self.from.set(self.from.get().into_iter().chain(start).min());
        self.left.set(self.left.get().saturating_sub(count));
        if self.left.get() == 0 {
            self.done.notify_one();
        }
    }

    pub(crate) async fn all(&self) {
        if self.left.get() > 0 {
            self.done.notified().await;
        }
    }
}
