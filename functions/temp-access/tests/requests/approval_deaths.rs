//! Approvals whose invocation dies, or whose answer is lost on the way to the hub.

use sekisho_lambda::Failure;
use temp_access::answer::Answer;
use temp_access::error::Error;
use tokio::time::{Duration, sleep, timeout};

use crate::account::{Account, Fault};
use crate::approvals::{ASK, DOORS, PENDING, REVOKE, approve, ask};

fn error_type(answer: Result<Answer, Error>) -> &'static str {
    answer.unwrap_err().error_type().name()
}

/// The invocation dies while it waits for the answer of one call. A repetition, or another approval, then makes the same
/// grant.
#[tokio::test(start_paused = true)]
async fn an_approval_that_dies_is_continued_and_grants_once() {
    for (repeats, call) in [(true, "PutUserPolicy"), (false, "PutUserPolicy"), (true, "GetUser"), (false, "Publish")] {
        let account = Account::with(DOORS);
        let code = ask(&account, "hana", ASK).await;
        account.cloud.fail(call, 1, Fault::DoneUnanswered);
        let payload = approve(&code);
        let died = timeout(Duration::from_secs(1), account.invoke_at_as("taro", "one", &payload));
        died.await.unwrap_err();
        if !repeats && call != "Publish" {
            // Until the lease ends, the first approval may still be running.
            assert_eq!(error_type(account.invoke_at("jun", &approve(&code)).await), "NotFound");
        }
        sleep(Duration::from_secs(14)).await;
        let request = if repeats { "one" } else { "two" };
        let answer = account.invoke_at_as(if repeats { "taro" } else { "jun" }, request, &approve(&code)).await;
        if call == "Publish" {
            // The grant was made, and its request was settled before the notice.
            assert_eq!(error_type(answer), "NotFound");
            assert_eq!(account.follow_up().await, ["granted"]);
        } else {
            let answer = crate::account::text(answer);
            let end = account.admin_end().unwrap();
            assert!(answer.starts_with(&format!("End time is {end}")) && end.as_str() < "2026-11-21T21:16", "{answer}");
        }
        let row = account.row("user/prd-user/admin").await.unwrap().state;
        assert!(row.consent.approved_by.is_some() && row.consent.code.is_some());
        assert_eq!(account.text(PENDING).await, "Nothing waits for an approval.");
        // A revoke ends it, and nothing brings it back.
        account.text(REVOKE).await;
        let _ = account.invoke_at_as("taro", "one", &approve(&code)).await;
        assert_eq!(account.admin_end(), None, "{call} {repeats}");
        assert_eq!(account.text(PENDING).await, "Nothing waits for an approval.");
    }
}

/// Each call takes 20 ms, and takes effect in the middle of them. So an invocation dies between any two steps.
#[tokio::test(start_paused = true)]
async fn an_approval_may_die_after_each_step() {
    let mut deaths = 0;
    for dies in (5..2_000).step_by(10) {
        let account = Account::with(DOORS);
        let code = ask(&account, "hana", ASK).await;
        account.cloud.set_delays(vec![20]);
        account.set_ledger_delays(vec![20]);
        let payload = approve(&code);
        let answer = timeout(Duration::from_millis(dies), account.invoke_at_as("taro", "one", &payload)).await;
        sleep(Duration::from_secs(14)).await;
        let again = account.invoke_at("jun", &payload).await;
        account.follow_up().await;
        assert!(account.admin_end().is_some(), "{dies} ms: {answer:?} {again:?}");
        let row = account.row("user/prd-user/admin").await.unwrap().state;
        let who = row.consent.approved_by.as_deref();
        assert!(row.consent.code.is_some() && matches!(who, Some("taro" | "jun")), "{dies} ms: {row:?}");
        assert_eq!(account.text(PENDING).await, "Nothing waits for an approval.", "{dies} ms");
        account.text(REVOKE).await;
        let _ = account.invoke_at_as("taro", "one", &payload).await;
        account.follow_up().await;
        assert_eq!(account.admin_end(), None, "{dies} ms");
        if answer.is_ok() {
            break;
        }
        deaths += 1;
    }
    assert!((20..150).contains(&deaths), "{deaths} deaths");
}
