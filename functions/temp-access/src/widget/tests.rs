use sekisho_board::Theme;
use sekisho_domain::config::Document;
use sekisho_testing::page::{HOSTILE, assert_golden, assert_safe, long};
use serde_json::{Value, json};
use time::Duration;
use time::macros::{datetime, offset};

use super::*;
use crate::principal::Kind;

/// The time of the picture in the documentation, in which all widgets are.
const NOW: OffsetDateTime = datetime!(2026-11-21 12:30 UTC);

const CONFIG: &str = r#"
[access]
default_minutes = 60
max_minutes = 480
default_profile = "read-only"
[access.profiles.read-only]
statements = [{ actions = ["ec2:Describe*"], resources = ["*"] }]
[access.profiles.admin]
statements = [{ actions = ["*"], resources = ["*"] }]
approval = "another"
[access.people.hana]
may_ask = ["admin"]
for = ["user/hana"]
[access.people.taro]
may_approve = ["admin"]
for = ["user/taro"]
"#;

fn configuration() -> Access {
    Document::parse("sekisho.toml", CONFIG).unwrap().access().unwrap()
}

fn at(minutes: i64) -> String {
    sekisho_domain::timestamp::seconds(NOW + Duration::minutes(minutes))
}

/// A grant from `start` to `end`, in minutes from now.
fn grant(name: &str, (start, end): (i64, i64), state: &str, more: &Value) -> Grant {
    let mut row = json!({
        "state": state, "start": at(start), "end": at(end), "reason": "the nightly job failed", "request": "r",
        "requests": [], "claimed": 0, "held_until": 0, "expires": 0,
    });
    row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let principal = Principal::new(Kind::User, name).unwrap();
    Grant { principal, profile: "admin".to_owned(), row: serde_json::from_value(row).unwrap() }
}

fn request(name: &str, until: Option<i64>) -> PendingRow {
    let (code, stage, reason) = match until {
        Some(_) => ("ABCD2345", "waiting", "a release"),
        None => ("7KQ2M9XA", "review", "the site is down"),
    };
    serde_json::from_value(json!({
        "code": code, "stage": stage, "door": "hana", "kind": "user", "name": name, "key": name, "profile": "admin",
        "minutes": 60, "reason": reason, "allows": code, "asked": at(-20), "request": "r", "until": until.map(at),
    }))
    .unwrap()
}

fn shown(grants: Vec<Grant>, requests: Vec<PendingRow>) -> String {
    let access = configuration();
    let records = Records { grants, requests, unreadable: 0, access: Some(&access) };
    html(&records)
}

fn html(records: &Records<'_>) -> String {
    let html = access(&Viewer { theme: Theme::Light, now: NOW.to_offset(offset!(+9)) }, records);
    assert_safe(&html);
    html
}

#[test]
fn nobody_has_access() {
    let html = shown(vec![], vec![]);
    assert!(html.contains("Nobody has access now.") && html.contains("Nothing waits for an approval."), "{html}");
    assert_golden("access-empty", &html);
}

#[test]
fn the_sections_have_what_their_titles_say() {
    let consent = json!({"door": "hana", "approved_by": "taro", "code": "ABCD2345"});
    let glass = json!({
        "reason": "the site is down", "consent": {"door": "hana", "code": "7KQ2M9XA", "break_glass": true},
    });
    let later = json!({"from": at(600), "reason": null});
    let grants = vec![
        grant("mina", (-60, 60), "granted", &json!({"consent": consent})),
        grant("bot", (-170, 10), "granted", &json!({"consent": {"door": "hana"}, "reason": "a long report"})),
        grant("ken", (-20, 40), "granted", &glass),
        grant("lea", (-20, 45), "granted", &json!({"awaits_entry": true, "reason": "a new certificate"})),
        grant("noor", (-50, 50), "revoked", &json!({"ended": at(-1), "owes_delete": true})),
        grant("sam", (-1, 59), "intent", &json!({"reason": "a slow query"})),
        grant("yuki", (-5, 700), "granted", &later),
        grant("omar", (-300, -120), "expired", &json!({})),
        grant("ines", (-300, 120), "revoked", &json!({"ended": at(-30), "reason": "moved a queue"})),
        grant("yesterday", (-1_500, -1_400), "expired", &json!({})),
        grant("never", (-90, -30), "intent", &json!({})),
    ];
    let html = shown(grants, vec![request("hana", Some(40)), request("ken", None), request("late", Some(-1))]);
    for words in [
        "Has access now (3)",
        "May have access (3)",
        "Waits for somebody (2)",
        "Gets access later (1)",
        "Ended today (2)",
    ] {
        assert!(html.contains(words), "{words}: {html}");
    }
    for words in [
        "1h left",
        "approved by <bdi>taro</bdi>",
        "uncertain",
        "No reason given",
        "may be approved at <bdi>temp-access:taro",
        "the review may be closed at <bdi>temp-access:taro",
        "no approval needed",
        "revoke unfinished",
        "not in sekisho-window yet",
    ] {
        assert!(html.contains(words), "{words}: {html}");
    }
    for name in ["yesterday", "never", "late"] {
        assert!(!html.contains(&format!("<bdi>{name}</bdi>")), "{name}: {html}");
    }
    assert_golden("access-ordinary", &html);
}

#[test]
fn a_long_list_is_cut() {
    let grants = (0..1_000).map(|n| grant(&format!("user-{n:04}"), (-60, 60 + n), "granted", &json!({}))).collect();
    let html = shown(grants, (0..150).map(|n| request(&format!("asks-{n:04}"), Some(40))).collect());
    assert!(html.contains("Has access now (1000)") && html.contains("… and 900 more"), "{html}");
    assert!(html.contains("user-0099") && !html.contains("user-0100") && html.contains("… and 50 more"), "{html}");
    assert_golden("access-huge", &html);
}

/// Whoever can ask for much could otherwise hide the review of a break-glass grant.
#[test]
fn a_review_is_first_in_a_long_list() {
    let mut requests: Vec<PendingRow> = (0..150).map(|n| request(&format!("asks-{n:04}"), Some(40))).collect();
    requests.push(request("glass", None));
    let html = shown(vec![], requests);
    assert!(html.contains("<bdi>glass</bdi>") && html.contains("… and 51 more"), "{html}");
}

#[test]
fn access_that_a_revoke_could_not_end_counts_as_access() {
    let row = json!({"ended": at(-1), "owes_delete": true});
    let html = shown(vec![grant("throttled", (-50, 50), "revoked", &row)], vec![]);
    assert!(
        html.contains("May have access (1)") && !html.contains("Nobody has") && html.contains("No access ended"),
        "{html}"
    );
    let row = json!({"ended": at(-60), "owes_delete": true, "from": at(-90)});
    let html = shown(vec![grant("over", (-90, -30), "revoked", &row)], vec![]);
    assert!(html.contains("Nobody has access now.") && html.contains("Ended today (1)"), "{html}");
}

#[test]
fn text_of_strangers_stays_text() {
    let text = format!("{HOSTILE} {}", long());
    let consent = json!({"door": text, "approved_by": text, "break_glass": true});
    let mut hostile = grant("ops", (-60, 60), "granted", &json!({"reason": text, "consent": consent}));
    hostile.principal = Principal::person("90671b5c-1", Some(&text));
    hostile.profile.clone_from(&text);
    let mut wide = grant("wide", (-60, -10), "expired", &json!({"reason": long()}));
    wide.profile = long();
    let mut asks = request(&text, Some(40));
    (asks.kind, asks.door, asks.reason) = (text.clone(), text.clone(), Some(text.clone()));
    let access = configuration();
    let records = Records { grants: vec![hostile, wide], requests: vec![asks], unreadable: 3, access: Some(&access) };
    let html = html(&records);
    assert!(html.contains("&lt;script&gt;") && html.contains("3 rows of the ledger cannot be read"), "{html}");
    assert_golden("access-hostile", &html);
    let chat = "<!channel> <cwdb-action action=\"call\">x</cwdb-action>";
    let html = shown(vec![grant("ops", (-60, 60), "granted", &json!({"reason": chat}))], vec![]);
    assert!(!html.contains("<!channel>") && !html.contains("<cwdb-action"), "{html}");
}

#[test]
fn without_a_configuration_nobody_may_approve() {
    let records = Records { grants: vec![], requests: vec![request("hana", Some(40))], unreadable: 0, access: None };
    assert!(html(&records).contains("no door may approve it"));
}
