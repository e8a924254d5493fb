//! Somebody sets an older version of `sekisho-window` by hand. Whoever is out by that stays out.

use sekisho_ledger::{Key, Row, Store as _};
use serde_json::Value;
use tokio::time::sleep;

use crate::account::{Account, minutes};
use crate::people::{account, grant, let_in, revoke, users};

/// An account in which version 2 lets in one person, version 3 two, and version 4 three.
async fn three() -> Account {
    let account = account(0);
    for name in ["hana", "taro", "jiro"] {
        account.text(&grant(name)).await;
    }
    assert_eq!(let_in(&account), users(&["hana", "taro", "jiro"]));
    account
}

async fn follow_ups(account: &Account) {
    for _ in 0..4 {
        sleep(minutes(1)).await;
        account.follow_up().await;
    }
}

/// Whether IAM's version is old by then, and whether the ledger answers or not.
#[tokio::test(start_paused = true)]
async fn a_revoke_lets_nobody_in_again_whom_an_older_version_left_out() {
    for (version, is_in) in [(1, &[][..]), (2, &["hana"][..]), (3, &["hana", "taro"][..])] {
        for (wait, is_lost) in [(0, false), (0, true), (3, false), (3, true)] {
            let what = format!("version {version} after {wait} min, without the ledger: {is_lost}");
            let account = three().await;
            account.cloud.people(|people| people.set_default(version));
            sleep(minutes(wait)).await;
            account.fail_ledger(move |_| is_lost);
            // The ledger still records the access of jiro, who is out already.
            let _ = account.invoke(&revoke("jiro")).await;
            assert_eq!(let_in(&account), users(is_in), "{what}");
            let _ = account.invoke(&revoke("hana")).await;
            let rest: Vec<&str> = is_in.iter().copied().filter(|name| *name != "hana").collect();
            assert_eq!(let_in(&account), users(&rest), "{what}");
            account.fail_ledger(|_| false);
            follow_ups(&account).await;
            assert_eq!(let_in(&account), users(&rest), "{what}, after the follow-ups");
            account.text(&grant("mika")).await;
            follow_ups(&account).await;
            let rest: Vec<&str> = rest.into_iter().chain(["mika"]).collect();
            assert_eq!(let_in(&account), users(&rest), "{what}, after the next grant");
        }
    }
}

/// The list shows at once who is in.
#[tokio::test(start_paused = true)]
async fn the_list_shows_an_older_version_as_soon_as_iam_does() {
    let account = three().await;
    account.cloud.people(|people| people.set_default(2));
    let list = account.text(r#"{"action":"list"}"#).await;
    let line = |name: &str| list.lines().find(|line| line.contains(name)).unwrap_or_default();
    assert!(line("hana").contains("left)") && !line("hana").contains("ledger"), "{list}");
    assert!(line("taro").contains("from the ledger"), "{list}");
}

/// A repair finds nothing to write after somebody has set an older version. The next grant must not take the versions in
/// between for overlooked ones.
#[tokio::test(start_paused = true)]
async fn a_repair_does_not_forget_the_versions_that_were_left_out() {
    let account = three().await;
    account.cloud.people(|people| people.set_default(1));
    sleep(minutes(3)).await;
    let key = Key { pk: "window".to_owned(), sk: "sekisho-window".to_owned() };
    let memory = &account.function.ledger.memory;
    let Row { mut state, revision, .. } = memory.read::<Value>(&key).await.unwrap().unwrap();
    state["is_unsettled"] = true.into();
    memory.write(&key, &state, Some(revision), "somebody").await.unwrap();
    account.follow_up().await;
    let repaired = memory.read::<Value>(&key).await.unwrap().unwrap().state;
    assert_eq!((repaired.get("is_unsettled"), &repaired["version"]), (None, &Value::from(4)));
    account.text(&grant("mika")).await;
    follow_ups(&account).await;
    assert_eq!(let_in(&account), users(&["mika"]));
}
