//! S3's listings.

use std::fmt::Write as _;
use std::ops::Bound;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use time::format_description::well_known::Rfc3339;

use crate::world::s3::{Bucket, Version};
use crate::world::{Request, Response};

/// Encodes a key for a listing with `encoding-type=url`.
pub(crate) fn encoded(text: &str) -> String {
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'/').remove(b' ');
    utf8_percent_encode(text, KEPT).to_string().replace(' ', "+")
}

/// Answers `ListObjectsV2`.
pub(super) fn latest(bucket: &Bucket, request: &Request) -> Response {
    assert_eq!(request.query.get("encoding-type").map(String::as_str), Some("url"));
    let after = request.query.get("start-after").cloned().unwrap_or_default();
    let most = request.query.get("max-keys").map_or(bucket.page, |keys| keys.parse().unwrap());
    let left = bucket.objects.range::<str, _>((Bound::Excluded(after.as_str()), Bound::Unbounded));
    let mut keys = left.map(|(key, _)| key).filter(|key| bucket.latest(key).is_some());
    let page: Vec<&String> = keys.by_ref().take(most).collect();
    let mut body = format!("<ListBucketResult><IsTruncated>{}</IsTruncated>", keys.next().is_some());
    for key in page {
        let _ = write!(body, "<Contents><Key>{}</Key><Size>1</Size>", encoded(key));
        if let Some(written) = bucket.latest(key).and_then(|version| version.written) {
            let written = written.format(&Rfc3339).unwrap();
            let _ = write!(body, "<LastModified>{written}</LastModified>");
        }
        body.push_str("</Contents>");
    }
    Response::new(200).body(body + "</ListBucketResult>")
}

/// The number in the id of a version, such as `v7`.
fn serial(id: &str) -> u64 {
    id.strip_prefix('v').and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Answers `ListObjectVersions`.
pub(super) fn versions(bucket: &Bucket, request: &Request) -> Response {
    let marker = request.query.get("key-marker").cloned();
    let version_marker = request.query.get("version-id-marker").cloned();
    let mut all = Vec::new();
    for (key, versions) in &bucket.objects {
        for (n, version) in versions.iter().rev().enumerate() {
            all.push((key, version, n == 0));
        }
    }
    let start = match (&marker, &version_marker) {
        (Some(key), Some(id)) => {
            let marker = all.iter().position(|(k, v, _)| *k == key && v.id == *id);
            // If somebody has deleted the version, S3 goes on with the next older one.
            let is_older = |version: &Version| serial(&version.id) < serial(id);
            let older = all.iter().position(|(k, v, _)| *k > key || (*k == key && is_older(v)));
            marker.map_or(older.unwrap_or(all.len()), |at| at + 1)
        }
        (Some(key), None) => all.iter().position(|(k, _, _)| *k > key).unwrap_or(all.len()),
        _ => 0,
    };
    let page = &all[start..(start + bucket.page).min(all.len())];
    let truncated = start + page.len() < all.len();
    let mut body = format!("<ListVersionsResult><IsTruncated>{truncated}</IsTruncated>");
    if truncated && let Some((key, version, _)) = page.last() {
        let _ = write!(
            body,
            "<NextKeyMarker>{}</NextKeyMarker><NextVersionIdMarker>{}</NextVersionIdMarker>",
            encoded(key),
            version.id
        );
    }
    for (key, version, latest) in page {
        let kind = if version.delete_marker { "DeleteMarker" } else { "Version" };
        let _ = write!(
            body,
            "<{kind}><Key>{}</Key><VersionId>{}</VersionId><IsLatest>{latest}</IsLatest></{kind}>",
            encoded(key),
            version.id
        );
    }
    Response::new(200).body(body + "</ListVersionsResult>")
}
