//! A simulated world around the function: S3 with versions, locks, keys and faults, KMS, CodePipeline, STS, SNS and
//! Lambda. The SDKs exchange the same requests and answers with the world as with the real services.
//!
//! The world is strict where the function depends on it. A copy makes a new version and drops what S3 drops. An update
//! changes only the key, and a lock refuses it. An object cannot be read or copied if its key does not decrypt. If a
//! condition of a request does not hold, S3 answers 412. The world counts every write and records every request.

pub(crate) mod jobs;
pub(crate) mod ledger;
pub(crate) mod request;
pub(crate) mod s3;
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use artifact_checker::{Answer, Cache, Checker, Clients, Error, KeyArn, Rates, Settings};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::retry::RetryConfig;
use sekisho_domain::artifacts::{Artifacts, BucketArtifacts, Repair};
use sekisho_lambda::Invocation;
use sekisho_lambda::aws::SdkConfig;
use sekisho_ledger::Memory;
use time::OffsetDateTime;
use tokio::time::Instant;

use jobs::{Job, JobRules};
use ledger::Faulty;
pub(crate) use request::{Request, Response};
use s3::{Bucket, Sse};
pub(crate) use services::pipeline;

pub(crate) const FUNCTION: &str = "artifact-checker";
pub(crate) const ACCOUNT: &str = "222222222222";
pub(crate) const OTHER_ACCOUNT: &str = "111111111111";
pub(crate) const REGION: &str = "ap-northeast-1";
pub(crate) const BUCKET: &str = "sekisho-artifacts-222222222222-ap-northeast-1";
const QUEUE: &str = "https://sqs.ap-northeast-1.amazonaws.com/222222222222/sekisho-artifact-ranges";
pub(crate) const TOPIC: &str = "arn:aws:sns:ap-northeast-1:222222222222:sekisho-notices";

/// The ARN of a key of this account.
pub(crate) fn key(id: &str) -> String {
    format!("arn:aws:kms:{REGION}:{ACCOUNT}:key/{id}")
}

/// Encryption under a key of this account.
pub(crate) fn under(id: &str) -> Sse {
    Sse::Kms(key(id))
}

/// Encryption under a key of the other account.
pub(crate) fn foreign() -> Sse {
    Sse::Kms(format!("arn:aws:kms:{REGION}:{OTHER_ACCOUNT}:key/theirs"))
}

/// What a fault does to a request to S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// S3 does nothing and answers 503 `SlowDown`.
    SlowDown,
    /// S3 does what the request says, but answers 500.
    AnswerLost,
    /// S3 does nothing and answers 500.
    Internal,
}

/// A KMS key.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) state: String,
    /// Whether this function may describe the key.
    pub(crate) shown: bool,
    /// When the key is deleted, in seconds since 1970.
    pub(crate) deletion_date: Option<i64>,
    /// When the imported material expires, in seconds since 1970.
    pub(crate) valid_to: Option<i64>,
    /// `CUSTOMER` or `AWS`.
    pub(crate) manager: &'static str,
}

impl Key {
    pub(crate) fn new(state: &str) -> Self {
        Self { state: state.to_owned(), shown: true, deletion_date: None, valid_to: None, manager: "CUSTOMER" }
    }

    /// Whether the key encrypts and decrypts.
    pub(crate) fn works(&self) -> bool {
        matches!(self.state.as_str(), "Enabled" | "Updating")
    }
}

type Script = Box<dyn FnMut(&Request) -> Option<Response> + Send>;

/// Everything outside the function.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) buckets: BTreeMap<String, Bucket>,
    pub(crate) keys: BTreeMap<String, Key>,
    pub(crate) aliases: BTreeMap<String, String>,
    /// Pipelines by name, in the form of `GetPipeline`. If the value is `None`, CodePipeline answers `AccessDenied`.
    pub(crate) pipelines: Option<BTreeMap<String, serde_json::Value>>,
    pub(crate) actions: BTreeMap<String, Vec<serde_json::Value>>,
    /// Executions of all pipelines in the form of `GetPipelineExecution`. The first is the latest.
    pub(crate) executions: Vec<serde_json::Value>,
    /// CodeBuild's answer about a build.
    pub(crate) builds: serde_json::Value,
    /// The roles that the function has assumed or tried to assume.
    pub(crate) assumed: Vec<String>,
    /// The requests to retry a stage.
    pub(crate) retried: Vec<serde_json::Value>,
    pub(crate) consumer_can_be_assumed: bool,
    /// Keys that the consumer's role may not use.
    pub(crate) not_for_consumer: BTreeSet<String>,
    pub(crate) requests: Vec<Request>,
    /// Whether `requests` stays empty, because there are too many.
    pub(crate) forgets_requests: bool,
    /// The messages that were sent to the topic.
    pub(crate) published: Vec<String>,
    /// The details of the events that were sent to the default bus.
    pub(crate) events: Vec<serde_json::Value>,
    /// Whether the default encryption of the deployed bucket, which is under the right key, was reset to S3's own key.
    pub(crate) is_default_reset: bool,
    /// The jobs of S3 Batch Operations.
    pub(crate) jobs: Vec<Job>,
    pub(crate) job_rules: JobRules,
    /// The messages in the function's queue, each with the seconds of its delay.
    pub(crate) queue: Vec<(String, u64)>,
    /// The faults. The key of a fault is the number of the request to S3 that the fault affects.
    pub(crate) faults: BTreeMap<usize, Fault>,
    /// Gets each request before the services do. If the script returns an answer, the services do not get the request.
    pub(crate) script: Option<Script>,
    /// The number of requests to S3 so far.
    s3_requests: usize,
    /// How long every service takes to answer.
    pub(crate) latency: Duration,
    /// An operation that takes longer to answer, or the end of a path, and how long.
    pub(crate) slow_operation: Option<(&'static str, Duration)>,
    serial: u64,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

impl State {
    /// Returns a number that no earlier call returned.
    pub(crate) fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// The operations that were requested from a service, in order.
    pub(crate) fn operations(&self, service: &str) -> Vec<String> {
        self.requests.iter().filter(|r| r.service == service).map(|r| r.operation.clone()).collect()
    }
}

/// The world. Clones share one state.
#[derive(Debug, Clone, Default)]
pub(crate) struct World(Arc<Mutex<State>>);

impl World {
    /// A world with one versioned bucket, the right key, another key, and no pipelines.
    pub(crate) fn new() -> Self {
        let world = Self::default();
        {
            let mut state = world.state();
            state.buckets.insert(BUCKET.to_owned(), Bucket::new(ACCOUNT));
            for id in ["right", "other", "aws-s3"] {
                state.keys.insert(key(id), Key::new("Enabled"));
            }
            state.aliases.insert("alias/artifacts".to_owned(), key("right"));
            state.pipelines = Some(BTreeMap::new());
            state.consumer_can_be_assumed = true;
        }
        world
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn config(&self) -> SdkConfig {
        Self::config_through(SharedHttpConnector::new(self.clone()))
    }

    /// The configuration of clients that send their requests through `connector`.
    pub(crate) fn config_through(connector: SharedHttpConnector) -> SdkConfig {
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

    /// The function after a cold start.
    pub(crate) fn checker(&self, repair: Repair) -> Checker<Memory> {
        Checker {
            ledger: Memory::default(),
            settings: Settings {
                artifacts: Artifacts {
                    repair,
                    consumer_role: None,
                    retry_stage: false,
                    confirm_above: 100_000,
                    buckets: BTreeMap::new(),
                },
                bucket: BUCKET.to_owned(),
                key: KeyArn::parse(&key("right")).unwrap(),
                rates: Rates::HALF,
                alone: 20_000,
                manifest_part: 1_000_000,
                queue_url: QUEUE.to_owned(),
                concurrency: 5,
            },
            clients: Clients::new(&self.config(), true, TOPIC),
            clock: now,
            cache: Cache::default(),
        }
    }

    /// Another process of the same function, whose ledger may fail.
    pub(crate) fn with_ledger<'m>(&self, like: &Checker<Memory>, ledger: Faulty<'m>) -> Checker<Faulty<'m>> {
        let clients = Clients::new(&self.config(), true, TOPIC);
        Checker { ledger, settings: like.settings.clone(), clients, clock: now, cache: Cache::default() }
    }

    /// The function after a cold start, with entries in the configuration that allow the repair in these buckets too.
    pub(crate) fn checker_of(&self, repair: Repair, buckets: &[&str]) -> Checker<Memory> {
        let mut checker = self.checker(repair);
        for bucket in buckets {
            let entry = BucketArtifacts { repair, consumer_role: None, partitions: Vec::new() };
            checker.settings.artifacts.buckets.insert((*bucket).to_owned(), entry);
        }
        checker
    }

    /// Declares pipelines with their artifact stores: name, bucket and key.
    pub(crate) fn declare_pipelines(&self, pipelines: &[(&str, &str, Option<&str>)]) {
        let declared =
            |(name, bucket, key): &(&str, &str, Option<&str>)| ((*name).to_owned(), pipeline(name, bucket, *key));
        self.state().pipelines = Some(pipelines.iter().map(declared).collect());
    }

    /// Answers requests with this script before the services do.
    pub(crate) fn script(&self, script: impl FnMut(&Request) -> Option<Response> + Send + 'static) {
        self.state().script = Some(Box::new(script));
    }

    /// Answers every request to `service` with `answer`.
    pub(crate) fn answer_every(&self, service: &'static str, answer: fn() -> Response) {
        self.script(move |request| (request.service == service).then(answer));
    }

    /// Answers every request for `operation` with `answer`.
    pub(crate) fn answer_operation(&self, operation: &'static str, answer: fn() -> Response) {
        self.script(move |request| (request.operation == operation).then(answer));
    }

    fn latency_of(&self, request: &HttpRequest) -> Duration {
        let state = self.state();
        match state.slow_operation {
            Some((slow, latency)) if request::read(request).is(slow) => latency,
            _ => state.latency,
        }
    }

    pub(crate) fn answer(&self, request: &Request) -> Response {
        let mut state = self.state();
        if !state.forgets_requests {
            state.requests.push(request.clone());
        }
        let mut script = state.script.take();
        let scripted = script.as_mut().and_then(|script| script(request));
        state.script = script;
        if let Some(answer) = scripted {
            return answer;
        }
        match request.service.as_str() {
            "s3" => answer_s3(&mut state, request),
            "kms" => services::describe_key(&state, request),
            "codebuild" => Response::new(200).body(state.builds.to_string()),
            "codepipeline" => services::codepipeline(&mut state, request),
            "sts" => services::assume_role(&mut state, request),
            "sns" => services::publish(&mut state, request),
            "events" => services::put_events(&mut state, request),
            "sqs" => services::send_message(&mut state, request),
            "s3-control" => jobs::answer(&mut state, request),
            other => panic!("the function calls {other}"),
        }
    }
}

fn answer_s3(state: &mut State, request: &Request) -> Response {
    state.s3_requests += 1;
    let number = state.s3_requests;
    let internal_error = || Response::error(500, "InternalError", "We encountered an error.");
    match state.faults.remove(&number) {
        Some(Fault::SlowDown) => Response::slow_down(),
        Some(Fault::Internal) => internal_error(),
        Some(Fault::AnswerLost) => {
            s3::answer(state, request);
            internal_error()
        }
        None => s3::answer(state, request),
    }
}

impl HttpConnector for World {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let world = self.clone();
        HttpConnectorFuture::new(async move {
            let latency = world.latency_of(&request);
            if latency > Duration::ZERO {
                tokio::time::sleep(latency).await;
            }
            let read = request::read(&request);
            let answer = world.answer(&read);
            Ok(answer.over_http(&read))
        })
    }
}

/// The clock of tests. It stands still unless a task sleeps.
pub(crate) fn now() -> OffsetDateTime {
    thread_local!(static START: Instant = Instant::now());
    OffsetDateTime::from_unix_timestamp(1_795_305_600).unwrap() + START.with(|start| Instant::now() - *start)
}

/// An invocation that Lambda ends after `time`.
pub(crate) fn invocation(request_id: &str, time: Duration) -> Invocation {
    let invocation = sekisho_testing::invocation::invocation("sekisho-artifact-checker", ACCOUNT, now() + time);
    Invocation { request_id: request_id.to_owned(), ..invocation }
}

/// Handles a payload with Lambda's longest timeout.
pub(crate) async fn handle(checker: &Checker<Memory>, request_id: &str, payload: &str) -> Result<Answer, Error> {
    Box::pin(checker.handle(payload, &invocation(request_id, Duration::from_mins(15)))).await
}

/// An S3 event in the form in which EventBridge delivers it.
pub(crate) fn created(bucket: &str, key: &str, version: Option<&str>) -> String {
    let mut object = serde_json::json!({"key": key, "size": 1, "etag": "e", "sequencer": "00"});
    if let Some(version) = version {
        object["version-id"] = version.into();
    }
    serde_json::json!({
        "version": "0", "id": "7bf73129-1428-4cd3-a780-95db273d1602", "detail-type": "Object Created",
        "source": "aws.s3", "account": ACCOUNT, "time": "2026-11-21T23:45:00Z", "region": REGION,
        "resources": [format!("arn:aws:s3:::{bucket}")],
        "detail": {"version": "0", "bucket": {"name": bucket}, "object": object, "request-id": "N4N7GDK58NMKJ12R",
                   "requester": OTHER_ACCOUNT, "source-ip-address": "1.2.3.4", "reason": "PutObject"},
    })
    .to_string()
}
