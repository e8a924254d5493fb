//! `[access]`: for how long people may have what.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::account::Malformed;

/// A whole number of minutes, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Minutes(u32);

/// The longest grant that a configuration may allow, in minutes: a week. Who needs longer needs another kind of access.
pub const LONGEST_MINUTES: u32 = 7 * 24 * 60;

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
    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }

    /// As a span of time.
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

/// The name of a profile: also the end of the inline policy's name, `sekisho-<profile>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProfileName(String);

impl TryFrom<String> for ProfileName {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        // IAM policy names have up to 128 characters; `sekisho-` takes 8, and people type these.
        let fine = (1..=64).contains(&value.len())
            && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if fine {
            Ok(Self(value))
        } else {
            Err(Malformed::new(&value, "a profile's name: 1 to 64 letters, digits, `-`, `_` or `.`"))
        }
    }
}
crate::account::string_newtype!(ProfileName);

/// One Allow of a profile; the window is added when it is granted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// IAM actions, such as `logs:Get*`, or `*`.
    pub actions: Vec<Action>,
    /// ARNs, globs of them, or `*`.
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
    "An IAM action with globs.",
    "an IAM action: write `service:Action`, globs allowed, or `*`",
    |text| {
        text == "*"
            || text.split_once(':').is_some_and(|(service, action)| {
                let service_fine = service.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
                let action_fine = action.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'*' | b'?'));
                !service.is_empty() && !action.is_empty() && service_fine && action_fine
            })
    }
);

policy_text!(Resource, "An ARN with globs.", "a resource: write an ARN, globs allowed, or `*`", |text| {
    // IAM takes U+0020 to U+00FF in a policy's text; a `${` would be a policy variable, which ARNs of people's tags need.
    text == "*"
        || (text.starts_with("arn:")
            && text.splitn(6, ':').count() == 6
            && text.chars().all(|c| ('\u{20}'..='\u{ff}').contains(&c)))
});

/// What a grant of this profile allows, and under which conditions beside its window.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// At least one.
    pub statements: Vec<Statement>,
    /// Only sessions that were opened with a second factor.
    #[serde(default)]
    pub require_mfa: bool,
    /// Only from these address ranges; empty means from anywhere.
    #[serde(default)]
    pub source_ips: Vec<SourceIp>,
}

/// An address range in CIDR notation.
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
    /// Where a request names no time.
    pub default_minutes: Minutes,
    /// Of one grant, and of a chain of extensions from its first start.
    pub max_minutes: Minutes,
    /// Where a request names no profile.
    pub default_profile: ProfileName,
    /// By name.
    pub profiles: BTreeMap<ProfileName, Profile>,
}

impl Access {
    /// What the parts cannot see of each other; key and reason of the first mistake.
    pub(crate) fn check(&self) -> Result<(), (String, String)> {
        if self.default_minutes > self.max_minutes {
            let reason = format!("{} is more than max_minutes, {}: lower it", self.default_minutes, self.max_minutes);
            return Err(("access.default_minutes".into(), reason));
        }
        if !self.profiles.contains_key(&self.default_profile) {
            let known: Vec<&str> = self.profiles.keys().map(ProfileName::as_str).collect();
            let reason = format!("no profile `{}`: write one of {}", self.default_profile, known.join(", "));
            return Err(("access.default_profile".into(), reason));
        }
        for (name, profile) in &self.profiles {
            let key = format!("access.profiles.{name}.statements");
            if profile.statements.is_empty() {
                return Err((key, "empty: a profile allows something; add a statement".into()));
            }
            for (i, statement) in profile.statements.iter().enumerate() {
                if statement.actions.is_empty() {
                    return Err((format!("{key}[{i}].actions"), "empty: write at least one action".into()));
                }
                if statement.resources.is_empty() {
                    return Err((format!("{key}[{i}].resources"), "empty: write at least one resource, or `*`".into()));
                }
            }
        }
        Ok(())
    }
}
