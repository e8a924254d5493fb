//! `[access.people]` and `approval`: who may ask for a profile through a door, and who may approve it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Access, Profile, ProfileName};
use crate::account::{Malformed, string_newtype};
use crate::mistake::Mistake;

/// Aliases of Lambda that are no person's door.
const RESERVED: [&str; 2] = ["board", "hub"];
/// Longest name of a door, in characters. The name is part of the name of the door's role.
const LONGEST_DOOR: usize = 32;
/// Longest name of a user or role that IAM accepts, in characters.
const LONGEST_NAME: usize = 64;
/// Longest e-mail address or user name of a person, in characters. Identity Center has no longer user names.
pub const LONGEST_ADDRESS: usize = 128;

/// Whether an e-mail address or user name of a person may have this character. What means something in a message of Slack,
/// in a link or in a pattern is none of them, although Identity Center may allow it.
#[must_use]
pub fn is_of_address(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !"<>\"`\\:/&*~|{}".contains(c)
}

/// Whether a grant of a profile needs somebody else's approval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Approval {
    /// A grant needs no approval.
    #[default]
    None,
    /// Somebody who does not stand behind the asking door has to approve.
    Another,
}

/// The name of a person's or a group's door, which is an alias of temp-access.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DoorName(String);

impl TryFrom<String> for DoorName {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        if RESERVED.contains(&value.as_str()) {
            return Err(Malformed::new(&value, "a person's door, because the alias is reserved: write another name"));
        }
        let is_valid = value.starts_with(|c: char| c.is_ascii_lowercase())
            && value.len() <= LONGEST_DOOR
            && value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let expected = "the name of a door: write a lowercase letter, then up to 31 lowercase letters, digits or `-`";
        if is_valid { Ok(Self(value)) } else { Err(Malformed::new(&value, expected)) }
    }
}
string_newtype!(DoorName);

/// A principal that a person may ask for: `user/NAME`, `role/NAME`, or `person/EMAIL` for a user of Identity Center.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subject(String);

impl TryFrom<String> for Subject {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        let mut expected = "a principal: write `user/NAME`, `role/NAME` or `person/EMAIL`";
        let is_valid = match value.split_once('/') {
            Some(("user" | "role", name)) => {
                (1..=LONGEST_NAME).contains(&name.len())
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
            }
            Some(("person", address)) => {
                let has_parts =
                    address.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
                if has_parts {
                    expected = "a person whom temp-access can let in: write an address of at most 128 characters, without \
                                white space and without any of <>\"`\\:/&*~|{}";
                }
                has_parts && address.chars().count() <= LONGEST_ADDRESS && address.chars().all(is_of_address)
            }
            _ => false,
        };
        if is_valid { Ok(Self(value)) } else { Err(Malformed::new(&value, expected)) }
    }
}
string_newtype!(Subject);

impl Subject {
    /// The kind of the principal: `user`, `role` or `person`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.0.split_once('/').map_or("", |(kind, _)| kind)
    }

    /// The name of the user or role, or the person's e-mail address.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, name)| name)
    }

    /// Whether the subject is the principal of this kind with this name. IAM's names and e-mail addresses are unique
    /// without regard to case.
    #[must_use]
    pub fn names(&self, kind: &str, name: &str) -> bool {
        self.kind() == kind && self.name().eq_ignore_ascii_case(name)
    }
}

/// The rules for whoever comes through a door.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The profiles that the person may ask for. Default: none.
    #[serde(default)]
    pub may_ask: Vec<ProfileName>,
    /// The principals that the person may ask for. Default: every prepared principal.
    #[serde(rename = "for")]
    pub principals: Option<Vec<Subject>>,
    /// The profiles for which the person may approve the requests of others. Default: none.
    #[serde(default)]
    pub may_approve: Vec<ProfileName>,
    /// The doors of the members. A door with members is a group's door, which several people use.
    pub members: Option<Vec<DoorName>>,
}

impl Person {
    /// Whether several people use the door.
    #[must_use]
    pub fn is_group(&self) -> bool {
        self.members.is_some()
    }

    /// Whether the person may ask for access of this principal.
    #[must_use]
    pub fn may_ask_for(&self, kind: &str, name: &str) -> bool {
        self.principals.as_ref().is_none_or(|principals| principals.iter().any(|subject| subject.names(kind, name)))
    }
}

/// A setting that is allowed, but that is probably not meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The path of the key, such as `access.people.taro`.
    pub key: String,
    /// What follows from the setting, and what to write instead.
    pub reason: String,
}

/// Checks the people and their profiles.
pub(super) fn check(access: &Access) -> Result<(), Mistake> {
    for (name, profile) in &access.profiles {
        if profile.break_glass && profile.approval == Approval::Another {
            let reason = "true, but the profile needs an approval, which break-glass is meant to go without: remove one \
                          of `break_glass` and `approval`";
            return Err(Mistake::new(format!("access.profiles.{name}.break_glass"), reason));
        }
    }
    for (door, person) in &access.people {
        let key = format!("access.people.{door}");
        for (field, profiles) in [("may_ask", &person.may_ask), ("may_approve", &person.may_approve)] {
            if let Some((i, unknown)) = profiles.iter().enumerate().find(|(_, n)| !access.profiles.contains_key(n)) {
                let known: Vec<&str> = access.profiles.keys().map(ProfileName::as_str).collect();
                let reason = format!("no profile `{unknown}`: write one of {}", known.join(", "));
                return Err(Mistake::new(format!("{key}.{field}[{i}]"), reason));
            }
        }
        check_members(access, person, &key)?;
    }
    Ok(())
}

fn check_members(access: &Access, person: &Person, key: &str) -> Result<(), Mistake> {
    let Some(members) = &person.members else { return Ok(()) };
    if members.is_empty() {
        // Nobody would stand behind the door, so that it could approve the requests of every other door.
        return Err(Mistake::new(format!("{key}.members"), "empty: name the doors of the members"));
    }
    for (i, member) in members.iter().enumerate() {
        let reason = match access.people.get(member) {
            None => format!("no door `{member}`: add `[access.people.{member}]`, or remove the member"),
            Some(group) if group.is_group() => format!("`{member}` is a group itself: name the members' own doors"),
            Some(_) => continue,
        };
        return Err(Mistake::new(format!("{key}.members[{i}]"), reason));
    }
    Ok(())
}

impl Access {
    /// The people who stand behind a door: a person's door stands for that person, a group's door for its members.
    #[must_use]
    pub fn people_behind(&self, door: &DoorName) -> BTreeSet<DoorName> {
        match self.people.get(door).and_then(|person| person.members.as_ref()) {
            Some(members) => members.iter().cloned().collect(),
            None => BTreeSet::from([door.clone()]),
        }
    }

    /// The settings that are probably not meant, such as an approver whose own principals are unknown.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        let without_principals = |door: &DoorName| self.people.get(door).is_none_or(|p| p.principals.is_none());
        let mut warnings = Vec::new();
        for (door, _) in self.people.iter().filter(|(_, person)| !person.may_approve.is_empty()) {
            let unknown: Vec<String> =
                self.people_behind(door).into_iter().filter(&without_principals).map(String::from).collect();
            if !unknown.is_empty() {
                let reason = format!(
                    "may approve, but the principals of {} are unknown, so that an approval may give access to its own \
                     approver: add `for` there",
                    unknown.join(", ")
                );
                warnings.push(Warning { key: format!("access.people.{door}.may_approve"), reason });
            }
        }
        let of_profiles = self.profiles.iter().filter_map(|(name, profile)| self.warning_of_profile(name, profile));
        warnings.extend(of_profiles);
        warnings
    }

    /// The warning about a profile whose requests or reviews nobody can ever approve.
    fn warning_of_profile(&self, name: &ProfileName, profile: &Profile) -> Option<Warning> {
        let (field, so) = match (profile.approval, profile.break_glass) {
            (Approval::Another, _) => ("approval", "it is never granted"),
            (Approval::None, true) => ("break_glass", "a review of it stays open and is announced every day"),
            (Approval::None, false) => return None,
        };
        let approvers = || self.people.iter().filter(|(_, person)| person.may_approve.contains(name));
        let mut askers = self.people.iter().filter(|(_, person)| person.may_ask.contains(name)).peekable();
        let is_lonely =
            |asker| approvers().all(|(door, _)| !self.people_behind(door).is_disjoint(&self.people_behind(asker)));
        let who = if approvers().next().is_none() {
            "nobody may approve this profile"
        } else if askers.peek().is_some() && askers.all(|(door, _)| is_lonely(door)) {
            "nobody may approve this profile but those who ask for it"
        } else {
            return None;
        };
        let reason = format!("{who}, so that {so}: add it to the `may_approve` of somebody else");
        Some(Warning { key: format!("access.profiles.{name}.{field}"), reason })
    }
}

#[cfg(test)]
mod tests;
