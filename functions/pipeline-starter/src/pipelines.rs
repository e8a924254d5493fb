//! CodePipeline: starts executions, and asks why one failed.

use aws_sdk_codepipeline::Client;
use aws_sdk_codepipeline::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_codepipeline::types::{
    ActionCategory, ActionExecutionFilter, ActionExecutionStatus, PipelineExecutionSummary, SourceRevisionOverride,
    SourceRevisionType, TriggerType,
};

use sekisho_domain::change::CommitId;
use sekisho_domain::notice::Notice;
use time::OffsetDateTime;

use crate::notice::Failed;
use crate::world::{Start, Started, Unanswered};

/// Errors that may go better later. `ConflictException`: the pipeline is busy with something else.
const PASSING: [&str; 3] =
    ["ConflictException", "ConcurrentPipelineExecutionsLimitExceededException", "ConcurrentModificationException"];

/// Starts an execution at the pinned commit.
pub async fn start(client: &Client, start: &Start) -> Started {
    let pin = |action: &sekisho_domain::route::ActionName| {
        SourceRevisionOverride::builder()
            .action_name(action.as_str())
            .revision_type(SourceRevisionType::CommitId)
            .revision_value(start.commit.as_str())
            .build()
    };
    let revisions = match start.actions.iter().map(pin).collect::<Result<Vec<_>, _>>() {
        Ok(revisions) => revisions,
        Err(error) => return Started::Never(error.to_string()),
    };
    let answer = client
        .start_pipeline_execution()
        .name(start.pipeline.as_str())
        .client_request_token(&start.token)
        .set_source_revisions(Some(revisions))
        .send()
        .await;
    match answer {
        Ok(answer) => Started::Execution(answer.pipeline_execution_id.unwrap_or_default()),
        Err(error) => {
            let said = said(&error);
            if passes(&error) { Started::Later(said) } else { Started::Never(said) }
        }
    }
}

fn passes<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    match error {
        SdkError::ServiceError(service) => {
            service.raw().status().as_u16() >= 500
                || error.code().is_some_and(|code| PASSING.contains(&code) || is_throttling(code))
        }
        SdkError::ConstructionFailure(_) => false,
        _ => true,
    }
}

fn is_throttling(code: &str) -> bool {
    code.contains("Throttl") || code == "TooManyRequestsException" || code == "RequestLimitExceeded"
}

fn said<E: ProvideErrorMetadata + std::error::Error + 'static>(error: &SdkError<E>) -> String {
    match (error.code(), error.message()) {
        (Some("PipelineNotFoundException"), _) => {
            "PipelineNotFoundException: no such pipeline here: create it, or correct the route's target".to_owned()
        }
        // It is not tried again by itself: who mends it has to know what starts it.
        (Some(code @ ("AccessDeniedException" | "AccessDenied")), message) => format!(
            "{code}: {}: let sekisho-pipeline-starter start this pipeline, then release the change in CodePipeline or push again",
            message.unwrap_or("no message")
        ),
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => sekisho_lambda::failure::chain(error),
    }
}

/// The latest execution at this commit that StartPipelineExecution has started since then, among the last hundred: one that
/// a person or a webhook has started by other means is not the start that is looked for.
///
/// # Errors
/// Where CodePipeline does not say.
pub async fn find(
    client: &Client,
    pipeline: &str,
    commit: &CommitId,
    since: OffsetDateTime,
) -> Result<Option<String>, Unanswered> {
    let answer = client.list_pipeline_executions().pipeline_name(pipeline).max_results(100).send().await;
    let executions = match answer {
        Ok(answer) => answer.pipeline_execution_summaries.unwrap_or_default(),
        // The start itself says that there is no such pipeline.
        Err(error) if error.code() == Some("PipelineNotFoundException") => return Ok(None),
        Err(error) => {
            return Err(Unanswered {
                what: format!("CodePipeline did not list the executions of {pipeline}"),
                throttled: error.code().is_some_and(is_throttling),
                source: Some(error.into()),
            });
        }
    };
    let at_commit = |execution: &PipelineExecutionSummary| {
        execution.source_revisions().iter().any(|revision| revision.revision_id() == Some(commit.as_str()))
    };
    let is_since = |execution: &PipelineExecutionSummary| {
        execution.start_time.is_some_and(|start| start.secs() >= since.unix_timestamp())
    };
    // Where CodePipeline does not say by what, it counts: to start twice is worse.
    let is_by_start = |execution: &PipelineExecutionSummary| {
        let kind = execution.trigger().and_then(|trigger| trigger.trigger_type());
        kind.is_none_or(|kind| *kind == TriggerType::StartPipelineExecution)
    };
    Ok(executions
        .into_iter()
        .find(|execution| at_commit(execution) && is_since(execution) && is_by_start(execution))
        .and_then(|execution| execution.pipeline_execution_id))
}

/// Why an execution failed, as far as CodePipeline says: of two calls that are refused for good, each leaves out what it would
/// have told.
///
/// # Errors
/// Where CodePipeline may say it later.
pub async fn why_failed(client: &Client, pipeline: &str, execution: &str) -> Result<Failed, Unanswered> {
    let unanswered = |throttled, source: Box<dyn std::error::Error + Send + Sync>| Unanswered {
        what: format!("CodePipeline did not say why execution {execution} of {pipeline} failed"),
        throttled,
        source: Some(source),
    };
    let filter = ActionExecutionFilter::builder().pipeline_execution_id(execution).build();
    let actions = client.list_action_executions().pipeline_name(pipeline).filter(filter).send();
    let details = client.get_pipeline_execution().pipeline_name(pipeline).pipeline_execution_id(execution).send();
    let (actions, details) = futures_util::join!(actions, details);
    let mut refused = None;
    let actions = match actions {
        Ok(actions) => actions.action_execution_details.unwrap_or_default(),
        Err(error) if passes(&error) => {
            return Err(unanswered(error.code().is_some_and(is_throttling), error.into()));
        }
        Err(error) => {
            refused = Some(format!("not known ({})", said(&error)));
            Vec::new()
        }
    };
    let details = match details {
        Ok(details) => details.pipeline_execution,
        Err(error) if passes(&error) => {
            return Err(unanswered(error.code().is_some_and(is_throttling), error.into()));
        }
        Err(_) => None,
    };
    let source = actions
        .iter()
        .filter(|action| {
            let kind = action.input().and_then(|input| input.action_type_id());
            kind.is_some_and(|kind| *kind.category() == ActionCategory::Source && kind.provider() == "CodeCommit")
        })
        .find_map(|action| action.output()?.execution_result()?.external_execution_id().map(ToOwned::to_owned));
    let failed = actions.into_iter().find(|action| action.status == Some(ActionExecutionStatus::Failed));
    let place = failed.as_ref().map(|action| {
        format!(
            "{} / {}",
            action.stage_name().unwrap_or("unknown stage"),
            action.action_name().unwrap_or("unknown action")
        )
    });
    let result = failed.and_then(|action| action.output).and_then(|output| output.execution_result);
    let reason = result.and_then(|result| {
        result.error_details.and_then(|details| details.message).or(result.external_execution_summary)
    });
    let reason = reason.or(refused);
    let revisions = details.and_then(|execution| execution.artifact_revisions).unwrap_or_default();
    // Of several sources the one that is a commit; an object's version in S3 is none.
    let is_commit = |id: &String| CommitId::try_from(id.clone()).is_ok();
    let revision = || revisions.into_iter().filter_map(|revision| revision.revision_id).find(is_commit);
    let commit = source.filter(is_commit).or_else(revision);
    Ok(Failed { place, reason, commit })
}

/// Tells people.
///
/// # Errors
/// Where SNS did not take it.
pub async fn tell(client: &aws_sdk_sns::Client, topic: &str, notice: &Notice) -> Result<(), Unanswered> {
    let publish = client.publish().topic_arn(topic).subject(notice.subject()).message_structure("json");
    match publish.message(notice.message()).send().await {
        Ok(_) => Ok(()),
        Err(error) => Err(Unanswered {
            what: "SNS did not take a notice".to_owned(),
            throttled: aws_sdk_sns::error::ProvideErrorMetadata::code(&error).is_some_and(is_throttling),
            source: Some(error.into()),
        }),
    }
}
