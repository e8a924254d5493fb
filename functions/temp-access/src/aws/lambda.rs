//! Lambda: the temp-access of other accounts.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sekisho_domain::account::{AccountId, Region};
use sekisho_lambda::ServiceError;
use sekisho_lambda::aws::SdkConfig;
use sekisho_lambda::service_error;
use sekisho_lambda::signed::{Service, Signed};
use serde::Deserialize;

/// The alias for requests that the hub account hands on.
pub(crate) const HUB: &str = "hub";

const LAMBDA: Service = Service { id: "Lambda", host: "lambda" };
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// The function of an account to which requests are handed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hub {
    pub(crate) partition: String,
    pub(crate) account: AccountId,
    pub(crate) region: Region,
    /// The function's name, which is the same in every account.
    pub(crate) function: String,
}

/// What the other function answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The answer, as JSON.
    Answer(String),
    /// A function error.
    Failed(FunctionError),
}

/// A function error, as Lambda reports it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FunctionError {
    /// A type of ours, or one of Lambda's, such as `Sandbox.Timedout`.
    #[serde(default)]
    pub(crate) error_type: String,
    #[serde(default)]
    pub(crate) error_message: String,
}

/// What a failed invocation means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HubErrorKind {
    /// The other account does not let this function in.
    Denied,
    /// Lambda throttled the call.
    Throttled,
    /// Lambda refused the call for another reason.
    Refused,
    /// There was no answer, so the request may have been carried out.
    Unanswered,
}

/// A failed invocation.
#[derive(Debug, thiserror::Error)]
#[error("Lambda's Invoke failed")]
pub struct HubError {
    pub(crate) kind: HubErrorKind,
    #[source]
    source: Box<ServiceError>,
}

impl HubError {
    /// The error of an invocation that was not answered before the deadline.
    pub(crate) fn unanswered() -> Self {
        Self::from(ServiceError::unexpected("lambda:Invoke", "no answer in time"))
    }
}

impl From<ServiceError> for HubError {
    fn from(source: ServiceError) -> Self {
        // Lambda denies the call if the alias `hub` or its policy is missing. It looks for the alias of its own account
        // first, which may be missing in another region.
        let is_denied =
            source.code().is_some_and(|code| code.starts_with("AccessDenied") || code == "ResourceNotFoundException");
        let kind = match source.kind {
            service_error::Kind::Refused if is_denied => HubErrorKind::Denied,
            service_error::Kind::Refused => HubErrorKind::Refused,
            service_error::Kind::Throttled => HubErrorKind::Throttled,
            service_error::Kind::Unavailable => HubErrorKind::Unanswered,
        };
        Self { kind, source: Box::new(source) }
    }
}

/// The temp-access functions of other accounts.
#[derive(Debug)]
pub struct Hubs {
    aws: SdkConfig,
}

impl Hubs {
    /// Calls Lambda with this configuration, but without its timeout of an attempt. Another attempt would only wait for
    /// the first one, which may take as long as the request.
    #[must_use]
    pub fn new(aws: &SdkConfig) -> Self {
        let timeouts = aws.timeout_config().map(|timeouts| {
            let mut timeouts = timeouts.to_builder();
            timeouts.set_operation_attempt_timeout(None);
            timeouts.build()
        });
        let mut aws = aws.to_builder();
        aws.set_timeout_config(timeouts);
        Self { aws: aws.build() }
    }

    /// Hands a request on, and waits for the answer. If the answer is lost, the SDK sends the same payload again, which
    /// the other function recognizes by its id.
    pub(crate) async fn invoke(&self, hub: &Hub, payload: String) -> Result<Reply, HubError> {
        let Hub { partition, account, region, function } = hub;
        let arn = format!("arn:{partition}:lambda:{region}:{account}:function:{function}:{HUB}");
        let path = format!("/2015-03-31/functions/{}/invocations", utf8_percent_encode(&arn, IN_PATH));
        let lambda = Signed::new(&self.aws, &LAMBDA, Some(region.as_str()));
        let reply = lambda.post(&path, &[("content-type", "application/json")], payload).await?;
        if reply.header("x-amz-function-error").is_none() {
            return Ok(Reply::Answer(reply.body));
        }
        let error = serde_json::from_str(&reply.body);
        error.map(Reply::Failed).map_err(|error| ServiceError::unexpected("lambda:Invoke", error).into())
    }
}
