//! CodePipeline: what became of recent executions and their builds, and the retry of a failed stage.

use std::collections::HashSet;

use aws_sdk_codepipeline::Client;
use aws_sdk_codepipeline::types::{ActionExecutionDetail, ActionExecutionStatus};
use sekisho_domain::account::Arn;
use sekisho_lambda::ServiceError;
use sekisho_lambda::signed::Signed;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::aws::codepipeline::action_executions;
use crate::stage_retry::{ActionRun, RunStatus};

/// The provider of an action that builds with CodeBuild.
const CODEBUILD: &str = "CodeBuild";
/// The error code of an action that lacks a permission.
const PERMISSION_ERROR: &str = "PermissionError";
/// The phase of a build that reads its input.
const DOWNLOAD: &str = "DOWNLOAD_SOURCE";
const SUCCEEDED: &str = "SUCCEEDED";
const PARALLEL: &str = "PARALLEL";
/// The error codes for an execution or a pipeline that CodePipeline does not have any more.
const NOT_FOUND: [&str; 2] = ["PipelineExecutionNotFoundException", "PipelineNotFoundException"];

/// How an execution stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Execution {
    /// CodePipeline's name for the status, such as `Failed`.
    pub(crate) status: String,
    pub(crate) is_parallel: bool,
}

/// The last run of each action of a pipeline's recent executions, from the latest to the earliest, if it has failed or
/// has not ended.
pub(crate) async fn open_or_failed_runs(
    client: &Client,
    pipeline: &str,
    bucket: &str,
) -> Result<Vec<ActionRun>, ServiceError> {
    let mut seen = HashSet::new();
    let mut runs = Vec::new();
    for detail in action_executions(client, pipeline).await? {
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        let (execution, stage) = (name(&detail.pipeline_execution_id), name(&detail.stage_name));
        // A retried action has several runs, of which the last counts.
        if seen.insert((execution, stage, name(&detail.action_name))) {
            runs.extend(open_or_failed(pipeline, bucket, detail));
        }
    }
    Ok(runs)
}

fn open_or_failed(pipeline: &str, bucket: &str, detail: ActionExecutionDetail) -> Option<ActionRun> {
    let status = match detail.status? {
        ActionExecutionStatus::InProgress => RunStatus::Running,
        ActionExecutionStatus::Failed => RunStatus::Failed,
        _ => return None,
    };
    let input = detail.input?;
    let locations = input.input_artifacts.unwrap_or_default().into_iter().filter_map(|artifact| artifact.s3_location);
    let result = detail.output.and_then(|output| output.execution_result);
    let is_build = input.action_type_id.is_some_and(|kind| kind.provider == CODEBUILD);
    let build = result.as_ref().filter(|_| is_build).and_then(|result| result.external_execution_id.clone());
    let details = result.and_then(|result| result.error_details);
    let began = detail.start_time.and_then(|time| OffsetDateTime::from_unix_timestamp_nanos(time.as_nanos()).ok());
    let was_denied = details.as_ref().is_some_and(|details| {
        details.code.as_deref() == Some(PERMISSION_ERROR) && details.message.as_deref().is_some_and(names_kms)
    });
    Some(ActionRun {
        pipeline: pipeline.to_owned(),
        execution: detail.pipeline_execution_id?,
        stage: detail.stage_name?,
        action: detail.action_name?,
        status,
        began,
        was_denied,
        error: details.and_then(|details| details.code),
        build,
        account: input.role_arn.as_deref().and_then(Arn::parse).map(|role| role.account.to_owned()),
        inputs: locations
            .filter(|location| location.bucket.as_deref() == Some(bucket))
            .filter_map(|location| location.key)
            .collect(),
    })
}

/// Whether the message of an error is about KMS: it names an action or the ARN of a key, or KMS itself. An action may
/// lack any other permission, too, and then the repair of an artifact does not help.
fn names_kms(message: &str) -> bool {
    message.contains("kms:") || message.contains("KMS")
}

/// Reads how an execution stands. `None` if CodePipeline does not have the execution any more.
pub(crate) async fn execution(
    codepipeline: &Signed,
    pipeline: &str,
    execution: &str,
) -> Result<Option<Execution>, ServiceError> {
    let request = json!({"pipelineName": pipeline, "pipelineExecutionId": execution});
    let answer = match call(codepipeline, "GetPipelineExecution", &request).await {
        Ok(answer) => answer,
        Err(error) if error.code().is_some_and(|code| NOT_FOUND.contains(&code)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = |pointer| answer.pointer(pointer).and_then(Value::as_str);
    let is_parallel = text("/pipelineExecution/executionMode") == Some(PARALLEL);
    Ok(text("/pipelineExecution/status").map(|status| Execution { status: status.to_owned(), is_parallel }))
}

/// Whether a build could not read its input. CodePipeline says only that the build failed.
pub(crate) async fn could_not_download(codebuild: &Signed, build: &str) -> Result<bool, ServiceError> {
    let answer = codebuild.json("CodeBuild_20161006.BatchGetBuilds", &json!({"ids": [build]})).await?;
    let phases = answer.pointer("/builds/0/phases").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let is_download = |phase: &Value| phase.get("phaseType").is_some_and(|kind| kind == DOWNLOAD);
    let has_failed = |phase: &Value| phase.get("phaseStatus").is_some_and(|status| status != SUCCEEDED);
    Ok(phases.iter().any(|phase| is_download(phase) && has_failed(phase)))
}

/// The id of a pipeline's latest execution.
pub(crate) async fn latest(codepipeline: &Signed, pipeline: &str) -> Result<Option<String>, ServiceError> {
    let request = json!({"pipelineName": pipeline, "maxResults": 1});
    let answer = call(codepipeline, "ListPipelineExecutions", &request).await?;
    let id = answer.pointer("/pipelineExecutionSummaries/0/pipelineExecutionId");
    Ok(id.and_then(Value::as_str).map(str::to_owned))
}

/// Retries the failed actions of a stage.
pub(crate) async fn retry_stage(codepipeline: &Signed, run: &ActionRun) -> Result<(), ServiceError> {
    let ActionRun { pipeline, execution, stage, .. } = run;
    let request = json!({
        "pipelineName": pipeline, "stageName": stage, "pipelineExecutionId": execution, "retryMode": "FAILED_ACTIONS",
    });
    call(codepipeline, "RetryStageExecution", &request).await.map(drop)
}

async fn call(codepipeline: &Signed, operation: &str, request: &Value) -> Result<Value, ServiceError> {
    codepipeline.json(&format!("CodePipeline_20150709.{operation}"), request).await
}
