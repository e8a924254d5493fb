//! One invocation, and the loop that answers invocations.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use lambda_runtime::{Context, Diagnostic, LambdaEvent, service_fn};
use serde::Serialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use tracing::{Instrument as _, error, info_span, warn};

use sekisho_domain::account::{AccountId, Arn, Region};
use sekisho_domain::config::Misconfigured;

use crate::failure::{ErrorType, Failure, chain};

/// The current time. Decisions get the time as a value, so no other code reads a clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// The facts about an invocation that Lambda gives to a function.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Lambda's request id. Retries of an asynchronous invocation have the same id.
    pub request_id: String,
    /// The function's partition: `aws`, `aws-cn` or `aws-us-gov`.
    pub partition: String,
    /// The account that the function runs in.
    pub account: AccountId,
    /// The region that the function runs in.
    pub region: Region,
    /// The function's name.
    pub function: String,
    /// The alias or version that was invoked, also `$LATEST` if the caller named it. `None` if the caller named only
    /// the function.
    pub qualifier: Option<String>,
    /// The time at which Lambda ends the invocation.
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
        let (function, qualifier) = name.split_once(':').map_or((name, None), |(name, alias)| (name, Some(alias)));
        Ok(Self {
            request_id: context.request_id.clone(),
            partition: arn.partition.to_owned(),
            account: arn.account.parse().map_err(|_| unusable())?,
            region: arn.region.parse().map_err(|_| unusable())?,
            function: function.to_owned(),
            qualifier: qualifier.map(str::to_owned),
            deadline: OffsetDateTime::UNIX_EPOCH + Duration::from_millis(context.deadline),
        })
    }

    /// The time until Lambda ends the invocation.
    #[must_use]
    pub fn time_left(&self, now: OffsetDateTime) -> Duration {
        Duration::try_from(self.deadline - now).unwrap_or(Duration::ZERO)
    }

    /// The seed for the random part of pauses. It differs between the invocations, and a test that repeats an invocation
    /// gets the same pauses.
    #[must_use]
    pub fn jitter_seed(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.request_id.hash(&mut hasher);
        hasher.finish()
    }
}

/// Answers invocations until Lambda ends the process. Everything runs on the thread that calls this function. `handle`
/// gets the payload's text as it arrived.
///
/// # Errors
/// If Lambda's Runtime API cannot be reached, or the async runtime cannot be built.
pub fn serve<H, R, E>(handle: &H) -> Result<(), lambda_runtime::Error>
where
    H: AsyncFn(&str, &Invocation) -> Result<R, E>,
    R: Serialize,
    E: Failure + From<Misconfigured>,
{
    let answers = lambda_runtime::run(service_fn(async move |event: LambdaEvent<Box<RawValue>>| {
        let (payload, context) = event.into_parts();
        let function = context.env_config.function_name.as_str();
        let span = info_span!("invocation", requestId = context.request_id.as_str(), function);
        let answer = async {
            let answer = match Invocation::of(&context) {
                Ok(invocation) => handle(payload.get(), &invocation).await,
                Err(misconfigured) => Err(E::from(misconfigured)),
            };
            answer.map_err(|error| diagnostic(&error, &context.request_id))
        };
        answer.instrument(span).await
    }));
    // The C library looks up host names on one other thread. A cold start looks up few names, so more threads would
    // cost more than they save. If a name server does not answer, the look-ups of other names wait. They wait for as
    // long as the template's `RES_OPTIONS` allows, because no timeout of the SDK frees the thread.
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?.block_on(answers)
}

/// Logs the error with its causes. Returns what the caller sees: the error without its causes, and the request id.
fn diagnostic<E: Failure>(error: &E, request_id: &str) -> Diagnostic {
    let error_type = error.error_type();
    let causes = chain(error);
    match error_type {
        ErrorType::InvalidRequest | ErrorType::Refused | ErrorType::NotFound | ErrorType::LimitExceeded => {
            warn!(errorType = error_type.name(), error = causes, "invocation failed");
        }
        ErrorType::Throttled | ErrorType::Misconfigured | ErrorType::Internal => {
            error!(errorType = error_type.name(), error = causes, "invocation failed");
        }
    }
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
    fn account_region_and_name_come_from_the_arn() {
        let arn = "arn:aws:lambda:ap-northeast-1:012345678901:function:temp-access";
        let invocation = Invocation::of(&context(arn)).unwrap();
        assert_eq!(invocation.account.as_str(), "012345678901");
        assert_eq!(invocation.region.as_str(), "ap-northeast-1");
        assert_eq!(invocation.function, "temp-access");
        assert_eq!(invocation.time_left(OffsetDateTime::UNIX_EPOCH), Duration::from_secs(10));
        assert_eq!(invocation.time_left(OffsetDateTime::UNIX_EPOCH + Duration::from_secs(11)), Duration::ZERO);
    }

    #[test]
    fn the_qualifier_is_the_alias_or_version_that_was_invoked() {
        for (suffix, expected) in
            [("", None), (":hana", Some("hana")), (":$LATEST", Some("$LATEST")), (":7", Some("7"))]
        {
            let arn = format!("arn:aws:lambda:ap-northeast-1:012345678901:function:temp-access{suffix}");
            let invocation = Invocation::of(&context(&arn)).unwrap();
            assert_eq!((invocation.function.as_str(), invocation.qualifier.as_deref()), ("temp-access", expected));
        }
    }

    #[test]
    fn an_arn_that_is_not_a_functions_is_misconfigured() {
        for arn in ["", "arn:aws:s3:::bucket", "arn:aws:lambda:ap-northeast-1:1:function:x"] {
            assert!(Invocation::of(&context(arn)).is_err(), "{arn}");
        }
    }
}
