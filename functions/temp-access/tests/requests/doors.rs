//! Requests through doors: the alias decides what may be asked.

use sekisho_domain::config::Document;
use sekisho_lambda::Failure;
use temp_access::answer::Answer;
use temp_access::error::Error;

use crate::account::{Account, GRANT, LIST, REVOKE, SWEEP};

/// Hana may ask for `admin` for prd-user, and for `glass`; the group `crew` may ask for `admin` for anybody.
pub const DOORS: &str = r#"
[access]
default_minutes = 180
max_minutes     = 480
default_profile = "read-only"
[access.profiles.read-only]
statements = [{ actions = ["ec2:Describe*"], resources = ["*"] }]
[access.profiles.admin]
statements = [{ actions = ["*"], resources = ["*"] }]
approval = "another"
[access.profiles.glass]
statements = [{ actions = ["*"], resources = ["*"] }]
break_glass = true
[access.people.hana]
may_ask = ["admin", "glass", "read-only"]
for = ["user/prd-user"]
[access.people.taro]
may_approve = ["admin"]
for = []
[access.people.crew]
members = ["hana", "taro"]
may_ask = ["admin", "glass"]
[access.people.jun]
may_approve = ["admin"]
for = []
"#;

/// The type of the error; `None` for an answer.
fn error_type(answer: Result<Answer, Error>) -> Option<&'static str> {
    answer.err().map(|error| error.error_type().name())
}

#[tokio::test(start_paused = true)]
async fn an_alias_that_is_no_door_is_refused() {
    let account = Account::with(DOORS);
    for alias in ["$LATEST", "7", "gone", "Hana", "live", "hub"] {
        for payload in [GRANT, REVOKE, LIST, r#"{"action":"help"}"#, SWEEP] {
            let answer = account.invoke_at(alias, payload).await;
            assert_eq!(error_type(answer), Some("Refused"), "{alias} {payload}");
        }
    }
    assert!(account.cloud.calls().is_empty(), "{:?}", account.cloud.calls());
    // The ledger has who tried it.
    let doors: Vec<_> = account.decisions().iter().map(|one| one["door"].as_str().unwrap().to_owned()).collect();
    assert_eq!((doors.len(), doors[0].as_str(), doors[29].as_str()), (30, "$LATEST", "hub"));
    assert!(account.outcomes().iter().all(|outcome| outcome == "refused"));
}

#[tokio::test(start_paused = true)]
async fn a_profile_is_granted_only_through_the_doors_that_may_ask_for_it() {
    let asked = |profile: &str, principal: &str| format!(r#"{{{principal},"profile":"{profile}","reason":"r"}}"#);
    let (user, role) = (r#""user":"prd-user""#, r#""role":"ops""#);
    for (alias, profile, principal, refusal) in [
        (None, "read-only", user, None),
        (None, "read-only", role, None),
        (None, "admin", user, Some("ask through `temp-access:crew`, `temp-access:hana`")),
        (None, "glass", user, Some("ask through `temp-access:hana`")),
        (Some("hana"), "read-only", user, None),
        (Some("hana"), "read-only", role, Some("may not ask for role ops")),
        (Some("hana"), "glass", user, None),
        (Some("hana"), "glass", role, Some("may not ask for role ops")),
        (Some("crew"), "glass", user, Some("ask through `temp-access:hana`")),
        (Some("crew"), "read-only", user, Some("ask through `temp-access:hana`")),
        (Some("taro"), "read-only", user, Some("ask through `temp-access:hana`")),
        (Some("taro"), "admin", user, Some("ask through `temp-access:crew`, `temp-access:hana`")),
    ] {
        let account = Account::with(DOORS);
        let answer = account.invoke_at(alias.unwrap_or_default(), &asked(profile, principal)).await;
        let what = format!("{alias:?} {profile} {principal}: {answer:?}");
        match (answer, refusal) {
            (Ok(Answer::Text(text)), None) => assert!(text.starts_with("End time is "), "{what}"),
            (Err(error), Some(words)) => {
                assert_eq!(error.error_type().name(), "Refused", "{what}");
                assert!(error.to_string().contains(words), "{what}");
                assert!(!account.cloud.wrote(), "{what}");
            }
            _ => panic!("{what}"),
        }
    }
}

/// An approval that is missing is no reason to let in, whatever door the payload claims.
#[tokio::test(start_paused = true)]
async fn no_field_of_the_payload_is_a_door() {
    let account = Account::with(DOORS);
    for field in ["door", "qualifier", "alias"] {
        let payload = format!(r#"{{"user":"prd-user","profile":"glass","reason":"r","{field}":"hana"}}"#);
        assert_eq!(error_type(account.invoke(&payload).await), Some("InvalidRequest"), "{field}");
    }
    assert!(!account.cloud.wrote());
}

#[tokio::test(start_paused = true)]
async fn anybody_may_revoke_at_any_door() {
    for alias in [None, Some("hana"), Some("taro"), Some("crew")] {
        let account = Account::with(DOORS);
        account.text(GRANT).await;
        let answer = account.invoke_at(alias.unwrap_or_default(), REVOKE).await.unwrap();
        assert!(matches!(&answer, Answer::Text(text) if text.contains("is ended")), "{alias:?}: {answer:?}");
        assert!(account.cloud.policies(temp_access::principal::Kind::User, "prd-user").is_empty(), "{alias:?}");
        let decisions = account.decisions();
        let revoked = decisions.iter().find(|one| one["outcome"] == "revoked").unwrap();
        assert_eq!(revoked["door"], alias.unwrap_or("#channel"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_schedules_event_comes_through_no_door() {
    let account = Account::with(DOORS);
    assert_eq!(error_type(account.invoke_at("hana", SWEEP).await), Some("Refused"));
    assert_eq!(error_type(account.invoke_at("", SWEEP).await), None);
}

/// Whoever is removed from the configuration can do nothing any more, also through an alias that was left behind.
#[tokio::test(start_paused = true)]
async fn a_door_that_is_removed_opens_nothing() {
    let mut account = Account::with(DOORS);
    let ask = r#"{"user":"prd-user","profile":"admin"}"#;
    let answer = account.text_at("hana", ask).await;
    let code = answer.strip_prefix("Request ").unwrap().split(' ').next().unwrap();
    let approve = format!(r#"{{"approve":"{code}"}}"#);
    // Jun may approve it, until he is removed.
    let jun = "[access.people.jun]\nmay_approve = [\"admin\"]\nfor = []\n";
    let config = Document::parse("sekisho.toml", &DOORS.replace(jun, "")).unwrap();
    account.function.access = config.access();
    let calls = account.cloud.calls().len();
    for payload in [ask, &approve, LIST, REVOKE] {
        assert_eq!(error_type(account.invoke_at("jun", payload).await), Some("Refused"), "{payload}");
    }
    assert_eq!(account.cloud.calls().len(), calls);
    account.function.access = Document::parse("sekisho.toml", DOORS).unwrap().access();
    assert!(account.text_at("jun", &approve).await.starts_with("End time is "));
}

/// A queue or stream that invokes an alias by an event source mapping may not be subject to the alias's policy.
#[tokio::test(start_paused = true)]
async fn records_of_a_queue_are_no_request_at_any_door() {
    let account = Account::with(DOORS);
    for body in [r#"{"user":"prd-user"}"#, r#"{\"user\":\"prd-user\"}"#] {
        let payload = format!(r#"{{"Records":[{{"body":"{}"}}]}}"#, body.replace('"', "\\\""));
        for alias in ["", "hana", "taro"] {
            let answer = account.invoke_at(alias, &payload).await;
            assert_eq!(error_type(answer), Some("InvalidRequest"), "{alias} {payload}");
        }
    }
    assert!(!account.cloud.wrote());
}
