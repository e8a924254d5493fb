//! Follow-ups: the sessions of grants that have ended, and notices that are missing.

use std::cell::Cell;

use sekisho_domain::config::Document;
use temp_access::principal::Kind::User;
use temp_access::row::State;
use time::Duration as Span;
use tokio::time::{Duration, advance, timeout};

use crate::account::{Account, BEGIN, CONFIG, FOLLOW_UP, Fault, GRANT, REVOKE, minutes};
use crate::approvals::{ASK, DOORS, approve, ask};

/// The principal's sessions, one of another user and one of another role, all of which begin in a grant's window.
fn open_sessions(account: &Account) {
    let start = account.now() + Span::MINUTE;
    account.cloud.open_session("prd-user-1", "user/prd-user", start);
    account.cloud.open_session("hana-1", "user/hana", start);
    account.cloud.open_session("night-1", "assumed-role/ops/night", start);
    account.cloud.open_session("prd-user-2", "assumed-role/other/prd-user", start);
    account.cloud.open_session("prd-user-3", "user/team/prd-user", start);
}

#[tokio::test(start_paused = true)]
async fn a_follow_up_ends_the_sessions_of_a_grant_that_has_ended() {
    let account = Account::new();
    account.cloud.open_session("before", "user/prd-user", BEGIN - Span::HOUR);
    account.text(GRANT).await;
    account.text(r#"{"role":"ops","minutes":10}"#).await;
    open_sessions(&account);
    advance(minutes(9)).await;
    assert!(account.follow_up().await.is_empty());
    advance(minutes(2)).await;
    assert_eq!(account.follow_up().await, ["session-ended"]);
    assert_eq!(account.cloud.open_sessions(), ["before", "prd-user-1", "hana-1", "prd-user-2", "prd-user-3"]);
    advance(minutes(20)).await;
    assert_eq!(account.follow_up().await, ["session-ended"]);
    assert_eq!(account.cloud.open_sessions(), ["before", "hana-1", "prd-user-2"]);
    let decision = account.decisions().pop().unwrap();
    assert_eq!((&decision["user"], &decision["sessions"]), (&"prd-user".into(), &"2".into()));
    // Two minutes after the end, nothing is left to do, and nothing is recorded.
    advance(minutes(1)).await;
    assert!(account.follow_up().await.is_empty());
    let (calls, rows) = (account.cloud.calls().len(), account.function.ledger.memory.rows().len());
    assert!(account.follow_up().await.is_empty());
    assert_eq!((account.cloud.calls().len(), account.function.ledger.memory.rows().len()), (calls, rows));
}

#[tokio::test(start_paused = true)]
async fn sessions_go_on_while_another_grant_of_the_principal_is_live() {
    let account = Account::with(&CONFIG.replace("logs:Get*", "ssm:Start*"));
    account.text(r#"{"user":"prd-user","minutes":10}"#).await;
    open_sessions(&account);
    advance(minutes(5)).await;
    account.text(r#"{"user":"prd-user","minutes":30,"profile":"read-only"}"#).await;
    advance(minutes(10)).await;
    assert!(account.follow_up().await.is_empty());
    assert!(account.cloud.open_sessions().contains(&"prd-user-1".to_owned()));
    // The session began before the window of the second grant, but inside that of the first.
    advance(minutes(21)).await;
    assert_eq!(account.follow_up().await.len(), 1);
    assert_eq!(account.cloud.open_sessions(), ["hana-1", "night-1", "prd-user-2"]);
}

#[tokio::test(start_paused = true)]
async fn a_revoke_ends_the_sessions_and_names_what_it_cannot_end() {
    let account = Account::new();
    account.text(GRANT).await;
    open_sessions(&account);
    let answer = account.text(REVOKE).await;
    assert!(answer.contains("2 open sessions of Session Manager in ap-northeast-1 are ended."), "{answer}");
    assert!(answer.contains("This ends no connection that is open already"), "{answer}");
    assert_eq!(account.cloud.open_sessions(), ["hana-1", "night-1", "prd-user-2"]);
    assert_eq!(account.outcomes(), ["granted", "revoked", "session-ended"]);
    // A session that began before the revoke took effect everywhere is ended by the next follow-up.
    account.cloud.open_session("late", "user/prd-user", account.now());
    advance(minutes(1)).await;
    assert_eq!(account.follow_up().await, ["session-ended"]);
    advance(minutes(2)).await;
    account.follow_up().await;
    assert_eq!(account.row("user/prd-user/admin").await.unwrap().state.sessions_from, None);
}

#[tokio::test(start_paused = true)]
async fn a_revoke_without_access_ends_no_session() {
    let account = Account::new();
    open_sessions(&account);
    account.text(REVOKE).await;
    assert!(!account.cloud.calls().contains(&"DescribeSessions".to_owned()));
    assert_eq!(account.cloud.open_sessions().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn sessions_that_cannot_be_ended_are_reported_and_tried_again() {
    let account = Account::new();
    account.text(GRANT).await;
    open_sessions(&account);
    account.cloud.fail("TerminateSession", 2, Fault::Code("AccessDeniedException", 400));
    let answer = account.text(REVOKE).await;
    assert!(answer.contains("may still be open (0 ended): Session Manager's TerminateSession is denied"), "{answer}");
    assert!(answer.starts_with("Access of user prd-user is ended"), "{answer}");
    assert_eq!(account.outcomes(), ["granted", "revoked", "failed"]);
    advance(minutes(1)).await;
    assert_eq!(account.follow_up().await, ["session-ended"]);
    assert_eq!(account.cloud.open_sessions(), ["hana-1", "night-1", "prd-user-2"]);
}

/// Lambda may end the process after the policy was put, and before the notice was sent.
#[tokio::test(start_paused = true)]
async fn a_notice_that_a_crash_prevented_is_sent_by_the_next_follow_up() {
    let account = Account::new();
    account.cloud.fail("Publish", 1, Fault::Lost);
    let crashed =
        timeout(Duration::from_secs(1), account.invoke(r#"{"user":"prd-user","minutes":30,"reason":"fire"}"#));
    crashed.await.unwrap_err();
    assert!(account.admin_end().is_some() && account.cloud.published().is_empty());
    // While the lease of the dead invocation lasts, it may still be running.
    assert!(account.follow_up().await.is_empty());
    advance(minutes(1)).await;
    assert_eq!(account.follow_up().await, ["granted"]);
    let notices = account.cloud.published();
    assert!(notices.len() == 1 && notices[0].contains("Let in: user prd-user until") && notices[0].contains("fire"));
    assert_eq!(account.row("user/prd-user/admin").await.unwrap().state.state, State::Granted);
    assert!(account.follow_up().await.is_empty());
}

/// The audit reads decisions. If a grant could not record its own, the next follow-up does, with the notice.
#[tokio::test(start_paused = true)]
async fn a_decision_that_was_not_recorded_is_recorded_by_the_next_follow_up() {
    for again in [false, true] {
        let account = Account::new();
        account.fail_ledger(|operation| operation == "record");
        let answer = account.text(r#"{"user":"prd-user","minutes":30,"reason":"fire"}"#).await;
        assert!(answer.contains("The ledger did not record this request"), "{answer}");
        assert!(account.outcomes().is_empty());
        account.fail_ledger(|_| false);
        if again {
            account.text(r#"{"user":"prd-user","minutes":30,"reason":"fire"}"#).await;
        }
        advance(minutes(10)).await;
        assert_eq!(account.follow_up().await, ["granted"], "{again}");
        let decision = account.decisions().pop().unwrap();
        let (because, given) = (decision["because"].as_str(), decision["given"].as_str());
        assert!(because == Some("fire") && given.unwrap().starts_with("2026-11-21T20:45:0"), "{decision}");
        let notices = account.cloud.published();
        assert!(notices.len() == 2 && notices.iter().all(|notice| notice.contains("Let in: user prd-user until")));
        assert!(account.follow_up().await.is_empty());
    }
}

/// The process dies after the wider policy was put.
#[tokio::test(start_paused = true)]
async fn a_notice_that_a_crash_prevented_says_that_the_access_may_be_wider() {
    let mut account = Account::new();
    account.text(r#"{"role":"ops","minutes":60,"profile":"read-only"}"#).await;
    let wider = CONFIG.replacen("\"logs:Get*\"", "\"logs:*\"", 1);
    account.function.access = Document::parse("sekisho.toml", &wider).unwrap().access();
    account.cloud.fail("Publish", 1, Fault::Lost);
    let crashed = account.invoke_as("one", r#"{"role":"ops","minutes":1,"profile":"read-only"}"#);
    timeout(Duration::from_secs(1), crashed).await.unwrap_err();
    advance(minutes(1)).await;
    assert_eq!(account.follow_up().await, ["widened"]);
    let notices = account.cloud.published();
    assert!(notices.len() == 2 && notices[1].contains("Access may be wider: role ops until"), "{notices:?}");
    let row = account.row("role/ops/read-only").await.unwrap().state;
    assert_eq!((row.state, row.is_wider, row.owes_notice), (State::Granted, false, false));
    assert!(account.follow_up().await.is_empty());
}

/// Lambda repeats a request whose process died, or somebody asks again. Nothing is left to do but the notice.
#[tokio::test(start_paused = true)]
async fn a_request_that_finds_the_work_of_a_dead_one_does_not_lose_its_notice() {
    for id in ["one", "two"] {
        let account = Account::new();
        account.cloud.fail("Publish", 1, Fault::Lost);
        timeout(Duration::from_secs(1), account.invoke_as("one", GRANT)).await.unwrap_err();
        advance(Duration::from_secs(14)).await;
        account.invoke_as(id, &GRANT.replace("30", "1")).await.unwrap();
        assert!(account.cloud.published().is_empty(), "{id}");
        assert_eq!(account.follow_up().await, ["granted"], "{id}");
        assert!(account.cloud.published()[0].contains("Let in: user prd-user until"), "{id}");
        assert!(account.follow_up().await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_notice_that_could_not_be_sent_is_sent_by_the_next_follow_up() {
    let account = Account::new();
    account.cloud.fail("Publish", 1, Fault::Code("NotFound", 404));
    assert!(account.text(GRANT).await.contains("could not be sent"));
    assert_eq!(account.follow_up().await, ["granted"]);
    assert_eq!(account.cloud.published().len(), 1);
    assert!(account.follow_up().await.is_empty());
}

/// A write that IAM did not answer may have been lost, so there is no access that a notice could be about.
#[tokio::test(start_paused = true)]
async fn an_intent_that_was_not_carried_out_gets_no_notice() {
    let account = Account::new();
    account.cloud.fail("PutUserPolicy", 9, Fault::Lost);
    account.invoke(GRANT).await.unwrap_err();
    let sent = account.cloud.published().len();
    advance(minutes(1)).await;
    assert!(account.follow_up().await.is_empty());
    assert_eq!(account.cloud.published().len(), sent);
    // An hour later, nobody looks for the policy any more.
    advance(minutes(70)).await;
    let calls = account.cloud.calls().iter().filter(|call| *call == "GetUserPolicy").count();
    account.follow_up().await;
    assert_eq!(account.cloud.calls().iter().filter(|call| *call == "GetUserPolicy").count(), calls);
}

#[tokio::test(start_paused = true)]
async fn a_follow_up_without_the_ledger_fails_and_one_with_an_unreadable_row_goes_on() {
    let account = Account::new();
    account.text(GRANT).await;
    open_sessions(&account);
    advance(minutes(31)).await;
    account.fail_ledger(|_| true);
    let error = account.invoke(FOLLOW_UP).await.unwrap_err();
    assert!(error.to_string().starts_with("Neither sessions were ended nor notices sent: "), "{error}");
    account.fail_ledger(|_| false);
    account.spoil("user/aaa/admin").await;
    assert_eq!(account.follow_up().await, ["session-ended"]);
    assert!(account.cloud.policies(User, "prd-user").contains_key("sekisho-admin"), "{FOLLOW_UP} removes no policy");
}

/// The approval dies after IAM took the policy, and another request takes the place of the one that was approved.
#[tokio::test(start_paused = true)]
async fn a_notice_of_an_approval_that_was_cut_off_is_sent_although_its_request_is_replaced() {
    let account = Account::with(DOORS);
    let code = ask(&account, "hana", ASK).await;
    account.cloud.fail("PutUserPolicy", 1, Fault::DoneUnanswered);
    timeout(Duration::from_secs(1), account.invoke_at("taro", &approve(&code))).await.unwrap_err();
    advance(Duration::from_secs(14)).await;
    ask(&account, "hana", &ASK.replace("30", "90")).await;
    assert_eq!(account.follow_up().await, ["granted"]);
    assert!(account.cloud.published().last().unwrap().contains("Let in: user prd-user until"));
}

/// The notice waits for the delete, and tells the end that it made.
#[tokio::test(start_paused = true)]
async fn a_notice_that_cannot_be_sent_keeps_no_delete_waiting() {
    let account = Account::new();
    let no_topic = || account.cloud.fail("Publish", usize::MAX, Fault::Code("NotFound", 404));
    no_topic();
    account.text(GRANT).await;
    account.cloud.fail("DeleteUserPolicy", usize::MAX, Fault::Code("Throttling", 400));
    account.invoke(REVOKE).await.unwrap_err();
    account.cloud.heal();
    no_topic();
    advance(minutes(3)).await;
    assert_eq!(account.follow_up().await, ["revoked"]);
    assert_eq!(account.admin_end(), None);
    account.cloud.heal();
    advance(minutes(1)).await;
    assert_eq!(account.follow_up().await, ["granted"]);
    let notice = account.cloud.published().pop().unwrap();
    assert!(notice.contains("had access") && notice.contains("20:48:1"), "{notice}");
}

/// The ledger carries out some writes of the follow-up, and then no further ones.
#[tokio::test(start_paused = true)]
async fn an_end_that_is_not_recorded_is_announced_once() {
    for carried_out in 0..4 {
        let account = Account::new();
        account.text(GRANT).await;
        account.cloud.fail("DeleteUserPolicy", 8, Fault::DoneUnanswered);
        account.invoke(REVOKE).await.unwrap_err();
        account.cloud.heal();
        let sent = account.cloud.published().len();
        let writes = Cell::new(0);
        account.fail_ledger(move |operation| {
            writes.set(writes.get() + u32::from(operation == "write"));
            operation == "write" && writes.get() > carried_out
        });
        advance(minutes(1)).await;
        account.follow_up().await;
        account.fail_ledger(|_| false);
        for _ in 0..3 {
            advance(minutes(1)).await;
            account.follow_up().await;
        }
        assert_eq!(account.cloud.published().len(), sent + 1, "{carried_out}");
    }
}
