//! `[artifacts]`: what to do with an artifact that is not under the right key.

use serde::{Deserialize, Deserializer};

use crate::account::{AccountId, Arn};

/// How an artifact under the wrong key of our own account is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Repair {
    /// `UpdateObjectEncryption` in place; falls back to a copy where S3 refuses it and a copy is safe.
    Update,
    /// A copy onto itself under the right key: a new version.
    Copy,
    /// Say so and leave it.
    Report,
}

/// The `[artifacts]` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifacts {
    /// What to do.
    pub repair: Repair,
    /// ARN of the role as which readability is proven; without one the function reads as itself.
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
    fn a_consumers_role_names_its_account() {
        let read = |arn: &str| toml::from_str::<Artifacts>(&format!("repair = \"copy\"\nconsumer_role = \"{arn}\""));
        assert!(read("arn:aws:iam::222222222222:role/build/reader").is_ok());
        for bad in
            ["arn:aws:iam:::role/build", "arn:aws:iam::22222222222:role/build", "arn:aws:iam::222222222222:user/a"]
        {
            assert!(read(bad).unwrap_err().to_string().contains("arn:aws:iam::<account>:role/<name>"), "{bad}");
        }
    }
}
