//! A world to check artifacts in: S3 with versions, locks, keys and faults, KMS, CodePipeline, STS, SNS and Lambda, as
//! the SDKs' requests and answers have them on the wire.
//!
//! It is honest in what the checker relies on: a copy makes a new version and drops what S3 drops, an update changes the
//! key alone and is refused under a lock, what a key does not decrypt can't be read or copied, and a condition that does
//! not hold is a 412. It counts every write and remembers who was asked what.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod s3;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use artifact_checker::handler::{Answer, Checker, Clients, Error, Known};
use artifact_checker::key::KeyArn;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::retry::RetryConfig;
use sekisho_domain::artifacts::{Artifacts, Repair};
use sekisho_lambda::Invocation;
use sekisho_lambda::aws::SdkConfig;
use sekisho_ledger::Memory;
use time::OffsetDateTime;
use tokio::time::Instant;

use s3::Bucket;

pub(crate) const ACCOUNT: &str = "222222222222";
pub(crate) const OTHER_ACCOUNT: &str = "111111111111";
pub(crate) const REGION: &str = "ap-northeast-1";
pub(crate) const BUCKET: &str = "sekisho-artifacts-222222222222-ap-northeast-1";
pub(crate) const TOPIC: &str = "arn:aws:sns:ap-northeast-1:222222222222:sekisho-notices";

/// The ARN of a key of this account.
pub(crate) fn key(id: &str) -> String {
    format!("arn:aws:kms:{REGION}:{ACCOUNT}:key/{id}")
}

/// A request as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) service: String,
    /// Such as `HeadObject`.
    pub(crate) operation: String,
    pub(crate) method: String,
    /// Decoded, without the leading slash.
    pub(crate) path: String,
    /// Decoded.
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<String>) -> Self {
        self.body = body.into();
        self
    }

    /// An error as S3 writes it.
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::new(status).with("content-type", "application/xml").body(format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
             <RequestId>0A49CE4060975EAC</RequestId></Error>"
        ))
    }

    /// An error as the services that speak JSON write it.
    pub(crate) fn json_error(code: &str, message: &str) -> Self {
        Self::new(400).body(serde_json::json!({"__type": code, "message": message}).to_string())
    }
}

/// What a fault does to a request of S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// 503 `SlowDown`, nothing done.
    SlowDown,
    /// Done, and 500 answered.
    AnswerLost,
    /// 500, nothing done.
    Internal,
}

/// A KMS key.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) state: String,
    /// Whether this function may describe it.
    pub(crate) shown: bool,
}

type Script = Box<dyn FnMut(&Request) -> Option<Response> + Send>;

/// Everything outside the function.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) buckets: BTreeMap<String, Bucket>,
    pub(crate) keys: BTreeMap<String, Key>,
    pub(crate) aliases: BTreeMap<String, String>,
    /// Pipelines as `GetPipeline` has them, by name; `None` answers `AccessDenied` to all of `CodePipeline`.
    pub(crate) pipelines: Option<BTreeMap<String, serde_json::Value>>,
    pub(crate) actions: BTreeMap<String, Vec<serde_json::Value>>,
    pub(crate) consumer_may_be_taken: bool,
    /// Keys that the consumer's role may not use.
    pub(crate) not_for_consumer: BTreeSet<String>,
    pub(crate) requests: Vec<Request>,
    pub(crate) published: Vec<String>,
    pub(crate) invoked: Vec<String>,
    pub(crate) faults: BTreeMap<usize, Fault>,
    /// Answers before all else, where it has one.
    pub(crate) script: Option<Script>,
    /// Requests to S3 so far.
    pub(crate) asked: usize,
    /// How long S3 takes to answer.
    pub(crate) latency: Duration,
    serial: u64,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

impl State {
    /// A number that was not there before.
    pub(crate) fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(crate) fn operations(&self, service: &str) -> Vec<String> {
        self.requests.iter().filter(|r| r.service == service).map(|r| r.operation.clone()).collect()
    }
}

/// The world; clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct World(Arc<Mutex<State>>);

impl World {
    /// One bucket with versions, the right key, another, and no pipelines.
    pub(crate) fn new() -> Self {
        let world = Self::default();
        {
            let mut state = world.state();
            state.buckets.insert(BUCKET.to_owned(), Bucket::new(ACCOUNT));
            for id in ["right", "other", "aws-s3"] {
                state.keys.insert(key(id), Key { state: "Enabled".to_owned(), shown: true });
            }
            state.aliases.insert("alias/artifacts".to_owned(), key("right"));
            state.pipelines = Some(BTreeMap::new());
            state.consumer_may_be_taken = true;
        }
        world
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn config(&self) -> SdkConfig {
        let connector = SharedHttpConnector::new(self.clone());
        SdkConfig::builder()
            .behavior_version(sekisho_lambda::aws::BehaviorVersion::v2026_01_12())
            .region(aws_types::region::Region::new(REGION))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
                "AKID", "secret", None, None, "world",
            )))
            .http_client(http_client_fn(move |_, _| connector.clone()))
            .sleep_impl(TokioSleep::new())
            .retry_config(RetryConfig::standard().with_max_attempts(3))
            .build()
    }

    /// The function, as it is after a cold start.
    pub(crate) fn checker(&self, repair: Repair) -> Checker<Memory> {
        Checker {
            ledger: Memory::default(),
            config: Artifacts { repair, consumer_role: None },
            bucket: BUCKET.to_owned(),
            key: KeyArn::parse(&key("right")).unwrap(),
            topic: TOPIC.to_owned(),
            clients: Clients::new(&self.config(), true),
            now,
            known: Known::default(),
        }
    }

    fn answer(&self, request: &HttpRequest) -> Option<Response> {
        let request = read(request);
        let mut state = self.state();
        state.requests.push(request.clone());
        let mut script = state.script.take();
        let scripted = script.as_mut().and_then(|script| script(&request));
        state.script = script;
        if scripted.is_some() {
            return scripted;
        }
        match request.service.as_str() {
            "s3" => {
                state.asked += 1;
                let asked = state.asked;
                match state.faults.remove(&asked) {
                    Some(Fault::SlowDown) => Some(Response::error(503, "SlowDown", "Please reduce your request rate.")),
                    Some(Fault::Internal) => Some(Response::error(500, "InternalError", "We encountered an error.")),
                    Some(Fault::AnswerLost) => {
                        s3::answer(&mut state, &request);
                        Some(Response::error(500, "InternalError", "We encountered an error."))
                    }
                    None => Some(s3::answer(&mut state, &request)),
                }
            }
            "kms" => Some(describe_key(&state, &request)),
            "codepipeline" => Some(codepipeline(&state, &request)),
            "sts" => Some(assume_role(&state)),
            "sns" => {
                let message = form(&request.body).remove("Message").unwrap_or_default();
                state.published.push(message);
                let body = "<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>";
                Some(Response::new(200).body(body))
            }
            "lambda" => {
                state.invoked.push(request.body.clone());
                Some(Response::new(202))
            }
            other => panic!("nobody asks {other}"),
        }
    }
}

impl HttpConnector for World {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let world = self.clone();
        HttpConnectorFuture::new(async move {
            let latency = world.state().latency;
            if latency > Duration::ZERO {
                tokio::time::sleep(latency).await;
            }
            let answer = world.answer(&request).unwrap_or_else(|| Response::new(500));
            let body = if request.method() == "HEAD" { SdkBody::empty() } else { SdkBody::from(answer.body) };
            let mut response = HttpResponse::new(answer.status.try_into().unwrap(), body);
            for (name, value) in answer.headers {
                response.headers_mut().insert(name, value);
            }
            Ok(response)
        })
    }
}

/// The clock of tests: it stands while nobody sleeps.
pub(crate) fn now() -> OffsetDateTime {
    thread_local!(static START: Instant = Instant::now());
    OffsetDateTime::from_unix_timestamp(1_795_305_600).unwrap() + START.with(|start| Instant::now() - *start)
}

pub(crate) fn invocation(request_id: &str, time: Duration) -> Invocation {
    Invocation {
        request_id: request_id.to_owned(),
        partition: "aws".to_owned(),
        account: ACCOUNT.parse().unwrap(),
        region: REGION.parse().unwrap(),
        function: "sekisho-artifact-checker".to_owned(),
        deadline: now() + time,
    }
}

/// Answers a payload with Lambda's full time.
pub(crate) async fn handle(checker: &Checker<Memory>, request_id: &str, payload: &str) -> Result<Answer, Error> {
    Box::pin(checker.handle(payload, &invocation(request_id, Duration::from_mins(15)))).await
}

/// An event of S3 as EventBridge delivers it.
pub(crate) fn created(bucket: &str, key: &str, version: Option<&str>) -> String {
    let mut object = serde_json::json!({"key": key, "size": 1, "etag": "e", "sequencer": "00"});
    if let Some(version) = version {
        object["version-id"] = version.into();
    }
    serde_json::json!({
        "version": "0", "id": "7bf73129-1428-4cd3-a780-95db273d1602", "detail-type": "Object Created", "source": "aws.s3",
        "account": ACCOUNT, "time": "2026-11-21T23:45:00Z", "region": REGION, "resources": [format!("arn:aws:s3:::{bucket}")],
        "detail": {"version": "0", "bucket": {"name": bucket}, "object": object, "request-id": "N4N7GDK58NMKJ12R",
                   "requester": OTHER_ACCOUNT, "source-ip-address": "1.2.3.4", "reason": "PutObject"},
    })
    .to_string()
}

fn read(request: &HttpRequest) -> Request {
    let uri = request.uri();
    let (_, rest) = uri.split_once("://").unwrap();
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let service = host.split('.').next().unwrap().to_owned();
    let headers: BTreeMap<String, String> =
        request.headers().iter().map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let mut request = Request {
        operation: String::new(),
        method: request.method().to_owned(),
        path: decode(path),
        query: form(query),
        body: request.body().bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default(),
        headers,
        service,
    };
    request.operation = match request.service.as_str() {
        "s3" => s3::operation(&request).to_owned(),
        _ => match request.header("x-amz-target") {
            Some(target) => target.rsplit('.').next().unwrap().to_owned(),
            None => form(&request.body).remove("Action").unwrap_or_else(|| request.path.clone()),
        },
    };
    request
}

pub(crate) fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
}

pub(crate) fn form(text: &str) -> BTreeMap<String, String> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(&name.replace('+', " ")), decode(&value.replace('+', " "))))
        .collect()
}

fn describe_key(state: &State, request: &Request) -> Response {
    let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    let name = body["KeyId"].as_str().unwrap();
    let alias = name.rsplit_once(':').map_or(name, |(_, resource)| resource);
    let arn = match state.aliases.get(alias) {
        Some(arn) => arn.clone(),
        None if name.starts_with("arn:") => name.to_owned(),
        None => key(name),
    };
    match state.keys.get(&arn) {
        None => Response::json_error("NotFoundException", "Key does not exist"),
        Some(key) if !key.shown => Response::json_error("AccessDeniedException", "not authorized: kms:DescribeKey"),
        Some(key) => Response::new(200).body(
            serde_json::json!({"KeyMetadata": {"KeyId": arn.rsplit('/').next(), "Arn": arn, "KeyState": key.state}})
                .to_string(),
        ),
    }
}

fn codepipeline(state: &State, request: &Request) -> Response {
    let Some(pipelines) = &state.pipelines else {
        return Response::json_error("AccessDeniedException", "not authorized to perform: codepipeline:ListPipelines");
    };
    let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    let answer = match request.operation.as_str() {
        "ListPipelines" => {
            let names: Vec<_> = pipelines.keys().map(|name| serde_json::json!({"name": name})).collect();
            serde_json::json!({"pipelines": names})
        }
        "GetPipeline" => match pipelines.get(body["name"].as_str().unwrap()) {
            Some(pipeline) => serde_json::json!({"pipeline": pipeline}),
            None => return Response::json_error("PipelineNotFoundException", "no such pipeline"),
        },
        "ListActionExecutions" => {
            let actions = state.actions.get(body["pipelineName"].as_str().unwrap()).cloned().unwrap_or_default();
            serde_json::json!({"actionExecutionDetails": actions})
        }
        other => panic!("CodePipeline is not asked for {other}"),
    };
    Response::new(200).body(answer.to_string())
}

fn assume_role(state: &State) -> Response {
    if !state.consumer_may_be_taken {
        return Response::new(403).body(
            "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not authorized to perform: \
             sts:AssumeRole</Message></Error></ErrorResponse>",
        );
    }
    let mut body = String::from("<AssumeRoleResponse><AssumeRoleResult><Credentials>");
    let _ = write!(
        body,
        "<AccessKeyId>CONSUMER</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
         <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    );
    Response::new(200).body(body)
}

/// A pipeline as `GetPipeline` has it.
pub(crate) fn pipeline(name: &str, bucket: &str, key: Option<&str>) -> serde_json::Value {
    let mut store = serde_json::json!({"type": "S3", "location": bucket});
    if let Some(key) = key {
        store["encryptionKey"] = serde_json::json!({"id": key, "type": "KMS"});
    }
    serde_json::json!({"name": name, "roleArn": "arn:aws:iam::222222222222:role/p", "stages": [], "artifactStore": store})
}
