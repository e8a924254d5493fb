//! Requests that need an approval: asking, approving, declining, lapsing, and everything that can happen in between.

use futures_util::join;
use sekisho_domain::config::Document;
use sekisho_lambda::Failure;
use serde_json::Value;
use temp_access::error::Error;
use temp_access::principal::Kind;
use tokio::time::{Duration, Instant, advance, sleep, timeout};

use crate::account::{Account, Fault, SLACK_LIMIT, minutes};

/// `admin` needs an approval, `glass` is for emergencies, and everybody may ask for `read-only`.
pub const DOORS: &str = r#"
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
[access.profiles.read-only]
statements = [{ actions = ["ec2:Describe*"], resources = ["*"] }]
[access.people.hana]
may_ask     = ["admin", "glass", "read-only"]
may_approve = ["admin"]
for         = ["user/prd-user"]
[access.people.taro]
may_ask     = ["admin"]
may_approve = ["admin", "glass"]
for         = ["role/ops"]
[access.people.jun]
may_approve = ["admin", "glass"]
for         = ["role/ops"]
[access.people.approvers]
members     = ["hana", "taro"]
may_approve = ["admin"]
"#;

pub const ASK: &str = r#"{"user":"prd-user","minutes":30,"reason":"OPS-1"}"#;
pub const PENDING: &str = r#"{"action":"pending"}"#;
pub const REVOKE: &str = r#"{"action":"revoke","user":"prd-user"}"#;

/// Asks at a door, and returns the code in the answer.
pub async fn ask(account: &Account, door: &str, payload: &str) -> String {
    let answer = account.text_at(door, payload).await;
    let code = answer.strip_prefix("Request ").and_then(|rest| rest.split_once(' ')).unwrap().0;
    assert!(answer.starts_with(&format!("Request {code} waits for approval until 2026-1")), "{answer}");
    code.to_owned()
}

pub fn approve(code: &str) -> String {
    format!(r#"{{"approve":"{code}"}}"#)
}

fn decline(code: &str) -> String {
    format!(r#"{{"action":"decline","request":"{}"}}"#, code.to_lowercase())
}

fn error_type(answer: Result<temp_access::answer::Answer, Error>) -> &'static str {
    answer.unwrap_err().error_type().name()
}

fn reconfigure(account: &mut Account, from: &str, to: &str) {
    let config = DOORS.replacen(from, to, 1);
    assert_ne!(config, DOORS, "{from}");
    account.function.access = Document::parse("sekisho.toml", &config).unwrap().access();
}

#[tokio::test(start_paused = true)]
async fn somebody_else_approves_and_both_names_are_on_record() {
    let account = Account::with(DOORS);
    let code = ask(&account, "hana", ASK).await;
    assert!(!account.cloud.wrote() && account.admin_end().is_none());
    let notice = &account.cloud.published()[0];
    for part in
        ["OPS-1", "30 min", "at the door hana", "temp-access:taro", "temp-access:jun", "\\\"access\\\":\\\"pending"]
    {
        assert!(notice.contains(part) && notice.contains(&code), "{part}: {notice}");
    }
    assert!(!notice.contains("temp-access:approvers") && !notice.contains("temp-access:hana"), "{notice}");
    assert!(!notice.contains("hub account"), "{notice}");
    let listed = account.text(PENDING).await;
    assert!(
        listed.starts_with(&format!("{code}: user prd-user: admin for 30 min, asked for through hana")),
        "{listed}"
    );
    advance(minutes(10)).await;
    // The code is read in either case, and the window starts with the approval.
    let answer = account.text_at("taro", &approve(&code.to_lowercase())).await;
    assert!(answer.starts_with("End time is 2026-11-21T21:25:0") && answer.chars().count() < 1_000, "{answer}");
    assert!(answer.contains("Asked for at the door hana, approved at the door taro"), "{answer}");
    let (end, published) = (account.admin_end().unwrap(), account.cloud.published());
    assert!(end.starts_with("2026-11-21T21:25:0"));
    assert!(published[1].contains("Asked for at the door hana, approved at the door taro."), "{}", published[1]);
    assert!(!published[1].contains("\\\"profile"), "the button could not extend it: {}", published[1]);
    let decisions = account.decisions();
    assert_eq!(account.outcomes(), ["pending", "listed", "approved", "granted"]);
    for decision in [&decisions[2], &decisions[3]] {
        for (field, value) in [("door", "hana"), ("approved_by", "taro"), ("code", &code), ("because", "OPS-1")] {
            assert_eq!(decision[field], *value, "{decision}");
        }
    }
    let row = account.row("user/prd-user/admin").await.unwrap().state;
    assert_eq!((row.consent.door.as_deref(), row.consent.approved_by.as_deref()), (Some("hana"), Some("taro")));
    // A used code is unknown.
    assert_eq!(error_type(account.invoke_at("jun", &approve(&code)).await), "NotFound");
    assert_eq!(account.text(PENDING).await, "Nothing waits for an approval.");
}

#[tokio::test(start_paused = true)]
async fn nobody_gets_in_through_the_wrong_door() {
    let account = Account::with(DOORS);
    // At the channel's door, the profile is refused, with the names of the doors.
    let error = account.invoke(ASK).await.unwrap_err();
    assert!(error.error_type().name() == "Refused" && error.to_string().contains("temp-access:hana"), "{error}");
    let code = ask(&account, "hana", ASK).await;
    // Hana's request is approved neither at her own door, nor at that of a group with her, nor in the channel.
    for door in ["", "hana", "approvers"] {
        assert_eq!(error_type(account.invoke_at(door, &approve(&code)).await), "Refused", "{door}");
    }
    for door in ["$LATEST", "7", "gone"] {
        assert_eq!(error_type(account.invoke_at(door, &approve(&code)).await), "Refused", "{door}");
    }
    assert_eq!(error_type(account.invoke_at("board", &approve(&code)).await), "Refused");
    // Nobody approves access of their own, whoever asked for it.
    let own = ask(&account, "hana", r#"{"user":"prd-user","minutes":20}"#).await;
    assert_eq!(error_type(account.invoke_at("hana", &approve(&own)).await), "Refused");
    for payload in [r#"{"approve":"ABCDEFGH","dry_run":true}"#, r#"{"approve":"ABC"}"#, r#"{"action":"approve"}"#] {
        assert_eq!(error_type(account.invoke_at("taro", payload).await), "InvalidRequest", "{payload}");
    }
    assert!(!account.cloud.wrote());
}

#[tokio::test(start_paused = true)]
async fn the_same_request_has_the_same_code_and_another_one_replaces_it() {
    let account = Account::with(DOORS);
    let code = ask(&account, "hana", ASK).await;
    assert_eq!(ask(&account, "hana", r#"{"user":"prd-user","minutes":30,"reason":"again"}"#).await, code);
    let longer = ask(&account, "hana", r#"{"user":"prd-user","minutes":60}"#).await;
    assert_ne!(longer, code);
    assert_eq!(error_type(account.invoke_at("taro", &approve(&code)).await), "NotFound");
    // A request of another door does not replace it.
    let other = ask(&account, "taro", r#"{"role":"ops","minutes":60}"#).await;
    assert_eq!(account.text(PENDING).await.lines().count(), 2);
    assert_eq!(error_type(account.invoke_at("jun", &approve(&other)).await), "Refused", "jun gets access as ops");
    account.text_at("jun", &approve(&longer)).await;
    assert!(account.admin_end().unwrap().starts_with("2026-11-21T21:45"));
}

#[tokio::test(start_paused = true)]
async fn requests_lapse_are_declined_withdrawn_and_revoked() {
    let account = Account::with(DOORS);
    let lapsing = ask(&account, "hana", ASK).await;
    advance(minutes(60)).await;
    assert_eq!(error_type(account.invoke_at("taro", &approve(&lapsing)).await), "NotFound");
    assert_eq!(account.text(PENDING).await, "Nothing waits for an approval.");
    assert_eq!(account.sweep().await, ["lapsed"]);
    assert_eq!(account.sweep().await, ["idle"]);
    for door in ["taro", "hana"] {
        let code = ask(&account, "hana", ASK).await;
        let answer = account.text_at(door, &decline(&code)).await;
        assert!(answer.contains(if door == "hana" { "withdrawn" } else { "declined" }), "{answer}");
        assert_eq!(error_type(account.invoke_at("taro", &approve(&code)).await), "NotFound");
        assert_eq!(error_type(account.invoke_at("taro", &decline(&code)).await), "NotFound");
    }
    let code = ask(&account, "hana", ASK).await;
    let answer = account.text(REVOKE).await;
    assert!(answer.contains(&format!("Withdrawn, because it waited for an approval: {code}.")), "{answer}");
    assert_eq!(error_type(account.invoke_at("taro", &approve(&code)).await), "NotFound");
    assert!(!account.cloud.calls().iter().any(|call| call.starts_with("Put")));
    assert_eq!(account.outcomes().iter().filter(|outcome| *outcome == "declined").count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_configuration_between_request_and_approval_counts() {
    let needs = "approval   = \"another\"";
    let cases = [
        ("actions = [\"*\"]", "actions = [\"s3:*\"]".to_owned(), None),
        (needs, format!("{needs}\nrequire_mfa = true"), None),
        ("[access.people.hana]", "[access.people.hanako]".to_owned(), None),
        (needs, format!("{needs}\nmax_minutes = 10"), Some("2026-11-21T20:55:0")),
        (needs, format!("{needs}\nmax_minutes = 100"), Some("2026-11-21T21:15:0")),
    ];
    for (from, to, end) in cases {
        let mut account = Account::with(DOORS);
        let code = ask(&account, "hana", ASK).await;
        if to.contains("hanako") {
            let renamed = DOORS.replace("[\"hana\", ", "[\"hanako\", ").replacen(from, &to, 1);
            account.function.access = Document::parse("sekisho.toml", &renamed).unwrap().access();
        } else {
            reconfigure(&mut account, from, &to);
        }
        let answer = account.invoke_at("taro", &approve(&code)).await;
        match end {
            None => assert_eq!(error_type(answer), "Refused", "{to}"),
            Some(end) => {
                let answer = crate::account::text(answer);
                assert!(answer.starts_with(&format!("End time is {end}")), "{answer}");
                assert_eq!(
                    answer.contains("less than the 30 min that were requested"),
                    end.contains("20:55"),
                    "{answer}"
                );
            }
        }
        assert_eq!(account.admin_end().is_some(), end.is_some(), "{to}");
    }
    // Whoever is removed approves nothing, also through an alias that was left behind.
    let mut account = Account::with(DOORS);
    let code = ask(&account, "hana", ASK).await;
    reconfigure(&mut account, "[access.people.jun]", "[access.people.june]");
    assert_eq!(error_type(account.invoke_at("jun", &approve(&code)).await), "Refused");
}

#[tokio::test(start_paused = true)]
async fn two_approvals_at_once_are_one_grant() {
    let account = Account::with(DOORS);
    account.cloud.set_delays(vec![30, 5, 80, 10, 50]);
    let code = ask(&account, "hana", ASK).await;
    let payload = approve(&code);
    let (one, other) = join!(account.invoke_at("taro", &payload), account.invoke_at("jun", &payload));
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    let loser = one.err().or(other.err()).unwrap();
    assert_eq!(loser.error_type().name(), "NotFound", "{loser}");
    assert_eq!(account.cloud.calls().iter().filter(|call| *call == "PutUserPolicy").count(), 1);
    assert_eq!(account.outcomes().iter().filter(|outcome| *outcome == "granted").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_the_ledger_nothing_is_requested_approved_or_granted() {
    for operation in ["read", "write", "list"] {
        let account = Account::with(DOORS);
        let code = ask(&account, "hana", ASK).await;
        account.fail_ledger(move |name| name == operation);
        let start = Instant::now();
        assert_eq!(error_type(account.invoke_at("taro", &approve(&code)).await), "Internal", "{operation}");
        assert!(start.elapsed() < SLACK_LIMIT && account.admin_end().is_none());
        account.fail_ledger(|_| false);
        sleep(Duration::from_secs(14)).await;
        let answer = account.text_at("taro", &approve(&code)).await;
        assert!(answer.starts_with("End time is"), "{answer}");
    }
    let account = Account::with(DOORS);
    account.fail_ledger(|name| name == "write");
    assert_eq!(error_type(account.invoke_at("hana", ASK).await), "Internal");
}

/// The approval died after the policy was put, so that a decline would leave the access as it is.
#[tokio::test(start_paused = true)]
async fn a_request_whose_approval_was_cut_off_is_ended_by_a_revoke() {
    let account = Account::with(DOORS);
    let code = ask(&account, "hana", ASK).await;
    account.cloud.fail("PutUserPolicy", 1, Fault::DoneUnanswered);
    timeout(Duration::from_secs(1), account.invoke_at("taro", &approve(&code))).await.unwrap_err();
    sleep(Duration::from_secs(14)).await;
    for door in ["hana", "jun"] {
        let error = account.invoke_at(door, &decline(&code)).await.unwrap_err();
        assert!(error.error_type().name() == "Refused" && error.to_string().contains(REVOKE), "{door}: {error}");
    }
    assert!(account.admin_end().is_some());
    assert!(account.text(REVOKE).await.contains(&code));
    assert_eq!(account.admin_end(), None);
    // An approval that died before the grant began can be withdrawn.
    let code = ask(&account, "hana", ASK).await;
    account.cloud.fail("GetUser", 1, Fault::Lost);
    timeout(Duration::from_secs(1), account.invoke_at("taro", &approve(&code))).await.unwrap_err();
    sleep(Duration::from_secs(14)).await;
    assert!(account.text_at("hana", &decline(&code)).await.contains("withdrawn"));
}

/// Hana asks through the door of a group, and leaves the group before she comes to her own door.
#[tokio::test(start_paused = true)]
async fn a_member_who_asked_does_not_approve_after_leaving_the_group() {
    let group = "[access.people.oncall]\nmembers = [\"hana\", \"taro\"]\nmay_ask = [\"admin\"]\n";
    let mut account = Account::with(&format!("{DOORS}{group}"));
    account.cloud.add(Kind::User, "prd-shared");
    let request = r#"{"user":"prd-shared","minutes":30}"#;
    let code = ask(&account, "oncall", request).await;
    let left = format!("{DOORS}{}", group.replace("\"hana\", ", ""));
    account.function.access = Document::parse("sekisho.toml", &left).unwrap().access();
    let error = account.invoke_at("hana", &approve(&code)).await.unwrap_err();
    assert!(error.error_type().name() == "Refused" && error.to_string().contains("hana stands behind"), "{error}");
    assert!(!account.cloud.wrote());
    // The same request is another one by now, because others have made it.
    let again = ask(&account, "oncall", request).await;
    assert_ne!(again, code);
    assert!(account.text_at("hana", &approve(&again)).await.starts_with("End time is "));
}

#[tokio::test(start_paused = true)]
async fn a_sweep_withdraws_what_was_asked_through_a_door_that_is_gone() {
    let mut account = Account::with(DOORS);
    let code = ask(&account, "hana", ASK).await;
    assert_eq!(account.sweep().await, ["idle"]);
    let without = DOORS.replace("people.hana]", "people.hanako]").replace("[\"hana\", ", "[\"hanako\", ");
    account.function.access = Document::parse("sekisho.toml", &without).unwrap().access();
    assert_eq!(account.sweep().await, ["declined"]);
    let decision = account.decisions().pop().unwrap();
    assert_eq!((&decision["code"], &decision["door"]), (&Value::from(code.as_str()), &"hana".into()));
    assert_eq!(account.text(PENDING).await, "Nothing waits for an approval.");
    assert_eq!(error_type(account.invoke_at("taro", &approve(&code)).await), "NotFound");
}

/// Everybody who was in the group at the time of the request has left it, so nobody who is in it now has asked.
#[tokio::test(start_paused = true)]
async fn a_sweep_withdraws_what_only_somebody_who_is_gone_can_have_asked() {
    let group = |members: &str| format!("{DOORS}[access.people.oncall]\nmay_ask = [\"admin\"]\nmembers = [{members}]");
    let mut account = Account::with(&group(r#""hana""#));
    account.cloud.add(Kind::User, "prd-shared");
    let code = ask(&account, "oncall", r#"{"user":"prd-shared","minutes":30}"#).await;
    assert_eq!(account.sweep().await, ["idle"]);
    account.function.access = Document::parse("sekisho.toml", &group(r#""jun""#)).unwrap().access();
    let error = account.invoke_at("taro", &approve(&code)).await.unwrap_err();
    assert!(error.to_string().contains("nobody who can have asked is behind the door oncall any more"), "{error}");
    assert_eq!(account.sweep().await, ["declined"]);
    let notice = account.cloud.published().pop().unwrap();
    assert!(
        notice.contains(&code) && notice.contains("nobody who can have made the request is behind its door any more"),
        "{notice}"
    );
    assert_eq!(account.text(PENDING).await, "Nothing waits for an approval.");
    assert_eq!(error_type(account.invoke_at("taro", &approve(&code)).await), "NotFound");
    assert!(!account.cloud.wrote());
}

/// A failure of IAM that changed nothing leaves the request as it was.
#[tokio::test(start_paused = true)]
async fn an_approval_that_granted_nothing_can_be_repeated() {
    let account = Account::with(DOORS);
    let code = ask(&account, "hana", ASK).await;
    account.cloud.fail("PutUserPolicy", 1, Fault::Code("AccessDenied", 403));
    assert_eq!(error_type(account.invoke_at("taro", &approve(&code)).await), "Refused");
    let decision = account.decisions().pop().unwrap();
    assert_eq!((&decision["code"], &decision["approved_by"]), (&Value::from(code.as_str()), &"taro".into()));
    assert!(account.text_at("jun", &approve(&code)).await.starts_with("End time is"));
}

/// For all times: an approval beside a revoke or a decline either comes first and is ended by the revoke, or grants
/// nothing.
#[tokio::test(start_paused = true)]
async fn an_approval_that_races_a_revoke_a_decline_or_a_lapse_is_clear() {
    for ahead in (0..600).step_by(7) {
        let account = Account::with(DOORS);
        let code = ask(&account, "hana", ASK).await;
        account.cloud.set_delays(vec![40, 15, 70, 25, 55]);
        account.set_ledger_delays(vec![11, 23, 5]);
        let (approval, withdrawal) = (approve(&code), decline(&code));
        let other = if ahead % 2 == 0 { REVOKE } else { withdrawal.as_str() };
        let (approved, ended) = join!(account.invoke_at("taro", &approval), async {
            sleep(Duration::from_millis(ahead)).await;
            account.invoke_at("hana", other).await
        });
        if other == REVOKE {
            assert!(ended.is_ok(), "{ended:?}");
            assert_eq!(account.admin_end(), None, "{ahead}: {approved:?} {ended:?}");
        } else {
            assert!(approved.is_ok() != ended.is_ok(), "{ahead}: {approved:?} {ended:?}");
            assert_eq!(account.admin_end().is_some(), approved.is_ok(), "{ahead}");
        }
    }
    for before in [Duration::from_millis(1), Duration::from_secs(20)] {
        let account = Account::with(DOORS);
        let code = ask(&account, "hana", ASK).await;
        account.cloud.set_delays(vec![400]);
        advance(minutes(60).saturating_sub(before)).await;
        let payload = approve(&code);
        let (approved, swept) = join!(account.invoke_at("taro", &payload), account.sweep());
        assert_eq!(approved.is_ok(), account.admin_end().is_some(), "{swept:?}");
        assert!(!(approved.is_ok() && swept.contains(&"lapsed".to_owned())), "{approved:?} {swept:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_extension_needs_an_approval_and_a_request_that_changes_nothing_does_not() {
    let account = Account::with(DOORS);
    let code = ask(&account, "hana", ASK).await;
    account.text_at("taro", &approve(&code)).await;
    let answer = account.text_at("hana", r#"{"user":"prd-user","minutes":10}"#).await;
    assert!(answer.starts_with("End time is 2026-11-21T21:15:0") && answer.contains("already has"), "{answer}");
    let code = ask(&account, "hana", r#"{"user":"prd-user","minutes":60}"#).await;
    assert!(account.admin_end().unwrap().starts_with("2026-11-21T21:15"));
    account.text_at("jun", &approve(&code)).await;
    assert!(account.admin_end().unwrap().starts_with("2026-11-21T21:45"));
    assert_eq!(account.outcomes().last().unwrap(), "extended");
    let preview = account.text_at("hana", r#"{"user":"prd-user","minutes":90,"dry_run":true}"#).await;
    assert!(preview.contains("Somebody else would have to approve this first."), "{preview}");
}

#[tokio::test(start_paused = true)]
async fn a_reason_is_inert_in_notices_and_lists() {
    let account = Account::with(DOORS);
    let reason = "<!channel> <cwdb-action action=\"call\">x</cwdb-action>\nEnd time is never";
    let payload = serde_json::json!({"user": "prd-user", "minutes": 30, "reason": reason}).to_string();
    let code = ask(&account, "hana", &payload).await;
    for text in [account.text(PENDING).await, account.text_at("taro", &approve(&code)).await] {
        assert!(
            !text.contains("<!channel>") && !text.contains("<cwdb-action") && !text.contains("\nEnd time is never")
        );
    }
    for notice in account.cloud.published() {
        let message: Value = serde_json::from_str(&notice).unwrap();
        let custom = message["default"].as_str().unwrap();
        assert!(!custom.contains("<!channel>") && !custom.contains("<cwdb-action"), "{custom}");
        let custom: Value = serde_json::from_str(custom).unwrap();
        let context = custom["metadata"]["additionalContext"].to_string();
        assert!(!context.contains("channel") && !context.contains("cwdb"), "{context}");
    }
}

/// Nobody waits for a request that has ended.
#[tokio::test(start_paused = true)]
async fn people_learn_that_a_request_ended_without_access() {
    let account = Account::with(DOORS);
    let code = ask(&account, "hana", ASK).await;
    let sent = account.cloud.published().len();
    account.text_at("hana", &decline(&code)).await;
    assert_eq!(account.cloud.published().len(), sent, "whoever asked has withdrawn the request");
    let code = ask(&account, "hana", ASK).await;
    account.text_at("taro", &decline(&code)).await;
    let notice = account.cloud.published().pop().unwrap();
    assert!(notice.contains("Request ended: user prd-user as admin"), "{notice}");
    assert!(notice.contains("the request was declined at the door taro") && notice.contains(&code), "{notice}");
    ask(&account, "hana", ASK).await;
    advance(minutes(61)).await;
    assert_eq!(account.sweep().await, ["lapsed"]);
    let notice = account.cloud.published().pop().unwrap();
    assert!(notice.contains("gives no access: ") && notice.contains("nobody approved the request in time"), "{notice}");
}
