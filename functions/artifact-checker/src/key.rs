//! KMS keys by name.

use std::fmt;

use sekisho_domain::account::Arn;
use sekisho_domain::config::Misconfigured;

/// A key's full ARN: `arn:aws:kms:<region>:<account>:key/<id>`. Replicas of one key in other regions are other keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyArn {
    text: String,
    account: String,
}

impl KeyArn {
    /// Reads a full key ARN; an alias or a bare id is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let arn = Arn::parse(text)?;
        let names_a_key = arn.service == "kms"
            && !arn.region.is_empty()
            && !arn.account.is_empty()
            && arn.resource.strip_prefix("key/").is_some_and(|id| !id.is_empty());
        names_a_key.then(|| Self { text: text.to_owned(), account: arn.account.to_owned() })
    }

    /// The one that the environment names.
    ///
    /// # Errors
    /// Where it is an alias, a bare id, or no key.
    pub fn of_environment(variable: &str, text: &str) -> Result<Self, Misconfigured> {
        Self::parse(text).ok_or_else(|| Misconfigured {
            file: "environment".to_owned(),
            key: variable.to_owned(),
            reason: format!(
                "`{text}` is not a key's full ARN: write `arn:aws:kms:<region>:<account>:key/<id>`, never an alias"
            ),
        })
    }

    /// The account that owns it.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.account
    }

    /// As AWS writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for KeyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The account that a name says itself: that of an ARN, of an alias too. A bare id or alias says none.
#[must_use]
pub fn named_account(name: &str) -> Option<&str> {
    Arn::parse(name).map(|arn| arn.account).filter(|account| !account.is_empty())
}

/// What DescribeKey told of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Described {
    /// The key behind the name works.
    Usable(KeyArn),
    /// There is such a key, in a state in which nothing can be read with it.
    Unusable(KeyArn, String),
    /// There is no such key.
    Missing,
    /// This function may not ask, for this reason.
    Hidden(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_arn_names_a_key() {
        let arn = KeyArn::parse("arn:aws:kms:ap-northeast-1:222222222222:key/mrk-1").unwrap();
        assert_eq!(arn.account(), "222222222222");
        assert_ne!(KeyArn::parse("arn:aws:kms:us-east-1:222222222222:key/mrk-1"), Some(arn));
        for other in [
            "",
            "alias/artifacts",
            "1234abcd-12ab-34cd-56ef-1234567890ab",
            "arn:aws:kms:ap-northeast-1:222222222222:alias/artifacts",
            "arn:aws:kms:ap-northeast-1:222222222222:key/",
            "arn:aws:s3:ap-northeast-1:222222222222:key/a",
        ] {
            assert_eq!(KeyArn::parse(other), None, "{other}");
        }
    }

    #[test]
    fn an_aliass_arn_says_its_account() {
        assert_eq!(named_account("arn:aws:kms:ap-northeast-1:111111111111:alias/aws/s3"), Some("111111111111"));
        assert_eq!(named_account("alias/aws/s3"), None);
    }
}
