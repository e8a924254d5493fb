//! What an AWS service said, where it did not do what it was asked.

use std::fmt;

/// A final answer: the same again would be answered the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Of HTTP; 0 where the request could not even be sent.
    pub status: u16,
    /// The service's own code; a HEAD has no body to carry one.
    pub code: Option<String>,
    /// The service's own words.
    pub message: Option<String>,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.code, &self.message) {
            (Some(code), Some(message)) => write!(f, "{code}: {}", message.trim_end_matches('.')),
            (Some(code), None) => write!(f, "{code}"),
            (None, _) => write!(f, "HTTP status {}", self.status),
        }
    }
}

/// No answer, or one that asks to come back: the same again later may work.
#[derive(Debug, thiserror::Error)]
#[error("{operation} was not answered")]
pub struct Unanswered {
    /// Such as `s3:HeadObject`.
    pub operation: &'static str,
    /// Whether the service asked to slow down.
    pub throttled: bool,
    /// What the SDK said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Why a call did not do what it was asked.
#[derive(Debug)]
pub enum Refusal {
    /// It will not.
    Said(Said),
    /// It may, later.
    Later(Unanswered),
}

impl Refusal {
    /// For what this function must be let do: that it may not is no fact about an object, and may be mended.
    #[must_use]
    pub fn into_unanswered(self, operation: &'static str) -> Unanswered {
        match self {
            Self::Later(unanswered) => unanswered,
            Self::Said(said) => Unanswered { operation, throttled: false, source: said.to_string().into() },
        }
    }
}
