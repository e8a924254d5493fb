//! CodePipeline: starts executions, finds an execution whose start got no answer, and reads why an execution failed.

use aws_sdk_codepipeline::Client;
use aws_sdk_codepipeline::types::{
    ActionCategory, ActionExecutionDetail, ActionExecutionFilter, ActionExecutionStatus, ArtifactRevision,
    PipelineExecutionSummary, SourceRevisionOverride, SourceRevisionType, TriggerType,
};
use sekisho_domain::change::CommitId;
use sekisho_domain::route::{ActionName, PipelineName};
use sekisho_lambda::ServiceError;
use time::OffsetDateTime;

use crate::world::{FailureDetails, PipelineStart, StartAnswer};

/// The errors of CodePipeline after which a later attempt may succeed, in addition to throttling. A `ConflictException`
/// means that the pipeline is busy.
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
    let operation = || format!("codepipeline:StartPipelineExecution of {}", start.pipeline);
    match answer.map_err(|error| ServiceError::new(operation(), error)) {
        Ok(answer) => StartAnswer::Started(answer.pipeline_execution_id.unwrap_or_default()),
        Err(error) if may_pass(&error) => StartAnswer::Deferred(description(&error)),
        Err(error) => StartAnswer::Rejected(description(&error)),
    }
}

/// Finds the latest execution at this commit that a StartPipelineExecution call started at or after `since`. The search
/// covers the last hundred executions, and leaves out executions that a webhook or an event started.
///
/// # Errors
/// CodePipeline does not answer, or refuses the call.
pub async fn find_execution(
    client: &Client,
    pipeline: &PipelineName,
    commit: &CommitId,
    since: OffsetDateTime,
) -> Result<Option<String>, ServiceError> {
    let answer = client.list_pipeline_executions().pipeline_name(pipeline.as_str()).max_results(100).send().await;
    let operation = || format!("codepipeline:ListPipelineExecutions of {pipeline}");
    let executions = match answer.map_err(|error| ServiceError::new(operation(), error)) {
        Ok(answer) => answer.pipeline_execution_summaries.unwrap_or_default(),
        // A missing pipeline is not an error here, because the start that follows the search reports the missing
        // pipeline.
        Err(error) if error.code() == Some("PipelineNotFoundException") => return Ok(None),
        Err(error) => return Err(error),
    };
    let is_the_start = |execution: &PipelineExecutionSummary| {
        let is_at_commit =
            execution.source_revisions().iter().any(|revision| revision.revision_id() == Some(commit.as_str()));
        let is_since = execution.start_time.is_some_and(|start| start.secs() >= since.unix_timestamp());
        let trigger = execution.trigger().and_then(|trigger| trigger.trigger_type());
        // If CodePipeline does not report the trigger, the search accepts the execution, because a second start of the
        // same change would be worse.
        let is_by_call = trigger.is_none_or(|trigger| *trigger == TriggerType::StartPipelineExecution);
        is_at_commit && is_since && is_by_call
    };
    Ok(executions.into_iter().find(is_the_start).and_then(|execution| execution.pipeline_execution_id))
}

/// Reads why an execution failed. If CodePipeline refuses one of the two calls, the function does not fail, and returns
/// the details that the other call reported.
///
/// # Errors
/// A call failed, and the same call may succeed later.
pub async fn failure_details(client: &Client, pipeline: &str, execution: &str) -> Result<FailureDetails, ServiceError> {
    let filter = ActionExecutionFilter::builder().pipeline_execution_id(execution).build();
    let actions = client.list_action_executions().pipeline_name(pipeline).filter(filter).send();
    let details = client.get_pipeline_execution().pipeline_name(pipeline).pipeline_execution_id(execution).send();
    let (actions, details) = futures_util::join!(actions, details);
    let operation = |call: &str| format!("codepipeline:{call} of execution {execution} of {pipeline}");
    let mut refusal = None;
    let actions = match actions.map_err(|error| ServiceError::new(operation("ListActionExecutions"), error)) {
        Ok(actions) => actions.action_execution_details.unwrap_or_default(),
        Err(error) if may_pass(&error) => return Err(error),
        Err(error) => {
            refusal = Some(format!("not known ({})", description(&error)));
            Vec::new()
        }
    };
    let revisions = match details.map_err(|error| ServiceError::new(operation("GetPipelineExecution"), error)) {
        Ok(details) => details.pipeline_execution.and_then(|execution| execution.artifact_revisions),
        Err(error) if may_pass(&error) => return Err(error),
        Err(_) => None,
    };
    let failed = actions.iter().find(|action| action.status == Some(ActionExecutionStatus::Failed));
    Ok(FailureDetails {
        place: failed.map(place),
        reason: failed.and_then(failure_message).or(refusal),
        commit: codecommit_revision(&actions).or_else(|| artifact_commit(&revisions.unwrap_or_default())),
    })
}

/// Reads the source revision of an execution. Returns `None` if the revision is not a commit. Also returns `None` if
/// CodePipeline refuses to report the revision, because a notice without a commit is better than no notice.
///
/// # Errors
/// A call failed, and the same call may succeed later.
pub async fn execution_commit(
    client: &Client,
    pipeline: &str,
    execution: &str,
) -> Result<Option<String>, ServiceError> {
    let details = client.get_pipeline_execution().pipeline_name(pipeline).pipeline_execution_id(execution).send().await;
    let operation = || format!("codepipeline:GetPipelineExecution of execution {execution} of {pipeline}");
    match details.map_err(|error| ServiceError::new(operation(), error)) {
        Ok(details) => {
            let revisions = details.pipeline_execution.and_then(|execution| execution.artifact_revisions);
            Ok(artifact_commit(&revisions.unwrap_or_default()))
        }
        Err(error) if may_pass(&error) => Err(error),
        Err(_) => Ok(None),
    }
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

/// The first artifact revision that is a commit. The revision of an S3 source is the version of an object, and not a
/// commit.
fn artifact_commit(revisions: &[ArtifactRevision]) -> Option<String> {
    let mut revisions = revisions.iter().filter_map(|revision| revision.revision_id());
    revisions.find(|revision| is_commit(revision)).map(ToOwned::to_owned)
}

fn is_commit(revision: &str) -> bool {
    revision.parse::<CommitId>().is_ok()
}

/// Whether the same call may succeed later.
fn may_pass(error: &ServiceError) -> bool {
    !error.is_refused() || error.code().is_some_and(|code| PASSING.contains(&code))
}

/// The text of CodePipeline's error. If a person must correct the cause, the text also says what to do.
fn description(error: &ServiceError) -> String {
    match error.code() {
        Some(code @ "PipelineNotFoundException") => {
            format!("{code}: no such pipeline here: create it, or correct the route's target")
        }
        // Sekisho does not repeat this start, so the message also says how to start the pipeline after the correction.
        Some("AccessDeniedException" | "AccessDenied") => format!(
            "{}: allow sekisho-pipeline-starter to start this pipeline, \
             then release the change in CodePipeline or push again",
            error.description()
        ),
        _ => error.description(),
    }
}
