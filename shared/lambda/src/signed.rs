//! Calls of operations that a function needs only now and then. Each service's crate makes a function's zip some 0.05 MB
//! larger, because it brings its own rules for endpoints. This module needs none: it builds on the parts of the SDK that
//! all service crates share, so retries, timeouts, signatures, connections and the variables of the environment work in
//! the same way.

use aws_runtime::auth::sigv4::{SCHEME_ID, SigV4AuthScheme};
use aws_runtime::auth::{SigV4OperationSigningConfig, SigningOptions};
use aws_runtime::retries::classifiers::AwsErrorCodeClassifier;
use aws_smithy_runtime::client::identity::IdentityCache;
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime::client::retries::classifiers::{HttpStatusCodeClassifier, TransientErrorClassifier};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_runtime_api::client::auth::{
    AuthSchemeOptionResolverParams, SharedAuthScheme, SharedAuthSchemeOptionResolver,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use aws_smithy_runtime_api::client::runtime_plugin::StaticRuntimePlugin;
use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::Layer;
use aws_smithy_types::error::ErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SigningName;
use aws_types::region::{Region, SigningRegion};
use serde_json::Value;

use crate::aws::{SdkConfig, custom_endpoint};
use crate::service_error::ServiceError;

/// A service of AWS.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// The name in `AWS_ENDPOINT_URL_<ID>`, such as `CloudTrail`.
    pub id: &'static str,
    /// The beginning of its host names, which is also its name in signatures, such as `cloudtrail`.
    pub host: &'static str,
}

/// S3 with the bucket's name in the path.
const S3: Service = Service { id: "S3", host: "s3" };
/// The part of S3 that has jobs, whose host names begin with the account.
const S3_CONTROL: Service = Service { id: "S3 Control", host: "s3-control" };

/// A service in one region, which gets signed calls.
#[derive(Debug)]
pub struct Signed {
    host: &'static str,
    operation: Operation<Request, Reply, ErrorMetadata>,
}

/// The parts of a call that differ from call to call.
#[derive(Debug)]
struct Request {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

/// A service's answer.
#[derive(Debug)]
pub struct Reply {
    headers: Headers,
    /// The text of the answer.
    pub body: String,
}

impl Reply {
    /// The value of a header, whose name is in lower case.
    #[must_use]
    pub fn header(&self, name: &'static str) -> Option<&str> {
        self.headers.get(name)
    }
}

impl Signed {
    /// The service in a region; without one, in the function's own region.
    #[must_use]
    pub fn new(aws: &SdkConfig, service: &Service, region: Option<&str>) -> Self {
        let region = region.map(|region| Region::new(region.to_owned())).or_else(|| aws.region().cloned());
        let region = region.unwrap_or_else(|| Region::new(""));
        let endpoint = endpoint(aws, service, "", &region);
        Self::signed_with(aws, service.host, &endpoint, region, SigningOptions::default())
    }

    /// S3 in the function's own region.
    #[must_use]
    pub fn s3(aws: &SdkConfig) -> Self {
        Self::signed_for_s3(aws, &S3, "")
    }

    /// The jobs of S3 Batch Operations of an account, in the function's own region.
    #[must_use]
    pub fn s3_control(aws: &SdkConfig, account: &str) -> Self {
        Self::signed_for_s3(aws, &S3_CONTROL, &format!("{account}."))
    }

    fn signed_for_s3(aws: &SdkConfig, service: &Service, prefix: &str) -> Self {
        let mut options = SigningOptions::default();
        options.double_uri_encode = false;
        options.normalize_uri_path = false;
        options.content_sha256_header = true;
        let region = aws.region().cloned().unwrap_or_else(|| Region::new(""));
        let endpoint = endpoint(aws, service, prefix, &region);
        Self::signed_with(aws, S3.host, &endpoint, region, options)
    }

    /// `name` is the service's name in signatures.
    fn signed_with(
        aws: &SdkConfig,
        name: &'static str,
        endpoint: &str,
        region: Region,
        options: SigningOptions,
    ) -> Self {
        let operation = Operation::builder()
            .service_name(name)
            .operation_name("signed")
            .endpoint_url(endpoint)
            .standard_retry(&aws.retry_config().cloned().unwrap_or_else(RetryConfig::standard))
            .timeout_config(aws.timeout_config().cloned().unwrap_or_else(TimeoutConfig::disabled))
            .retry_classifier(TransientErrorClassifier::<ErrorMetadata>::new())
            .retry_classifier(AwsErrorCodeClassifier::<ErrorMetadata>::new())
            .retry_classifier(HttpStatusCodeClassifier::default())
            .runtime_plugin(signature(aws, name, region, options))
            .serializer(serialize)
            .deserializer(deserialize);
        let operation = match aws.http_client() {
            Some(http) => operation.http_client(http),
            None => operation,
        };
        Self { host: name, operation: operation.build() }
    }

    /// Calls an operation of a service whose protocol is JSON 1.1. `target` is the header `X-Amz-Target`, such as
    /// `CloudTrail_20131101.LookupEvents`.
    ///
    /// # Errors
    /// If the service refuses the call, does not answer, or answers with something other than JSON.
    pub async fn json(&self, target: &str, body: &Value) -> Result<Value, ServiceError> {
        let name = format!("{}:{}", self.host, target.rsplit('.').next().unwrap_or(target));
        let headers =
            vec![("content-type", "application/x-amz-json-1.1".to_owned()), ("x-amz-target", target.to_owned())];
        let request = Request { method: "POST", path: "/".to_owned(), headers, body: body.to_string() };
        let reply = self.send(&name, request).await?;
        serde_json::from_str(&reply.body).map_err(|error| ServiceError::unexpected(name, error))
    }

    /// Posts a text to a path, whose parts have to be percent-encoded.
    ///
    /// # Errors
    /// If the service refuses the call, or does not answer.
    pub async fn post(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
        body: String,
    ) -> Result<Reply, ServiceError> {
        self.text("POST", path, headers, body).await
    }

    /// Gets the text of a path, whose parts have to be percent-encoded.
    ///
    /// # Errors
    /// If the service refuses the call, or does not answer.
    pub async fn get(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<Reply, ServiceError> {
        self.text("GET", path, headers, String::new()).await
    }

    /// Puts a text to a path, whose parts have to be percent-encoded.
    ///
    /// # Errors
    /// If the service refuses the call, or does not answer.
    pub async fn put(&self, path: &str, headers: &[(&'static str, &str)], body: String) -> Result<Reply, ServiceError> {
        self.text("PUT", path, headers, body).await
    }

    async fn text(
        &self,
        method: &'static str,
        path: &str,
        headers: &[(&'static str, &str)],
        body: String,
    ) -> Result<Reply, ServiceError> {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let request = Request { method, path: path.to_owned(), headers, body };
        self.send(&format!("{}:{path}", self.host), request).await
    }

    async fn send(&self, name: &str, request: Request) -> Result<Reply, ServiceError> {
        self.operation.invoke(request).await.map_err(|error| ServiceError::new(name.to_owned(), error))
    }
}

/// The endpoint that the environment sets for the service, or AWS's own, whose host name begins with `prefix`.
fn endpoint(aws: &SdkConfig, service: &Service, prefix: &str, region: &Region) -> String {
    let domain = if region.as_ref().starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let own = || format!("https://{prefix}{}.{region}.{domain}", service.host);
    custom_endpoint(aws, service.id).unwrap_or_else(own)
}

/// What signs each attempt with the function's credentials.
fn signature(
    aws: &SdkConfig,
    name: &'static str,
    region: Region,
    signing_options: SigningOptions,
) -> StaticRuntimePlugin {
    let mut config = Layer::new("signature");
    config.store_put(AuthSchemeOptionResolverParams::new(()));
    config.store_put(SigningName::from_static(name));
    config.store_put(SigningRegion::from(region));
    config.store_put(SigV4OperationSigningConfig { signing_options, ..SigV4OperationSigningConfig::default() });
    let mut components = RuntimeComponentsBuilder::new("signature")
        .with_auth_scheme(SharedAuthScheme::new(SigV4AuthScheme::new()))
        .with_auth_scheme_option_resolver(Some(SharedAuthSchemeOptionResolver::new(
            StaticAuthSchemeOptionResolver::new(vec![SCHEME_ID]),
        )))
        .with_identity_cache(Some(IdentityCache::no_cache()));
    if let Some(credentials) = aws.credentials_provider() {
        components.set_identity_resolver(SCHEME_ID, credentials);
    }
    StaticRuntimePlugin::new().with_config(config.freeze()).with_runtime_components(components)
}

fn serialize(request: Request) -> Result<HttpRequest, BoxError> {
    let mut http = HttpRequest::new(SdkBody::from(request.body));
    http.set_method(request.method)?;
    http.set_uri(request.path)?;
    for (name, value) in request.headers {
        http.headers_mut().try_insert(name, value)?;
    }
    Ok(http)
}

fn deserialize(response: &HttpResponse) -> Result<Reply, OrchestratorError<ErrorMetadata>> {
    let body = String::from_utf8_lossy(response.body().bytes().unwrap_or_default()).into_owned();
    if response.status().is_success() {
        return Ok(Reply { headers: response.headers().clone(), body });
    }
    Err(OrchestratorError::operation(refusal(response.headers().get("x-amzn-errortype"), &body)))
}

/// The code and the message of an error. The code is in a header or in the field `__type`, between a namespace and a
/// link. S3 answers in XML.
fn refusal(header: Option<&str>, body: &str) -> ErrorMetadata {
    if body.starts_with('<') {
        let element = |name: &str| Some(body.split_once(&format!("<{name}>"))?.1.split_once("</")?.0);
        let metadata = ErrorMetadata::builder().code(element("Code").unwrap_or_default());
        return metadata.message(element("Message").unwrap_or_default()).build();
    }
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let field = |names: [&str; 2]| names.iter().find_map(|name| body.get(name)?.as_str());
    let mut metadata = ErrorMetadata::builder();
    if let Some(code) = header.or_else(|| field(["__type", "code"])) {
        let code = code.rsplit('#').next().unwrap_or(code);
        metadata = metadata.code(code.split(':').next().unwrap_or(code));
    }
    if let Some(message) = field(["message", "Message"]) {
        metadata = metadata.message(message);
    }
    metadata.build()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use aws_smithy_runtime_api::client::http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
    };
    use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
    use serde_json::json;

    use super::*;
    use crate::Environment;
    use crate::service_error::Kind;

    const PEOPLE: Service = Service { id: "identitystore", host: "identitystore" };

    /// Answers each attempt with the next status and text, and keeps the requests.
    #[derive(Debug, Clone, Default)]
    struct Wire {
        answers: Arc<Mutex<Vec<(u16, &'static str)>>>,
        requests: Arc<Mutex<Vec<HttpRequest>>>,
    }

    impl HttpConnector for Wire {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            self.requests.lock().unwrap().push(request);
            let (status, body) = self.answers.lock().unwrap().remove(0);
            HttpConnectorFuture::ready(Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))))
        }
    }

    impl HttpClient for Wire {
        fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
            SharedHttpConnector::new(self.clone())
        }
    }

    fn signed(answers: &[(u16, &'static str)], region: Option<&str>) -> (Signed, Wire) {
        let variables = [
            ("AWS_REGION", "ap-northeast-1"),
            ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_SESSION_TOKEN", "token"),
        ];
        let environment: Environment = variables.into_iter().collect();
        let wire = Wire { answers: Arc::new(Mutex::new(answers.to_vec())), ..Wire::default() };
        let aws = crate::aws::load(&environment).into_builder().http_client(wire.clone()).build();
        (Signed::new(&aws, &PEOPLE, region), wire)
    }

    #[tokio::test]
    async fn a_call_is_signed_for_the_service_and_the_region() {
        for (region, name) in [(None, "ap-northeast-1"), (Some("eu-west-1"), "eu-west-1")] {
            let (signed, wire) = signed(&[(200, r#"{"UserId":"u"}"#)], region);
            let answer = signed.json("AWSIdentityStore.GetUserId", &json!({"a": 1})).await.unwrap();
            assert_eq!(answer, json!({"UserId": "u"}));
            let requests = wire.requests.lock().unwrap();
            let [request] = requests.as_slice() else { panic!("one attempt") };
            assert_eq!(request.uri(), format!("https://identitystore.{name}.amazonaws.com/"));
            assert_eq!((request.method(), request.body().bytes()), ("POST", Some(br#"{"a":1}"#.as_slice())));
            let header = |name| request.headers().get(name).unwrap_or_default();
            assert_eq!(header("x-amz-target"), "AWSIdentityStore.GetUserId");
            assert_eq!(header("x-amz-security-token"), "token");
            let scope = format!("/{name}/identitystore/aws4_request, SignedHeaders=");
            assert!(header("authorization").contains(&scope), "{}", header("authorization"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_tried_three_times() {
        let down = (500, "{}");
        let slow = (400, r#"{"__type":"ThrottlingException"}"#);
        let (calls, wire) = signed(&[down, slow, (200, "{}")], None);
        assert_eq!(calls.json("A.B", &json!({})).await.unwrap(), json!({}));
        assert_eq!(wire.requests.lock().unwrap().len(), 3);
        let (calls, _) = signed(&[down, down, slow], None);
        assert_eq!(calls.json("A.B", &json!({})).await.unwrap_err().kind, Kind::Throttled);
    }

    #[tokio::test]
    async fn a_refusal_has_the_services_code_and_message() {
        let refused = r#"{"__type":"com.amazonaws.identitystore#ResourceNotFoundException","Message":"no user"}"#;
        let (calls, _) = signed(&[(400, refused)], None);
        let error = calls.json("A.B", &json!({})).await.unwrap_err();
        assert_eq!((error.kind, error.code()), (Kind::Refused, Some("ResourceNotFoundException")));
        assert_eq!(error.operation, "identitystore:B");
        assert_eq!(error.message.as_deref(), Some("no user"));
        let metadata = refusal(Some("AccessDeniedException:http://internal"), "");
        assert_eq!((metadata.code(), metadata.message()), (Some("AccessDeniedException"), None));
    }

    #[tokio::test]
    async fn s3_gets_the_hash_of_the_body_and_answers_in_xml() {
        let wire = Wire::default();
        let variables = [("AWS_REGION", "eu-west-1"), ("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "s")];
        let aws = crate::aws::load(&variables.into_iter().collect()).into_builder().http_client(wire.clone()).build();
        let refused = "<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code><Message>no</Message></Error>";
        wire.answers.lock().unwrap().extend([(200, ""), (403, refused)]);
        let s3 = Signed::s3(&aws);
        s3.put("/bucket/a-b/1.csv", &[("content-type", "text/csv")], "abc".to_owned()).await.unwrap();
        let error = s3.put("/bucket/a-b/1.csv", &[], "abc".to_owned()).await.unwrap_err();
        assert_eq!(
            (error.kind, error.code(), error.message.as_deref()),
            (Kind::Refused, Some("AccessDenied"), Some("no"))
        );
        let requests = wire.requests.lock().unwrap();
        assert_eq!(
            (requests[0].method(), requests[0].uri()),
            ("PUT", "https://s3.eu-west-1.amazonaws.com/bucket/a-b/1.csv")
        );
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(requests[0].headers().get("x-amz-content-sha256"), Some(hash));
        assert!(requests[0].headers().get("authorization").unwrap().contains("/eu-west-1/s3/aws4_request"));
    }

    #[tokio::test]
    async fn the_jobs_of_an_account_have_a_host_name_of_their_own() {
        let wire = Wire::default();
        let variables = [("AWS_REGION", "eu-west-1"), ("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "s")];
        let aws = crate::aws::load(&variables.into_iter().collect()).into_builder().http_client(wire.clone()).build();
        wire.answers.lock().unwrap().push((200, "<a/>"));
        let jobs = Signed::s3_control(&aws, "222222222222");
        assert_eq!(jobs.get("/v20180820/jobs/1", &[("x-amz-account-id", "222222222222")]).await.unwrap().body, "<a/>");
        let requests = wire.requests.lock().unwrap();
        let uri = "https://222222222222.s3-control.eu-west-1.amazonaws.com/v20180820/jobs/1";
        assert_eq!((requests[0].method(), requests[0].uri()), ("GET", uri));
        let authorization = requests[0].headers().get("authorization").unwrap();
        assert!(authorization.contains("/eu-west-1/s3/aws4_request"), "{authorization}");
        assert!(authorization.contains("x-amz-account-id"), "{authorization}");
    }

    #[test]
    fn the_endpoint_is_that_of_the_environment_or_of_the_partition() {
        let aws = |variables: &[(&str, &str)]| crate::aws::load(&variables.iter().copied().collect());
        let of = |aws: &SdkConfig, region: &str| endpoint(aws, &PEOPLE, "", &Region::new(region.to_owned()));
        let none = aws(&[("AWS_REGION", "us-east-1")]);
        assert_eq!(of(&none, "us-east-1"), "https://identitystore.us-east-1.amazonaws.com");
        assert_eq!(of(&none, "cn-north-1"), "https://identitystore.cn-north-1.amazonaws.com.cn");
        let all = ("AWS_ENDPOINT_URL", "http://all");
        assert_eq!(of(&aws(&[all]), "us-east-1"), "http://all");
        assert_eq!(of(&aws(&[all, ("AWS_ENDPOINT_URL_IDENTITYSTORE", "http://own")]), "us-east-1"), "http://own");
    }
}
