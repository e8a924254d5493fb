//! S3's answers to HEAD and GET requests.

use std::fmt::Write as _;

use crate::world::s3::{Bucket, Sse, Version, no_such_key, precondition_failed};
use crate::world::{Request, Response, State};

/// Answers `HeadObject` and `GetObject`.
pub(super) fn object(state: &State, request: &Request, bucket: &str, key: &str) -> Response {
    let bucket = state.bucket(bucket);
    let version = request.query.get("versionId").map(String::as_str);
    let Some(found) = bucket.find(key, version) else { return no_such_key(request) };
    if let Err(refused) = can_be_shown(found, request) {
        return refused;
    }
    let with_checksum = request.header("x-amz-checksum-mode") == Some("ENABLED");
    let is_read = request.method == "GET";
    if (with_checksum || is_read)
        && let Err(refused) = state.decrypts(found)
    {
        return refused;
    }
    if is_read && let Err(refused) = can_be_read(state, bucket, found, request) {
        return refused;
    }
    let response = headers(bucket, found, with_checksum);
    if !is_read {
        return response.with("content-length", found.size.to_string());
    }
    match request.header("range") {
        Some(range) if key.starts_with("sekisho-reports/") => part_of_file(&found.content, range),
        Some(range) => {
            assert_eq!(range, "bytes=0-0");
            let response = response.body(found.content.get(..1).unwrap_or("x"));
            Response { status: 206, ..response }
        }
        None => response.body(found.content.clone()),
    }
}

/// A part of one of the function's own files.
fn part_of_file(content: &str, range: &str) -> Response {
    let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    if first >= content.len() {
        return Response::error(416, "InvalidRange", "The requested range is not satisfiable");
    }
    let end = content.len().min(last + 1);
    let part = String::from_utf8_lossy(&content.as_bytes()[first..end]).into_owned();
    Response::new(206).with("content-range", format!("bytes {first}-{}/{}", end - 1, content.len())).body(part)
}

fn can_be_shown(found: &Version, request: &Request) -> Result<(), Response> {
    if found.delete_marker {
        let refused = match request.query.get("versionId") {
            Some(_) => Response::error(405, "MethodNotAllowed", "The specified method is not allowed."),
            None => no_such_key(request),
        };
        return Err(refused.with("x-amz-delete-marker", "true"));
    }
    if found.sse == Sse::Customer {
        let message = "The object was stored using a form of Server Side Encryption.";
        return Err(Response::error(400, "InvalidRequest", message));
    }
    if request.header("if-match").is_some_and(|tag| tag != found.etag) {
        return Err(precondition_failed());
    }
    Ok(())
}

fn can_be_read(state: &State, bucket: &Bucket, found: &Version, request: &Request) -> Result<(), Response> {
    let is_consumer = request.header("authorization").is_some_and(|by| by.contains("CONSUMER"));
    let key = match &found.sse {
        Sse::Kms(arn) | Sse::Dsse(arn) => Some(arn),
        Sse::S3 | Sse::Customer => None,
    };
    if bucket.reads_denied || (is_consumer && key.is_some_and(|arn| state.not_for_consumer.contains(arn))) {
        return Err(Response::error(403, "AccessDenied", "not authorized to perform: kms:Decrypt"));
    }
    if found.archived() {
        let message = "The operation is not valid for the object's storage class";
        return Err(Response::error(403, "InvalidObjectState", message));
    }
    if request.header("range").is_some() && found.size == 0 {
        return Err(Response::error(416, "InvalidRange", "The requested range is not satisfiable"));
    }
    Ok(())
}

fn headers(bucket: &Bucket, found: &Version, with_checksum: bool) -> Response {
    let mut response = Response::new(200).with("etag", &found.etag);
    if bucket.versioned {
        response = response.with("x-amz-version-id", &found.id);
    }
    for (name, value) in &found.metadata {
        response = response.with(name, value);
    }
    response = match &found.sse {
        Sse::S3 => response.with("x-amz-server-side-encryption", "AES256"),
        Sse::Kms(arn) => response
            .with("x-amz-server-side-encryption", "aws:kms")
            .with("x-amz-server-side-encryption-aws-kms-key-id", arn),
        Sse::Dsse(arn) => response
            .with("x-amz-server-side-encryption", "aws:kms:dsse")
            .with("x-amz-server-side-encryption-aws-kms-key-id", arn),
        Sse::Customer => response,
    };
    if found.bucket_key {
        response = response.with("x-amz-server-side-encryption-bucket-key-enabled", "true");
    }
    if let Some(class) = &found.storage_class {
        response = response.with("x-amz-storage-class", class);
    }
    if let Some(redirect) = &found.redirect {
        response = response.with("x-amz-website-redirect-location", redirect);
    }
    if found.missing_metadata > 0 {
        response = response.with("x-amz-missing-meta", found.missing_metadata.to_string());
    }
    if !found.tags.is_empty() {
        response = response.with("x-amz-tagging-count", found.tags.len().to_string());
    }
    if found.locked {
        response = response.with("x-amz-object-lock-mode", "GOVERNANCE");
    }
    if with_checksum && let Some(algorithm) = &found.checksum {
        response = response.with(&format!("x-amz-checksum-{}", algorithm.to_lowercase()), "AAAAAA==");
        response = response.with("x-amz-checksum-type", "FULL_OBJECT");
    }
    response
}

/// Answers `GetBucketEncryption`. `deployed` is the default of a bucket that has no other one.
pub(super) fn default_encryption(bucket: &Bucket, deployed: Option<String>) -> Response {
    let rule = match bucket.default_key.clone().or(deployed) {
        Some(arn) => format!("<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>{arn}</KMSMasterKeyID>"),
        None => "<SSEAlgorithm>AES256</SSEAlgorithm>".to_owned(),
    };
    Response::new(200).body(format!(
        "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>{rule}\
         </ApplyServerSideEncryptionByDefault><BucketKeyEnabled>{}</BucketKeyEnabled></Rule>\
         </ServerSideEncryptionConfiguration>",
        bucket.defaults_to_bucket_key
    ))
}

/// Answers `GetPublicAccessBlock`.
pub(super) fn public_access_block(bucket: &Bucket) -> Response {
    let Some(is_on) = bucket.blocks_public_access else {
        return Response::error(404, "NoSuchPublicAccessBlockConfiguration", "The configuration was not found");
    };
    Response::new(200).body(format!(
        "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true</IgnorePublicAcls>\
         <BlockPublicPolicy>true</BlockPublicPolicy><RestrictPublicBuckets>{is_on}</RestrictPublicBuckets>\
         </PublicAccessBlockConfiguration>"
    ))
}

/// Answers `GetObjectTagging`.
pub(super) fn tagging(bucket: &Bucket, request: &Request, key: &str) -> Response {
    let version = request.query.get("versionId").map(String::as_str);
    let Some(found) = bucket.find(key, version) else { return no_such_key(request) };
    let mut body = String::from("<Tagging><TagSet>");
    for (name, value) in &found.tags {
        let _ = write!(body, "<Tag><Key>{name}</Key><Value>{}</Value></Tag>", value.replace('&', "&amp;"));
    }
    Response::new(200).body(body + "</TagSet></Tagging>")
}

/// Answers `ListObjectAnnotations`.
pub(super) fn annotations(bucket: &Bucket, request: &Request, key: &str) -> Response {
    let version = request.query.get("versionId").map(String::as_str);
    let Some(found) = bucket.find(key, version) else { return no_such_key(request) };
    let annotation = if found.has_annotations {
        "<Annotations><AnnotationEntry><AnnotationName>review</AnnotationName></AnnotationEntry></Annotations>"
    } else {
        ""
    };
    Response::new(200).body(format!("<ListObjectAnnotationsOutput>{annotation}</ListObjectAnnotationsOutput>"))
}

/// Answers `GetObjectAcl`.
pub(super) fn acl(bucket: &Bucket, request: &Request, key: &str) -> Response {
    let version = request.query.get("versionId").map(String::as_str);
    let Some(found) = bucket.find(key, version) else { return no_such_key(request) };
    let grant = |id: &str, permission: &str| {
        format!(
            "<Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\">\
             <ID>{id}</ID></Grantee><Permission>{permission}</Permission></Grant>"
        )
    };
    let others = if found.has_grants { grant("other", "READ") } else { String::new() };
    Response::new(200).body(format!(
        "<AccessControlPolicy><Owner><ID>owner</ID></Owner><AccessControlList>{}{others}</AccessControlList>\
         </AccessControlPolicy>",
        grant("owner", "FULL_CONTROL")
    ))
}
