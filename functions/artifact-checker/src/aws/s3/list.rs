//! The listing of a bucket, in pages of up to 1,000 objects.

use aws_sdk_s3::types::{EncodingType, Object, ObjectVersion};
use percent_encoding::percent_decode_str;
use sekisho_lambda::ServiceError;

use crate::aws::s3::S3;
use crate::aws::service_error;
use crate::object::{ListPage, ListPosition, ListedObject};

const LIST_LATEST: &str = "s3:ListObjectsV2";
const LIST_VERSIONS: &str = "s3:ListObjectVersions";

/// Lists the page after a position, with all versions if `versions` is `true`, or with only the latest versions.
pub(crate) async fn page(
    s3: &S3,
    bucket: &str,
    versions: bool,
    after: Option<&ListPosition>,
) -> Result<ListPage, ServiceError> {
    if versions { all_versions(s3, bucket, after).await } else { latest_versions(s3, bucket, after).await }
}

/// The first key after a text that need not be a key.
pub(crate) async fn next_key(s3: &S3, bucket: &str, after: &str) -> Result<Option<String>, ServiceError> {
    let mut token = None;
    loop {
        let output = s3
            .client
            .list_objects_v2()
            .bucket(bucket)
            .encoding_type(EncodingType::Url)
            .max_keys(1)
            .start_after(after)
            .set_continuation_token(token)
            .expected_bucket_owner(&s3.owner)
            .send()
            .await
            .map_err(|error| service_error(LIST_LATEST, error))?;
        let key = output.contents.unwrap_or_default().into_iter().find_map(|object| object.key);
        match (key, output.next_continuation_token) {
            (Some(key), _) => return Ok(Some(decoded(&key))),
            (None, Some(next)) if output.is_truncated == Some(true) => token = Some(next),
            (None, _) => return Ok(None),
        }
    }
}

async fn latest_versions(s3: &S3, bucket: &str, after: Option<&ListPosition>) -> Result<ListPage, ServiceError> {
    let mut token = None;
    loop {
        let output = s3
            .client
            .list_objects_v2()
            .bucket(bucket)
            // A key may contain characters that XML cannot represent, so S3 encodes the keys.
            .encoding_type(EncodingType::Url)
            .set_start_after(after.map(|position| position.key.clone()))
            .set_continuation_token(token)
            .expected_bucket_owner(&s3.owner)
            .send()
            .await
            .map_err(|error| service_error(LIST_LATEST, error))?;
        let listed = |object: Object| {
            let written = object.last_modified.map(|at| at.secs());
            Some(ListedObject { key: decoded(&object.key?), version: None, is_latest: true, written })
        };
        let objects: Vec<ListedObject> = output.contents.unwrap_or_default().into_iter().filter_map(listed).collect();
        let is_truncated = output.is_truncated.unwrap_or(false);
        match objects.last() {
            Some(last) if is_truncated => {
                let end = Some(ListPosition { key: last.key.clone(), version: None });
                return Ok(ListPage { objects, end });
            }
            // S3 may answer with an empty page that is not the last, for example in a bucket with many deleted objects.
            None if is_truncated => token = Some(output.next_continuation_token.ok_or_else(|| no_marker(LIST_LATEST))?),
            Some(_) | None => return Ok(ListPage { objects, end: None }),
        }
    }
}

async fn all_versions(s3: &S3, bucket: &str, after: Option<&ListPosition>) -> Result<ListPage, ServiceError> {
    let output = s3
        .client
        .list_object_versions()
        .bucket(bucket)
        .encoding_type(EncodingType::Url)
        .set_key_marker(after.map(|position| position.key.clone()))
        .set_version_id_marker(after.and_then(|position| position.version.clone()))
        .expected_bucket_owner(&s3.owner)
        .send()
        .await
        .map_err(|error| service_error(LIST_VERSIONS, error))?;
    let listed = |version: ObjectVersion| {
        Some(ListedObject {
            key: decoded(version.key.as_deref()?),
            version: version.version_id,
            is_latest: version.is_latest.unwrap_or(false),
            written: version.last_modified.map(|at| at.secs()),
        })
    };
    let objects = output.versions.unwrap_or_default().into_iter().filter_map(listed).collect();
    if !output.is_truncated.unwrap_or(false) {
        return Ok(ListPage { objects, end: None });
    }
    let key = output.next_key_marker.ok_or_else(|| no_marker(LIST_VERSIONS))?;
    let end = Some(ListPosition { key: decoded(&key), version: output.next_version_id_marker });
    Ok(ListPage { objects, end })
}

/// The error about a page that is not the last, but does not say where the next page begins.
fn no_marker(operation: &'static str) -> ServiceError {
    ServiceError::unexpected(operation, "the answer is not the last page, and has no marker of the next")
}

/// Decodes a key from an answer with `encoding-type=url`, which encodes a space as a plus sign.
fn decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_keys_are_decoded() {
        assert_eq!(decoded("a+b%2Bc/%E9%96%A2%01.zip"), "a b+c/関\u{1}.zip");
    }
}
