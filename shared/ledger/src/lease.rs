//! A lease: how long one invocation holds a row.

use std::time::Duration;

use sekisho_domain::timestamp::epoch_millis;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// The largest difference that is expected between the clocks of two invocations.
const CLOCK_TOLERANCE: Duration = Duration::from_mins(1);

/// The end of a lease in milliseconds since 1970. 0 means that nobody holds the row.
///
/// DynamoDB has no locks, so the row stores the lease, and an invocation claims the lease with a conditional write. If
/// the invocation crashes, the lease ends by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lease(u64);

impl Lease {
    /// A lease that nobody holds.
    pub const FREE: Self = Self(0);

    /// A lease that begins now and lasts for `term`.
    #[must_use]
    pub fn new(now: OffsetDateTime, term: Duration) -> Self {
        Self(epoch_millis(now + term))
    }

    /// A lease that ends at this time, in milliseconds since 1970.
    #[must_use]
    pub fn until(end: u64) -> Self {
        Self(end)
    }

    /// Whether an invocation holds the row. `term` is the longest lease that this kind of row gets.
    ///
    /// No lease that is written now ends later than `term` plus the tolerance from now. A lease with a later end comes
    /// from a wrong clock and is treated as free, because it would block the row for too long.
    #[must_use]
    pub fn is_held(self, now: OffsetDateTime, term: Duration) -> bool {
        let latest = epoch_millis(now + term + CLOCK_TOLERANCE);
        (epoch_millis(now) + 1..=latest).contains(&self.0)
    }

    /// The time that is left until the lease ends.
    #[must_use]
    pub fn time_left(self, now: OffsetDateTime) -> Duration {
        Duration::from_millis(self.0.saturating_sub(epoch_millis(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);
    const TERM: Duration = Duration::from_secs(55);

    #[test]
    fn a_lease_is_held_until_its_end() {
        let lease = Lease::new(NOW, TERM);
        assert!(lease.is_held(NOW, TERM));
        assert!(lease.is_held(NOW + TERM - Duration::from_millis(1), TERM));
        assert!(!lease.is_held(NOW + TERM, TERM));
        assert!(!Lease::FREE.is_held(NOW, TERM));
        assert_eq!(lease.time_left(NOW + Duration::from_secs(50)), Duration::from_secs(5));
        assert_eq!(lease.time_left(NOW + TERM * 2), Duration::ZERO);
    }

    #[test]
    fn a_lease_of_a_clock_that_is_far_ahead_is_free() {
        let lease = Lease::new(NOW + Duration::from_secs(59), TERM);
        assert!(lease.is_held(NOW, TERM), "clocks may differ by up to a minute");
        let lease = Lease::new(NOW + Duration::from_hours(24), TERM);
        assert!(!lease.is_held(NOW, TERM));
    }

    #[test]
    fn a_row_holds_a_lease_as_a_plain_number() {
        assert_eq!(serde_json::to_string(&Lease::new(NOW, TERM)).unwrap(), epoch_millis(NOW + TERM).to_string());
        assert_eq!(serde_json::from_str::<Lease>("0").unwrap(), Lease::FREE);
    }
}
