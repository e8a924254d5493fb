//! S3's multipart uploads.

use std::collections::BTreeMap;

use crate::world::request::form;
use crate::world::s3::write::{can_write, requested, source, write};
use crate::world::s3::{Bucket, Sse, Version};
use crate::world::{Request, Response, State};

/// An upload that is not completed.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    headers: BTreeMap<String, String>,
    /// The first and the last byte of each part.
    parts: BTreeMap<u32, (u64, u64)>,
    content: String,
    /// The parts of a text.
    texts: BTreeMap<u32, String>,
}

/// Answers `CreateMultipartUpload`.
pub(super) fn create(state: &mut State, request: &Request, bucket: &str) -> Response {
    if let Some(kind) = request.header("x-amz-checksum-type") {
        let sha = request.header("x-amz-checksum-algorithm").is_some_and(|algorithm| algorithm.starts_with("SHA"));
        assert!(!(sha && kind == "FULL_OBJECT"), "S3 refuses a checksum type for SHA");
    }
    let id = format!("upload{}", state.next());
    let headers = request.headers.clone();
    let upload = Upload { headers, parts: BTreeMap::new(), content: String::new(), texts: BTreeMap::new() };
    state.buckets.get_mut(bucket).unwrap().uploads.insert(id.clone(), upload);
    Response::new(200)
        .body(format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"))
}

/// Answers `UploadPart`.
pub(super) fn text_part(state: &mut State, request: &Request, bucket: &str) -> Response {
    let number: u32 = request.query["partNumber"].parse().unwrap();
    let uploads = &mut state.buckets.get_mut(bucket).unwrap().uploads;
    let Some(upload) = uploads.get_mut(&request.query["uploadId"]) else {
        return Response::error(404, "NoSuchUpload", "The specified upload does not exist.");
    };
    upload.texts.insert(number, request.body.clone());
    Response::new(200).with("etag", format!("\"part{number}\""))
}

/// Answers `UploadPartCopy`.
pub(super) fn copy_part(state: &mut State, request: &Request, bucket: &str) -> Response {
    let source = match source(state, request) {
        Ok(source) => source,
        Err(refused) => return refused,
    };
    let range = request.header("x-amz-copy-source-range").unwrap().strip_prefix("bytes=").unwrap();
    let (first, last) = range.split_once('-').unwrap();
    let (first, last): (u64, u64) = (first.parse().unwrap(), last.parse().unwrap());
    assert!(first <= last && last < source.size && last - first < 5_368_709_120);
    let number: u32 = request.query["partNumber"].parse().unwrap();
    let upload = state.buckets.get_mut(bucket).unwrap().uploads.get_mut(&request.query["uploadId"]).unwrap();
    upload.parts.insert(number, (first, last));
    upload.content = source.content;
    Response::new(200).body(format!("<CopyPartResult><ETag>&quot;part{number}&quot;</ETag></CopyPartResult>"))
}

/// Answers `ListParts`.
pub(super) fn parts(bucket: &Bucket, request: &Request) -> Response {
    let Some(upload) = bucket.uploads.get(&request.query["uploadId"]) else {
        return Response::error(404, "NoSuchUpload", "The specified upload does not exist.");
    };
    let part =
        |number: &u32| format!("<Part><PartNumber>{number}</PartNumber><ETag>&quot;part{number}&quot;</ETag></Part>");
    let parts: String = upload.parts.keys().map(part).collect();
    Response::new(200).body(format!("<ListPartsResult><IsTruncated>false</IsTruncated>{parts}</ListPartsResult>"))
}

/// Answers `CompleteMultipartUpload`.
pub(super) fn complete(state: &mut State, request: &Request, bucket: &str, key: &str) -> Response {
    if let Err(refused) = can_write(state, request, bucket, key) {
        return refused;
    }
    let Some(upload) = state.buckets.get_mut(bucket).unwrap().uploads.remove(&request.query["uploadId"]) else {
        return Response::error(404, "NoSuchUpload", "The specified upload does not exist.");
    };
    if !upload.texts.is_empty() {
        assert_eq!(upload.headers.get("x-amz-server-side-encryption").map(String::as_str), Some("AES256"));
        assert!(upload.texts.keys().copied().eq(1..=u32::try_from(upload.texts.len()).unwrap()));
        let text: String = upload.texts.into_values().collect();
        state.put(bucket, key, Version::new(&text, Sse::S3));
        let etag = state.bucket(bucket).latest(key).unwrap().etag.replace('"', "&quot;");
        return Response::new(200)
            .body(format!("<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>"));
    }
    let mut size = 0;
    for (number, (first, last)) in &upload.parts {
        assert_eq!(*first, size, "the parts are contiguous");
        assert!(request.body.contains(&format!("<PartNumber>{number}</PartNumber>")));
        assert!(request.body.contains(&format!("part{number}")));
        size = last + 1;
    }
    let mut version = Version::new(&upload.content, Sse::S3);
    version.size = size;
    // An upload inherits nothing from the source, so its own request must contain the metadata.
    let is_metadata = |name: &str| {
        name.starts_with("x-amz-meta-")
            || (name.starts_with("content-") && name != "content-length")
            || name == "cache-control"
    };
    version.metadata = upload
        .headers
        .iter()
        .filter(|(name, _)| is_metadata(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    version.tags = upload.headers.get("x-amz-tagging").map(|tags| form(tags)).unwrap_or_default();
    version.checksum = upload.headers.get("x-amz-checksum-algorithm").cloned();
    match requested(state, &upload.headers, bucket, version) {
        Err(refused) => refused,
        Ok(version) => {
            let written = write(state, bucket, key, version);
            Response::new(200).with("x-amz-version-id", &written.id).body(format!(
                "<CompleteMultipartUploadResult><ETag>{}</ETag></CompleteMultipartUploadResult>",
                written.etag.replace('"', "&quot;")
            ))
        }
    }
}

/// Answers `AbortMultipartUpload`.
pub(super) fn abort(state: &mut State, request: &Request, bucket: &str) -> Response {
    state.buckets.get_mut(bucket).unwrap().uploads.remove(&request.query["uploadId"]);
    Response::new(204)
}
