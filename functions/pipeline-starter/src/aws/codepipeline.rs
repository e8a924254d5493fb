//! CodePipeline: starts executions, finds one whose start got no answer, and reads why one failed.

use aws_sdk_codepipeline::Client;
use aws_sdk_codepipeline::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_codepipeline::types::{
    ActionCategory, ActionExecutionDetail, ActionExecutionFilter, ActionExecutionStatus, ArtifactRevision,
    PipelineExecutionSummary, SourceRevisionOverride, SourceRevisionType, TriggerType,
};
use sekisho_domain::change::CommitId;
use sekisho_domain::route::{ActionName, PipelineName};
use time::OffsetDateTime;

use crate::world::{FailureDetails, PipelineStart, StartAnswer, Unanswered};

/// Errors after which a later attempt may succeed. A `ConflictException` means that the pipeline is busy.
const PASSING: [&str; 3] =
    ["ConflictException", "ConcurrentPipelineExecutionsLimitExceededException", "ConcurrentModificationException"];

/// Starts an execution at the pinned commit.
pub async fn start(client: &Client, start: &PipelineStart) -> StartAnswer {
    let pin = |action: &ActionName| {
        SourceRevisionOverride::builder()
            .action_name(action.as_str())
            .revision_type(SourceRevisionType::CommitId)
            .revision_value(start.commit.as_str())
            .build()
    };
    let revisions = match start.actions.iter().map(pin).collect::<Result<Vec<_>, _>>() {
        Ok(revisions) => revisions,
        Err(error) => return StartAnswer::Rejected(error.to_string()),
    };
    let answer = client
        .start_pipeline_execution()
        .name(start.pipeline.as_str())
        .client_request_token(&start.token)
        .set_source_revisions(Some(revisions))
        .send()
        .await;
    match answer {
        Ok(answer) => StartAnswer::Started(answer.pipeline_execution_id.unwrap_or_default()),
        Err(error) if passes(&error) => StartAnswer::Deferred(description(&error)),
        Err(error) => StartAnswer::Rejected(description(&error)),
    }
}

/// The latest execution at this commit that a StartPipelineExecution call has started since then, among the last hundred.
/// An execution that a webhook or an event started is not the start that is searched for.
///
/// # Errors
/// If CodePipeline does not answer.
pub async fn find_execution(
    client: &Client,
    pipeline: &PipelineName,
    commit: &CommitId,
    since: OffsetDateTime,
) -> Result<Option<String>, Unanswered> {
    let answer = client.list_pipeline_executions().pipeline_name(pipeline.as_str()).max_results(100).send().await;
    let executions = match answer {
        Ok(answer) => answer.pipeline_execution_summaries.unwrap_or_default(),
        // The start that follows reports the missing pipeline.
        Err(error) if error.code() == Some("PipelineNotFoundException") => return Ok(None),
        Err(error) => return Err(unanswered(format!("CodePipeline did not list the executions of {pipeline}"), error)),
    };
    let is_the_start = |execution: &PipelineExecutionSummary| {
        let is_at_commit =
            execution.source_revisions().iter().any(|revision| revision.revision_id() == Some(commit.as_str()));
        let is_since = execution.start_time.is_some_and(|start| start.secs() >= since.unix_timestamp());
        let trigger = execution.trigger().and_then(|trigger| trigger.trigger_type());
        // An execution without a trigger counts, because a second start would be worse.
        let is_by_call = trigger.is_none_or(|trigger| *trigger == TriggerType::StartPipelineExecution);
        is_at_commit && is_since && is_by_call
    };
    Ok(executions.into_iter().find(is_the_start).and_then(|execution| execution.pipeline_execution_id))
}

/// Why an execution failed. If CodePipeline refuses one of the two calls, the fields that the call would fill stay empty.
///
/// # Errors
/// If a later call may succeed.
pub async fn failure_details(client: &Client, pipeline: &str, execution: &str) -> Result<FailureDetails, Unanswered> {
    let what = || format!("CodePipeline did not report why execution {execution} of {pipeline} failed");
    let filter = ActionExecutionFilter::builder().pipeline_execution_id(execution).build();
    let actions = client.list_action_executions().pipeline_name(pipeline).filter(filter).send();
    let details = client.get_pipeline_execution().pipeline_name(pipeline).pipeline_execution_id(execution).send();
    let (actions, details) = futures_util::join!(actions, details);
    let mut refusal = None;
    let actions = match actions {
        Ok(actions) => actions.action_execution_details.unwrap_or_default(),
        Err(error) if passes(&error) => return Err(unanswered(what(), error)),
        Err(error) => {
            refusal = Some(format!("not known ({})", description(&error)));
            Vec::new()
        }
    };
    let revisions = match details {
        Ok(details) => details.pipeline_execution.and_then(|execution| execution.artifact_revisions),
        Err(error) if passes(&error) => return Err(unanswered(what(), error)),
        Err(_) => None,
    };
    let failed = actions.iter().find(|action| action.status == Some(ActionExecutionStatus::Failed));
    Ok(FailureDetails {
        place: failed.map(place),
        reason: failed.and_then(failure_message).or(refusal),
        commit: codecommit_revision(&actions).or_else(|| artifact_commit(&revisions.unwrap_or_default())),
    })
}

fn place(action: &ActionExecutionDetail) -> String {
    let stage = action.stage_name().unwrap_or("unknown stage");
    format!("{stage} / {}", action.action_name().unwrap_or("unknown action"))
}

fn failure_message(action: &ActionExecutionDetail) -> Option<String> {
    let result = action.output()?.execution_result()?;
    let message = result.error_details().and_then(|details| details.message());
    message.or(result.external_execution_summary()).map(ToOwned::to_owned)
}

/// The commit that the CodeCommit source action fetched.
fn codecommit_revision(actions: &[ActionExecutionDetail]) -> Option<String> {
    let is_codecommit_source = |action: &&ActionExecutionDetail| {
        let kind = action.input().and_then(|input| input.action_type_id());
        kind.is_some_and(|kind| *kind.category() == ActionCategory::Source && kind.provider() == "CodeCommit")
    };
    let mut sources = actions.iter().filter(is_codecommit_source);
    let revision = sources.find_map(|action| action.output()?.execution_result()?.external_execution_id())?;
    is_commit(revision).then(|| revision.to_owned())
}

/// The first artifact revision that is a commit. The revision of an S3 source is the version of an object.
fn artifact_commit(revisions: &[ArtifactRevision]) -> Option<String> {
    let mut revisions = revisions.iter().filter_map(|revision| revision.revision_id());
    revisions.find(|revision| is_commit(revision)).map(ToOwned::to_owned)
}

fn is_commit(revision: &str) -> bool {
    revision.parse::<CommitId>().is_ok()
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

pub(super) fn is_throttling(code: &str) -> bool {
    code.contains("Throttl") || code == "TooManyRequestsException" || code == "RequestLimitExceeded"
}

fn unanswered<E>(what: String, error: SdkError<E>) -> Unanswered
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    Unanswered { what, throttled: error.code().is_some_and(is_throttling), source: Some(error.into()) }
}

/// What CodePipeline reported, and what to do about the errors that a person has to correct.
fn description<E: ProvideErrorMetadata + std::error::Error + 'static>(error: &SdkError<E>) -> String {
    match (error.code(), error.message()) {
        (Some("PipelineNotFoundException"), _) => {
            "PipelineNotFoundException: no such pipeline here: create it, or correct the route's target".to_owned()
        }
        // Sekisho does not repeat this start, so the message also says how to start the pipeline afterwards.
        (Some(code @ ("AccessDeniedException" | "AccessDenied")), message) => format!(
            "{code}: {}: allow sekisho-pipeline-starter to start this pipeline, \
             then release the change in CodePipeline or push again",
            message.unwrap_or("no message")
        ),
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => sekisho_lambda::failure::chain(error),
    }
}
