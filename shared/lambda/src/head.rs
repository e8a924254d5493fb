//! HEAD requests to S3 in large numbers.
//!
//! The SDK spends several times as much CPU time on a call as the request itself needs: for each call it evaluates the
//! rules for endpoints, assembles its configuration and runs its interceptors. This module makes one attempt, with the
//! same connections, timeout, credentials and signature. It leaves retries to its caller.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::rc::Rc;
use std::time::Duration;

use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_runtime::auth::sigv4::{SCHEME_ID, SigV4AuthScheme};
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use aws_smithy_runtime::client::identity::IdentityCache;
use aws_smithy_runtime::client::orchestrator::endpoints::StaticUriEndpointResolver;
use aws_smithy_runtime::client::retries::strategy::NeverRetryStrategy;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_runtime_api::client::connection::CaptureSmithyConnection;
use aws_smithy_runtime_api::client::endpoint::{EndpointResolverParams, ResolveEndpoint, SharedEndpointResolver};
use aws_smithy_runtime_api::client::http::{HttpClient, HttpConnector, HttpConnectorSettings, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
pub use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::error::ErrorMetadata;
use aws_smithy_types::timeout::TimeoutConfig;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio::time::timeout;

use crate::aws::SdkConfig;
use crate::invocation::now;

/// SHA-256 of an empty body.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The URL before the name of an object: `https://<host>` and the beginning of the path, if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Scheme and host.
    origin: String,
    host: String,
    /// The beginning of the path, without a slash at its end.
    path: String,
}

impl Base {
    /// The URL by the rules of a service's client, whose resolver understands these parameters.
    ///
    /// # Errors
    /// If the rules refuse the parameters.
    pub async fn resolve<P>(resolver: &SharedEndpointResolver, params: P) -> Result<Self, BoxError>
    where
        P: fmt::Debug + Send + Sync + 'static,
    {
        let endpoint = resolver.resolve_endpoint(&EndpointResolverParams::new(params)).await?;
        Self::parse(endpoint.url()).ok_or_else(|| format!("`{}` is no URL", endpoint.url()).into())
    }

    /// Parses a URL without a query. Returns `None` if the text has no scheme.
    fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (host, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let path = path.trim_end_matches('/').to_owned();
        Some(Self { origin: format!("{scheme}://{host}"), host: host.to_owned(), path })
    }
}

/// One object, or one version of it.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The URL before the object's name.
    pub base: &'a Base,
    /// The object's key, percent-encoded but for its slashes.
    pub key: &'a str,
    /// The query, percent-encoded; empty if there is none.
    pub query: &'a str,
    /// The account that must own the bucket.
    pub owner: &'a str,
}

/// Sends HEAD requests to S3 in the function's own region.
#[derive(Debug)]
pub struct HeadClient {
    connector: SharedHttpConnector,
    credentials: SharedCredentialsProvider,
    region: String,
    /// The longest time of an attempt.
    timeout: Option<Duration>,
    /// What all requests of the current second have in common.
    stamp: RefCell<Option<Rc<Stamp>>>,
}

impl HeadClient {
    /// A client that shares the connections of the SDK's clients. `None` if the configuration has no credentials, no
    /// region or no HTTP client, about which the SDK's clients have better messages.
    #[must_use]
    pub fn new(aws: &SdkConfig) -> Option<Self> {
        let credentials = aws.credentials_provider()?;
        let timeouts = aws.timeout_config();
        let mut settings = HttpConnectorSettings::builder();
        settings.set_connect_timeout(timeouts.and_then(TimeoutConfig::connect_timeout));
        settings.set_read_timeout(timeouts.and_then(TimeoutConfig::read_timeout));
        let components = components(credentials.clone())?;
        Some(Self {
            connector: aws.http_client()?.http_connector(&settings.build(), &components),
            credentials,
            region: aws.region()?.to_string(),
            timeout: timeouts.and_then(TimeoutConfig::operation_attempt_timeout),
            stamp: RefCell::default(),
        })
    }

    /// Makes one attempt, and returns the headers of the answer.
    ///
    /// # Errors
    /// If S3 refuses the request or does not answer.
    pub async fn send(&self, target: Target<'_>) -> Result<Headers, SdkError<ErrorMetadata, HttpResponse>> {
        let stamp = self.stamp().await.map_err(SdkError::construction_failure)?;
        let mut request = stamp.request(target).map_err(SdkError::construction_failure)?;
        let connection = CaptureSmithyConnection::new();
        request.add_extension(connection.clone());
        let call = self.connector.call(request);
        let answer = match self.timeout {
            Some(longest) => timeout(longest, call).await.map_err(SdkError::timeout_error)?,
            None => call.await,
        };
        let response = answer.map_err(SdkError::dispatch_failure)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response.headers().clone());
        }
        // A server that fails gets no further request, as in the SDK.
        if matches!(status.as_u16(), 500 | 502..=504)
            && let Some(connection) = connection.get()
        {
            connection.poison();
        }
        Err(SdkError::service_error(refusal(status.as_u16()), response))
    }

    async fn stamp(&self) -> Result<Rc<Stamp>, BoxError> {
        let now = now();
        let second = now.unix_timestamp();
        if let Some(stamp) = self.stamp.borrow().as_ref().filter(|stamp| stamp.second == second) {
            return Ok(Rc::clone(stamp));
        }
        let credentials = self.credentials.provide_credentials().await?;
        let (date_time, date) = formatted(now);
        let key = generate_signing_key(credentials.secret_access_key(), now.into(), &self.region, "s3");
        let stamp = Rc::new(Stamp {
            second,
            scope: format!("{date}/{}/s3/aws4_request", self.region),
            date_time,
            access_key: credentials.access_key_id().to_owned(),
            token: credentials.session_token().map(str::to_owned),
            key: key.as_ref().to_vec(),
        });
        self.stamp.replace(Some(Rc::clone(&stamp)));
        Ok(stamp)
    }
}

/// What the signatures of the requests of one second have in common.
struct Stamp {
    /// In seconds since 1970.
    second: i64,
    date_time: String,
    scope: String,
    access_key: String,
    token: Option<String>,
    /// The key of signatures, which is derived from the secret key.
    key: Vec<u8>,
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stamp").field("second", &self.second).finish_non_exhaustive()
    }
}

impl Stamp {
    fn request(&self, target: Target<'_>) -> Result<HttpRequest, BoxError> {
        let Target { base, key, query, owner } = target;
        let path = format!("{}/{key}", base.path);
        let mut uri = format!("{}{path}", base.origin);
        if !query.is_empty() {
            uri.push('?');
            uri.push_str(query);
        }
        let authorization = self.authorization(&base.host, &path, query, owner);
        let mut request = HttpRequest::new(SdkBody::empty());
        request.set_method("HEAD")?;
        request.set_uri(uri)?;
        let headers = request.headers_mut();
        headers.try_insert("host", base.host.clone())?;
        headers.try_insert("authorization", authorization)?;
        headers.try_insert("x-amz-content-sha256", EMPTY)?;
        headers.try_insert("x-amz-date", self.date_time.clone())?;
        headers.try_insert("x-amz-expected-bucket-owner", owner.to_owned())?;
        if let Some(token) = &self.token {
            headers.try_insert("x-amz-security-token", token.clone())?;
        }
        Ok(request)
    }

    /// The signature of a request with these headers, which are in the order of their names. The library that the SDK
    /// uses derives the key again for each request and sorts copies of all headers; a test compares the results.
    fn authorization(&self, host: &str, path: &str, query: &str, owner: &str) -> String {
        let mut signed = "host;x-amz-content-sha256;x-amz-date;x-amz-expected-bucket-owner".to_owned();
        let mut canonical = format!(
            "HEAD\n{path}\n{query}\nhost:{host}\nx-amz-content-sha256:{EMPTY}\nx-amz-date:{}\n\
             x-amz-expected-bucket-owner:{owner}\n",
            self.date_time
        );
        if let Some(token) = &self.token {
            signed.push_str(";x-amz-security-token");
            let _ = writeln!(canonical, "x-amz-security-token:{token}");
        }
        let _ = write!(canonical, "\n{signed}\n{EMPTY}");
        let hash = hex::encode(Sha256::digest(canonical));
        let text = format!("AWS4-HMAC-SHA256\n{}\n{}\n{hash}", self.date_time, self.scope);
        let signature = calculate_signature(&self.key, text.as_bytes());
        let (access_key, scope) = (&self.access_key, &self.scope);
        format!("AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={signed}, Signature={signature}")
    }
}

/// The time and the date in the form of signatures.
fn formatted(now: OffsetDateTime) -> (String, String) {
    let date = format!("{:04}{:02}{:02}", now.year(), u8::from(now.month()), now.day());
    (format!("{date}T{:02}{:02}{:02}Z", now.hour(), now.minute(), now.second()), date)
}

/// The answer to a HEAD has no body, so that only the status shows the reason. The SDK names this code.
fn refusal(status: u16) -> ErrorMetadata {
    let metadata = ErrorMetadata::builder();
    if status == 404 { metadata.code("NotFound").build() } else { metadata.build() }
}

/// An HTTP client asks these components for a clock and a way to sleep, and has its own. The other components have to be
/// there and are not used.
fn components(credentials: SharedCredentialsProvider) -> Option<RuntimeComponents> {
    let components = RuntimeComponents::builder("head")
        .with_auth_scheme_option_resolver(Some(StaticAuthSchemeOptionResolver::new(Vec::new())))
        .with_endpoint_resolver(Some(StaticUriEndpointResolver::http_localhost(0)))
        .with_auth_scheme(SigV4AuthScheme::new())
        .with_identity_cache(Some(IdentityCache::no_cache()))
        .with_identity_resolver(SCHEME_ID, credentials)
        .with_retry_strategy(Some(NeverRetryStrategy::new()));
    components.build().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::SystemTime;

    use aws_credential_types::Credentials;
    use aws_sigv4::http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
        UriPathNormalizationMode, sign,
    };
    use aws_sigv4::sign::v4;
    use aws_smithy_runtime_api::client::connection::ConnectionMetadata;
    use aws_smithy_runtime_api::client::http::{HttpConnectorFuture, http_client_fn};
    use aws_smithy_runtime_api::client::identity::Identity;

    use super::*;
    use crate::Environment;
    use crate::service_error::{Kind, ServiceError};

    /// Answers each request with the same status, or never; keeps the requests, and counts the connections that must not
    /// be used again.
    #[derive(Debug, Clone, Default)]
    struct Wire {
        status: Option<u16>,
        requests: Arc<Mutex<Vec<HttpRequest>>>,
        poisoned: Arc<AtomicUsize>,
    }

    impl HttpConnector for Wire {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let poisoned = Arc::clone(&self.poisoned);
            request.extension::<CaptureSmithyConnection>().unwrap().set_connection_retriever(move || {
                let poisoned = Arc::clone(&poisoned);
                let poison = move || {
                    poisoned.fetch_add(1, Ordering::Relaxed);
                };
                Some(ConnectionMetadata::builder().proxied(false).poison_fn(poison).build())
            });
            self.requests.lock().unwrap().push(request);
            let Some(status) = self.status else { return HttpConnectorFuture::new(std::future::pending()) };
            let mut response = HttpResponse::new(status.try_into().unwrap(), SdkBody::empty());
            response.headers_mut().insert("etag", "\"e\"");
            HttpConnectorFuture::ready(Ok(response))
        }
    }

    fn client(status: Option<u16>, token: Option<&'static str>) -> (HeadClient, Wire) {
        let mut environment = vec![
            ("AWS_REGION", "ap-northeast-1"),
            ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ];
        environment.extend(token.map(|token| ("AWS_SESSION_TOKEN", token)));
        let wire = Wire { status, ..Wire::default() };
        let connector = SharedHttpConnector::new(wire.clone());
        let environment: Environment = environment.into_iter().collect();
        let aws = crate::aws::load(&environment).into_builder();
        let aws = aws.http_client(http_client_fn(move |_, _| connector.clone())).build();
        (HeadClient::new(&aws).unwrap(), wire)
    }

    fn target<'a>(base: &'a Base, key: &'a str, query: &'a str) -> Target<'a> {
        Target { base, key, query, owner: "222222222222" }
    }

    /// The header `authorization` that the SDK's library calculates for the same request.
    fn signed_by_the_library(request: &HttpRequest, token: Option<&str>, now: OffsetDateTime) -> String {
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let credentials = Credentials::new("AKIAEXAMPLE", "secret", token.map(str::to_owned), None, "test");
        let identity: Identity = credentials.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region("ap-northeast-1")
            .name("s3")
            .time(SystemTime::from(now))
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let own = ["authorization", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"];
        let headers = request.headers().iter().filter(|(name, _)| !own.contains(name));
        let signable = SignableRequest::new(request.method(), request.uri(), headers, SignableBody::empty()).unwrap();
        let (instructions, _) = sign(signable, &params).unwrap().into_parts();
        instructions.headers().find(|(name, _)| *name == "authorization").unwrap().1.to_owned()
    }

    #[tokio::test]
    async fn a_request_has_the_signature_that_the_sdks_library_calculates() {
        let hosts = ["https://bucket.s3.ap-northeast-1.amazonaws.com", "http://127.0.0.1:4566/bucket/"];
        let keys = [("shop/a.zip", ""), ("a%20b/../%E9%96%A2%25", "versionId=a%3Db"), ("//x~-_.", "versionId=null")];
        for (url, (key, query), token) in hosts
            .iter()
            .flat_map(|url| keys.map(|key| (url, key)))
            .flat_map(|(url, key)| [None, Some("token/with+signs=")].map(|token| (*url, key, token)))
        {
            let (client, wire) = client(Some(200), token);
            let base = Base::parse(url).unwrap();
            client.send(target(&base, key, query)).await.unwrap();
            let stamp = client.stamp.borrow().clone().unwrap();
            let requests = wire.requests.lock().unwrap();
            let [request] = requests.as_slice() else { panic!("one attempt") };
            let mark = if query.is_empty() { "" } else { "?" };
            assert_eq!(request.uri(), format!("{}/{key}{mark}{query}", url.trim_end_matches('/')));
            assert_eq!(request.method(), "HEAD");
            assert_eq!(request.headers().get("x-amz-expected-bucket-owner"), Some("222222222222"));
            assert_eq!(request.headers().get("x-amz-security-token"), token);
            let now = OffsetDateTime::from_unix_timestamp(stamp.second).unwrap();
            let expected = signed_by_the_library(request, token, now);
            assert_eq!(request.headers().get("authorization"), Some(expected.as_str()), "{url} {key} {query}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_one_attempt_whose_result_has_the_kind_that_the_sdk_gives_it() {
        let cases = [
            (Some(200), None, 0),
            (Some(403), Some((Kind::Refused, None)), 0),
            (Some(404), Some((Kind::Refused, Some("NotFound"))), 0),
            (Some(500), Some((Kind::Unavailable, None)), 1),
            (Some(503), Some((Kind::Throttled, None)), 1),
            // No answer within the time of an attempt.
            (None, Some((Kind::Unavailable, None)), 0),
        ];
        for (status, expected, poisoned) in cases {
            let (client, wire) = client(status, None);
            let base = Base::parse("https://bucket.s3.ap-northeast-1.amazonaws.com").unwrap();
            let answer = client.send(target(&base, "k", "")).await;
            assert_eq!(wire.requests.lock().unwrap().len(), 1, "{status:?}");
            assert_eq!(wire.poisoned.load(Ordering::Relaxed), poisoned, "{status:?}");
            match expected {
                None => assert_eq!(answer.unwrap().get("etag"), Some("\"e\"")),
                Some((kind, code)) => {
                    let error = ServiceError::new("s3:HeadObject", answer.unwrap_err());
                    assert_eq!((error.kind, error.code(), error.status), (kind, code, status), "{status:?}");
                }
            }
        }
    }

    #[test]
    fn a_base_has_a_scheme() {
        assert_eq!(Base::parse("s3.amazonaws.com"), None);
        let base = Base::parse("https://s3.amazonaws.com/bucket/").unwrap();
        assert_eq!(
            (base.origin.as_str(), base.host.as_str(), base.path.as_str()),
            ("https://s3.amazonaws.com", "s3.amazonaws.com", "/bucket")
        );
    }

    #[test]
    fn a_secret_is_not_shown() {
        let key = b"secret".to_vec();
        let (date_time, scope) = (String::new(), String::new());
        let stamp = Stamp { second: 0, date_time, scope, access_key: String::new(), token: Some("token".into()), key };
        assert_eq!(format!("{stamp:?}"), "Stamp { second: 0, .. }");
    }
}
