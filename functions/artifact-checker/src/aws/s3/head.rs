//! The HEAD requests of a sweep, which sends one for each object. `sekisho_lambda::head` says how they differ from those
//! of the SDK.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use aws_sdk_s3::config::endpoint::{DefaultResolver, ParamsBuilder, ResolveEndpoint, SharedEndpointResolver};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use percent_encoding::utf8_percent_encode;
use sekisho_lambda::ServiceError;
use sekisho_lambda::head::{Base, HeadClient, Headers, Target};

use crate::aws::service_error;
use crate::object::{ObjectId, PART, PATH};

const HEAD: &str = "s3:HeadObject";

/// Sends each HEAD request once: a sweep repeats a failed check itself.
#[derive(Debug)]
pub(crate) struct Heads {
    client: Rc<HeadClient>,
    /// The SDK's rules for endpoints.
    resolver: SharedEndpointResolver,
    /// What the endpoints of all buckets have in common.
    endpoint: ParamsBuilder,
    /// The URLs of buckets that were asked for.
    bases: RefCell<HashMap<String, Rc<Base>>>,
}

impl Heads {
    pub(crate) fn new(client: Rc<HeadClient>, endpoint: ParamsBuilder) -> Self {
        let resolver = DefaultResolver::new().into_shared_resolver();
        Self { client, resolver, endpoint, bases: RefCell::default() }
    }

    /// Sends the HEAD request of an object. `owner` is the account that the bucket must belong to.
    pub(crate) async fn send(&self, object: &ObjectId, owner: &str) -> Result<HeadObjectOutput, ServiceError> {
        let base = self.base(&object.bucket).await?;
        let key = utf8_percent_encode(&object.key, PATH).to_string();
        let version = object.version.as_deref().map(|version| utf8_percent_encode(version, PART));
        let query = version.map_or_else(String::new, |version| format!("versionId={version}"));
        let answer = self.client.send(Target { base: &base, key: &key, query: &query, owner }).await;
        answer.map(|headers| output(&headers)).map_err(|error| service_error(HEAD, error))
    }

    /// The URL of a bucket, by the SDK's rules.
    async fn base(&self, bucket: &str) -> Result<Rc<Base>, ServiceError> {
        if let Some(base) = self.bases.borrow().get(bucket) {
            return Ok(Rc::clone(base));
        }
        let params = self.endpoint.clone().bucket(bucket).build();
        let params = params.map_err(|error| ServiceError::unexpected(HEAD, error))?;
        let base = Base::resolve(&self.resolver, params).await;
        let base = base.map(Rc::new).map_err(|error| ServiceError::unexpected(HEAD, error))?;
        self.bases.borrow_mut().insert(bucket.to_owned(), Rc::clone(&base));
        Ok(base)
    }
}

/// The answer in the SDK's form, with the headers on which decisions depend.
fn output(headers: &Headers) -> HeadObjectOutput {
    let header = |name: &'static str| headers.get(name);
    let owned = |name: &'static str| header(name).map(str::to_owned);
    HeadObjectOutput::builder()
        .set_server_side_encryption(header("x-amz-server-side-encryption").map(Into::into))
        .set_ssekms_key_id(owned("x-amz-server-side-encryption-aws-kms-key-id"))
        .set_bucket_key_enabled(header("x-amz-server-side-encryption-bucket-key-enabled").map(|text| text == "true"))
        .set_e_tag(owned("etag"))
        .set_version_id(owned("x-amz-version-id"))
        .set_content_length(header("content-length").and_then(|size| size.parse().ok()))
        .set_storage_class(header("x-amz-storage-class").map(Into::into))
        .set_archive_status(header("x-amz-archive-status").map(Into::into))
        .set_restore(owned("x-amz-restore"))
        .set_object_lock_mode(header("x-amz-object-lock-mode").map(Into::into))
        .set_object_lock_legal_hold_status(header("x-amz-object-lock-legal-hold").map(Into::into))
        .set_object_lock_event_hold(header("x-amz-object-lock-event-hold").map(Into::into))
        .build()
}
