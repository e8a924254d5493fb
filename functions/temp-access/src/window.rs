//! The span of time in which a grant gives access.

use sekisho_domain::access::Minutes;
use time::{Duration, OffsetDateTime};

/// How much earlier than its window a policy begins to give access if the access begins at once, because clocks disagree.
/// The leeway is part of neither the window nor the chain. A window that begins later has no leeway.
pub const LEEWAY: Duration = Duration::minutes(2);

/// A span of access. Its times are whole seconds, like the times in IAM's date conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first start of the chain of grants; in a policy that was written before its access began, the start of access.
    pub start: OffsetDateTime,
    /// The end of access.
    pub end: OffsetDateTime,
}

impl Window {
    /// Whether the window has not ended yet.
    #[must_use]
    pub fn is_live(self, now: OffsetDateTime) -> bool {
        now < self.end
    }

    /// Whether a policy with this window gives no access yet.
    #[must_use]
    pub fn is_scheduled(self, now: OffsetDateTime) -> bool {
        now < self.start && self.is_live(now)
    }
}

/// How far ahead a grant may be scheduled. No version of Sekisho writes a window that begins later.
pub(crate) const FURTHEST_START: Duration = Duration::days(14);

/// The latest end that Sekisho writes. A policy with a later end is not ours, unless the ledger records that end.
pub(crate) fn latest_end(now: OffsetDateTime, longest: Minutes) -> OffsetDateTime {
    now.saturating_add(FURTHEST_START).saturating_add(longest.duration())
}

/// The window that ends later.
pub(crate) fn later(one: Option<Window>, other: Option<Window>) -> Option<Window> {
    one.into_iter().chain(other).max_by_key(|window| window.end)
}

/// The window of a new grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    /// The window of the access after the grant.
    pub(crate) window: Window,
    /// Whether the end is earlier than requested, because the chain has reached its maximum length.
    pub(crate) capped: bool,
}

/// Returns the window of a grant. The window ends `minutes` from now, but not later than `longest` after the chain's
/// first start, and never earlier than the live window. A grant continues the chain while the policy is live, and
/// otherwise the chain `resting`, which ended only recently; without either, it begins a new chain. Returns `None` if
/// the resting chain has reached its maximum length.
pub(crate) fn reach(
    now: OffsetDateTime,
    minutes: Minutes,
    longest: Minutes,
    live: Option<Window>,
    resting: Option<Window>,
) -> Option<Reach> {
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let live = live.filter(|window| window.is_live(now));
    let start = live.or(resting).map_or(now, |window| window.start.min(now));
    let requested = now + minutes.duration();
    let last = start.saturating_add(longest.duration());
    let end = live.map_or(requested.min(last), |window| window.end.max(requested.min(last)));
    Some(Reach { window: Window { start, end }, capped: requested > end }).filter(|reach| reach.window.is_live(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-21 20:45:00.9 UTC);

    fn minutes(n: i64) -> Minutes {
        n.try_into().unwrap()
    }

    #[test]
    fn a_first_grant_lasts_as_long_as_requested_in_whole_seconds() {
        let reach = reach(NOW, minutes(180), minutes(480), None, None).unwrap();
        assert_eq!(
            reach.window,
            Window { start: datetime!(2026-11-21 20:45 UTC), end: datetime!(2026-11-21 23:45 UTC) }
        );
        assert!(!reach.capped);
    }

    #[test]
    fn a_chain_ends_at_most_longest_after_its_first_start() {
        let live = Window { start: datetime!(2026-11-21 14:00 UTC), end: datetime!(2026-11-21 21:00 UTC) };
        let reach = reach(NOW, minutes(180), minutes(480), Some(live), None).unwrap();
        assert_eq!(reach.window, Window { start: live.start, end: datetime!(2026-11-21 22:00 UTC) });
        assert!(reach.capped);
    }

    #[test]
    fn a_window_that_has_ended_starts_no_chain() {
        let ended = Window { start: datetime!(2026-11-21 14:00 UTC), end: datetime!(2026-11-21 20:45 UTC) };
        let reach = reach(NOW, minutes(1), minutes(480), Some(ended), None).unwrap();
        assert_eq!(reach.window.start, datetime!(2026-11-21 20:45 UTC));
    }

    #[test]
    fn a_chain_that_rests_is_continued_up_to_its_maximum_length() {
        let resting = Window { start: datetime!(2026-11-21 14:00 UTC), end: datetime!(2026-11-21 20:30 UTC) };
        let continued = reach(NOW, minutes(180), minutes(480), None, Some(resting)).unwrap();
        assert_eq!(continued.window, Window { start: resting.start, end: datetime!(2026-11-21 22:00 UTC) });
        assert!(continued.capped);
        assert_eq!(reach(NOW, minutes(1), minutes(405), None, Some(resting)), None);
        assert!(reach(NOW, minutes(1), minutes(406), None, Some(resting)).is_some());
    }

    proptest! {
        #[test]
        fn a_grant_never_shortens_access_nor_exceeds_the_longest_chain(
            asked in 1i64..=480, started in 0i64..100_000, lasts in 1i64..100_000, longest in 480i64..=10_080,
        ) {
            let start = NOW.replace_nanosecond(0).unwrap() - Duration::seconds(started);
            let live = Window { start, end: start + Duration::seconds(lasts) };
            let reach = reach(NOW, minutes(asked), minutes(longest), Some(live), None).unwrap();
            prop_assert!(reach.window.is_live(NOW));
            if live.is_live(NOW) {
                prop_assert_eq!(reach.window.start, live.start);
                prop_assert!(reach.window.end >= live.end);
            }
            let within = reach.window.end - reach.window.start <= Duration::minutes(longest);
            prop_assert!(within || reach.window.end == live.end);
            let requested = NOW.replace_nanosecond(0).unwrap() + Duration::minutes(asked);
            prop_assert_eq!(reach.capped, reach.window.end < requested);
        }
    }
}
