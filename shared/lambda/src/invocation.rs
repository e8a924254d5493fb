//! One invocation, and the loop that answers them.

use std::time::Duration;

use lambda_runtime::{Context, Diagnostic, LambdaEvent, service_fn};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use sekisho_domain::account::{AccountId, Arn, Region};
use sekisho_domain::config::Misconfigured;

use crate::failure::{ErrorType, Failure, chain};
use crate::log::{self, Level};

/// The time. The only clock there is: decisions take the time as a value.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// What Lambda says about an invocation.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Lambda's request id: the same when Lambda tries an asynchronous invocation again.
    pub request_id: String,
    /// The function's partition: `aws`, `aws-cn`, `aws-us-gov`.
    pub partition: String,
    /// The account that the function runs in.
    pub account: AccountId,
    /// The region that the function runs in.
    pub region: Region,
    /// The function's name.
    pub function: String,
    /// When Lambda ends it.
    pub deadline: OffsetDateTime,
}

impl Invocation {
    fn of(context: &Context) -> Result<Self, Misconfigured> {
        let text = &context.invoked_function_arn;
        let unusable = || Misconfigured {
            file: "environment".to_owned(),
            key: "Lambda-Runtime-Invoked-Function-Arn".to_owned(),
            reason: format!("`{text}` is not a function's ARN: invoke through Lambda"),
        };
        let arn = Arn::parse(text).filter(|arn| arn.service == "lambda").ok_or_else(unusable)?;
        let name = arn.resource.strip_prefix("function:").ok_or_else(unusable)?;
        Ok(Self {
            request_id: context.request_id.clone(),
            partition: arn.partition.to_owned(),
            account: arn.account.parse().map_err(|_| unusable())?,
            region: arn.region.parse().map_err(|_| unusable())?,
            function: name.split(':').next().unwrap_or(name).to_owned(),
            deadline: OffsetDateTime::UNIX_EPOCH + Duration::from_millis(context.deadline),
        })
    }

    /// How long Lambda lets it run yet.
    #[must_use]
    pub fn time_left(&self, now: OffsetDateTime) -> Duration {
        Duration::try_from(self.deadline - now).unwrap_or(Duration::ZERO)
    }
}

/// Answers invocations until Lambda ends the process, all of it on this thread. The payload is handed over as the text that
/// came.
///
/// # Errors
/// Where Lambda's Runtime API cannot be reached, or the process gets nothing to wait with.
pub fn serve<H, R, E>(handle: &H) -> Result<(), lambda_runtime::Error>
where
    H: AsyncFn(&str, &Invocation) -> Result<R, E>,
    R: Serialize,
    E: Failure + From<Misconfigured>,
{
    let answers = lambda_runtime::run(service_fn(async move |event: LambdaEvent<Box<RawValue>>| {
        let (payload, context) = event.into_parts();
        let answer = match Invocation::of(&context) {
            Ok(invocation) => handle(payload.get(), &invocation).await,
            Err(misconfigured) => Err(E::from(misconfigured)),
        };
        answer.map_err(|error| diagnostic(&error, &context.request_id))
    }));
    // One thread beside it, on which the C library looks up the names of hosts. They are few, and a thread for each costs more
    // at a start than their turns. A name that nobody answers for holds up the others for as long as the template's
    // `RES_OPTIONS` says: no timeout of the SDK frees the thread.
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?.block_on(answers)
}

/// People see the first line and the request id; the log has the chain of causes.
fn diagnostic<E: Failure>(error: &E, request_id: &str) -> Diagnostic {
    let error_type = error.error_type();
    let level = match error_type {
        ErrorType::InvalidRequest | ErrorType::Refused | ErrorType::NotFound | ErrorType::LimitExceeded => Level::Warn,
        ErrorType::Throttled | ErrorType::Misconfigured | ErrorType::Internal => Level::Error,
    };
    let fields = json!({"requestId": request_id, "errorType": error_type, "error": chain(error)});
    log::line(level, "invocation failed", &fields);
    Diagnostic { error_type: error_type.name().to_owned(), error_message: format!("{error} (request {request_id})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(arn: &str) -> Context {
        let mut context = Context::default();
        arn.clone_into(&mut context.invoked_function_arn);
        context.deadline = 10_000;
        context
    }

    #[test]
    fn the_arn_says_where_it_runs() {
        let arn = "arn:aws:lambda:ap-northeast-1:012345678901:function:temp-access:live";
        let invocation = Invocation::of(&context(arn)).unwrap();
        assert_eq!(invocation.account.as_str(), "012345678901");
        assert_eq!(invocation.region.as_str(), "ap-northeast-1");
        assert_eq!(invocation.function, "temp-access");
        assert_eq!(invocation.time_left(OffsetDateTime::UNIX_EPOCH), Duration::from_secs(10));
        assert_eq!(invocation.time_left(OffsetDateTime::UNIX_EPOCH + Duration::from_secs(11)), Duration::ZERO);
    }

    #[test]
    fn another_arn_is_misconfigured() {
        for arn in ["", "arn:aws:s3:::bucket", "arn:aws:lambda:ap-northeast-1:1:function:x"] {
            assert!(Invocation::of(&context(arn)).is_err(), "{arn}");
        }
    }
}
