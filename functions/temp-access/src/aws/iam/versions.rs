//! The versions of a managed policy.

use aws_sdk_iam::config::retry::RetryConfig;
use time::OffsetDateTime;

use super::{ErrorKind, Iam, IamError, attempts, decoded, found};

/// The text of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VersionText {
    pub(crate) document: String,
    /// When the version was written, if IAM says it.
    pub(crate) created: Option<OffsetDateTime>,
}

impl Iam {
    /// The number of the version that is in force.
    pub(crate) async fn default_version(&self, policy: &str) -> Result<u64, IamError> {
        let answer = self.client.get_policy().policy_arn(policy).send().await;
        let answer = answer.map_err(|error| IamError::new("GetPolicy", error))?;
        let version = answer.policy.and_then(|policy| number(policy.default_version_id.as_deref()));
        version.ok_or_else(|| IamError::unanswered("GetPolicy"))
    }

    /// The text of a version; `None` if IAM shows no such version.
    pub(crate) async fn version(&self, policy: &str, version: u64) -> Result<Option<VersionText>, IamError> {
        let answer = self.client.get_policy_version().policy_arn(policy).version_id(format!("v{version}"));
        let answer = answer.send().await.map_err(|error| IamError::new("GetPolicyVersion", error));
        found(answer.map(|answer| {
            let version = answer.policy_version?;
            let created = version.create_date.and_then(|at| OffsetDateTime::from_unix_timestamp(at.secs()).ok());
            Some(VersionText { document: decoded(&version.document?), created })
        }))
    }

    /// Writes a version and puts it in force. Returns its number. A policy has at most five versions, so the oldest one
    /// is deleted if there is no room.
    pub(crate) async fn write_version(&self, policy: &str, document: &str) -> Result<u64, IamError> {
        let create = async || attempts(async || self.create_version(policy, document).await).await;
        match create().await {
            Err(error) if error.kind == ErrorKind::TooLarge => {
                let room = self.delete_oldest_version(policy).await;
                let created = match room {
                    Ok(()) => create().await,
                    Err(error) => Err(error),
                };
                created.map_err(|last| if error.may_have_taken_effect() { last.in_doubt() } else { last })
            }
            other => other,
        }
    }

    async fn create_version(&self, policy: &str, document: &str) -> Result<u64, IamError> {
        let create = self.client.create_policy_version().policy_arn(policy).policy_document(document);
        let once = aws_sdk_iam::Config::builder().retry_config(RetryConfig::disabled());
        let answer = create.set_as_default(true).customize().config_override(once).send().await;
        let answer = answer.map_err(|error| IamError::new("CreatePolicyVersion", error))?;
        let version = answer.policy_version.and_then(|version| number(version.version_id.as_deref()));
        version.ok_or_else(|| IamError::unanswered("CreatePolicyVersion"))
    }

    async fn delete_oldest_version(&self, policy: &str) -> Result<(), IamError> {
        let versions = self.versions(policy).await?;
        match versions.iter().filter(|(_, is_default)| !is_default).map(|(number, _)| *number).min() {
            Some(oldest) => self.delete_version(policy, oldest).await,
            None => Ok(()),
        }
    }

    /// The number of the version that is in force, and that of the newest version, at one moment.
    pub(crate) async fn default_and_newest(&self, policy: &str) -> Result<(u64, u64), IamError> {
        let versions = self.versions(policy).await?;
        let default = versions.iter().find(|(_, is_default)| *is_default);
        let both = default.zip(versions.iter().max()).map(|((default, _), (newest, _))| (*default, *newest));
        both.ok_or_else(|| IamError::unanswered("ListPolicyVersions"))
    }

    /// The numbers of all versions, and whether each is in force.
    async fn versions(&self, policy: &str) -> Result<Vec<(u64, bool)>, IamError> {
        let answer = self.client.list_policy_versions().policy_arn(policy).send().await;
        let versions = answer.map_err(|error| IamError::new("ListPolicyVersions", error))?.versions;
        let numbered = versions.unwrap_or_default().into_iter();
        let numbered = numbered.filter_map(|one| Some((number(one.version_id.as_deref())?, one.is_default_version)));
        Ok(numbered.collect())
    }

    /// Deletes a version that is not in force. It is no error if there is none.
    pub(crate) async fn delete_version(&self, policy: &str, version: u64) -> Result<(), IamError> {
        let delete = self.client.delete_policy_version().policy_arn(policy).version_id(format!("v{version}"));
        let deleted = delete.send().await.map(|_| Some(()));
        found(deleted.map_err(|error| IamError::new("DeletePolicyVersion", error))).map(drop)
    }
}

fn number(version: Option<&str>) -> Option<u64> {
    version?.strip_prefix('v')?.parse().ok()
}
