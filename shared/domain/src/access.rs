//! `[access]`: the profiles that people can request, the time limits of a grant, and the doors of people.

mod accounts;
mod people;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use regex_lite::Regex;
use serde::{Deserialize, Serialize};

use crate::account::Malformed;
use crate::mistake::Mistake;
use crate::window::ZoneName;

pub use self::accounts::{AccountName, TempAccessPlace};
pub use self::people::{Approval, DoorName, LONGEST_ADDRESS, Person, Subject, Warning, is_of_address};

/// A whole number of minutes, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Minutes(u32);

/// The longest grant that a configuration may allow, in minutes: one week. Longer access must be given in another way.
const LONGEST_MINUTES: u32 = 7 * 24 * 60;

impl TryFrom<i64> for Minutes {
    type Error = Malformed;
    fn try_from(value: i64) -> Result<Self, Malformed> {
        match u32::try_from(value) {
            Ok(minutes @ 1..=LONGEST_MINUTES) => Ok(Self(minutes)),
            _ => Err(Malformed::new(&value.to_string(), "a number of minutes: write a whole number from 1 to 10080")),
        }
    }
}

impl From<Minutes> for i64 {
    fn from(value: Minutes) -> i64 {
        i64::from(value.0)
    }
}

impl Minutes {
    /// The longest grant that any configuration may allow.
    pub const LONGEST: Self = Self(LONGEST_MINUTES);

    /// The number of minutes.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }

    /// The minutes as a duration.
    #[must_use]
    pub fn duration(self) -> time::Duration {
        time::Duration::minutes(i64::from(self.0))
    }
}

impl fmt::Display for Minutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a profile. The inline policy of a grant is called `sekisho-<profile>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProfileName(String);

impl TryFrom<String> for ProfileName {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        // IAM allows 128 characters in a policy's name, and `sekisho-` uses 8 of them. The limit for a profile's name
        // is lower, because people type it.
        let is_valid = (1..=64).contains(&value.len())
            && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if is_valid {
            Ok(Self(value))
        } else {
            Err(Malformed::new(&value, "a profile name: write 1 to 64 letters, digits, `-`, `_` or `.`"))
        }
    }
}
crate::account::string_newtype!(ProfileName);

/// An Allow statement of a profile. A grant adds its time window as a condition.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// IAM actions, such as `logs:Get*`, or `*`.
    pub actions: Vec<Action>,
    /// ARNs, in which globs are allowed, or `*`.
    pub resources: Vec<Resource>,
}

macro_rules! policy_text {
    ($name:ident, $doc:literal, $expected:literal, $check:expr) => {
        #[doc = $doc]
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl TryFrom<String> for $name {
            type Error = Malformed;
            fn try_from(value: String) -> Result<Self, Malformed> {
                let check: fn(&str) -> bool = $check;
                if check(&value) { Ok(Self(value)) } else { Err(Malformed::new(&value, $expected)) }
            }
        }
        crate::account::string_newtype!($name);
    };
}

policy_text!(
    Action,
    "An IAM action, such as `logs:Get*`, or `*`.",
    "an IAM action: write `service:Action`, in which globs are allowed, or `*`",
    |text| {
        text == "*"
            || text.split_once(':').is_some_and(|(service, action)| {
                let is_service = service.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
                let is_action = action.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'*' | b'?'));
                !service.is_empty() && !action.is_empty() && is_service && is_action
            })
    }
);

policy_text!(
    Resource,
    "An ARN, in which globs are allowed, or `*`.",
    "a resource: write an ARN, in which globs are allowed, or `*`",
    |text| {
        // IAM accepts only U+0020 to U+00FF in the text of a policy. `${` is allowed, because policy variables need it.
        text == "*"
            || (text.starts_with("arn:")
                && text.splitn(6, ':').count() == 6
                && text.chars().all(|c| ('\u{20}'..='\u{ff}').contains(&c)))
    }
);

/// The permissions of a grant, and its conditions in addition to the time window.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The permissions, at least one.
    pub statements: Vec<Statement>,
    /// The longest grant, and the longest chain of grants. Default: that of `[access]`.
    max_minutes: Option<Minutes>,
    /// The length of a grant whose request has no field `minutes`. Default: that of `[access]`, or `max_minutes` if that
    /// is less.
    default_minutes: Option<Minutes>,
    /// Whether a request needs a reason.
    #[serde(default)]
    pub require_reason: ReasonRule,
    /// The maximum age of the sign-in with a second factor, in minutes.
    pub mfa_minutes: Option<Minutes>,
    /// Whether the permissions hold only in sessions that were opened with a second factor.
    #[serde(default)]
    pub require_mfa: bool,
    /// The address ranges from which the permissions hold. An empty list means all addresses.
    #[serde(default)]
    pub source_ips: Vec<SourceIp>,
    /// Whether a grant needs an approval.
    #[serde(default)]
    pub approval: Approval,
    /// Whether the profile is for emergencies: granted only through a person's own door, with a reason, and the notice
    /// mentions everybody.
    #[serde(default)]
    pub break_glass: bool,
}

/// An address range in CIDR notation, or one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SourceIp(String);

impl TryFrom<String> for SourceIp {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        let range = value.parse::<IpNet>().ok().or_else(|| value.parse::<IpAddr>().ok().map(IpNet::from));
        match range {
            None => Err(Malformed::new(&value, "an address range: write a CIDR block such as `203.0.113.0/24`")),
            Some(range) if is_private(range) => Err(Malformed::new(
                &value,
                "a public address range, and AWS sees only the public address of a call: write the range that your \
                 network has on the internet, such as `203.0.113.0/24`",
            )),
            Some(_) => Ok(Self(value)),
        }
    }
}
crate::account::string_newtype!(SourceIp);

/// The ranges from which no call reaches AWS's public endpoints: private networks, shared addresses of carriers,
/// loopback and link-local addresses, and the IPv6 spellings of IPv4 addresses, which AWS sees as IPv4. A condition on
/// such a range would only deny.
const PRIVATE: [&str; 12] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    // The loopback address, and IPv4 addresses as `::10.0.0.1`, `::ffff:10.0.0.1` and `64:ff9b::10.0.0.1` (NAT64).
    "::/96",
    "::ffff:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "fc00::/7",
    "fe80::/10",
];

/// Whether every address of the range is private.
fn is_private(range: IpNet) -> bool {
    let is_listed =
        |range: IpNet| PRIVATE.iter().any(|outer| outer.parse::<IpNet>().is_ok_and(|outer| outer.contains(&range)));
    is_listed(range) || of_6to4(range).is_some_and(is_listed)
}

/// The IPv4 range that a 6to4 range such as `2002:a00::/24` contains after its first 16 bits.
fn of_6to4(range: IpNet) -> Option<IpNet> {
    let IpNet::V6(range) = range else { return None };
    let [0x20, 0x02, a, b, c, d, ..] = range.network().octets() else { return None };
    let length = range.prefix_len().checked_sub(16)?.min(32);
    Ipv4Net::new(Ipv4Addr::new(a, b, c, d), length).ok().map(IpNet::V4)
}

/// Whether a request for a profile needs a reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenRule")]
pub enum ReasonRule {
    /// No reason is needed.
    #[default]
    None,
    /// Any text except white space.
    Any,
    /// A text that matches a regular expression anywhere.
    Matching(Pattern),
}

/// The key `require_reason`, as it is written.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected true, false, or a regular expression in quotes")]
enum WrittenRule {
    Flag(bool),
    Pattern(String),
}

impl TryFrom<WrittenRule> for ReasonRule {
    type Error = Malformed;
    fn try_from(value: WrittenRule) -> Result<Self, Malformed> {
        Ok(match value {
            WrittenRule::Flag(false) => Self::None,
            WrittenRule::Flag(true) => Self::Any,
            WrittenRule::Pattern(pattern) => Self::Matching(pattern.parse()?),
        })
    }
}

impl ReasonRule {
    /// Whether the reason is enough. A missing reason is an empty one.
    #[must_use]
    pub fn accepts(&self, reason: Option<&str>) -> bool {
        let reason = reason.unwrap_or_default();
        match self {
            Self::None => true,
            Self::Any => !reason.trim().is_empty(),
            // The expression was compiled when the configuration was checked.
            Self::Matching(pattern) => Regex::new(pattern.as_str()).is_ok_and(|regex| regex.is_match(reason)),
        }
    }
}

/// A regular expression of the crate `regex-lite`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl TryFrom<String> for Pattern {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        match Regex::new(&value) {
            // An empty expression matches every reason, also one that is missing.
            Ok(_) if !value.is_empty() => Ok(Self(value)),
            Ok(_) => Err(Malformed::new(
                &value,
                "a rule for reasons: write an expression such as `^OPS-[0-9]+`, true for any reason, or false for none",
            )),
            Err(_) => Err(Malformed::new(&value, "a regular expression: write one such as `^OPS-[0-9]+`, or true")),
        }
    }
}
crate::account::string_newtype!(Pattern);

/// The `[access]` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// The length of a grant, for profiles without one of their own.
    pub default_minutes: Minutes,
    /// The longest grant, and the longest chain of grants, counted from the start of the first grant, for profiles
    /// without a limit of their own.
    pub max_minutes: Minutes,
    /// A grant within this time after a chain ended continues the chain, in minutes.
    #[serde(default = "half_an_hour")]
    pub rest_minutes: u32,
    /// The time zone in which answers show times, beside UTC.
    pub time_zone: Option<ZoneName>,
    /// The profile of a grant whose request has no field `profile`.
    pub default_profile: ProfileName,
    /// All profiles by name.
    pub profiles: BTreeMap<ProfileName, Profile>,
    /// The rules for whoever comes through a door, by the name of the door.
    #[serde(default)]
    pub people: BTreeMap<DoorName, Person>,
    /// The accounts that a request may name.
    #[serde(default)]
    pub accounts: BTreeMap<AccountName, TempAccessPlace>,
}

fn half_an_hour() -> u32 {
    30
}

impl Access {
    /// The longest grant of a profile, and its longest chain of grants. For a profile that the configuration does not
    /// have, this is the limit of `[access]`.
    #[must_use]
    pub fn longest(&self, profile: &str) -> Minutes {
        let profile = self.profiles.iter().find(|(name, _)| name.as_str() == profile);
        profile.and_then(|(_, profile)| profile.max_minutes).unwrap_or(self.max_minutes)
    }

    /// The length of a grant of a profile whose request has no field `minutes`.
    #[must_use]
    pub fn usual(&self, profile: &str) -> Minutes {
        let found = self.profiles.iter().find(|(name, _)| name.as_str() == profile);
        let own = found.and_then(|(_, profile)| profile.default_minutes);
        own.unwrap_or_else(|| self.default_minutes.min(self.longest(profile)))
    }

    /// Checks the rules that concern more than one value.
    pub(crate) fn check(&self) -> Result<(), Mistake> {
        if self.default_minutes > self.max_minutes {
            let reason = format!(
                "{} is more than max_minutes, {}: lower default_minutes",
                self.default_minutes, self.max_minutes
            );
            return Err(Mistake::new("access.default_minutes", reason));
        }
        if self.rest_minutes > LONGEST_MINUTES {
            let reason = format!("{} is more than a week: write at most {LONGEST_MINUTES}", self.rest_minutes);
            return Err(Mistake::new("access.rest_minutes", reason));
        }
        if let Some(Err(reason)) = self.time_zone.as_ref().map(ZoneName::check) {
            return Err(Mistake::new("access.time_zone", reason));
        }
        if !self.profiles.contains_key(&self.default_profile) {
            let known: Vec<&str> = self.profiles.keys().map(ProfileName::as_str).collect();
            let reason = format!("no profile `{}`: write one of {}", self.default_profile, known.join(", "));
            return Err(Mistake::new("access.default_profile", reason));
        }
        for (name, profile) in &self.profiles {
            let (usual, longest) = (self.usual(name.as_str()), self.longest(name.as_str()));
            if usual > longest {
                let reason = format!("{usual} is more than max_minutes of this profile, {longest}: lower it");
                return Err(Mistake::new(format!("access.profiles.{name}.default_minutes"), reason));
            }
            let key = format!("access.profiles.{name}.statements");
            if profile.statements.is_empty() {
                return Err(Mistake::new(key, "empty: add at least one statement"));
            }
            for (i, statement) in profile.statements.iter().enumerate() {
                if statement.actions.is_empty() {
                    return Err(Mistake::new(format!("{key}[{i}].actions"), "empty: write at least one action"));
                }
                if statement.resources.is_empty() {
                    let reason = "empty: write at least one resource, or `*`";
                    return Err(Mistake::new(format!("{key}[{i}].resources"), reason));
                }
            }
        }
        people::check(self)
    }
}

#[cfg(test)]
mod tests;
