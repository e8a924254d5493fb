//! The service behind an SDK client, for the tests of adapters: it records the requests and gives one prepared answer
//! to each, in order.

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

/// A request that a client sent.
#[derive(Debug, Clone)]
pub struct Request {
    /// The host of the request's URL.
    pub host: String,
    /// The operation in the header `x-amz-target`. Without the header, the last part of the path.
    pub operation: String,
    /// The body as text. Bytes that are no text are replaced.
    pub body: String,
    /// The body, for a protocol whose messages are not text.
    pub bytes: Vec<u8>,
}

impl Request {
    /// The body, parsed.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// The answer to one request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A status and a body.
    Http(u16, String),
    /// A status and a body in CBOR.
    Cbor(u16, Vec<u8>),
    /// No answer within the client's timeout.
    TimedOut,
}

/// An answer with status 200.
#[must_use]
pub fn ok(body: &Value) -> Answer {
    Answer::Http(200, body.to_string())
}

/// An error with status 400, as services with a JSON protocol write it.
#[must_use]
pub fn refused(code: &str) -> Answer {
    Answer::Http(400, json!({"__type": code, "message": "as it is"}).to_string())
}

/// The service behind the clients of [`Wire::config`].
#[derive(Debug, Clone, Default)]
pub struct Wire {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Wire {
    /// A service that gives these answers, in their order.
    pub fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        let wire = Self::default();
        wire.answers.lock().unwrap().extend(answers);
        wire
    }

    /// The configuration of the service's clients. The clients retry nothing, so each call uses exactly one answer.
    #[must_use]
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

    /// The requests so far.
    ///
    /// # Panics
    /// If an answer is left over.
    #[expect(clippy::must_use_candidate, reason = "it also asserts that no answer is left over")]
    pub fn requests(&self) -> Vec<Request> {
        assert!(self.answers.lock().unwrap().is_empty(), "an answer is left over");
        self.requests.lock().unwrap().clone()
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let host = request.uri().split('/').nth(2).unwrap_or_default().to_owned();
        let target = request.headers().get("x-amz-target").map(|target| target.rsplit('.').next());
        let target = target.unwrap_or_else(|| request.uri().split('/').next_back());
        let operation = target.unwrap_or_default().to_owned();
        let bytes = request.body().bytes().unwrap().to_vec();
        let body = String::from_utf8_lossy(&bytes).into_owned();
        let answer = self.answers.lock().unwrap().pop_front();
        let answer = answer.unwrap_or_else(|| panic!("no answer is prepared for {operation} {body}"));
        self.requests.lock().unwrap().push(Request { host, operation, body, bytes });
        HttpConnectorFuture::ready(match answer {
            Answer::Http(status, body) => Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))),
            Answer::Cbor(status, body) => {
                let mut answer = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body));
                answer.headers_mut().insert("smithy-protocol", "rpc-v2-cbor");
                Ok(answer)
            }
            Answer::TimedOut => Err(ConnectorError::timeout("no answer in time".into())),
        })
    }
}
