//! The simulated S3, whose buckets can have versions.

mod list;
mod read;
mod upload;
pub(crate) mod write;

use std::collections::BTreeMap;

pub(crate) use list::encoded;
use time::OffsetDateTime;

use crate::world::{BUCKET, Key, Request, Response, State, key as key_arn};

/// A policy that denies requests without TLS.
const DENY_PLAIN_HTTP: &str = r#"{"Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"*","Condition":
    {"Bool":{"aws:SecureTransport":"false"}}}]}"#;

/// A bucket with its objects.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    pub(crate) owner: String,
    pub(crate) versioned: bool,
    /// The key of the default encryption.
    pub(crate) default_key: Option<String>,
    /// Whether the default encryption uses the S3 Bucket Key.
    pub(crate) defaults_to_bucket_key: bool,
    /// Whether the bucket blocks public access; `None` if the setting is missing.
    pub(crate) blocks_public_access: Option<bool>,
    /// The bucket's policy.
    pub(crate) policy: Option<String>,
    /// Whether a Deny statement refuses `UpdateObjectEncryption`.
    pub(crate) updates_denied: bool,
    /// Whether this function may not read objects.
    pub(crate) reads_denied: bool,
    /// Whether this function has no permission for the bucket at all.
    pub(crate) closed: bool,
    /// Whether somebody else puts every version under the key `other` right after it is written.
    pub(crate) fought_over: bool,
    /// The versions of each key, oldest first.
    pub(crate) objects: BTreeMap<String, Vec<Version>>,
    uploads: BTreeMap<String, upload::Upload>,
    /// The number of written versions and updated keys.
    pub(crate) writes: u64,
    /// How many objects a page of a listing has.
    pub(crate) page: usize,
}

/// The encryption of a version.
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
    /// The size in bytes. The size may exceed the length of `content`, so that no test needs 5 GB of content.
    pub(crate) size: u64,
    pub(crate) etag: String,
    pub(crate) sse: Sse,
    pub(crate) bucket_key: bool,
    /// The metadata: the headers `content-type`, `x-amz-meta-…` and so on.
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) storage_class: Option<String>,
    pub(crate) redirect: Option<String>,
    /// The algorithm of the checksum.
    pub(crate) checksum: Option<String>,
    pub(crate) locked: bool,
    pub(crate) delete_marker: bool,
    pub(crate) has_annotations: bool,
    /// Whether the ACL grants anything to others than the owner.
    pub(crate) has_grants: bool,
    /// The number of metadata values that S3 does not show.
    pub(crate) missing_metadata: u32,
    /// When the version was written; `None` if a listing does not say so.
    pub(crate) written: Option<OffsetDateTime>,
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
            has_annotations: false,
            has_grants: false,
            missing_metadata: 0,
            written: None,
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
            defaults_to_bucket_key: false,
            blocks_public_access: Some(true),
            policy: Some(DENY_PLAIN_HTTP.to_owned()),
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

    /// The latest version, unless it is a delete marker.
    pub(crate) fn latest(&self, key: &str) -> Option<&Version> {
        self.objects.get(key)?.last().filter(|version| !version.delete_marker)
    }

    /// The number of uploads that are neither completed nor aborted.
    pub(crate) fn open_uploads(&self) -> usize {
        self.uploads.len()
    }

    pub(crate) fn find(&self, key: &str, version: Option<&str>) -> Option<&Version> {
        match version {
            None => self.objects.get(key)?.last(),
            Some(id) => self.objects.get(key)?.iter().find(|version| version.id == id),
        }
    }
}

impl State {
    /// Writes a version as a writer other than the function, and returns the version's id.
    pub(crate) fn put(&mut self, bucket: &str, key: &str, mut version: Version) -> String {
        let serial = self.next();
        let bucket = self.buckets.get_mut(bucket).unwrap();
        if !bucket.versioned {
            "null".clone_into(&mut version.id);
        } else if version.id.is_empty() {
            version.id = format!("v{serial}");
        }
        // Under S3's own key, the entity tag is the content's MD5. Under a KMS key, the entity tag is another value.
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

    /// Whether the key works.
    fn works(&self, arn: &str) -> bool {
        self.keys.get(arn).is_some_and(Key::works)
    }

    fn decrypts(&self, version: &Version) -> Result<(), Response> {
        match &version.sse {
            Sse::Kms(arn) | Sse::Dsse(arn) => match self.keys.get(arn) {
                Some(key) if key.works() => Ok(()),
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
        "GET" if in_bucket && has("publicAccessBlock") => "GetPublicAccessBlock",
        "GET" if in_bucket && has("policy") => "GetBucketPolicy",
        "GET" if in_bucket && has("list-type") => "ListObjectsV2",
        "GET" if has("tagging") => "GetObjectTagging",
        "GET" if has("annotation") => "ListObjectAnnotations",
        "GET" if has("acl") => "GetObjectAcl",
        "GET" if has("uploadId") => "ListParts",
        "GET" if !in_bucket => "GetObject",
        "PUT" if has("encryption") => "UpdateObjectEncryption",
        "PUT" if has("partNumber") && copies => "UploadPartCopy",
        "PUT" if copies => "CopyObject",
        "PUT" if has("partNumber") => "UploadPart",
        "PUT" if !in_bucket => "PutObject",
        "POST" if has("uploads") => "CreateMultipartUpload",
        "POST" if has("uploadId") => "CompleteMultipartUpload",
        "DELETE" if has("uploadId") => "AbortMultipartUpload",
        other => panic!("the function calls {other} {} {:?} of S3", request.path, request.query),
    }
}

pub(crate) fn answer(state: &mut State, request: &Request) -> Response {
    let (bucket, key) = request.path.split_once('/').unwrap_or((&request.path, ""));
    let owner =
        request.header("x-amz-expected-bucket-owner").expect("every call names the expected owner of the bucket");
    let Some(found) = state.buckets.get(bucket) else {
        return Response::error(404, "NoSuchBucket", "The specified bucket does not exist");
    };
    if found.owner != owner || found.closed {
        return Response::error(403, "AccessDenied", "Access Denied");
    }
    match request.operation.as_str() {
        "HeadObject" | "GetObject" => read::object(state, request, bucket, key),
        "ListObjectsV2" => list::latest(found, request),
        "ListObjectVersions" => list::versions(found, request),
        "GetBucketEncryption" => {
            let is_deployed = bucket == BUCKET && !state.is_default_reset;
            read::default_encryption(found, is_deployed.then(|| key_arn("right")))
        }
        "GetPublicAccessBlock" => read::public_access_block(found),
        "GetBucketPolicy" => match &found.policy {
            Some(policy) => Response::new(200).body(policy.clone()),
            None => Response::error(404, "NoSuchBucketPolicy", "The bucket policy does not exist"),
        },
        "GetObjectTagging" => read::tagging(found, request, key),
        "ListObjectAnnotations" => read::annotations(found, request, key),
        "GetObjectAcl" => read::acl(found, request, key),
        "ListParts" => upload::parts(found, request),
        "UpdateObjectEncryption" => write::update(state, request, bucket, key),
        "PutObject" => write::put(state, request, bucket, key),
        "CopyObject" => write::copy(state, request, bucket, key),
        "CreateMultipartUpload" => upload::create(state, request, bucket),
        "UploadPart" => upload::text_part(state, request, bucket),
        "UploadPartCopy" => upload::copy_part(state, request, bucket),
        "CompleteMultipartUpload" => upload::complete(state, request, bucket, key),
        "AbortMultipartUpload" => upload::abort(state, request, bucket),
        other => panic!("{other}"),
    }
}

fn no_such_key(request: &Request) -> Response {
    match request.query.get("versionId") {
        Some(_) => Response::error(404, "NoSuchVersion", "The specified version does not exist."),
        None => Response::error(404, "NoSuchKey", "The specified key does not exist."),
    }
}

/// S3's answer if a condition of a request does not hold.
fn precondition_failed() -> Response {
    Response::error(412, "PreconditionFailed", "At least one of the pre-conditions did not hold")
}
