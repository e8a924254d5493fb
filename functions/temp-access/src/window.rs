//! From when until when.

use sekisho_domain::access::Minutes;
use time::{Duration, OffsetDateTime};

/// How much earlier than its start a policy lets in, against clocks that disagree. Counts neither as start nor towards
/// the longest chain.
pub const LEEWAY: Duration = Duration::minutes(2);

/// A span of access, in whole seconds as IAM's date conditions have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first start of the chain of grants.
    pub start: OffsetDateTime,
    /// When it ends.
    pub end: OffsetDateTime,
}

impl Window {
    /// Whether it has not ended.
    #[must_use]
    pub fn is_live(self, now: OffsetDateTime) -> bool {
        now < self.end
    }
}

/// Of what two sources know, the window that ends later.
#[must_use]
pub fn later(one: Option<Window>, other: Option<Window>) -> Option<Window> {
    one.into_iter().chain(other).max_by_key(|window| window.end)
}

/// How far a grant reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// The window.
    pub window: Window,
    /// Whether it would have ended later, had the chain not been at its longest.
    pub capped: bool,
}

/// The window of a grant: `minutes` from now, up to `longest` from the chain's first start, never shorter than what is
/// live. A chain goes on while its policy is live; what has ended is no start of anything.
#[must_use]
pub fn reach(now: OffsetDateTime, minutes: Minutes, longest: Minutes, live: Option<Window>) -> Reach {
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let live = live.filter(|window| window.is_live(now));
    let start = live.map_or(now, |window| window.start.min(now));
    let asked = now + minutes.duration();
    let last = start.saturating_add(longest.duration());
    let end = live.map_or(asked.min(last), |window| window.end.max(asked.min(last)));
    Reach { window: Window { start, end }, capped: asked > end }
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
    fn a_first_grant_lasts_what_was_asked_in_whole_seconds() {
        let reach = reach(NOW, minutes(180), minutes(480), None);
        assert_eq!(
            reach.window,
            Window { start: datetime!(2026-11-21 20:45 UTC), end: datetime!(2026-11-21 23:45 UTC) }
        );
        assert!(!reach.capped);
    }

    #[test]
    fn a_chain_ends_at_the_longest_from_its_first_start() {
        let live = Window { start: datetime!(2026-11-21 14:00 UTC), end: datetime!(2026-11-21 21:00 UTC) };
        let reach = reach(NOW, minutes(180), minutes(480), Some(live));
        assert_eq!(reach.window, Window { start: live.start, end: datetime!(2026-11-21 22:00 UTC) });
        assert!(reach.capped);
    }

    #[test]
    fn what_has_ended_starts_no_chain() {
        let ended = Window { start: datetime!(2026-11-21 14:00 UTC), end: datetime!(2026-11-21 20:45 UTC) };
        assert_eq!(reach(NOW, minutes(1), minutes(480), Some(ended)).window.start, datetime!(2026-11-21 20:45 UTC));
    }

    proptest! {
        #[test]
        fn never_shorter_and_never_beyond_the_longest(
            asked in 1i64..=480, started in 0i64..100_000, lasts in 1i64..100_000, longest in 480i64..=10_080,
        ) {
            let start = NOW.replace_nanosecond(0).unwrap() - Duration::seconds(started);
            let live = Window { start, end: start + Duration::seconds(lasts) };
            let reach = reach(NOW, minutes(asked), minutes(longest), Some(live));
            prop_assert!(reach.window.is_live(NOW));
            if live.is_live(NOW) {
                prop_assert_eq!(reach.window.start, live.start);
                prop_assert!(reach.window.end >= live.end);
            }
            let within = reach.window.end - reach.window.start <= Duration::minutes(longest);
            prop_assert!(within || reach.window.end == live.end);
            prop_assert_eq!(reach.capped, reach.window.end < NOW.replace_nanosecond(0).unwrap() + Duration::minutes(asked));
        }
    }
}
