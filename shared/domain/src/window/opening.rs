//! When windows are open. Only a binary that calls these functions contains the time zone database.

use std::collections::BTreeSet;

use time::{Date, Duration, OffsetDateTime, PrimitiveDateTime, Time};

use super::zone::Zone;
use super::{Closed, Window, Windows};

/// How far ahead an opening is searched: ten years. Windows that stay closed for longer count as never open.
const HORIZON: Duration = Duration::days(3_653);
/// The search looks at so many days at a time. Each window begins once within them, unless days are closed.
const STEP: Duration = Duration::days(8);

/// Windows and closed dates with the rules of their zones.
#[derive(Debug)]
pub(super) struct Calendar<'w> {
    open: Vec<(&'w Window, Zone)>,
    closed: Vec<(&'w Closed, Zone)>,
}

impl Windows {
    /// Whether a change may enter at this time. Windows with an unknown zone are never open.
    #[must_use]
    pub fn is_open(&self, now: OffsetDateTime) -> bool {
        self.is_always_open() || self.calendar().is_ok_and(|calendar| calendar.is_open(now))
    }

    /// The earliest time from `now` on at which a change may enter, with the offset of the zone of the window that
    /// opens. Returns `None` if there is none within ten years, or if a zone is unknown.
    #[must_use]
    pub fn opens(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        if self.is_always_open() { Some(now) } else { self.calendar().ok()?.opens(now) }
    }

    /// Checks what the texts alone do not show: whether the zones exist, and whether the windows ever open. The error
    /// has the place, such as `windows[0]`, and the reason.
    pub(crate) fn check(&self) -> Result<(), (String, String)> {
        let calendar = self.calendar()?;
        for (i, (closed, zone)) in calendar.closed.iter().enumerate() {
            let begins = instants(zone, closed.first, 0).into_iter().next();
            if begins.and_then(|begins| calendar.opens(begins)).is_none() {
                let reason = format!(
                    "from {} on, no window opens for ten years: correct the dates, or hold the wave instead",
                    closed.first
                );
                return Err((format!("closed[{i}]"), reason));
            }
        }
        Ok(())
    }

    fn is_always_open(&self) -> bool {
        self.open.is_empty() && self.closed.is_empty()
    }

    pub(super) fn calendar(&self) -> Result<Calendar<'_>, (String, String)> {
        let find = |key: &str, i: usize, name| Zone::find(name).map_err(|reason| (format!("{key}[{i}]"), reason));
        let open = self.open.iter().enumerate();
        let open = open.map(|(i, window)| find("windows", i, &window.zone).map(|zone| (window, zone)));
        let closed = self.closed.iter().enumerate();
        let closed = closed.map(|(i, closed)| find("closed", i, &closed.zone).map(|zone| (closed, zone)));
        Ok(Calendar { open: open.collect::<Result<_, _>>()?, closed: closed.collect::<Result<_, _>>()? })
    }
}

impl Calendar<'_> {
    pub(super) fn is_open(&self, at: OffsetDateTime) -> bool {
        let is_closed = self.closed.iter().any(|(closed, zone)| {
            // A time that has no date in the zone is outside of the calendar.
            local(zone, at).is_none_or(|local| (closed.first..=closed.last).contains(&local.date()))
        });
        !is_closed && (self.open.is_empty() || self.open.iter().any(|(window, zone)| contains(window, zone, at)))
    }

    fn opens(&self, from: OffsetDateTime) -> Option<OffsetDateTime> {
        let end = from.checked_add(HORIZON)?;
        let mut start = from;
        while start < end {
            let next = start.checked_add(STEP)?;
            let opening =
                self.candidates(start, next).into_iter().find(|at| (start..next).contains(at) && self.is_open(*at));
            if let Some(opening) = opening {
                return Some(self.in_zone_of_window(opening));
            }
            start = next;
        }
        None
    }

    /// Every time from `start` to `end` at which something opens, among others. A window opens when its local time
    /// begins, when a closed day ends, or when a change of the offset skips the time before or repeats the time after.
    fn candidates(&self, start: OffsetDateTime, end: OffsetDateTime) -> BTreeSet<OffsetDateTime> {
        let zones = self.open.iter().map(|(_, zone)| zone).chain(self.closed.iter().map(|(_, zone)| zone));
        let mut found: BTreeSet<OffsetDateTime> = zones.flat_map(|zone| zone.changes(start, end)).collect();
        found.insert(start);
        for (window, zone) in &self.open {
            let first = start.date().checked_sub(Duration::DAY).unwrap_or(start.date());
            let days = std::iter::successors(Some(first), |day| day.next_day());
            for day in days.take_while(|day| (*day - end.date()) <= Duration::DAY) {
                found.extend(instants(zone, day, window.begin));
            }
        }
        for (closed, zone) in &self.closed {
            found.extend(closed.last.next_day().map(|day| instants(zone, day, 0)).unwrap_or_default());
        }
        found
    }

    fn in_zone_of_window(&self, at: OffsetDateTime) -> OffsetDateTime {
        let open = self.open.iter().find(|(window, zone)| contains(window, zone, at)).map(|(_, zone)| zone);
        let zone = open.or_else(|| self.closed.first().map(|(_, zone)| zone));
        zone.and_then(|zone| at.checked_to_offset(zone.offset_at(at)?)).unwrap_or(at)
    }
}

fn contains(window: &Window, zone: &Zone, at: OffsetDateTime) -> bool {
    let Some(local) = local(zone, at) else { return false };
    let begins_on = |date: Date| {
        let day = date.weekday().number_days_from_monday();
        window.days.get(usize::from(day)).copied().unwrap_or_default()
    };
    let minute = u16::from(local.hour()) * 60 + u16::from(local.minute());
    if window.begin < window.end {
        return begins_on(local.date()) && (window.begin..window.end).contains(&minute);
    }
    let began_yesterday = || local.date().previous_day().is_some_and(begins_on);
    minute >= window.begin && begins_on(local.date()) || minute < window.end && began_yesterday()
}

fn local(zone: &Zone, at: OffsetDateTime) -> Option<PrimitiveDateTime> {
    let local = at.checked_to_offset(zone.offset_at(at)?)?;
    Some(PrimitiveDateTime::new(local.date(), local.time()))
}

/// The times that may be this minute of the day in the zone: two if the offset changes on that day. If the zone skips
/// the minute, none of them is.
fn instants(zone: &Zone, day: Date, minute: u16) -> BTreeSet<OffsetDateTime> {
    let local = PrimitiveDateTime::new(day, Time::MIDNIGHT).checked_add(Duration::minutes(minute.into()));
    let instant = |around: Duration| {
        let utc = local?.assume_utc();
        let offset = zone.offset_at(utc.checked_add(around)?)?;
        utc.checked_sub(Duration::seconds(offset.whole_seconds().into()))
    };
    [-Duration::DAY, Duration::DAY].into_iter().filter_map(instant).collect()
}
