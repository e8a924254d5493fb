//! `[access]`: the profiles that people can request, and the time limits of a grant.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::account::Malformed;
use crate::mistake::Mistake;

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
    /// Whether the permissions hold only in sessions that were opened with a second factor.
    #[serde(default)]
    pub require_mfa: bool,
    /// The address ranges from which the permissions hold. An empty list means all addresses.
    #[serde(default)]
    pub source_ips: Vec<SourceIp>,
}

/// An address range in CIDR notation, or one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SourceIp(String);

impl TryFrom<String> for SourceIp {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        let is_range = value.parse::<ipnet::IpNet>().is_ok() || value.parse::<std::net::IpAddr>().is_ok();
        if is_range {
            Ok(Self(value))
        } else {
            Err(Malformed::new(&value, "an address range: write a CIDR block such as `203.0.113.0/24`"))
        }
    }
}
crate::account::string_newtype!(SourceIp);

/// The `[access]` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// The length of a grant whose request has no field `minutes`.
    pub default_minutes: Minutes,
    /// The longest grant, and the longest chain of extensions, counted from the start of the first grant.
    pub max_minutes: Minutes,
    /// The profile of a grant whose request has no field `profile`.
    pub default_profile: ProfileName,
    /// All profiles by name.
    pub profiles: BTreeMap<ProfileName, Profile>,
}

impl Access {
    /// Checks the rules that concern more than one value.
    pub(crate) fn check(&self) -> Result<(), Mistake> {
        if self.default_minutes > self.max_minutes {
            let reason = format!(
                "{} is more than max_minutes, {}: lower default_minutes",
                self.default_minutes, self.max_minutes
            );
            return Err(Mistake::new("access.default_minutes", reason));
        }
        if !self.profiles.contains_key(&self.default_profile) {
            let known: Vec<&str> = self.profiles.keys().map(ProfileName::as_str).collect();
            let reason = format!("no profile `{}`: write one of {}", self.default_profile, known.join(", "));
            return Err(Mistake::new("access.default_profile", reason));
        }
        for (name, profile) in &self.profiles {
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
        Ok(())
    }
}
