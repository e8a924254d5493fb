//! Sweeps, alone and together with grants, with and without a working IAM and ledger.

use futures_util::future::join;
use sekisho_ledger::Lease;
use temp_access::principal::Kind::{Role, User};
use tokio::time::{Duration, Instant, advance, sleep};

use crate::account::{Account, Fault, GRANT, SWEEP, minutes, outcomes, text, windowed};
use crate::approvals::{ASK, DOORS, ask};

#[tokio::test(start_paused = true)]
async fn a_sweep_removes_ended_policies_and_no_live_ones() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":10}"#).await;
    account.text(r#"{"role":"ops","minutes":60}"#).await;
    account.cloud.put(User, "stranger", "sekisho-gone", &windowed("2026-11-20T20:43:00Z", "2026-11-20T21:45:00Z"));
    account.cloud.put(User, "prd-user", "theirs", &windowed("2026-11-20T20:43:00Z", "2026-11-20T21:45:00Z"));
    advance(minutes(10)).await;
    assert_eq!(account.sweep().await, ["swept", "swept"]);
    assert_eq!(account.cloud.policy_names(User, "prd-user"), ["theirs"]);
    assert!(account.cloud.policies(User, "stranger").is_empty());
    assert!(account.cloud.policies(Role, "ops").contains_key("sekisho-admin"));
    assert_eq!(account.sweep().await, ["idle"]);
}

#[tokio::test(start_paused = true)]
async fn a_policy_without_an_end_is_reported_once_a_day_and_not_by_every_sweep() {
    let account = Account::new();
    account.cloud.put(User, "prd-user", "sekisho-admin", r#"{"Statement":{"Effect":"Allow","Action":"*"}}"#);
    // The first sweep cannot send the notice, so the second sweep sends it.
    account.cloud.fail("Publish", 1, Fault::Code("NotFound", 404));
    for _ in 0..97 {
        account.sweep().await;
        advance(minutes(15)).await;
    }
    assert_eq!(account.cloud.published().len(), 1);
    assert_eq!(account.outcomes().iter().filter(|outcome| *outcome == "open-ended").count(), 2);
    account.sweep().await;
    assert_eq!(account.cloud.published().len(), 2);
    // A fault of another policy is reported at once. Without the ledger, every sweep reports every fault again.
    account.cloud.put(Role, "ops", "sekisho-admin", r#"{"Statement":{"Effect":"Allow","Action":"*"}}"#);
    account.sweep().await;
    assert_eq!(account.cloud.published().len(), 3);
    account.fail_ledger(|_| true);
    account.sweep().await;
    assert_eq!(account.cloud.published().len(), 5);
}

/// Sekisho never writes such an end, so somebody else wrote the policy, unless the ledger has it.
#[tokio::test(start_paused = true)]
async fn a_policy_with_an_end_in_the_distant_future_is_reported_once_a_day_and_not_replaced() {
    let account = Account::new();
    account.text(GRANT).await;
    let foreign = windowed("2026-11-21T20:43:00Z", "2099-01-01T00:00:00Z");
    account.cloud.put(User, "prd-user", "sekisho-admin", &foreign);
    let sent = account.cloud.published().len();
    assert_eq!(account.sweep().await, ["foreign"]);
    assert_eq!(account.sweep().await, ["idle"]);
    assert_eq!(account.cloud.published().len(), sent + 1);
    assert!(account.cloud.published()[sent].contains("Access that Sekisho did not give: user prd-user"));
    let error = account.invoke(GRANT).await.unwrap_err();
    assert!(error.to_string().contains("did not write (it ends only at 2099-01-01T00:00:00Z)"), "{error}");
    assert_eq!(account.cloud.policies(User, "prd-user")["sekisho-admin"], foreign);
}

#[tokio::test(start_paused = true)]
async fn an_extension_during_a_sweep_is_not_removed() {
    // The grants begin at many points of the sweep, and end before, during and after the sweep.
    for ahead in (0..900).step_by(12) {
        let account = Account::new();
        for user in ["a-1", "a-2", "a-3", "prd-user"] {
            account.cloud.add(User, user);
            account.text(&format!(r#"{{"user":"{user}","minutes":1}}"#)).await;
        }
        advance(minutes(1)).await;
        account.cloud.set_delays(vec![70, 20, 45]);
        let (swept, granted) = join(account.invoke(SWEEP), async {
            sleep(Duration::from_millis(ahead)).await;
            account.invoke(GRANT).await
        })
        .await;
        assert!(!outcomes(swept).is_empty());
        assert!(text(granted).starts_with("End time is 2026-11-21T21:16:"));
        assert!(account.admin_end().is_some(), "removed, although extended {ahead} ms after the sweep began");
        assert!(account.cloud.policies(User, "a-3").is_empty());
    }
}

/// The sweep has read that the policy ended. Before the sweep claims the row, a grant begins and completes.
#[tokio::test(start_paused = true)]
async fn a_sweep_removes_nothing_if_a_grant_comes_before_its_claim() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":1}"#).await;
    advance(minutes(1)).await;
    account.cloud.set_delays(vec![10]);
    let operations = account.function.ledger.operations.borrow().len();
    let mut delays = vec![1; 50];
    // The sweep reads the row and claims it.
    delays[operations + 1] = 300;
    account.set_ledger_delays(delays);
    let (swept, granted) = join(account.invoke(SWEEP), async {
        sleep(Duration::from_millis(40)).await;
        account.invoke(GRANT).await
    })
    .await;
    assert!(text(granted).starts_with("End time is 2026-11-21T21:16:00Z"));
    assert_eq!(account.admin_end().as_deref(), Some("2026-11-21T21:16:00Z"));
    assert_eq!(outcomes(swept), ["idle"]);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_reports_a_policy_that_it_could_not_remove_and_continues() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":1}"#).await;
    account.text(r#"{"role":"ops","minutes":1}"#).await;
    advance(minutes(2)).await;
    account.cloud.fail("DeleteUserPolicy", 9, Fault::Code("AccessDenied", 403));
    assert_eq!(account.sweep().await, ["failed", "swept"]);
    assert!(account.admin_end().is_some());
}

/// Access ends and is granted again. One second later, a sweep reads the ended policy, which IAM still shows.
#[tokio::test(start_paused = true)]
async fn a_sweep_that_reads_an_outdated_policy_leaves_the_new_grant() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":1}"#).await;
    advance(minutes(1)).await;
    account.text(GRANT).await;
    account.cloud.fail("GetAccountAuthorizationDetails", 1, Fault::Stale);
    account.cloud.fail("GetUserPolicy", 99, Fault::Stale);
    assert_eq!(account.sweep().await, ["idle"]);
    assert!(account.admin_end().unwrap().starts_with("2026-11-21T21:16:0"));
}

/// If a delete took effect after the end of the sweep's lease, it could remove the grant of the next holder.
#[tokio::test(start_paused = true)]
async fn a_sweeps_delete_ends_before_its_lease() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":1}"#).await;
    advance(minutes(2)).await;
    // The claim takes most of the lease, so a delete would not end in time. The sweep has read scheduled grants,
    // requests and the row before.
    let operations = account.function.ledger.operations.borrow().len();
    let mut delays = vec![1; 50];
    delays[operations + 3] = 12_000;
    account.set_ledger_delays(delays);
    account.sweep().await;
    assert!(!account.cloud.calls().iter().any(|call| call == "DeleteUserPolicy"), "{:?}", account.cloud.calls());
    // A delete that hangs is cancelled before the lease ends.
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":1}"#).await;
    advance(minutes(2)).await;
    account.cloud.fail("DeleteUserPolicy", 99, Fault::Lost);
    let start = Instant::now();
    account.sweep().await;
    assert!(start.elapsed() < Duration::from_secs(11), "{:?}", start.elapsed());
    // The row keeps the lease, so no grant begins before the delete is certainly over.
    assert_ne!(account.row("user/prd-user/admin").await.unwrap().state.lease, Lease::FREE);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_of_a_large_account_goes_page_by_page() {
    let account = Account::new();
    for user in ["a-1", "a-2", "a-3"] {
        account.cloud.add(User, user);
        account.text(&format!(r#"{{"user":"{user}","minutes":1}}"#)).await;
    }
    advance(minutes(2)).await;
    account.cloud.set_page_size(2);
    account.sweep().await;
    let left = ["a-1", "a-2", "a-3"].map(|user| account.cloud.policies(User, user).len());
    assert_eq!(left, [0, 0, 0]);
    let pages = account.cloud.calls().iter().filter(|call| *call == "GetAccountAuthorizationDetails").count();
    assert_eq!(pages, 3);
}

/// A review is announced again, and a request lapses, also if reading all users and roles takes all the time.
#[tokio::test(start_paused = true)]
async fn the_requests_need_no_answer_of_iam() {
    let account = Account::with(DOORS);
    ask(&account, "hana", ASK).await;
    account.text_at("hana", r#"{"user":"prd-user","profile":"glass","reason":"fire"}"#).await;
    advance(minutes(25 * 60)).await;
    account.cloud.fail("GetAccountAuthorizationDetails", 99, Fault::Lost);
    account.invoke(SWEEP).await.unwrap_err();
    let mut outcomes = account.outcomes();
    outcomes.retain(|outcome| ["lapsed", "pending"].contains(&outcome.as_str()));
    assert_eq!(outcomes, ["pending", "pending", "lapsed"], "{outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_sweep_without_permission_to_delete_reports_it_once_a_day() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":1}"#).await;
    advance(minutes(2)).await;
    account.cloud.fail("DeleteUserPolicy", 999, Fault::Code("AccessDenied", 403));
    let sent = account.cloud.published().len();
    for _ in 0..95 {
        account.sweep().await;
        advance(minutes(15)).await;
    }
    assert_eq!(account.outcomes().iter().filter(|outcome| *outcome == "failed").count(), 1);
    let published = account.cloud.published().split_off(sent);
    assert_eq!(published.iter().filter(|notice| notice.contains("by hand")).count(), 1, "{published:?}");
}

/// In an earlier version, the sweep could use up all the time, so that none was left to record its decisions.
#[tokio::test(start_paused = true)]
async fn a_long_sweep_records_its_decisions() {
    let account = Account::new();
    for n in 0..40 {
        account.cloud.put(
            User,
            &format!("u-{n}"),
            "sekisho-gone",
            &windowed("2026-11-20T20:43:00Z", "2026-11-20T21:45:00Z"),
        );
    }
    account.cloud.set_delays(vec![900]);
    account.set_ledger_delays(vec![600]);
    let start = Instant::now();
    let answered = account.sweep().await;
    assert!(start.elapsed() > Duration::from_secs(45), "{:?}", start.elapsed());
    assert_eq!(account.outcomes(), answered);
}
