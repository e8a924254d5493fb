use proptest::prelude::*;
use time::macros::datetime;
use time::{Duration, OffsetDateTime, UtcOffset};

use super::*;

type Texts = &'static [&'static str];

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn parse(open: &[&str], closed: &[&str]) -> Result<Windows, (String, String)> {
    let open = texts(open);
    Windows::parse((!open.is_empty()).then_some(&open[..]), &texts(closed))
}

fn windows(open: &[&str], closed: &[&str]) -> Windows {
    let windows = parse(open, closed).unwrap();
    windows.check().unwrap();
    windows
}

/// The times in UTC at which the windows open and close again, from a look at each minute of these days.
fn open_times(windows: &Windows, from: OffsetDateTime, days: i64) -> Vec<String> {
    let calendar = windows.calendar().unwrap();
    let mut times = Vec::new();
    let mut was_open = false;
    for minute in 0..days * 24 * 60 {
        let at = from + Duration::minutes(minute);
        let is_open = calendar.is_open(at);
        if is_open != was_open {
            let month = u8::from(at.month());
            times.push(format!("{month:02}-{:02} {:02}:{:02}", at.day(), at.hour(), at.minute()));
        }
        was_open = is_open;
    }
    times
}

#[test]
fn without_windows_and_closed_dates_a_change_may_always_enter() {
    let always = Windows::default();
    let now = datetime!(2026-11-28 14:15:16.5 UTC);
    assert!(always.is_open(now));
    assert_eq!(always.opens(now), Some(now));
    assert_eq!(parse(&[], &[]).unwrap(), always);
}

/// Each case begins on the first date at midnight UTC, and looks at so many days.
#[test]
fn windows_are_open_by_the_local_time_of_day() {
    let monday = datetime!(2026-11-30 00:00 UTC);
    let cases: [(Texts, Texts, i64, Texts); 9] = [
        (&["Mon,Wed 10:00-16:00 Asia/Tokyo"], &[], 7, &["11-30 01:00", "11-30 07:00", "12-02 01:00", "12-02 07:00"]),
        // The local day begins at 15:00 UTC on the day before.
        (&["Tue 00:00-24:00 Asia/Tokyo"], &[], 7, &["11-30 15:00", "12-01 15:00"]),
        (&["Mon-Tue 23:00-24:00 UTC"], &[], 7, &["11-30 23:00", "12-01 00:00", "12-01 23:00", "12-02 00:00"]),
        // Sunday's window ends on Monday.
        (&["Sun 22:00-02:00 UTC"], &[], 7, &["11-30 00:00", "11-30 02:00", "12-06 22:00"]),
        (&["Fri-Mon 12:00-13:00 UTC"], &[], 3, &["11-30 12:00", "11-30 13:00"]),
        // Windows that touch are open without a break.
        (
            &["Mon 10:00-12:00 UTC", "Mon 12:00-24:00 UTC", "Tue 00:00-01:00 UTC"],
            &[],
            7,
            &["11-30 10:00", "12-01 01:00"],
        ),
        // Both closed days are closed, in their own zone.
        (&[], &["2026-12-01/2026-12-02 Asia/Tokyo"], 7, &["11-30 00:00", "11-30 15:00", "12-02 15:00"]),
        (&["Mon 22:00-03:00 UTC"], &["2026-12-01/2026-12-01 UTC"], 7, &["11-30 22:00", "12-01 00:00"]),
        (&["Mon 10:00-11:00 UTC"], &["2026-11-30/2026-11-30 UTC", "2026-12-24/2027-01-04 UTC"], 7, &[]),
    ];
    for (open, closed, days, expected) in cases {
        assert_eq!(open_times(&windows(open, closed), monday, days), expected, "{open:?} {closed:?}");
    }
}

/// Each case looks at two days, from noon UTC on the day before a change of the offset.
#[test]
fn windows_follow_changes_of_the_offset() {
    let berlin_spring = datetime!(2026-03-28 12:00 UTC);
    let berlin_autumn = datetime!(2026-10-24 12:00 UTC);
    let new_york_spring = datetime!(2026-03-07 12:00 UTC);
    let new_york_autumn = datetime!(2026-10-31 12:00 UTC);
    let lord_howe_spring = datetime!(2026-10-03 12:00 UTC);
    let lord_howe_autumn = datetime!(2026-04-04 12:00 UTC);
    let cases: [(OffsetDateTime, &str, &[&str]); 14] = [
        // 02:00 to 03:00 does not exist.
        (berlin_spring, "Sun 02:00-03:00 Europe/Berlin", &[]),
        (berlin_spring, "Sun 02:30-04:00 Europe/Berlin", &["03-29 01:00", "03-29 02:00"]),
        (berlin_spring, "Sun 01:00-02:30 Europe/Berlin", &["03-29 00:00", "03-29 01:00"]),
        (berlin_spring, "Sat 23:00-05:00 Europe/Berlin", &["03-28 22:00", "03-29 03:00"]),
        (berlin_spring, "Sun 10:00-11:00 Europe/Berlin", &["03-29 08:00", "03-29 09:00"]),
        // 02:00 to 03:00 happens twice.
        (berlin_autumn, "Sun 02:00-03:00 Europe/Berlin", &["10-25 00:00", "10-25 02:00"]),
        (berlin_autumn, "Sun 01:30-02:30 Europe/Berlin", &["10-24 23:30", "10-25 00:30", "10-25 01:00", "10-25 01:30"]),
        (berlin_autumn, "Sun 10:00-11:00 Europe/Berlin", &["10-25 09:00", "10-25 10:00"]),
        (new_york_spring, "Sat-Sun 02:00-04:00 America/New_York", &["03-08 07:00", "03-08 08:00"]),
        (
            new_york_autumn,
            "Sun 00:30-01:15 America/New_York",
            &["11-01 04:30", "11-01 05:15", "11-01 06:00", "11-01 06:15"],
        ),
        // Lord Howe Island moves its clocks by 30 minutes, from +10:30 to +11 and back.
        (lord_howe_spring, "Sun 02:00-02:30 Australia/Lord_Howe", &[]),
        (lord_howe_spring, "Sun 02:15-03:00 Australia/Lord_Howe", &["10-03 15:30", "10-03 16:00"]),
        (lord_howe_autumn, "Sun 01:30-02:00 Australia/Lord_Howe", &["04-04 14:30", "04-04 15:30"]),
        (lord_howe_autumn, "Sun 02:00-03:00 Australia/Lord_Howe", &["04-04 15:30", "04-04 16:30"]),
    ];
    for (from, window, expected) in cases {
        assert_eq!(open_times(&windows(&[window], &[]), from, 2), expected, "{window}");
    }
    let tokyo = windows(&["Sun 02:00-03:00 Asia/Tokyo"], &[]);
    assert_eq!(open_times(&tokyo, berlin_spring, 2), ["03-28 17:00", "03-28 18:00"]);
}

#[test]
fn the_next_opening_has_the_offset_of_its_window() {
    let both = windows(&["Mon 10:00-16:00 Asia/Tokyo", "Sun 12:00-13:00 America/New_York"], &[]);
    let now = datetime!(2026-11-28 14:15:16.5 UTC);
    assert_eq!(both.opens(now), Some(datetime!(2026-11-29 12:00 -5)));
    let after = both.opens(datetime!(2026-11-29 18:00 UTC)).unwrap();
    assert_eq!((after, after.offset()), (datetime!(2026-11-30 10:00 +9), UtcOffset::from_hms(9, 0, 0).unwrap()));
    let inside = datetime!(2026-11-30 03:00:00.25 UTC);
    assert_eq!(both.opens(inside), Some(inside), "an open window opens now");
}

#[test]
fn a_change_of_the_offset_can_open_a_window() {
    let skipped = windows(&["Sun 02:30-04:00 Europe/Berlin"], &[]);
    assert_eq!(skipped.opens(datetime!(2026-03-28 12:00 UTC)), Some(datetime!(2026-03-29 03:00 +2)));
    let repeated = windows(&["Sun 01:30-02:30 Europe/Berlin"], &[]);
    assert_eq!(repeated.opens(datetime!(2026-10-25 00:45 UTC)), Some(datetime!(2026-10-25 02:00 +1)));
}

#[test]
fn closed_dates_delay_the_next_opening() {
    let now = datetime!(2026-12-23 12:00 UTC);
    let holidays = &["2026-12-24/2027-01-04 Asia/Tokyo"];
    let window = windows(&["Mon-Thu 10:00-16:00 Asia/Tokyo"], holidays);
    assert_eq!(window.opens(now), Some(datetime!(2027-01-05 10:00 +9)));
    let closed_only = windows(&[], holidays);
    assert_eq!(closed_only.opens(now), Some(now));
    assert_eq!(closed_only.opens(datetime!(2026-12-26 00:00 UTC)), Some(datetime!(2027-01-05 00:00 +9)));
    // On 2026-09-06, Santiago skips the hour after midnight.
    let skipped = windows(&[], &["2026-09-01/2026-09-05 America/Santiago"]);
    assert_eq!(skipped.opens(datetime!(2026-09-03 00:00 UTC)), Some(datetime!(2026-09-06 01:00 -3)));
    let years = windows(&["Sun 01:00-02:00 UTC"], &["2026-01-01/2030-12-31 UTC", "2031-01-01/2034-06-30 UTC"]);
    assert_eq!(years.opens(now), Some(datetime!(2034-07-02 01:00 UTC)));
}

#[test]
fn windows_that_cannot_be_looked_up_are_never_open() {
    let now = datetime!(2026-11-30 12:00 UTC);
    for (open, closed) in
        [(&["Mon-Sun 00:00-24:00 Mars/Olympus"][..], &[][..]), (&[], &["2020-01-01/2020-01-02 Mars/Olympus"])]
    {
        let unknown = parse(open, closed).unwrap();
        assert!(!unknown.is_open(now));
        assert_eq!(unknown.opens(now), None);
    }
}

/// Each case is a window, and a part of the reason.
#[test]
fn a_malformed_window_is_refused_with_the_fix() {
    let cases = [
        ("", "write days, times and a zone"),
        ("10:00-16:00 Asia/Tokyo", "write days, times and a zone"),
        ("Mon 10:00-16:00", "write days, times and a zone"),
        ("Mon, Wed 10:00-16:00 Asia/Tokyo", "write days, times and a zone"),
        ("monday 10:00-16:00 UTC", "write `Mon`"),
        ("Mon-Fryday 10:00-16:00 UTC", "`Fryday`"),
        ("Mon- 10:00-16:00 UTC", "no day ``"),
        ("Mon,,Tue 10:00-16:00 UTC", "no day ``"),
        ("Mon-Tue-Wed 10:00-16:00 UTC", "`Tue-Wed`"),
        ("Mon-Mon 10:00-16:00 UTC", "write `Mon`, or `Mon-Sun`"),
        ("月 10:00-16:00 UTC", "`月`"),
        ("Mon 10:00 UTC", "write a begin and an end"),
        ("Mon 9:00-17:00 UTC", "`9:00`"),
        ("Mon 10-16 UTC", "`10`"),
        ("Mon 10:00-16:60 UTC", "`16:60`"),
        ("Mon 10:00-24:01 UTC", "`24:01`"),
        ("Mon 10:00-+6:00 UTC", "`+6:00`"),
        ("Mon 10:00-16:00:00 UTC", "`16:00:00`"),
        ("Mon 24:00-10:00 UTC", "`00:00`"),
        ("Mon 10:00-10:00 UTC", "`00:00-24:00`"),
        ("Mon 00:00-00:00 UTC", "`00:00-24:00`"),
        ("Mon 24:00-24:00 UTC", "24:00"),
        ("Mon 10:00-16:00 +09:00", "`Asia/Tokyo`"),
        ("Mon 10:00-16:00 Asia/", "`Asia/Tokyo`"),
        ("Mon 10:00-16:00 asia/tokyo", "write `Asia/Tokyo`"),
        ("Mon 10:00-16:00 JST", "such as `Asia/Tokyo`"),
    ];
    for (window, part) in cases {
        let (place, reason) = parse(&["Mon 10:00-16:00 UTC", window], &[]).and_then(|read| read.check()).unwrap_err();
        assert_eq!(place, "windows[1]", "{window}: {reason}");
        assert!(reason.contains(part), "{window}: {reason}");
    }
    let (place, reason) = Windows::parse(Some(&[]), &[]).unwrap_err();
    assert!(place == "windows" && reason.contains("remove the key"), "{place}: {reason}");
}

#[test]
fn malformed_closed_dates_are_refused_with_the_fix() {
    let cases = [
        ("", "write the first and the last day"),
        ("2026-12-24/2027-01-04", "write the first and the last day"),
        ("2026-12-24 Asia/Tokyo", "a single day"),
        ("2026-12-24..2027-01-04 Asia/Tokyo", "write the first and the last day"),
        ("2026-12-24/2026-12-23 UTC", "earlier day first"),
        ("2026-02-29/2026-03-01 UTC", "`2026-02-29`"),
        ("24.12.2026/2027-01-04 UTC", "`24.12.2026`"),
        ("2026-12-24/2027-01-04T00:00 UTC", "`2027-01-04T00:00`"),
        ("2026-12-24/2027-01-04 Tokyo", "write `Asia/Tokyo`"),
        ("2026-12-24/2099-12-31 UTC", "no window opens for ten years"),
        ("2026-12-24/9999-12-31 UTC", "no window opens for ten years"),
        ("9999-12-24/9999-12-31 UTC", "no window opens for ten years"),
    ];
    for (closed, part) in cases {
        let (place, reason) = parse(&["Mon 10:00-16:00 UTC"], &["2020-01-01/2020-01-01 UTC", closed])
            .and_then(|read| read.check())
            .unwrap_err();
        assert_eq!(place, "closed[1]", "{closed}: {reason}");
        assert!(reason.contains(part), "{closed}: {reason}");
    }
    // Either range alone leaves room, and both together do not.
    let both = parse(&[], &["2026-01-01/2031-12-31 UTC", "2032-01-01/2037-12-31 UTC"]).unwrap();
    assert_eq!(both.check().unwrap_err().0, "closed[0]");
}

fn any_window() -> impl Strategy<Value = String> {
    const ZONES: [&str; 6] =
        ["Europe/Berlin", "America/New_York", "Asia/Tokyo", "Australia/Lord_Howe", "UTC", "America/Santiago"];
    const DAYS: [&str; 5] = ["Mon", "Sat-Sun", "Mon-Fri", "Sun", "Fri-Mon"];
    let steps = 0..=96_u16;
    (prop::sample::select(&DAYS[..]), steps.clone(), steps, prop::sample::select(&ZONES[..])).prop_map(
        |(days, begin, end, zone)| {
            let begin = begin % 96;
            let end = if begin == end { 96 } else { end };
            let time = |step: u16| format!("{:02}:{:02}", step / 4, step % 4 * 15);
            format!("{days} {}-{} {zone}", time(begin), time(end))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// The days around the changes of the offset, in quarters of an hour, because all windows and changes begin there.
    #[test]
    fn the_next_opening_is_the_first_time_that_is_open(
        open in proptest::collection::vec(any_window(), 1..3),
        first_closed in 0_i64..10,
        start in prop::sample::select(&[
            datetime!(2026-03-05 00:00 UTC), datetime!(2026-03-26 00:00 UTC), datetime!(2026-04-02 00:00 UTC),
            datetime!(2026-09-03 00:00 UTC), datetime!(2026-10-01 00:00 UTC), datetime!(2026-10-22 00:00 UTC),
            datetime!(2026-10-29 00:00 UTC),
        ][..]),
        quarter in 0_i64..500,
    ) {
        let first = start.date() + Duration::days(first_closed);
        let closed = format!("{first}/{} Europe/Berlin", first + Duration::DAY);
        let windows = Windows::parse(Some(&open), &[closed]).unwrap();
        let now = start + Duration::minutes(15 * quarter);
        let calendar = windows.calendar().unwrap();
        let expected = (0..24 * 4 * 20).map(|i| now + Duration::minutes(15 * i)).find(|at| calendar.is_open(*at));
        prop_assert_eq!(windows.opens(now), expected);
    }
}
