//! Session Manager, a part of Systems Manager (SSM): the open sessions of this account and region.

use aws_sdk_ssm::Client;
use aws_sdk_ssm::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ssm::types::{Session, SessionState};
use sekisho_lambda::ServiceError;
use sekisho_lambda::aws::Later;
use sekisho_lambda::service_error;
use time::OffsetDateTime;
use tokio::time::{Instant, timeout_at};

use crate::session::OpenSession;

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

    fn new<E>(operation: &'static str, error: SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let source = ServiceError::new(format!("ssm:{operation}"), error);
        let is_denied = source.kind == service_error::Kind::Refused
            && source.code().is_some_and(|code| code.starts_with("AccessDenied"));
        Self { operation, is_denied, source: Box::new(source) }
    }
}

/// Session Manager of this account and region.
#[derive(Debug)]
pub struct Sessions {
    client: Later<Client>,
}

impl Sessions {
    /// Calls Session Manager through this client.
    #[must_use]
    pub fn new(client: Later<Client>) -> Self {
        Self { client }
    }

    /// The sessions that are open. If a page fails or comes too late, those of the earlier pages are returned with the
    /// error, so that nobody keeps a session by opening thousands.
    pub(crate) async fn open(&self, deadline: Instant) -> (Vec<OpenSession>, Option<SsmError>) {
        let (mut sessions, mut token) = (Vec::new(), None);
        loop {
            let page = self.client.describe_sessions().state(SessionState::Active).max_results(PAGE_SIZE);
            let page = match timeout_at(deadline, page.set_next_token(token).send()).await {
                Ok(Ok(page)) => page,
                Ok(Err(error)) => return (sessions, Some(SsmError::new("DescribeSessions", error))),
                Err(_) => return (sessions, Some(SsmError::unanswered("DescribeSessions"))),
            };
            sessions.extend(page.sessions.unwrap_or_default().into_iter().filter_map(open_session));
            token = page.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return (sessions, None);
            }
        }
    }

    /// Ends a session. It is no error if the session has ended already.
    pub(crate) async fn terminate(&self, id: &str) -> Result<(), SsmError> {
        match self.client.terminate_session().session_id(id).send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("DoesNotExistException") => Ok(()),
            Err(error) => Err(SsmError::new("TerminateSession", error)),
        }
    }
}

/// A session of SSM's answer. SSM gives each session an id and an owner; without either, nobody could tell whose
/// session it is.
fn open_session(session: Session) -> Option<OpenSession> {
    let start = session.start_date.and_then(|start| OffsetDateTime::from_unix_timestamp(start.secs()).ok());
    Some(OpenSession { id: session.session_id?, owner: session.owner?, start })
}
