//! The AWS services of this function, one module for each.

pub(crate) mod codepipeline;
pub(crate) mod events;
pub(crate) mod kms;
pub(crate) mod s3;
pub(crate) mod s3_control;
pub(crate) mod sqs;
pub(crate) mod sts;

use std::rc::Rc;

use aws_sdk_s3::config::ResponseChecksumValidation;
use aws_sdk_s3::config::endpoint::{Params, ParamsBuilder};
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use sekisho_lambda::Topic;
use sekisho_lambda::aws::{Later, SdkConfig, custom_endpoint, later};
use sekisho_lambda::eventbridge::Buses;
use sekisho_lambda::head::HeadClient;
use sekisho_lambda::service_error::{Kind, ServiceError};
use sekisho_lambda::signed::{Service, Signed};

const CODEBUILD: Service = Service { id: "CodeBuild", host: "codebuild" };
const STS: Service = Service { id: "STS", host: "sts" };
const CODEPIPELINE: Service = Service { id: "CodePipeline", host: "codepipeline" };

/// The clients of all services.
#[derive(Debug)]
pub struct Clients {
    pub(crate) s3: aws_sdk_s3::Client,
    pub(crate) s3_without_retries: Later<aws_sdk_s3::Client>,
    /// S3, for the HEAD requests of a sweep; `None` if the configuration lacks what the client needs.
    pub(crate) head_client: Later<Option<Rc<HeadClient>>>,
    /// What the endpoints of all buckets have in common.
    pub(crate) s3_endpoint: ParamsBuilder,
    pub(crate) kms: Later<aws_sdk_kms::Client>,
    pub(crate) codepipeline: Later<aws_sdk_codepipeline::Client>,
    pub(crate) codebuild: Later<Signed>,
    /// CodePipeline, for the calls that only the retry of a stage needs.
    pub(crate) codepipeline_calls: Later<Signed>,
    /// CodePipeline without the SDK's retries. If an answer is lost, a second call might retry a stage twice, or be
    /// refused because the stage runs already.
    pub(crate) stage_retries: Later<Signed>,
    /// S3, for the lists of findings.
    pub(crate) reports: Later<Signed>,
    pub(crate) sts: Later<Signed>,
    pub(crate) sqs: Later<Signed>,
    pub(crate) topic: Topic,
    pub(crate) buses: Later<Buses>,
    aws: SdkConfig,
}

impl Clients {
    /// `path_style` puts the bucket's name into the path of a URL and not into the host name. `topic_arn` is the topic
    /// for findings.
    #[must_use]
    pub fn new(aws: &SdkConfig, path_style: bool, topic_arn: &str) -> Self {
        let s3 = aws_sdk_s3::config::Builder::from(aws)
            .force_path_style(path_style)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        let without_retries = s3.clone().retry_config(RetryConfig::disabled());
        Self {
            s3: aws_sdk_s3::Client::from_conf(s3.build()),
            s3_without_retries: Later::new(Box::new(move || aws_sdk_s3::Client::from_conf(without_retries.build()))),
            head_client: later(aws, |aws| HeadClient::new(aws).map(Rc::new)),
            s3_endpoint: Params::builder()
                .set_region(aws.region().map(ToString::to_string))
                .set_endpoint(custom_endpoint(aws, "S3"))
                .force_path_style(path_style),
            kms: later(aws, aws_sdk_kms::Client::new),
            codepipeline: later(aws, aws_sdk_codepipeline::Client::new),
            codebuild: later(aws, |aws| Signed::new(aws, &CODEBUILD, None)),
            codepipeline_calls: later(aws, |aws| Signed::new(aws, &CODEPIPELINE, None)),
            stage_retries: later(aws, |aws| {
                let once = aws.to_builder().retry_config(RetryConfig::disabled()).build();
                Signed::new(&once, &CODEPIPELINE, None)
            }),
            reports: later(aws, Signed::s3),
            sts: later(aws, |aws| Signed::new(aws, &STS, None)),
            sqs: later(aws, |aws| Signed::new(aws, &sqs::SQS, None)),
            topic: Topic::new(later(aws, aws_sdk_sns::Client::new), topic_arn),
            buses: later(aws, Buses::new),
            aws: aws.clone(),
        }
    }

    /// The jobs of S3 Batch Operations of an account. Few invocations need this client, so it is not kept.
    pub(crate) fn jobs(&self, account: &str) -> Signed {
        Signed::s3_control(&self.aws, account)
    }
}

/// The text of the first element with this name in an XML answer, without elements in it.
pub(crate) fn element(text: &str, name: &str) -> Option<String> {
    let text = text.split_once(&format!("<{name}>"))?.1.split_once("</")?.0;
    let replaced = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
    Some(replaced.replace("&#39;", "'").replace("&amp;", "&"))
}

/// Codes of temporary errors, after which S3 may accept the same request.
const PASSING: [&str; 5] =
    ["ConditionalRequestConflict", "InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable"];

/// Classifies an error. [`Kind::Refused`] means that S3 or KMS gave a final answer about an object or a key, so every
/// temporary error must have another kind.
fn service_error<E>(operation: &'static str, error: SdkError<E, HttpResponse>) -> ServiceError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let is_service_error = matches!(error, SdkError::ServiceError(_));
    let error = ServiceError::new(operation, error);
    let may_pass = match (error.status, error.code()) {
        // S3 answers a copy with status 200 before the copy is done, and reports an `InternalError` in the body.
        (_, Some(code)) => PASSING.contains(&code),
        (Some(status), None) => status < 300,
        (None, None) => false,
    };
    let kind = match error.status {
        Some(429 | 503) => Kind::Throttled,
        _ if error.is_throttled() => Kind::Throttled,
        _ if may_pass => Kind::Unavailable,
        // The error is final, because a service that does not implement a call now will not implement it for a retry.
        Some(501) if is_service_error => Kind::Refused,
        _ => error.kind,
    };
    error.with_kind(kind)
}
