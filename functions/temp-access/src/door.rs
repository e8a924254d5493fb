//! Doors: the alias through which a request came, who stands behind it, and what may be asked and approved there.
//!
//! A door is an alias of the function, and IAM decides who may invoke it. The function reads the alias from its invoked
//! ARN, so a door is never a claim of the caller. The rules of this module are pure: the configuration and two doors
//! lead to an answer.

use std::collections::BTreeSet;
use std::fmt;

use sekisho_domain::access::{Access, Approval, DoorName, Person, Profile, ProfileName, Subject};
use sekisho_domain::slack;
use sekisho_lambda::board::BOARD;

use crate::error::Error;
use crate::names::some;
use crate::principal::Principal;

/// The channel's door in the ledger's rows and decisions, which no alias can be called.
pub(crate) const CHANNEL: &str = "#channel";

/// The door through which a request came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Door {
    /// The function without an alias, which everybody in the channel may invoke. It stands for everybody.
    Channel,
    /// The door of a person or a group. The configuration may no longer have it.
    Person(DoorName),
    /// The alias `board`, at which nothing is ever changed.
    Board,
}

impl Door {
    /// The door as rows and decisions write it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Channel => CHANNEL,
            Self::Person(name) => name.as_str(),
            Self::Board => BOARD,
        }
    }

    /// The door that a row or decision names, whether the configuration has it or not.
    pub(crate) fn named(text: &str) -> Option<Self> {
        match text {
            CHANNEL => Some(Self::Channel),
            BOARD => Some(Self::Board),
            name => name.parse().ok().map(Self::Person),
        }
    }

    /// The door of an alias, if the configuration has it. `hub` is no door: its requests name one.
    ///
    /// # Errors
    /// [`Error::Refused`] for every other alias, for a version and for `$LATEST`; [`Error::Misconfigured`] if the
    /// configuration cannot be read.
    pub(crate) fn of_alias(alias: Option<&str>, access: Result<&Access, Error>) -> Result<Self, Error> {
        match alias {
            None => Ok(Self::Channel),
            Some(BOARD) => Ok(Self::Board),
            Some(alias) => {
                let name: DoorName = alias.parse().map_err(|_| unknown(alias))?;
                if access?.people.contains_key(&name) { Ok(Self::Person(name)) } else { Err(unknown(alias)) }
            }
        }
    }

    /// The people who stand behind the door now.
    pub(crate) fn people(&self, access: &Access) -> BTreeSet<DoorName> {
        match self {
            Self::Person(name) => access.people_behind(name),
            Self::Channel | Self::Board => BTreeSet::new(),
        }
    }

    /// The rules for whoever comes through the door; `None` if the configuration has none.
    fn person<'a>(&self, access: &'a Access) -> Option<&'a Person> {
        match self {
            Self::Person(name) => access.people.get(name),
            Self::Channel | Self::Board => None,
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Door> for String {
    fn from(door: Door) -> Self {
        door.as_str().to_owned()
    }
}

fn unknown(alias: &str) -> Error {
    Error::Refused(format!(
        "there is no door `{}`: invoke temp-access without an alias or version, or through a door under \
         `[access.people]`",
        slack::quoted(alias)
    ))
}

/// Checks that the door may ask for this profile and this principal. Whether the grant also needs an approval is
/// another question.
///
/// # Errors
/// [`Error::Refused`], with the names of the doors that may ask.
pub(crate) fn check_asking(
    access: &Access,
    door: &Door,
    name: &ProfileName,
    principal: &Principal,
) -> Result<(), Error> {
    let Some(profile) = access.profiles.get(name) else {
        return Err(Error::Refused(format!("there is no profile {name} any more. Nothing was granted")));
    };
    let rule = match (profile.approval, profile.break_glass) {
        (Approval::Another, _) => "needs an approval, so that it is granted only through a person's door",
        (Approval::None, true) => "is for emergencies, so that it is granted only through a person's own door",
        (Approval::None, false) => "may not be asked for through this door",
    };
    let refused =
        || Err(Error::Refused(format!("{name} {rule}: {}. Nothing was granted", askers(access, name, profile))));
    let Some(person) = door.person(access) else {
        let is_open = profile.approval == Approval::None && !profile.break_glass;
        return match door {
            Door::Channel | Door::Board if is_open => Ok(()),
            Door::Channel | Door::Board => refused(),
            Door::Person(gone) => Err(unknown(gone.as_str())),
        };
    };
    if !person.may_ask.contains(name) || (profile.break_glass && person.is_group()) {
        return refused();
    }
    if !person.may_ask_for(principal.kind().as_str(), principal.name()) {
        return Err(Error::Refused(format!(
            "the door {door} may not ask for {principal}: name a principal that `for` of this door has. Nothing was \
             granted"
        )));
    }
    Ok(())
}

/// The doors at which the profile may be asked for, as the end of a sentence.
fn askers(access: &Access, name: &ProfileName, profile: &Profile) -> String {
    let may_ask = |person: &Person| person.may_ask.contains(name) && !(profile.break_glass && person.is_group());
    match doors(access, may_ask).as_str() {
        "" => "no door may ask for it (`may_ask`)".to_owned(),
        doors => format!("ask through {doors}"),
    }
}

/// The names of the doors with this property, as people type them.
fn doors(access: &Access, has: impl Fn(&Person) -> bool) -> String {
    let doors = access.people.iter().filter(|(_, person)| has(person));
    let doors: Vec<String> = doors.map(|(name, _)| format!("`temp-access:{name}`")).collect();
    some(&doors)
}

/// Checks that whoever comes through the door `approving` may approve what was asked through the door `asking`: another
/// person, who does not get the access.
///
/// # Errors
/// [`Error::Refused`] with the reason.
pub(crate) fn check_approving(
    access: &Access,
    approving: &Door,
    asking: &Door,
    profile: &ProfileName,
    principal: &Principal,
) -> Result<(), Error> {
    let refused = |why: String| Err(Error::Refused(format!("{why}. Nothing was approved")));
    let approvers = || match doors(access, |person| person.may_approve.contains(profile)).as_str() {
        "" => "nobody may approve it (`may_approve`)".to_owned(),
        doors => format!("only {doors} may approve it"),
    };
    let (Door::Person(name), Some(person)) = (approving, approving.person(access)) else {
        return refused(format!("nobody can approve {profile} through the door {approving}: {}", approvers()));
    };
    if !person.may_approve.contains(profile) {
        return refused(format!("the door {approving} may not approve {profile}: {}", approvers()));
    }
    let (Door::Person(asking_name), Some(_)) = (asking, asking.person(access)) else {
        return refused(format!("the request came through the door {asking}, for which no person stands: ask again"));
    };
    check_others(access, approving, &access.people_behind(asking_name))?;
    if beneficiaries(access, name).any(|subject| subject.names(principal.kind().as_str(), principal.name())) {
        return refused(format!(
            "{principal} is a principal of somebody behind the door {approving}, and nobody approves access of their own"
        ));
    }
    Ok(())
}

/// Whether the door may approve the profile, whoever asked for it: the access is not for its own people.
pub(crate) fn approves(access: &Access, approving: &Door, profile: &ProfileName, principal: &Principal) -> bool {
    let Door::Person(name) = approving else { return false };
    let is_own = |subject: &Subject| subject.names(principal.kind().as_str(), principal.name());
    approving.person(access).is_some_and(|person| person.may_approve.contains(profile))
        && !beneficiaries(access, name).any(is_own)
}

/// Checks that nobody behind the door `approving` is one of the people who asked.
///
/// # Errors
/// [`Error::Refused`] with the name of whoever is.
pub(crate) fn check_others(access: &Access, approving: &Door, asked: &BTreeSet<DoorName>) -> Result<(), Error> {
    match approving.people(access).intersection(asked).next() {
        None => Ok(()),
        Some(both) => Err(Error::Refused(format!(
            "{both} stands behind the request, and nobody approves a request of their own. Nothing was approved"
        ))),
    }
}

/// Checks that the door `asking` still exists, and that somebody who stood behind it at the time of the request still
/// does.
///
/// # Errors
/// [`Error::Refused`] if nobody is left who can have made the request.
pub(crate) fn check_left(access: &Access, asking: &Door, asked: &BTreeSet<DoorName>) -> Result<(), Error> {
    let is_there = asking.person(access).is_some();
    if is_there && !asked.is_disjoint(&asking.people(access)) {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "nobody who can have asked is behind the door {asking} any more: ask again. Nothing was approved"
    )))
}

/// Checks that whoever comes through the door may decline or withdraw the request.
///
/// # Errors
/// [`Error::Refused`] with the reason.
pub(crate) fn check_declining(
    access: &Access,
    declining: &Door,
    asking: &Door,
    profile: &ProfileName,
    principal: &Principal,
) -> Result<(), Error> {
    if declining == asking && declining.person(access).is_some() {
        return Ok(());
    }
    check_approving(access, declining, asking, profile, principal)
}

/// The principals of everybody behind a door: those of its people, and those of the groups that have one of them as a
/// member.
pub(crate) fn beneficiaries<'a>(access: &'a Access, door: &DoorName) -> impl Iterator<Item = &'a Subject> {
    let behind = access.people_behind(door);
    let is_theirs =
        move |(name, _): &(&DoorName, &Person)| access.people_behind(name).iter().any(|person| behind.contains(person));
    access.people.iter().filter(is_theirs).flat_map(|(_, person)| person.principals.iter().flatten())
}

#[cfg(test)]
mod tests;
