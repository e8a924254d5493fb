//! Every pair of ways in: through which door a request is made, and through which door it is approved, directly or by the
//! hub. A grant always has two people.

use sekisho_lambda::Failure;
use serde_json::json;
use temp_access::principal::Kind;
use time::Duration;

use crate::account::Account;

const CONFIG: &str = r#"
[access]
default_minutes = 60
max_minutes     = 480
default_profile = "admin"
[access.profiles.admin]
statements = [{ actions = ["*"], resources = ["*"] }]
approval   = "another"
[access.profiles.glass]
statements  = [{ actions = ["*"], resources = ["*"] }]
break_glass = true
[access.people.hana]
may_ask     = ["admin", "glass"]
may_approve = ["admin", "glass"]
for         = ["user/prd-user"]
[access.people.taro]
may_ask     = ["admin", "glass"]
may_approve = ["admin", "glass"]
for         = ["role/ops"]
[access.people.jun]
may_approve = ["admin", "glass"]
for         = []
[access.people.mio]
may_approve = ["admin", "glass"]
for         = ["user/prd-user"]
[access.people.crew]
members = ["hana", "taro"]
may_ask = ["admin"]
[access.people.approvers]
members     = ["hana", "jun"]
may_approve = ["admin", "glass"]
"#;

const USER: &str = r#"{"user":"prd-user","minutes":30}"#;
const ROLE: &str = r#"{"role":"ops","minutes":30}"#;

/// A way into the function: an alias, or a door at which somebody came to the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Alias(&'static str),
    Hub(&'static str),
}

/// All ways: each door directly and by the hub, and aliases that are no doors.
fn ways() -> Vec<Way> {
    let doors = ["", "hana", "taro", "jun", "mio", "crew", "approvers", "gone"];
    let aliases = doors.into_iter().chain(["board", "$LATEST", "7"]).map(Way::Alias);
    aliases.chain(doors.into_iter().map(Way::Hub)).collect()
}

impl Way {
    fn door(self) -> &'static str {
        match self {
            Self::Alias(door) | Self::Hub(door) => door,
        }
    }

    /// The answer's text, or the type of the error.
    async fn send(self, account: &Account, payload: &str) -> Result<String, &'static str> {
        let answer = match self {
            Self::Alias(alias) => account.invoke_at(alias, payload).await,
            Self::Hub(door) => {
                let until = sekisho_domain::timestamp::millis(account.now() + Duration::seconds(12));
                let request: serde_json::Value = serde_json::from_str(payload).unwrap();
                let door = (!door.is_empty()).then_some(door);
                let id = format!("of-the-hub-{request}");
                let id: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
                let envelope = json!({"version": 1, "id": id, "until": until, "door": door, "request": request});
                account.invoke_at("hub", &envelope.to_string()).await
            }
        };
        match answer {
            Ok(answer) => Ok(crate::account::text(Ok(answer))),
            Err(error) => Err(error.error_type().name()),
        }
    }
}

fn account() -> Account {
    let mut account = Account::with(CONFIG);
    account.function.hub = Some("222222222222".to_owned());
    account
}

/// Who may ask for what, and who may approve that. Only `for` keeps Mio from approving access of `prd-user`.
const PAIRS: [(&str, &str, &[&str]); 4] = [
    ("hana", USER, &["taro", "jun"]),
    ("taro", ROLE, &["hana", "jun", "mio", "approvers"]),
    ("crew", USER, &["jun"]),
    ("crew", ROLE, &["jun", "mio"]),
];

#[tokio::test(start_paused = true)]
async fn every_pair_of_ways_is_two_people_or_refused() {
    let mut granted = 0;
    for (asking, request, approvers) in PAIRS {
        for ask in [Way::Alias(asking), Way::Hub(asking)] {
            for approve in ways() {
                let account = account();
                let answer = ask.send(&account, request).await.unwrap();
                let code = answer.strip_prefix("Request ").unwrap().split(' ').next().unwrap();
                let answer = approve.send(&account, &format!(r#"{{"approve":"{code}"}}"#)).await;
                let what = format!("{ask:?} asked {request}, {approve:?} approved: {answer:?}");
                if approvers.contains(&approve.door()) {
                    assert!(answer.unwrap().starts_with("End time is "), "{what}");
                    granted += 1;
                } else {
                    assert_eq!(answer, Err("Refused"), "{what}");
                }
                let is_in = [(Kind::User, "prd-user"), (Kind::Role, "ops")]
                    .into_iter()
                    .any(|(kind, name)| !account.cloud.policies(kind, name).is_empty());
                assert_eq!(is_in, approvers.contains(&approve.door()), "{what}");
            }
        }
    }
    assert_eq!(granted, 4 * (2 + 4 + 1 + 2));
}

#[tokio::test(start_paused = true)]
async fn every_review_of_break_glass_is_closed_by_a_second_person() {
    let mut closed = 0;
    for (asking, request, approvers) in PAIRS.into_iter().filter(|(asking, ..)| *asking != "crew") {
        let request = request.replace('}', r#","profile":"glass","reason":"fire"}"#);
        for ask in [Way::Alias(asking), Way::Hub(asking)] {
            for close in ways() {
                let account = account();
                let answer = ask.send(&account, &request).await.unwrap();
                let code = answer.split_once("The review ").unwrap().1.split(' ').next().unwrap();
                let answer = close.send(&account, &format!(r#"{{"approve":"{code}"}}"#)).await;
                let what = format!("{ask:?} asked {request}, {close:?} closed: {answer:?}");
                if approvers.contains(&close.door()) {
                    assert!(answer.unwrap().contains("is closed"), "{what}");
                    closed += 1;
                } else {
                    assert_eq!(answer, Err("Refused"), "{what}");
                }
                let pending = account.text(r#"{"action":"pending"}"#).await;
                assert_eq!(pending.contains(code), !approvers.contains(&close.door()), "{what}");
            }
        }
    }
    assert_eq!(closed, 4 * (2 + 4));
}

#[tokio::test(start_paused = true)]
async fn nobody_else_may_ask() {
    for way in ways() {
        for request in [USER, ROLE] {
            let account = account();
            let may = PAIRS.iter().any(|(door, asked, _)| (*door, *asked) == (way.door(), request));
            let answer = way.send(&account, request).await;
            match answer {
                Ok(answer) => assert!(may && answer.starts_with("Request "), "{way:?} {request}: {answer}"),
                Err(error) => assert!(!may && error == "Refused", "{way:?} {request}: {error}"),
            }
            assert!(!account.cloud.wrote(), "{way:?} {request}");
        }
    }
}
