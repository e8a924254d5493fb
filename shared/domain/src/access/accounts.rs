//! `[access.accounts]`: the accounts whose temp-access answers requests that name them.

use serde::{Deserialize, Serialize};

use crate::account::{AccountId, Malformed, Region, string_newtype};

/// The name of an account, as people type it in a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountName(String);

impl TryFrom<String> for AccountName {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        let is_valid = (1..=64).contains(&value.len())
            && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        let expected = "the name of an account: write 1 to 64 letters, digits, `-`, `_` or `.`";
        if is_valid { Ok(Self(value)) } else { Err(Malformed::new(&value, expected)) }
    }
}
string_newtype!(AccountName);

/// Where the temp-access of an account is: `333333333333`, or `333333333333/eu-west-1`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TempAccessPlace {
    /// The account.
    pub account: AccountId,
    /// The region of that account's temp-access. Default: the region of the function that reads the configuration.
    pub region: Option<Region>,
}

impl TryFrom<String> for TempAccessPlace {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        let (account, region) = match value.split_once('/') {
            Some((account, region)) => (account, Some(region.parse()?)),
            None => (value.as_str(), None),
        };
        Ok(Self { account: account.parse()?, region })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_account_and_perhaps_a_region() {
        let place = |text: &str| TempAccessPlace::try_from(text.to_owned());
        assert_eq!(place("033333333333").unwrap().region, None);
        let elsewhere = place("333333333333/eu-west-1").unwrap();
        assert_eq!((elsewhere.account.as_str(), elsewhere.region.unwrap().as_str()), ("333333333333", "eu-west-1"));
        for malformed in ["", "33333333333", "333333333333/", "333333333333/tokyo", "/eu-west-1", "333333333333/a/b"] {
            assert!(place(malformed).is_err(), "{malformed}");
        }
    }

    #[test]
    fn an_account_name_can_be_typed() {
        for name in ["production", "prod-1", "a", "A.b_c"] {
            assert_eq!(name.parse::<AccountName>().unwrap().as_str(), name);
        }
        for malformed in ["", "pro duction", "prod/1", "本番", &"x".repeat(65)] {
            assert!(malformed.parse::<AccountName>().is_err(), "{malformed}");
        }
    }
}
