//! AWS account ids, regions and ARNs.

use serde::{Deserialize, Serialize};

/// A text that does not have the required form. The message shows the text and says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not {expected}")]
pub struct Malformed {
    value: String,
    expected: &'static str,
}

impl Malformed {
    /// `expected` completes the sentence "… is not …". The message shows the first 80 characters of the value.
    #[must_use]
    pub(crate) fn new(value: &str, expected: &'static str) -> Self {
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
            /// The value as text.
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

/// An account id: exactly 12 digits, possibly with leading zeros.
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

/// The name of a region, such as `ap-northeast-1` or `us-gov-west-1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region(String);

impl TryFrom<String> for Region {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        let parts: Vec<&str> = value.split('-').collect();
        let is_valid = match parts.as_slice() {
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
        if is_valid {
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
    /// The partition: `aws`, `aws-cn`, `aws-us-gov`, …
    pub partition: &'a str,
    /// The service, such as `codecommit`.
    pub service: &'a str,
    /// The region. It is empty for global services.
    pub region: &'a str,
    /// The account id. It is empty in the ARNs of some services, such as S3.
    pub account: &'a str,
    /// The rest, which may contain colons.
    pub resource: &'a str,
}

impl<'a> Arn<'a> {
    /// Splits an ARN. Returns `None` if the text is not an ARN.
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
    fn an_account_id_has_twelve_digits() {
        assert_eq!("012345678901".parse::<AccountId>().unwrap().as_str(), "012345678901");
        for malformed in
            ["", "12345678901", "1234567890123", "12345678901a", "１２３４５６７８９０１２", " 12345678901"]
        {
            assert!(malformed.parse::<AccountId>().is_err(), "{malformed}");
        }
    }

    #[test]
    fn a_region_has_a_partition_places_and_a_number() {
        for valid in ["ap-northeast-1", "us-gov-west-1", "eu-central-2", "us-iso-east-1"] {
            assert!(valid.parse::<Region>().is_ok(), "{valid}");
        }
        for malformed in
            ["", "tokyo", "ap_northeast_1", "ap-northeast", "AP-NORTHEAST-1", "ap--1", "ap-northeast-1 ", "*"]
        {
            assert!(malformed.parse::<Region>().is_err(), "{malformed}");
        }
    }

    #[test]
    fn an_arn_has_six_parts() {
        let arn = Arn::parse("arn:aws:logs:ap-northeast-1:111111111111:log-group:/a:b").unwrap();
        assert_eq!((arn.service, arn.account, arn.resource), ("logs", "111111111111", "log-group:/a:b"));
        for malformed in ["", "arn:aws:s3", "urn:aws:a:b:c:d", "arn:aws:s3:::"] {
            assert!(Arn::parse(malformed).is_none(), "{malformed}");
        }
    }
}
