//! The end of people's access by a follow-up or a sweep: it takes what has to end, and nothing else.

use std::cell::Cell;

use sekisho_domain::config::Document;
use sekisho_domain::timestamp;
use sekisho_lambda::Failure;
use tokio::time::sleep;

use crate::account::{Account, Fault, minutes};
use crate::approvals::{DOORS, approve, ask};
use crate::people::{BEGINS_LATER, account, grant, let_in, revoke, user, users};
use crate::people_profiles::{self, CONFIG, actions, changed, reconfigure, statements, with_profiles};

const THROTTLED: Fault = Fault::Code("Throttling", 400);

/// Revokes while IAM takes no version, so that a follow-up has to delete what the person has.
async fn revoke_in_vain(account: &Account, name: &str) {
    account.cloud.fail("CreatePolicyVersion", 1_000, THROTTLED);
    let error = account.invoke(&revoke(name)).await.unwrap_err();
    assert!(error.to_string().contains("The function tries again every minute."), "{error}");
    account.cloud.heal();
}

/// From now on, the read of the ledger's rows with this number fails.
fn lose_list(account: &Account, lost: usize) {
    let lists = Cell::new(0);
    account.fail_ledger(move |operation| {
        lists.set(lists.get() + usize::from(operation == "list"));
        operation == "list" && lists.get() == lost
    });
}

fn later(account: &Account, name: &str) -> String {
    let from = timestamp::seconds(account.now() + minutes(300));
    grant(name).replace('}', &format!(r#","from":"{from}"}}"#))
}

fn refusal(answer: Result<temp_access::answer::Answer, temp_access::error::Error>) -> (&'static str, String) {
    let error = answer.unwrap_err();
    (error.error_type().name(), error.to_string())
}

/// The grant begins long after the revoke, so that nothing else would take the person out.
#[tokio::test(start_paused = true)]
async fn a_scheduled_grant_does_not_cancel_the_delete_that_a_revoke_owes() {
    let account = account(0);
    account.text(&grant("hana").replace("30", "240")).await;
    revoke_in_vain(&account, "hana").await;
    for request in [grant("hana"), later(&account, "hana")] {
        let (error_type, message) = refusal(account.invoke(&request).await);
        assert!(error_type == "Throttled" && message.contains("a revoke of person hana@example.com"), "{message}");
    }
    assert_eq!(let_in(&account), users(&["hana"]));
    sleep(minutes(1)).await;
    assert_eq!(account.follow_up().await, ["revoked"]);
    assert_eq!(let_in(&account), users(&[]));
    let answer = account.text(&later(&account, "hana")).await;
    assert!(answer.starts_with("End time is "), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn an_approval_does_not_cancel_the_delete_that_a_revoke_owes() {
    let mut account = account(0);
    reconfigure(&mut account, &DOORS.replacen(r#"["user/prd-user"]"#, r#"["person/taro@example.com"]"#, 1));
    let code = ask(&account, "hana", &grant("taro").replace("30", "240")).await;
    account.text_at("jun", &approve(&code)).await;
    revoke_in_vain(&account, "taro").await;
    let code = ask(&account, "hana", &later(&account, "taro")).await;
    let (error_type, message) = refusal(account.invoke_at("jun", &approve(&code)).await);
    assert!(error_type == "Throttled" && message.contains("try again in two minutes"), "{message}");
    sleep(minutes(1)).await;
    account.follow_up().await;
    assert_eq!(let_in(&account), users(&[]));
    let answer = account.text_at("jun", &approve(&code)).await;
    assert!(answer.starts_with("End time is "), "{answer}");
}

/// Any one read of the ledger's rows fails.
#[tokio::test(start_paused = true)]
async fn a_sweep_that_loses_the_ledger_takes_nothing_from_a_person_whose_access_goes_on() {
    for lost in 1..9 {
        let mut account = with_profiles();
        people_profiles::ask(&account, "logs", 240, None).await;
        people_profiles::ask(&account, "ops", 60, Some(9)).await;
        reconfigure(&mut account, &changed("ec2"));
        lose_list(&account, lost);
        account.sweep().await;
        assert!(actions(&account).contains(&"logs:*".to_owned()), "{lost}: {:?}", statements(&account));
        account.fail_ledger(|_| false);
        sleep(minutes(1)).await;
        account.sweep().await;
        assert_eq!(actions(&account), ["logs:*"], "{lost}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_a_revoke_owes_takes_nothing_that_was_granted_afterwards() {
    for lost in 2..6 {
        let account = with_profiles();
        people_profiles::ask(&account, "ops", 240, None).await;
        revoke_in_vain(&account, "hana").await;
        people_profiles::ask(&account, "logs", 240, None).await;
        sleep(minutes(1)).await;
        lose_list(&account, lost);
        account.follow_up().await;
        assert!(actions(&account).contains(&"logs:*".to_owned()), "{lost}: {:?}", statements(&account));
        account.fail_ledger(|_| false);
        sleep(minutes(1)).await;
        account.follow_up().await;
        assert_eq!(actions(&account), ["logs:*"], "{lost}");
    }
}

/// The extension waits for a follow-up. Until then, a deployment changes its profile.
#[tokio::test(start_paused = true)]
async fn an_extension_that_does_not_fit_any_more_ends_no_live_access() {
    let gone = CONFIG.split("[access.profiles.ops]").next().unwrap().to_owned();
    let lower = |most| CONFIG.replace("max_minutes     = 480", &format!("max_minutes = {most}"));
    for (config, left) in [(changed("ec2"), 60), (gone, 60), (lower(60), 60), (lower(75), 75)] {
        let mut account = with_profiles();
        let begin = account.now();
        people_profiles::ask(&account, "ops", 60, None).await;
        sleep(minutes(50)).await;
        account.cloud.fail("CreatePolicyVersion", 1_000, THROTTLED);
        let answer = people_profiles::ask(&account, "ops", 60, None).await;
        assert!(answer.contains(BEGINS_LATER), "{answer}");
        account.cloud.heal();
        reconfigure(&mut account, &config);
        assert_eq!(account.sweep().await, ["scheduled"], "{left}");
        let row = account.row(&format!("person/{}/ops", user("hana"))).await.unwrap().state;
        let end = timestamp::parse_seconds(&statements(&account)[0].1).unwrap();
        assert_eq!((row.end, row.awaits_entry), (end, false), "{left}");
        assert!((end - begin - minutes(left)).abs() < time::Duration::minutes(1), "{left}: {end}");
        let notices = account.cloud.published();
        assert_eq!(notices.iter().any(|one| one.contains("Not let in for longer")), left == 60, "{notices:?}");
        assert!(!notices.iter().any(|one| one.contains("does not get access")), "{notices:?}");
        assert!(account.follow_up().await.is_empty());
        assert_eq!(let_in(&account), users(&["hana"]), "{left}");
        sleep(minutes(26)).await;
        assert_eq!(let_in(&account), users(&[]), "{left}");
    }
}

/// The next write of the policy leaves the person out.
#[tokio::test(start_paused = true)]
async fn a_grant_whose_row_cannot_be_read_is_an_alarm() {
    let mut account = account(0);
    account.function.access = Document::parse("sekisho.toml", crate::account::CONFIG).unwrap().access();
    account.text(&grant("hana")).await;
    let key = format!("person/{}/admin", user("hana"));
    account.spoil(&key).await;
    assert_eq!(account.sweep().await, ["failed"]);
    let reason = account.decisions().pop().unwrap()["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains(&format!("grant / {key} cannot be read")), "{reason}");
}
