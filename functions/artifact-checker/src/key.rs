//! Names of KMS keys.

use std::fmt;

use sekisho_domain::account::Arn;
use sekisho_domain::config::Misconfigured;
use time::OffsetDateTime;

/// A key's full ARN: `arn:aws:kms:<region>:<account>:key/<id>`. A replica of the key in another region has another ARN,
/// so this function treats the replica as another key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyArn {
    text: String,
    region: String,
    account: String,
}

impl KeyArn {
    /// Parses a full key ARN. Returns `None` for an alias or a bare id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let arn = Arn::parse(text)?;
        let names_a_key = arn.service == "kms"
            && !arn.region.is_empty()
            && !arn.account.is_empty()
            && arn.resource.strip_prefix("key/").is_some_and(|id| !id.is_empty());
        names_a_key.then(|| Self {
            text: text.to_owned(),
            region: arn.region.to_owned(),
            account: arn.account.to_owned(),
        })
    }

    /// Parses the value of an environment variable.
    pub(crate) fn of_variable(variable: &str, value: &str) -> Result<Self, Misconfigured> {
        Self::parse(value).ok_or_else(|| Misconfigured {
            file: "environment".to_owned(),
            key: variable.to_owned(),
            reason: format!(
                "`{value}` is not a key's full ARN: write `arn:aws:kms:<region>:<account>:key/<id>`, never an alias"
            ),
        })
    }

    /// The account that owns the key.
    pub(crate) fn account(&self) -> &str {
        &self.account
    }

    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for KeyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The account in a key's name, if the name is the ARN of a key or of an alias. A bare id or alias contains no account.
pub(crate) fn account_in_name(name: &str) -> Option<&str> {
    Arn::parse(name).map(|arn| arn.account).filter(|account| !account.is_empty())
}

/// Whether a key works, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyLife {
    Works,
    /// The imported material of the key expires at this time.
    Expires(OffsetDateTime),
    /// The key is scheduled for deletion at this time.
    DeletedAt(OffsetDateTime),
    /// Somebody has disabled the key.
    Disabled,
    /// The imported material of the key has expired or was deleted.
    WithoutMaterial,
}

/// What KMS reports about the name of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyStatus {
    /// The name stands for this key, and the key works.
    Usable(KeyArn),
    /// The name stands for this key, but the key cannot decrypt. The text is the key's state.
    Unusable(KeyArn, String),
    /// No key has the name.
    Missing,
    /// KMS does not show the key to this function, for this reason.
    NotShown(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_arn_names_a_key() {
        let arn = KeyArn::parse("arn:aws:kms:ap-northeast-1:222222222222:key/mrk-1").unwrap();
        assert_eq!((arn.region(), arn.account()), ("ap-northeast-1", "222222222222"));
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
    fn the_arn_of_an_alias_contains_its_account() {
        let alias = "arn:aws:kms:ap-northeast-1:111111111111:alias/aws/s3";
        assert_eq!(account_in_name(alias), Some("111111111111"));
        assert_eq!(account_in_name("alias/aws/s3"), None);
    }
}
