//! S3's answers to updates of a key in place, and to copies with one request.

use std::collections::BTreeMap;

use crate::world::request::decode;
use crate::world::s3::{Sse, Version, no_such_key, precondition_failed};
use crate::world::{ACCOUNT, Request, Response, State, under};

/// The largest object that one copy accepts, in bytes.
const LARGEST_COPY: u64 = 5_368_709_120;

/// Answers `PutObject`.
pub(super) fn put(state: &mut State, request: &Request, bucket: &str, key: &str) -> Response {
    assert!(request.header("x-amz-content-sha256").is_some());
    let sse = if key.contains("/manifest-") {
        // S3 Batch Operations cannot read a manifest under a KMS key.
        assert_eq!(request.header("x-amz-server-side-encryption"), Some("AES256"));
        Sse::S3
    } else {
        assert_eq!(request.header("x-amz-server-side-encryption"), Some("aws:kms"));
        Sse::Kms(request.header("x-amz-server-side-encryption-aws-kms-key-id").unwrap().to_owned())
    };
    state.put(bucket, key, Version::new(&request.body, sse));
    Response::new(200).with("etag", &state.bucket(bucket).latest(key).unwrap().etag)
}

/// Answers `UpdateObjectEncryption`.
pub(super) fn update(state: &mut State, request: &Request, bucket: &str, key: &str) -> Response {
    let version = request.query.get("versionId").expect("an update names the version").clone();
    let versioned = state.bucket(bucket).versioned;
    let Some(found) = state.bucket(bucket).find(key, Some(&version)).cloned() else { return no_such_key(request) };
    assert!(versioned || version == "null");
    let arn = request.body.split("<KMSKeyArn>").nth(1).and_then(|rest| rest.split("</KMSKeyArn>").next()).unwrap();
    assert!(request.body.contains("<SSE-KMS>"), "{}", request.body);
    if let Err(refused) = can_be_updated(state, bucket, &found, arn) {
        return refused;
    }
    let bucket_key = request.body.contains("<BucketKeyEnabled>true");
    let arn = arn.to_owned();
    let bucket = state.buckets.get_mut(bucket).unwrap();
    bucket.writes += 1;
    let versions = bucket.objects.get_mut(key).unwrap();
    let found = versions.iter_mut().find(|found| found.id == version).unwrap();
    found.sse = Sse::Kms(arn);
    found.bucket_key = bucket_key;
    if bucket.fought_over {
        let found = bucket.objects.get_mut(key).unwrap().last_mut().unwrap();
        found.sse = under("other");
    }
    Response::new(200)
}

pub(crate) fn can_be_updated(state: &State, bucket: &str, found: &Version, arn: &str) -> Result<(), Response> {
    if state.bucket(bucket).updates_denied {
        return Err(Response::error(403, "AccessDenied", "explicit deny in a resource-based policy"));
    }
    if found.locked {
        let message = "The encryption type for the specified object can't be updated because that object is protected \
                       by S3 Object Lock.";
        return Err(Response::error(403, "AccessDenied", message));
    }
    if matches!(found.sse, Sse::Dsse(_) | Sse::Customer) {
        let message = "The UpdateObjectEncryption operation doesn't support source objects with the encryption type \
                       DSSE-KMS or SSE-C.";
        return Err(Response::error(400, "InvalidRequest", message));
    }
    if arn.split(':').nth(4) != Some(&state.bucket(bucket).owner) {
        let message = "The AWS KMS key in the request must be owned by the same account as the bucket.";
        return Err(Response::error(403, "AccessDenied", message));
    }
    state.decrypts(found)?;
    if !state.works(arn) {
        return Err(Response::error(400, "KMS.DisabledException", "the new key does not work"));
    }
    Ok(())
}

/// The version that a copy reads. If the request names no version, the copy reads the latest.
pub(super) fn source(state: &State, request: &Request) -> Result<Version, Response> {
    let header = request.header("x-amz-copy-source").unwrap();
    assert!(header.is_ascii(), "{header}");
    assert_eq!(request.header("x-amz-source-expected-bucket-owner"), Some(ACCOUNT));
    let (path, version) =
        header.split_once("?versionId=").map_or((header, None), |(path, version)| (path, Some(version)));
    let path = decode(path);
    let (bucket, key) = path.split_once('/').unwrap();
    let missing = || Response::error(404, "NoSuchKey", "The specified key does not exist.");
    let found = state.buckets.get(bucket).and_then(|bucket| bucket.find(key, version)).ok_or_else(missing)?;
    if found.delete_marker {
        return Err(missing());
    }
    if request.header("x-amz-copy-source-if-match").is_some_and(|tag| tag != found.etag) {
        return Err(precondition_failed());
    }
    if found.archived() {
        return Err(Response::error(
            403,
            "InvalidObjectState",
            "Operation is not valid for the source object's storage class",
        ));
    }
    state.decrypts(found)?;
    Ok(found.clone())
}

/// Checks the condition on the destination of a copy.
pub(super) fn can_write(state: &State, request: &Request, bucket: &str, key: &str) -> Result<(), Response> {
    let Some(tag) = request.header("if-match") else { return Ok(()) };
    match state.bucket(bucket).latest(key) {
        None => Err(Response::error(404, "NoSuchKey", "The specified key does not exist.")),
        Some(latest) if latest.etag != tag => Err(precondition_failed()),
        Some(_) => Ok(()),
    }
}

/// The version that results from the headers of a write. S3 does not copy a lock.
pub(super) fn requested(
    state: &State,
    headers: &BTreeMap<String, String>,
    bucket: &str,
    mut version: Version,
) -> Result<Version, Response> {
    let header = |name: &str| headers.get(name).cloned();
    version.sse = match (
        header("x-amz-server-side-encryption").as_deref(),
        header("x-amz-server-side-encryption-aws-kms-key-id"),
    ) {
        (Some("aws:kms"), Some(arn)) if state.works(&arn) => Sse::Kms(arn),
        (Some("aws:kms:dsse"), Some(arn)) if state.works(&arn) => {
            assert_eq!(
                header("x-amz-server-side-encryption-bucket-key-enabled"),
                None,
                "dual-layer encryption has no bucket key"
            );
            Sse::Dsse(arn)
        }
        (Some("aws:kms" | "aws:kms:dsse"), _) => {
            return Err(Response::error(400, "KMS.NotFoundException", "no such key"));
        }
        _ => state.bucket(bucket).default_key.clone().map_or(Sse::S3, Sse::Kms),
    };
    version.bucket_key = match header("x-amz-server-side-encryption-bucket-key-enabled").as_deref() {
        Some(setting) => setting == "true",
        None => state.bucket(bucket).defaults_to_bucket_key && matches!(version.sse, Sse::Kms(_)),
    };
    version.has_grants = false;
    version.storage_class = header("x-amz-storage-class");
    version.redirect = header("x-amz-website-redirect-location");
    version.locked = false;
    Ok(version)
}

/// Writes a version for the function, and counts it.
pub(super) fn write(state: &mut State, bucket: &str, key: &str, version: Version) -> Version {
    let other = under("other");
    let id = state.put(bucket, key, version);
    let bucket = state.buckets.get_mut(bucket).unwrap();
    bucket.writes += 1;
    let fought_over = bucket.fought_over;
    let latest = bucket.objects.get_mut(key).unwrap().last_mut().unwrap();
    assert_eq!(latest.id, id);
    if fought_over {
        latest.sse = other;
    }
    latest.clone()
}

/// Answers `CopyObject`.
pub(super) fn copy(state: &mut State, request: &Request, bucket: &str, key: &str) -> Response {
    let written = source(state, request).and_then(|source| {
        if source.size > LARGEST_COPY {
            let message = "The specified copy source is larger than the maximum allowable size for a copy source";
            return Err(Response::error(400, "InvalidRequest", message));
        }
        can_write(state, request, bucket, key)?;
        assert!(request.header("x-amz-metadata-directive").is_none_or(|directive| directive == "COPY"));
        requested(state, &request.headers, bucket, source)
    });
    match written {
        Err(refused) => refused,
        Ok(mut version) => {
            version.id.clear();
            let written = write(state, bucket, key, version);
            Response::new(200).with("x-amz-version-id", &written.id).body(format!(
                "<CopyObjectResult><ETag>{}</ETag><LastModified>2026-11-21T23:45:00.000Z</LastModified>\
                 </CopyObjectResult>",
                written.etag.replace('"', "&quot;")
            ))
        }
    }
}
