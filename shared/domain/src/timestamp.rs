//! The text and number formats of points in time.

use std::time::Duration;

use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Iso8601;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

const SECONDS: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
const MINUTES: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day] [hour]:[minute]");
const MILLIS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// Formats a time as `2026-11-21T23:45:00Z`, without fractions of a second. Sekisho uses this format in IAM's date
/// conditions.
#[must_use]
pub fn seconds(at: OffsetDateTime) -> String {
    write(at, SECONDS)
}

/// Formats a time as `2026-11-21T23:45:00.123Z`. The texts sort in the order of the times.
#[must_use]
pub fn millis(at: OffsetDateTime) -> String {
    write(at, MILLIS)
}

/// Formats a time as `2026-11-22 08:45`, in the time's own offset, which the text does not show.
#[must_use]
pub fn local_minutes(at: OffsetDateTime) -> String {
    // The formatting cannot fail, as in `write`.
    at.format(MINUTES).unwrap_or_else(|_| at.to_string())
}

/// Milliseconds since 1970, the unit of sequences and leases. Times before 1970 become 0.
#[must_use]
pub fn epoch_millis(at: OffsetDateTime) -> u64 {
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}

/// Converts milliseconds since 1970. Returns `None` if no date has this number.
#[must_use]
pub fn from_epoch_millis(millis: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok()
}

/// A length of time in its largest unit, such as `59s`, `47h` or `2d`.
#[must_use]
pub fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn write(at: OffsetDateTime, format: &[BorrowedFormatItem<'_>]) -> String {
    let utc = at.to_offset(time::UtcOffset::UTC);
    // The formatting cannot fail: every date has the components of the formats above, and the output is a string.
    utc.format(format).unwrap_or_else(|_| utc.to_string())
}

/// Parses `2026-11-21T23:45:00Z`, the format in which Sekisho writes IAM policies. Returns `None` for any other format.
#[must_use]
pub fn parse_seconds(text: &str) -> Option<OffsetDateTime> {
    time::PrimitiveDateTime::parse(text, SECONDS).ok().map(time::PrimitiveDateTime::assume_utc)
}

/// Parses a time in any form of ISO 8601 that has a date and an offset, or a date alone, which means its midnight in UTC.
/// Returns `None` for any other text.
#[must_use]
pub fn parse_any(text: &str) -> Option<OffsetDateTime> {
    let at = OffsetDateTime::parse(text, &Iso8601::PARSING).ok();
    // The parser of dates ignores a time that follows.
    let date = || Date::parse(text, &Iso8601::PARSING).ok().filter(|_| !text.contains('T'));
    let at = at.or_else(|| Some(date()?.midnight().assume_utc()))?;
    at.checked_to_offset(time::UtcOffset::UTC)
}

/// Parses `2026-11-21T23:45:00.123Z`, the format in which reports hold times. Returns `None` for any other format.
#[must_use]
pub fn parse_millis(text: &str) -> Option<OffsetDateTime> {
    time::PrimitiveDateTime::parse(text, MILLIS).ok().map(time::PrimitiveDateTime::assume_utc)
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn a_time_is_read_in_every_spelling() {
        let at = datetime!(2026-11-21 23:45 UTC);
        for text in ["2026-11-21T23:45:00Z", "2026-11-22T08:45:00+09:00", "2026-11-21T23:45:00.0Z", "2026-11-21T23:45Z"]
        {
            assert_eq!(parse_any(text), Some(at), "{text}");
        }
        assert_eq!(parse_any("2026-11-21T23:45:00.5Z"), Some(datetime!(2026-11-21 23:45:00.5 UTC)));
        assert_eq!(parse_any("2026-11-21"), Some(datetime!(2026-11-21 00:00 UTC)));
        for text in
            ["", "soon", "2026-11-21T23:45:00", "2026-11-21 23:45:00", "2026-11-21T23:45", "関数2026-11-21T23:4"]
        {
            assert_eq!(parse_any(text), None, "{text}");
        }
    }

    #[test]
    fn a_length_of_time_is_shown_in_its_largest_unit() {
        let spans = [0, 59, 60, 3_599, 3_600, 172_799, 172_800].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(spans, ["0s", "59s", "1m", "59m", "1h", "47h", "2d"]);
    }

    #[test]
    fn times_are_written_in_utc_and_can_be_read_again() {
        let at = datetime!(2026-11-22 08:45:00.987 +9);
        assert_eq!(seconds(at), "2026-11-21T23:45:00Z");
        assert_eq!(millis(at), "2026-11-21T23:45:00.987Z");
        assert_eq!(parse_seconds("2026-11-21T23:45:00Z"), Some(datetime!(2026-11-21 23:45:00 UTC)));
        assert_eq!(parse_seconds("2026-11-21T23:45:00+09:00"), None);
        assert_eq!(parse_millis("2026-11-21T23:45:00.987Z"), Some(datetime!(2026-11-21 23:45:00.987 UTC)));
        assert_eq!(parse_millis("2026-11-21T23:45:00Z"), None);
        assert_eq!(epoch_millis(datetime!(1970-01-01 00:00:01.5 UTC)), 1500);
    }
}
