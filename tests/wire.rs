//! The far end of an SDK's client, for the adapters' tests: what it is sent on the wire, and what it answers there, one
//! answer a request in their order.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test uses a part of it, and may fail so"
)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::retry::RetryConfig;
use aws_types::SdkConfig;
use aws_types::region::Region;
use serde_json::{Value, json};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub host: String,
    /// The operation that `x-amz-target` names, where it is there.
    pub operation: String,
    pub body: String,
}

impl Request {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// An answer on the wire.
#[derive(Debug, Clone)]
pub enum Answer {
    Http(u16, String),
    TimedOut,
}

pub fn ok(body: &Value) -> Answer {
    Answer::Http(200, body.to_string())
}

/// An error as the services that speak JSON write it.
pub fn refused(code: &str) -> Answer {
    Answer::Http(400, json!({"__type": code, "message": "as it is"}).to_string())
}

/// The far end.
#[derive(Debug, Clone, Default)]
pub struct Wire {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Wire {
    pub fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        let wire = Self::default();
        wire.answers.lock().unwrap().extend(answers);
        wire
    }

    /// What clients are made from; no call is tried again, so that one answer is one call.
    pub fn config(&self) -> SdkConfig {
        let connector = SharedHttpConnector::new(self.clone());
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("ap-northeast-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
                "AKID", "secret", None, None, "test",
            )))
            .retry_config(RetryConfig::disabled())
            .http_client(http_client_fn(move |_, _| connector.clone()))
            .build()
    }

    /// The requests so far; there is no answer left over.
    pub fn requests(&self) -> Vec<Request> {
        assert!(self.answers.lock().unwrap().is_empty(), "not every answer was asked for");
        self.requests.lock().unwrap().clone()
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let host = request.uri().split('/').nth(2).unwrap_or_default().to_owned();
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let body = String::from_utf8(request.body().bytes().unwrap().to_vec()).unwrap();
        let answer = self.answers.lock().unwrap().pop_front();
        let answer = answer.unwrap_or_else(|| panic!("one request too many: {operation} {body}"));
        self.requests.lock().unwrap().push(Request { host, operation, body });
        HttpConnectorFuture::ready(match answer {
            Answer::Http(status, body) => Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))),
            Answer::TimedOut => Err(ConnectorError::timeout("no answer in time".into())),
        })
    }
}
