//! Revokes, with and without a working IAM and ledger.

use futures_util::future::join;
use sekisho_lambda::Failure;
use temp_access::principal::Kind::{Role, User};
use temp_access::row::State;
use tokio::time::{Duration, Instant, advance, sleep};

use crate::account::{Account, BEGIN, CONFIG, END, Fault, GRANT, LIST, REVOKE, SLACK_LIMIT, minutes, text, windowed};

#[tokio::test(start_paused = true)]
async fn a_revoke_ends_every_profile_and_sends_a_notice() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user"}"#).await;
    account.text(r#"{"user":"prd-user","profile":"read-only"}"#).await;
    account.text(r#"{"role":"ops"}"#).await;
    account.cloud.put(User, "prd-user", "theirs", "{}");
    let answer = account.text(r#"{"action":"revoke","user":"prd-user","reason":"完了"}"#).await;
    assert!(answer.contains("sekisho-admin, sekisho-read-only removed") && answer.contains("minutes"), "{answer}");
    assert_eq!(account.cloud.policy_names(User, "prd-user"), ["theirs"]);
    assert!(account.cloud.policies(Role, "ops").contains_key("sekisho-admin"));
    assert_eq!(account.outcomes().last().unwrap(), "revoked");
    assert!(account.cloud.published().last().unwrap().contains("完了"));
    assert!(account.text(REVOKE).await.contains("no access that could be ended"));
    // The access is over, so the next grant is short, although it continues the chain.
    let answer = account.text(r#"{"user":"prd-user","minutes":1}"#).await;
    assert!(answer.starts_with("End time is 2026-11-21T20:46:00Z"), "{answer}");
}

/// Whatever cannot be read is deleted without being read.
#[tokio::test(start_paused = true)]
async fn a_revoke_does_not_wait_for_a_read() {
    for fault in [Fault::Code("Throttling", 400), Fault::Lost, Fault::Code("AccessDenied", 403)] {
        let account = Account::new();
        account.text(GRANT).await;
        for call in ["GetUser", "GetUserPolicy"] {
            account.cloud.fail(call, 999, fault);
        }
        let ended = async {
            sleep(Duration::from_secs(5)).await;
            account.admin_end()
        };
        let (answer, after_five_seconds) = join(account.invoke(REVOKE), ended).await;
        assert_eq!(after_five_seconds, None, "{fault:?}");
        assert!(text(answer).contains("is ended: sekisho-admin removed"), "{fault:?}");
        assert_eq!(account.row("user/prd-user/admin").await.unwrap().state.state, State::Revoked);
    }
}

/// Without any read, it is not known when the access began, so all sessions of the principal end.
#[tokio::test(start_paused = true)]
async fn a_revoke_without_any_read_ends_access_and_all_sessions() {
    let account = Account::new();
    account.cloud.open_session("early", "user/prd-user", BEGIN - time::Duration::DAY);
    account.text(GRANT).await;
    account.fail_ledger(|_| true);
    for call in ["GetUser", "GetUserPolicy"] {
        account.cloud.fail(call, 999, Fault::Code("AccessDenied", 403));
    }
    let answer = account.text(REVOKE).await;
    assert!(answer.contains("is ended: sekisho-admin removed"), "{answer}");
    assert!(answer.contains("One open session of Session Manager in ap-northeast-1 is ended."), "{answer}");
    assert_eq!(account.admin_end(), None);
    assert!(account.cloud.open_sessions().is_empty());
    // There is nothing left to end.
    assert!(account.text(REVOKE).await.contains("had no access that could be ended"));
}

/// Without a list of the policies, the revoke deletes those of all profiles that the ledger or the configuration has.
#[tokio::test(start_paused = true)]
async fn a_revoke_without_a_list_of_policies_ends_those_of_all_known_profiles() {
    let account = Account::new();
    account.text(GRANT).await;
    account.cloud.put(User, "prd-user", "sekisho-read-only", &windowed("2026-11-21T20:43:00Z", "2026-11-21T21:45:00Z"));
    account.cloud.fail("ListUserPolicies", 999, Fault::Code("Throttling", 400));
    account.fail_ledger(|_| true);
    let error = account.invoke(REVOKE).await.unwrap_err();
    // The pauses between the attempts are random, so the list is either throttled or late.
    assert!(matches!(error.error_type().name(), "Throttled" | "Internal"), "{error}");
    let others = "user prd-user may still have policies that neither the ledger nor the configuration has";
    let expected = format!("{others}; sekisho-admin, sekisho-read-only removed");
    assert!(error.to_string().starts_with(&expected), "{error}");
    assert!(account.cloud.policies(User, "prd-user").is_empty());
}

/// A name that IAM spells differently, and a user that does not exist, still stop a revoke.
#[tokio::test(start_paused = true)]
async fn a_revoke_of_nobody_deletes_nothing() {
    let account = Account::new();
    for (user, error_type) in [("nobody", "NotFound"), ("PRD-User", "Refused")] {
        let error = account.invoke(&format!(r#"{{"action":"revoke","user":"{user}"}}"#)).await.unwrap_err();
        assert_eq!(error.error_type().name(), error_type);
    }
    assert!(!account.cloud.wrote());
}

#[tokio::test(start_paused = true)]
async fn a_revoke_removes_a_policy_with_any_end_and_leaves_one_without() {
    let account = Account::new();
    for (policy, end) in [
        ("sekisho-2099", r#""2099-01-01T00:00:00Z""#),
        ("sekisho-epoch", "1795304700"),
        ("sekisho-offset", r#""2026-11-22T08:45:00+09:00""#),
        ("sekisho-list", r#"["2026-11-21T23:45:00Z"]"#),
        ("sekisho-soon", r#""soon""#),
    ] {
        let condition = format!(r#"{{"DateLessThan":{{"aws:CurrentTime":{end}}}}}"#);
        let document =
            format!(r#"{{"Statement":{{"Effect":"Allow","Action":"*","Resource":"*","Condition":{condition}}}}}"#);
        account.cloud.put(User, "prd-user", policy, &document);
    }
    let listed = account.text(LIST).await;
    assert!(listed.contains("sekisho-2099 is not Sekisho's: it ends only at 2099-01-01T00:00:00Z"), "{listed}");
    let preview = account.text(r#"{"action":"revoke","user":"prd-user","dry_run":true}"#).await;
    assert!(preview.contains("would lose sekisho-epoch, which ends at 2026-11-21T23:45:00Z"), "{preview}");
    assert!(preview.contains("sekisho-soon would stay"), "{preview}");
    let answer = account.text(REVOKE).await;
    let removed = "sekisho-2099, sekisho-epoch, sekisho-list, sekisho-offset removed";
    assert!(answer.contains(removed) && answer.contains("Not removed"), "{answer}");
    assert_eq!(account.cloud.policy_names(User, "prd-user"), ["sekisho-soon"]);
}

#[tokio::test(start_paused = true)]
async fn access_that_had_already_ended_is_not_said_to_be_ended() {
    let account = Account::new();
    account.text(GRANT).await;
    let sent = account.cloud.published().len();
    advance(minutes(31)).await;
    let preview = account.text(r#"{"action":"revoke","user":"prd-user","dry_run":true}"#).await;
    assert!(preview.contains("sekisho-admin has already ended, at 2026-11-21T21:15:00Z"), "{preview}");
    let answer = account.text(REVOKE).await;
    assert!(answer.starts_with("user prd-user had no access that could be ended."), "{answer}");
    assert!(answer.contains("sekisho-admin had already ended at 2026-11-21T21:15:00Z, and is removed."), "{answer}");
    assert_eq!(account.admin_end(), None);
    assert_eq!(account.outcomes(), ["granted", "unchanged", "swept"]);
    assert_eq!(account.cloud.published().len(), sent);
    assert_eq!(account.row("user/prd-user/admin").await.unwrap().state.state, State::Expired);
}

/// A row that cannot be read is left out, but its policy is ended.
#[tokio::test(start_paused = true)]
async fn an_unreadable_row_costs_one_line() {
    let account = Account::new();
    account.text(GRANT).await;
    account.text(r#"{"role":"ops","minutes":30,"reason":"release"}"#).await;
    account.spoil("user/prd-user/admin").await;
    let listed = account.text(LIST).await;
    assert!(listed.contains("role ops: admin until") && listed.contains("release"), "{listed}");
    assert!(
        listed.contains("the ledger's row grant / user/prd-user/admin cannot be read: fix or delete it"),
        "{listed}"
    );
    let error = account.invoke(GRANT).await.unwrap_err();
    assert!(error.to_string().contains("user/prd-user/admin cannot be read"), "{error}");
    let answer = account.text(REVOKE).await;
    assert!(answer.contains("sekisho-admin removed"), "{answer}");
    assert_eq!(account.admin_end(), None);
}

/// Revoking and granting again does not renew `max_minutes`.
#[tokio::test(start_paused = true)]
async fn a_chain_continues_across_a_revoke_for_rest_minutes() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":480}"#).await;
    advance(minutes(470)).await;
    account.text(REVOKE).await;
    advance(minutes(5)).await;
    let answer = account.text(r#"{"user":"prd-user","minutes":60}"#).await;
    assert!(answer.starts_with("End time is 2026-11-22T04:45:00Z"), "{answer}");
    assert!(answer.contains("at most 480 min from the first start, 2026-11-21T20:45:00Z"), "{answer}");
    account.text(REVOKE).await;
    advance(minutes(29)).await;
    let error = account.invoke(r#"{"user":"prd-user","minutes":60}"#).await.unwrap_err();
    assert_eq!(error.error_type().name(), "LimitExceeded", "{error}");
    // A role is another principal, and another profile another chain.
    assert!(account.text(r#"{"user":"prd-user","profile":"read-only"}"#).await.starts_with("End time"));
    advance(minutes(2)).await;
    let answer = account.text(r#"{"user":"prd-user","minutes":60}"#).await;
    assert!(answer.starts_with("End time is 2026-11-22T06:11:0"), "{answer}");
}

/// The ledger has no row of the policy, and IAM does not show it, so nobody knows when its chain began.
#[tokio::test(start_paused = true)]
async fn a_policy_of_which_nothing_is_known_counts_as_the_longest_one() {
    let account = Account::new();
    let policy = windowed("2026-11-21T13:00:00Z", "2026-11-21T21:00:00Z");
    account.cloud.put(User, "prd-user", "sekisho-admin", &policy);
    account.cloud.open_session("early", "user/prd-user", BEGIN - time::Duration::HOUR);
    account.cloud.fail("GetUserPolicy", 99, Fault::Code("AccessDenied", 403));
    account.cloud.fail("TerminateSession", 1, Fault::Code("AccessDeniedException", 400));
    let answer = account.text(REVOKE).await;
    assert!(answer.contains("sekisho-admin removed") && answer.contains("tries again every minute"), "{answer}");
    advance(minutes(1)).await;
    assert_eq!(account.follow_up().await, ["session-ended"]);
    assert!(account.cloud.open_sessions().is_empty());
    account.cloud.fail("GetUserPolicy", 0, Fault::Lost);
    let error = account.invoke(GRANT).await.unwrap_err();
    assert_eq!(error.error_type().name(), "LimitExceeded", "{error}");
    advance(minutes(30)).await;
    assert!(account.text(GRANT).await.starts_with("End time is"));
}

/// With `rest_minutes = 0`, a revoke ends the chain.
#[tokio::test(start_paused = true)]
async fn without_rest_minutes_a_grant_after_a_revoke_begins_a_new_chain() {
    let config = CONFIG.replacen("[access]", "[access]\nrest_minutes = 0", 1);
    let account = Account::with(&config);
    account.text(r#"{"user":"prd-user","minutes":480}"#).await;
    advance(minutes(470)).await;
    account.text(REVOKE).await;
    advance(minutes(1)).await;
    let answer = account.text(r#"{"user":"prd-user","minutes":60}"#).await;
    assert!(answer.starts_with("End time is 2026-11-22T05:36:00Z"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_revoke_works_without_the_ledger() {
    let account = Account::new();
    account.text(GRANT).await;
    account.fail_ledger(|_| true);
    let answer = account.text(REVOKE).await;
    assert!(answer.contains("is ended") && answer.contains("ledger"), "{answer}");
    assert_eq!(account.admin_end(), None);
}

#[tokio::test(start_paused = true)]
async fn a_refused_revoke_names_the_policies_that_are_still_there() {
    let account = Account::new();
    account.text(GRANT).await;
    account.cloud.fail("DeleteUserPolicy", 99, Fault::Code("AccessDenied", 403));
    let error = account.invoke(REVOKE).await.unwrap_err();
    assert!(error.to_string().starts_with("user prd-user still has sekisho-admin"), "{error}");
    assert_eq!(error.error_type().name(), "Refused");
}

#[tokio::test(start_paused = true)]
async fn a_revoke_ends_a_grant_that_is_running() {
    let account = Account::new();
    account.cloud.set_delays(vec![100]);
    let (granted, revoked) = join(account.invoke(GRANT), async {
        sleep(Duration::from_millis(250)).await;
        account.invoke(REVOKE).await
    })
    .await;
    assert!(text(granted).starts_with(END));
    assert!(text(revoked).contains("is ended"));
    assert_eq!(account.admin_end(), None);
}

#[tokio::test(start_paused = true)]
async fn a_revoke_ends_a_grant_that_iam_does_not_show_yet() {
    let account = Account::new();
    account.text(GRANT).await;
    for call in ["ListUserPolicies", "GetUserPolicy"] {
        account.cloud.fail(call, 99, Fault::Stale);
    }
    let answer = account.text(REVOKE).await;
    assert!(answer.contains("Access of user prd-user is ended: sekisho-admin removed"), "{answer}");
    assert_eq!(account.admin_end(), None);
    assert_eq!(account.row("user/prd-user/admin").await.unwrap().state.state, State::Revoked);
}

/// If the ledger did not answer the revoke, the ledger's row still says that there is access.
#[tokio::test(start_paused = true)]
async fn access_that_was_ended_without_the_ledger_does_not_return_with_the_next_grant() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":480}"#).await;
    advance(minutes(5)).await;
    account.fail_ledger(|_| true);
    account.text(REVOKE).await;
    account.fail_ledger(|_| false);
    let answer = account.text(GRANT).await;
    assert!(answer.starts_with("End time is 2026-11-21T21:20:0"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_revoke_without_the_ledger_keeps_foreign_policies() {
    let account = Account::new();
    let foreign = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
    account.cloud.put(User, "prd-user", "sekisho-theirs", foreign);
    account.text(GRANT).await;
    account.fail_ledger(|_| true);
    let answer = account.text(REVOKE).await;
    assert!(answer.contains("sekisho-admin removed") && answer.contains("Not removed"), "{answer}");
    assert_eq!(account.cloud.policy_names(User, "prd-user"), ["sekisho-theirs"]);
}

#[tokio::test(start_paused = true)]
async fn a_revoke_ends_access_even_if_the_ledger_hangs() {
    let account = Account::new();
    account.text(GRANT).await;
    account.text(r#"{"user":"prd-user","profile":"read-only"}"#).await;
    account.function.ledger.hangs.set(true);
    let start = Instant::now();
    let revoked = account.invoke(REVOKE);
    let ended = async {
        sleep(Duration::from_secs(3)).await;
        account.cloud.policies(User, "prd-user")
    };
    let (answer, after_three_seconds) = join(revoked, ended).await;
    assert!(after_three_seconds.is_empty(), "{after_three_seconds:?}");
    let answer = text(answer);
    assert!(answer.contains("sekisho-admin, sekisho-read-only removed") && answer.contains("ledger"), "{answer}");
    // Only two ledger calls time out: the listing of rows and the recording of decisions. The revoke makes no ledger
    // calls in between.
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(account.cloud.published().last().unwrap().contains("Ended: access of user prd-user"));
}

#[tokio::test(start_paused = true)]
async fn a_revoke_tries_every_policy_and_reports_removed_and_remaining_ones() {
    let account = Account::new();
    account.text(GRANT).await;
    account.text(r#"{"user":"prd-user","profile":"read-only"}"#).await;
    let sent = account.cloud.published().len();
    account.cloud.fail("DeleteUserPolicy", 1, Fault::Code("AccessDenied", 403));
    let error = account.invoke(REVOKE).await.unwrap_err().to_string();
    assert!(error.starts_with("user prd-user still has sekisho-admin; sekisho-read-only removed: "), "{error}");
    assert!(error.contains("revoke again, or delete the policy by hand"), "{error}");
    assert_eq!(account.cloud.policy_names(User, "prd-user"), ["sekisho-admin"]);
    assert_eq!(account.cloud.published().len(), sent + 1);
    let outcomes = account.outcomes();
    assert_eq!(outcomes[outcomes.len() - 2..], ["revoked", "refused"]);
}

#[tokio::test(start_paused = true)]
async fn a_revoke_does_not_wait_for_the_lease_of_a_dead_invocation() {
    let account = Account::new();
    account.text(GRANT).await;
    // An extension dies during its write.
    account.cloud.fail("PutUserPolicy", 1, Fault::Lost);
    let extension = account.invoke(r#"{"user":"prd-user","minutes":60}"#);
    tokio::time::timeout(Duration::from_secs(1), extension).await.unwrap_err();
    let start = Instant::now();
    let ended = async {
        sleep(Duration::from_secs(1)).await;
        account.admin_end()
    };
    let (answer, after_a_second) = join(account.invoke(REVOKE), ended).await;
    assert_eq!(after_a_second, None);
    let answer = text(answer);
    assert!(answer.contains("is ended: sekisho-admin removed") && answer.contains("revoke again"), "{answer}");
    assert!(start.elapsed() < SLACK_LIMIT, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn revoked_access_does_not_return_if_the_revoke_could_not_be_recorded() {
    // The revoke's writes to the ledger fail, from the first or from the second write on.
    for fails_from in [1, 2] {
        let account = Account::new();
        account.text(r#"{"user":"prd-user","minutes":480}"#).await;
        advance(minutes(10)).await;
        let count = std::cell::Cell::new(0);
        account.fail_ledger(move |operation| {
            count.set(count.get() + usize::from(operation == "write"));
            operation == "write" && count.get() >= fails_from
        });
        account.invoke(REVOKE).await.unwrap();
        account.fail_ledger(|_| false);
        assert_eq!(account.admin_end(), None);
        let answer = account.text(r#"{"user":"prd-user","minutes":10}"#).await;
        assert!(answer.starts_with("End time is 2026-11-21T21:05:"), "{fails_from}: {answer}");
    }
}

/// IAM shows a policy for some seconds after its deletion.
#[tokio::test(start_paused = true)]
async fn revoked_access_that_iam_still_shows_is_not_extended() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":480}"#).await;
    advance(minutes(10)).await;
    account.text(REVOKE).await;
    for call in ["ListUserPolicies", "GetUserPolicy"] {
        account.cloud.fail(call, 1, Fault::Stale);
    }
    let answer = account.text(r#"{"user":"prd-user","minutes":10}"#).await;
    assert!(answer.starts_with("End time is 2026-11-21T21:05:"), "{answer}");
    assert!(account.admin_end().unwrap().starts_with("2026-11-21T21:05:"));
}
