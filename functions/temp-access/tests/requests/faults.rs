//! Grants with faults: IAM, the ledger or the topic fail, time out, or answer with outdated states.

use sekisho_lambda::Failure;
use temp_access::row::State;
use tokio::time::{Duration, Instant, advance};

use crate::account::{self, Account, END, Fault, GRANT, LIST, REVOKE, SLACK_LIMIT, minutes, text};

#[tokio::test(start_paused = true)]
async fn passing_throttling_does_not_prevent_a_grant() {
    let account = Account::new();
    for call in ["GetUser", "ListUserPolicies", "PutUserPolicy", "GetUserPolicy"] {
        account.cloud.fail(call, 1, Fault::Code("Throttling", 400));
    }
    assert!(account.text(GRANT).await.starts_with(END));
    assert_eq!(account.outcomes(), ["granted"]);
}

#[tokio::test(start_paused = true)]
async fn lasting_throttling_is_reported_and_nothing_is_granted() {
    for call in ["GetUser", "ListUserPolicies", "PutUserPolicy"] {
        let account = Account::new();
        account.cloud.fail(call, 99, Fault::Code("Throttling", 400));
        let start = Instant::now();
        let error = account.invoke(GRANT).await.unwrap_err();
        assert_eq!(error.error_type().name(), "Throttled", "{call}: {error}");
        assert!(error.to_string().contains("Nothing was"), "{call}: {error}");
        assert!(start.elapsed() < SLACK_LIMIT, "{call}: {:?}", start.elapsed());
        assert_eq!(account.admin_end(), None);
        assert_eq!(account.outcomes(), ["failed"]);
        // The claim was released, so no other request waits for a lease.
        assert!(account.row("user/prd-user/admin").await.is_none(), "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_write_leaves_access_unchanged() {
    let cases = [
        ("LimitExceeded", 409, "LimitExceeded"),
        ("MalformedPolicyDocument", 400, "Misconfigured"),
        ("AccessDenied", 403, "Refused"),
        ("NoSuchEntity", 404, "NotFound"),
        ("UnmodifiableEntity", 400, "Internal"),
    ];
    for (code, status, error_type) in cases {
        let account = Account::new();
        account.text(GRANT).await;
        let before = account.admin_end();
        let row = account.row("user/prd-user/admin").await.unwrap().state;
        account.cloud.fail("PutUserPolicy", 1, Fault::Code(code, status));
        advance(minutes(1)).await;
        let error = account.invoke(GRANT).await.unwrap_err();
        assert_eq!(error.error_type().name(), error_type, "{code}: {error}");
        assert!(error.to_string().contains("access ends at 2026-11-21T21:15:0"), "{error}");
        assert_eq!(account.admin_end(), before);
        assert_eq!(account.row("user/prd-user/admin").await.unwrap().state, row);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_write_that_took_effect_is_a_grant() {
    let account = Account::new();
    account.cloud.fail("PutUserPolicy", 99, Fault::DoneUnanswered);
    let start = Instant::now();
    assert!(account.text(GRANT).await.starts_with(END));
    assert!(start.elapsed() < SLACK_LIMIT, "{:?}", start.elapsed());
    assert_eq!(account.outcomes(), ["granted"]);
}

/// An attempt that is throttled or denied says nothing about an earlier one that was not answered.
#[tokio::test(start_paused = true)]
async fn a_refusal_after_a_lost_answer_is_reported_as_unknown() {
    for (code, status) in [("Throttling", 400), ("AccessDenied", 403)] {
        let account = Account::new();
        account.cloud.fail("PutUserPolicy", 1, Fault::DoneUnanswered);
        account.cloud.fail("PutUserPolicy", 9, Fault::Code(code, status));
        account.cloud.fail("GetUserPolicy", 999, Fault::Stale);
        let error = account.invoke(GRANT).await.unwrap_err();
        assert!(error.to_string().starts_with("It is not known whether user prd-user was given admin"), "{error}");
        assert!(account.admin_end().is_some());
        assert_eq!(account.row("user/prd-user/admin").await.unwrap().state.state, State::Intent);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_write_is_reported_as_unknown() {
    let account = Account::new();
    account.cloud.fail("PutUserPolicy", 99, Fault::Lost);
    let start = Instant::now();
    let error = account.invoke(GRANT).await.unwrap_err();
    assert!(start.elapsed() < SLACK_LIMIT, "{:?}", start.elapsed());
    assert_eq!(error.error_type().name(), "Internal");
    assert!(error.to_string().starts_with("It is not known whether user prd-user was given admin"), "{error}");
    assert_eq!(account.outcomes(), ["failed"]);
    assert!(account.cloud.published()[0].contains("let in: user prd-user"));
    assert_eq!(account.row("user/prd-user/admin").await.unwrap().state.state, State::Intent);
    // An intent gives no access, so it is not listed.
    assert_eq!(account.text(LIST).await, "Nobody has access now.");
}

#[tokio::test(start_paused = true)]
async fn a_grant_waits_for_the_lease_of_a_lost_write_and_no_longer() {
    let account = Account::new();
    // The first invocation dies during its write.
    account.cloud.fail("PutUserPolicy", 1, Fault::Lost);
    tokio::time::timeout(Duration::from_secs(1), account.invoke(GRANT)).await.unwrap_err();
    let error = account.invoke(GRANT).await.unwrap_err();
    assert_eq!(error.error_type().name(), "Throttled", "{error}");
    assert!(error.to_string().contains("changed nothing"), "{error}");
    let answer = account.text(GRANT).await;
    assert!(answer.starts_with("End time is 2026-11-21T21:15:1"), "{answer}");
    assert_eq!(account.row("user/prd-user/admin").await.unwrap().state.state, State::Granted);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_granted_if_iam_does_not_answer_before_the_write() {
    for call in ["GetUser", "ListUserPolicies"] {
        let account = Account::new();
        account.cloud.fail(call, 99, Fault::Lost);
        let start = Instant::now();
        let error = account.invoke(GRANT).await.unwrap_err();
        assert!(start.elapsed() < SLACK_LIMIT, "{call}: {:?}", start.elapsed());
        assert!(error.to_string().starts_with("Nothing was granted"), "{call}: {error}");
        assert!(!account.cloud.wrote(), "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_read_back_is_awaited_and_then_mentioned() {
    let account = Account::new();
    account.cloud.fail("GetUserPolicy", 2, Fault::Stale);
    let answer = account.text(GRANT).await;
    assert!(answer.starts_with(END) && !answer.contains("does not show"), "{answer}");

    let account = Account::new();
    account.cloud.fail("GetUserPolicy", 999, Fault::Stale);
    let start = Instant::now();
    let answer = account.text(GRANT).await;
    assert!(answer.starts_with(END) && answer.contains("does not show it yet"), "{answer}");
    assert!(start.elapsed() < SLACK_LIMIT);

    let account = Account::new();
    account.cloud.fail("GetUserPolicy", 999, Fault::Lost);
    let start = Instant::now();
    let answer = account.text(GRANT).await;
    assert!(answer.starts_with(END) && answer.contains("could not be asked"), "{answer}");
    assert!(start.elapsed() < SLACK_LIMIT);
    assert_eq!(account.outcomes(), ["granted"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_granted_without_the_ledger() {
    for broken in ["read", "write"] {
        let account = Account::new();
        account.fail_ledger(move |operation| operation == broken);
        let error = account.invoke(GRANT).await.unwrap_err();
        assert!(error.to_string().starts_with("Nothing was granted"), "{error}");
        assert!(!account.cloud.wrote());
    }
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_fails_after_the_grant_does_not_hide_the_grant() {
    let account = Account::new();
    let writes = std::cell::Cell::new(0);
    account.fail_ledger(move |operation| {
        writes.set(writes.get() + usize::from(operation == "write"));
        operation == "record" || writes.get() > 1
    });
    let answer = account.text(GRANT).await;
    assert!(answer.starts_with(END), "{answer}");
    assert!(answer.contains("the intent"), "{answer}");
    assert!(answer.contains("did not record this"), "{answer}");
    assert!(account.admin_end().is_some());
    assert_eq!(account.cloud.published().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_notice_does_not_hide_the_grant() {
    for fault in [Fault::Code("InternalError", 500), Fault::Code("NotFound", 404), Fault::Lost] {
        let account = Account::new();
        account.cloud.fail("Publish", 99, fault);
        let start = Instant::now();
        let answer = account.text(GRANT).await;
        assert!(answer.starts_with(END) && answer.contains("could not be sent"), "{answer}");
        assert!(start.elapsed() < SLACK_LIMIT);
        assert_eq!(account.outcomes(), ["granted"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_is_one_grant() {
    let account = Account::new();
    let first = text(account.invoke_as("one", GRANT).await);
    advance(minutes(2)).await;
    let again = text(account.invoke_as("one", GRANT).await);
    assert_eq!(first.lines().next(), again.lines().next());
    assert_eq!(account.outcomes(), ["granted", "unchanged"]);
    // A repeated request also changes nothing if the access was extended or ended in the meantime.
    account.invoke_as("two", r#"{"user":"prd-user","minutes":60}"#).await.unwrap();
    let extended = text(account.invoke_as("one", GRANT).await);
    assert_eq!(extended.lines().next(), Some("End time is 2026-11-21T21:47:00Z"));
    account.text(REVOKE).await;
    let error = account.invoke_as("one", GRANT).await.unwrap_err();
    assert_eq!(error.error_type().name(), "Refused");
    assert_eq!(account.admin_end(), None);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_continues_its_intent_with_the_same_end() {
    let account = Account::new();
    account.cloud.fail("PutUserPolicy", 3, Fault::Lost);
    account.invoke_as("one", GRANT).await.unwrap_err();
    assert_eq!(account.admin_end(), None);
    advance(minutes(2)).await;
    let answer = text(account.invoke_as("one", GRANT).await);
    assert!(answer.starts_with("End time is 2026-11-21T21:15:00Z"), "{answer}");
    // If the request is repeated an hour later, the intended window is over, so the request is refused.
    let account = Account::new();
    account.cloud.fail("PutUserPolicy", 3, Fault::Lost);
    account.invoke_as("one", GRANT).await.unwrap_err();
    advance(minutes(60)).await;
    assert_eq!(account.invoke_as("one", GRANT).await.unwrap_err().error_type().name(), "Refused");
    assert_eq!(account.admin_end(), None);
}

#[tokio::test(start_paused = true)]
async fn a_grant_does_not_shorten_a_longer_one_that_iam_does_not_show_yet() {
    for stale in [3, 99] {
        let account = Account::new();
        account.text(r#"{"user":"prd-user","minutes":480}"#).await;
        advance(Duration::from_secs(2)).await;
        for call in ["ListUserPolicies", "GetUserPolicy"] {
            account.cloud.fail(call, stale, Fault::Stale);
        }
        let start = Instant::now();
        let answer = account.text(GRANT).await;
        assert!(start.elapsed() < SLACK_LIMIT, "{:?}", start.elapsed());
        assert!(answer.starts_with("End time is 2026-11-22T04:45:00Z"), "{answer}");
        assert_eq!(account.admin_end().as_deref(), Some("2026-11-22T04:45:00Z"), "{stale}");
        assert_eq!(account.row("user/prd-user/admin").await.unwrap().state.window().end, account::BEGIN + minutes(480));
    }
}
