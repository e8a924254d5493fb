//! `[artifacts]`: the repair of artifacts that are encrypted with a wrong key.

use serde::{Deserialize, Deserializer};

use crate::account::{AccountId, Arn};

/// How artifact-checker repairs an artifact that is encrypted with a wrong key, if this key belongs to the function's
/// own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Repair {
    /// Changes the key in place with `UpdateObjectEncryption`. If S3 refuses the change and a copy is safe, copies the
    /// object.
    Update,
    /// Copies the object onto itself with the right key, which makes a new version.
    Copy,
    /// Reports the artifact and does not change it.
    Report,
}

/// The `[artifacts]` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifacts {
    /// How a wrongly encrypted artifact is repaired.
    pub repair: Repair,
    /// The ARN of the role that must be able to read the artifact. If no role is configured, the function checks
    /// whether its own role can read the artifact.
    #[serde(default, deserialize_with = "role_arn")]
    pub consumer_role: Option<String>,
}

fn role_arn<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let is_role = Arn::parse(&text).is_some_and(|arn| {
        arn.service == "iam" && arn.account.parse::<AccountId>().is_ok() && arn.resource.starts_with("role/")
    });
    if is_role {
        Ok(Some(text))
    } else {
        Err(serde::de::Error::custom(format!(
            "`{text}` is not the ARN of an IAM role: write `arn:aws:iam::<account>:role/<name>`"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_role_is_the_arn_of_a_role_with_an_account() {
        let read = |arn: &str| toml::from_str::<Artifacts>(&format!("repair = \"copy\"\nconsumer_role = \"{arn}\""));
        assert!(read("arn:aws:iam::222222222222:role/build/reader").is_ok());
        for malformed in
            ["arn:aws:iam:::role/build", "arn:aws:iam::22222222222:role/build", "arn:aws:iam::222222222222:user/a"]
        {
            assert!(
                read(malformed).unwrap_err().to_string().contains("arn:aws:iam::<account>:role/<name>"),
                "{malformed}"
            );
        }
    }
}
