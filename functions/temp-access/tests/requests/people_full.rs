//! The last room in `sekisho-window`, for which several people come at the same time.

use std::time::Duration;

use futures_util::join;
use sekisho_domain::config::Document;
use sekisho_domain::timestamp;
use sekisho_lambda::Failure;
use tokio::time::{sleep, timeout};

use crate::account::{Account, CONFIG, Fault, minutes};
use crate::people::{account, let_in, revoke, user};

/// How many people fit with the profile of these tests.
const ROOM: usize = 2;

/// An account in which there is room for one more, whose reads of the policy lag behind from now on.
async fn nearly_full(lag: u64) -> Account {
    let mut account = account(0);
    let actions: Vec<String> = (0..100).map(|number| format!("\"service:DoThis{number:03}\"")).collect();
    let large = CONFIG.replacen("\"*\"", &actions.join(","), 1);
    account.function.access = Document::parse("sekisho.toml", &large).unwrap().access();
    account.cloud.people(|people| {
        people.users.extend((0..3).map(|n| (format!("p{n}@example.com"), user(&n.to_string()))));
    });
    account.text(r#"{"person":"p0@example.com","minutes":300}"#).await;
    sleep(minutes(1)).await;
    account.cloud.people(|people| people.lags = vec![Duration::from_secs(lag)]);
    account
}

/// Whoever was answered gets in, at once or at the start, and everybody else is told that there is no room.
#[tokio::test(start_paused = true)]
async fn the_last_room_is_given_once() {
    let mut given = 0;
    for lag in [0, 20] {
        for later in [None, Some(60)] {
            for ahead in (0..1_200).step_by(100) {
                let account = nearly_full(lag).await;
                let from = later.map(|later| timestamp::seconds(account.now() + minutes(later)));
                let from = from.map(|from| format!(r#","from":"{from}""#)).unwrap_or_default();
                let ask = |name: usize, length: u64| {
                    format!(r#"{{"person":"p{name}@example.com","minutes":{length}{from}}}"#)
                };
                let (first, second) = (ask(1, 30), ask(2, 40));
                let (first, second) = join!(account.invoke(&first), async {
                    sleep(Duration::from_millis(ahead)).await;
                    account.invoke(&second).await
                });
                let what = format!("lag {lag}, from {later:?}, {ahead} ms: {first:?} {second:?}");
                assert!(!(first.is_ok() && second.is_ok()), "{what}");
                sleep(minutes(later.unwrap_or_default().saturating_sub(9))).await;
                for _ in 0..12 {
                    sleep(minutes(1)).await;
                    account.follow_up().await;
                }
                for (number, answer) in [(1, first), (2, second)] {
                    given += usize::from(answer.is_ok());
                    assert_eq!(let_in(&account).contains(&user(&number.to_string())), answer.is_ok(), "{what}");
                    if let Err(error) = answer {
                        assert_eq!(error.error_type().name(), "LimitExceeded", "{what}");
                    }
                }
                assert!(let_in(&account).len() <= ROOM, "{what}");
            }
        }
    }
    assert!(given > 24, "of 48 times, somebody was let in only {given} times");
}

/// There is no room, and the ledger does not take back the intent of the refused grant.
#[tokio::test(start_paused = true)]
async fn a_refused_grant_that_is_not_taken_back_lets_nobody_in() {
    let account = nearly_full(0).await;
    let from = timestamp::seconds(account.now() + minutes(60));
    // Two people with the same window would share a statement, and fit.
    let ask =
        |name: usize, length: u64| format!(r#"{{"person":"p{name}@example.com","minutes":{length},"from":"{from}"}}"#);
    let (first, second) = (ask(1, 30), ask(2, 40));
    // The first one is claimed, and finds the second one when it looks for room.
    account.set_ledger_delays(vec![100]);
    account.fail_ledger(|operation| operation == "delete");
    let (first, second) = join!(account.invoke(&first), account.invoke(&second));
    account.fail_ledger(|_| false);
    assert!(first.is_err() && second.is_ok(), "{first:?} {second:?}");
    sleep(minutes(50)).await;
    for _ in 0..12 {
        sleep(minutes(1)).await;
        account.follow_up().await;
    }
    assert_eq!(let_in(&account).into_iter().collect::<Vec<_>>(), [user("0"), user("2")]);
}

#[tokio::test(start_paused = true)]
async fn a_revoke_makes_room_and_a_dead_invocation_takes_it_only_while_it_may_be_running() {
    let account = nearly_full(0).await;
    let ask = |name: usize, length: u64| format!(r#"{{"person":"p{name}@example.com","minutes":{length}}}"#);
    account.text(&ask(1, 30)).await;
    let refused = async || account.invoke(&ask(2, 40)).await.unwrap_err().error_type().name();
    assert_eq!(refused().await, "LimitExceeded");
    account.text(&revoke("p1")).await;
    account.cloud.fail("CreatePolicyVersion", 1, Fault::Lost);
    timeout(Duration::from_secs(2), account.invoke(&ask(1, 30))).await.unwrap_err();
    assert_eq!(refused().await, "LimitExceeded");
    sleep(Duration::from_secs(14)).await;
    account.text(&ask(2, 40)).await;
    for _ in 0..3 {
        sleep(minutes(1)).await;
        account.follow_up().await;
        assert_eq!(let_in(&account).into_iter().collect::<Vec<_>>(), [user("0"), user("2")]);
    }
}
