//! Session Manager, a part of Systems Manager (SSM): the open sessions of this account and region.

use sekisho_lambda::ServiceError;
use sekisho_lambda::aws::Later;
use sekisho_lambda::service_error;
use sekisho_lambda::signed::{Service, Signed};
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::time::{Instant, timeout_at};

use crate::session::OpenSession;

/// Session Manager as the signed calls know it.
pub const SSM: Service = Service { id: "SSM", host: "ssm" };

const DESCRIBE_SESSIONS: &str = "AmazonSSM.DescribeSessions";
const TERMINATE_SESSION: &str = "AmazonSSM.TerminateSession";
/// How many sessions one page has, which is the most that SSM allows.
const PAGE_SIZE: i32 = 200;

/// A failed call.
#[derive(Debug, thiserror::Error)]
#[error("Session Manager's {operation} {}", if *.is_denied { "is denied to this function" } else { "failed" })]
pub struct SsmError {
    /// The name of the call, such as `TerminateSession`.
    operation: &'static str,
    /// Whether the function's role or an organization's policy does not allow the call.
    pub(crate) is_denied: bool,
    #[source]
    source: Box<ServiceError>,
}

impl SsmError {
    /// The error of a call that SSM did not answer before the deadline.
    pub(crate) fn unanswered(operation: &'static str) -> Self {
        let source = ServiceError::unexpected(operation, "no answer in time");
        Self { operation, is_denied: false, source: Box::new(source) }
    }

    fn new(operation: &'static str, source: ServiceError) -> Self {
        let is_denied = source.kind == service_error::Kind::Refused
            && source.code().is_some_and(|code| code.starts_with("AccessDenied"));
        Self { operation, is_denied, source: Box::new(source) }
    }
}

/// Session Manager of this account and region.
#[derive(Debug)]
pub struct Sessions {
    client: Later<Signed>,
}

impl Sessions {
    /// Calls Session Manager through this client.
    #[must_use]
    pub fn new(client: Later<Signed>) -> Self {
        Self { client }
    }

    /// The sessions that are open. If a page fails or comes too late, those of the earlier pages are returned with the
    /// error, so that nobody keeps a session by opening thousands.
    pub(crate) async fn open(&self, deadline: Instant) -> (Vec<OpenSession>, Option<SsmError>) {
        let (mut sessions, mut token) = (Vec::new(), None::<String>);
        loop {
            let mut request = json!({ "State": "Active", "MaxResults": PAGE_SIZE });
            if let (Some(token), Some(fields)) = (token, request.as_object_mut()) {
                fields.insert("NextToken".to_owned(), token.into());
            }
            let page = match timeout_at(deadline, self.page(&request)).await {
                Ok(Ok(page)) => page,
                Ok(Err(error)) => return (sessions, Some(SsmError::new("DescribeSessions", error))),
                Err(_) => return (sessions, Some(SsmError::unanswered("DescribeSessions"))),
            };
            sessions.extend(page.sessions.into_iter().filter_map(Session::open));
            token = page.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return (sessions, None);
            }
        }
    }

    async fn page(&self, request: &Value) -> Result<Page, ServiceError> {
        let answer = self.client.json(DESCRIBE_SESSIONS, request).await?;
        serde_json::from_value(answer).map_err(|error| ServiceError::unexpected("ssm:DescribeSessions", error))
    }

    /// Ends a session. It is no error if the session has ended already.
    pub(crate) async fn terminate(&self, id: &str) -> Result<(), SsmError> {
        match self.client.json(TERMINATE_SESSION, &json!({ "SessionId": id })).await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("DoesNotExistException") => Ok(()),
            Err(error) => Err(SsmError::new("TerminateSession", error)),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    #[serde(default)]
    sessions: Vec<Session>,
    #[serde(default)]
    next_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Session {
    #[serde(rename = "SessionId")]
    id: Option<String>,
    owner: Option<String>,
    /// In seconds since 1970, with a fraction.
    start_date: Option<f64>,
}

impl Session {
    /// SSM gives each session an id and an owner; without either, nobody could tell whose session it is.
    fn open(self) -> Option<OpenSession> {
        #[expect(clippy::cast_possible_truncation, reason = "the fraction of a second does not matter")]
        let start = self.start_date.and_then(|start| OffsetDateTime::from_unix_timestamp(start as i64).ok());
        Some(OpenSession { id: self.id?, owner: self.owner?, start })
    }
}
