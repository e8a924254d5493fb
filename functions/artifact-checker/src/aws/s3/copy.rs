//! Copies the latest version of an object onto itself under another key.
//!
//! S3 does not show an additional encryption context of an object, so that a copy cannot repeat it.
//!
//! S3 drops the storage class and the website redirect of a copy, so the request repeats both. The request names the
//! source without a version, and S3 refuses it unless the destination still has the entity tag of the source. Therefore
//! an older version never becomes the latest, even if somebody writes the object during the copy.

use std::time::Duration;

pub(crate) use aws_sdk_s3::types::CompletedPart;

use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::operation::create_multipart_upload::builders::CreateMultipartUploadFluentBuilder;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CopyPartResult, Part, ServerSideEncryption,
};
use percent_encoding::utf8_percent_encode;
use sekisho_lambda::ServiceError;

use crate::aws::s3::{Head, S3, WriteResult, bucket_key};
use crate::aws::service_error;
use crate::key::KeyArn;
use crate::object::{Encryption, ObjectId, PART, PATH};

/// The time to wait for a copy. S3 ends its answer only when the copy is done, and it copies up to 5 GiB at about 100
/// MB a second.
const COPY_TIMEOUT: Duration = Duration::from_mins(4);

/// A copy of an object onto itself.
pub(crate) struct SelfCopy<'a> {
    pub(crate) s3: &'a S3,
    pub(crate) object: &'a ObjectId,
    /// The version that was the latest when its metadata was read. Nothing is written unless this version is still the
    /// latest.
    pub(crate) head: &'a Head,
    /// The key of the copy.
    pub(crate) key: &'a KeyArn,
}

impl SelfCopy<'_> {
    /// Copies with one request. After a temporary error, it is unknown whether S3 wrote the copy.
    pub(crate) async fn whole(&self) -> Result<WriteResult, ServiceError> {
        let Self { s3, object, head, key } = self;
        let etag = &head.facts.etag;
        let answer = s3
            .client
            .copy_object()
            .bucket(&object.bucket)
            .key(&object.key)
            .copy_source(copy_source(object))
            .copy_source_if_match(etag)
            .if_match(etag)
            .server_side_encryption(layers(head))
            .ssekms_key_id(key.as_str())
            .set_bucket_key_enabled(bucket_key(&head.facts))
            .set_storage_class(head.output.storage_class.clone())
            .set_website_redirect_location(head.output.website_redirect_location.clone())
            .set_checksum_algorithm(checksum(&head.output))
            .expected_bucket_owner(&s3.owner)
            .expected_source_bucket_owner(&s3.owner)
            .customize()
            .config_override(copy_timeouts())
            .send()
            .await;
        match answer {
            Ok(output) => Ok(WriteResult::Written(output.version_id)),
            Err(error) => WriteResult::of_sdk_error("s3:CopyObject", error),
        }
    }

    /// Begins an upload of the copy, and returns the upload's id.
    pub(crate) async fn begin_upload(&self) -> Result<String, ServiceError> {
        let tagging = self.tagging().await?;
        let output = self.create_upload(tagging).send().await;
        let output = output.map_err(|error| service_error("s3:CreateMultipartUpload", error))?;
        Ok(output.upload_id.unwrap_or_default())
    }

    /// The parts of an upload; `None` if the upload does not exist any more.
    pub(crate) async fn parts(&self, upload: &str) -> Result<Option<Vec<CompletedPart>>, ServiceError> {
        let Self { s3, object, .. } = self;
        let parts = s3.client.list_parts().bucket(&object.bucket).key(&object.key).upload_id(upload);
        let mut pages = parts.expected_bucket_owner(&s3.owner).into_paginator().send();
        let mut parts = Vec::new();
        while let Some(page) = pages.next().await {
            match page.map_err(|error| service_error("s3:ListParts", error)) {
                Ok(page) => parts.extend(page.parts.unwrap_or_default().into_iter().map(completed)),
                Err(error) if error.is_refused() && error.status == Some(404) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(parts))
    }

    /// Removes the parts of an upload. If the call fails, the bucket's lifecycle rule removes the parts after a week.
    pub(crate) async fn abort_upload(&self, upload: &str) {
        let Self { s3, object, .. } = self;
        let abort = s3.client.abort_multipart_upload().bucket(&object.bucket).key(&object.key);
        let _ = abort.upload_id(upload).expected_bucket_owner(&s3.owner).send().await;
    }

    /// Makes the request for a new upload. An upload inherits nothing from the source, so the request repeats all
    /// metadata.
    fn create_upload(&self, tagging: Option<String>) -> CreateMultipartUploadFluentBuilder {
        let Self { s3, object, head, key } = self;
        let source = &head.output;
        s3.client
            .create_multipart_upload()
            .bucket(&object.bucket)
            .key(&object.key)
            .server_side_encryption(layers(head))
            .ssekms_key_id(key.as_str())
            .set_bucket_key_enabled(bucket_key(&head.facts))
            .set_storage_class(source.storage_class.clone())
            .set_website_redirect_location(source.website_redirect_location.clone())
            .set_checksum_algorithm(checksum(source))
            .set_checksum_type(checksum_type(source))
            .set_metadata(source.metadata.clone())
            .set_content_type(source.content_type.clone())
            .set_content_encoding(source.content_encoding.clone())
            .set_content_language(source.content_language.clone())
            .set_content_disposition(source.content_disposition.clone())
            .set_cache_control(source.cache_control.clone())
            .set_expires(source.expires_string.as_deref().and_then(http_date))
            .set_tagging(tagging)
            .expected_bucket_owner(&s3.owner)
    }

    /// Copies a range of bytes, with both ends included, as one part of an upload.
    pub(crate) async fn copy_part(
        &self,
        upload: &str,
        number: i32,
        first: u64,
        last: u64,
    ) -> Result<CompletedPart, ServiceError> {
        let Self { s3, object, head, .. } = self;
        let output = s3
            .client
            .upload_part_copy()
            .bucket(&object.bucket)
            .key(&object.key)
            .upload_id(upload)
            .part_number(number)
            .copy_source(copy_source(object))
            .copy_source_range(format!("bytes={first}-{last}"))
            .copy_source_if_match(&head.facts.etag)
            .expected_bucket_owner(&s3.owner)
            .expected_source_bucket_owner(&s3.owner)
            .customize()
            .config_override(copy_timeouts())
            .send()
            .await
            .map_err(|error| service_error("s3:UploadPartCopy", error))?;
        let copied = output.copy_part_result.unwrap_or_else(|| CopyPartResult::builder().build());
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(copied.e_tag)
            .set_checksum_crc32(copied.checksum_crc32)
            .set_checksum_crc32_c(copied.checksum_crc32_c)
            .set_checksum_crc64_nvme(copied.checksum_crc64_nvme)
            .set_checksum_sha1(copied.checksum_sha1)
            .set_checksum_sha256(copied.checksum_sha256)
            .set_checksum_sha512(copied.checksum_sha512)
            .set_checksum_md5(copied.checksum_md5)
            .set_checksum_xxhash64(copied.checksum_xxhash64)
            .set_checksum_xxhash3(copied.checksum_xxhash3)
            .set_checksum_xxhash128(copied.checksum_xxhash128)
            .build())
    }

    /// Completes the upload and returns the new version.
    pub(crate) async fn complete_upload(
        &self,
        upload: &str,
        parts: Vec<CompletedPart>,
    ) -> Result<Option<String>, ServiceError> {
        let Self { s3, object, head, .. } = self;
        let output = s3
            .client
            .complete_multipart_upload()
            .bucket(&object.bucket)
            .key(&object.key)
            .upload_id(upload)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .if_match(&head.facts.etag)
            .expected_bucket_owner(&s3.owner)
            .customize()
            .config_override(copy_timeouts())
            .send()
            .await
            .map_err(|error| service_error("s3:CompleteMultipartUpload", error))?;
        Ok(output.version_id)
    }

    /// The object's tags in the form of the `x-amz-tagging` header.
    async fn tagging(&self) -> Result<Option<String>, ServiceError> {
        let Self { s3, object, head, .. } = self;
        if head.output.tag_count.unwrap_or(0) == 0 {
            return Ok(None);
        }
        let answer = s3
            .client
            .get_object_tagging()
            .bucket(&object.bucket)
            .key(&object.key)
            .set_version_id(head.facts.version.clone())
            .expected_bucket_owner(&s3.owner)
            .send()
            .await
            .map_err(|error| service_error("s3:GetObjectTagging", error))?;
        let encode = |text: &str| utf8_percent_encode(text, PART).to_string();
        let pairs: Vec<String> =
            answer.tag_set.iter().map(|tag| format!("{}={}", encode(&tag.key), encode(&tag.value))).collect();
        Ok(Some(pairs.join("&")))
    }
}

/// A part of an upload in the form in which the request for its completion names it.
fn completed(part: Part) -> CompletedPart {
    CompletedPart::builder()
        .set_part_number(part.part_number)
        .set_e_tag(part.e_tag)
        .set_checksum_crc32(part.checksum_crc32)
        .set_checksum_crc32_c(part.checksum_crc32_c)
        .set_checksum_crc64_nvme(part.checksum_crc64_nvme)
        .set_checksum_sha1(part.checksum_sha1)
        .set_checksum_sha256(part.checksum_sha256)
        .set_checksum_sha512(part.checksum_sha512)
        .set_checksum_md5(part.checksum_md5)
        .set_checksum_xxhash64(part.checksum_xxhash64)
        .set_checksum_xxhash3(part.checksum_xxhash3)
        .set_checksum_xxhash128(part.checksum_xxhash128)
        .build()
}

/// The encryption of the copy, which has two layers if the source has two.
fn layers(head: &Head) -> ServerSideEncryption {
    match head.facts.encryption {
        Encryption::DualLayer(_) => ServerSideEncryption::AwsKmsDsse,
        Encryption::S3Managed | Encryption::Kms(_) | Encryption::Other(_) => ServerSideEncryption::AwsKms,
    }
}

/// The property of an object that a copy in parts would lose, because a HEAD does not show its value. `None` if the
/// request for the upload can repeat everything.
pub(crate) fn loss_in_parts(head: &Head) -> Option<&'static str> {
    let output = &head.output;
    // S3 encodes a value that is not ASCII as in e-mail headers, and would store the encoded text as the new value.
    let is_encoded = |value: &String| value.starts_with("=?");
    if output.missing_meta.unwrap_or(0) > 0 || output.metadata.iter().flat_map(|map| map.values()).any(is_encoded) {
        return Some("it has metadata that S3 does not show in full, and a copy in parts would lose it");
    }
    match output.expires_string.as_deref() {
        Some(text) if http_date(text).is_none() => {
            Some("its header `Expires` holds no date, and a copy in parts would lose it")
        }
        _ => None,
    }
}

/// How the checksum of an upload covers its parts. SHA checksums support only one type, and S3 refuses a request that
/// names a type for a SHA checksum.
fn checksum_type(output: &HeadObjectOutput) -> Option<ChecksumType> {
    match checksum(output)? {
        ChecksumAlgorithm::Crc32 | ChecksumAlgorithm::Crc32C | ChecksumAlgorithm::Crc64Nvme => {
            output.checksum_type.clone()
        }
        _ => None,
    }
}

/// The algorithm of the object's checksum. S3 returns one checksum, with the algorithm that the writer chose.
fn checksum(output: &HeadObjectOutput) -> Option<ChecksumAlgorithm> {
    let values = [
        (&output.checksum_crc32, ChecksumAlgorithm::Crc32),
        (&output.checksum_crc32_c, ChecksumAlgorithm::Crc32C),
        (&output.checksum_crc64_nvme, ChecksumAlgorithm::Crc64Nvme),
        (&output.checksum_sha1, ChecksumAlgorithm::Sha1),
        (&output.checksum_sha256, ChecksumAlgorithm::Sha256),
        (&output.checksum_sha512, ChecksumAlgorithm::Sha512),
        (&output.checksum_md5, ChecksumAlgorithm::Md5),
        (&output.checksum_xxhash64, ChecksumAlgorithm::Xxhash64),
        (&output.checksum_xxhash3, ChecksumAlgorithm::Xxhash3),
        (&output.checksum_xxhash128, ChecksumAlgorithm::Xxhash128),
    ];
    values.into_iter().find_map(|(value, algorithm)| value.as_ref().map(|_| algorithm))
}

/// The value of the `x-amz-copy-source` header, which the SDK does not encode.
fn copy_source(object: &ObjectId) -> String {
    utf8_percent_encode(&format!("{}/{}", object.bucket, object.key), PATH).to_string()
}

fn http_date(text: &str) -> Option<DateTime> {
    DateTime::from_str(text, DateTimeFormat::HttpDate).ok()
}

fn copy_timeouts() -> aws_sdk_s3::config::Builder {
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(COPY_TIMEOUT).read_timeout(COPY_TIMEOUT);
    aws_sdk_s3::Config::builder().timeout_config(timeouts.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_a_copy_is_percent_encoded() {
        let source = |key: &str| copy_source(&ObjectId { bucket: "b".into(), key: key.into(), version: None });
        assert_eq!(source("shop/Source/a-b_c.~1"), "b/shop/Source/a-b_c.~1");
        assert_eq!(source("a b+c?versionId=d&é関/\u{1}%"), "b/a%20b%2Bc%3FversionId%3Dd%26%C3%A9%E9%96%A2/%01%25");
    }
}
