//! The end of access when something goes wrong: throttled deletes, outdated reads, policies that were put again, and
//! sessions of the last moment.

use sekisho_lambda::Failure;
use temp_access::principal::Kind::User;
use time::Duration as Span;
use tokio::time::{Duration, advance, sleep, timeout};

use crate::account::{Account, BEGIN, CONFIG, Fault, GRANT, LIST, REVOKE, SWEEP, minutes, text, windowed};

const THROTTLED: Fault = Fault::Code("Throttling", 400);

/// An account with the profile `shell`, which allows to open sessions, as `admin` does, and lasts for days.
fn with_shell() -> Account {
    let shell = "[access.profiles.shell]\nmax_minutes = 3000\n\
                 statements = [{ actions = [\"ssm:Start*\"], resources = [\"*\"] }]\n";
    Account::with(&format!("{CONFIG}{shell}"))
}

/// Session Manager may list a session that began just before the end only after the first follow-up.
#[tokio::test(start_paused = true)]
async fn a_session_of_the_last_moment_is_ended_although_it_is_listed_late() {
    let account = Account::new();
    account.text(GRANT).await;
    advance(Duration::from_secs(30 * 60 + 1)).await;
    assert!(account.follow_up().await.is_empty());
    account.cloud.open_session("late", "user/prd-user", BEGIN + Span::minutes(30));
    account.cloud.open_session("later", "user/prd-user", BEGIN + Span::minutes(33));
    advance(minutes(1)).await;
    assert_eq!(account.follow_up().await, ["session-ended"]);
    advance(minutes(2)).await;
    assert!(account.follow_up().await.is_empty());
    assert_eq!(account.row("user/prd-user/admin").await.unwrap().state.sessions_from, None);
    assert_eq!(account.cloud.open_sessions(), ["later"]);
}

/// The policy with an impossible end stays foreign, and a revoke neither makes it Sekisho's nor starts a chain.
#[tokio::test(start_paused = true)]
async fn a_foreign_policy_stays_foreign_after_a_revoke() {
    let foreign = windowed("2026-11-21T20:43:00Z", "2099-01-01T00:00:00Z");
    for is_granted in [false, true] {
        let account = Account::new();
        if is_granted {
            account.text(GRANT).await;
        }
        account.cloud.put(User, "prd-user", "sekisho-admin", &foreign);
        assert!(account.text(REVOKE).await.contains("sekisho-admin removed"));
        for later in [0, 3] {
            advance(minutes(later)).await;
            account.cloud.put(User, "prd-user", "sekisho-admin", &foreign);
            assert!(account.text(LIST).await.contains("sekisho-admin is not Sekisho's: it ends only at 2099"));
            let error = account.invoke(GRANT).await.unwrap_err();
            assert!(error.to_string().contains("that Sekisho did not write"), "{error}");
        }
        assert_eq!(account.sweep().await, ["foreign"]);
        account.text(REVOKE).await;
        assert!(account.text(GRANT).await.starts_with("End time is 2026-11-21T21:18:0"));
    }
}

/// A policy without a start says nothing about the chain.
#[tokio::test(start_paused = true)]
async fn a_policy_without_a_start_does_not_use_up_the_chain() {
    let account = Account::new();
    let end = r#"{"DateLessThan":{"aws:CurrentTime":"2026-11-21T21:45:00Z"}}"#;
    let document = format!(r#"{{"Statement":{{"Effect":"Allow","Action":"*","Resource":"*","Condition":{end}}}}}"#);
    account.cloud.put(User, "prd-user", "sekisho-admin", &document);
    account.text(REVOKE).await;
    assert!(account.text(GRANT).await.starts_with("End time is 2026-11-21T21:15:0"));
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_is_put_again_after_a_revoke_is_live() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":60}"#).await;
    let document = account.cloud.policies(User, "prd-user")["sekisho-admin"].clone();
    account.text(REVOKE).await;
    advance(minutes(3)).await;
    account.cloud.put(User, "prd-user", "sekisho-admin", &document);
    let answer = account.text(r#"{"user":"prd-user","minutes":10}"#).await;
    assert!(answer.starts_with("End time is 2026-11-21T21:45:00Z"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_revoke_repeats_a_throttled_delete() {
    let account = Account::new();
    account.text(GRANT).await;
    account.cloud.fail("DeleteUserPolicy", 5, THROTTLED);
    assert!(account.text(REVOKE).await.contains("is ended: sekisho-admin removed"));
    assert_eq!(account.admin_end(), None);
}

/// A grant would be made under the row that says that the policy has to be deleted.
#[tokio::test(start_paused = true)]
async fn a_grant_waits_for_the_delete_that_a_revoke_owes() {
    let account = with_shell();
    let shell = r#"{"user":"prd-user","minutes":3000,"profile":"shell"}"#;
    account.text(shell).await;
    account.cloud.fail("DeleteUserPolicy", 10_000, THROTTLED);
    account.invoke(REVOKE).await.unwrap_err();
    for _ in 0..26 {
        advance(minutes(60)).await;
        assert!(account.follow_up().await.is_empty());
        let error = account.invoke(shell).await.unwrap_err();
        assert_eq!(error.error_type().name(), "Throttled", "{error}");
    }
    // The follow-up still tries, because the policy gives access for one more day.
    account.cloud.heal();
    assert_eq!(account.follow_up().await, ["revoked"]);
    assert_eq!(account.cloud.policy_names(User, "prd-user"), [""; 0]);
    assert!(account.text(shell).await.starts_with("End time is "));
}

/// The second revoke can neither delete the policy nor read it, and must not forget until when it gives access.
#[tokio::test(start_paused = true)]
async fn a_second_revoke_that_fails_leaves_the_end_until_which_a_follow_up_tries() {
    let account = with_shell();
    account.text(r#"{"user":"prd-user","minutes":3000,"profile":"shell"}"#).await;
    let granted = account.row("user/prd-user/shell").await.unwrap().state;
    account.cloud.fail("DeleteUserPolicy", 10_000, THROTTLED);
    account.invoke(REVOKE).await.unwrap_err();
    account.cloud.fail("GetUserPolicy", 10_000, THROTTLED);
    account.invoke(REVOKE).await.unwrap_err();
    let row = account.row("user/prd-user/shell").await.unwrap().state;
    assert_eq!((row.window(), row.owes_delete), (granted.window(), true));
    advance(minutes(26 * 60)).await;
    account.cloud.heal();
    assert_eq!(account.follow_up().await, ["revoked"]);
    assert_eq!(account.cloud.policy_names(User, "prd-user"), [""; 0]);
}

/// A day after the end, no follow-up tries any more to delete what is left of the policy.
#[tokio::test(start_paused = true)]
async fn a_revoke_promises_only_what_a_follow_up_does() {
    for (hours, is_promised) in [(23, true), (26, false)] {
        let account = Account::new();
        account.text(GRANT).await;
        advance(minutes(hours * 60)).await;
        account.cloud.fail("GetUserPolicy", 10_000, THROTTLED);
        account.cloud.fail("DeleteUserPolicy", 10_000, THROTTLED);
        let error = account.invoke(REVOKE).await.unwrap_err().to_string();
        assert_eq!(error.contains("The function tries again every minute."), is_promised, "{hours}: {error}");
        account.cloud.heal();
        advance(minutes(1)).await;
        account.follow_up().await;
        assert_eq!(account.admin_end().is_none(), is_promised, "{hours}");
    }
}

/// Afterwards, a grant takes the place of the policy.
#[tokio::test(start_paused = true)]
async fn no_grant_waits_for_a_delete_that_nobody_tries_any_more() {
    let account = Account::new();
    account.text(GRANT).await;
    account.cloud.fail("DeleteUserPolicy", 10_000, THROTTLED);
    account.invoke(REVOKE).await.unwrap_err();
    advance(minutes(23 * 60)).await;
    assert_eq!(account.invoke(GRANT).await.unwrap_err().error_type().name(), "Throttled");
    advance(minutes(61)).await;
    assert!(account.text(GRANT).await.starts_with("End time is "));
}

/// IAM carries out none of the deletes that it does not answer, or the first one.
#[tokio::test(start_paused = true)]
async fn a_follow_up_makes_the_delete_that_a_revoke_could_not_make() {
    for fault in [Fault::Lost, Fault::DoneUnanswered] {
        let account = Account::new();
        account.text(r#"{"user":"prd-user","minutes":60}"#).await;
        account.cloud.fail("DeleteUserPolicy", 8, fault);
        let error = account.invoke(REVOKE).await.unwrap_err();
        assert!(error.to_string().starts_with("user prd-user may still have sekisho-admin: "), "{error}");
        assert!(error.to_string().contains("\nThe function tries again every minute."), "{error}");
        let mut outcomes = Vec::new();
        for _ in 0..5 {
            advance(minutes(1)).await;
            outcomes.extend(account.follow_up().await);
        }
        assert_eq!(outcomes, ["revoked"], "{fault:?}");
        assert_eq!(account.admin_end(), None);
        assert!(account.cloud.published().last().unwrap().contains("Ended: access of user prd-user"));
        // The next grant is not deleted.
        account.text(GRANT).await;
        advance(minutes(1)).await;
        account.follow_up().await;
        assert!(account.admin_end().is_some());
    }
}

/// Nothing can be read, so that a revoke tries to delete the policies of all profiles.
#[tokio::test(start_paused = true)]
async fn a_delete_that_finds_nothing_is_announced_only_if_it_ended_access() {
    for was_revoked in [false, true] {
        let account = Account::new();
        if was_revoked {
            account.text(GRANT).await;
            advance(minutes(5)).await;
            account.text(REVOKE).await;
        }
        let (decided, sent) = (account.outcomes(), account.cloud.published());
        advance(minutes(5)).await;
        for call in ["ListUserPolicies", "GetUserPolicy", "DeleteUserPolicy"] {
            account.cloud.fail(call, 10_000, THROTTLED);
        }
        account.invoke(REVOKE).await.unwrap_err();
        account.cloud.heal();
        advance(minutes(1)).await;
        assert!(account.follow_up().await.is_empty(), "{was_revoked}");
        assert!(!account.row("user/prd-user/admin").await.unwrap().state.owes_delete);
        assert_eq!(account.outcomes(), [decided, vec!["failed".to_owned()]].concat());
        assert_eq!(account.cloud.published(), sent);
    }
}

/// IAM lists the policy, but one of its replicas does not find it.
#[tokio::test(start_paused = true)]
async fn a_revoke_deletes_a_listed_policy_that_a_read_does_not_find() {
    let account = Account::new();
    account.text(GRANT).await;
    account.fail_ledger(|_| true);
    account.cloud.fail("GetUserPolicy", 1, Fault::Stale);
    assert!(account.text(REVOKE).await.contains("is ended: sekisho-admin removed"));
    assert_eq!(account.admin_end(), None);
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_cannot_open_sessions_keeps_none_open() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":10}"#).await;
    account.cloud.open_session("one", "user/prd-user", BEGIN + Span::MINUTE);
    account.text(r#"{"user":"prd-user","minutes":60,"profile":"read-only"}"#).await;
    advance(minutes(11)).await;
    assert_eq!(account.follow_up().await, ["session-ended"]);
}

#[tokio::test(start_paused = true)]
async fn an_intent_that_was_not_carried_out_keeps_no_session_open() {
    for profile in ["admin", "shell"] {
        let account = with_shell();
        account.text(r#"{"user":"prd-user","minutes":10}"#).await;
        account.cloud.open_session("one", "user/prd-user", BEGIN + Span::MINUTE);
        account.cloud.fail("PutUserPolicy", 3, Fault::Lost);
        let payload = format!(r#"{{"user":"prd-user","minutes":60,"profile":"{profile}"}}"#);
        account.invoke(&payload).await.unwrap_err();
        // While the earlier access is live, its sessions go on.
        advance(minutes(5)).await;
        assert!(account.follow_up().await.is_empty(), "{profile}");
        advance(minutes(6)).await;
        assert_eq!(account.follow_up().await, ["session-ended"], "{profile}");
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_are_ended_although_another_grant_was_live_for_days() {
    let account = with_shell();
    account.text(r#"{"user":"prd-user","minutes":10}"#).await;
    account.cloud.open_session("one", "user/prd-user", BEGIN + Span::MINUTE);
    advance(minutes(5)).await;
    account.text(r#"{"user":"prd-user","minutes":3000,"profile":"shell"}"#).await;
    advance(minutes(2_990)).await;
    assert!(account.follow_up().await.is_empty());
    advance(minutes(11)).await;
    assert_eq!(account.follow_up().await, ["session-ended"]);
    assert!(account.cloud.open_sessions().is_empty());
}

/// The policy is deleted at once, and so are the sessions, while the revoke waits for the other request.
#[tokio::test(start_paused = true)]
async fn a_revoke_ends_sessions_while_it_waits_for_another_request() {
    let account = Account::new();
    account.text(GRANT).await;
    account.cloud.open_session("one", "user/prd-user", BEGIN + Span::SECOND);
    account.cloud.fail("PutUserPolicy", 1, Fault::Lost);
    let extension = account.invoke(r#"{"user":"prd-user","minutes":60}"#);
    timeout(Duration::from_secs(1), extension).await.unwrap_err();
    let ended = async {
        sleep(Duration::from_secs(1)).await;
        account.cloud.open_sessions()
    };
    let (answer, after_a_second) = futures_util::join!(account.invoke(REVOKE), ended);
    assert!(after_a_second.is_empty());
    assert!(text(answer).contains("One open session of Session Manager in ap-northeast-1 is ended."));
}

/// Without the ledger, no follow-up learns that sessions have to be ended.
#[tokio::test(start_paused = true)]
async fn a_revoke_without_the_ledger_does_not_promise_to_try_again() {
    let account = Account::new();
    account.text(GRANT).await;
    account.cloud.open_session("one", "user/prd-user", BEGIN + Span::MINUTE);
    account.cloud.fail("TerminateSession", 9, Fault::Code("AccessDeniedException", 400));
    account.fail_ledger(|_| true);
    let answer = account.text(REVOKE).await;
    assert!(answer.contains("Revoke again; end them in the console if it is urgent."), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_revoke_that_fails_in_part_says_what_else_happened() {
    let account = Account::new();
    account.text(GRANT).await;
    account.cloud.open_session("one", "user/prd-user", BEGIN + Span::MINUTE);
    account.cloud.fail("ListUserPolicies", 999, THROTTLED);
    let error = account.invoke(REVOKE).await.unwrap_err().to_string();
    assert!(error.contains("\nOne open session of Session Manager in ap-northeast-1 is ended.\n"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_revoke_of_a_user_who_was_deleted_ends_the_sessions() {
    let account = Account::new();
    account.text(GRANT).await;
    account.cloud.open_session("one", "user/prd-user", BEGIN + Span::MINUTE);
    for call in ["GetUser", "ListUserPolicies", "GetUserPolicy", "DeleteUserPolicy"] {
        account.cloud.fail(call, 99, Fault::Code("NoSuchEntity", 404));
    }
    let answer = account.text(REVOKE).await;
    assert!(answer.contains("One open session of Session Manager in ap-northeast-1 is ended."), "{answer}");
    assert!(account.cloud.open_sessions().is_empty());
    advance(minutes(5)).await;
    account.follow_up().await;
    assert_eq!(account.invoke(REVOKE).await.unwrap_err().error_type().name(), "NotFound");
}

/// The first failure is reported whenever it comes, and the others are not.
#[tokio::test(start_paused = true)]
async fn a_failure_to_end_sessions_is_reported_once() {
    let account = Account::new();
    account.text(GRANT).await;
    account.cloud.open_session("one", "user/prd-user", BEGIN + Span::MINUTE);
    account.cloud.fail("TerminateSession", 999, Fault::Code("AccessDeniedException", 400));
    advance(minutes(40)).await;
    assert_eq!(account.follow_up().await, ["failed"]);
    advance(minutes(1)).await;
    assert!(account.follow_up().await.is_empty());
}

/// The row says that the access had ended, so nobody ended it.
#[tokio::test(start_paused = true)]
async fn an_unread_policy_whose_row_has_ended_is_not_said_to_be_ended() {
    let account = Account::new();
    account.text(GRANT).await;
    advance(minutes(31)).await;
    account.cloud.fail("GetUserPolicy", 99, THROTTLED);
    let answer = account.text(REVOKE).await;
    assert!(answer.contains("sekisho-admin had already ended at 2026-11-21T21:15:00Z, and is removed."), "{answer}");
}

/// A chain that has reached its limit leaves less than the request asked for.
#[tokio::test(start_paused = true)]
async fn the_answer_to_a_capped_grant_says_how_long_it_lasts() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":480}"#).await;
    advance(minutes(470)).await;
    account.text(REVOKE).await;
    advance(minutes(5)).await;
    let preview = account.text(r#"{"user":"prd-user","minutes":60,"dry_run":true}"#).await;
    assert!(preview.contains("user prd-user would get admin for 5 min."), "{preview}");
    let answer = account.text(r#"{"user":"prd-user","minutes":60}"#).await;
    assert!(answer.contains("user prd-user has admin for 5 min;"), "{answer}");
}

/// The topic is down until the access is over, and then somebody revokes.
#[tokio::test(start_paused = true)]
async fn a_notice_is_sent_even_after_the_end() {
    for is_revoked in [false, true] {
        let account = Account::new();
        account.cloud.fail("Publish", 1, Fault::Code("NotFound", 404));
        account.text(r#"{"user":"prd-user","minutes":1}"#).await;
        if is_revoked {
            account.text(REVOKE).await;
        }
        advance(minutes(2)).await;
        assert_eq!(account.follow_up().await, ["granted"]);
        let notice = account.cloud.published().pop().unwrap();
        assert!(notice.contains("Was let in: user prd-user until 2026-11-21T20:4"), "{notice}");
        assert!(!notice.contains("To end it"), "{notice}");
        assert!(account.follow_up().await.is_empty());
    }
}

/// The request changed nothing, so its intent, which was never settled, is no access that was given.
#[tokio::test(start_paused = true)]
async fn an_unsettled_request_that_changed_nothing_gets_no_notice() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":60}"#).await;
    let sent = account.cloud.published().len();
    advance(minutes(3)).await;
    let count = std::cell::Cell::new(0);
    account.fail_ledger(move |operation| {
        count.set(count.get() + usize::from(operation == "write"));
        operation == "write" && count.get() > 1
    });
    assert!(account.text(r#"{"user":"prd-user","minutes":5}"#).await.contains("not that the grant was carried out"));
    account.fail_ledger(|_| false);
    advance(minutes(1)).await;
    assert!(account.follow_up().await.is_empty());
    assert_eq!(account.cloud.published().len(), sent);
}

/// The write of the wider policy is lost, and the live policy has the same end.
#[tokio::test(start_paused = true)]
async fn a_lost_write_of_a_wider_policy_is_not_reported_as_widened() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":60}"#).await;
    let narrow =
        account.cloud.policies(User, "prd-user")["sekisho-admin"].replace(r#""Action":"*""#, r#""Action":"s3:*""#);
    account.cloud.put(User, "prd-user", "sekisho-admin", &narrow);
    advance(minutes(3)).await;
    account.cloud.fail("PutUserPolicy", 9, Fault::Lost);
    let error = account.invoke(r#"{"user":"prd-user","minutes":5}"#).await.unwrap_err();
    assert!(error.to_string().starts_with("It is not known whether"), "{error}");
}

/// What a follow-up did is recorded, although the sweep itself fails.
#[tokio::test(start_paused = true)]
async fn a_sweep_that_fails_records_its_follow_up() {
    let account = Account::new();
    account.text(GRANT).await;
    account.cloud.open_session("one", "user/prd-user", BEGIN + Span::MINUTE);
    advance(minutes(31)).await;
    account.cloud.fail("GetAccountAuthorizationDetails", 9, Fault::Code("AccessDenied", 403));
    account.invoke(SWEEP).await.unwrap_err();
    assert_eq!(account.outcomes(), ["granted", "refused", "session-ended"]);
}

#[tokio::test(start_paused = true)]
async fn an_empty_reason_does_not_replace_the_one_of_live_access() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":30,"reason":"fire"}"#).await;
    account.text(r#"{"user":"prd-user","minutes":60,"reason":""}"#).await;
    assert_eq!(account.row("user/prd-user/admin").await.unwrap().state.reason.as_deref(), Some("fire"));
}

/// A list of sessions that does not end in time does not keep those open that were listed.
#[tokio::test(start_paused = true)]
async fn sessions_of_the_first_pages_are_ended_although_a_later_page_fails() {
    let account = Account::new();
    account.text(GRANT).await;
    account.cloud.open_session("one", "user/prd-user", BEGIN + Span::MINUTE);
    for n in 0..20 {
        account.cloud.open_session(&format!("hana-{n}"), "user/hana", BEGIN);
    }
    account.cloud.set_delays(vec![700]);
    let answer = account.text(REVOKE).await;
    assert!(answer.contains("may still be open (1 ended)"), "{answer}");
    assert!(!account.cloud.open_sessions().contains(&"one".to_owned()));
}
