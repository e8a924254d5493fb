//! What people type, and what comes of it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail so")]

mod account;

use account::{Account, minutes, text, windowed};
use sekisho_lambda::Failure;
use serde_json::{Value, json};
use temp_access::answer::Answer;
use temp_access::principal::Kind::{Role, User};
use tokio::time::advance;

#[tokio::test(start_paused = true)]
async fn the_everyday_request_lets_in_and_says_until_when() {
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
    assert_eq!((row.state, row.held_until), (temp_access::row::State::Granted, 0));
}

/// The count is part of the contract with Chatbot's 15 s: each is a round trip.
#[tokio::test(start_paused = true)]
async fn an_everyday_grant_makes_four_calls_to_iam_and_an_extension_five_in_three_stages() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":10}"#).await;
    let mut first = account.cloud.calls();
    first.sort();
    assert_eq!(first, ["GetUser", "GetUserPolicy", "ListUserPolicies", "Publish", "PutUserPolicy"]);
    assert_eq!(*account.function.ledger.operations.borrow(), ["read", "write", "write", "record"]);
    account.cloud.delays(vec![100]);
    let start = tokio::time::Instant::now();
    account.text(r#"{"user":"prd-user","minutes":20}"#).await;
    // Look, put, read back, tell: what the ledger knows is read beside the names.
    assert!(start.elapsed() < minutes(0) + std::time::Duration::from_millis(450), "{:?}", start.elapsed());
    let mut second = account.cloud.calls().split_off(first.len());
    second.sort();
    assert_eq!(second, ["GetUser", "GetUserPolicy", "GetUserPolicy", "ListUserPolicies", "Publish", "PutUserPolicy"]);
}

/// Its row is kept for a month, and what was swept needs no asking for.
#[tokio::test(start_paused = true)]
async fn who_returns_is_let_in_with_as_many_calls_as_the_first_time() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":10}"#).await;
    advance(minutes(15)).await;
    account.invoke(include_str!("../../../events/temp-access/sweep.json")).await.unwrap();
    let before = account.cloud.calls().len();
    let operations = account.function.ledger.operations.borrow().len();
    account.text(r#"{"user":"prd-user","minutes":10}"#).await;
    let mut calls = account.cloud.calls().split_off(before);
    calls.sort();
    assert_eq!(calls, ["GetUser", "GetUserPolicy", "ListUserPolicies", "Publish", "PutUserPolicy"]);
    assert_eq!(account.function.ledger.operations.borrow()[operations..], ["read", "write", "write", "record"]);
}

/// The original computed its window once per process.
#[tokio::test(start_paused = true)]
async fn a_warm_function_computes_each_window_anew() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":10}"#).await;
    advance(minutes(300)).await;
    let answer = account.text(r#"{"user":"prd-user","minutes":10}"#).await;
    assert!(answer.starts_with("End time is 2026-11-22T01:55:00Z"), "{answer}");
    assert_eq!(account.outcomes(), ["granted", "granted"]);
}

#[tokio::test(start_paused = true)]
async fn a_role_is_let_in_as_a_user_is() {
    let account = Account::new();
    let answer = account.text(r#"{"role":"ops","minutes":30,"profile":"read-only"}"#).await;
    assert!(answer.starts_with("End time is 2026-11-21T21:15:00Z\nrole ops has read-only"), "{answer}");
    assert_eq!(account.cloud.end(Role, "ops", "sekisho-read-only").unwrap(), "2026-11-21T21:15:00Z");
    assert!(account.cloud.policies(User, "ops").is_empty());
}

#[tokio::test(start_paused = true)]
async fn asked_again_it_ends_later_and_never_earlier() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":60}"#).await;
    advance(minutes(10)).await;
    let answer = account.text(r#"{"user":"prd-user","minutes":60}"#).await;
    assert!(answer.starts_with("End time is 2026-11-21T21:55:00Z"), "{answer}");
    assert!(answer.contains("before it was 2026-11-21T21:45:00Z"), "{answer}");
    let answer = account.text(r#"{"user":"prd-user","minutes":1}"#).await;
    assert!(answer.starts_with("End time is 2026-11-21T21:55:00Z"), "{answer}");
    assert!(answer.contains("never shortens"), "{answer}");
    assert_eq!(account.outcomes(), ["granted", "extended", "unchanged"]);
    assert_eq!(account.cloud.published().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_chain_ends_at_the_longest_from_its_first_start() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":300}"#).await;
    advance(minutes(240)).await;
    let answer = account.text(r#"{"user":"prd-user","minutes":300}"#).await;
    assert!(answer.starts_with("End time is 2026-11-22T04:45:00Z"), "{answer}");
    assert!(answer.contains("at most 480 min from the first start, 2026-11-21T20:45:00Z"), "{answer}");
    let answer = account.text(r#"{"user":"prd-user","minutes":480}"#).await;
    assert!(answer.starts_with("End time is 2026-11-22T04:45:00Z"), "{answer}");
    // Another profile is another chain.
    let answer = account.text(r#"{"user":"prd-user","minutes":480,"profile":"read-only"}"#).await;
    assert!(answer.starts_with("End time is 2026-11-22T08:45:00Z"), "{answer}");
    // And after the end a new one begins.
    advance(minutes(240)).await;
    let answer = account.text(r#"{"user":"prd-user","minutes":480}"#).await;
    assert!(answer.starts_with("End time is 2026-11-22T12:45:00Z"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn the_reason_is_kept_as_typed_shown_escaped_and_never_in_the_policy() {
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
    // On one line in the mail too, where nothing else tells it from lines of ours.
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
    account.cloud.fail("GetUserPolicy", 0, account::Fault::Stale);
    account.breaks(|operation| operation == "record");
    account.cloud.fail("Publish", 9, account::Fault::Code("InternalError", 500));
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
async fn only_who_is_prepared_is_let_in_and_under_this_very_name() {
    let account = Account::new();
    account.cloud.add(User, "untagged");
    account.cloud.tag(User, "untagged", None);
    account.cloud.add(User, "otherwise");
    account.cloud.tag(User, "otherwise", Some("Grantable"));
    account.cloud.add(User, "unbound");
    account.cloud.boundary(User, "unbound", None);
    account.cloud.add(Role, "elsewhere");
    account.cloud.boundary(Role, "elsewhere", Some("arn:aws:iam::333333333333:policy/sekisho-access-boundary-2"));
    account.cloud.add(Role, "AWSReservedSSO_Admin_1");
    account.cloud.path(Role, "AWSReservedSSO_Admin_1", "/aws-reserved/sso.amazonaws.com/");
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
    for (i, (payload, kind, says)) in cases.into_iter().enumerate() {
        let error = account.invoke(payload).await.unwrap_err();
        assert_eq!(error.error_type().name(), kind, "{payload}: {error}");
        assert!(error.to_string().contains(says), "{payload}: {error}");
        assert_eq!(account.decisions().len(), i + 1, "{payload}");
    }
    assert!(account.outcomes().iter().all(|outcome| outcome == "refused"));
    assert!(!account.cloud.wrote());
    assert!(account.function.ledger.memory.rows().iter().all(|(key, _)| key.pk.starts_with("decision#")));
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_our_name_that_never_ends_is_not_replaced_and_not_removed() {
    let account = Account::new();
    let foreign = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
    account.cloud.put(User, "prd-user", "sekisho-admin", foreign);
    let error = account.invoke(r#"{"user":"prd-user"}"#).await.unwrap_err();
    assert_eq!(error.error_type().name(), "Refused");
    assert!(error.to_string().contains("without DateLessThan"), "{error}");
    let answer = account.text(r#"{"action":"revoke","user":"prd-user"}"#).await;
    assert!(answer.contains("Not removed"), "{answer}");
    let swept = account.invoke(include_str!("../../../events/temp-access/sweep.json")).await.unwrap();
    let Answer::Decisions(swept) = swept else { panic!("{swept:?}") };
    assert_eq!(serde_json::to_value(&swept).unwrap()["decisions"][0]["outcome"], "open-ended");
    assert_eq!(account.cloud.policies(User, "prd-user")["sekisho-admin"], foreign);
    assert_eq!(account.outcomes(), ["refused", "unchanged", "open-ended", "open-ended"]);
    assert!(account.cloud.published().iter().all(|notice| notice.contains("Access without an end: user prd-user")));
    assert_eq!(account.cloud.published().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_never_ends_is_told_once_a_day_and_not_with_every_sweep() {
    let account = Account::new();
    account.cloud.put(User, "prd-user", "sekisho-admin", r#"{"Statement":{"Effect":"Allow","Action":"*"}}"#);
    let sweep = include_str!("../../../events/temp-access/sweep.json");
    // What could not be sent has not been told.
    account.cloud.fail("Publish", 1, account::Fault::Code("NotFound", 404));
    for _ in 0..97 {
        account.invoke(sweep).await.unwrap();
        advance(minutes(15)).await;
    }
    assert_eq!(account.cloud.published().len(), 1);
    assert_eq!(account.outcomes().iter().filter(|outcome| *outcome == "open-ended").count(), 2);
    account.invoke(sweep).await.unwrap();
    assert_eq!(account.cloud.published().len(), 2);
    // Another policy is told at once, and without the ledger all of them.
    account.cloud.put(Role, "ops", "sekisho-admin", r#"{"Statement":{"Effect":"Allow","Action":"*"}}"#);
    account.invoke(sweep).await.unwrap();
    assert_eq!(account.cloud.published().len(), 3);
    account.breaks(|_| true);
    account.invoke(sweep).await.unwrap();
    assert_eq!(account.cloud.published().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_makes_room_and_nothing_else_does() {
    let account = Account::new();
    let ended = windowed("2026-11-20T20:43:00Z", "2026-11-20T21:45:00Z");
    let mut padded = ended.clone();
    padded.insert_str(1, &format!("\"Id\":\"{}\",", "x".repeat(900)));
    account.cloud.put(User, "prd-user", "sekisho-read-only", &padded);
    let foreign = format!(r#"{{"Version":"2012-10-17","Id":"{}","Statement":[]}}"#, "y".repeat(900));
    account.cloud.put(User, "prd-user", "theirs", &foreign);
    let answer = account.text(r#"{"user":"prd-user"}"#).await;
    assert!(answer.contains("To make room"), "{answer}");
    let left: Vec<String> = account.cloud.policies(User, "prd-user").into_keys().collect();
    assert_eq!(left, ["sekisho-admin", "theirs"]);

    account.cloud.put(User, "prd-user", "theirs-too", &foreign);
    let error = account.invoke(r#"{"user":"prd-user","profile":"read-only"}"#).await.unwrap_err();
    assert_eq!(error.error_type().name(), "LimitExceeded");
    assert!(error.to_string().contains("too many"), "{error}");
    let left: Vec<String> = account.cloud.policies(User, "prd-user").into_keys().collect();
    assert_eq!(left, ["sekisho-admin", "theirs", "theirs-too"]);
}

#[tokio::test(start_paused = true)]
async fn a_revoke_ends_every_profile_and_tells() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user"}"#).await;
    account.text(r#"{"user":"prd-user","profile":"read-only"}"#).await;
    account.text(r#"{"role":"ops"}"#).await;
    account.cloud.put(User, "prd-user", "theirs", "{}");
    let answer = account.text(r#"{"action":"revoke","user":"prd-user","reason":"完了"}"#).await;
    assert!(answer.contains("sekisho-admin, sekisho-read-only removed") && answer.contains("minutes"), "{answer}");
    assert_eq!(account.cloud.policies(User, "prd-user").into_keys().collect::<Vec<_>>(), ["theirs"]);
    assert!(account.cloud.policies(Role, "ops").contains_key("sekisho-admin"));
    assert_eq!(account.outcomes().last().unwrap(), "revoked");
    assert!(account.cloud.published().last().unwrap().contains("完了"));
    assert!(account.text(r#"{"action":"revoke","user":"prd-user"}"#).await.contains("no access that could be ended"));
    // It is over: the next grant begins a chain of its own.
    let answer = account.text(r#"{"user":"prd-user","minutes":1}"#).await;
    assert!(answer.starts_with("End time is 2026-11-21T20:46:00Z"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_list_says_who_until_when_and_why_as_iam_has_it() {
    let account = Account::new();
    assert_eq!(account.text(r#"{"action":"list"}"#).await, "Nobody has access now.");
    account.text(r#"{"user":"prd-user","minutes":90,"reason":"<b>release</b>"}"#).await;
    account.text(r#"{"role":"ops","minutes":1}"#).await;
    account.text(r#"{"role":"ops","minutes":200,"profile":"read-only"}"#).await;
    account.text(r#"{"action":"revoke","role":"ops"}"#).await;
    account.text(r#"{"role":"ops","minutes":30}"#).await;
    advance(minutes(5)).await;
    let listed = account.text(r#"{"action":"list"}"#).await;
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 2, "{listed}");
    assert!(lines[0].starts_with("role ops: admin until 2026-11-21T21:15:0"), "{listed}");
    assert!(
        lines[0].ends_with("(24 min left): no reason given") || lines[0].ends_with("(25 min left): no reason given")
    );
    assert!(lines[1].contains("user prd-user: admin until 2026-11-21T22:15:00Z (1 h 2"), "{listed}");
    assert!(lines[1].ends_with("&lt;b&gt;release&lt;/b&gt;"), "{listed}");
}

#[tokio::test(start_paused = true)]
async fn help_fits_a_phone() {
    let account = Account::new();
    let help = account.text(r#"{"action":"help"}"#).await;
    assert!(help.len() < 600 && help.lines().all(|line| line.chars().count() <= 60), "{help}");
    assert!(help.contains("180") && help.contains("480") && help.contains("read-only"), "{help}");
}

#[tokio::test(start_paused = true)]
async fn a_sweep_removes_what_has_ended_and_nothing_live() {
    let account = Account::new();
    let sweep = include_str!("../../../events/temp-access/sweep.json");
    account.text(r#"{"user":"prd-user","minutes":10}"#).await;
    account.text(r#"{"role":"ops","minutes":60}"#).await;
    account.cloud.put(User, "stranger", "sekisho-gone", &windowed("2026-11-20T20:43:00Z", "2026-11-20T21:45:00Z"));
    account.cloud.put(User, "prd-user", "theirs", &windowed("2026-11-20T20:43:00Z", "2026-11-20T21:45:00Z"));
    advance(minutes(10)).await;
    let Answer::Decisions(swept) = account.invoke(sweep).await.unwrap() else { panic!() };
    let swept = serde_json::to_value(&swept).unwrap();
    let outcomes: Vec<&str> =
        swept["decisions"].as_array().unwrap().iter().map(|d| d["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["swept", "swept"], "{swept}");
    assert_eq!(account.cloud.policies(User, "prd-user").into_keys().collect::<Vec<_>>(), ["theirs"]);
    assert!(account.cloud.policies(User, "stranger").is_empty());
    assert!(account.cloud.policies(Role, "ops").contains_key("sekisho-admin"));
    let Answer::Decisions(again) = account.invoke(sweep).await.unwrap() else { panic!() };
    assert_eq!(serde_json::to_value(&again).unwrap()["decisions"][0]["outcome"], "idle");
}

#[tokio::test(start_paused = true)]
async fn access_that_is_longer_than_may_be_granted_is_neither_shortened_nor_written() {
    let account = Account::new();
    let long = windowed("2026-11-21T20:43:00Z", "2027-01-01T00:00:00Z");
    account.cloud.put(User, "prd-user", "sekisho-admin", &long);
    let answer = account.text(r#"{"user":"prd-user"}"#).await;
    assert!(answer.starts_with("End time is 2027-01-01T00:00:00Z"), "{answer}");
    assert_eq!(account.cloud.policies(User, "prd-user")["sekisho-admin"], long);
    assert!(!account.cloud.wrote());
}

/// Every file in `events/temp-access`, and how it ends on an account as `Cloud::new` makes it.
#[tokio::test(start_paused = true)]
async fn the_events_are_answered_as_the_contract_has_it() {
    let expected = [
        ("grant", "End time is 2026-11-21T23:45:00Z"),
        ("grant-all-fields", "End time is 2026-11-21T21:15:00Z"),
        ("dry-run", "Dry run"),
        ("revoke", "user prd-user had no access"),
        ("list", "Nobody has access now."),
        ("help", "Payloads for temp-access"),
        ("sweep", "idle"),
        ("stranger", "Refused"),
        ("nobody", "NotFound"),
        ("too-long", "InvalidRequest"),
        ("twice", "InvalidRequest"),
        ("text-minutes", "InvalidRequest"),
        ("misspelt", "InvalidRequest"),
        ("curly-quotes", "InvalidRequest"),
        ("list-of-requests", "InvalidRequest"),
    ];
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../events/temp-access");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    let mut named: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
    named.sort_unstable();
    assert_eq!(files, named);
    for (name, says) in expected {
        let payload = std::fs::read_to_string(format!("{folder}/{name}.json")).unwrap();
        let account = Account::new();
        match account.invoke(&payload).await {
            Err(error) => assert_eq!(error.error_type().name(), says, "{name}: {error}"),
            Ok(Answer::Decisions(decisions)) => {
                assert_eq!(serde_json::to_value(&decisions).unwrap()["decisions"][0]["outcome"], says, "{name}");
            }
            answer => assert!(text(answer).starts_with(says), "{name}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_configuration_is_said_by_every_invocation() {
    let account = Account::with("[access]\ndefault_minutes = 0\n");
    for payload in [r#"{"user":"prd-user"}"#, r#"{"action":"help"}"#] {
        let error = account.invoke(payload).await.unwrap_err();
        assert_eq!(error.error_type().name(), "Misconfigured");
        assert!(error.to_string().contains("access.default_minutes"), "{error}");
    }
    assert_eq!(account.outcomes(), ["failed", "failed"]);
    // Ending access takes no profile.
    assert!(account.text(r#"{"action":"revoke","user":"prd-user"}"#).await.contains("no access"));
}
