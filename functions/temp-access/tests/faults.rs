//! What goes wrong in AWS, and what is then said and done.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail so")]

mod account;

use account::{Account, Fault, minutes, text};
use futures_util::future::join;
use sekisho_lambda::Failure;
use temp_access::answer::Answer;
use temp_access::principal::Kind::User;
use temp_access::row::State;
use tokio::time::{Duration, Instant, advance, sleep};

const GRANT: &str = r#"{"user":"prd-user","minutes":30}"#;
const END: &str = "End time is 2026-11-21T21:15:0";
/// Chatbot waits 15 s.
const CHATBOT: Duration = Duration::from_secs(13);

fn admin(account: &Account) -> Option<String> {
    account.cloud.end(User, "prd-user", "sekisho-admin")
}

#[tokio::test(start_paused = true)]
async fn throttling_is_waited_out() {
    let account = Account::new();
    for call in ["GetUser", "ListUserPolicies", "PutUserPolicy", "GetUserPolicy"] {
        account.cloud.fail(call, 1, Fault::Code("Throttling", 400));
    }
    assert!(account.text(GRANT).await.starts_with(END));
    assert_eq!(account.outcomes(), ["granted"]);
}

#[tokio::test(start_paused = true)]
async fn throttling_that_stays_is_said_and_nothing_is_granted() {
    for call in ["GetUser", "ListUserPolicies", "PutUserPolicy"] {
        let account = Account::new();
        account.cloud.fail(call, 99, Fault::Code("Throttling", 400));
        let start = Instant::now();
        let error = account.invoke(GRANT).await.unwrap_err();
        assert_eq!(error.error_type().name(), "Throttled", "{call}: {error}");
        assert!(error.to_string().contains("Nothing was"), "{call}: {error}");
        assert!(start.elapsed() < CHATBOT, "{call}: {:?}", start.elapsed());
        assert_eq!(admin(&account), None);
        assert_eq!(account.outcomes(), ["failed"]);
        // The claim was given back: nobody waits for it.
        assert!(account.row("user/prd-user/admin").await.is_none(), "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_iam_refuses_leaves_access_as_it_was() {
    let cases = [
        ("LimitExceeded", 409, "LimitExceeded"),
        ("MalformedPolicyDocument", 400, "Misconfigured"),
        ("AccessDenied", 403, "Refused"),
        ("NoSuchEntity", 404, "NotFound"),
        ("UnmodifiableEntity", 400, "Internal"),
    ];
    for (code, status, kind) in cases {
        let account = Account::new();
        account.text(GRANT).await;
        let before = admin(&account);
        let row = account.row("user/prd-user/admin").await.unwrap().state;
        account.cloud.fail("PutUserPolicy", 1, Fault::Code(code, status));
        advance(minutes(1)).await;
        let error = account.invoke(GRANT).await.unwrap_err();
        assert_eq!(error.error_type().name(), kind, "{code}: {error}");
        assert!(error.to_string().contains("access ends at 2026-11-21T21:15:0"), "{error}");
        assert_eq!(admin(&account), before);
        assert_eq!(account.row("user/prd-user/admin").await.unwrap().state, row);
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_took_effect_unanswered_is_a_grant() {
    let account = Account::new();
    account.cloud.fail("PutUserPolicy", 99, Fault::DoneUnanswered);
    let start = Instant::now();
    assert!(account.text(GRANT).await.starts_with(END));
    assert!(start.elapsed() < CHATBOT, "{:?}", start.elapsed());
    assert_eq!(account.outcomes(), ["granted"]);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_lost_is_not_known_and_told() {
    let account = Account::new();
    account.cloud.fail("PutUserPolicy", 99, Fault::Lost);
    let start = Instant::now();
    let error = account.invoke(GRANT).await.unwrap_err();
    assert!(start.elapsed() < CHATBOT, "{:?}", start.elapsed());
    assert_eq!(error.error_type().name(), "Internal");
    assert!(error.to_string().starts_with("It is not known whether user prd-user was given admin"), "{error}");
    assert_eq!(account.outcomes(), ["failed"]);
    assert!(account.cloud.published()[0].contains("Perhaps let in: user prd-user"));
    assert_eq!(account.row("user/prd-user/admin").await.unwrap().state.state, State::Intent);
    // Nobody is in, so that nobody is listed.
    assert_eq!(account.text(r#"{"action":"list"}"#).await, "Nobody has access now.");
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_after_a_lost_write_waits_for_its_lease_and_no_longer() {
    let account = Account::new();
    // The first invocation dies in the middle of its write.
    account.cloud.fail("PutUserPolicy", 1, Fault::Lost);
    tokio::time::timeout(Duration::from_secs(1), account.invoke(GRANT)).await.unwrap_err();
    let error = account.invoke(GRANT).await.unwrap_err();
    assert_eq!(error.error_type().name(), "Throttled", "{error}");
    assert!(error.to_string().contains("This one changed nothing"), "{error}");
    let answer = account.text(GRANT).await;
    assert!(answer.starts_with("End time is 2026-11-21T21:15:1"), "{answer}");
    assert_eq!(account.row("user/prd-user/admin").await.unwrap().state.state, State::Granted);
}

#[tokio::test(start_paused = true)]
async fn an_iam_that_is_silent_before_the_write_grants_nothing() {
    for call in ["GetUser", "ListUserPolicies"] {
        let account = Account::new();
        account.cloud.fail(call, 99, Fault::Lost);
        let start = Instant::now();
        let error = account.invoke(GRANT).await.unwrap_err();
        assert!(start.elapsed() < CHATBOT, "{call}: {:?}", start.elapsed());
        assert!(error.to_string().starts_with("Nothing was granted"), "{call}: {error}");
        assert!(!account.cloud.wrote(), "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_back_that_is_late_is_waited_for_and_then_said() {
    let account = Account::new();
    account.cloud.fail("GetUserPolicy", 2, Fault::Stale);
    let answer = account.text(GRANT).await;
    assert!(answer.starts_with(END) && !answer.contains("does not show"), "{answer}");

    let account = Account::new();
    account.cloud.fail("GetUserPolicy", 999, Fault::Stale);
    let start = Instant::now();
    let answer = account.text(GRANT).await;
    assert!(answer.starts_with(END) && answer.contains("does not show it yet"), "{answer}");
    assert!(start.elapsed() < CHATBOT);

    let account = Account::new();
    account.cloud.fail("GetUserPolicy", 999, Fault::Lost);
    let start = Instant::now();
    let answer = account.text(GRANT).await;
    assert!(answer.starts_with(END) && answer.contains("could not be asked"), "{answer}");
    assert!(start.elapsed() < CHATBOT);
    assert_eq!(account.outcomes(), ["granted"]);
}

#[tokio::test(start_paused = true)]
async fn without_the_ledger_nothing_is_granted() {
    for broken in ["read", "write"] {
        let account = Account::new();
        account.breaks(move |operation| operation == broken);
        let error = account.invoke(GRANT).await.unwrap_err();
        assert!(error.to_string().starts_with("Nothing was granted"), "{error}");
        assert!(!account.cloud.wrote());
    }
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_fails_after_the_grant_does_not_hide_it() {
    let account = Account::new();
    let writes = std::cell::Cell::new(0);
    account.breaks(move |operation| {
        writes.set(writes.get() + usize::from(operation == "write"));
        operation == "record" || writes.get() > 1
    });
    let answer = account.text(GRANT).await;
    assert!(answer.starts_with(END), "{answer}");
    assert!(answer.contains("has the intent, but not that it was carried out"), "{answer}");
    assert!(answer.contains("did not record this"), "{answer}");
    assert!(admin(&account).is_some());
    assert_eq!(account.cloud.published().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_notice_that_fails_does_not_hide_the_grant() {
    for fault in [Fault::Code("InternalError", 500), Fault::Code("NotFound", 404), Fault::Lost] {
        let account = Account::new();
        account.cloud.fail("Publish", 99, fault);
        let start = Instant::now();
        let answer = account.text(GRANT).await;
        assert!(answer.starts_with(END) && answer.contains("notice about this could not be sent"), "{answer}");
        assert!(start.elapsed() < CHATBOT);
        assert_eq!(account.outcomes(), ["granted"]);
    }
}

#[tokio::test(start_paused = true)]
async fn access_can_be_ended_without_the_ledger() {
    let account = Account::new();
    account.text(GRANT).await;
    account.breaks(|_| true);
    let answer = account.text(r#"{"action":"revoke","user":"prd-user"}"#).await;
    assert!(answer.contains("is ended") && answer.contains("ledger"), "{answer}");
    assert_eq!(admin(&account), None);
}

#[tokio::test(start_paused = true)]
async fn a_revoke_that_iam_refuses_says_what_is_still_there() {
    let account = Account::new();
    account.text(GRANT).await;
    account.cloud.fail("DeleteUserPolicy", 99, Fault::Code("AccessDenied", 403));
    let error = account.invoke(r#"{"action":"revoke","user":"prd-user"}"#).await.unwrap_err();
    assert!(error.to_string().starts_with("user prd-user still has sekisho-admin"), "{error}");
    assert_eq!(error.error_type().name(), "Refused");
}

#[tokio::test(start_paused = true)]
async fn the_same_request_tried_again_is_one_grant() {
    let account = Account::new();
    let first = text(account.invoke_as("one", GRANT).await);
    advance(minutes(2)).await;
    let again = text(account.invoke_as("one", GRANT).await);
    assert_eq!(first.lines().next(), again.lines().next());
    assert_eq!(account.outcomes(), ["granted", "unchanged"]);
    // Also where somebody has extended, or ended it, meanwhile.
    account.invoke_as("two", r#"{"user":"prd-user","minutes":60}"#).await.unwrap();
    let extended = text(account.invoke_as("one", GRANT).await);
    assert_eq!(extended.lines().next(), Some("End time is 2026-11-21T21:47:00Z"));
    account.text(r#"{"action":"revoke","user":"prd-user"}"#).await;
    let error = account.invoke_as("one", GRANT).await.unwrap_err();
    assert_eq!(error.error_type().name(), "Refused");
    assert_eq!(admin(&account), None);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_died_after_its_intent_is_taken_up_with_the_same_end() {
    let account = Account::new();
    account.cloud.fail("PutUserPolicy", 3, Fault::Lost);
    account.invoke_as("one", GRANT).await.unwrap_err();
    assert_eq!(admin(&account), None);
    advance(minutes(2)).await;
    let answer = text(account.invoke_as("one", GRANT).await);
    assert!(answer.starts_with("End time is 2026-11-21T21:15:00Z"), "{answer}");
    // An hour later its time would be over.
    let account = Account::new();
    account.cloud.fail("PutUserPolicy", 3, Fault::Lost);
    account.invoke_as("one", GRANT).await.unwrap_err();
    advance(minutes(60)).await;
    assert_eq!(account.invoke_as("one", GRANT).await.unwrap_err().error_type().name(), "Refused");
    assert_eq!(admin(&account), None);
}

#[tokio::test(start_paused = true)]
async fn two_at_once_end_with_the_later_end_whichever_comes_first() {
    for (ahead, one, other) in [(0, 30, 60), (0, 60, 30), (3, 30, 60), (3, 60, 30), (40, 60, 30), (90, 30, 60)] {
        let account = Account::new();
        account.cloud.delays(vec![30, 5, 80, 10, 50, 20, 40]);
        let payload = |minutes: u32| format!(r#"{{"user":"prd-user","minutes":{minutes}}}"#);
        let (one, other) = (payload(one), payload(other));
        let (first, second) = join(account.invoke(&one), async {
            sleep(Duration::from_millis(ahead)).await;
            account.invoke(&other).await
        })
        .await;
        let (first, second) = (text(first), text(second));
        let end = admin(&account).unwrap();
        assert!(end.starts_with("2026-11-21T21:45:0"), "{first}\n{second}");
        assert!(first.contains(&end) || second.contains(&end));
    }
}

#[tokio::test(start_paused = true)]
async fn a_revoke_waits_for_the_grant_that_is_under_way() {
    let account = Account::new();
    account.cloud.delays(vec![100]);
    let (granted, revoked) = join(account.invoke(GRANT), async {
        sleep(Duration::from_millis(250)).await;
        account.invoke(r#"{"action":"revoke","user":"prd-user"}"#).await
    })
    .await;
    assert!(text(granted).starts_with(END));
    assert!(text(revoked).contains("is ended"));
    assert_eq!(admin(&account), None);
}

/// The names of the policies may have been read before, and the row after another grant's work.
#[tokio::test(start_paused = true)]
async fn a_grant_between_the_two_looks_of_another_is_seen() {
    let account = Account::new();
    account.cloud.delays(vec![2]);
    // The second to read the ledger gets its answer when the first has long ended.
    let mut delays = vec![1; 50];
    delays[1] = 200;
    *account.function.ledger.delays.borrow_mut() = delays;
    let longer = account.invoke(r#"{"user":"prd-user","minutes":60}"#);
    let (longer, shorter) = join(longer, account.invoke(GRANT)).await;
    let (longer, shorter) = (text(longer), text(shorter));
    assert_eq!(longer.lines().next(), Some("End time is 2026-11-21T21:45:00Z"));
    assert_eq!(shorter.lines().next(), Some("End time is 2026-11-21T21:45:00Z"));
    assert_eq!(admin(&account).unwrap(), "2026-11-21T21:45:00Z");
}

#[tokio::test(start_paused = true)]
async fn an_extension_in_the_second_of_a_sweep_is_not_swept() {
    let sweep = include_str!("../../../events/temp-access/sweep.json");
    // The grant begins at all moments of the sweep's work, and ends before, during and after it.
    for ahead in (0..900).step_by(12) {
        let account = Account::new();
        for user in ["a-1", "a-2", "a-3", "prd-user"] {
            account.cloud.add(User, user);
            account.text(&format!(r#"{{"user":"{user}","minutes":1}}"#)).await;
        }
        advance(minutes(1)).await;
        account.cloud.delays(vec![70, 20, 45]);
        let (swept, granted) = join(account.invoke(sweep), async {
            sleep(Duration::from_millis(ahead)).await;
            account.invoke(GRANT).await
        })
        .await;
        assert!(matches!(swept, Ok(Answer::Decisions(_))), "{swept:?}");
        assert!(text(granted).starts_with("End time is 2026-11-21T21:16:"));
        assert!(admin(&account).is_some(), "swept, though extended {ahead} ms after the sweep began");
        assert!(account.cloud.policies(User, "a-3").is_empty());
    }
}

/// The sweep has seen the policy ended, and is about to claim it when a grant comes and goes.
#[tokio::test(start_paused = true)]
async fn a_sweep_that_claims_too_late_removes_nothing() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":1}"#).await;
    advance(minutes(1)).await;
    account.cloud.delays(vec![10]);
    let operations = account.function.ledger.operations.borrow().len();
    let mut delays = vec![1; 50];
    delays[operations + 1] = 300;
    *account.function.ledger.delays.borrow_mut() = delays;
    let (swept, granted) = join(account.invoke(include_str!("../../../events/temp-access/sweep.json")), async {
        sleep(Duration::from_millis(40)).await;
        account.invoke(GRANT).await
    })
    .await;
    assert!(text(granted).starts_with("End time is 2026-11-21T21:16:00Z"));
    assert_eq!(admin(&account).as_deref(), Some("2026-11-21T21:16:00Z"));
    let Ok(Answer::Decisions(swept)) = swept else { panic!("{swept:?}") };
    assert_eq!(serde_json::to_value(&swept).unwrap()["decisions"][0]["outcome"], "idle");
}

#[tokio::test(start_paused = true)]
async fn a_sweep_says_what_it_could_not_remove_and_goes_on() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":1}"#).await;
    account.text(r#"{"role":"ops","minutes":1}"#).await;
    advance(minutes(2)).await;
    account.cloud.fail("DeleteUserPolicy", 9, Fault::Code("AccessDenied", 403));
    let Answer::Decisions(swept) =
        account.invoke(include_str!("../../../events/temp-access/sweep.json")).await.unwrap()
    else {
        panic!()
    };
    let swept = serde_json::to_value(&swept).unwrap();
    assert_eq!(swept["decisions"][0]["outcome"], "failed", "{swept}");
    assert_eq!(swept["decisions"][1]["outcome"], "swept", "{swept}");
    assert!(admin(&account).is_some());
}

/// Ended, granted anew, and swept in the next second, while IAM still shows the text that has ended.
#[tokio::test(start_paused = true)]
async fn a_sweep_that_reads_the_old_text_leaves_the_new_grant() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":1}"#).await;
    advance(minutes(1)).await;
    account.text(GRANT).await;
    account.cloud.fail("GetAccountAuthorizationDetails", 1, Fault::Stale);
    account.cloud.fail("GetUserPolicy", 99, Fault::Stale);
    let swept = account.invoke(include_str!("../../../events/temp-access/sweep.json")).await.unwrap();
    assert_eq!(serde_json::to_value(&swept).unwrap()["decisions"][0]["outcome"], "idle");
    assert!(admin(&account).unwrap().starts_with("2026-11-21T21:16:0"));
}

#[tokio::test(start_paused = true)]
async fn a_revoke_that_does_not_see_the_grant_yet_ends_it() {
    let account = Account::new();
    account.text(GRANT).await;
    for call in ["ListUserPolicies", "GetUserPolicy"] {
        account.cloud.fail(call, 99, Fault::Stale);
    }
    let answer = account.text(r#"{"action":"revoke","user":"prd-user"}"#).await;
    assert!(answer.contains("Access of user prd-user is ended: sekisho-admin removed"), "{answer}");
    assert_eq!(admin(&account), None);
    assert_eq!(account.row("user/prd-user/admin").await.unwrap().state.state, State::Revoked);
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_does_not_see_a_longer_one_yet_does_not_shorten_it() {
    for stale in [3, 99] {
        let account = Account::new();
        account.text(r#"{"user":"prd-user","minutes":480}"#).await;
        advance(Duration::from_secs(2)).await;
        for call in ["ListUserPolicies", "GetUserPolicy"] {
            account.cloud.fail(call, stale, Fault::Stale);
        }
        let start = Instant::now();
        let answer = account.text(GRANT).await;
        assert!(start.elapsed() < CHATBOT, "{:?}", start.elapsed());
        assert!(answer.starts_with("End time is 2026-11-22T04:45:00Z"), "{answer}");
        assert_eq!(admin(&account).as_deref(), Some("2026-11-22T04:45:00Z"), "{stale}");
        assert_eq!(account.row("user/prd-user/admin").await.unwrap().state.window().end, account::BEGIN + minutes(480));
    }
}

/// Where the ledger was not there for the revoke, its row still says that there is access.
#[tokio::test(start_paused = true)]
async fn what_was_ended_without_the_ledger_does_not_come_back_with_the_next_grant() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":480}"#).await;
    advance(minutes(5)).await;
    account.breaks(|_| true);
    account.text(r#"{"action":"revoke","user":"prd-user"}"#).await;
    account.breaks(|_| false);
    let answer = account.text(GRANT).await;
    assert!(answer.starts_with("End time is 2026-11-21T21:20:0"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_revoke_without_the_ledger_keeps_what_is_not_ours() {
    let account = Account::new();
    let foreign = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
    account.cloud.put(User, "prd-user", "sekisho-theirs", foreign);
    account.text(GRANT).await;
    account.breaks(|_| true);
    let answer = account.text(r#"{"action":"revoke","user":"prd-user"}"#).await;
    assert!(answer.contains("sekisho-admin removed") && answer.contains("Not removed"), "{answer}");
    assert_eq!(account.cloud.policies(User, "prd-user").into_keys().collect::<Vec<_>>(), ["sekisho-theirs"]);
}

const REVOKE: &str = r#"{"action":"revoke","user":"prd-user"}"#;

#[tokio::test(start_paused = true)]
async fn a_revoke_ends_access_though_the_ledger_hangs() {
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
    // The list and the record, and nothing between them.
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(account.cloud.published().last().unwrap().contains("Ended: access of user prd-user"));
}

#[tokio::test(start_paused = true)]
async fn a_revoke_tries_every_policy_and_tells_what_it_removed_and_what_not() {
    let account = Account::new();
    account.text(GRANT).await;
    account.text(r#"{"user":"prd-user","profile":"read-only"}"#).await;
    let told = account.cloud.published().len();
    account.cloud.fail("DeleteUserPolicy", 1, Fault::Code("AccessDenied", 403));
    let error = account.invoke(REVOKE).await.unwrap_err().to_string();
    assert!(error.starts_with("user prd-user still has sekisho-admin; sekisho-read-only removed: "), "{error}");
    assert!(error.contains("Put tag and boundary back and revoke again, or delete the policy by hand"), "{error}");
    assert_eq!(account.cloud.policies(User, "prd-user").into_keys().collect::<Vec<_>>(), ["sekisho-admin"]);
    assert_eq!(account.cloud.published().len(), told + 1);
    let outcomes = account.outcomes();
    assert_eq!(outcomes[outcomes.len() - 2..], ["revoked", "refused"]);
}

#[tokio::test(start_paused = true)]
async fn a_revoke_does_not_wait_for_the_lease_of_a_dead_invocation() {
    let account = Account::new();
    account.text(GRANT).await;
    // An extension dies in the middle of its write.
    account.cloud.fail("PutUserPolicy", 1, Fault::Lost);
    let extension = account.invoke(r#"{"user":"prd-user","minutes":60}"#);
    tokio::time::timeout(Duration::from_secs(1), extension).await.unwrap_err();
    let start = Instant::now();
    let ended = async {
        sleep(Duration::from_secs(1)).await;
        admin(&account)
    };
    let (answer, after_a_second) = join(account.invoke(REVOKE), ended).await;
    assert_eq!(after_a_second, None);
    let answer = text(answer);
    assert!(answer.contains("is ended: sekisho-admin removed") && answer.contains("revoke again"), "{answer}");
    assert!(start.elapsed() < CHATBOT, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn revoked_access_does_not_come_back_where_the_revoke_could_not_say_so() {
    // Whichever of its writes is the first that fails.
    for fails_from in [1, 2] {
        let account = Account::new();
        account.text(r#"{"user":"prd-user","minutes":480}"#).await;
        advance(minutes(10)).await;
        let count = std::cell::Cell::new(0);
        account.breaks(move |operation| {
            count.set(count.get() + usize::from(operation == "write"));
            operation == "write" && count.get() >= fails_from
        });
        account.invoke(REVOKE).await.unwrap();
        account.breaks(|_| false);
        assert_eq!(admin(&account), None);
        let answer = account.text(r#"{"user":"prd-user","minutes":10}"#).await;
        assert!(answer.starts_with("End time is 2026-11-21T21:05:"), "{fails_from}: {answer}");
    }
}

/// The sweep's lease may end before its delete does, and the next one's grant is then removed.
#[tokio::test(start_paused = true)]
async fn a_sweeps_delete_ends_before_its_lease() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":1}"#).await;
    advance(minutes(2)).await;
    // The claim takes most of the lease, and nothing that begins then is over in time.
    let operations = account.function.ledger.operations.borrow().len();
    let mut delays = vec![1; 50];
    delays[operations + 1] = 12_000;
    *account.function.ledger.delays.borrow_mut() = delays;
    account.invoke(include_str!("../../../events/temp-access/sweep.json")).await.unwrap();
    assert!(!account.cloud.calls().iter().any(|call| call == "DeleteUserPolicy"), "{:?}", account.cloud.calls());
    // And one that hangs is not waited for beyond it.
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":1}"#).await;
    advance(minutes(2)).await;
    account.cloud.fail("DeleteUserPolicy", 99, Fault::Lost);
    let start = Instant::now();
    account.invoke(include_str!("../../../events/temp-access/sweep.json")).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(11), "{:?}", start.elapsed());
    // Nobody is let in before it is certain that it is over.
    assert!(account.row("user/prd-user/admin").await.unwrap().state.held_until > 0);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_of_a_large_account_goes_page_by_page() {
    let account = Account::new();
    for user in ["a-1", "a-2", "a-3"] {
        account.cloud.add(User, user);
        account.text(&format!(r#"{{"user":"{user}","minutes":1}}"#)).await;
    }
    advance(minutes(2)).await;
    account.cloud.paged(2);
    let sweep = include_str!("../../../events/temp-access/sweep.json");
    account.invoke(sweep).await.unwrap();
    let left = ["a-1", "a-2", "a-3"].map(|user| account.cloud.policies(User, user).len());
    assert_eq!(left, [0, 0, 0]);
    let pages = account.cloud.calls().iter().filter(|call| *call == "GetAccountAuthorizationDetails").count();
    assert_eq!(pages, 3);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_may_not_remove_says_so_once_a_day() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":1}"#).await;
    advance(minutes(2)).await;
    account.cloud.fail("DeleteUserPolicy", 999, Fault::Code("AccessDenied", 403));
    let told = account.cloud.published().len();
    for _ in 0..95 {
        account.invoke(include_str!("../../../events/temp-access/sweep.json")).await.unwrap();
        advance(minutes(15)).await;
    }
    assert_eq!(account.outcomes().iter().filter(|outcome| *outcome == "failed").count(), 1);
    assert_eq!(account.cloud.published().len(), told + 1);
    assert!(account.cloud.published()[told].contains("put them back"), "{}", account.cloud.published()[told]);
}

#[tokio::test(start_paused = true)]
async fn a_list_has_what_only_iam_or_only_the_ledger_knows() {
    let account = Account::new();
    account.cloud.paged(1);
    let by_hand = account::windowed("2026-11-21T20:43:00Z", "2026-11-21T23:45:00Z");
    account.cloud.put(User, "stranger", "sekisho-admin", &by_hand);
    account.text(r#"{"user":"prd-user","minutes":30,"reason":"release"}"#).await;
    let listed = account.text(r#"{"action":"list"}"#).await;
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(listed.contains("release\nuser stranger: admin until 2026-11-21T23:45:00Z"), "{listed}");
    assert!(listed.ends_with("(the ledger does not know of it)"), "{listed}");
    // Without the ledger, who is in; without IAM, what the ledger has.
    account.breaks(|_| true);
    let listed = account.text(r#"{"action":"list"}"#).await;
    assert!(listed.contains("user prd-user: admin") && listed.contains("the reasons are missing"), "{listed}");
    account.breaks(|_| false);
    account.cloud.fail("GetAccountAuthorizationDetails", 9, Fault::Code("AccessDenied", 403));
    let listed = account.text(r#"{"action":"list"}"#).await;
    assert!(listed.contains("user prd-user: admin until 2026-11-21T21:15:0"), "{listed}");
    assert!(listed.contains("Not all users and roles could be read"), "{listed}");
    // Deleted by hand, an hour ago or a moment.
    advance(minutes(5)).await;
    account.cloud.remove(User, "prd-user", "sekisho-admin");
    let listed = account.text(r#"{"action":"list"}"#).await;
    assert!(listed.contains("only the ledger says so"), "{listed}");
}

/// IAM shows the policy for some seconds after it was deleted.
#[tokio::test(start_paused = true)]
async fn revoked_access_that_still_shows_is_not_extended() {
    let account = Account::new();
    account.text(r#"{"user":"prd-user","minutes":480}"#).await;
    advance(minutes(10)).await;
    account.text(REVOKE).await;
    for call in ["ListUserPolicies", "GetUserPolicy"] {
        account.cloud.fail(call, 1, Fault::Stale);
    }
    let answer = account.text(r#"{"user":"prd-user","minutes":10}"#).await;
    assert!(answer.starts_with("End time is 2026-11-21T21:05:"), "{answer}");
    assert!(admin(&account).unwrap().starts_with("2026-11-21T21:05:"));
}
