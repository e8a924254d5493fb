//! Who looks at a widget, and how that person reads times.

use std::time::Duration;

use maud::{Markup, html};
use sekisho_domain::timestamp;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

const CLOCK: &[BorrowedFormatItem<'_>] = format_description!("[hour]:[minute]");
const DAY: &[BorrowedFormatItem<'_>] = format_description!("[month repr:short] [day padding:none] [hour]:[minute]");

/// The theme of the viewer's console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    /// Dark text on a light ground.
    Light,
    /// Light text on a dark ground.
    Dark,
}

impl Theme {
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Light => "sekisho light cwdb-no-default-styles",
            Self::Dark => "sekisho dark cwdb-no-default-styles",
        }
    }
}

/// Who looks at a widget, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Viewer {
    /// The viewer's theme.
    pub theme: Theme,
    /// The current time, with the offset of the viewer's clock.
    pub now: OffsetDateTime,
}

impl Viewer {
    /// The time with the offset of the viewer's clock. A time at the end of the last year that a date has may have none.
    #[must_use]
    pub fn local(&self, at: OffsetDateTime) -> OffsetDateTime {
        at.checked_to_offset(self.now.offset()).unwrap_or(at)
    }

    /// A point in time by the viewer's clock. The day is left out if it is today.
    #[must_use]
    pub fn time(&self, at: OffsetDateTime) -> Markup {
        let local = self.local(at);
        let format = if local.date() == self.now.date() { CLOCK } else { DAY };
        // The formatting cannot fail: every date has these components.
        let text = local.format(format).unwrap_or_else(|_| local.to_string());
        html! { time datetime=(timestamp::seconds(at)) { (text) } }
    }

    /// A point in time in epoch milliseconds. A time that no date has is left out.
    #[must_use]
    pub fn millis(&self, at: u64) -> Markup {
        let at = i64::try_from(at).ok().and_then(timestamp::from_epoch_millis);
        at.map_or_else(Markup::default, |at| self.time(at))
    }

    /// The time since a point in time in epoch milliseconds, in its largest unit.
    #[must_use]
    pub fn age(&self, since: u64) -> String {
        timestamp::span(Duration::from_millis(timestamp::epoch_millis(self.now).saturating_sub(since)))
    }

    /// The time until a point in time in epoch milliseconds, in its largest unit.
    #[must_use]
    pub fn left(&self, until: u64) -> String {
        timestamp::span(Duration::from_millis(until.saturating_sub(timestamp::epoch_millis(self.now))))
    }

    /// The current time with its offset, for the end of a page.
    pub(crate) fn stamp(&self) -> String {
        let (hours, minutes, _) = self.now.offset().as_hms();
        let sign = if self.now.offset().is_negative() { '-' } else { '+' };
        let local = timestamp::local_minutes(self.now);
        format!("{local} UTC{sign}{:02}:{:02}", hours.abs(), minutes.abs())
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn times_are_those_of_the_viewers_clock() {
        let viewer = Viewer { theme: Theme::Light, now: datetime!(2026-11-22 00:30 +9) };
        let shown = |at| viewer.time(at).into_string();
        let today = shown(datetime!(2026-11-21 16:00 UTC));
        assert_eq!(today, r#"<time datetime="2026-11-21T16:00:00Z">01:00</time>"#);
        assert_eq!(
            shown(datetime!(2026-11-21 14:00 UTC)),
            r#"<time datetime="2026-11-21T14:00:00Z">Nov 21 23:00</time>"#
        );
        let now = timestamp::epoch_millis(viewer.now);
        assert_eq!((viewer.age(now - 59_000), viewer.left(now + 3_600_000)), ("59s".to_owned(), "1h".to_owned()));
        assert_eq!((viewer.age(now + 1_000), viewer.left(now - 1_000)), ("0s".to_owned(), "0s".to_owned()));
        assert_eq!(viewer.stamp(), "2026-11-22 00:30 UTC+09:00");
        assert_eq!(viewer.millis(u64::MAX).into_string(), "");
        // By the viewer's clock, this is in the year 10000, which no date has.
        assert!(shown(datetime!(9999-12-31 23:59:59.999 UTC)).contains("Dec 31 23:59"));
    }
}
