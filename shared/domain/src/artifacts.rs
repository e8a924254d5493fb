//! `[artifacts]`: the repair of artifacts that are encrypted with a wrong key.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer};

use crate::account::{AccountId, Arn};

/// The default of [`Artifacts::confirm_above`].
const CONFIRM_ABOVE: u64 = 100_000;

/// How artifact-checker repairs an artifact that is encrypted with a wrong key, if this key belongs to the function's
/// own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repair {
    /// Changes the key in place with `UpdateObjectEncryption`. If S3 refuses the change and a copy is safe, copies the
    /// object.
    Update,
    /// Changes the key in place with `UpdateObjectEncryption`. If S3 refuses the change, reports the artifact.
    UpdateOnly,
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
    /// Whether to retry the stage of a pipeline that failed because its action could not read an artifact, after the
    /// artifact was repaired.
    #[serde(default)]
    pub retry_stage: bool,
    /// How many artifacts of the stack's bucket one sweep puts under the right key in place. It leaves the others to S3
    /// Batch Operations, and a person has to confirm this job.
    #[serde(default = "confirm_above")]
    pub confirm_above: u64,
    /// Rules for single buckets, by name. Without a rule, a bucket other than the stack's own is only
    /// reported on.
    #[serde(default, deserialize_with = "bucket_names")]
    pub buckets: BTreeMap<String, BucketArtifacts>,
}

/// The section of one bucket, `[artifacts.buckets.<name>]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketArtifacts {
    /// How a wrongly encrypted artifact of the bucket is repaired.
    pub repair: Repair,
    /// The ARN of the role that must be able to read the bucket's artifacts. If no role is configured, the role of the
    /// section `[artifacts]` is used.
    #[serde(default, deserialize_with = "role_arn")]
    pub consumer_role: Option<String>,
    /// The keys, in their order, at which S3 begins another partition of the bucket. A sweep takes half of the rate of
    /// each partition.
    #[serde(default, deserialize_with = "partitions")]
    pub partitions: Vec<String>,
}

impl Artifacts {
    /// The role that must be able to read the artifacts of this bucket, if one is configured.
    #[must_use]
    pub fn consumer_role(&self, bucket: &str) -> Option<&str> {
        let of_bucket = self.buckets.get(bucket).and_then(|entry| entry.consumer_role.as_deref());
        of_bucket.or(self.consumer_role.as_deref())
    }

    /// The keys, in their order, at which S3 begins another partition of this bucket, as far as they are configured.
    #[must_use]
    pub fn partitions(&self, bucket: &str) -> &[String] {
        self.buckets.get(bucket).map(|entry| entry.partitions.as_slice()).unwrap_or_default()
    }
}

fn partitions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let keys = BTreeSet::<String>::deserialize(deserializer)?;
    if keys.contains("") {
        let message = "an empty key begins no other partition: write the beginnings of keys, such as `shop/`";
        return Err(serde::de::Error::custom(message));
    }
    Ok(keys.into_iter().collect())
}

fn confirm_above() -> u64 {
    CONFIRM_ABOVE
}

fn bucket_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, BucketArtifacts>, D::Error> {
    let buckets = BTreeMap::<String, BucketArtifacts>::deserialize(deserializer)?;
    match buckets.keys().find(|name| !is_bucket_name(name)) {
        None => Ok(buckets),
        Some(name) => Err(serde::de::Error::custom(format!(
            "`{name}` is not the name of a bucket: write 3 to 63 lowercase letters, digits, hyphens and dots"
        ))),
    }
}

fn is_bucket_name(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    (3..=63).contains(&name.len()) && name.chars().all(is_allowed)
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
    fn a_bucket_has_a_repair_and_a_consumer_of_its_own() {
        let role = |account: &str| format!("arn:aws:iam::{account}:role/reader");
        let read = |buckets: &str| {
            let own = role("222222222222");
            toml::from_str::<Artifacts>(&format!("repair = \"update-only\"\nconsumer_role = \"{own}\"\n{buckets}"))
        };
        let artifacts = read(&format!(
            "[buckets.shared-store]\nrepair = \"copy\"\nconsumer_role = \"{}\"\n[buckets.\"a.b\"]\nrepair = \"report\"",
            role("444444444444")
        ))
        .unwrap();
        assert_eq!((artifacts.repair, artifacts.retry_stage), (Repair::UpdateOnly, false));
        assert!(read("retry_stage = true").unwrap().retry_stage);
        assert_eq!((artifacts.confirm_above, read("confirm_above = 0").unwrap().confirm_above), (100_000, 0));
        assert!(read("confirm_above = -1").unwrap_err().to_string().contains("confirm_above"));
        assert_eq!(artifacts.buckets["shared-store"].repair, Repair::Copy);
        assert_eq!(artifacts.consumer_role("shared-store"), Some(role("444444444444").as_str()));
        for other in ["a.b", "sekisho-artifacts"] {
            assert_eq!(artifacts.consumer_role(other), Some(role("222222222222").as_str()), "{other}");
        }
        for (wrong, part) in [
            ("[buckets.Shared]\nrepair = \"copy\"", "lowercase"),
            ("[buckets.shared]\nrepairs = \"copy\"", "repairs"),
            ("[buckets.a.b]\nrepair = \"copy\"", "unknown field"),
            ("[buckets.shared]", "repair"),
        ] {
            assert!(read(wrong).unwrap_err().to_string().contains(part), "{wrong}");
        }
    }

    #[test]
    fn the_partitions_of_a_bucket_are_in_their_order() {
        let read = |keys: &str| {
            let text = format!("repair = \"copy\"\n[buckets.shared]\nrepair = \"copy\"\npartitions = {keys}");
            toml::from_str::<Artifacts>(&text)
        };
        let artifacts = read(r#"["shop/", "app/", "shop/"]"#).unwrap();
        assert_eq!(artifacts.partitions("shared"), ["app/", "shop/"]);
        assert_eq!(artifacts.partitions("other"), [""; 0]);
        assert!(read(r#"["shop/", ""]"#).unwrap_err().to_string().contains("an empty key"));
    }

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
