//! S3: buckets with versions.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Request, Response, State, decode};

/// A bucket.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    pub(crate) owner: String,
    pub(crate) versioned: bool,
    /// The default encryption's key.
    pub(crate) default_key: Option<String>,
    /// Whether a Deny stops UpdateObjectEncryption.
    pub(crate) updates_denied: bool,
    /// Whether a read asks more than this function is allowed.
    pub(crate) reads_denied: bool,
    /// Whether this function's role has nothing on it at all.
    pub(crate) closed: bool,
    /// Whether somebody puts each new version under the `other` key at once.
    pub(crate) fought_over: bool,
    /// By key, the oldest first.
    pub(crate) objects: BTreeMap<String, Vec<Version>>,
    uploads: BTreeMap<String, Upload>,
    /// Versions that were written, and updates that were made.
    pub(crate) writes: u64,
    page: usize,
}

#[derive(Debug, Clone)]
struct Upload {
    headers: BTreeMap<String, String>,
    parts: BTreeMap<u32, (u64, u64)>,
    content: String,
}

/// How a version is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sse {
    S3,
    Kms(String),
    Dsse(String),
    Customer,
}

/// A version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) id: String,
    pub(crate) content: String,
    /// May be larger than the content, so that no test needs 5 GB.
    pub(crate) size: u64,
    pub(crate) etag: String,
    pub(crate) sse: Sse,
    pub(crate) bucket_key: bool,
    /// `content-type`, `x-amz-meta-…`.
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) storage_class: Option<String>,
    pub(crate) redirect: Option<String>,
    /// Algorithm.
    pub(crate) checksum: Option<String>,
    pub(crate) locked: bool,
    pub(crate) delete_marker: bool,
}

impl Version {
    pub(crate) fn new(content: &str, sse: Sse) -> Self {
        Self {
            id: String::new(),
            content: content.to_owned(),
            size: content.len() as u64,
            etag: String::new(),
            sse,
            bucket_key: false,
            metadata: BTreeMap::new(),
            tags: BTreeMap::new(),
            storage_class: None,
            redirect: None,
            checksum: None,
            locked: false,
            delete_marker: false,
        }
    }

    fn archived(&self) -> bool {
        matches!(self.storage_class.as_deref(), Some("GLACIER" | "DEEP_ARCHIVE"))
    }
}

impl Bucket {
    pub(crate) fn new(owner: &str) -> Self {
        Self {
            owner: owner.to_owned(),
            versioned: true,
            default_key: None,
            updates_denied: false,
            reads_denied: false,
            closed: false,
            fought_over: false,
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            writes: 0,
            page: 1000,
        }
    }

    pub(crate) fn paged(mut self, page: usize) -> Self {
        self.page = page;
        self
    }

    /// The latest version, if it is no delete marker.
    pub(crate) fn latest(&self, key: &str) -> Option<&Version> {
        self.objects.get(key)?.last().filter(|version| !version.delete_marker)
    }

    pub(crate) fn find(&self, key: &str, version: Option<&str>) -> Option<&Version> {
        match version {
            None => self.objects.get(key)?.last(),
            Some(id) => self.objects.get(key)?.iter().find(|version| version.id == id),
        }
    }
}

impl State {
    /// Writes a version, as somebody else would.
    pub(crate) fn put(&mut self, bucket: &str, key: &str, mut version: Version) -> String {
        let serial = self.next();
        let bucket = self.buckets.get_mut(bucket).unwrap();
        if !bucket.versioned {
            "null".clone_into(&mut version.id);
        } else if version.id.is_empty() {
            version.id = format!("v{serial}");
        }
        // Under S3's own key the tag is the content's MD5, under KMS it is not.
        version.etag = match version.sse {
            Sse::S3 => format!(
                "\"md5-{:x}\"",
                version.content.len() * 31 + version.content.bytes().map(usize::from).sum::<usize>()
            ),
            _ => format!("\"random-{serial}\""),
        };
        let versions = bucket.objects.entry(key.to_owned()).or_default();
        if !bucket.versioned {
            versions.clear();
        }
        let id = version.id.clone();
        versions.push(version);
        id
    }

    pub(crate) fn bucket(&self, name: &str) -> &Bucket {
        &self.buckets[name]
    }

    /// Whether a key of this name decrypts for this account.
    fn works(&self, arn: &str) -> bool {
        self.keys.get(arn).is_some_and(|key| key.state == "Enabled")
    }

    fn decrypts(&self, version: &Version) -> Result<(), Response> {
        match &version.sse {
            Sse::Kms(arn) | Sse::Dsse(arn) => match self.keys.get(arn) {
                Some(key) if key.state == "Enabled" => Ok(()),
                Some(key) => Err(Response::error(400, "KMS.DisabledException", &format!("{arn} is {}.", key.state))),
                None => Err(Response::error(
                    403,
                    "AccessDenied",
                    &format!("not authorized to perform: kms:Decrypt on {arn}"),
                )),
            },
            Sse::S3 | Sse::Customer => Ok(()),
        }
    }
}

pub(crate) fn operation(request: &Request) -> &'static str {
    let has = |name: &str| request.query.contains_key(name);
    let copies = request.header("x-amz-copy-source").is_some();
    let in_bucket = !request.path.trim_end_matches('/').contains('/');
    match request.method.as_str() {
        "HEAD" => "HeadObject",
        "GET" if in_bucket && has("versions") => "ListObjectVersions",
        "GET" if in_bucket && has("encryption") => "GetBucketEncryption",
        "GET" if in_bucket && has("list-type") => "ListObjectsV2",
        "GET" if has("tagging") => "GetObjectTagging",
        "GET" if !in_bucket => "GetObject",
        "PUT" if has("encryption") => "UpdateObjectEncryption",
        "PUT" if has("partNumber") && copies => "UploadPartCopy",
        "PUT" if copies => "CopyObject",
        "POST" if has("uploads") => "CreateMultipartUpload",
        "POST" if has("uploadId") => "CompleteMultipartUpload",
        "DELETE" if has("uploadId") => "AbortMultipartUpload",
        other => panic!("S3 is not asked for {other} {} {:?}", request.path, request.query),
    }
}

pub(crate) fn answer(state: &mut State, request: &Request) -> Response {
    let (bucket, key) = request.path.split_once('/').unwrap_or((&request.path, ""));
    let owner = request.header("x-amz-expected-bucket-owner").expect("every call says whose the bucket must be");
    let Some(found) = state.buckets.get(bucket) else {
        return Response::error(404, "NoSuchBucket", "The specified bucket does not exist");
    };
    if found.owner != owner || found.closed {
        return Response::error(403, "AccessDenied", "Access Denied");
    }
    match request.operation.as_str() {
        "HeadObject" | "GetObject" => get(state, request, bucket, key),
        "ListObjectsV2" => list(found, request),
        "ListObjectVersions" => list_versions(found, request),
        "GetBucketEncryption" => encryption(found),
        "GetObjectTagging" => tagging(found, request, key),
        "UpdateObjectEncryption" => update(state, request, bucket, key),
        "CopyObject" => copy(state, request, bucket, key),
        "CreateMultipartUpload" => create_upload(state, request, bucket),
        "UploadPartCopy" => copy_part(state, request, bucket, key),
        "CompleteMultipartUpload" => complete_upload(state, request, bucket, key),
        "AbortMultipartUpload" => {
            state.buckets.get_mut(bucket).unwrap().uploads.remove(&request.query["uploadId"]);
            Response::new(204)
        }
        other => panic!("{other}"),
    }
}

fn no_such_key(request: &Request) -> Response {
    match request.query.get("versionId") {
        Some(_) => Response::error(404, "NoSuchVersion", "The specified version does not exist."),
        None => Response::error(404, "NoSuchKey", "The specified key does not exist."),
    }
}

fn get(state: &State, request: &Request, bucket: &str, key: &str) -> Response {
    let version = request.query.get("versionId").map(String::as_str);
    let Some(found) = state.bucket(bucket).find(key, version) else { return no_such_key(request) };
    if found.delete_marker {
        return match version {
            Some(_) => Response::error(405, "MethodNotAllowed", "The specified method is not allowed.")
                .with("x-amz-delete-marker", "true"),
            None => no_such_key(request).with("x-amz-delete-marker", "true"),
        };
    }
    if found.sse == Sse::Customer {
        let message = "The object was stored using a form of Server Side Encryption.";
        return Response::error(400, "InvalidRequest", message);
    }
    if request.header("if-match").is_some_and(|tag| tag != found.etag) {
        return Response::error(412, "PreconditionFailed", "At least one of the pre-conditions did not hold");
    }
    let checksum = request.header("x-amz-checksum-mode") == Some("ENABLED");
    let reads = request.method == "GET";
    if (checksum || reads)
        && let Err(refused) = state.decrypts(found)
    {
        return refused;
    }
    if reads {
        let consumer = request.header("authorization").is_some_and(|by| by.contains("CONSUMER"));
        let keys = match &found.sse {
            Sse::Kms(arn) | Sse::Dsse(arn) => Some(arn),
            _ => None,
        };
        if state.bucket(bucket).reads_denied
            || (consumer && keys.is_some_and(|arn| state.not_for_consumer.contains(arn)))
        {
            return Response::error(403, "AccessDenied", "not authorized to perform: kms:Decrypt");
        }
        if found.archived() {
            return Response::error(
                403,
                "InvalidObjectState",
                "The operation is not valid for the object's storage class",
            );
        }
        if request.header("range").is_some() && found.size == 0 {
            return Response::error(416, "InvalidRange", "The requested range is not satisfiable");
        }
    }
    let mut response = Response::new(200).with("etag", &found.etag);
    if state.bucket(bucket).versioned {
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
    if !found.tags.is_empty() {
        response = response.with("x-amz-tagging-count", found.tags.len().to_string());
    }
    if found.locked {
        response = response.with("x-amz-object-lock-mode", "GOVERNANCE");
    }
    if checksum && let Some(algorithm) = &found.checksum {
        response = response.with(&format!("x-amz-checksum-{}", algorithm.to_lowercase()), "AAAAAA==");
        response = response.with("x-amz-checksum-type", "FULL_OBJECT");
    }
    if !reads {
        return response.with("content-length", found.size.to_string());
    }
    match request.header("range") {
        Some(range) => {
            assert_eq!(range, "bytes=0-0");
            let mut response = response;
            response.status = 206;
            response.body(found.content.get(..1).unwrap_or("x"))
        }
        None => response.body(found.content.clone()),
    }
}

fn update(state: &mut State, request: &Request, bucket: &str, key: &str) -> Response {
    let version = request.query.get("versionId").expect("an update names the version").clone();
    let versioned = state.bucket(bucket).versioned;
    let Some(found) = state.bucket(bucket).find(key, Some(&version)).cloned() else { return no_such_key(request) };
    assert!(versioned || version == "null");
    let arn = request.body.split("<KMSKeyArn>").nth(1).and_then(|rest| rest.split("</KMSKeyArn>").next()).unwrap();
    assert!(request.body.contains("<SSE-KMS>"), "{}", request.body);
    if state.bucket(bucket).updates_denied {
        return Response::error(403, "AccessDenied", "explicit deny in a resource-based policy");
    }
    if found.locked {
        let message = "The encryption type for the specified object can't be updated because that object is protected by \
                       S3 Object Lock.";
        return Response::error(403, "AccessDenied", message);
    }
    if matches!(found.sse, Sse::Dsse(_) | Sse::Customer) {
        let message = "The UpdateObjectEncryption operation doesn't support source objects with the encryption type \
                       DSSE-KMS or SSE-C.";
        return Response::error(400, "InvalidRequest", message);
    }
    if arn.split(':').nth(4) != Some(&state.bucket(bucket).owner) {
        let message = "The AWS KMS key in the request must be owned by the same account as the bucket.";
        return Response::error(403, "AccessDenied", message);
    }
    if let Err(refused) = state.decrypts(&found) {
        return refused;
    }
    if !state.works(arn) {
        return Response::error(400, "KMS.DisabledException", "the new key does not work");
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
        found.sse = Sse::Kms(super::key("other"));
    }
    Response::new(200)
}

/// The version that a copy reads: the latest, if no version is named.
fn source(state: &State, request: &Request) -> Result<Version, Response> {
    let header = request.header("x-amz-copy-source").unwrap();
    assert!(header.is_ascii(), "{header}");
    assert_eq!(request.header("x-amz-source-expected-bucket-owner"), Some(super::ACCOUNT));
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
        return Err(Response::error(412, "PreconditionFailed", "At least one of the pre-conditions did not hold"));
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

/// The destination's condition.
fn may_write(state: &State, request: &Request, bucket: &str, key: &str) -> Result<(), Response> {
    let Some(tag) = request.header("if-match") else { return Ok(()) };
    match state.bucket(bucket).latest(key) {
        None => Err(Response::error(404, "NoSuchKey", "The specified key does not exist.")),
        Some(latest) if latest.etag != tag => {
            Err(Response::error(412, "PreconditionFailed", "At least one of the pre-conditions did not hold"))
        }
        Some(_) => Ok(()),
    }
}

/// What the headers of a new version ask for.
fn asked(
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
            assert_eq!(header("x-amz-server-side-encryption-bucket-key-enabled"), None, "no such key with two layers");
            Sse::Dsse(arn)
        }
        (Some("aws:kms" | "aws:kms:dsse"), _) => {
            return Err(Response::error(400, "KMS.NotFoundException", "no such key"));
        }
        _ => state.bucket(bucket).default_key.clone().map_or(Sse::S3, Sse::Kms),
    };
    version.bucket_key = header("x-amz-server-side-encryption-bucket-key-enabled").as_deref() == Some("true");
    version.storage_class = header("x-amz-storage-class");
    version.redirect = header("x-amz-website-redirect-location");
    // A lock is not copied.
    version.locked = false;
    Ok(version)
}

fn write(state: &mut State, bucket: &str, key: &str, version: Version) -> Version {
    let other = Sse::Kms(super::key("other"));
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

fn copy(state: &mut State, request: &Request, bucket: &str, key: &str) -> Response {
    let written = source(state, request).and_then(|source| {
        if source.size > 5_368_709_120 {
            let message = "The specified copy source is larger than the maximum allowable size for a copy source";
            return Err(Response::error(400, "InvalidRequest", message));
        }
        may_write(state, request, bucket, key)?;
        assert!(request.header("x-amz-metadata-directive").is_none_or(|directive| directive == "COPY"));
        asked(state, &request.headers, bucket, source)
    });
    match written {
        Err(refused) => refused,
        Ok(mut version) => {
            version.id.clear();
            let written = write(state, bucket, key, version);
            Response::new(200).with("x-amz-version-id", &written.id).body(format!(
                "<CopyObjectResult><ETag>{}</ETag><LastModified>2026-11-21T23:45:00.000Z</LastModified></CopyObjectResult>",
                written.etag.replace('"', "&quot;")
            ))
        }
    }
}

fn create_upload(state: &mut State, request: &Request, bucket: &str) -> Response {
    if let Some(kind) = request.header("x-amz-checksum-type") {
        let sha = request.header("x-amz-checksum-algorithm").is_some_and(|algorithm| algorithm.starts_with("SHA"));
        assert!(!(sha && kind == "FULL_OBJECT"), "S3 refuses it");
    }
    let id = format!("upload{}", state.next());
    let upload = Upload { headers: request.headers.clone(), parts: BTreeMap::new(), content: String::new() };
    state.buckets.get_mut(bucket).unwrap().uploads.insert(id.clone(), upload);
    Response::new(200)
        .body(format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"))
}

fn copy_part(state: &mut State, request: &Request, bucket: &str, _key: &str) -> Response {
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

fn complete_upload(state: &mut State, request: &Request, bucket: &str, key: &str) -> Response {
    if let Err(refused) = may_write(state, request, bucket, key) {
        return refused;
    }
    let Some(upload) = state.buckets.get_mut(bucket).unwrap().uploads.remove(&request.query["uploadId"]) else {
        return Response::error(404, "NoSuchUpload", "The specified upload does not exist.");
    };
    let mut size = 0;
    for (number, (first, last)) in &upload.parts {
        assert_eq!(*first, size, "parts follow on each other");
        assert!(request.body.contains(&format!("<PartNumber>{number}</PartNumber>")));
        assert!(request.body.contains(&format!("part{number}")));
        size = last + 1;
    }
    let mut version = Version::new(&upload.content, Sse::S3);
    version.size = size;
    // An upload starts from nothing.
    let kept = |name: &str| {
        name.starts_with("x-amz-meta-")
            || (name.starts_with("content-") && name != "content-length")
            || name == "cache-control"
    };
    version.metadata = upload
        .headers
        .iter()
        .filter(|(name, _)| kept(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    version.tags = upload.headers.get("x-amz-tagging").map(|tags| super::form(tags)).unwrap_or_default();
    version.checksum = upload.headers.get("x-amz-checksum-algorithm").cloned();
    match asked(state, &upload.headers, bucket, version) {
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

/// As S3 does with `encoding-type=url`.
fn encoded(text: &str) -> String {
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'/').remove(b' ');
    utf8_percent_encode(text, KEPT).to_string().replace(' ', "+")
}

fn list(bucket: &Bucket, request: &Request) -> Response {
    assert_eq!(request.query.get("encoding-type").map(String::as_str), Some("url"));
    let after = request.query.get("start-after").cloned().unwrap_or_default();
    let mut keys = bucket.objects.keys().filter(|key| **key > after && bucket.latest(key).is_some());
    let page: Vec<&String> = keys.by_ref().take(bucket.page).collect();
    let mut body = format!("<ListBucketResult><IsTruncated>{}</IsTruncated>", keys.next().is_some());
    for key in page {
        let _ = write!(body, "<Contents><Key>{}</Key><Size>1</Size></Contents>", encoded(key));
    }
    Response::new(200).body(body + "</ListBucketResult>")
}

fn list_versions(bucket: &Bucket, request: &Request) -> Response {
    let marker = request.query.get("key-marker").cloned();
    let version_marker = request.query.get("version-id-marker").cloned();
    let mut all = Vec::new();
    for (key, versions) in &bucket.objects {
        for (n, version) in versions.iter().rev().enumerate() {
            all.push((key, version, n == 0));
        }
    }
    let start = match (&marker, &version_marker) {
        (Some(key), Some(id)) => all.iter().position(|(k, v, _)| *k == key && v.id == *id).map_or(0, |at| at + 1),
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

fn encryption(bucket: &Bucket) -> Response {
    let rule = match &bucket.default_key {
        Some(arn) => format!("<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>{arn}</KMSMasterKeyID>"),
        None => "<SSEAlgorithm>AES256</SSEAlgorithm>".to_owned(),
    };
    Response::new(200).body(format!(
        "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>{rule}\
         </ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>"
    ))
}

fn tagging(bucket: &Bucket, request: &Request, key: &str) -> Response {
    let version = request.query.get("versionId").map(String::as_str);
    let Some(found) = bucket.find(key, version) else { return no_such_key(request) };
    let mut body = String::from("<Tagging><TagSet>");
    for (name, value) in &found.tags {
        let _ = write!(body, "<Tag><Key>{name}</Key><Value>{}</Value></Tag>", value.replace('&', "&amp;"));
    }
    Response::new(200).body(body + "</TagSet></Tagging>")
}
