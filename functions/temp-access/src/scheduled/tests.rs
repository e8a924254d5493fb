use sekisho_domain::config::Document;
use time::Duration;
use time::macros::datetime;

use super::*;
use crate::row::{Consent, State};

const FROM: OffsetDateTime = datetime!(2026-12-01 13:00 UTC);
const CONFIG: &str = r#"
    [access]
    default_minutes = 60
    max_minutes     = 120
    default_profile = "admin"
    [access.profiles.admin]
    statements = [{ actions = ["*"], resources = ["*"] }]
    [access.people.hana]
    may_ask = ["admin"]
    [access.people.taro]
"#;

fn access(config: &str) -> Access {
    Document::parse("sekisho.toml", config).unwrap().access().unwrap()
}

fn row(access: &Access, approved_by: Option<&str>) -> GrantRow {
    let window = Window { start: FROM, end: FROM + Duration::hours(2) };
    let mut row = GrantRow::held(State::Intent, window, "one", None, FROM - Duration::DAY).settled(State::Granted);
    row.consent = Consent {
        door: Some("hana".to_owned()),
        approved_by: approved_by.map(str::to_owned),
        allows: access.profiles.values().next().map(policy::fingerprint),
        ..Consent::default()
    };
    row
}

fn judge(row: &GrantRow, config: &str) -> Verdict {
    verdict(
        &Scheduled { profile: "admin", window: row.window(), document: None, extended: None, row: Some(row) },
        &access(config),
    )
}

#[test]
fn a_scheduled_grant_keeps_while_everything_fits() {
    let row = row(&access(CONFIG), Some("taro"));
    assert_eq!(judge(&row, CONFIG), Verdict::Keeps);
    assert_eq!(judge(&row, &CONFIG.replacen("max_minutes     = 120", "max_minutes = 480", 1)), Verdict::Keeps);
}

#[test]
fn any_change_of_the_profile_or_of_the_doors_ends_a_scheduled_grant() {
    let row = row(&access(CONFIG), Some("taro"));
    let statements = "statements = [{ actions = [\"*\"], resources = [\"*\"] }]";
    for (from, to) in [
        ("actions = [\"*\"]", "actions = [\"s3:*\"]"),
        ("resources = [\"*\"]", "resources = [\"arn:aws:s3:::a\"]"),
        (statements, &format!("{statements}\nrequire_mfa = true")),
        (statements, &format!("{statements}\nmfa_minutes = 60")),
        (statements, &format!("{statements}\nsource_ips = [\"203.0.113.0/24\"]")),
        ("people.hana", "people.hanako"),
        ("people.taro", "people.jiro"),
    ] {
        let verdict = judge(&row, &CONFIG.replacen(from, to, 1));
        assert!(matches!(verdict, Verdict::Ends(_)), "{to}: {verdict:?}");
    }
    let gone = CONFIG.replace("admin", "other");
    assert!(matches!(judge(&row, &gone), Verdict::Ends(why) if why.contains("is gone from the configuration")));
}

#[test]
fn a_grant_without_an_approval_ends_if_its_profile_needs_one_by_now() {
    let needs = CONFIG.replacen("[access.people.hana]", "approval = \"another\"\n[access.people.hana]", 1);
    let access = access(CONFIG);
    assert!(matches!(judge(&row(&access, None), &needs), Verdict::Ends(why) if why.contains("needs an approval")));
    assert_eq!(judge(&row(&access, Some("taro")), &needs), Verdict::Keeps);
    // Without a row, there is no approval on record.
    let window = row(&access, None).window();
    let unrecorded = Scheduled { profile: "admin", window, document: None, extended: None, row: None };
    assert!(matches!(verdict(&unrecorded, &self::access(&needs)), Verdict::Ends(_)));
}

#[test]
fn a_smaller_limit_shortens_a_scheduled_grant_and_its_chain_counts() {
    let mut row = row(&access(CONFIG), None);
    let limit = |minutes: u32| {
        let default = CONFIG.replacen("default_minutes = 60", "default_minutes = 1", 1);
        default.replacen("max_minutes     = 120", &format!("max_minutes = {minutes}"), 1)
    };
    assert_eq!(judge(&row, &limit(119)), Verdict::Shortens(FROM + Duration::minutes(119)));
    row.from = Some(FROM);
    row.start = FROM - Duration::minutes(60);
    row.end = FROM + Duration::minutes(60);
    assert_eq!(judge(&row, &limit(120)), Verdict::Keeps);
    assert_eq!(judge(&row, &limit(90)), Verdict::Shortens(FROM + Duration::minutes(30)));
    assert!(matches!(judge(&row, &limit(60)), Verdict::Ends(why) if why.contains("nothing is left")));
}

#[test]
fn without_a_fingerprint_the_policys_text_is_compared() {
    let access = access(CONFIG);
    let window = row(&access, None).window();
    let document = policy::document(access.profiles.values().next().unwrap(), window, FROM - Duration::DAY);
    let judge = |document: &str| {
        verdict(&Scheduled { profile: "admin", window, document: Some(document), extended: None, row: None }, &access)
    };
    assert_eq!(judge(&document), Verdict::Keeps);
    // An earlier version wrote two minutes in front.
    assert_eq!(judge(&policy::document(access.profiles.values().next().unwrap(), window, FROM)), Verdict::Keeps);
    assert!(matches!(judge(&document.replace("\"*\"", "\"s3:*\"")), Verdict::Ends(_)));
    // Without the text, nothing shows what was granted.
    let mut row = row(&access, Some("taro"));
    row.consent.allows = None;
    assert!(matches!(self::judge(&row, CONFIG), Verdict::Ends(why) if why.contains("has changed")));
}

/// The configuration ends no live access.
#[test]
fn what_an_extension_extends_goes_on() {
    let config = access(CONFIG);
    let row = row(&config, Some("taro"));
    let judge = |config: &str, extended| {
        let scheduled = Scheduled { profile: "admin", window: row.window(), document: None, extended, row: Some(&row) };
        verdict(&scheduled, &access(config))
    };
    let end = FROM + Duration::hours(1);
    assert_eq!(judge(CONFIG, Some(end)), Verdict::Keeps);
    let changed = CONFIG.replace("actions = [\"*\"]", "actions = [\"s3:*\"]");
    assert!(matches!(judge(&changed, Some(end)), Verdict::ExtendsNothing(at, _) if at == end));
    assert!(matches!(judge(&changed, None), Verdict::Ends(_)));
    for (most, expected) in [(30, None), (60, None), (90, Some(FROM + Duration::minutes(90)))] {
        let lower = CONFIG.replace("default_minutes = 60", "default_minutes = 30");
        let lower = lower.replace("max_minutes     = 120", &format!("max_minutes = {most}"));
        match (judge(&lower, Some(end)), expected) {
            (Verdict::Shortens(at), Some(expected)) => assert_eq!(at, expected),
            (Verdict::ExtendsNothing(at, _), None) => assert_eq!(at, end),
            (found, _) => panic!("{most}: {found:?}"),
        }
    }
}
