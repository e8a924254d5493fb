//! Every pair of doors, asking and approving, and the other rules of doors.

use sekisho_domain::config::Document;
use sekisho_domain::config::Misconfigured;
use sekisho_lambda::{ErrorType, Failure as _};

use super::*;
use crate::principal::Kind;

/// Hana, Taro and Kei may ask for `admin`, with an approval, and for `glass`, without one. Hana and Taro are the group
/// `approvers`, Kei and Taro the group `oncall`. Mio may approve, and prd-mio is her principal. Gon may only approve, and
/// is in no group.
const PEOPLE: &str = r#"
[access]
default_minutes = 60
max_minutes = 120
default_profile = "plain"
[access.profiles.plain]
statements = [{ actions = ["*"], resources = ["*"] }]
[access.profiles.admin]
statements = [{ actions = ["*"], resources = ["*"] }]
approval = "another"
[access.profiles.glass]
statements = [{ actions = ["*"], resources = ["*"] }]
break_glass = true
[access.people.hana]
may_ask = ["admin", "glass"]
for = ["user/prd-hana", "user/prd-shared"]
may_approve = ["admin", "glass"]
[access.people.taro]
may_ask = ["admin", "plain", "glass"]
for = ["user/prd-taro", "user/prd-shared"]
may_approve = ["admin"]
[access.people.kei]
may_ask = ["admin"]
[access.people.mio]
may_ask = ["admin"]
for = ["user/PRD-mio"]
may_approve = ["admin"]
[access.people.gon]
for = []
may_approve = ["admin", "glass"]
[access.people.approvers]
members = ["hana", "taro"]
may_approve = ["admin", "glass"]
[access.people.oncall]
members = ["kei", "taro"]
may_ask = ["admin", "plain", "glass"]
for = ["user/prd-oncall"]
"#;

fn access() -> Access {
    Document::parse("sekisho.toml", PEOPLE).unwrap().access().unwrap()
}

fn door(name: &str) -> Door {
    Door::named(name).unwrap()
}

fn profile(name: &str) -> ProfileName {
    name.parse().unwrap()
}

fn user(name: &str) -> Principal {
    Principal::new(Kind::User, name).unwrap()
}

/// Why the rule refuses; `None` if it does not.
fn refusal(result: Result<(), Error>) -> Option<String> {
    let error = result.err()?;
    assert_eq!(error.error_type(), ErrorType::Refused, "{error}");
    Some(error.to_string())
}

const DOORS: [&str; 10] = ["#channel", "board", "hana", "taro", "kei", "mio", "gon", "approvers", "oncall", "gone"];

/// The doors that may approve what the door asked for this principal; every other pair is refused.
#[test]
fn a_grant_always_has_two_people() {
    let cases = [
        ("#channel", "prd-kei", vec![]),
        ("board", "prd-kei", vec![]),
        ("gone", "prd-kei", vec![]),
        ("hana", "prd-kei", vec!["taro", "mio", "gon"]),
        ("taro", "prd-kei", vec!["hana", "mio", "gon"]),
        ("kei", "prd-kei", vec!["hana", "taro", "mio", "gon", "approvers"]),
        ("mio", "prd-kei", vec!["hana", "taro", "gon", "approvers"]),
        ("gon", "prd-kei", vec!["hana", "taro", "mio", "approvers"]),
        ("approvers", "prd-kei", vec!["mio", "gon"]),
        ("oncall", "prd-kei", vec!["hana", "mio", "gon"]),
        // Nobody behind the approving door gets the access.
        ("kei", "prd-hana", vec!["taro", "mio", "gon"]),
        ("kei", "prd-shared", vec!["mio", "gon"]),
        ("kei", "prd-mio", vec!["hana", "taro", "gon", "approvers"]),
        ("hana", "prd-oncall", vec!["mio", "gon"]),
        ("mio", "prd-oncall", vec!["hana", "gon"]),
        ("hana", "prd-taro", vec!["mio", "gon"]),
    ];
    let access = access();
    for (asking, principal, approvers) in cases {
        let may = |approving: &&str| {
            let checked =
                check_approving(&access, &door(approving), &door(asking), &profile("admin"), &user(principal));
            refusal(checked).is_none()
        };
        let allowed: Vec<&str> = DOORS.into_iter().filter(may).collect();
        assert_eq!(allowed, approvers, "asked through {asking} for {principal}");
    }
}

/// Every pair that is allowed consists of two different people, whoever of a group was the one.
#[test]
fn nobody_can_be_both_people() {
    let access = access();
    let people = |name: &str| access.people_behind(&name.parse().unwrap());
    for asking in &DOORS[2..] {
        for approving in &DOORS[2..] {
            for principal in ["prd-hana", "prd-taro", "prd-mio", "prd-shared", "prd-oncall", "prd-kei"] {
                let checked =
                    check_approving(&access, &door(approving), &door(asking), &profile("admin"), &user(principal));
                if checked.is_ok() {
                    assert!(people(asking).is_disjoint(&people(approving)), "{asking} {approving}");
                    let own = people(approving).into_iter().any(|person| {
                        access.people[&person].principals.iter().flatten().any(|own| own.names("user", principal))
                    });
                    assert!(!own, "{approving} approved access of {principal}");
                }
            }
        }
    }
}

#[test]
fn who_may_approve_depends_on_the_profile() {
    let access = access();
    let check = |approving: &str, name: &str| {
        refusal(check_approving(&access, &door(approving), &door("kei"), &profile(name), &user("prd-kei")))
    };
    assert_eq!(check("gon", "glass"), None);
    let refused = check("taro", "glass").unwrap();
    assert!(refused.contains("may not approve glass: only `temp-access:approvers`, `temp-access:gon`"), "{refused}");
    assert!(check("gon", "plain").unwrap().contains("nobody may approve it"));
    assert!(check("#channel", "admin").unwrap().contains("through the door #channel: only `temp-access:approvers`"));
}

/// Whoever may approve may decline, and the requester's door may withdraw.
#[test]
fn a_request_is_declined_by_an_approver_or_withdrawn_by_its_door() {
    let access = access();
    let declining = |asking: &str| {
        let may = |name: &&str| {
            let checked = check_declining(&access, &door(name), &door(asking), &profile("admin"), &user("prd-kei"));
            refusal(checked).is_none()
        };
        DOORS.into_iter().filter(may).collect::<Vec<_>>()
    };
    assert_eq!(declining("kei"), ["hana", "taro", "kei", "mio", "gon", "approvers"]);
    assert_eq!(declining("approvers"), ["mio", "gon", "approvers"]);
    assert_eq!(declining("#channel"), [""; 0]);
    assert_eq!(declining("gone"), [""; 0]);
}

#[test]
fn who_may_ask_depends_on_door_profile_and_principal() {
    let access = access();
    let asking = |name: &str, principal: &str| {
        let may =
            |asking: &&str| refusal(check_asking(&access, &door(asking), &profile(name), &user(principal))).is_none();
        DOORS.into_iter().filter(may).collect::<Vec<_>>()
    };
    assert_eq!(asking("plain", "prd-kei"), ["#channel", "board"]);
    assert_eq!(asking("plain", "prd-taro"), ["#channel", "board", "taro"]);
    assert_eq!(asking("plain", "prd-oncall"), ["#channel", "board", "oncall"]);
    assert_eq!(asking("admin", "prd-kei"), ["kei"]);
    assert_eq!(asking("admin", "prd-shared"), ["hana", "taro", "kei"]);
    assert_eq!(asking("admin", "prd-oncall"), ["kei", "oncall"]);
    assert_eq!(asking("admin", "PRD-MIO"), ["kei", "mio"]);
    // Only a person's own door, although the group may ask for the profile.
    assert_eq!(asking("glass", "prd-shared"), ["hana", "taro"]);
    assert_eq!(asking("glass", "prd-oncall"), [""; 0]);
    assert_eq!(asking("unknown", "prd-kei"), [""; 0]);
}

#[test]
fn a_refusal_names_the_doors() {
    let access = access();
    let check = |asking: &str, name: &str| {
        refusal(check_asking(&access, &door(asking), &profile(name), &user("prd-oncall"))).unwrap()
    };
    let refused = check("#channel", "admin");
    let doors = "`temp-access:hana`, `temp-access:kei`, `temp-access:mio`, `temp-access:oncall`, `temp-access:taro`";
    assert!(refused.contains(&format!("ask through {doors}")), "{refused}");
    assert!(check("oncall", "glass").contains("ask through `temp-access:hana`, `temp-access:taro`"));
    assert!(check("gon", "plain").contains("ask through `temp-access:oncall`, `temp-access:taro`"));
    assert!(check("hana", "admin").contains("the door hana may not ask for user prd-oncall"));
}

#[test]
fn a_door_is_an_alias_that_is_configured_or_reserved() {
    let access = access();
    let of = |alias: Option<&str>| Door::of_alias(alias, Ok(&access));
    assert_eq!(of(None).unwrap(), Door::Channel);
    assert_eq!(of(Some("board")).unwrap(), Door::Board);
    assert_eq!(of(Some("hana")).unwrap(), door("hana"));
    for alias in ["$LATEST", "7", "gone", "Hana", "hub", "channel", "live", ""] {
        let error = of(Some(alias)).unwrap_err();
        assert_eq!(error.error_type(), ErrorType::Refused, "{alias}: {error}");
    }
    let misconfigured = || {
        Err(Error::Misconfigured(Misconfigured {
            file: "sekisho.toml".to_owned(),
            key: "access".to_owned(),
            reason: "missing".to_owned(),
        }))
    };
    assert_eq!(Door::of_alias(Some("hana"), misconfigured()).unwrap_err().error_type(), ErrorType::Misconfigured);
    assert_eq!(Door::of_alias(Some("$LATEST"), misconfigured()).unwrap_err().error_type(), ErrorType::Refused);
    assert_eq!(Door::of_alias(None, misconfigured()).unwrap(), Door::Channel);
    assert_eq!(Door::of_alias(Some("board"), misconfigured()).unwrap(), Door::Board);
}

#[test]
fn rows_name_doors() {
    for name in DOORS {
        assert_eq!(door(name).as_str(), name);
    }
    assert_eq!(Door::named("$LATEST"), None);
}
