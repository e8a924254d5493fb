//! When a change may enter a wave: weekly windows and closed dates, by the local time of a zone.

mod opening;
mod written;
mod zone;

use serde::Deserialize;
use time::{Date, OffsetDateTime};

use self::written::{parse_closed, parse_window};
use self::zone::Zone;
use crate::account::{Malformed, string_newtype};

/// When a change may enter a wave. Without windows, it may at any time that is not closed.
///
/// A window is open by the local time of day. Where daylight saving time skips a part of a window, that part does not
/// happen; where it repeats an hour, the hour is open both times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Windows {
    open: Vec<Window>,
    closed: Vec<Closed>,
}

/// The name of a time zone, of the form that IANA's names have. The form does not show whether the zone exists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct ZoneName(String);

impl TryFrom<String> for ZoneName {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        let is_part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+'))
        };
        if value.len() <= 64 && value.split('/').all(is_part) {
            Ok(Self(value))
        } else {
            Err(Malformed::new(&value, "a time zone: write a name of the IANA database, such as `Asia/Tokyo`"))
        }
    }
}
string_newtype!(ZoneName);

impl ZoneName {
    /// The local time of the zone; `None` if there is no such zone. A binary that calls this contains the time zone
    /// database.
    #[must_use]
    pub fn local(&self, at: OffsetDateTime) -> Option<OffsetDateTime> {
        at.checked_to_offset(Zone::find(self).ok()?.offset_at(at)?)
    }

    /// Checks that the zone exists. The error says what to write instead.
    pub(crate) fn check(&self) -> Result<(), String> {
        Zone::find(self).map(drop)
    }
}

/// A time of day on some days of the week.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    /// Whether the window begins on this day, from Monday to Sunday.
    days: [bool; 7],
    /// The minute of the day at which the window begins.
    begin: u16,
    /// The minute of the day before which the window ends: the same day if it is larger than `begin`, and otherwise the
    /// next day.
    end: u16,
    zone: ZoneName,
}

/// Days on which no change enters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Closed {
    first: Date,
    /// The last day, which is closed, too.
    last: Date,
    zone: ZoneName,
}

impl Windows {
    /// Parses the keys `windows` and `closed`. Zones are not looked up. The error has the place, such as `windows[0]`,
    /// and the reason.
    pub(crate) fn parse(windows: Option<&[String]>, closed: &[String]) -> Result<Self, (String, String)> {
        if windows.is_some_and(<[String]>::is_empty) {
            let reason = "empty, so no change ever enters: write a window, such as \
                          `windows = [\"Mon-Thu 10:00-16:00 Asia/Tokyo\"]`, or remove the key";
            return Err(("windows".to_owned(), reason.to_owned()));
        }
        let open = windows.unwrap_or_default().iter().enumerate();
        let open = open.map(|(i, text)| parse_window(text).map_err(|reason| (format!("windows[{i}]"), reason)));
        let closed = closed.iter().enumerate();
        let closed = closed.map(|(i, text)| parse_closed(text).map_err(|reason| (format!("closed[{i}]"), reason)));
        Ok(Self { open: open.collect::<Result<_, _>>()?, closed: closed.collect::<Result<_, _>>()? })
    }
}

#[cfg(test)]
mod tests;
