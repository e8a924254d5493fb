//! The texts of windows and closed dates.

use time::Date;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::{Closed, Window, ZoneName};

const WINDOW: &str = "write days, times and a zone, such as `Mon-Thu 10:00-16:00 Asia/Tokyo`";
const DATES: &str = "write the first and the last day and a zone, such as `2026-12-24/2027-01-04 Asia/Tokyo`";
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const DATE: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");
const MINUTES_PER_DAY: u16 = 24 * 60;

/// Parses a window such as `Mon-Thu 10:00-16:00 Asia/Tokyo`. The error says what to write instead.
pub(super) fn parse_window(text: &str) -> Result<Window, String> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [days, times, zone] = parts.as_slice() else {
        return Err(format!("`{text}` is not a window: {WINDOW}"));
    };
    let days = parse_days(days)?;
    let Some((begin, end)) = times.split_once('-') else {
        return Err(format!("`{times}` is not a time of day: write a begin and an end, such as `10:00-16:00`"));
    };
    let (begin, end) = (parse_time(begin)?, parse_time(end)?);
    if begin == MINUTES_PER_DAY {
        return Err(format!(
            "`{times}` begins at 24:00, which is a time only for an end: write `00:00` and the next day"
        ));
    }
    if begin == end {
        return Err(format!("`{times}` ends when it begins, so it never opens: write `00:00-24:00` for a whole day"));
    }
    Ok(Window { days, begin, end, zone: parse_zone(zone)? })
}

/// Parses closed dates such as `2026-12-24/2027-01-04 Asia/Tokyo`. The error says what to write instead.
pub(super) fn parse_closed(text: &str) -> Result<Closed, String> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [dates, zone] = parts.as_slice() else {
        return Err(format!("`{text}` is not a range of dates: {DATES}"));
    };
    let Some((first, last)) = dates.split_once('/') else {
        return Err(format!("`{dates}` is not a range of dates: {DATES}; a single day is its own last day"));
    };
    let (first, last) = (parse_date(first)?, parse_date(last)?);
    if last < first {
        return Err(format!("`{dates}` ends before it begins: write the earlier day first"));
    }
    Ok(Closed { first, last, zone: parse_zone(zone)? })
}

fn parse_days(text: &str) -> Result<[bool; 7], String> {
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (parse_day(first, text)?, parse_day(last, text)?);
        if first == last && part.contains('-') {
            return Err(format!("`{part}` is one day: write `{}`, or `Mon-Sun` for every day", &part[..3]));
        }
        // A range such as `Fri-Mon` goes on after Sunday.
        let length = (last + 7 - first) % 7;
        for day in first..=first + length {
            if let Some(day) = days.get_mut(day % 7) {
                *day = true;
            }
        }
    }
    Ok(days)
}

/// The number of the day, from 0 for Monday.
fn parse_day(name: &str, text: &str) -> Result<usize, String> {
    DAYS.iter().position(|day| *day == name).ok_or_else(|| {
        let meant = DAYS.iter().find(|day| name.to_lowercase().starts_with(&day.to_lowercase()));
        match meant {
            Some(day) => format!("`{text}` has the day `{name}`: write `{day}`"),
            None => format!("`{text}` has no day `{name}`: write days such as `Mon`, `Mon-Thu` or `Mon,Wed`"),
        }
    })
}

/// The minute of the day, up to 1440 for `24:00`.
fn parse_time(text: &str) -> Result<u16, String> {
    let number = |digits: &str| {
        let is_number = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| digits.parse::<u16>().ok()).flatten()
    };
    let minute = text.split_once(':').and_then(|(hour, minute)| {
        let minute = number(minute).filter(|minute| *minute < 60)?;
        Some(number(hour)? * 60 + minute)
    });
    let minute = minute.filter(|minute| *minute <= MINUTES_PER_DAY);
    minute.ok_or_else(|| format!("`{text}` is not a time of day: write two digits each, from `00:00` to `24:00`"))
}

fn parse_date(text: &str) -> Result<Date, String> {
    Date::parse(text, DATE).map_err(|_| format!("`{text}` is not a date: write one such as `2026-12-24`"))
}

fn parse_zone(text: &str) -> Result<ZoneName, String> {
    text.parse().map_err(|error: crate::account::Malformed| error.to_string())
}
