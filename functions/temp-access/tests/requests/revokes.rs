//! Revokes, with and without a working IAM and ledger.

use futures_util::future::join;
use sekisho_lambda::Failure;
use temp_access::principal::Kind::{Role, User};
use temp_access::row::State;
use tokio::time::{Duration, Instant, advance, sleep};

use crate::account::{Account, END, Fault, GRANT, REVOKE, SLACK_LIMIT, minutes, text};

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
    // The access is over, so the next grant begins a new chain.
    let answer = account.text(r#"{"user":"prd-user","minutes":1}"#).await;
    assert!(answer.starts_with("End time is 2026-11-21T20:46:00Z"), "{answer}");
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
