//! The rules of time zones, from the database that is built into the binary.

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use time::{OffsetDateTime, UtcOffset};

use super::ZoneName;

/// For so many characters of a name, one may be mistyped. Short names such as `JST` and `EST` resemble each other without
/// meaning the same.
const CHARACTERS_PER_EDIT: usize = 5;

/// The rules of a time zone.
#[derive(Debug, Clone)]
pub(super) struct Zone(TimeZone);

impl Zone {
    /// Looks up the zone. The error says what to write instead.
    pub(super) fn find(name: &ZoneName) -> Result<Self, String> {
        let database = TimeZoneDatabase::bundled();
        // The database ignores the case of names. The file has the usual spelling, because answers show the name.
        match database.get(name.as_str()) {
            Ok(zone) if zone.iana_name() == Some(name.as_str()) => Ok(Self(zone)),
            _ => {
                let instead = match nearest(&database, name.as_str()) {
                    Some(nearest) => format!("`{nearest}`"),
                    None => "a name of the IANA database, such as `Asia/Tokyo`, `Europe/Berlin` or `UTC`".to_owned(),
                };
                Err(format!("`{name}` is not a known time zone: write {instead}"))
            }
        }
    }

    /// The zone's offset at this time.
    pub(super) fn offset_at(&self, at: OffsetDateTime) -> Option<UtcOffset> {
        let offset = self.0.to_offset(timestamp(at)?);
        UtcOffset::from_whole_seconds(offset.seconds()).ok()
    }

    /// The times after `from` and until `to` at which the zone's offset may change.
    pub(super) fn changes(&self, from: OffsetDateTime, to: OffsetDateTime) -> Vec<OffsetDateTime> {
        let Some(from) = timestamp(from) else { return Vec::new() };
        let changes = self.0.following(from).map(|change| change.timestamp().as_second());
        changes.map_while(|at| OffsetDateTime::from_unix_timestamp(at).ok()).take_while(|at| *at <= to).collect()
    }
}

fn timestamp(at: OffsetDateTime) -> Option<Timestamp> {
    Timestamp::from_second(at.unix_timestamp()).ok()
}

/// The name that was probably meant: the same city, or a name that differs in few characters.
fn nearest(database: &TimeZoneDatabase, name: &str) -> Option<String> {
    let city = |name: &str| name.rsplit('/').next().unwrap_or(name).to_lowercase();
    let lower = name.to_lowercase();
    let rank = |known: &str| match known.to_lowercase() {
        same if same == lower => Some(0),
        _ if city(known) == city(name) => Some(1),
        other => Some(edits(&other, &lower))
            .filter(|edits| edits * CHARACTERS_PER_EDIT <= lower.len())
            .map(|edits| 2 + edits),
    };
    let known = database.available().map(|known| known.to_string());
    known.filter_map(|known| Some((rank(&known)?, known))).min().map(|(_, known)| known)
}

/// The number of characters to insert, remove or replace so that one text becomes the other.
fn edits(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (b, above) in other.bytes().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(a != b)).min(left + 1).min(above + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        let cases = [("", "", 0), ("abc", "abc", 0), ("abc", "", 3), ("", "ab", 2), ("abc", "axc", 1)];
        let more = [("abc", "ac", 1), ("ac", "abc", 1), ("kitten", "sitting", 3), ("berlin", "brelin", 2)];
        for (one, other, expected) in cases.into_iter().chain(more) {
            assert_eq!(edits(one, other), expected, "{one} and {other}");
        }
    }

    #[test]
    fn an_unknown_zone_is_answered_with_the_nearest_name() {
        let cases = [
            ("asia/tokyo", "write `Asia/Tokyo`"),
            ("Tokyo", "write `Asia/Tokyo`"),
            ("Japan/Tokyo", "write `Asia/Tokyo`"),
            ("Europe/Brelin", "write `Europe/Berlin`"),
            ("America/NewYork", "write `America/New_York`"),
            ("utc", "write `UTC`"),
            ("JST", "such as `Asia/Tokyo`"),
            ("Mars/Olympus_Mons", "such as `Asia/Tokyo`"),
        ];
        for (name, part) in cases {
            let reason = Zone::find(&name.parse().unwrap()).unwrap_err();
            assert!(reason.contains(&format!("`{name}`")) && reason.contains(part), "{reason}");
        }
        for name in ["Asia/Tokyo", "UTC", "Etc/GMT+9", "America/Argentina/Buenos_Aires", "EST5EDT", "US/Pacific"] {
            assert!(Zone::find(&name.parse().unwrap()).is_ok(), "{name}");
        }
    }
}
