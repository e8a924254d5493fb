//! AWS accounts, regions and resource names.

use serde::{Deserialize, Serialize};

/// A string that is not what its place asks for: what it was, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not {expected}")]
pub struct Malformed {
    value: String,
    expected: &'static str,
}

impl Malformed {
    /// `expected` completes the sentence "… is not …". The value is shortened, so that a message stays readable.
    #[must_use]
    pub fn new(value: &str, expected: &'static str) -> Self {
        const SHOWN: usize = 80;
        let mut shown: String = value.chars().take(SHOWN).collect();
        if shown.len() < value.len() {
            shown.push('…');
        }
        Self { value: shown, expected }
    }
}

macro_rules! string_newtype {
    ($name:ident) => {
        impl $name {
            /// The text as AWS writes it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl std::str::FromStr for $name {
            type Err = $crate::account::Malformed;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                Self::try_from(s.to_owned())
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }
    };
}
pub(crate) use string_newtype;

/// An account id: exactly 12 digits, the first of which may be 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountId(String);

impl TryFrom<String> for AccountId {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        if value.len() == 12 && value.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self(value))
        } else {
            Err(Malformed::new(&value, "an AWS account id: write its 12 digits in quotes"))
        }
    }
}
string_newtype!(AccountId);

/// A region's name, such as `ap-northeast-1` or `us-gov-west-1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region(String);

impl TryFrom<String> for Region {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        let parts: Vec<&str> = value.split('-').collect();
        let fine = match parts.as_slice() {
            [partition, places @ .., number] => {
                partition.len() == 2
                    && partition.bytes().all(|b| b.is_ascii_lowercase())
                    && !places.is_empty()
                    && places.iter().all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase()))
                    && (1..=2).contains(&number.len())
                    && number.bytes().all(|b| b.is_ascii_digit())
            }
            _ => false,
        };
        if fine {
            Ok(Self(value))
        } else {
            Err(Malformed::new(&value, "an AWS region: write one such as `ap-northeast-1`"))
        }
    }
}
string_newtype!(Region);

/// The parts of an ARN that Sekisho compares: `arn:<partition>:<service>:<region>:<account>:<resource>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arn<'a> {
    /// `aws`, `aws-cn`, `aws-us-gov`.
    pub partition: &'a str,
    /// Such as `codecommit`.
    pub service: &'a str,
    /// Empty for global services.
    pub region: &'a str,
    /// Empty where the service leaves it out (S3 buckets).
    pub account: &'a str,
    /// All that follows, further colons included.
    pub resource: &'a str,
}

impl<'a> Arn<'a> {
    /// Splits an ARN; `None` where the text is not one.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        if parts.next() != Some("arn") {
            return None;
        }
        let arn = Self {
            partition: parts.next()?,
            service: parts.next()?,
            region: parts.next()?,
            account: parts.next()?,
            resource: parts.next()?,
        };
        (!arn.partition.is_empty() && !arn.service.is_empty() && !arn.resource.is_empty()).then_some(arn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_ids_are_twelve_digits() {
        assert_eq!("012345678901".parse::<AccountId>().unwrap().as_str(), "012345678901");
        for bad in ["", "12345678901", "1234567890123", "12345678901a", "１２３４５６７８９０１２", " 12345678901"]
        {
            assert!(bad.parse::<AccountId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn regions_look_like_regions() {
        for good in ["ap-northeast-1", "us-gov-west-1", "eu-central-2", "us-iso-east-1"] {
            assert!(good.parse::<Region>().is_ok(), "{good}");
        }
        for bad in ["", "tokyo", "ap_northeast_1", "ap-northeast", "AP-NORTHEAST-1", "ap--1", "ap-northeast-1 ", "*"] {
            assert!(bad.parse::<Region>().is_err(), "{bad}");
        }
    }

    #[test]
    fn arns_are_split_into_six() {
        let arn = Arn::parse("arn:aws:logs:ap-northeast-1:111111111111:log-group:/a:b").unwrap();
        assert_eq!((arn.service, arn.account, arn.resource), ("logs", "111111111111", "log-group:/a:b"));
        for bad in ["", "arn:aws:s3", "urn:aws:a:b:c:d", "arn:aws:s3:::"] {
            assert!(Arn::parse(bad).is_none(), "{bad}");
        }
    }
}
