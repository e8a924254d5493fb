//! `[access.people]`: names, the rules for groups and profiles, and the warnings.

use super::*;
use crate::config::Document;

/// Two profiles, `admin` with an approval and `glass` without, and these people.
fn read(people: &str) -> Result<Access, String> {
    let profile = "statements = [{ actions = [\"*\"], resources = [\"*\"] }]";
    let text = format!(
        "[access]\ndefault_minutes = 180\nmax_minutes = 480\ndefault_profile = \"glass\"\n\
         [access.profiles.admin]\n{profile}\napproval = \"another\"\n\
         [access.profiles.glass]\n{profile}\nbreak_glass = true\n{people}\n"
    );
    let access = Document::parse("sekisho.toml", &text).unwrap().access();
    access.map_err(|error| format!("{}: {}", error.key, error.reason))
}

fn door(name: &str) -> DoorName {
    name.parse().unwrap()
}

#[test]
fn everything_has_its_default() {
    let access = read("[access.people.hana]").unwrap();
    assert_eq!(access.people[&door("hana")], Person::default());
    assert!(access.people[&door("hana")].may_ask_for("user", "anybody") && access.accounts.is_empty());
    let flags = |name: &str| {
        let profile = &access.profiles[&name.parse::<ProfileName>().unwrap()];
        (profile.approval, profile.break_glass)
    };
    assert_eq!((flags("admin"), flags("glass")), ((Approval::Another, false), (Approval::None, true)));
}

#[test]
fn all_keys_are_read() {
    let access = read(
        "[access.people.hana]\nmay_ask = ['admin']\nfor = ['user/prd-hana', 'role/ops', 'person/hana@example.com']\n\
         [access.people.taro]\nmay_approve = ['admin', 'glass']\nfor = []\n\
         [access.people.approvers]\nmembers = ['hana', 'taro']\nmay_approve = ['admin']\n\
         [access.accounts]\nproduction = '333333333333'\nold = '222222222222/eu-west-1'",
    )
    .unwrap();
    let hana = &access.people[&door("hana")];
    assert!(hana.may_ask_for("user", "prd-hana") && hana.may_ask_for("user", "PRD-Hana"));
    assert!(hana.may_ask_for("role", "ops") && hana.may_ask_for("person", "Hana@example.com"));
    assert!(!hana.may_ask_for("role", "prd-hana") && !hana.may_ask_for("user", "prd-taro"));
    assert!(!access.people[&door("taro")].may_ask_for("user", "prd-taro"));
    let behind = |name: &str| access.people_behind(&door(name)).into_iter().map(String::from).collect::<Vec<_>>();
    assert_eq!((behind("hana"), behind("approvers")), (vec!["hana".into()], vec!["hana".into(), "taro".into()]));
    let places: Vec<&str> = access.accounts.keys().map(super::super::AccountName::as_str).collect();
    assert_eq!(places, ["old", "production"]);
    assert_eq!(access.warnings(), []);
}

#[test]
fn a_mistake_is_named_with_the_fix() {
    let cases = [
        ("[access.people.board]", "access.people.board: `board` is not a person's door, because the alias is reserved"),
        ("[access.people.hub]", "access.people.hub: `hub` is not a person's door"),
        ("[access.people.Hana]", "access.people.Hana: `Hana` is not the name of a door: write a lowercase letter"),
        ("[access.people.1a]", "access.people.1a: `1a` is not the name of a door"),
        ("[access.people.hana]\nmay_aks = []", "access.people.hana.may_aks: unknown field"),
        ("[access.people.hana]\nmay_ask = ['root']", "access.people.hana.may_ask[0]: no profile `root`: write one of"),
        ("[access.people.hana]\nmay_approve = ['admin', 'x']", "access.people.hana.may_approve[1]: no profile `x`"),
        ("[access.people.hana]\nfor = ['prd-hana']", "access.people.hana.for[0]: `prd-hana` is not a principal: write"),
        ("[access.people.hana]\nfor = ['user/a/b']", "access.people.hana.for[0]: `user/a/b` is not a principal"),
        ("[access.people.hana]\nfor = ['person/hana']", "access.people.hana.for[0]: `person/hana` is not a principal"),
        (
            "[access.people.hana]\nfor = ['user/hana', 'person/ha&na@example.com']",
            "access.people.hana.for[1]: `person/ha&na@example.com` is not a person whom temp-access can let in: write an \
             address of at most 128 characters",
        ),
        ("[access.people.all]\nmembers = []", "access.people.all.members: empty: name the doors of the members"),
        ("[access.people.all]\nmembers = ['taro']", "access.people.all.members[0]: no door `taro`: add"),
        (
            "[access.people.all]\nmembers = ['hana', 'all']\n[access.people.hana]",
            "access.people.all.members[1]: `all` is a group itself",
        ),
        ("[access.accounts]\nproduction = '33333'", "access.accounts.production: `33333` is not an AWS account id"),
        ("[access.accounts]\nproduction = '333333333333/x'", "access.accounts.production: `x` is not an AWS region"),
        (
            "[access.accounts]\n'the prod' = '333333333333'",
            "access.accounts.the prod: `the prod` is not the name of an account",
        ),
    ];
    for (people, expected) in cases {
        let error = read(people).unwrap_err();
        assert!(error.starts_with(expected), "{people}: {error}");
    }
}

/// Whoever is in the configuration can be asked for, and can be told apart from others at an approval.
#[test]
fn a_person_has_an_address_that_a_request_may_have() {
    let read = |address: &str| read(&format!("[access.people.hana]\nfor = [\"person/{address}\"]"));
    let long = format!("{}@example.com", "x".repeat(LONGEST_ADDRESS - 12));
    for good in ["o'brien@example.com", "Hana.Sato+ops@example.co.jp", "花@example.com", &long] {
        assert!(read(good).is_ok(), "{good}");
    }
    for bad in
        ["hana@ex ample.com", "<hana@example.com>", "hana/x@example.com", "ha*a@example.com", &format!("x{long}")]
    {
        assert!(read(bad).is_err(), "{bad}");
    }
}

#[test]
fn break_glass_with_an_approval_is_a_mistake() {
    let profile = "[access.profiles.both]\nstatements = [{ actions = ['*'], resources = ['*'] }]\n";
    let error = read(&format!("{profile}approval = 'another'\nbreak_glass = true")).unwrap_err();
    assert!(error.starts_with("access.profiles.both.break_glass: true, but the profile needs an approval"), "{error}");
    let error = read(&format!("{profile}approval = 'two'")).unwrap_err();
    assert!(error.starts_with("access.profiles.both.approval: unknown variant `two`"), "{error}");
    assert!(read(&format!("{profile}approval = 'none'\nbreak_glass = true")).is_ok());
}

#[test]
fn who_may_approve_without_known_principals_gets_a_warning() {
    let warnings = |people: &str| {
        let warnings = read(people).unwrap().warnings();
        warnings.into_iter().map(|warning| warning.key).collect::<Vec<_>>()
    };
    let group = "[access.people.all]\nmembers = ['hana', 'taro']\nmay_approve = ['admin', 'glass']\n";
    let hana = "[access.people.hana]\nfor = ['user/prd-hana']\n";
    assert_eq!(warnings("[access.people.taro]\nmay_approve = ['admin', 'glass']"), ["access.people.taro.may_approve"]);
    assert_eq!(warnings(&format!("{group}{hana}[access.people.taro]")), ["access.people.all.may_approve"]);
    assert_eq!(warnings(&format!("{group}{hana}[access.people.taro]\nfor = []")), [""; 0]);
}

/// The requests and the reviews of such a profile are never decided.
#[test]
fn a_profile_that_nobody_can_approve_gets_a_warning() {
    let warnings = |people: &str| {
        let warnings = read(people).unwrap().warnings();
        warnings.into_iter().map(|warning| format!("{}: {}", warning.key, warning.reason)).collect::<Vec<_>>()
    };
    let [admin, glass] = warnings("[access.people.taro]\nfor = []").try_into().unwrap();
    assert!(
        admin.starts_with("access.profiles.admin.approval: nobody may approve this profile, so that it is"),
        "{admin}"
    );
    assert!(
        glass.starts_with("access.profiles.glass.break_glass: nobody may approve this profile, so that a"),
        "{glass}"
    );
    let door = |name: &str, ask: &str, approve: &str| {
        format!("[access.people.{name}]\nfor = []\nmay_ask = {ask}\nmay_approve = {approve}\n")
    };
    let both = "['admin', 'glass']";
    let group = "[access.people.all]\nmembers = ['hana', 'jun']\nmay_approve = ['admin', 'glass']\n";
    let alone = [
        door("hana", both, both) + &door("jun", "[]", "[]"),
        // Both are behind the door of the group.
        door("hana", both, "[]") + &door("jun", "['admin']", "[]") + group,
    ];
    for people in alone {
        let found = warnings(&people);
        assert_eq!(found.len(), 2, "{people}: {found:?}");
        assert!(found.iter().all(|one| one.contains("nobody may approve this profile but those who ask for it")));
    }
    let enough = [
        door("hana", both, "[]") + &door("jun", "[]", both),
        door("hana", both, both) + &door("jun", both, both),
        door("hana", "[]", both),
        door("hana", both, "[]")
            + &door("jun", "[]", "[]")
            + &door("mika", "['admin']", "[]")
            + &door("taro", both, both)
            + group,
    ];
    for people in enough {
        assert_eq!(warnings(&people), [""; 0], "{people}");
    }
}
