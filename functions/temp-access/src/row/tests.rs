use super::*;
use time::macros::datetime;

const NOW: OffsetDateTime = datetime!(2026-11-21 20:45 UTC);
const WINDOW: Window = Window { start: NOW, end: datetime!(2026-11-21 23:45 UTC) };

#[test]
fn a_lease_excludes_others_until_it_ends() {
    let row = GrantRow::held(State::Intent, WINDOW, "one", None, NOW);
    assert!(row.is_held_by_another("two", NOW + Duration::seconds(12)));
    assert!(!row.is_held_by_another("one", NOW));
    assert!(!row.is_held_by_another("two", NOW + LEASE_TERM));
    assert!(!row.settled(State::Granted).is_held_by_another("two", NOW));
}

#[test]
fn the_latest_requests_are_remembered() {
    let mut row = GrantRow::held(State::Intent, WINDOW, "0", None, NOW).settled(State::Granted);
    for i in 1..20 {
        row = GrantRow::held(State::Intent, WINDOW, &i.to_string(), Some(&row), NOW).settled(State::Granted);
    }
    assert_eq!(row.requests, ["12", "13", "14", "15", "16", "17", "18", "19"]);
}

#[test]
fn a_row_of_an_earlier_version_is_read_and_new_fields_are_optional() {
    let old = serde_json::json!({
        "state": "revoked", "start": "2026-11-21T20:45:00Z", "end": "2026-11-21T23:45:00Z", "request": "one",
        "requests": ["one"], "claimed": 1_795_295_700_000_u64, "held_until": 0, "expires": 1_797_896_700,
    });
    let row: GrantRow = serde_json::from_value(old.clone()).unwrap();
    assert_eq!((row.ended, row.sessions_from, row.owes_notice), (None, None, false));
    assert_eq!(row.chain(), WINDOW);
    assert_eq!(serde_json::to_value(&row).unwrap(), old);
    let new = GrantRow::held(State::Revoked, WINDOW, "two", Some(&row), NOW + Duration::HOUR).free();
    let read: GrantRow = serde_json::from_value(serde_json::to_value(&new).unwrap()).unwrap();
    assert_eq!(read, new);
    assert_eq!(read.chain(), Window { start: NOW, end: NOW + Duration::HOUR });
    assert_eq!(read.sessions_from, Some(NOW));
}

#[test]
fn sessions_of_all_windows_since_the_last_end_are_due() {
    let first = GrantRow::held(State::Intent, WINDOW, "one", None, NOW).settled(State::Granted);
    let later = Window { start: WINDOW.end, end: WINDOW.end + Duration::HOUR };
    let second = GrantRow::held(State::Intent, later, "two", Some(&first), WINDOW.end);
    assert_eq!(second.sessions_from, Some(WINDOW.start));
    let ended = GrantRow { sessions_from: None, ..first };
    assert_eq!(GrantRow::held(State::Intent, later, "two", Some(&ended), NOW).sessions_from, Some(later.start));
}

#[test]
fn a_summary_counts_what_no_earlier_summary_has_counted() {
    let first = GrantRow::held(State::Intent, WINDOW, "one", None, NOW).settled(State::Granted);
    assert_eq!(first.summary_from, Some(NOW));
    let longer = Window { end: WINDOW.end + Duration::HOUR, ..WINDOW };
    let again = |before: &GrantRow, now| GrantRow::held(State::Intent, longer, "two", Some(before), now).summary_from;
    assert_eq!(again(&first, WINDOW.end + Duration::MINUTE), Some(NOW), "there was no summary yet");
    let counted = GrantRow { summary_from: None, ..first.clone() };
    let later = WINDOW.end + Duration::minutes(25);
    assert_eq!(again(&counted, later), Some(later), "the chain goes on after a summary");
    assert_eq!(again(&counted, NOW + Duration::MINUTE), Some(NOW), "an earlier version gave the access");
    let revoked = GrantRow::held(State::Revoked, WINDOW, "two", Some(&first), later);
    assert_eq!((revoked.summary_from, revoked.reminded), (Some(NOW), None));
    assert_eq!(GrantRow::held(State::Revoked, WINDOW, "two", Some(&counted), later).summary_from, None);
}

#[test]
fn keys_are_read_back() {
    let principal = Principal::new(Kind::Role, "ops+night").unwrap();
    let key = key(&principal, "sekisho-read-only");
    assert_eq!((key.pk.as_str(), key.sk.as_str()), ("grant", "role/ops+night/read-only"));
    assert_eq!(subject(&key.sk), Some((principal, "read-only")));
    let person = Principal::person("0123456789-a", Some("hana@example.com"));
    let key = super::key(&person, "sekisho-read-only");
    assert_eq!(key.sk, "person/0123456789-a/read-only");
    assert_eq!(subject(&key.sk), Some((person, "read-only")));
    for bad in ["", "user", "user/a", "group/a/b", "user//b"] {
        assert_eq!(subject(bad), None, "{bad}");
    }
}
