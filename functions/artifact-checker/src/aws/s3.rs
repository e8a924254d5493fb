//! S3: reads objects and their metadata, and updates the key of an object in place.
//!
//! Every call names the bucket's expected owner, so that S3 refuses a bucket that was deleted and recreated by somebody
//! else.

pub(crate) mod access;
mod bytes;
pub(crate) mod copy;
pub(crate) mod head;
pub(crate) mod list;

use std::rc::Rc;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Credentials;
use aws_sdk_s3::config::endpoint::ParamsBuilder;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::{
    ArchiveStatus, ChecksumMode, Grant, ObjectEncryption, ObjectLockEventHold, ObjectLockLegalHoldStatus, Permission,
    ServerSideEncryption, ServerSideEncryptionRule, SsekmsEncryption, StorageClass,
};
use sekisho_lambda::ServiceError;
use sekisho_lambda::head::HeadClient;

use crate::aws::s3::head::Heads;
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
    /// Sends the HEAD requests; `None` if the client sends them.
    heads: Option<Rc<Heads>>,
    /// The account that must own every bucket.
    owner: String,
}

impl S3 {
    pub(crate) fn new(client: Client, owner: impl Into<String>) -> Self {
        Self { client, heads: None, owner: owner.into() }
    }

    /// The same S3, which reads the facts about objects with this client, if there is one. `endpoint` is what the
    /// endpoints of all buckets have in common.
    pub(crate) fn with_heads(self, client: Option<&Rc<HeadClient>>, endpoint: &ParamsBuilder) -> Self {
        let heads = client.map(|client| Rc::new(Heads::new(Rc::clone(client), endpoint.clone())));
        Self { heads, ..self }
    }

    /// Returns the same S3 with other credentials.
    pub(crate) fn with_credentials(&self, credentials: Credentials) -> Self {
        let config = self.client.config().to_builder().credentials_provider(credentials).build();
        Self::new(Client::from_conf(config), self.owner.clone())
    }

    /// Reads with a HEAD request what decides whether an object is under the right key.
    pub(crate) async fn facts(&self, object: &ObjectId) -> Result<ObjectFacts, ServiceError> {
        match &self.heads {
            Some(heads) => Ok(facts(&heads.send(object, &self.owner).await?)),
            None => Ok(Box::pin(self.head(object, false)).await?.facts),
        }
    }

    /// Reads all of an object's metadata with a HEAD request. If `checksum` is `true`, S3 adds the object's checksum, but
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
        facts: &ObjectFacts,
        key: &KeyArn,
        bucket_key: Option<bool>,
    ) -> Result<WriteResult, ServiceError> {
        let version = facts.version.clone().or_else(|| object.version.clone());
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
        has_bucket_key: output.bucket_key_enabled.unwrap_or(false),
    }
}

/// Whether a copy enables the S3 Bucket Key. An object under a KMS key keeps its setting, an object under S3's own key
/// gets the bucket's setting, and dual-layer encryption has no S3 Bucket Key.
pub(crate) fn bucket_key(facts: &ObjectFacts) -> Option<bool> {
    match facts.encryption {
        Encryption::Kms(_) => Some(facts.has_bucket_key),
        Encryption::S3Managed | Encryption::DualLayer(_) | Encryption::Other(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use aws_sdk_s3::config::Builder;
    use aws_sdk_s3::config::retry::RetryConfig;
    use aws_smithy_runtime_api::client::http::{
        HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
    };
    use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
    use aws_smithy_types::body::SdkBody;
    use sekisho_lambda::aws::SdkConfig;

    use super::*;
    use crate::aws::Clients;

    /// Answers each request with the same status and headers, and keeps the requests.
    #[derive(Debug, Clone, Default)]
    struct Wire {
        status: u16,
        headers: Vec<(&'static str, &'static str)>,
        requests: Arc<Mutex<Vec<HttpRequest>>>,
    }

    impl HttpConnector for Wire {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            self.requests.lock().unwrap().push(request);
            let mut response = HttpResponse::new(self.status.try_into().unwrap(), SdkBody::empty());
            for (name, value) in &self.headers {
                response.headers_mut().insert(*name, *value);
            }
            HttpConnectorFuture::ready(Ok(response))
        }
    }

    impl Wire {
        fn aws(&self) -> SdkConfig {
            let variables = [("AWS_REGION", "eu-west-1"), ("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "s")];
            let connector = SharedHttpConnector::new(self.clone());
            let aws = sekisho_lambda::aws::load(&variables.into_iter().collect()).into_builder();
            aws.http_client(http_client_fn(move |_, _| connector.clone())).build()
        }

        /// Reads the facts with the SDK's client and with [`Heads`].
        async fn facts(&self, path_style: bool, object: &ObjectId) -> [Result<ObjectFacts, ServiceError>; 2] {
            let aws = self.aws();
            let config = Builder::from(&aws).force_path_style(path_style).retry_config(RetryConfig::disabled());
            let sdk = S3::new(Client::from_conf(config.build()), "222222222222");
            let clients = Clients::new(&aws, path_style, "topic");
            let heads = sdk.clone().with_heads(clients.head_client.as_ref(), &clients.s3_endpoint);
            assert!(heads.heads.is_some());
            [sdk.facts(object).await, heads.facts(object).await]
        }
    }

    fn object(bucket: &str, key: &str, version: Option<&str>) -> ObjectId {
        ObjectId { bucket: bucket.into(), key: key.into(), version: version.map(str::to_owned) }
    }

    #[tokio::test]
    async fn a_head_goes_to_the_url_to_which_the_sdk_sends_it() {
        let names = [("shop/a.zip", None), ("a b+c?d&é関/\u{1}%*'()~", Some("3/L4+k=")), ("//x/../y", Some("null"))];
        for (bucket, path_style) in [("plain", false), ("with.dots", false), ("Legacy_Name", false), ("plain", true)] {
            for (key, version) in names {
                let wire = Wire { status: 200, ..Wire::default() };
                let [sdk, heads] = wire.facts(path_style, &object(bucket, key, version)).await;
                assert_eq!(sdk.unwrap(), heads.unwrap());
                let requests = wire.requests.lock().unwrap();
                let [sdk, heads] = requests.as_slice() else { panic!("one attempt of each") };
                assert_eq!(sdk.uri(), heads.uri());
                assert_eq!(sdk.method(), heads.method());
                for header in ["x-amz-expected-bucket-owner", "x-amz-content-sha256"] {
                    assert_eq!(sdk.headers().get(header), heads.headers().get(header), "{header}");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_head_shows_the_facts_that_the_sdk_shows() {
        let answers: [&[(&str, &str)]; 9] = [
            &[("etag", "\"e\""), ("content-length", "5"), ("x-amz-version-id", "v")],
            &[("x-amz-server-side-encryption", "AES256"), ("content-length", "5368709121")],
            &[
                ("x-amz-server-side-encryption", "aws:kms"),
                ("x-amz-server-side-encryption-aws-kms-key-id", "k"),
                ("x-amz-server-side-encryption-bucket-key-enabled", "true"),
            ],
            &[("x-amz-server-side-encryption", "aws:kms:dsse"), ("x-amz-server-side-encryption-aws-kms-key-id", "k")],
            &[("x-amz-server-side-encryption", "new"), ("x-amz-server-side-encryption-bucket-key-enabled", "false")],
            &[("x-amz-storage-class", "GLACIER"), ("x-amz-object-lock-mode", "COMPLIANCE")],
            &[
                ("x-amz-storage-class", "DEEP_ARCHIVE"),
                ("x-amz-restore", "ongoing-request=\"false\""),
                ("x-amz-object-lock-legal-hold", "ON"),
            ],
            &[("x-amz-archive-status", "ARCHIVE_ACCESS")],
            &[("x-amz-object-lock-event-hold", "ON"), ("content-length", "7")],
        ];
        let mut seen = Vec::new();
        for headers in answers {
            let wire = Wire { status: 200, headers: headers.to_vec(), ..Wire::default() };
            let [sdk, heads] = wire.facts(false, &object("bucket", "k", None)).await;
            let sdk = sdk.unwrap();
            assert_eq!(sdk, heads.unwrap(), "{headers:?}");
            assert!(!seen.contains(&sdk), "each answer shows other facts: {headers:?}");
            seen.push(sdk);
        }
    }

    #[tokio::test]
    async fn a_refused_head_is_the_error_that_the_sdk_makes_of_it() {
        for status in [301, 400, 403, 404, 405, 412, 429, 500, 501, 503] {
            let wire = Wire { status, ..Wire::default() };
            let [sdk, heads] = wire.facts(false, &object("bucket", "k", None)).await;
            let shown = |error: ServiceError| (error.operation.clone(), error.kind, error.code.clone(), error.status);
            assert_eq!(shown(sdk.unwrap_err()), shown(heads.unwrap_err()), "{status}");
        }
    }
}
