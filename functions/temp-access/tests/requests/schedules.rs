//! Grants that start in the future.

use sekisho_domain::config::Document;
use sekisho_lambda::Failure;
use serde_json::json;
use temp_access::principal::Kind::User;
use temp_access::row::State;
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::time::advance;

use crate::account::{Account, BEGIN, CONFIG, Fault, LIST, REVOKE, minutes};
use crate::approvals::{DOORS, approve, ask};
use crate::people;

const FROM: OffsetDateTime = datetime!(2026-11-22 22:00 UTC);
/// Two hours from 22:00 UTC on the next day.
const LATER: &str = r#"{"user":"prd-user","minutes":120,"from":"2026-11-23T07:00:00+09:00","reason":"move"}"#;

fn times(account: &Account, profile: &str) -> Option<(String, String)> {
    let policies = account.cloud.policies(User, "prd-user");
    let document: serde_json::Value = serde_json::from_str(policies.get(profile)?).unwrap();
    let condition = &document["Statement"][0]["Condition"];
    let time = |operator: &str| condition[operator]["aws:CurrentTime"].as_str().unwrap().to_owned();
    Some((time("DateGreaterThanEquals"), time("DateLessThan")))
}

fn scheduled() -> (String, String) {
    ("2026-11-22T22:00:00Z".to_owned(), "2026-11-23T00:00:00Z".to_owned())
}

async fn refusal(account: &Account, payload: &str) -> (&'static str, String) {
    let error = account.invoke(payload).await.unwrap_err();
    (error.error_type().name(), error.to_string())
}

fn reconfigure(account: &mut Account, config: &str) {
    account.function.access = Document::parse("sekisho.toml", config).unwrap().access();
}

#[tokio::test(start_paused = true)]
async fn a_start_in_the_future_is_in_the_policy_and_in_the_list() {
    let account = Account::new();
    let preview = account.text(&LATER.replace('}', ",\"dry_run\":true}")).await;
    assert!(preview.contains("would get admin for 120 min, from 2026-11-22T22:00:00Z") && !account.cloud.wrote());
    let answer = account.text(LATER).await;
    assert!(answer.starts_with("End time is 2026-11-23T00:00:00Z\n"), "{answer}");
    assert!(answer.contains("will have admin for 120 min, from 2026-11-22T22:00:00Z"), "{answer}");
    assert_eq!(times(&account, "sekisho-admin"), Some(scheduled()));
    assert_eq!(account.outcomes(), ["scheduled"]);
    let decision = &account.decisions()[0];
    assert_eq!(
        (&decision["start"], &decision["until"]),
        (&json!("2026-11-22T22:00:00Z"), &json!("2026-11-23T00:00:00Z"))
    );
    let notice = &account.cloud.published()[0];
    assert!(notice.contains("Will be let in: user prd-user from 2026-11-22T22:00:00Z until"), "{notice}");
    assert!(notice.contains("\\\"access\\\":\\\"scheduled\\\""), "{notice}");
    let listed = account.text(LIST).await;
    let line = "user prd-user: admin from 2026-11-22T22:00:00Z until 2026-11-23T00:00:00Z (scheduled): move";
    assert_eq!(listed, line);
    // A sweep and a follow-up leave it alone.
    assert_eq!(account.sweep().await, ["idle"]);
    assert!(account.follow_up().await.is_empty());
    // After the start, it is like any other grant, and can be extended.
    advance(minutes(25 * 60 + 20)).await;
    assert!(account.text(LIST).await.contains("admin until 2026-11-23T00:00:00Z (1 h 54 min left)"));
    let answer = account.text(r#"{"user":"prd-user","minutes":300}"#).await;
    assert!(answer.starts_with("End time is 2026-11-23T03:05:0"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_start_is_in_the_next_fourteen_days() {
    let account = Account::new();
    let at = |at: &str| json!({"user": "prd-user", "minutes": 30, "from": at}).to_string();
    let cases = [
        ("2026-11-21T20:45:00Z", "in the past"),
        ("2020-01-01T00:00:00Z", "in the past"),
        ("2026-12-05T20:46:00Z", "more than 14 days ahead"),
        ("2026-11-22", "with its offset"),
        ("2026-11-22T22:00:00", "with its offset"),
        ("tomorrow", "with its offset"),
    ];
    for (from, expected) in cases {
        let (error_type, message) = refusal(&account, &at(from)).await;
        assert!(error_type == "InvalidRequest" && message.contains(expected), "{from}: {message}");
    }
    assert!(!account.cloud.wrote());
    let answer = account.text(&at("2026-12-05T20:44:00Z")).await;
    assert!(answer.starts_with("End time is 2026-12-05T21:14:00Z"), "{answer}");
}

/// A policy has one window, so nothing is granted beside a scheduled grant, and nothing is scheduled beside a live one.
#[tokio::test(start_paused = true)]
async fn a_scheduled_profile_takes_no_other_request_until_it_is_revoked() {
    let account = Account::new();
    account.text(LATER).await;
    for payload in [r#"{"user":"prd-user"}"#, LATER, &LATER.replace("120", "10")] {
        let (error_type, message) = refusal(&account, payload).await;
        assert!(error_type == "Refused" && message.contains("revoke it first"), "{message}");
    }
    assert_eq!(times(&account, "sekisho-admin"), Some(scheduled()));
    // Another profile is independent of it.
    account.text(r#"{"user":"prd-user","profile":"read-only"}"#).await;
    let answer = account.text(REVOKE).await;
    assert!(answer.contains("sekisho-admin, sekisho-read-only removed"), "{answer}");
    let row = account.row("user/prd-user/admin").await.unwrap().state;
    assert_eq!((row.state, account.admin_end()), (State::Revoked, None));
    // A chain that never began takes nothing from the next one.
    advance(minutes(3)).await;
    let answer = account.text(r#"{"user":"prd-user","minutes":480}"#).await;
    assert!(
        answer.starts_with("End time is 2026-11-22T04:48:0") && !answer.contains("earlier than requested"),
        "{answer}"
    );
    let (error_type, message) = refusal(&account, LATER).await;
    assert!(error_type == "Refused" && message.contains("leave out `from`"), "{message}");
}

/// A scheduled grant within `rest_minutes` after a chain continues that chain, but gives no access in between.
#[tokio::test(start_paused = true)]
async fn a_scheduled_grant_counts_in_the_chain() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":400}"#).await;
    advance(minutes(401)).await;
    let from = BEGIN + minutes(420);
    let at = sekisho_domain::timestamp::seconds(from);
    let answer = account.text(&json!({"user": "prd-user", "minutes": 200, "from": at}).to_string()).await;
    // The chain began at 20:45 and ends after eight hours.
    assert!(answer.starts_with("End time is 2026-11-22T04:45:0"), "{answer}");
    assert!(answer.contains("earlier than requested"), "{answer}");
    assert_eq!(times(&account, "sekisho-admin").unwrap().0, "2026-11-22T03:45:00Z");
    let row = account.row("user/prd-user/admin").await.unwrap().state;
    assert_eq!((row.start, row.from), (BEGIN, Some(from)));
    // The chain is not renewed by an extension after the start.
    advance(minutes(30)).await;
    let answer = account.text(r#"{"user":"prd-user","minutes":200}"#).await;
    assert!(answer.starts_with("End time is 2026-11-22T04:45:0"), "{answer}");
}

/// A grant that is scheduled and revoked lies between two grants, but the second one still continues the chain.
#[tokio::test(start_paused = true)]
async fn scheduling_and_revoking_does_not_begin_a_new_chain() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":480}"#).await;
    advance(minutes(470)).await;
    account.text(REVOKE).await;
    for _ in 0..2 {
        advance(minutes(1)).await;
        account.text(&LATER.replace("23T07", "24T07")).await;
        advance(minutes(1)).await;
        account.text(REVOKE).await;
    }
    let answer = account.text(r#"{"user":"prd-user","minutes":480}"#).await;
    assert!(answer.starts_with("End time is 2026-11-22T04:45:0"), "{answer}");
    // After the rest, a new chain begins.
    advance(minutes(45)).await;
    let answer = account.text(r#"{"user":"prd-user","minutes":480}"#).await;
    assert!(answer.starts_with("End time is 2026-11-22T13:"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_sweep_ends_or_shortens_what_the_configuration_does_not_allow_any_more() {
    let statements = "statements = [{ actions = [\"*\"], resources = [\"*\"] }]";
    let cases = [
        (statements, "statements = [{ actions = [\"s3:*\"], resources = [\"*\"] }]".to_owned(), None),
        (statements, format!("{statements}\nrequire_mfa = true"), None),
        (statements, format!("{statements}\napproval = \"another\""), None),
        (statements, format!("{statements}\nmax_minutes = 30"), Some("2026-11-22T22:30:00Z")),
    ];
    for (from, to, end) in cases {
        let mut account = Account::new();
        account.text(LATER).await;
        reconfigure(&mut account, &CONFIG.replacen(from, &to, 1));
        let expected = if end.is_some() { "scheduled" } else { "revoked" };
        assert_eq!(account.sweep().await, [expected], "{to}");
        assert_eq!(account.admin_end().as_deref(), end, "{to}");
        let notice = account.cloud.published().pop().unwrap();
        let title = if end.is_some() { "Shortened before its start" } else { "Ended before its start" };
        assert!(notice.contains(title), "{notice}");
        let decision = account.decisions().pop().unwrap();
        assert_eq!((&decision["profile"], &decision["start"]), (&json!("admin"), &json!("2026-11-22T22:00:00Z")));
        assert_eq!(account.sweep().await, ["idle"]);
        let row = account.row("user/prd-user/admin").await.unwrap().state;
        assert_eq!(row.state, if end.is_some() { State::Granted } else { State::Revoked });
        assert!(!row.lease.is_held(account.now(), std::time::Duration::from_secs(13)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_door_that_is_gone_ends_what_it_asked_for_or_approved() {
    for gone in ["hana", "taro"] {
        let mut account = Account::with(DOORS);
        let code = ask(&account, "hana", LATER).await;
        let answer = account.text_at("taro", &approve(&code)).await;
        assert!(answer.starts_with("End time is 2026-11-23T00:00:00Z") && answer.contains("approved at the door taro"));
        assert_eq!(times(&account, "sekisho-admin"), Some(scheduled()));
        assert_eq!(account.sweep().await, ["idle"]);
        let without = DOORS.replace(&format!("[access.people.{gone}]"), "[access.people.other]");
        let without = without.replace("[\"hana\", \"taro\"]", "[\"jun\"]");
        reconfigure(&mut account, &without);
        assert_eq!(account.sweep().await, ["revoked"], "{gone}");
        assert_eq!(account.admin_end(), None);
        assert!(account.cloud.published().pop().unwrap().contains(&format!("the door {gone}")));
    }
}

/// The notice or the decision of the grant is missing, and somebody revokes it before the next follow-up.
#[tokio::test(start_paused = true)]
async fn a_scheduled_grant_that_was_revoked_before_its_start_let_nobody_in() {
    for (is_recorded, is_deleted) in [(false, true), (true, true), (true, false)] {
        let account = Account::new();
        if is_recorded {
            account.cloud.fail("Publish", 1, Fault::Code("NotFound", 404));
        } else {
            account.fail_ledger(|operation| operation == "record");
        }
        account.text(LATER).await;
        account.fail_ledger(|_| false);
        if is_deleted {
            account.text(REVOKE).await;
        } else {
            account.cloud.fail("DeleteUserPolicy", 10_000, Fault::Code("Throttling", 400));
            account.invoke(REVOKE).await.unwrap_err();
            // Nobody knows yet whether the policy will be deleted before the start.
            assert!(account.follow_up().await.is_empty());
            account.cloud.heal();
            assert_eq!(account.follow_up().await, ["revoked"]);
        }
        let sent = account.cloud.published();
        advance(minutes(1)).await;
        assert_eq!(account.follow_up().await, ["scheduled"]);
        assert_eq!(account.cloud.published(), sent);
        let decision = account.decisions().pop().unwrap();
        let field = |name: &str| decision[name].as_str().unwrap().to_owned();
        assert_eq!((field("start"), field("because")), ("2026-11-22T22:00:00Z".to_owned(), "move".to_owned()));
        // The audit counts no hours, because the end is before the start.
        assert!(field("until").starts_with("2026-11-21T20:4"), "{decision}");
        assert!(account.follow_up().await.is_empty());
    }
}

/// Until shortly before its start, only the ledger has the access of a person.
#[tokio::test(start_paused = true)]
async fn a_door_that_is_gone_ends_what_it_asked_for_or_approved_for_a_person() {
    let doors = DOORS.replace("user/prd-user", "person/hana@example.com");
    for gone in ["hana", "taro"] {
        let mut account = people::account(0);
        reconfigure(&mut account, &doors);
        let code =
            ask(&account, "hana", &LATER.replace(r#""user":"prd-user""#, r#""person":"hana@example.com""#)).await;
        account.text_at("taro", &approve(&code)).await;
        assert_eq!(account.sweep().await, ["idle"]);
        let without = doors.replace(&format!("[access.people.{gone}]"), "[access.people.other]");
        reconfigure(&mut account, &without.replace("[\"hana\", \"taro\"]", "[\"jun\"]"));
        assert_eq!(account.sweep().await, ["revoked"], "{gone}");
        assert!(account.cloud.published().pop().unwrap().contains(&format!("the door {gone}")));
        advance(minutes(25 * 60 + 20)).await;
        account.follow_up().await;
        assert!(people::let_in(&account).is_empty());
    }
}

/// A request with a start lapses when it should have started.
#[tokio::test(start_paused = true)]
async fn a_request_that_should_have_started_is_not_approved() {
    let account = Account::with(DOORS);
    let from = sekisho_domain::timestamp::seconds(BEGIN + minutes(10));
    let code = ask(&account, "hana", &json!({"user": "prd-user", "minutes": 30, "from": from}).to_string()).await;
    advance(minutes(10)).await;
    assert_eq!(account.invoke_at("taro", &approve(&code)).await.unwrap_err().error_type().name(), "NotFound");
    assert_eq!(account.sweep().await, ["lapsed"]);
    assert!(account.now() < FROM && !account.cloud.wrote());
}

#[tokio::test(start_paused = true)]
async fn a_repeated_scheduled_request_is_one_grant() {
    let account = Account::new();
    let first = crate::account::text(account.invoke_as("one", LATER).await);
    let again = crate::account::text(account.invoke_as("one", LATER).await);
    assert_eq!(first.lines().next(), again.lines().next());
    assert_eq!(account.outcomes(), ["scheduled", "unchanged"]);
    assert_eq!(times(&account, "sekisho-admin"), Some(scheduled()));
    let row = account.row("user/prd-user/admin").await.unwrap().state;
    assert_eq!((row.from, row.consent.allows.is_some()), (Some(FROM), true));
}
