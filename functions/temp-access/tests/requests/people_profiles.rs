//! Several grants of one person, and a configuration that changes: which statement of `sekisho-window` is whose.

use sekisho_domain::config::Document;
use sekisho_domain::timestamp;
use sekisho_ledger::{Key, Store as _};
use serde_json::{Value, json};
use temp_access::row::State;
use tokio::time::sleep;

use crate::account::{Account, BEGIN, Fault, minutes};
use crate::people::{account, revoke, user};

pub const CONFIG: &str = r#"
[access]
default_minutes = 60
max_minutes     = 480
default_profile = "logs"
[access.profiles.deploy]
statements = [{ actions = ["s3:*"], resources = ["*"] }]
[access.profiles.logs]
statements = [{ actions = ["logs:*"], resources = ["*"] }]
[access.profiles.ops]
statements = [{ actions = ["ec2:*"], resources = ["*"] }]
"#;
const FAULT: Fault = Fault::Code("AccessDenied", 403);

pub fn with_profiles() -> Account {
    let mut account = account(0);
    reconfigure(&mut account, CONFIG);
    account
}

pub fn reconfigure(account: &mut Account, config: &str) {
    account.function.access = Document::parse("sekisho.toml", config).and_then(|document| document.access());
}

/// The configuration with other statements in one profile.
pub fn changed(action: &str) -> String {
    let config = CONFIG.replace(&format!("{action}:*"), &format!("{action}:Get*"));
    assert_ne!(config, CONFIG);
    config
}

/// A request of Hana. `from` is in minutes after the beginning.
pub async fn ask(account: &Account, profile: &str, minutes: u64, from: Option<u64>) -> String {
    let mut request = json!({"person": "hana@example.com", "profile": profile, "minutes": minutes});
    if let Some(from) = from {
        request["from"] = timestamp::seconds(BEGIN + crate::account::minutes(from)).into();
    }
    account.text(&request.to_string()).await
}

/// What the policy in force says: actions, and the end of each.
pub fn statements(account: &Account) -> Vec<(String, String)> {
    let document: Value = account.cloud.people(|people| serde_json::from_str(people.document()).unwrap());
    let ours =
        document["Statement"].as_array().unwrap().iter().filter(|one| one["Condition"].get("StringEquals").is_some());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut all: Vec<_> =
        ours.map(|one| (text(&one["Action"]), text(&one["Condition"]["DateLessThan"]["aws:CurrentTime"]))).collect();
    all.sort();
    all
}

pub fn actions(account: &Account) -> Vec<String> {
    statements(account).into_iter().map(|(action, _)| action).collect()
}

/// The profile of a scheduled grant was narrowed, or is gone. In the meantime, a grant around it is live.
#[tokio::test(start_paused = true)]
async fn a_scheduled_grant_inside_another_one_does_not_outlast_its_end() {
    let gone = CONFIG.split("[access.profiles.ops]").next().unwrap().to_owned();
    for config in [changed("ec2"), gone] {
        let mut account = with_profiles();
        ask(&account, "logs", 240, None).await;
        ask(&account, "ops", 60, Some(9)).await;
        assert_eq!(actions(&account), ["ec2:*", "logs:*"]);
        reconfigure(&mut account, &config);
        assert_eq!(account.sweep().await, ["revoked"]);
        assert_eq!(actions(&account), ["logs:*"]);
        let list = account.text(r#"{"action":"list"}"#).await;
        assert!(list.contains("logs until") && list.lines().count() == 1, "{list}");
    }
}

/// Both grants have the same start and end.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_scheduled_grant_leaves_another_one_of_the_same_time() {
    let mut account = with_profiles();
    ask(&account, "logs", 60, Some(9)).await;
    ask(&account, "ops", 60, Some(9)).await;
    reconfigure(&mut account, &changed("ec2"));
    assert_eq!(account.sweep().await, ["revoked"]);
    assert_eq!(actions(&account), ["logs:*"]);
}

/// A request goes on with the live access, and its answer says how long that is.
#[tokio::test(start_paused = true)]
async fn live_access_is_not_forgotten_because_its_profile_was_changed() {
    let mut account = with_profiles();
    ask(&account, "logs", 240, None).await;
    sleep(minutes(5)).await;
    ask(&account, "ops", 120, None).await;
    reconfigure(&mut account, &changed("ec2"));
    sleep(minutes(20)).await;
    let answer = ask(&account, "ops", 10, None).await;
    let all = statements(&account);
    let [(ops, end), (logs, _)] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((ops.as_str(), logs.as_str()), ("ec2:Get*", "logs:*"));
    assert!(end.starts_with("2026-11-21T22:50:0") && answer.contains(&format!("End time is {end}")), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn an_extension_leaves_the_access_inside_its_window() {
    let mut account = with_profiles();
    ask(&account, "deploy", 60, None).await;
    sleep(minutes(5)).await;
    ask(&account, "logs", 30, None).await;
    reconfigure(&mut account, &changed("logs"));
    ask(&account, "deploy", 120, None).await;
    assert_eq!(actions(&account), ["logs:*", "s3:*"]);
    account.text(&revoke("hana")).await;
    assert_eq!(actions(&account), [""; 0]);
}

/// Somebody has deleted the row. A request that changes nothing writes it again, with the statements in the policy.
#[tokio::test(start_paused = true)]
async fn a_row_that_is_written_again_names_the_statements_of_the_access() {
    let account = with_profiles();
    ask(&account, "logs", 60, None).await;
    sleep(minutes(5)).await;
    let key = format!("person/{}/logs", user("hana"));
    let revision = account.row(&key).await.unwrap().revision;
    let key = Key { pk: "grant".to_owned(), sk: key };
    account.function.ledger.memory.delete(&key, revision).await.unwrap();
    let answer = ask(&account, "logs", 10, None).await;
    assert!(answer.contains("already has logs"), "{answer}");
    ask(&account, "ops", 60, None).await;
    assert_eq!(actions(&account), ["ec2:*", "logs:*"]);
}

/// `sekisho-window` has the grant already, so the grant is shortened there, too.
#[tokio::test(start_paused = true)]
async fn a_scheduled_grant_becomes_shorter_in_the_policy_as_well() {
    for faults in 0..4 {
        let mut account = with_profiles();
        ask(&account, "ops", 240, Some(9)).await;
        reconfigure(&mut account, &CONFIG.replace("max_minutes     = 480", "max_minutes = 60"));
        let (long, short) = ("2026-11-22T00:54:00Z".to_owned(), "2026-11-21T21:54:00Z".to_owned());
        account.cloud.fail("GetPolicy", faults, FAULT);
        let outcomes = account.sweep().await;
        // The policy and the row have the same end, and if IAM could not be read, the next sweep tries again.
        let is_short = outcomes == ["scheduled"];
        let key = format!("person/{}/ops", user("hana"));
        let row = account.row(&key).await.unwrap().state;
        let end = if is_short { &short } else { &long };
        assert_eq!((&statements(&account)[0].1, &timestamp::seconds(row.end)), (end, end), "{faults}");
        assert!(is_short || account.cloud.published().len() == 1, "{faults}: no notice says that it was shortened");
        assert_eq!((is_short, row.state), (faults < 2, State::Granted), "{faults}");
        account.cloud.fail("GetPolicy", 0, FAULT);
        sleep(minutes(1)).await;
        account.sweep().await;
        assert_eq!(statements(&account), [("ec2:*".to_owned(), short)], "{faults}");
    }
}
