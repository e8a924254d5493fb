//! How a function fails: a stable type for machines, a sentence for people, the chain of causes for the log.

use serde::Serialize;

/// The function error's `errorType`. Stable: people and alarms know these names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ErrorType {
    /// The request is not one; the message says what to type instead.
    InvalidRequest,
    /// A request that is understood and not granted.
    Refused,
    /// What it names does not exist.
    NotFound,
    /// It does not fit a limit of AWS's or of the configuration's.
    LimitExceeded,
    /// AWS asks to slow down; the same again later works.
    Throttled,
    /// The configuration or environment is wrong; the message says where.
    Misconfigured,
    /// Anything else: the log has the chain of causes.
    Internal,
}

impl ErrorType {
    /// The name as it stands in `errorType`.
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
    /// Which of the stable types it is.
    fn error_type(&self) -> ErrorType;
}

/// An error and all that caused it, in one line: `what: why: why`.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let line = error.to_string();
        // SDK errors repeat their source's text in their own.
        if !text.ends_with(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        cause = error.source();
    }
    text
}
