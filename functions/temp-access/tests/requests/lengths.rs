//! The longest answers and notices: whatever is cut off, people read what they have to know.

use std::cell::Cell;
use std::fmt::Write as _;

use sekisho_domain::config::Document;
use serde_json::Value;
use temp_access::principal::Kind::Role;

use crate::account::{Account, Fault, text};
use crate::approvals::approve;
use crate::people::{BEGINS_LATER, account, grant, user};

const NOT_SETTLED: &str = "but not that the grant was carried out";
const NOT_RECORDED: &str = "did not record this request";
const NOT_SENT: &str = "could not be sent: tell your colleagues";

fn name(letter: &str, length: usize) -> String {
    letter.repeat(length)
}

fn role() -> String {
    name("r", 64)
}

/// The profile that needs an approval.
fn profile() -> String {
    name("p", 64)
}

/// The profile for emergencies.
fn glass() -> String {
    name("g", 64)
}

/// The longest reason. In Slack, each of its characters is five.
fn reason() -> String {
    "&".repeat(500)
}

/// A configuration with the longest names: one profile needs an approval, the other one is for emergencies, and many may
/// approve.
fn config(max_minutes: u32) -> String {
    let (profile, glass, asking, approving) = (profile(), glass(), name("a", 32), name("b", 32));
    let mut config = format!(
        r#"
        [access]
        default_minutes = 60
        max_minutes     = 60
        default_profile = "{profile}"
        time_zone       = "America/Argentina/Buenos_Aires"
        [access.profiles.{profile}]
        statements  = [{{ actions = ["*"], resources = ["*"] }}]
        approval    = "another"
        require_mfa = true
        max_minutes = {max_minutes}
        [access.profiles.{glass}]
        statements  = [{{ actions = ["*"], resources = ["*"] }}]
        break_glass = true
        [access.people.{asking}]
        may_ask = ["{profile}", "{glass}"]
        [access.people.{approving}]
        may_approve = ["{profile}"]
        "#
    );
    for number in 0..200 {
        let door = name("c", 29);
        writeln!(config, "[access.people.{door}{number:03}]\nmay_approve = [\"{profile}\"]").unwrap();
    }
    config
}

fn reconfigure(account: &mut Account, max_minutes: u32) {
    account.function.access = Document::parse("sekisho.toml", &config(max_minutes)).unwrap().access();
}

/// Loses the answer to the n-th write of the row, and refuses decisions and notices.
fn spoil(account: &Account, sk: String, n: u32) {
    let writes = Cell::new(0);
    *account.function.ledger.loses.borrow_mut() = Box::new(move |written| {
        writes.set(writes.get() + u32::from(written == sk));
        written == sk && writes.get() == n
    });
    account.fail_ledger(|operation| operation == "record");
    account.cloud.fail("Publish", 99, Fault::Code("NotFound", 404));
}

/// The answer fits in Slack and has all parts.
fn assert_has(answer: &str, parts: &[&str]) {
    assert!(answer.chars().count() < 1_000, "{}: {answer}", answer.chars().count());
    for part in parts {
        assert!(answer.contains(part), "{part}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_longest_approval_loses_only_the_reason_and_details() {
    let mut account = Account::with(&config(60));
    account.cloud.add(Role, &role());
    let request = format!(r#"{{"role":"{}","reason":"{}"}}"#, role(), reason());
    let answer = account.text_at(&name("a", 32), &request).await;
    let code = answer.strip_prefix("Request ").unwrap().split(' ').next().unwrap().to_owned();
    let decline = format!(r#"{{"decline":"{code}"}}"#);
    assert_has(&answer, &["waits for approval until", &decline, "and 196 more"]);
    let notice: Value = serde_json::from_str(&account.cloud.published()[0]).unwrap();
    let custom: Value = serde_json::from_str(notice["default"].as_str().unwrap()).unwrap();
    for text in [&notice["email"], &custom["content"]["description"]] {
        let text = text.as_str().unwrap();
        assert!(text.contains(&approve(&code)) && text.contains(&decline) && text.contains("lapses at"), "{text}");
        assert!(!text.contains("more lines"), "{text}");
    }
    // The profile allows less by now, IAM still shows the state before, and whatever can fail fails.
    reconfigure(&mut account, 30);
    account.cloud.fail("GetRolePolicy", 999, Fault::Stale);
    spoil(&account, format!("role/{}/{}", role(), profile()), 2);
    let answer = account.text_at(&name("b", 32), &approve(&code)).await;
    assert!(answer.starts_with("End time is 2026-11-21T21:15:"), "{answer}");
    let who = format!("approved at the door {} ({code})", name("b", 32));
    let parts = [
        NOT_SETTLED,
        NOT_RECORDED,
        NOT_SENT,
        &who,
        "That is less than the 60 min that were requested",
        "has p",
        "does not show it yet: wait a minute",
        "call sts get-session-token with the MFA code, and assume the role with these keys",
    ];
    assert_has(&answer, &parts);
}

#[tokio::test(start_paused = true)]
async fn the_longest_break_glass_grant_names_its_review() {
    let mut account = account(0);
    let address = format!("{}@example.com", name("x", 116));
    account.cloud.people(|people| people.users.insert(address.clone(), user("long")));
    account.text(&grant("hana")).await;
    // IAM shows an older version, so that a follow-up has to enter the grant.
    account.cloud.people(|people| people.set_default(1));
    reconfigure(&mut account, 60);
    spoil(&account, format!("person/{}/{}", user("long"), glass()), 3);
    let request = format!(r#"{{"person":"{address}","profile":"{}","reason":"{}"}}"#, glass(), reason());
    let answer = account.text_at(&name("a", 32), &request).await;
    assert_has(&answer, &[NOT_SETTLED, NOT_RECORDED, NOT_SENT, BEGINS_LATER]);
    account.fail_ledger(|_| false);
    let pending = account.text(r#"{"action":"pending"}"#).await;
    let code = pending.split(':').next().unwrap();
    assert_has(&answer, &[&format!(r#"another door closes it with {{"approve":"{code}"}}"#)]);
}

#[tokio::test(start_paused = true)]
async fn the_longest_revoke_says_what_remains() {
    let profiles: Vec<String> = (0..9).map(|number| format!("{}{number}", name("p", 63))).collect();
    let mut config =
        format!("[access]\ndefault_minutes = 60\nmax_minutes = 60\ndefault_profile = \"{}\"\n", profiles[0]);
    for profile in &profiles {
        let statement = r#"{ actions = ["ec2:Describe*"], resources = ["*"] }"#;
        writeln!(config, "[access.profiles.{profile}]\nstatements = [{statement}]").unwrap();
    }
    let account = Account::with(&config);
    account.cloud.add(Role, &role());
    for profile in &profiles {
        let request = format!(r#"{{"role":"{}","profile":"{profile}","reason":"{}"}}"#, role(), reason());
        account.text(&request).await;
    }
    let forever = r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
    account.cloud.put(Role, &role(), &format!("sekisho-{}", name("z", 64)), forever);
    account.cloud.fail("Publish", 99, Fault::Code("NotFound", 404));
    account.fail_ledger(|_| true);
    let revoke = format!(r#"{{"action":"revoke","role":"{}","reason":"{}"}}"#, role(), reason());
    let answer = text(account.invoke(&revoke).await);
    let parts = [
        "and 4 more removed",
        NOT_RECORDED,
        NOT_SENT,
        "Not removed, because Sekisho did not write it",
        "may bring back the old end time",
    ];
    assert_has(&answer, &parts);
    // The decision, in the log and in the ledger, has all names; here, the ledger was lost.
    let named: Vec<&String> = profiles.iter().filter(|profile| answer.contains(*profile)).collect();
    assert_eq!(named.len(), 5, "{answer}");
    assert_eq!(account.cloud.policy_names(Role, &role()), [format!("sekisho-{}", name("z", 64))]);
}
