use sekisho_domain::config::Document;
use sekisho_lambda::Failure;
use time::macros::datetime;

use super::*;
use crate::request::Grant;

const NOW: OffsetDateTime = datetime!(2026-11-21 20:45 UTC);
const CONFIG: &str = r#"
    [access]
    default_minutes = 60
    max_minutes     = 480
    default_profile = "admin"
    [access.profiles.admin]
    statements = [{ actions = ["*"], resources = ["*"] }]
    approval   = "another"
    [access.profiles.glass]
    statements  = [{ actions = ["*"], resources = ["*"] }]
    break_glass = true
    [access.people.hana]
    may_ask     = ["admin", "glass"]
    for         = ["user/prd-hana"]
    may_approve = ["admin", "glass"]
    [access.people.taro]
    may_ask     = ["admin"]
    for         = ["user/prd-taro"]
    may_approve = ["admin", "glass"]
    [access.people.jun]
"#;

fn access(config: &str) -> Access {
    Document::parse("sekisho.toml", config).unwrap().access().unwrap()
}

fn door(name: &str) -> Door {
    Door::named(name).unwrap()
}

fn grant(profile: &str, from: Option<OffsetDateTime>) -> Grant {
    Grant {
        principal: Principal::new(Kind::User, "prd-hana").unwrap(),
        minutes: Some(30),
        from,
        profile: Some(profile.to_owned()),
        reason: None,
        dry_run: false,
    }
}

fn waiting(access: &Access, from: Option<OffsetDateTime>, request: &str) -> PendingRow {
    let grant = grant("admin", from);
    let row = PendingRow::waiting(&Terms::of(&grant, access).unwrap(), &door("hana"), Some("fire"), request, NOW);
    PendingRow { people: people(&["hana"]), ..row }
}

fn people(names: &[&str]) -> BTreeSet<DoorName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn review(access: &Access) -> PendingRow {
    let grant = Grant { reason: Some("fire".to_owned()), ..grant("glass", None) };
    PendingRow::review(&Terms::of(&grant, access).unwrap(), &door("hana"), Some("fire"), "one", NOW)
}

fn decide(row: &PendingRow, at: &str, access: &Access, request: &str, now: OffsetDateTime) -> Result<Approving, Error> {
    approve(row, &row.principal().unwrap(), &door(at), access, request, now)
}

fn error_type<T: std::fmt::Debug>(result: Result<T, Error>) -> &'static str {
    result.unwrap_err().error_type().name()
}

#[test]
fn a_request_lapses_after_an_hour_or_when_it_should_have_started() {
    let access = access(CONFIG);
    let cases = [(None, NOW + WAITS), (Some(NOW + Duration::minutes(5)), NOW + Duration::minutes(5))];
    for (from, until) in cases {
        let row = waiting(&access, from, "one");
        assert_eq!(row.until, Some(until));
        let last = until - Duration::SECOND;
        assert!(matches!(decide(&row, "taro", &access, "two", last), Ok(Approving::Grants(_))));
        assert_eq!(error_type(decide(&row, "taro", &access, "two", until)), "NotFound");
        assert_eq!((due(&row, None, last), due(&row, None, until)), (None, Some(Due::Lapses)));
    }
    let late = waiting(&access, Some(NOW + Duration::days(1)), "one");
    assert_eq!(late.until, Some(NOW + WAITS));
}

#[test]
fn the_same_request_keeps_its_code_and_any_other_replaces_it() {
    let access = access(CONFIG);
    let row = waiting(&access, None, "one");
    let again = waiting(&access, None, "two");
    assert_ne!(row.code, again.code);
    assert_eq!(ask(Some(&row), &again, NOW).unwrap(), Asking::Waits);
    assert_eq!(ask(None, &again, NOW).unwrap(), Asking::Replaces);
    let others = [
        PendingRow { minutes: Minutes::try_from(31).unwrap(), ..again.clone() },
        PendingRow { from: Some(NOW + Duration::DAY), ..again.clone() },
        PendingRow { key: "another".to_owned(), ..again.clone() },
        PendingRow { allows: "another".to_owned(), ..again.clone() },
        PendingRow { people: people(&["hana", "jun"]), ..again.clone() },
    ];
    for other in others {
        assert_eq!(ask(Some(&row), &other, NOW).unwrap(), Asking::Replaces, "{other:?}");
    }
    // While an approval is carried out, the code stays. After one that died, it lapses with the request.
    let claimed = row.claimed(&door("taro"), "three", NOW);
    assert_eq!(ask(Some(&claimed), &again, NOW).unwrap(), Asking::Waits);
    assert_eq!(ask(Some(&claimed), &again, NOW + WAITS).unwrap(), Asking::Replaces);
    assert!(row.is_announced(NOW) && !row.is_announced(NOW + ANNOUNCED));
    for stage in [Stage::Approved, Stage::Declined, Stage::Lapsed] {
        let decided = row.decided(stage, None, "three", NOW);
        assert_eq!(ask(Some(&decided), &again, NOW).unwrap(), Asking::Replaces);
        // A repetition of a request that was decided is not a new request.
        assert_eq!(error_type(ask(Some(&decided), &row, NOW)), "Refused");
    }
}

#[test]
fn only_somebody_else_approves() {
    let access = access(CONFIG);
    let row = waiting(&access, None, "one");
    assert_eq!(decide(&row, "taro", &access, "two", NOW).unwrap(), Approving::Grants(row.minutes));
    for other in ["hana", "jun", "gone", "#channel"] {
        assert_eq!(error_type(decide(&row, other, &access, "two", NOW)), "Refused", "{other}");
    }
    // The asking door was removed, or may not ask any more.
    for (from, to) in [("people.hana", "people.hanako"), ("may_ask     = [\"admin\", \"glass\"]", "may_ask = []")] {
        let changed = self::access(&CONFIG.replacen(from, to, 1));
        assert_eq!(error_type(decide(&row, "taro", &changed, "two", NOW)), "Refused", "{to}");
    }
}

#[test]
fn a_profile_that_changed_is_not_approved_but_a_shorter_one_is() {
    let row = waiting(&access(CONFIG), None, "one");
    let changes = [
        ("actions = [\"*\"]", "actions = [\"s3:*\"]", None),
        ("approval   = \"another\"", "approval = \"another\"\nrequire_mfa = true", None),
        ("approval   = \"another\"", "approval = \"another\"\nmfa_minutes = 60", None),
        ("approval   = \"another\"", "approval = \"another\"\nsource_ips = [\"203.0.113.0/24\"]", None),
        ("approval   = \"another\"", "approval = \"another\"\nmax_minutes = 10", Some(10)),
        ("approval   = \"another\"", "approval = \"another\"\nmax_minutes = 90", Some(30)),
        ("approval   = \"another\"", "", Some(30)),
    ];
    for (from, to, expected) in changes {
        let access = access(&CONFIG.replacen(from, to, 1));
        match (decide(&row, "taro", &access, "two", NOW), expected) {
            (Ok(Approving::Grants(minutes)), Some(expected)) => assert_eq!(minutes.get(), expected, "{to}"),
            (Err(error), None) => assert_eq!(error.error_type().name(), "Refused", "{to}"),
            (other, _) => panic!("{to}: {other:?}"),
        }
    }
}

#[test]
fn a_claim_excludes_others_until_its_lease_ends_and_its_own_request_goes_on() {
    let access = access(CONFIG);
    let claimed = waiting(&access, None, "one").claimed(&door("taro"), "two", NOW);
    assert_eq!(error_type(decide(&claimed, "taro", &access, "three", NOW)), "NotFound");
    let is_open = |row: &PendingRow, request, now| decide(row, "taro", &access, request, now).is_ok();
    assert!(is_open(&claimed, "two", NOW) && is_open(&claimed, "three", NOW + LEASE_TERM));
    assert_eq!(due(&claimed, None, NOW + WAITS), Some(Due::Lapses));
    assert!(claimed.released().is_waiting(NOW) && claimed.grant_id().ends_with(claimed.code.as_str()));
    // A repetition of an approval that was carried out is answered again.
    let done = claimed.decided(Stage::Approved, Some(&door("taro")), "two", NOW);
    assert!(is_open(&done, "two", NOW) && !is_open(&done, "three", NOW));
    assert_eq!(done.expires, Some((NOW + WAITS + KEPT).unix_timestamp()));
}

#[test]
fn a_review_stays_until_another_door_closes_it() {
    let access = access(CONFIG);
    let row = review(&access);
    let year = NOW + Duration::days(365);
    assert_eq!(decide(&row, "taro", &access, "two", year).unwrap(), Approving::Closes);
    for other in ["hana", "jun"] {
        assert_eq!(error_type(decide(&row, other, &access, "two", NOW)), "Refused", "{other}");
    }
    let principal = row.principal().unwrap();
    for at in ["hana", "taro"] {
        assert_eq!(error_type(check_decline(&row, &principal, &door(at), &access, "two", NOW)), "Refused");
    }
    assert_eq!((due(&row, None, NOW + Duration::HOUR), due(&row, None, year)), (None, Some(Due::Rings)));
    assert_eq!(row.expires, None);
    // The door of whoever asked is gone, so every door that may approve is another one.
    let gone = self::access(&CONFIG.replacen("[access.people.hana]", "[access.people.hanako]", 1));
    assert_eq!(decide(&row, "taro", &gone, "two", NOW).unwrap(), Approving::Closes);
    assert_eq!(error_type(decide(&row, "jun", &gone, "two", NOW)), "Refused");
}

#[test]
fn an_approver_declines_and_the_asking_door_withdraws() {
    let access = access(CONFIG);
    let row = waiting(&access, None, "one");
    let principal = row.principal().unwrap();
    let decline = |at: &str, now| check_decline(&row, &principal, &door(at), &access, "two", now);
    assert!(decline("taro", NOW).is_ok() && decline("hana", NOW).is_ok());
    assert_eq!((error_type(decline("jun", NOW)), error_type(decline("taro", NOW + WAITS))), ("Refused", "NotFound"));
}

/// What only somebody can have asked who was removed is withdrawn, and nobody approves it any more.
#[test]
fn a_request_that_nobody_who_is_left_can_have_made_is_withdrawn() {
    let group =
        |members: &str| format!("{CONFIG}\n[access.people.group]\nmay_ask = [\"admin\"]\nmembers = [{members}]");
    let access = access(&group(r#""hana", "jun""#));
    let asked_by = |door: &str, names: &[&str]| PendingRow {
        door: door.to_owned(),
        people: people(names),
        ..waiting(&access, None, "one")
    };
    let left = |row: &PendingRow, config: &str| {
        let access = self::access(config);
        let is_due = due(row, Some(&access), NOW);
        // The sweep has not come yet, and an approval is refused already.
        let approved = decide(row, "taro", &access, "two", NOW);
        assert_eq!(approved.is_ok(), is_due.is_none(), "{approved:?}");
        is_due
    };
    let (hana, both) = (asked_by("group", &["hana"]), asked_by("group", &["hana", "jun"]));
    assert_eq!((left(&hana, &group(r#""hana""#)), left(&hana, &group(r#""jun""#))), (None, Some(Due::Withdraws)));
    assert_eq!((left(&both, &group(r#""jun""#)), left(&both, &group(r#""hana""#))), (None, None), "the other one's");
    let others = [group(r#""taro""#), CONFIG.to_owned()];
    assert!(others.iter().all(|config| left(&both, config) == Some(Due::Withdraws)));
    let nobody = asked_by("group", &[]);
    assert_eq!(left(&nobody, &group(r#""jun""#)), Some(Due::Withdraws), "it is not known who asked");
    let own = asked_by("hana", &["hana"]);
    let gone = CONFIG.replacen("[access.people.hana]", "[access.people.hanako]", 1);
    assert_eq!((left(&own, CONFIG), left(&own, &gone)), (None, Some(Due::Withdraws)));
    assert_eq!(due(&own, None, NOW), None, "the configuration cannot be read");
}

#[test]
fn the_row_is_read_back() {
    let access = access(CONFIG);
    for row in [waiting(&access, Some(NOW + Duration::DAY), "one"), review(&access)] {
        let written = serde_json::to_value(&row).unwrap();
        assert_eq!(serde_json::from_value::<PendingRow>(written).unwrap(), row);
    }
    let (slot, review) = (waiting(&access, None, "one"), review(&access));
    let principal = slot.principal().unwrap();
    assert_eq!(slot.key(&principal).sk, "user/prd-hana/admin/hana");
    assert_eq!(review.key(&principal).sk, format!("review/{}", review.code));
}

/// The doors that the board and the notices name are those at which an approval succeeds.
#[test]
fn the_approvers_are_those_whose_approval_is_taken() {
    let config = access(CONFIG);
    let gone = access(&CONFIG.replace("[access.people.hana]", "[access.people.mio]"));
    for (row, access, expected) in [
        (waiting(&config, None, "one"), &config, vec!["temp-access:taro"]),
        (review(&config), &config, vec!["temp-access:taro"]),
        (waiting(&config, None, "one"), &gone, vec![]),
        (review(&config), &gone, vec!["temp-access:taro"]),
    ] {
        assert_eq!(approvers(&row, access), expected);
        for door in access.people.keys() {
            let is_taken = decide(&row, door.as_str(), access, "two", NOW).is_ok();
            assert_eq!(is_taken, expected.contains(&format!("temp-access:{door}").as_str()), "{door}");
        }
    }
}
