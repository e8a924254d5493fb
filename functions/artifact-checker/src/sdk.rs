//! Errors of the AWS SDK, read as answers.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use sekisho_lambda::failure::chain;

use crate::answer::{Refusal, Said, Unanswered};

/// Reads an error of the SDK, after the SDK's own retries.
pub fn refusal<E>(operation: &'static str, error: SdkError<E, HttpResponse>) -> Refusal
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    if let SdkError::ConstructionFailure(_) = &error {
        // Such as a key of spaces alone, which the SDK takes for none.
        return Refusal::Said(Said { status: 0, code: Some("not sent".to_owned()), message: Some(chain(&error)) });
    }
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.code().map(str::to_owned);
    let asks_to_slow_down = matches!(status, Some(429 | 503))
        || code.as_deref().is_some_and(|code| {
            matches!(code, "SlowDown" | "RequestLimitExceeded" | "TooManyRequestsException") || code.contains("Throttl")
        });
    let passes = asks_to_slow_down
        || matches!(code.as_deref(), Some("RequestTimeout" | "OperationAborted" | "ConditionalRequestConflict"))
        // A copy is answered 200 before it is done, and an error then comes in the body.
        || matches!(code.as_deref(), Some("InternalError" | "ServiceUnavailable"))
        || status.is_none_or(|status| status < 300 && code.is_none() || status >= 500 && status != 501);
    match (status, &error) {
        (Some(status), SdkError::ServiceError(_)) if !passes => {
            Refusal::Said(Said { status, code, message: error.message().map(str::to_owned) })
        }
        // An answer that cannot be read is not taken for a refusal.
        _ => Refusal::Later(Unanswered { operation, throttled: asks_to_slow_down, source: error.into() }),
    }
}
