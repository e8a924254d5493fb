//! How an invocation fails: a stable type for programs, a sentence for people, and the chain of causes for the log.

use serde::Serialize;

/// The `errorType` of a function error. People and alarms depend on these names, so they never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ErrorType {
    /// The payload is not a valid request. The message says what to type instead.
    InvalidRequest,
    /// The request is valid, but a rule forbids it.
    Refused,
    /// The request names something that does not exist.
    NotFound,
    /// The request exceeds a limit of AWS or of the configuration.
    LimitExceeded,
    /// The request came too early, for example because AWS throttled a call. The same request may succeed later.
    Throttled,
    /// The configuration or the environment is wrong. The message says where.
    Misconfigured,
    /// Any other failure. The log has the chain of causes.
    Internal,
}

impl ErrorType {
    const ALL: [Self; 7] = [
        Self::InvalidRequest,
        Self::Refused,
        Self::NotFound,
        Self::LimitExceeded,
        Self::Throttled,
        Self::Misconfigured,
        Self::Internal,
    ];

    /// The type with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|error_type| error_type.name() == name)
    }

    /// The name as it appears in `errorType`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidRequest => "InvalidRequest",
            Self::Refused => "Refused",
            Self::NotFound => "NotFound",
            Self::LimitExceeded => "LimitExceeded",
            Self::Throttled => "Throttled",
            Self::Misconfigured => "Misconfigured",
            Self::Internal => "Internal",
        }
    }
}

/// An error that ends an invocation.
pub trait Failure: std::error::Error {
    /// The `errorType` of the error.
    fn error_type(&self) -> ErrorType;
}

/// An error and its causes on one line, separated by colons.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let line = error.to_string();
        // Errors of the SDK repeat the text of their source.
        if !text.ends_with(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        cause = error.source();
    }
    text
}
