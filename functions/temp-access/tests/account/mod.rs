//! An account to test in: IAM and SNS behind the SDK's HTTP client, with IAM's semantics, and a ledger that can fail.
//!
//! IAM here finds names without regard to case, counts inline policies together, writes unconditionally, hands policies out
//! percent-encoded, and takes its time. Each test says how long, and which calls go wrong in which way.

#![allow(clippy::format_collect, reason = "readable, and small")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use sekisho_domain::config::Document;
use sekisho_domain::decision::Decision;
use sekisho_lambda::Invocation;
use sekisho_lambda::aws::Later;
use sekisho_ledger::{Error as LedgerError, Key, Memory, Row, Store};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use temp_access::access::TempAccess;
use temp_access::answer::Answer;
use temp_access::aws::iam::Iam;
use temp_access::aws::sns::Topic;
use temp_access::error::Error;
use temp_access::policy;
use temp_access::principal::Kind;
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::time::{Instant, sleep};

pub const BOUNDARY: &str = "arn:aws:iam::333333333333:policy/sekisho-access-boundary";
pub const TOPIC: &str = "arn:aws:sns:ap-northeast-1:333333333333:sekisho-notices";
/// When every test begins.
pub const BEGIN: OffsetDateTime = datetime!(2026-11-21 20:45:00 UTC);

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Answered with this code and status; nothing is done.
    Code(&'static str, u16),
    /// Never answered, nothing is done.
    Lost,
    /// Never answered, and done.
    DoneUnanswered,
    /// A read that shows what there was before the last write.
    Stale,
}

#[derive(Debug, Clone, Default)]
struct Entity {
    name: String,
    path: String,
    tag: Option<&'static str>,
    boundary: Option<String>,
    policies: BTreeMap<String, String>,
    before: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct State {
    entities: BTreeMap<(&'static str, String), Entity>,
    calls: Vec<String>,
    published: Vec<String>,
    faults: Vec<(&'static str, usize, Fault)>,
    /// Milliseconds that calls take, in turn.
    delays: Vec<u64>,
    /// Users and roles on a page of all of them; 0: all.
    page: usize,
}

/// IAM and SNS.
#[derive(Debug, Clone, Default)]
pub struct Cloud(Arc<Mutex<State>>);

impl Cloud {
    /// One user and one role that are prepared, and a user that is not.
    pub fn new() -> Self {
        let cloud = Self::default();
        cloud.add(Kind::User, "prd-user");
        cloud.add(Kind::Role, "ops");
        cloud.with("User", "stranger", |entity| "stranger".clone_into(&mut entity.name));
        cloud
    }

    /// A principal with tag and boundary.
    pub fn add(&self, kind: Kind, name: &str) {
        self.with(wire(kind), name, |entity| {
            name.clone_into(&mut entity.name);
            entity.tag = Some("grantable");
            entity.boundary = Some(BOUNDARY.to_owned());
        });
    }

    pub fn tag(&self, kind: Kind, name: &str, tag: Option<&'static str>) {
        self.with(wire(kind), name, |entity| entity.tag = tag);
    }

    pub fn boundary(&self, kind: Kind, name: &str, boundary: Option<&str>) {
        self.with(wire(kind), name, |entity| entity.boundary = boundary.map(str::to_owned));
    }

    pub fn path(&self, kind: Kind, name: &str, path: &str) {
        self.with(wire(kind), name, |entity| path.clone_into(&mut entity.path));
    }

    /// Somebody puts a policy by hand.
    pub fn put(&self, kind: Kind, name: &str, policy: &str, document: &str) {
        self.with(wire(kind), name, |entity| drop(entity.policies.insert(policy.to_owned(), document.to_owned())));
    }

    /// Somebody deletes a policy by hand.
    pub fn remove(&self, kind: Kind, name: &str, policy: &str) {
        self.with(wire(kind), name, |entity| drop(entity.policies.remove(policy)));
    }

    pub fn policies(&self, kind: Kind, name: &str) -> BTreeMap<String, String> {
        let state = self.0.lock().unwrap();
        state.entities.get(&(wire(kind), name.to_lowercase())).map(|e| e.policies.clone()).unwrap_or_default()
    }

    /// The end of a principal's grant, as its policy says.
    pub fn end(&self, kind: Kind, name: &str, policy: &str) -> Option<String> {
        let document: Value = serde_json::from_str(self.policies(kind, name).get(policy)?).unwrap();
        let limit = &document["Statement"][0]["Condition"]["DateLessThan"]["aws:CurrentTime"];
        Some(limit.as_str().unwrap().to_owned())
    }

    /// The names of all calls so far.
    pub fn calls(&self) -> Vec<String> {
        self.0.lock().unwrap().calls.clone()
    }

    pub fn wrote(&self) -> bool {
        self.calls().iter().any(|call| call.starts_with("Put") || call.starts_with("Delete"))
    }

    /// The messages published so far.
    pub fn published(&self) -> Vec<String> {
        self.0.lock().unwrap().published.clone()
    }

    /// The next `times` calls of this name go wrong.
    pub fn fail(&self, call: &'static str, times: usize, fault: Fault) {
        self.0.lock().unwrap().faults.push((call, times, fault));
    }

    /// How many users and roles a page has.
    pub fn paged(&self, page: usize) {
        self.0.lock().unwrap().page = page;
    }

    /// How long calls take, in turn.
    pub fn delays(&self, delays: Vec<u64>) {
        self.0.lock().unwrap().delays = delays;
    }

    fn with(&self, kind: &'static str, name: &str, change: impl FnOnce(&mut Entity)) {
        let mut state = self.0.lock().unwrap();
        change(
            state
                .entities
                .entry((kind, name.to_lowercase()))
                .or_insert_with(|| Entity { path: "/".to_owned(), ..Entity::default() }),
        );
    }

    async fn answer(self, body: String) -> HttpResponse {
        let fields = form(&body);
        let action = fields["Action"].clone();
        let (fault, delay) = {
            let mut state = self.0.lock().unwrap();
            let turn = state.calls.len();
            state.calls.push(action.clone());
            let due = state.faults.iter_mut().find(|(call, times, _)| *call == action && *times > 0);
            let fault = due.map(|(_, times, fault)| {
                *times -= 1;
                *fault
            });
            let delay = if state.delays.is_empty() { 0 } else { state.delays[turn % state.delays.len()] };
            (fault, delay)
        };
        // There and back: what is answered may be old when it arrives.
        sleep(Duration::from_millis(delay / 2)).await;
        let answer = match fault {
            None => self.0.lock().unwrap().act(&action, &fields, false),
            Some(Fault::Stale) => self.0.lock().unwrap().act(&action, &fields, true),
            Some(Fault::Code(code, status)) => Err((status, code)),
            Some(Fault::Lost) => {
                sleep(Duration::from_mins(10)).await;
                Err((503, "ServiceUnavailable"))
            }
            Some(Fault::DoneUnanswered) => {
                let _ = self.0.lock().unwrap().act(&action, &fields, false);
                sleep(Duration::from_mins(10)).await;
                Err((503, "ServiceUnavailable"))
            }
        };
        sleep(Duration::from_millis(delay - delay / 2)).await;
        let (status, xml) = match answer {
            Ok(result) => {
                (200, format!("<{action}Response><{action}Result>{result}</{action}Result></{action}Response>"))
            }
            Err((status, code)) => {
                let error = format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>it is so</Message></Error>");
                (status, format!("<ErrorResponse>{error}<RequestId>r</RequestId></ErrorResponse>"))
            }
        };
        HttpResponse::new(status.try_into().unwrap(), SdkBody::from(xml))
    }
}

impl State {
    fn act(
        &mut self,
        action: &str,
        fields: &BTreeMap<String, String>,
        stale: bool,
    ) -> Result<String, (u16, &'static str)> {
        const GONE: (u16, &str) = (404, "NoSuchEntity");
        if action == "Publish" {
            self.published.push(fields["Message"].clone());
            return Ok("<MessageId>m</MessageId>".to_owned());
        }
        if action == "GetAccountAuthorizationDetails" {
            assert_eq!(fields["MaxItems"], "1000");
            return Ok(self.details(stale, fields.get("Marker").map(String::as_str)));
        }
        let kind = if action.contains("Role") { "Role" } else { "User" };
        let name = &fields[&format!("{kind}Name")];
        let entity = self.entities.get_mut(&(kind, name.to_lowercase())).ok_or(GONE)?;
        let policies = if stale { &entity.before } else { &entity.policies };
        match action.replace(kind, "X").as_str() {
            "GetX" => {
                let tags = entity
                    .tag
                    .map(|tag| format!("<Tags><member><Key>sekisho:access</Key><Value>{tag}</Value></member></Tags>"));
                let boundary = entity.boundary.as_ref().map(|arn| {
                    format!(
                        "<PermissionsBoundary><PermissionsBoundaryType>Policy</PermissionsBoundaryType>\
                         <PermissionsBoundaryArn>{arn}</PermissionsBoundaryArn></PermissionsBoundary>"
                    )
                });
                let (name, path) = (&entity.name, &entity.path);
                Ok(format!(
                    "<{kind}><Path>{path}</Path><{kind}Name>{name}</{kind}Name><{kind}Id>ID</{kind}Id>\
                     <Arn>arn:aws:iam::333333333333:{}{path}{name}</Arn><CreateDate>2026-01-01T00:00:00Z</CreateDate>{}{}</{kind}>",
                    kind.to_lowercase(),
                    boundary.unwrap_or_default(),
                    tags.unwrap_or_default()
                ))
            }
            "ListXPolicies" => {
                let names: String = policies.keys().map(|name| format!("<member>{name}</member>")).collect();
                Ok(format!("<PolicyNames>{names}</PolicyNames><IsTruncated>false</IsTruncated>"))
            }
            "GetXPolicy" => {
                let policy = &fields["PolicyName"];
                let document = encoded(policies.get(policy).ok_or(GONE)?);
                Ok(format!(
                    "<{kind}Name>{name}</{kind}Name><PolicyName>{policy}</PolicyName><PolicyDocument>{document}</PolicyDocument>"
                ))
            }
            "PutXPolicy" => {
                let (policy, document) = (&fields["PolicyName"], &fields["PolicyDocument"]);
                let mut after = entity.policies.clone();
                after.insert(policy.clone(), document.clone());
                let limit = if kind == "User" { 2_048 } else { 10_240 };
                if after.values().map(|document| policy::size(document)).sum::<usize>() > limit {
                    return Err((409, "LimitExceeded"));
                }
                entity.before = std::mem::replace(&mut entity.policies, after);
                Ok(String::new())
            }
            "DeleteXPolicy" => {
                entity.before = entity.policies.clone();
                entity.policies.remove(&fields["PolicyName"]).map(|_| String::new()).ok_or(GONE)
            }
            other => panic!("no such call: {other}"),
        }
    }

    fn details(&self, stale: bool, marker: Option<&str>) -> String {
        let page = if self.page == 0 { usize::MAX } else { self.page };
        let begin: usize = marker.map_or(0, |marker| marker.parse().unwrap());
        let list = |kind: &str| -> String {
            let entities = self.entities.iter().skip(begin).take(page).filter(|((known, _), _)| *known == kind);
            let members = entities.map(|(_, entity)| {
                let shown = if stale { &entity.before } else { &entity.policies };
                let policies: String = shown
                    .iter()
                    .map(|(name, document)| {
                        format!(
                            "<member><PolicyName>{name}</PolicyName><PolicyDocument>{}</PolicyDocument></member>",
                            encoded(document)
                        )
                    })
                    .collect();
                let name = &entity.name;
                format!(
                    "<member><{kind}Name>{name}</{kind}Name><{kind}PolicyList>{policies}</{kind}PolicyList></member>"
                )
            });
            format!("<{kind}DetailList>{}</{kind}DetailList>", members.collect::<String>())
        };
        let next = begin.saturating_add(page);
        let end = if next < self.entities.len() {
            format!("<IsTruncated>true</IsTruncated><Marker>{next}</Marker>")
        } else {
            "<IsTruncated>false</IsTruncated>".to_owned()
        };
        format!("{}{}{end}", list("User"), list("Role"))
    }
}

fn wire(kind: Kind) -> &'static str {
    match kind {
        Kind::User => "User",
        Kind::Role => "Role",
    }
}

fn encoded(document: &str) -> String {
    percent_encoding::utf8_percent_encode(document, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn form(body: &str) -> BTreeMap<String, String> {
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
    body.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (decoded(k), decoded(v))).collect()
}

impl HttpConnector for Cloud {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body = String::from_utf8(request.body().bytes().unwrap().to_vec()).unwrap();
        let cloud = self.clone();
        HttpConnectorFuture::new(async move { Ok(cloud.answer(body).await) })
    }
}

impl HttpClient for Cloud {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// Which of the ledger's operations fail.
pub type Breaks = Box<dyn Fn(&str) -> bool>;

/// A ledger that takes a moment for everything, and fails where it is told to.
pub struct Book {
    pub memory: Memory,
    pub breaks: RefCell<Breaks>,
    pub operations: RefCell<Vec<&'static str>>,
    pub delays: RefCell<Vec<u64>>,
    /// Never answers, rather than fail.
    pub hangs: Cell<bool>,
    turn: Cell<usize>,
}

impl Book {
    async fn step(&self, operation: &'static str, key: &Key) -> Result<(), LedgerError> {
        self.operations.borrow_mut().push(operation);
        let turn = self.turn.replace(self.turn.get() + 1);
        let delay = {
            let delays = self.delays.borrow();
            if delays.is_empty() { 1 } else { delays[turn % delays.len()] }
        };
        sleep(Duration::from_millis(delay)).await;
        if self.hangs.get() {
            // As the client does: three attempts.
            sleep(Duration::from_millis(7_500)).await;
            return Err(LedgerError::Unavailable { key: key.clone(), throttled: false, source: "timeout".into() });
        }
        if self.breaks.borrow()(operation) {
            return Err(LedgerError::Unavailable { key: key.clone(), throttled: false, source: "down".into() });
        }
        Ok(())
    }
}

impl Store for Book {
    async fn read<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<Row<T>>, LedgerError> {
        self.step("read", key).await?;
        self.memory.read(key).await
    }

    async fn list<T: DeserializeOwned>(&self, pk: &str, sk_prefix: &str) -> Result<Vec<Row<T>>, LedgerError> {
        self.step("list", &Key { pk: pk.to_owned(), sk: sk_prefix.to_owned() }).await?;
        self.memory.list(pk, sk_prefix).await
    }

    async fn write<T: Serialize>(
        &self,
        key: &Key,
        state: &T,
        expected: Option<u64>,
        writer: &str,
    ) -> Result<u64, LedgerError> {
        self.step("write", key).await?;
        self.memory.write(key, state, expected, writer).await
    }

    async fn delete(&self, key: &Key, expected: u64) -> Result<(), LedgerError> {
        self.step("delete", key).await?;
        self.memory.delete(key, expected).await
    }

    async fn record<O: Serialize>(
        &self,
        function: &str,
        request_id: &str,
        now: OffsetDateTime,
        decisions: &[Decision<O>],
    ) -> Result<(), LedgerError> {
        self.step("record", &Key { pk: function.to_owned(), sk: request_id.to_owned() }).await?;
        self.memory.record(function, request_id, now, decisions).await
    }
}

/// The function in its account; the clock is tokio's, which tests stop.
pub struct Account {
    pub function: TempAccess<Book>,
    pub cloud: Cloud,
    begin: Instant,
    count: Cell<u32>,
}

impl Account {
    pub fn new() -> Self {
        Self::with(include_str!("../../../../config/sekisho.toml"))
    }

    pub fn with(config: &str) -> Self {
        let cloud = Cloud::new();
        let begin = Instant::now();
        let timeouts = aws_sdk_iam::config::timeout::TimeoutConfig::builder()
            .operation_attempt_timeout(Duration::from_millis(2_500));
        let iam = aws_sdk_iam::Config::builder()
            .behavior_version(aws_sdk_iam::config::BehaviorVersion::latest())
            .region(aws_sdk_iam::config::Region::new("ap-northeast-1"))
            .credentials_provider(aws_sdk_iam::config::Credentials::new("AKID", "secret", None, None, "test"))
            .retry_config(aws_sdk_iam::config::retry::RetryConfig::standard().with_max_attempts(3))
            .timeout_config(timeouts.build())
            .http_client(cloud.clone())
            .build();
        let sns = aws_sdk_sns::Config::builder()
            .behavior_version(aws_sdk_sns::config::BehaviorVersion::latest())
            .region(aws_sdk_sns::config::Region::new("ap-northeast-1"))
            .credentials_provider(aws_sdk_sns::config::Credentials::new("AKID", "secret", None, None, "test"))
            .retry_config(aws_sdk_sns::config::retry::RetryConfig::standard().with_max_attempts(3))
            .http_client(cloud.clone())
            .build();
        let book = Book {
            memory: Memory::default(),
            breaks: RefCell::new(Box::new(|_| false)),
            operations: RefCell::default(),
            delays: RefCell::default(),
            hangs: Cell::default(),
            turn: Cell::default(),
        };
        let function = TempAccess {
            access: Document::parse("sekisho.toml", config).and_then(|document| document.access()),
            boundary: BOUNDARY.to_owned(),
            ledger: book,
            iam: Iam::new(Later::new(Box::new(|| aws_sdk_iam::Client::from_conf(iam)))),
            topic: Topic::new(Later::new(Box::new(|| aws_sdk_sns::Client::from_conf(sns))), TOPIC),
            clock: Box::new(move || BEGIN + (Instant::now() - begin)),
        };
        Self { function, cloud, begin, count: Cell::new(0) }
    }

    pub fn now(&self) -> OffsetDateTime {
        BEGIN + (Instant::now() - self.begin)
    }

    /// Invokes with a request id of its own.
    pub async fn invoke(&self, payload: &str) -> Result<Answer, Error> {
        let count = self.count.replace(self.count.get() + 1);
        self.invoke_as(&format!("request-{count}"), payload).await
    }

    /// Invokes with this request id.
    pub async fn invoke_as(&self, request: &str, payload: &str) -> Result<Answer, Error> {
        let invocation = Invocation {
            request_id: request.to_owned(),
            partition: "aws".to_owned(),
            account: "333333333333".parse().unwrap(),
            region: "ap-northeast-1".parse().unwrap(),
            function: "temp-access".to_owned(),
            deadline: self.now() + Duration::from_mins(1),
        };
        self.function.handle(payload, &invocation).await
    }

    /// The answer's text.
    pub async fn text(&self, payload: &str) -> String {
        text(self.invoke(payload).await)
    }

    /// All decisions in the ledger, in the order in which they were recorded.
    pub fn decisions(&self) -> Vec<Value> {
        let rows = self.function.ledger.memory.rows();
        let decisions = rows.into_iter().filter(|(key, _)| key.pk.starts_with("decision#"));
        decisions
            .flat_map(|(_, row)| {
                let decisions: Vec<Value> = serde_dynamo::from_attribute_value(row["decisions"].clone()).unwrap();
                decisions
            })
            .collect()
    }

    /// The outcomes in the ledger.
    pub fn outcomes(&self) -> Vec<String> {
        self.decisions().iter().map(|decision| decision["outcome"].as_str().unwrap().to_owned()).collect()
    }

    /// A grant's row.
    pub async fn row(&self, sk: &str) -> Option<Row<temp_access::row::GrantRow>> {
        let key = Key { pk: "grant".to_owned(), sk: sk.to_owned() };
        self.function.ledger.memory.read(&key).await.unwrap()
    }

    pub fn breaks(&self, breaks: impl Fn(&str) -> bool + 'static) {
        *self.function.ledger.breaks.borrow_mut() = Box::new(breaks);
    }
}

pub fn text(answer: Result<Answer, Error>) -> String {
    match answer {
        Ok(Answer::Text(text)) => text,
        other => panic!("{other:?}"),
    }
}

pub fn minutes(n: u64) -> Duration {
    Duration::from_mins(n)
}

/// A policy of ours with this window, as somebody else might have written it.
pub fn windowed(start: &str, end: &str) -> String {
    serde_json::json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "*", "Resource": "*",
        "Condition": {
            "DateGreaterThan": {"aws:CurrentTime": start},
            "DateLessThan": {"aws:CurrentTime": end},
        },
    }]})
    .to_string()
}
