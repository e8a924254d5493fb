//! Approvals whose invocation dies, or whose answer is lost on the way to the hub.

use sekisho_lambda::Failure;
use temp_access::answer::Answer;
use temp_access::error::Error;
use temp_access::row::State;
use tokio::time::{Duration, sleep, timeout};

use crate::account::{Account, Fault, minutes};
use crate::approvals::{ASK, DOORS, PENDING, REVOKE, approve, ask};
use crate::people;

const NOTHING_WAITS: &str = "Nothing waits for an approval.";

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

/// The approval has written its intent, but not the policy.
#[tokio::test(start_paused = true)]
async fn an_approval_that_died_before_the_access_was_given_is_no_approval() {
    for is_declined in [false, true] {
        let account = Account::with(DOORS);
        let code = ask(&account, "hana", ASK).await;
        account.cloud.fail("PutUserPolicy", 1, Fault::Lost);
        timeout(Duration::from_secs(1), account.invoke_at("taro", &approve(&code))).await.unwrap_err();
        let row = account.row("user/prd-user/admin").await.unwrap().state;
        assert_eq!((row.state, row.consent.code.as_ref().unwrap().as_str()), (State::Intent, code.as_str()));
        let decline = format!(r#"{{"decline":"{code}"}}"#);
        // IAM may still not show what was written.
        sleep(Duration::from_mins(1)).await;
        assert_eq!(error_type(account.invoke_at("hana", &decline).await), "Refused");
        if is_declined {
            sleep(Duration::from_mins(2)).await;
            assert!(account.text_at("jun", &decline).await.contains("declined"));
        } else {
            sleep(Duration::from_hours(1)).await;
            // It is not known what IAM has, so the next sweep decides.
            account.cloud.fail("GetUserPolicy", 1, Fault::Code("AccessDenied", 403));
            assert!(!account.sweep().await.contains(&"lapsed".to_owned()));
            assert!(account.sweep().await.contains(&"lapsed".to_owned()));
        }
        let notice = account.cloud.published().pop().unwrap();
        assert!(notice.contains(&format!("Request {code}")) && notice.contains("gives no access"), "{notice}");
        assert_eq!((account.text(PENDING).await.as_str(), account.admin_end()), (NOTHING_WAITS, None));
    }
}

/// The policy was written, so the approval is on record, and nobody reads that the request lapsed.
#[tokio::test(start_paused = true)]
async fn an_approval_that_gave_access_and_died_is_on_record_when_the_request_would_lapse() {
    for ask_for in [ASK, r#"{"user":"prd-user","minutes":120}"#] {
        let account = Account::with(DOORS);
        let code = ask(&account, "hana", ask_for).await;
        account.cloud.fail("PutUserPolicy", 1, Fault::DoneUnanswered);
        timeout(Duration::from_secs(1), account.invoke_at("taro", &approve(&code))).await.unwrap_err();
        sleep(Duration::from_mins(61)).await;
        let outcomes = account.sweep().await;
        assert!(outcomes.contains(&"approved".to_owned()) && !outcomes.contains(&"lapsed".to_owned()), "{outcomes:?}");
        let decision = account.decisions().into_iter().find(|one| one["outcome"] == "approved").unwrap();
        let (code, taro, hana) = (code.as_str().into(), "taro".into(), "hana".into());
        assert_eq!((&decision["code"], &decision["approved_by"], &decision["door"]), (&code, &taro, &hana));
        assert!(!account.sweep().await.contains(&"approved".to_owned()));
    }
}

/// The same for a person: what a follow-up enters was given, and what nobody wrote was not.
#[tokio::test(start_paused = true)]
async fn an_approval_for_a_person_that_died_is_told_by_sekisho_window() {
    for (fault, outcome) in [(Fault::Lost, "lapsed"), (Fault::DoneUnanswered, "approved")] {
        let mut account = people::account(0);
        account.function.access =
            Account::with(&DOORS.replace("user/prd-user", "person/hana@example.com")).function.access;
        let code = ask(&account, "hana", r#"{"person":"hana@example.com","minutes":120}"#).await;
        account.cloud.fail("CreatePolicyVersion", 1, fault);
        timeout(Duration::from_secs(2), account.invoke_at("taro", &approve(&code))).await.unwrap_err();
        sleep(minutes(61)).await;
        let outcomes = account.sweep().await;
        assert!(outcomes.contains(&outcome.to_owned()), "{outcomes:?}");
        assert_eq!(people::let_in(&account).len(), usize::from(outcome == "approved"));
    }
}
