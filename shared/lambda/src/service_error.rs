//! The one error type for calls to AWS services, and the one list of error codes that mean throttling.

use std::borrow::Cow;
use std::error::Error as StdError;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::failure::chain;

/// Whether the same call may succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The service throttled the call, because it got too many requests.
    Throttled,
    /// The service did not answer, or failed on its side. The same call may succeed later.
    Unavailable,
    /// The service refused the call, or the call could not be built. The same call would fail in the same way.
    Refused,
}

/// A call to an AWS service that failed after the SDK's own retries.
#[derive(Debug, thiserror::Error)]
#[error("{operation} failed")]
pub struct ServiceError {
    /// The call, as a noun phrase: `CodeCommit's GetBranch for main of shop`, `s3:HeadObject`.
    pub operation: Cow<'static, str>,
    /// Whether the same call may succeed later.
    pub kind: Kind,
    /// The service's error code. `None` if there was no answer, or an answer without a body.
    pub code: Option<String>,
    /// The service's error message.
    pub message: Option<String>,
    /// The HTTP status. `None` if there was no answer.
    pub status: Option<u16>,
    /// The SDK's error.
    #[source]
    pub source: Box<dyn StdError + Send + Sync>,
}

impl ServiceError {
    /// Classifies an SDK error: throttling codes are [`Kind::Throttled`], other answers below status 500 are
    /// [`Kind::Refused`], and everything else is [`Kind::Unavailable`].
    ///
    /// S3's answer to a HEAD request has no body and therefore no error code, so status 503 without a code is
    /// throttling too.
    pub fn new<E>(operation: impl Into<Cow<'static, str>>, error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let metadata = error.as_service_error().map(ProvideErrorMetadata::meta);
        let code = metadata.and_then(|metadata| metadata.code()).map(str::to_owned);
        let message = metadata.and_then(|metadata| metadata.message()).map(str::to_owned);
        let status = error.raw_response().map(|response| response.status().as_u16());
        let is_throttled = match &code {
            Some(code) => status == Some(429) || is_throttling(code),
            None => matches!(status, Some(429 | 503)),
        };
        let kind = match (&error, status) {
            _ if is_throttled => Kind::Throttled,
            (SdkError::ConstructionFailure(_), _) => Kind::Refused,
            (SdkError::ServiceError(_), Some(status)) if status < 500 => Kind::Refused,
            _ => Kind::Unavailable,
        };
        Self { operation: operation.into(), kind, code, message, status, source: error.into() }
    }

    /// The error about an answer that cannot be used, because a field is missing or malformed.
    pub fn unexpected(
        operation: impl Into<Cow<'static, str>>,
        cause: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self {
            operation: operation.into(),
            kind: Kind::Unavailable,
            code: None,
            message: None,
            status: None,
            source: cause.into(),
        }
    }

    /// The same error with another kind, for an adapter that knows what a code means for its service.
    #[must_use]
    pub fn with_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// The same error, [`Kind::Refused`] only for these codes: after any other refusal, a retry may succeed. An answer
    /// without a code does not prove that the service throttled the call, so such an error is [`Kind::Unavailable`].
    #[must_use]
    pub fn refused_only_for(self, codes: &[&str]) -> Self {
        let kind = match self.code() {
            Some(code) if codes.contains(&code) => Kind::Refused,
            Some(_) if self.is_throttled() => Kind::Throttled,
            _ => Kind::Unavailable,
        };
        self.with_kind(kind)
    }

    /// The service's error code.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Whether the service throttled the call.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        self.kind == Kind::Throttled
    }

    /// Whether the same call would fail in the same way.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.kind == Kind::Refused
    }

    /// The service's code and message, such as `AccessDenied: not authorized`. If the service gave no code, the chain
    /// of causes.
    #[must_use]
    pub fn description(&self) -> String {
        match (&self.code, &self.message) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.clone(),
            (None, _) => chain(self.source.as_ref()),
        }
    }
}

/// Whether a service's error code means that the service throttled the call.
///
/// The SDK's own list also has `LimitExceededException`, which several services use for quotas that no retry changes.
#[must_use]
pub fn is_throttling(code: &str) -> bool {
    code.contains("Throttl")
        || matches!(
            code,
            "ProvisionedThroughputExceededException" | "RequestLimitExceeded" | "SlowDown" | "TooManyRequestsException"
        )
}

#[cfg(test)]
mod tests {
    use aws_smithy_runtime_api::client::result::ConnectorError;
    use aws_smithy_types::body::SdkBody;
    use aws_smithy_types::error::ErrorMetadata;

    use super::*;

    fn answer(status: u16, code: Option<&str>) -> SdkError<ErrorMetadata, HttpResponse> {
        let mut metadata = ErrorMetadata::builder();
        if let Some(code) = code {
            metadata = metadata.code(code).message("no");
        }
        let response = HttpResponse::new(status.try_into().unwrap(), SdkBody::empty());
        SdkError::service_error(metadata.build(), response)
    }

    #[test]
    fn each_answer_has_one_kind() {
        let cases = [
            (400, Some("ThrottlingException"), Kind::Throttled),
            (400, Some("Throttling"), Kind::Throttled),
            (400, Some("RequestLimitExceeded"), Kind::Throttled),
            (400, Some("ProvisionedThroughputExceededException"), Kind::Throttled),
            (429, Some("TooManyRequestsException"), Kind::Throttled),
            (503, Some("SlowDown"), Kind::Throttled),
            (503, None, Kind::Throttled),
            (503, Some("ServiceUnavailable"), Kind::Unavailable),
            (500, Some("InternalFailure"), Kind::Unavailable),
            (400, Some("LimitExceededException"), Kind::Refused),
            (403, Some("AccessDenied"), Kind::Refused),
            (404, None, Kind::Refused),
        ];
        for (status, code, kind) in cases {
            assert_eq!(ServiceError::new("test", answer(status, code)).kind, kind, "{status} {code:?}");
        }
    }

    #[test]
    fn a_call_without_an_answer_may_succeed_later_and_an_unbuildable_call_may_not() {
        type Failed = SdkError<ErrorMetadata, HttpResponse>;
        let timeout: Failed = SdkError::timeout_error("late");
        assert_eq!(ServiceError::new("test", timeout).kind, Kind::Unavailable);
        let unsent: Failed = SdkError::dispatch_failure(ConnectorError::io("reset".into()));
        assert_eq!(ServiceError::new("test", unsent).kind, Kind::Unavailable);
        let unbuilt: Failed = SdkError::construction_failure("no key");
        assert_eq!(ServiceError::new("test", unbuilt).kind, Kind::Refused);
    }

    #[test]
    fn the_description_is_the_services_code_and_message() {
        let error = ServiceError::new("GetBranch", answer(403, Some("AccessDenied")));
        assert_eq!(error.to_string(), "GetBranch failed");
        assert_eq!(error.description(), "AccessDenied: no");
        assert_eq!(ServiceError::unexpected("GetBranch", "no commit id").description(), "no commit id");
    }
}
