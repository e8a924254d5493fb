//! Grants, with a working IAM and ledger.

use sekisho_domain::config::Document;
use sekisho_lambda::Failure;
use sekisho_ledger::Lease;
use serde_json::{Value, json};
use temp_access::principal::Kind::{Role, User};
use temp_access::row::State;
use tokio::time::{Duration, Instant, advance};

use crate::account::{Account, CONFIG, Fault, minutes, windowed};

#[tokio::test(start_paused = true)]
async fn a_request_with_only_a_user_grants_and_answers_with_the_end_time() {
    let account = Account::new();
    let answer = account.text(r#"{"user":"prd-user"}"#).await;
    assert!(answer.starts_with("End time is 2026-11-21T23:45:00Z\n"), "{answer}");
    assert!(answer.len() < 1_000);
    let policy: Value = serde_json::from_str(&account.cloud.policies(User, "prd-user")["sekisho-admin"]).unwrap();
    assert_eq!(
        policy,
        json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Action": "*", "Resource": "*",
            "Condition": {
                "DateGreaterThan": {"aws:CurrentTime": "2026-11-21T20:43:00Z"},
                "DateLessThan": {"aws:CurrentTime": "2026-11-21T23:45:00Z"},
            },
        }]})
    );
    assert_eq!(account.outcomes(), ["granted"]);
    let decision = &account.decisions()[0];
    assert_eq!(decision["user"], "prd-user");
    assert_eq!(decision["until"], "2026-11-21T23:45:00Z");
    let row = account.row("user/prd-user/admin").await.unwrap().state;
    assert_eq!((row.state, row.lease), (State::Granted, Lease::FREE));
}

#[tokio::test(start_paused = true)]
async fn times_are_shown_in_the_readers_time_zone_beside_utc() {
    let account = Account::with(&CONFIG.replacen("[access]", "[access]\ntime_zone = \"Asia/Tokyo\"", 1));
    let answer = account.text(r#"{"user":"prd-user","dry_run":true}"#).await;
    assert!(answer.contains("End time would be 2026-11-21T23:45:00Z (2026-11-22 08:45 Asia/Tokyo)"), "{answer}");
    let answer = account.text(r#"{"user":"prd-user"}"#).await;
    assert!(answer.starts_with("End time is 2026-11-21T23:45:00Z (2026-11-22 08:45 Asia/Tokyo)\n"), "{answer}");
    let listed = account.text(r#"{"action":"list"}"#).await;
    assert!(
        listed.contains("admin until 2026-11-21T23:45:00Z (2026-11-22 08:45 Asia/Tokyo) (2 h 59 min left)"),
        "{listed}"
    );
}

/// The answer says how a role's session must be opened so that MFA counts.
#[tokio::test(start_paused = true)]
async fn a_grant_with_mfa_to_a_role_says_how_mfa_counts() {
    let account = Account::new();
    let hint = "call sts get-session-token with the MFA code";
    for dry_run in [true, false] {
        let request =
            |kind: &str, name: &str| json!({kind: name, "profile": "read-only", "dry_run": dry_run}).to_string();
        let answer = account.text(&request("role", "ops")).await;
        assert!(answer.contains(hint) && (dry_run || answer.chars().count() < 1_000), "{answer}");
        let answer = account.text(&request("user", "prd-user")).await;
        assert!(!answer.contains(hint), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_profile_that_was_widened_is_an_effect_of_its_own_with_a_notice() {
    let mut account = Account::new();
    account.text(r#"{"role":"ops","minutes":60,"profile":"read-only"}"#).await;
    let wider = CONFIG.replacen("\"logs:Get*\"", "\"logs:*\"", 1);
    account.function.access = Document::parse("sekisho.toml", &wider).unwrap().access();
    let preview = account.text(r#"{"role":"ops","minutes":1,"profile":"read-only","dry_run":true}"#).await;
    assert!(preview.contains("as it is configured now, which may allow more."), "{preview}");
    let answer = account.text(r#"{"role":"ops","minutes":1,"profile":"read-only"}"#).await;
    assert!(answer.starts_with("End time is 2026-11-21T21:45:00Z\n"), "{answer}");
    assert!(answer.contains("keeps read-only as it is configured now, which may allow more"), "{answer}");
    assert_eq!(account.outcomes(), ["granted", "widened"]);
    assert!(account.cloud.published()[1].contains("Access may be wider: role ops"), "{:?}", account.cloud.published());
    assert!(account.cloud.policies(Role, "ops")["sekisho-read-only"].contains("logs:*"));
    // A narrower profile is written without a notice.
    account.function.access = Document::parse("sekisho.toml", CONFIG).unwrap().access();
    account.text(r#"{"role":"ops","minutes":1,"profile":"read-only"}"#).await;
    assert_eq!(account.outcomes().last().unwrap(), "unchanged");
    assert_eq!(account.cloud.published().len(), 2);
    assert!(account.cloud.policies(Role, "ops")["sekisho-read-only"].contains("logs:Get*"));
}

#[tokio::test(start_paused = true)]
async fn a_profile_has_limits_and_a_rule_for_reasons_of_its_own() {
    let account = Account::shipped();
    let refused = async |payload: &str, text: &str| {
        let error = account.invoke(payload).await.unwrap_err();
        assert_eq!(error.error_type().name(), "InvalidRequest", "{error}");
        assert!(error.to_string().contains(text), "{error}");
    };
    refused(r#"{"user":"prd-user","profile":"admin"}"#, "`reason` is missing: admin needs one").await;
    refused(r#"{"user":"prd-user","profile":"admin","reason":" "}"#, "`reason` is missing").await;
    refused(r#"{"user":"prd-user","profile":"admin","reason":"fire","minutes":61}"#, "from 1 to 60").await;
    assert!(!account.cloud.wrote());
    let answer = account.text(r#"{"user":"prd-user","profile":"admin","reason":"fire"}"#).await;
    assert!(answer.starts_with("End time is 2026-11-21T21:45:00Z\n"), "{answer}");
    let policy = &account.cloud.policies(User, "prd-user")["sekisho-admin"];
    assert!(policy.contains(r#""NumericLessThan":{"aws:MultiFactorAuthAge":"3600"}"#), "{policy}");
    // An extension keeps the reason, and so does its notice.
    advance(minutes(10)).await;
    account.text(r#"{"user":"prd-user","profile":"admin","minutes":60}"#).await;
    assert_eq!(account.row("user/prd-user/admin").await.unwrap().state.reason.as_deref(), Some("fire"));
    assert!(account.text(r#"{"user":"prd-user"}"#).await.starts_with("End time is 2026-11-21T23:55:00Z"));
    // After the end, a new grant needs a new reason.
    advance(minutes(120)).await;
    refused(r#"{"user":"prd-user","profile":"admin"}"#, "`reason` is missing").await;
}

/// Each call is a round trip, and Chatbot waits only 15 s.
#[tokio::test(start_paused = true)]
async fn a_grant_makes_four_calls_to_iam_and_an_extension_five_in_three_stages() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":10}"#).await;
    let mut first = account.cloud.calls();
    first.sort();
    assert_eq!(first, ["GetUser", "GetUserPolicy", "ListUserPolicies", "Publish", "PutUserPolicy"]);
    assert_eq!(*account.function.ledger.operations.borrow(), ["read", "write", "record", "write"]);
    account.cloud.set_delays(vec![100]);
    let start = Instant::now();
    account.text(r#"{"user":"prd-user","minutes":20}"#).await;
    // The three stages of calls to IAM are: read, put, read back. The notice follows. In the first stage, the policy
    // that the ledger records is read at the same time as the names.
    assert!(start.elapsed() < Duration::from_millis(450), "{:?}", start.elapsed());
    let mut second = account.cloud.calls().split_off(first.len());
    second.sort();
    assert_eq!(second, ["GetUser", "GetUserPolicy", "GetUserPolicy", "ListUserPolicies", "Publish", "PutUserPolicy"]);
}

/// The ledger's row is kept for a month, but the row says that the policy was removed, so the policy is not read.
#[tokio::test(start_paused = true)]
async fn a_second_grant_after_a_sweep_makes_as_many_calls_as_the_first() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":10}"#).await;
    advance(minutes(15)).await;
    account.sweep().await;
    let before = account.cloud.calls().len();
    let operations = account.function.ledger.operations.borrow().len();
    account.text(r#"{"user":"prd-user","minutes":10}"#).await;
    let mut calls = account.cloud.calls().split_off(before);
    calls.sort();
    assert_eq!(calls, ["GetUser", "GetUserPolicy", "ListUserPolicies", "Publish", "PutUserPolicy"]);
    assert_eq!(account.function.ledger.operations.borrow()[operations..], ["read", "write", "record", "write"]);
}

/// A window that is computed once per process would be wrong in every later invocation.
#[tokio::test(start_paused = true)]
async fn a_warm_function_computes_a_new_window_for_each_grant() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":10}"#).await;
    advance(minutes(300)).await;
    let answer = account.text(r#"{"user":"prd-user","minutes":10}"#).await;
    assert!(answer.starts_with("End time is 2026-11-22T01:55:00Z"), "{answer}");
    assert_eq!(account.outcomes(), ["granted", "granted"]);
}

#[tokio::test(start_paused = true)]
async fn a_role_gets_access_like_a_user() {
    let account = Account::new();
    let answer = account.text(r#"{"role":"ops","minutes":30,"profile":"read-only"}"#).await;
    assert!(answer.starts_with("End time is 2026-11-21T21:15:00Z\nrole ops has read-only"), "{answer}");
    assert_eq!(account.cloud.end(Role, "ops", "sekisho-read-only").unwrap(), "2026-11-21T21:15:00Z");
    assert!(account.cloud.policies(User, "ops").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_second_grant_extends_access_and_never_shortens_it() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":60}"#).await;
    advance(minutes(10)).await;
    let answer = account.text(r#"{"user":"prd-user","minutes":60}"#).await;
    assert!(answer.starts_with("End time is 2026-11-21T21:55:00Z"), "{answer}");
    assert!(answer.contains("2026-11-21T21:45:00Z"), "{answer}");
    let answer = account.text(r#"{"user":"prd-user","minutes":1}"#).await;
    assert!(answer.starts_with("End time is 2026-11-21T21:55:00Z"), "{answer}");
    assert!(answer.contains("never shortens"), "{answer}");
    assert_eq!(account.outcomes(), ["granted", "extended", "unchanged"]);
    assert_eq!(account.cloud.published().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_chain_of_grants_ends_max_minutes_after_its_first_start() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":300}"#).await;
    advance(minutes(240)).await;
    let answer = account.text(r#"{"user":"prd-user","minutes":300}"#).await;
    assert!(answer.starts_with("End time is 2026-11-22T04:45:00Z"), "{answer}");
    assert!(answer.contains("at most 480 min from the first start, 2026-11-21T20:45:00Z"), "{answer}");
    let answer = account.text(r#"{"user":"prd-user","minutes":480}"#).await;
    assert!(answer.starts_with("End time is 2026-11-22T04:45:00Z"), "{answer}");
    // A grant of another profile begins its own chain.
    let answer = account.text(r#"{"user":"prd-user","minutes":480,"profile":"read-only"}"#).await;
    assert!(answer.starts_with("End time is 2026-11-22T08:45:00Z"), "{answer}");
    // After the end of the chain, it rests for half an hour.
    advance(minutes(240)).await;
    let error = account.invoke(r#"{"user":"prd-user","minutes":1}"#).await.unwrap_err();
    assert_eq!(error.error_type().name(), "LimitExceeded");
    assert!(error.to_string().contains("a new one can begin at 2026-11-22T05:15:00Z"), "{error}");
    advance(minutes(30)).await;
    let answer = account.text(r#"{"user":"prd-user","minutes":480}"#).await;
    assert!(answer.starts_with("End time is 2026-11-22T13:15:00Z"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn the_reason_is_stored_as_typed_shown_escaped_and_never_in_the_policy() {
    let account = Account::new();
    let reason = "障害対応 <!channel> & \"quotes\"\nEnd time is never 🚒";
    let answer = account.text(&json!({"user": "prd-user", "reason": reason}).to_string()).await;
    assert!(answer.ends_with("Reason: 障害対応 &lt;!channel&gt; &amp; \"quotes\" End time is never 🚒"), "{answer}");
    assert_eq!(account.decisions()[0]["because"], reason);
    assert_eq!(account.row("user/prd-user/admin").await.unwrap().state.reason.as_deref(), Some(reason));
    assert!(!account.cloud.policies(User, "prd-user")["sekisho-admin"].contains("quotes"));
    let notice: Value = serde_json::from_str(&account.cloud.published()[0]).unwrap();
    let slack: Value = serde_json::from_str(notice["default"].as_str().unwrap()).unwrap();
    assert_eq!((&slack["version"], &slack["source"]), (&json!("1.0"), &json!("custom")));
    let description = slack["content"]["description"].as_str().unwrap();
    assert!(description.contains("&lt;!channel&gt;") && !description.contains("<!channel>"), "{description}");
    assert!(description.contains("#/events?Username=prd-user|"), "{description}");
    // The mail also shows the reason on one line, so that the reason cannot imitate a line of Sekisho's.
    let mail = notice["email"].as_str().unwrap();
    assert!(mail.contains(&format!("Reason: {}", reason.replace('\n', " "))), "{mail}");
}

#[tokio::test(start_paused = true)]
async fn the_longest_answer_is_short_enough_for_slack() {
    let account = Account::new();
    let name = "n".repeat(64);
    account.cloud.add(User, &name);
    account.text(&json!({"user": name, "minutes": 400}).to_string()).await;
    advance(minutes(390)).await;
    account.fail_ledger(|operation| operation == "record");
    account.cloud.fail("Publish", 9, Fault::Code("InternalError", 500));
    let answer = account.text(&json!({"user": name, "minutes": 480, "reason": "&".repeat(500)}).to_string()).await;
    assert!(answer.contains("at most 480") && answer.contains("notice") && answer.contains("ledger"), "{answer}");
    assert!(answer.chars().count() < 1_000, "{} {answer}", answer.chars().count());
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_shows_the_policy_and_writes_nothing() {
    let account = Account::new();
    let answer = account.text(r#"{"user":"prd-user","dry_run":true}"#).await;
    assert!(answer.contains("End time would be 2026-11-21T23:45:00Z"), "{answer}");
    assert!(answer.contains("of 2048 characters") && answer.contains("\"DateLessThan\""), "{answer}");
    let answer = account.text(r#"{"action":"revoke","user":"prd-user","dry_run":true}"#).await;
    assert!(answer.contains("no policy"), "{answer}");
    assert_eq!(
        account.invoke(r#"{"user":"nobody","dry_run":true}"#).await.unwrap_err().error_type().name(),
        "NotFound"
    );
    assert!(!account.cloud.wrote());
    assert!(account.cloud.published().is_empty());
    assert!(account.function.ledger.memory.rows().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_grant_puts_the_policy_that_the_dry_run_showed() {
    for request in [json!({"user": "prd-user", "minutes": 60}), json!({"role": "ops", "profile": "read-only"})] {
        let account = Account::new();
        let mut dry_run = request.clone();
        dry_run["dry_run"] = json!(true);
        let shown = account.text(&dry_run.to_string()).await;
        let (_, document) = shown.split_once(":\n{").unwrap();
        let shown: Value = serde_json::from_str(&format!("{{{document}")).unwrap();
        account.text(&request.to_string()).await;
        let policies = [(User, "prd-user"), (Role, "ops")].map(|(kind, name)| account.cloud.policies(kind, name));
        let put: Vec<&String> = policies.iter().flat_map(|policies| policies.values()).collect();
        assert_eq!(put.len(), 1);
        assert_eq!(serde_json::from_str::<Value>(put[0]).unwrap(), shown);
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_prepared_principal_gets_access_and_only_under_its_exact_name() {
    let account = Account::new();
    account.cloud.add(User, "untagged");
    account.cloud.set_tag(User, "untagged", None);
    account.cloud.add(User, "otherwise");
    account.cloud.set_tag(User, "otherwise", Some("Grantable"));
    account.cloud.add(User, "unbound");
    account.cloud.set_boundary(User, "unbound", None);
    account.cloud.add(Role, "elsewhere");
    account.cloud.set_boundary(Role, "elsewhere", Some("arn:aws:iam::333333333333:policy/sekisho-access-boundary-2"));
    account.cloud.add(Role, "AWSReservedSSO_Admin_1");
    account.cloud.set_path(Role, "AWSReservedSSO_Admin_1", "/aws-reserved/sso.amazonaws.com/");
    let cases = [
        (r#"{"user":"stranger"}"#, "Refused", "`make prepare USER=stranger ENV=… PROFILE=…`"),
        (r#"{"user":"untagged"}"#, "Refused", "lacks the tag"),
        (r#"{"user":"otherwise"}"#, "Refused", "lacks the tag"),
        (r#"{"user":"unbound"}"#, "Refused", "lacks the access boundary"),
        (r#"{"role":"elsewhere"}"#, "Refused", "make prepare ROLE=elsewhere"),
        (r#"{"role":"AWSReservedSSO_Admin_1"}"#, "Refused", "belongs to AWS"),
        (r#"{"user":"PRD-User"}"#, "Refused", "a user prd-user"),
        (r#"{"user":"nobody"}"#, "NotFound", "no IAM user nobody"),
        (r#"{"role":"prd-user"}"#, "NotFound", "no IAM role prd-user"),
        (r#"{"user":"prd-user","profile":"Admin"}"#, "InvalidRequest", "admin, read-only"),
        (r#"{"user":"prd-user","minutes":481}"#, "InvalidRequest", "from 1 to 480"),
        (r#"{"user":"prd-user","minutes":99999999999999999999}"#, "InvalidRequest", "from 1 to 480"),
        (r#"{"user":"prd-user","user":"prd-user"}"#, "InvalidRequest", "twice"),
    ];
    for (i, (payload, error_type, text)) in cases.into_iter().enumerate() {
        let error = account.invoke(payload).await.unwrap_err();
        assert_eq!(error.error_type().name(), error_type, "{payload}: {error}");
        assert!(error.to_string().contains(text), "{payload}: {error}");
        assert_eq!(account.decisions().len(), i + 1, "{payload}");
    }
    assert!(account.outcomes().iter().all(|outcome| outcome == "refused"));
    assert!(!account.cloud.wrote());
    assert!(account.function.ledger.memory.rows().iter().all(|(key, _)| key.pk.starts_with("decision#")));
}

#[tokio::test(start_paused = true)]
async fn a_foreign_policy_with_our_name_is_neither_replaced_nor_removed() {
    let account = Account::new();
    let foreign = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
    account.cloud.put(User, "prd-user", "sekisho-admin", foreign);
    let error = account.invoke(r#"{"user":"prd-user"}"#).await.unwrap_err();
    assert_eq!(error.error_type().name(), "Refused");
    assert!(error.to_string().contains("without DateLessThan"), "{error}");
    let answer = account.text(r#"{"action":"revoke","user":"prd-user"}"#).await;
    assert!(answer.contains("Not removed"), "{answer}");
    assert_eq!(account.sweep().await, ["open-ended"]);
    assert_eq!(account.cloud.policies(User, "prd-user")["sekisho-admin"], foreign);
    assert_eq!(account.outcomes(), ["refused", "unchanged", "open-ended", "open-ended"]);
    assert!(account.cloud.published().iter().all(|notice| notice.contains("Access without an end: user prd-user")));
    assert_eq!(account.cloud.published().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn only_ended_policies_are_removed_to_make_room() {
    let account = Account::new();
    let ended = windowed("2026-11-20T20:43:00Z", "2026-11-20T21:45:00Z");
    let mut padded = ended.clone();
    padded.insert_str(1, &format!("\"Id\":\"{}\",", "x".repeat(900)));
    account.cloud.put(User, "prd-user", "sekisho-read-only", &padded);
    let foreign = format!(r#"{{"Version":"2012-10-17","Id":"{}","Statement":[]}}"#, "y".repeat(900));
    account.cloud.put(User, "prd-user", "theirs", &foreign);
    let answer = account.text(r#"{"user":"prd-user"}"#).await;
    assert!(answer.contains("To make room"), "{answer}");
    let left = account.cloud.policy_names(User, "prd-user");
    assert_eq!(left, ["sekisho-admin", "theirs"]);

    account.cloud.put(User, "prd-user", "theirs-too", &foreign);
    let error = account.invoke(r#"{"user":"prd-user","profile":"read-only"}"#).await.unwrap_err();
    assert_eq!(error.error_type().name(), "LimitExceeded");
    assert!(error.to_string().contains("too many"), "{error}");
    let left = account.cloud.policy_names(User, "prd-user");
    assert_eq!(left, ["sekisho-admin", "theirs", "theirs-too"]);
}

#[tokio::test(start_paused = true)]
async fn access_beyond_max_minutes_is_neither_shortened_nor_written_again() {
    let account = Account::new();
    let long = windowed("2026-11-21T20:43:00Z", "2026-12-01T00:00:00Z");
    account.cloud.put(User, "prd-user", "sekisho-admin", &long);
    let answer = account.text(r#"{"user":"prd-user"}"#).await;
    assert!(answer.starts_with("End time is 2026-12-01T00:00:00Z"), "{answer}");
    assert_eq!(account.cloud.policies(User, "prd-user")["sekisho-admin"], long);
    assert!(!account.cloud.wrote());
}
