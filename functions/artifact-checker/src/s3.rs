//! S3: looking at an object, proving that it can be read, putting it under another key.
//!
//! Every call says whose the bucket must be, so that a bucket that was deleted and taken by somebody else is refused.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::{
    ArchiveStatus, ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart,
    EncodingType, ObjectEncryption, ObjectLockEventHold, ObjectLockLegalHoldStatus, ServerSideEncryption,
    SsekmsEncryption, StorageClass,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::answer::{Refusal, Said, Unanswered};
use crate::key::KeyArn;
use crate::object::{Listed, Page, Position, Target};
use crate::repair::ranges;
use crate::sdk::refusal;
use crate::verdict::{Encryption, Facts};

/// All but what RFC 3986 leaves as it is, and the slash between bucket, folders and name.
const COPY_SOURCE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');
const TAG: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// S3 answers a copy when it is done: up to 5 GiB, at some 100 MB a second.
const COPY_TIME: Duration = Duration::from_mins(4);
/// Part copies in flight for one object.
const PARTS_AT_ONCE: usize = 8;

/// What a HEAD found.
#[derive(Debug)]
pub struct Head {
    /// What is decided on.
    pub facts: Facts,
    /// All of it, for a copy.
    pub output: HeadObjectOutput,
}

/// What became of a write.
#[derive(Debug)]
pub enum Wrote {
    /// Done: as this version, where it is a new one.
    Version(Option<String>),
    /// Not done: the object is not what it was when it was looked at.
    Changed,
    /// Not done, and it will not be.
    Refused(Said),
}

/// Reads and writes objects of one account's buckets.
#[derive(Debug, Clone)]
pub struct S3 {
    client: Client,
    owner: String,
}

impl S3 {
    /// `owner` is the account whose buckets they are.
    #[must_use]
    pub fn new(client: Client, owner: impl Into<String>) -> Self {
        Self { client, owner: owner.into() }
    }

    /// Looks at an object. `checksum` asks for the checksum too, which S3 shows only to who may decrypt.
    ///
    /// # Errors
    /// Where S3 did not show it.
    pub async fn head(&self, target: &Target, checksum: bool) -> Result<Head, Refusal> {
        let output = self
            .client
            .head_object()
            .bucket(&target.bucket)
            .key(&target.key)
            .set_version_id(target.version.clone())
            .set_checksum_mode(checksum.then_some(ChecksumMode::Enabled))
            .expected_bucket_owner(&self.owner)
            .send()
            .await
            .map_err(|error| refusal("s3:HeadObject", error))?;
        Ok(Head { facts: facts(&output), output })
    }

    /// Reads one byte, which takes the key's leave where a HEAD does not, and tells what it was encrypted by; of exactly
    /// what was looked at, where that is given.
    ///
    /// # Errors
    /// Where S3 did not give it.
    pub async fn read(&self, target: &Target, looked_at: Option<&Facts>) -> Result<Encryption, Refusal> {
        let version = looked_at.and_then(|facts| facts.version.clone()).or_else(|| target.version.clone());
        // No range of an empty object can be satisfied.
        let is_empty = looked_at.is_some_and(|facts| facts.size == 0);
        let answer = self
            .client
            .get_object()
            .bucket(&target.bucket)
            .key(&target.key)
            .set_version_id(version)
            .set_if_match(looked_at.map(|facts| facts.etag.clone()))
            .set_range((!is_empty).then(|| "bytes=0-0".to_owned()))
            .expected_bucket_owner(&self.owner)
            .send()
            .await
            .map_err(|error| refusal("s3:GetObject", error))?;
        let encryption = encryption(answer.server_side_encryption.as_ref(), answer.ssekms_key_id.as_deref());
        // The headers are not the byte: an error after them ends the body early.
        match answer.body.collect().await {
            Ok(_) => Ok(encryption),
            Err(source) => {
                Err(Refusal::Later(Unanswered { operation: "s3:GetObject", throttled: false, source: source.into() }))
            }
        }
    }

    /// Puts a version under another key, in place. It has no precondition, so that the version is always named.
    ///
    /// # Errors
    /// Where S3 did not answer; whether it was done is then unknown.
    pub async fn update(&self, target: &Target, head: &Head, key: &KeyArn) -> Result<Wrote, Unanswered> {
        let version = head.facts.version.clone().or_else(|| target.version.clone());
        let kms = SsekmsEncryption::builder()
            .kms_key_arn(key.as_str())
            .set_bucket_key_enabled(bucket_key(head))
            .build()
            .map_err(|source| Unanswered {
                operation: "s3:UpdateObjectEncryption",
                throttled: false,
                source: source.into(),
            })?;
        let answer = self
            .client
            .update_object_encryption()
            .bucket(&target.bucket)
            .key(&target.key)
            .version_id(version.clone().unwrap_or_else(|| "null".to_owned()))
            .object_encryption(ObjectEncryption::Ssekms(kms))
            .expected_bucket_owner(&self.owner)
            .send()
            .await;
        match answer {
            Ok(_) => Ok(Wrote::Version(version)),
            Err(error) => wrote(refusal("s3:UpdateObjectEncryption", error)),
        }
    }

    /// Copies the latest version onto itself under another key, if it is still what `head` found.
    ///
    /// Metadata, tags and checksum are copied by S3; it drops storage class and redirect unless they are sent again.
    /// The source is named without a version, and the destination must have the entity tag too: what is not the latest can't
    /// become it, whatever is written meanwhile.
    ///
    /// # Errors
    /// Where S3 did not answer; whether it was done is then unknown.
    pub async fn copy(&self, target: &Target, head: &Head, key: &KeyArn) -> Result<Wrote, Unanswered> {
        let etag = &head.facts.etag;
        let answer = self
            .client
            .copy_object()
            .bucket(&target.bucket)
            .key(&target.key)
            .copy_source(copy_source(target))
            .copy_source_if_match(etag)
            .if_match(etag)
            .server_side_encryption(layers(head))
            .ssekms_key_id(key.as_str())
            .set_bucket_key_enabled(bucket_key(head))
            .set_storage_class(head.output.storage_class.clone())
            .set_website_redirect_location(head.output.website_redirect_location.clone())
            .set_checksum_algorithm(checksum(&head.output))
            .expected_bucket_owner(&self.owner)
            .expected_source_bucket_owner(&self.owner)
            .customize()
            .config_override(patiently())
            .send()
            .await;
        match answer {
            Ok(output) => Ok(Wrote::Version(output.version_id)),
            Err(error) => wrote(refusal("s3:CopyObject", error)),
        }
    }

    /// [`S3::copy`] for what is too large for one. An upload takes nothing over by itself, so that all is sent again.
    ///
    /// # Errors
    /// Where S3 did not answer; whether it was done is then unknown.
    pub async fn copy_in_parts(
        &self,
        target: &Target,
        head: &Head,
        key: &KeyArn,
        part: u64,
    ) -> Result<Wrote, Unanswered> {
        let tagging = match self.tagging(target, head).await {
            Ok(tagging) => tagging,
            Err(refused) => return wrote(refused),
        };
        let was = &head.output;
        let created = self
            .client
            .create_multipart_upload()
            .bucket(&target.bucket)
            .key(&target.key)
            .server_side_encryption(layers(head))
            .ssekms_key_id(key.as_str())
            .set_bucket_key_enabled(bucket_key(head))
            .set_storage_class(was.storage_class.clone())
            .set_website_redirect_location(was.website_redirect_location.clone())
            .set_checksum_algorithm(checksum(was))
            .set_checksum_type(checksum_type(was))
            .set_metadata(was.metadata.clone())
            .set_content_type(was.content_type.clone())
            .set_content_encoding(was.content_encoding.clone())
            .set_content_language(was.content_language.clone())
            .set_content_disposition(was.content_disposition.clone())
            .set_cache_control(was.cache_control.clone())
            .set_expires(was.expires_string.as_deref().and_then(http_date))
            .set_tagging(tagging)
            .expected_bucket_owner(&self.owner)
            .send()
            .await;
        let upload = match created {
            Ok(output) => output.upload_id.unwrap_or_default(),
            Err(error) => return wrote(refusal("s3:CreateMultipartUpload", error)),
        };
        let done = match self.copy_parts(target, head, &upload, part).await {
            Ok(parts) => self.complete(target, head, &upload, parts).await,
            Err(refused) => Err(refused),
        };
        match done {
            Ok(version) => Ok(Wrote::Version(version)),
            Err(refused) => {
                // What can't be tidied up, the bucket's lifecycle rule does after a week.
                let aborted = self.client.abort_multipart_upload().bucket(&target.bucket).key(&target.key);
                let _ = aborted.upload_id(upload).expected_bucket_owner(&self.owner).send().await;
                wrote(refused)
            }
        }
    }

    async fn copy_parts(
        &self,
        target: &Target,
        head: &Head,
        upload: &str,
        part: u64,
    ) -> Result<Vec<CompletedPart>, Refusal> {
        let copies = (1..).zip(ranges(head.facts.size, part)).map(async |(number, (first, last))| {
            let output = self
                .client
                .upload_part_copy()
                .bucket(&target.bucket)
                .key(&target.key)
                .upload_id(upload)
                .part_number(number)
                .copy_source(copy_source(target))
                .copy_source_range(format!("bytes={first}-{last}"))
                .copy_source_if_match(&head.facts.etag)
                .expected_bucket_owner(&self.owner)
                .expected_source_bucket_owner(&self.owner)
                .customize()
                .config_override(patiently())
                .send()
                .await
                .map_err(|error| refusal("s3:UploadPartCopy", error))?;
            let copied =
                output.copy_part_result.unwrap_or_else(|| aws_sdk_s3::types::CopyPartResult::builder().build());
            Ok(CompletedPart::builder()
                .part_number(number)
                .set_e_tag(copied.e_tag)
                .set_checksum_crc32(copied.checksum_crc32)
                .set_checksum_crc32_c(copied.checksum_crc32_c)
                .set_checksum_crc64_nvme(copied.checksum_crc64_nvme)
                .set_checksum_sha1(copied.checksum_sha1)
                .set_checksum_sha256(copied.checksum_sha256)
                .build())
        });
        stream::iter(copies).buffered(PARTS_AT_ONCE).try_collect().await
    }

    async fn complete(
        &self,
        target: &Target,
        head: &Head,
        upload: &str,
        parts: Vec<CompletedPart>,
    ) -> Result<Option<String>, Refusal> {
        let output = self
            .client
            .complete_multipart_upload()
            .bucket(&target.bucket)
            .key(&target.key)
            .upload_id(upload)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .if_match(&head.facts.etag)
            .expected_bucket_owner(&self.owner)
            .customize()
            .config_override(patiently())
            .send()
            .await
            .map_err(|error| refusal("s3:CompleteMultipartUpload", error))?;
        Ok(output.version_id)
    }

    /// A page of up to 1,000 objects after a position: the latest versions, or all.
    ///
    /// # Errors
    /// Where S3 did not list them.
    pub async fn list(&self, bucket: &str, versions: bool, after: Option<&Position>) -> Result<Page, Refusal> {
        if versions { self.list_versions(bucket, after).await } else { self.list_latest(bucket, after).await }
    }

    async fn list_latest(&self, bucket: &str, after: Option<&Position>) -> Result<Page, Refusal> {
        let output = self
            .client
            .list_objects_v2()
            .bucket(bucket)
            // XML can't write every character that a key may have.
            .encoding_type(EncodingType::Url)
            .set_start_after(after.map(|position| position.key.clone()))
            .expected_bucket_owner(&self.owner)
            .send()
            .await
            .map_err(|error| refusal("s3:ListObjectsV2", error))?;
        let keys = output.contents.unwrap_or_default().into_iter().filter_map(|object| object.key);
        let objects: Vec<Listed> = keys.map(|key| Listed { key: decoded(&key), version: None, latest: true }).collect();
        let more = output.is_truncated.unwrap_or(false);
        let end = objects.last().filter(|_| more).map(|last| Position { key: last.key.clone(), version: None });
        Ok(Page { objects, end })
    }

    async fn list_versions(&self, bucket: &str, after: Option<&Position>) -> Result<Page, Refusal> {
        let output = self
            .client
            .list_object_versions()
            .bucket(bucket)
            .encoding_type(EncodingType::Url)
            .set_key_marker(after.map(|position| position.key.clone()))
            .set_version_id_marker(after.and_then(|position| position.version.clone()))
            .expected_bucket_owner(&self.owner)
            .send()
            .await
            .map_err(|error| refusal("s3:ListObjectVersions", error))?;
        let versions = output.versions.unwrap_or_default().into_iter();
        let objects = versions
            .filter_map(|version| {
                Some(Listed {
                    key: decoded(version.key.as_deref()?),
                    version: version.version_id,
                    latest: version.is_latest.unwrap_or(false),
                })
            })
            .collect();
        let end = output
            .next_key_marker
            .filter(|_| output.is_truncated.unwrap_or(false))
            .map(|key| Position { key: decoded(&key), version: output.next_version_id_marker });
        Ok(Page { objects, end })
    }

    /// The name of the key that the bucket gives to what is written without one; none where that is S3's own or
    /// `aws/s3`.
    ///
    /// # Errors
    /// Where S3 did not tell.
    pub async fn default_key(&self, bucket: &str) -> Result<Option<String>, Refusal> {
        let answer = self.client.get_bucket_encryption().bucket(bucket).expected_bucket_owner(&self.owner).send().await;
        let rules = match answer {
            Ok(output) => output.server_side_encryption_configuration.map(|found| found.rules).unwrap_or_default(),
            Err(error) => match refusal("s3:GetBucketEncryption", error) {
                Refusal::Said(said)
                    if said.code.as_deref() == Some("ServerSideEncryptionConfigurationNotFoundError") =>
                {
                    Vec::new()
                }
                refused => return Err(refused),
            },
        };
        Ok(rules.into_iter().find_map(|rule| rule.apply_server_side_encryption_by_default?.kms_master_key_id))
    }

    async fn tagging(&self, target: &Target, head: &Head) -> Result<Option<String>, Refusal> {
        if head.output.tag_count.unwrap_or(0) == 0 {
            return Ok(None);
        }
        let answer = self
            .client
            .get_object_tagging()
            .bucket(&target.bucket)
            .key(&target.key)
            .set_version_id(head.facts.version.clone())
            .expected_bucket_owner(&self.owner)
            .send()
            .await
            .map_err(|error| refusal("s3:GetObjectTagging", error))?;
        let encode = |text: &str| utf8_percent_encode(text, TAG).to_string();
        let pairs: Vec<String> =
            answer.tag_set.iter().map(|tag| format!("{}={}", encode(&tag.key), encode(&tag.value))).collect();
        Ok(Some(pairs.join("&")))
    }
}

/// As S3's headers say it.
fn encryption(kind: Option<&ServerSideEncryption>, key: Option<&str>) -> Encryption {
    let key = || key.unwrap_or_default().to_owned();
    match kind {
        None | Some(ServerSideEncryption::Aes256) => Encryption::OfS3,
        Some(ServerSideEncryption::AwsKms) => Encryption::Kms(key()),
        Some(ServerSideEncryption::AwsKmsDsse) => Encryption::Dual(key()),
        Some(other) => Encryption::Other(other.as_str().to_owned()),
    }
}

fn facts(output: &HeadObjectOutput) -> Facts {
    let in_archive = matches!(output.storage_class, Some(StorageClass::Glacier | StorageClass::DeepArchive))
        || matches!(output.archive_status, Some(ArchiveStatus::ArchiveAccess | ArchiveStatus::DeepArchiveAccess));
    let restored = output.restore.as_deref().is_some_and(|restore| restore.contains(r#"ongoing-request="false""#));
    let locked = output.object_lock_mode.is_some()
        || output.object_lock_legal_hold_status == Some(ObjectLockLegalHoldStatus::On)
        || output.object_lock_event_hold == Some(ObjectLockEventHold::On);
    Facts {
        encryption: encryption(output.server_side_encryption.as_ref(), output.ssekms_key_id.as_deref()),
        etag: output.e_tag.clone().unwrap_or_default(),
        version: output.version_id.clone(),
        size: output.content_length.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
        archived: in_archive && !restored,
        locked,
    }
}

/// As it is where there is one; an object of S3's own keys has none, and gets what the bucket gives. With two layers
/// there is no such key.
fn bucket_key(head: &Head) -> Option<bool> {
    match head.facts.encryption {
        Encryption::Kms(_) => Some(head.output.bucket_key_enabled.unwrap_or(false)),
        Encryption::OfS3 | Encryption::Dual(_) | Encryption::Other(_) => None,
    }
}

/// Who asked for two layers of encryption keeps them.
fn layers(head: &Head) -> ServerSideEncryption {
    match head.facts.encryption {
        Encryption::Dual(_) => ServerSideEncryption::AwsKmsDsse,
        Encryption::OfS3 | Encryption::Kms(_) | Encryption::Other(_) => ServerSideEncryption::AwsKms,
    }
}

/// How the checksum of an upload covers its parts. Of SHA there is but one way, and naming another is refused.
fn checksum_type(output: &HeadObjectOutput) -> Option<ChecksumType> {
    match checksum(output)? {
        ChecksumAlgorithm::Crc32 | ChecksumAlgorithm::Crc32C | ChecksumAlgorithm::Crc64Nvme => {
            output.checksum_type.clone()
        }
        _ => None,
    }
}

/// Which checksum the object has: S3 shows one value, of the algorithm that its writer chose.
fn checksum(output: &HeadObjectOutput) -> Option<ChecksumAlgorithm> {
    let values = [
        (&output.checksum_crc32, ChecksumAlgorithm::Crc32),
        (&output.checksum_crc32_c, ChecksumAlgorithm::Crc32C),
        (&output.checksum_crc64_nvme, ChecksumAlgorithm::Crc64Nvme),
        (&output.checksum_sha1, ChecksumAlgorithm::Sha1),
        (&output.checksum_sha256, ChecksumAlgorithm::Sha256),
    ];
    values.into_iter().find_map(|(value, algorithm)| value.as_ref().map(|_| algorithm))
}

/// The SDK sends it verbatim, as a header.
fn copy_source(target: &Target) -> String {
    utf8_percent_encode(&format!("{}/{}", target.bucket, target.key), COPY_SOURCE).to_string()
}

/// As `encoding-type=url` writes keys: like a form, with a plus for a space.
fn decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

fn http_date(text: &str) -> Option<aws_sdk_s3::primitives::DateTime> {
    aws_sdk_s3::primitives::DateTime::from_str(text, aws_sdk_s3::primitives::DateTimeFormat::HttpDate).ok()
}

fn patiently() -> aws_sdk_s3::config::Builder {
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(COPY_TIME).read_timeout(COPY_TIME);
    aws_sdk_s3::Config::builder().timeout_config(timeouts.build())
}

fn wrote(refused: Refusal) -> Result<Wrote, Unanswered> {
    match refused {
        Refusal::Later(unanswered) => Err(unanswered),
        // A conditional write on a key that was deleted meanwhile is answered 404.
        Refusal::Said(said) if matches!(said.status, 404 | 412) => Ok(Wrote::Changed),
        Refusal::Said(said) => Ok(Wrote::Refused(said)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_keys_are_decoded() {
        assert_eq!(decoded("a+b%2Bc/%E9%96%A2%01.zip"), "a b+c/関\u{1}.zip");
    }

    #[test]
    fn a_copys_source_is_percent_encoded() {
        let source = |key: &str| copy_source(&Target { bucket: "b".into(), key: key.into(), version: None });
        assert_eq!(source("shop/Source/a-b_c.~1"), "b/shop/Source/a-b_c.~1");
        assert_eq!(source("a b+c?versionId=d&é関/\u{1}%"), "b/a%20b%2Bc%3FversionId%3Dd%26%C3%A9%E9%96%A2/%01%25");
    }
}
