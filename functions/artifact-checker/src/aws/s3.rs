//! S3: reads objects and their metadata, and updates the key of an object in place.
//!
//! Every call names the bucket's expected owner, so that S3 refuses a bucket that was deleted and recreated by somebody
//! else.

pub(crate) mod access;
pub(crate) mod copy;
pub(crate) mod list;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Credentials;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::{
    ArchiveStatus, ChecksumMode, Grant, ObjectEncryption, ObjectLockEventHold, ObjectLockLegalHoldStatus, Permission,
    ServerSideEncryption, ServerSideEncryptionRule, SsekmsEncryption, StorageClass,
};
use sekisho_lambda::ServiceError;

use crate::aws::service_error;
use crate::key::KeyArn;
use crate::object::{Encryption, ObjectFacts, ObjectId};

const READ: &str = "s3:GetObject";
const UPDATE: &str = "s3:UpdateObjectEncryption";

/// The answer to a HEAD request.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) facts: ObjectFacts,
    /// The whole answer, from which a copy takes the properties that S3 would drop.
    pub(crate) output: HeadObjectOutput,
}

/// The result of a write that S3 answered.
#[derive(Debug)]
pub(crate) enum WriteResult {
    /// The object was written. The value is the written version, or `None` in a bucket without versioning.
    Written(Option<String>),
    /// Nothing was written, because the object changed after its metadata was read.
    ObjectChanged,
    /// Nothing was written, and the same write would be refused again.
    Refused(ServiceError),
}

impl WriteResult {
    /// Converts the error of a failed write into a result, if the error is final. A temporary error stays an error,
    /// because S3 may have written the object.
    pub(crate) fn of_error(error: ServiceError) -> Result<Self, ServiceError> {
        match error.status {
            _ if !error.is_refused() => Err(error),
            // If the object was deleted, S3 answers a conditional write with 404.
            Some(404 | 412) => Ok(Self::ObjectChanged),
            _ => Ok(Self::Refused(error)),
        }
    }

    fn of_sdk_error<E>(operation: &'static str, error: SdkError<E, HttpResponse>) -> Result<Self, ServiceError>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        Self::of_error(service_error(operation, error))
    }
}

/// S3, for the buckets of one account.
#[derive(Debug, Clone)]
pub(crate) struct S3 {
    client: Client,
    /// The account that must own every bucket.
    owner: String,
}

impl S3 {
    pub(crate) fn new(client: Client, owner: impl Into<String>) -> Self {
        Self { client, owner: owner.into() }
    }

    /// Returns the same S3 with other credentials.
    pub(crate) fn with_credentials(&self, credentials: Credentials) -> Self {
        let config = self.client.config().to_builder().credentials_provider(credentials).build();
        Self::new(Client::from_conf(config), self.owner.clone())
    }

    /// Reads an object's metadata with a HEAD request. If `checksum` is `true`, S3 adds the object's checksum, but
    /// requires permission to decrypt the object.
    pub(crate) async fn head(&self, object: &ObjectId, checksum: bool) -> Result<Head, ServiceError> {
        let output = self
            .client
            .head_object()
            .bucket(&object.bucket)
            .key(&object.key)
            .set_version_id(object.version.clone())
            .set_checksum_mode(checksum.then_some(ChecksumMode::Enabled))
            .expected_bucket_owner(&self.owner)
            .send()
            .await
            .map_err(|error| service_error("s3:HeadObject", error))?;
        Ok(Head { facts: facts(&output), output })
    }

    /// Reads one byte and returns the object's encryption. Unlike a HEAD, a read uses the key. If `seen` is set, S3
    /// refuses the read unless the object still has the version and the content in `seen`.
    pub(crate) async fn read(&self, object: &ObjectId, seen: Option<&ObjectFacts>) -> Result<Encryption, ServiceError> {
        let version = seen.and_then(|facts| facts.version.clone()).or_else(|| object.version.clone());
        // S3 refuses every range of an empty object, so the request has no range.
        let is_empty = seen.is_some_and(|facts| facts.size == 0);
        let answer = self
            .client
            .get_object()
            .bucket(&object.bucket)
            .key(&object.key)
            .set_version_id(version)
            .set_if_match(seen.map(|facts| facts.etag.clone()))
            .set_range((!is_empty).then(|| "bytes=0-0".to_owned()))
            .expected_bucket_owner(&self.owner)
            .send()
            .await
            .map_err(|error| service_error(READ, error))?;
        let encryption = encryption(answer.server_side_encryption.as_ref(), answer.ssekms_key_id.as_deref());
        // The headers do not prove that the byte can be read: after an error in S3, the body ends early.
        match answer.body.collect().await {
            Ok(_) => Ok(encryption),
            Err(error) => Err(ServiceError::unexpected(READ, error)),
        }
    }

    /// Puts a version under another key, in place, with or without the S3 Bucket Key. S3 supports no precondition for
    /// this request, so the request always names the version.
    pub(crate) async fn update(
        &self,
        object: &ObjectId,
        head: &Head,
        key: &KeyArn,
        bucket_key: Option<bool>,
    ) -> Result<WriteResult, ServiceError> {
        let version = head.facts.version.clone().or_else(|| object.version.clone());
        let kms = SsekmsEncryption::builder()
            .kms_key_arn(key.as_str())
            .set_bucket_key_enabled(bucket_key)
            .build()
            .map_err(|error| ServiceError::unexpected(UPDATE, error))?;
        let answer = self
            .client
            .update_object_encryption()
            .bucket(&object.bucket)
            .key(&object.key)
            .version_id(version.clone().unwrap_or_else(|| "null".to_owned()))
            .object_encryption(ObjectEncryption::Ssekms(kms))
            .expected_bucket_owner(&self.owner)
            .send()
            .await;
        match answer {
            Ok(_) => Ok(WriteResult::Written(version)),
            Err(error) => WriteResult::of_sdk_error(UPDATE, error),
        }
    }

    /// The name of the key in the bucket's default encryption; `None` if the default is S3's own key or `aws/s3`.
    pub(crate) async fn default_key(&self, bucket: &str) -> Result<Option<String>, ServiceError> {
        let rules = self.default_encryption(bucket).await?;
        Ok(rules.into_iter().find_map(|rule| rule.apply_server_side_encryption_by_default?.kms_master_key_id))
    }

    /// Whether S3 uses the S3 Bucket Key for a write that does not say so.
    pub(crate) async fn default_bucket_key(&self, bucket: &str) -> Result<bool, ServiceError> {
        let rules = self.default_encryption(bucket).await?;
        Ok(rules.into_iter().any(|rule| rule.bucket_key_enabled == Some(true)))
    }

    async fn default_encryption(&self, bucket: &str) -> Result<Vec<ServerSideEncryptionRule>, ServiceError> {
        let answer = self.client.get_bucket_encryption().bucket(bucket).expected_bucket_owner(&self.owner).send().await;
        match answer {
            Ok(output) => Ok(output.server_side_encryption_configuration.map(|found| found.rules).unwrap_or_default()),
            Err(error) => {
                let error = service_error("s3:GetBucketEncryption", error);
                match error.code() {
                    Some("ServerSideEncryptionConfigurationNotFoundError") => Ok(Vec::new()),
                    _ => Err(error),
                }
            }
        }
    }

    /// Whether a version has annotations.
    pub(crate) async fn has_annotations(&self, object: &ObjectId, facts: &ObjectFacts) -> Result<bool, ServiceError> {
        let answer = self
            .client
            .list_object_annotations()
            .bucket(&object.bucket)
            .key(&object.key)
            .set_version_id(facts.version.clone())
            .expected_bucket_owner(&self.owner)
            .send()
            .await;
        Ok(!answer.map_err(|error| service_error("s3:ListObjectAnnotations", error))?.annotations().is_empty())
    }

    /// Whether a version's ACL says anything but that its owner may do everything.
    pub(crate) async fn has_grants(&self, object: &ObjectId, facts: &ObjectFacts) -> Result<bool, ServiceError> {
        let answer = self
            .client
            .get_object_acl()
            .bucket(&object.bucket)
            .key(&object.key)
            .set_version_id(facts.version.clone())
            .expected_bucket_owner(&self.owner)
            .send()
            .await
            .map_err(|error| service_error("s3:GetObjectAcl", error))?;
        let owner = answer.owner.and_then(|owner| owner.id);
        let is_of_owner = |grant: &Grant| {
            grant.permission == Some(Permission::FullControl)
                && grant.grantee.as_ref().is_some_and(|grantee| grantee.id == owner)
        };
        Ok(!answer.grants.unwrap_or_default().iter().all(is_of_owner))
    }
}

fn encryption(kind: Option<&ServerSideEncryption>, key: Option<&str>) -> Encryption {
    let key = || key.unwrap_or_default().to_owned();
    match kind {
        None | Some(ServerSideEncryption::Aes256) => Encryption::S3Managed,
        Some(ServerSideEncryption::AwsKms) => Encryption::Kms(key()),
        Some(ServerSideEncryption::AwsKmsDsse) => Encryption::DualLayer(key()),
        Some(other) => Encryption::Other(other.as_str().to_owned()),
    }
}

fn facts(output: &HeadObjectOutput) -> ObjectFacts {
    let in_archive = matches!(output.storage_class, Some(StorageClass::Glacier | StorageClass::DeepArchive))
        || matches!(output.archive_status, Some(ArchiveStatus::ArchiveAccess | ArchiveStatus::DeepArchiveAccess));
    let is_restored = output.restore.as_deref().is_some_and(|restore| restore.contains(r#"ongoing-request="false""#));
    let is_locked = output.object_lock_mode.is_some()
        || output.object_lock_legal_hold_status == Some(ObjectLockLegalHoldStatus::On)
        || output.object_lock_event_hold == Some(ObjectLockEventHold::On);
    ObjectFacts {
        encryption: encryption(output.server_side_encryption.as_ref(), output.ssekms_key_id.as_deref()),
        etag: output.e_tag.clone().unwrap_or_default(),
        version: output.version_id.clone(),
        size: output.content_length.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
        is_archived: in_archive && !is_restored,
        is_locked,
    }
}

/// Whether a copy enables the S3 Bucket Key. An object under a KMS key keeps its setting, an object under S3's own key
/// gets the bucket's setting, and dual-layer encryption has no S3 Bucket Key.
pub(crate) fn bucket_key(head: &Head) -> Option<bool> {
    match head.facts.encryption {
        Encryption::Kms(_) => Some(head.output.bucket_key_enabled.unwrap_or(false)),
        Encryption::S3Managed | Encryption::DualLayer(_) | Encryption::Other(_) => None,
    }
}
