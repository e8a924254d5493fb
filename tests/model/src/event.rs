//! The events of the model, as EventBridge delivers them.

use sekisho_domain::change::{CommitId, RELAY_DETAIL_TYPE, RELAY_SOURCE};
use sekisho_testing::invocation::REGION;
use serde_json::{Value, json};

pub(crate) const REPOSITORY_ACCOUNT: &str = "111111111111";
pub(crate) const PIPELINE_ACCOUNT: &str = "222222222222";

/// CodeCommit's event about a branch. `kind` is the kind of event, such as `referenceUpdated`.
pub(crate) fn branch_changed(number: u64, branch: &str, kind: &str, commit: Option<&CommitId>) -> String {
    let detail = json!({
        "event": kind, "repositoryName": "shop", "referenceType": "branch", "referenceName": branch,
        "referenceFullName": format!("refs/heads/{branch}"), "commitId": commit,
        "callerUserArn": "arn:aws:iam::111111111111:user/dev",
    });
    let id = format!("hint-{number}");
    envelope(&id, "aws.codecommit", "CodeCommit Repository State Change", REPOSITORY_ACCOUNT, &detail)
}

/// The event of the schedule that starts a reconcile.
pub(crate) fn schedule(number: u64) -> String {
    envelope(&format!("tick-{number}"), "aws.events", "Scheduled Event", REPOSITORY_ACCOUNT, &json!({}))
}

/// The relayed event with this detail.
pub(crate) fn source_change(number: u64, detail: &Value) -> String {
    envelope(&format!("change-{number}"), RELAY_SOURCE, RELAY_DETAIL_TYPE, REPOSITORY_ACCOUNT, detail)
}

/// CodePipeline's event about the end of an execution.
pub(crate) fn execution_ended(number: u64, pipeline: &str, execution: &str, state: &str) -> String {
    let detail = json!({"pipeline": pipeline, "execution-id": execution, "state": state, "version": 1});
    let detail_type = "CodePipeline Pipeline Execution State Change";
    envelope(&format!("end-{number}"), "aws.codepipeline", detail_type, PIPELINE_ACCOUNT, &detail)
}

fn envelope(id: &str, source: &str, detail_type: &str, account: &str, detail: &Value) -> String {
    json!({
        "version": "0", "id": id, "source": source, "detail-type": detail_type, "account": account, "region": REGION,
        "time": "2026-11-21T12:00:00Z", "resources": [], "detail": detail,
    })
    .to_string()
}
