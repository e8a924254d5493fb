//! If the row of `sekisho-window` cannot be read, a revoke still ends access, and the next writer replaces the row.

use std::time::Duration;

use sekisho_ledger::{Key, Store as _};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::account::{Account, SLACK_LIMIT, minutes};
use crate::people::{BEGINS_LATER, account, grant, let_in, revoke, users};

/// The version number in the row; `None` if the row cannot be read.
async fn version(account: &Account) -> Option<u64> {
    let key = Key { pk: "window".to_owned(), sk: "sekisho-window".to_owned() };
    let row = account.function.ledger.memory.read::<Value>(&key).await.unwrap().unwrap();
    row.state["version"].as_u64()
}

/// Hana and Taro are in, by the versions 2 and 3. To reads that lag behind, IAM shows version 2 for some more seconds.
async fn spoiled(lag: u64) -> Account {
    let account = account(lag);
    account.text(&grant("hana")).await;
    sleep(minutes(1)).await;
    account.text(&grant("taro")).await;
    assert_eq!((let_in(&account), version(&account).await), (users(&["hana", "taro"]), Some(3)));
    account.spoil_window().await;
    account
}

async fn follow_ups(account: &Account) {
    for _ in 0..3 {
        sleep(minutes(1)).await;
        account.follow_up().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_revoke_ends_access_and_replaces_the_row() {
    for lag in [0, 20] {
        for (name, rest) in [("taro", "hana"), ("hana", "taro")] {
            let account = spoiled(lag).await;
            let began = Instant::now();
            let answer = account.text(&revoke(name)).await;
            assert!(answer.contains("sekisho-admin removed") && began.elapsed() < SLACK_LIMIT, "{lag}: {answer}");
            // A follow-up lets in again whoever was only in a version that IAM did not show yet.
            assert!(let_in(&account).is_subset(&users(&[rest])), "{lag}: {name} is out");
            let written = account.cloud.calls().iter().filter(|call| *call == "CreatePolicyVersion").count() as u64;
            assert_eq!(version(&account).await, Some(written + 1), "{lag}: the row has the last version");
            follow_ups(&account).await;
            assert_eq!(let_in(&account), users(&[rest]), "{lag}: nobody is forgotten");
            account.text(&grant("mika")).await;
            follow_ups(&account).await;
            assert_eq!(let_in(&account), users(&[rest, "mika"]), "{lag}: nobody comes back");
        }
    }
}

/// Who has no access was not let out, whatever a revoke had to write.
#[tokio::test(start_paused = true)]
async fn a_revoke_of_somebody_without_access_says_so() {
    let account = spoiled(0).await;
    let answer = account.text(&revoke("mika")).await;
    assert!(!answer.contains("removed"), "{answer}");
    assert_eq!((let_in(&account), account.outcomes().pop()), (users(&["hana", "taro"]), Some("unchanged".to_owned())));
}

/// Only IAM knows by then which version is the last one.
#[tokio::test(start_paused = true)]
async fn a_grant_waits_until_iam_shows_every_version() {
    let account = spoiled(20).await;
    let answer = account.text(&grant("mika")).await;
    assert!(answer.contains(BEGINS_LATER), "{answer}");
    assert_eq!((let_in(&account), version(&account).await), (users(&["hana", "taro"]), Some(0)));
    sleep(Duration::from_secs(100)).await;
    account.follow_up().await;
    assert_eq!(let_in(&account), users(&["hana", "taro"]), "the two minutes begin once, with the first writer");
    sleep(Duration::from_secs(20)).await;
    account.follow_up().await;
    assert_eq!((let_in(&account), version(&account).await), (users(&["hana", "taro", "mika"]), Some(4)));
}

/// Nobody makes a request, and nobody types anything.
#[tokio::test(start_paused = true)]
async fn a_follow_up_replaces_the_row() {
    let account = spoiled(0).await;
    follow_ups(&account).await;
    assert_eq!((let_in(&account), version(&account).await), (users(&["hana", "taro"]), Some(3)));
}

/// Such a row has to be deleted by hand, so that people get in again. Until then, whoever is in can be put out.
#[tokio::test(start_paused = true)]
async fn a_row_without_a_revision_keeps_nobody_in() {
    for lag in [0, 20] {
        let account = spoiled(lag).await;
        account.function.ledger.lost_revision.set(true);
        let answer = account.text(&revoke("taro")).await;
        assert!(answer.contains("sekisho-admin removed"), "{lag}: {answer}");
        assert_eq!(let_in(&account), users(&["hana"]), "{lag}");
        let answer = account.text(&grant("mika")).await;
        assert!(answer.contains(BEGINS_LATER), "{answer}");
        account.text(&revoke("hana")).await;
        follow_ups(&account).await;
        follow_ups(&account).await;
        assert_eq!(let_in(&account), users(&[]), "{lag}");
        let decisions = account.decisions();
        let failed = decisions.iter().find(|decision| decision["outcome"] == "failed").unwrap();
        let reason = failed["reason"].as_str().unwrap();
        assert!(reason.contains("row window / sekisho-window cannot be read: fix or delete it"), "{reason}");
        account.function.ledger.lost_revision.set(false);
        follow_ups(&account).await;
        assert_eq!(let_in(&account), users(&["mika"]), "{lag}");
    }
}
