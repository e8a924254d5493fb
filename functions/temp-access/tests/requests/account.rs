//! An account for tests: the function, with imitations of IAM and SNS behind the SDK's HTTP client, and a ledger that
//! can fail.

mod cloud;
mod http;
mod iam;
mod ledger;
pub mod people;
mod trail;

use std::cell::Cell;
use std::time::Duration;

use sekisho_domain::config::Document;
use sekisho_lambda::aws::{Later, later};
use sekisho_lambda::signed::Signed;
use sekisho_lambda::{Invocation, Topic};
use sekisho_ledger::{Key, Row, Store as _};
use sekisho_testing::invocation::invocation;
use serde_json::Value;
use temp_access::access::TempAccess;
use temp_access::answer::Answer;
use temp_access::aws::iam::Iam;
use temp_access::aws::identity_center::{IDENTITY_STORE, IdentityCenter};
use temp_access::aws::lambda::Hubs;
use temp_access::aws::ssm::{SSM, Sessions};
use temp_access::aws::trail::{CLOUDTRAIL, Trail};
use temp_access::error::Error;
use temp_access::principal::Kind;
use temp_access::row::GrantRow;
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::time::Instant;

use cloud::Cloud;
pub use cloud::Fault;
use ledger::FaultyLedger;

pub const BOUNDARY: &str = "arn:aws:iam::333333333333:policy/sekisho-access-boundary";
const TOPIC: &str = "arn:aws:sns:ap-northeast-1:333333333333:sekisho-notices";
/// The time at which every test begins.
pub const BEGIN: OffsetDateTime = datetime!(2026-11-21 20:45:00 UTC);
/// The payload of the schedule.
pub const SWEEP: &str = include_str!("../../../../events/temp-access/sweep.json");
/// The payload of the schedule that runs every minute.
pub const FOLLOW_UP: &str = include_str!("../../../../events/temp-access/follow-up.json");

/// The configuration of most tests: `admin` is the default, and both profiles may be granted for eight hours.
pub const CONFIG: &str = r#"
[access]
default_minutes = 180
max_minutes     = 480
default_profile = "admin"
[access.profiles.admin]
statements = [{ actions = ["*"], resources = ["*"] }]
[access.profiles.read-only]
statements = [{ actions = ["ec2:Describe*", "logs:Get*"], resources = ["*"] }]
require_mfa = true
source_ips  = ["203.0.113.0/24"]
"#;

/// A grant of 30 minutes.
pub const GRANT: &str = r#"{"user":"prd-user","minutes":30}"#;
/// The beginning of the answer to [`GRANT`], without the last digit of the seconds.
pub const END: &str = "End time is 2026-11-21T21:15:0";
pub const REVOKE: &str = r#"{"action":"revoke","user":"prd-user"}"#;
pub const LIST: &str = r#"{"action":"list"}"#;
/// An answer must come within this time, because Chatbot waits only 15 s.
pub const SLACK_LIMIT: Duration = Duration::from_secs(13);

/// The function in its account. The function's clock is tokio's clock, which the tests stop and advance.
pub struct Account {
    pub function: TempAccess<FaultyLedger>,
    pub cloud: Cloud,
    begin: Instant,
    count: Cell<u32>,
}

impl Account {
    pub fn new() -> Self {
        Self::with(CONFIG)
    }

    /// An account with the configuration that this repository ships.
    pub fn shipped() -> Self {
        Self::with(include_str!("../../../../config/sekisho.toml"))
    }

    /// An account with this configuration.
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
        let variables =
            [("AWS_REGION", "ap-northeast-1"), ("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "s")];
        let aws = sekisho_lambda::aws::load(&variables.into_iter().collect()).into_builder();
        let aws = aws.http_client(cloud.clone()).build();
        let function = TempAccess {
            access: Document::parse("sekisho.toml", config).and_then(|document| document.access()),
            boundary: BOUNDARY.to_owned(),
            ledger: FaultyLedger::new(),
            iam: Iam::new(Later::new(Box::new(|| aws_sdk_iam::Client::from_conf(iam)))),
            sessions: Sessions::new(later(&aws, |aws| Signed::new(aws, &SSM, None))),
            trail: Trail::new(later(&aws, |aws| Signed::new(aws, &CLOUDTRAIL, None))),
            hubs: Hubs::new(&aws),
            hub: None,
            identity_center: None,
            topic: Topic::new(Later::new(Box::new(|| aws_sdk_sns::Client::from_conf(sns))), TOPIC),
            clock: Box::new(move || BEGIN + (Instant::now() - begin)),
        };
        Self { function, cloud, begin, count: Cell::new(0) }
    }

    /// An account to whose people of Identity Center access may be given.
    pub fn of_people() -> Self {
        let mut account = Self::new();
        let variables =
            [("AWS_REGION", "ap-northeast-1"), ("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "s")];
        let aws = sekisho_lambda::aws::load(&variables.into_iter().collect()).into_builder();
        let aws = aws.http_client(account.cloud.clone()).build();
        let service = later(&aws, |aws| Signed::new(aws, &IDENTITY_STORE, None));
        account.function.identity_center = Some(IdentityCenter::new(service, "d-0123456789", people::WINDOW));
        account
    }

    pub fn now(&self) -> OffsetDateTime {
        BEGIN + (Instant::now() - self.begin)
    }

    /// Invokes the function with a new request id.
    pub async fn invoke(&self, payload: &str) -> Result<Answer, Error> {
        let count = self.count.replace(self.count.get() + 1);
        self.invoke_as(&format!("request-{count}"), payload).await
    }

    /// Invokes the function through a door with a new request id.
    pub async fn invoke_at(&self, door: &str, payload: &str) -> Result<Answer, Error> {
        let count = self.count.replace(self.count.get() + 1);
        self.invoke_at_as(door, &format!("request-{count}"), payload).await
    }

    /// Invokes the function through a door with this request id.
    pub async fn invoke_at_as(&self, door: &str, request: &str, payload: &str) -> Result<Answer, Error> {
        let invocation = invocation("temp-access", "333333333333", self.now() + Duration::from_mins(1));
        let qualifier = (!door.is_empty()).then(|| door.to_owned());
        let invocation = Invocation { request_id: request.to_owned(), qualifier, ..invocation };
        self.function.handle(payload, &invocation).await
    }

    /// Invokes the function through a door, and returns the text of the answer.
    pub async fn text_at(&self, door: &str, payload: &str) -> String {
        text(self.invoke_at(door, payload).await)
    }

    /// Invokes the function with this request id.
    pub async fn invoke_as(&self, request: &str, payload: &str) -> Result<Answer, Error> {
        let invocation = invocation("temp-access", "333333333333", self.now() + Duration::from_mins(1));
        let invocation = Invocation { request_id: request.to_owned(), ..invocation };
        self.function.handle(payload, &invocation).await
    }

    /// Invokes the function, and returns the text of the answer.
    pub async fn text(&self, payload: &str) -> String {
        text(self.invoke(payload).await)
    }

    /// Invokes a sweep, and returns the outcomes in its answer.
    pub async fn sweep(&self) -> Vec<String> {
        outcomes(self.invoke(SWEEP).await)
    }

    /// Invokes a follow-up, and returns the outcomes in its answer.
    pub async fn follow_up(&self) -> Vec<String> {
        outcomes(self.invoke(FOLLOW_UP).await)
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
    pub async fn row(&self, sk: &str) -> Option<Row<GrantRow>> {
        let key = Key { pk: "grant".to_owned(), sk: sk.to_owned() };
        self.function.ledger.memory.read(&key).await.unwrap()
    }

    /// Replaces a grant's row by one that cannot be read.
    pub async fn spoil(&self, sk: &str) {
        let key = Key { pk: "grant".to_owned(), sk: sk.to_owned() };
        let memory = &self.function.ledger.memory;
        let revision = memory.read::<Value>(&key).await.unwrap().map(|row| row.revision);
        memory.write(&key, &serde_json::json!({"state": "lost"}), revision, "somebody").await.unwrap();
    }

    /// Replaces the row of `sekisho-window` by one that cannot be read, if there is a row.
    pub async fn spoil_window(&self) {
        let key = Key { pk: "window".to_owned(), sk: "sekisho-window".to_owned() };
        let memory = &self.function.ledger.memory;
        if let Some(row) = memory.read::<Value>(&key).await.unwrap() {
            memory.write(&key, &serde_json::json!({"version": "lost"}), Some(row.revision), "somebody").await.unwrap();
        }
    }

    /// Changes a grant's row by hand.
    pub async fn change_row(&self, sk: &str, change: impl FnOnce(&mut Value)) {
        let key = Key { pk: "grant".to_owned(), sk: sk.to_owned() };
        let memory = &self.function.ledger.memory;
        let Row { mut state, revision, .. } = memory.read::<Value>(&key).await.unwrap().unwrap();
        change(&mut state);
        memory.write(&key, &state, Some(revision), "somebody").await.unwrap();
    }

    /// The end of prd-user's access as `admin`.
    pub fn admin_end(&self) -> Option<String> {
        self.cloud.end(Kind::User, "prd-user", "sekisho-admin")
    }

    /// From now on, a ledger operation fails if `fails` is true for its name.
    pub fn fail_ledger(&self, fails: impl Fn(&str) -> bool + 'static) {
        *self.function.ledger.fails.borrow_mut() = Box::new(fails);
    }

    /// Sets how many milliseconds the ledger's operations take. Each operation takes the next delay; the first delay
    /// follows the last one.
    pub fn set_ledger_delays(&self, delays: Vec<u64>) {
        *self.function.ledger.delays.borrow_mut() = delays;
    }
}

/// The text of an answer.
pub fn text(answer: Result<Answer, Error>) -> String {
    match answer {
        Ok(Answer::Text(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// The outcomes in the answer to a sweep.
pub fn outcomes(answer: Result<Answer, Error>) -> Vec<String> {
    let Ok(Answer::Decisions(decisions)) = answer else { panic!("{answer:?}") };
    let decisions = serde_json::to_value(&decisions.decisions).unwrap();
    decisions.as_array().unwrap().iter().map(|one| one["outcome"].as_str().unwrap().to_owned()).collect()
}

pub fn minutes(n: u64) -> Duration {
    Duration::from_mins(n)
}

/// A policy with this window, as if Sekisho had written it.
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
