//! CodePipeline: starts, lists and stops executions, and reads their status, their actions and why they failed.

use aws_sdk_codepipeline::Client;
use aws_sdk_codepipeline::config::Config;
use aws_sdk_codepipeline::config::retry::RetryConfig;
use aws_sdk_codepipeline::error::BuildError;
use aws_sdk_codepipeline::operation::start_pipeline_execution::builders::StartPipelineExecutionFluentBuilder;
use aws_sdk_codepipeline::types::{
    ActionCategory as Category, ActionExecutionDetail, ActionExecutionFilter, ActionExecutionStatus, ActionTypeId,
    ArtifactRevision, PipelineExecutionStatus, PipelineExecutionSummary, PipelineVariable, SourceRevisionOverride,
    SourceRevisionType, StageDeclaration, TriggerType,
};
use sekisho_domain::change::Revision;
use sekisho_domain::route::PipelineName;
use sekisho_lambda::ServiceError;
use sekisho_lambda::service_error::Kind;
use time::OffsetDateTime;

use crate::world::{
    ActionCategory, BegunAction, ExecutionPage, ExecutionStatus, FailureDetails, ListedExecution, ListedRevision,
    PipelineStart, StartAnswer, Stop,
};

/// The errors of CodePipeline after which a later attempt may succeed, in addition to throttling. A `ConflictException`
/// means that the pipeline is busy.
const PASSING: [&str; 3] =
    ["ConflictException", "ConcurrentPipelineExecutionsLimitExceededException", "ConcurrentModificationException"];

/// The errors that say that an execution or its pipeline does not exist.
const MISSING: [&str; 2] = ["PipelineExecutionNotFoundException", "PipelineNotFoundException"];

/// The most executions that one page of the list may have.
const PAGE: i32 = 100;

/// Makes one attempt to start an execution at the pinned revisions.
///
/// The SDK must not repeat the call: if a repetition is throttled after an attempt without an answer, the last answer
/// would say that nothing has started, although the first attempt may have started the execution.
pub async fn start(client: &Client, start: &PipelineStart) -> StartAnswer {
    let request = match start_request(client, start) {
        Ok(request) => request,
        Err(error) => return StartAnswer::Rejected(error.to_string()),
    };
    let without_retries = Config::builder().retry_config(RetryConfig::disabled());
    let answer = request.customize().config_override(without_retries).send().await;
    let operation = || format!("codepipeline:StartPipelineExecution of {}", start.pipeline);
    match answer.map_err(|error| ServiceError::new(operation(), error)) {
        Ok(answer) => match answer.pipeline_execution_id {
            Some(id) => StartAnswer::Started(id),
            None => StartAnswer::Unanswered("the answer has no execution id".to_owned()),
        },
        // After a failure on its side, CodePipeline may have started the execution, whatever the error's code is.
        Err(error) if error.kind == Kind::Unavailable || error.status.is_some_and(|status| status >= 500) => {
            StartAnswer::Unanswered(description(&error))
        }
        Err(error) if may_pass(&error) => StartAnswer::Deferred(description(&error)),
        Err(error) => StartAnswer::Rejected(description(&error)),
    }
}

fn start_request(client: &Client, start: &PipelineStart) -> Result<StartPipelineExecutionFluentBuilder, BuildError> {
    let mut request =
        client.start_pipeline_execution().name(start.pipeline.as_str()).client_request_token(&start.token);
    for (action, revision) in &start.pins {
        let kind = if revision.is_digest() { SourceRevisionType::ImageDigest } else { SourceRevisionType::CommitId };
        let pin = SourceRevisionOverride::builder()
            .action_name(action.as_str())
            .revision_type(kind)
            .revision_value(revision.as_str());
        request = request.source_revisions(pin.build()?);
    }
    for (name, value) in &start.variables {
        request = request.variables(PipelineVariable::builder().name(name).value(value).build()?);
    }
    Ok(request)
}

/// Reads a page of the list of executions, from the newest to the oldest. A pipeline that does not exist has no
/// executions.
///
/// # Errors
/// CodePipeline does not answer, or refuses the call.
pub async fn executions(
    client: &Client,
    pipeline: &PipelineName,
    page: Option<String>,
) -> Result<ExecutionPage, ServiceError> {
    let request = client.list_pipeline_executions().pipeline_name(pipeline.as_str()).max_results(PAGE);
    let operation = || format!("codepipeline:ListPipelineExecutions of {pipeline}");
    match request.set_next_token(page).send().await.map_err(|error| ServiceError::new(operation(), error)) {
        Ok(answer) => {
            let executions = answer.pipeline_execution_summaries.unwrap_or_default();
            Ok(ExecutionPage {
                executions: executions.into_iter().filter_map(listed).collect(),
                next: answer.next_token,
            })
        }
        Err(error) if error.code() == Some("PipelineNotFoundException") => Ok(ExecutionPage::default()),
        Err(error) => Err(error),
    }
}

fn listed(execution: PipelineExecutionSummary) -> Option<ListedExecution> {
    let trigger = execution.trigger().and_then(|trigger| trigger.trigger_type());
    let revisions = execution.source_revisions().iter().filter_map(|revision| {
        Some(ListedRevision { action: revision.action_name().to_owned(), revision: revision.revision_id()?.to_owned() })
    });
    Some(ListedExecution {
        status: status(execution.status()),
        started: execution
            .start_time
            .and_then(|start| OffsetDateTime::from_unix_timestamp_nanos(start.as_nanos()).ok()),
        updated: execution
            .last_update_time
            .and_then(|update| OffsetDateTime::from_unix_timestamp_nanos(update.as_nanos()).ok()),
        revisions: revisions.collect(),
        // If CodePipeline does not report the trigger, a call may have started the execution.
        is_by_call: trigger.is_none_or(|trigger| *trigger == TriggerType::StartPipelineExecution),
        id: execution.pipeline_execution_id?,
    })
}

fn status(status: Option<&PipelineExecutionStatus>) -> ExecutionStatus {
    match status {
        Some(PipelineExecutionStatus::Succeeded) => ExecutionStatus::Succeeded,
        Some(PipelineExecutionStatus::Failed) => ExecutionStatus::Failed,
        Some(PipelineExecutionStatus::Stopped) => ExecutionStatus::Stopped,
        Some(PipelineExecutionStatus::Superseded) => ExecutionStatus::Superseded,
        Some(PipelineExecutionStatus::Cancelled) => ExecutionStatus::Canceled,
        _ => ExecutionStatus::Running,
    }
}

/// Reads the status of an execution. Returns `None` if the execution or its pipeline does not exist.
///
/// # Errors
/// CodePipeline does not answer, or refuses the call.
pub async fn execution_status(
    client: &Client,
    pipeline: &PipelineName,
    execution: &str,
) -> Result<Option<ExecutionStatus>, ServiceError> {
    let details =
        client.get_pipeline_execution().pipeline_name(pipeline.as_str()).pipeline_execution_id(execution).send().await;
    let operation = || format!("codepipeline:GetPipelineExecution of execution {execution} of {pipeline}");
    match details.map_err(|error| ServiceError::new(operation(), error)) {
        Ok(details) => Ok(Some(status(details.pipeline_execution.as_ref().and_then(|execution| execution.status())))),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
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
    let artifacts = match details.map_err(|error| ServiceError::new(operation("GetPipelineExecution"), error)) {
        Ok(details) => details.pipeline_execution.and_then(|execution| execution.artifact_revisions),
        Err(error) if may_pass(&error) => return Err(error),
        Err(_) => None,
    };
    let failed = actions.iter().find(|action| action.status == Some(ActionExecutionStatus::Failed));
    Ok(FailureDetails {
        place: failed.map(place),
        reason: failed.and_then(failure_message).or(refusal),
        revisions: revisions(&actions, &artifacts.unwrap_or_default()),
        is_in_source: failed.is_some_and(is_source),
    })
}

/// Reads the commits and images that an execution runs at. Returns none if CodePipeline refuses to report them, because
/// a notice without a commit is better than no notice.
///
/// # Errors
/// A call failed, and the same call may succeed later.
pub async fn execution_revisions(
    client: &Client,
    pipeline: &str,
    execution: &str,
) -> Result<Vec<Revision>, ServiceError> {
    let details = client.get_pipeline_execution().pipeline_name(pipeline).pipeline_execution_id(execution).send().await;
    let operation = || format!("codepipeline:GetPipelineExecution of execution {execution} of {pipeline}");
    match details.map_err(|error| ServiceError::new(operation(), error)) {
        Ok(details) => {
            let artifacts = details.pipeline_execution.and_then(|execution| execution.artifact_revisions);
            Ok(revisions(&[], &artifacts.unwrap_or_default()))
        }
        Err(error) if may_pass(&error) => Err(error),
        Err(_) => Ok(Vec::new()),
    }
}

/// Reads the actions that an execution has begun. An execution that does not exist has none.
///
/// # Errors
/// CodePipeline does not answer, or refuses the call.
pub async fn begun_actions(
    client: &Client,
    pipeline: &PipelineName,
    execution: &str,
) -> Result<Vec<BegunAction>, ServiceError> {
    let operation = || format!("codepipeline:ListActionExecutions of execution {execution} of {pipeline}");
    let filter = ActionExecutionFilter::builder().pipeline_execution_id(execution).build();
    let mut actions = Vec::new();
    let mut page = None;
    loop {
        let request = client.list_action_executions().pipeline_name(pipeline.as_str()).filter(filter.clone());
        let answer = match request.set_next_token(page).send().await {
            Ok(answer) => answer,
            Err(error) => {
                let error = ServiceError::new(operation(), error);
                return if is_missing(&error) { Ok(actions) } else { Err(error) };
            }
        };
        actions.extend(answer.action_execution_details().iter().map(|action| BegunAction {
            category: category(action_category(action)),
            is_in_progress: action.status == Some(ActionExecutionStatus::InProgress),
        }));
        page = answer.next_token;
        if page.is_none() {
            return Ok(actions);
        }
    }
}

/// Reads the categories of all actions of a pipeline. A pipeline that does not exist has none.
///
/// # Errors
/// CodePipeline does not answer, or refuses the call.
pub async fn categories(client: &Client, pipeline: &PipelineName) -> Result<Vec<ActionCategory>, ServiceError> {
    let operation = || format!("codepipeline:GetPipeline of {pipeline}");
    let answer = client.get_pipeline().name(pipeline.as_str()).send().await;
    match answer.map_err(|error| ServiceError::new(operation(), error)) {
        Ok(answer) => {
            let stages = answer.pipeline.map(|pipeline| pipeline.stages).unwrap_or_default();
            let actions = stages.iter().flat_map(StageDeclaration::actions);
            Ok(actions.map(|action| category(action.action_type_id().map(ActionTypeId::category))).collect())
        }
        Err(error) if is_missing(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn action_category(action: &ActionExecutionDetail) -> Option<&Category> {
    action.input()?.action_type_id().map(ActionTypeId::category)
}

fn category(category: Option<&Category>) -> ActionCategory {
    match category {
        Some(Category::Source) => ActionCategory::Source,
        Some(Category::Build | Category::Compute) => ActionCategory::Build,
        Some(Category::Invoke) => ActionCategory::Invoke,
        Some(Category::Deploy) => ActionCategory::Deploy,
        Some(Category::Approval) => ActionCategory::Approval,
        _ => ActionCategory::Other,
    }
}

/// Stops an execution. It is no error if the execution has ended or is being stopped.
///
/// # Errors
/// CodePipeline does not answer, or refuses the call.
pub async fn stop(client: &Client, pipeline: &PipelineName, execution: &str, how: Stop) -> Result<(), ServiceError> {
    const STOPPED: [&str; 2] = ["PipelineExecutionNotStoppableException", "DuplicatedStopRequestException"];
    let request = client
        .stop_pipeline_execution()
        .pipeline_name(pipeline.as_str())
        .pipeline_execution_id(execution)
        .abandon(how == Stop::AbandonApproval)
        .reason("Sekisho takes the change back");
    let operation = || format!("codepipeline:StopPipelineExecution of execution {execution} of {pipeline}");
    match request.send().await.map_err(|error| ServiceError::new(operation(), error)) {
        Ok(_) => Ok(()),
        Err(error) if error.code().is_some_and(|code| STOPPED.contains(&code)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether the error says that the execution or its pipeline does not exist.
fn is_missing(error: &ServiceError) -> bool {
    error.code().is_some_and(|code| MISSING.contains(&code))
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

fn is_source(action: &ActionExecutionDetail) -> bool {
    let kind = action.input().and_then(|input| input.action_type_id());
    kind.is_some_and(|kind| *kind.category() == Category::Source)
}

/// The commits and images that the source actions fetched, and those of the artifacts. The revision of an S3 source is
/// the version of an object, and left out.
fn revisions(actions: &[ActionExecutionDetail], artifacts: &[ArtifactRevision]) -> Vec<Revision> {
    let fetched = actions.iter().filter(|action| has_revision(action)).filter_map(|action| {
        let result = action.output()?.execution_result()?;
        result.external_execution_id()
    });
    let of_artifacts = artifacts.iter().filter_map(ArtifactRevision::revision_id);
    let mut revisions: Vec<Revision> = Vec::new();
    for revision in fetched.chain(of_artifacts).filter_map(|revision| revision.parse().ok()) {
        if !revisions.contains(&revision) {
            revisions.push(revision);
        }
    }
    revisions
}

/// Whether the action fetches a commit or an image.
fn has_revision(action: &ActionExecutionDetail) -> bool {
    let kind = action.input().and_then(|input| input.action_type_id());
    kind.is_some_and(|kind| *kind.category() == Category::Source && matches!(kind.provider(), "CodeCommit" | "ECR"))
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
        Some("AccessDeniedException" | "AccessDenied") => {
            format!("{}: allow sekisho-pipeline-starter to start this pipeline", error.description())
        }
        _ => error.description(),
    }
}
