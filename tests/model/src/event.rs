//! The events of the model, as EventBridge delivers them.

use pipeline_starter::world::ExecutionStatus;
use sekisho_domain::change::{RefKind, Revision};
use sekisho_domain::timestamp;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::bus::Message;
use crate::cloud::{PLACES, REPOSITORY_ACCOUNT, REPOSITORY_REGION};
use crate::codepipeline::event_state;
use crate::repository::{NAMES, Reference, SHOP};

/// CodeCommit's event about a branch or tag. `kind` is the kind of event, such as `referenceUpdated`.
pub(crate) fn reference_changed(number: u64, reference: &Reference, kind: &str, commit: Option<&Revision>) -> String {
    let Reference { repository, source_ref } = reference;
    let reference_type = if source_ref.kind() == RefKind::Tag { "tag" } else { "branch" };
    let detail = json!({
        "event": kind, "repositoryName": NAMES[*repository], "referenceType": reference_type,
        "referenceName": source_ref.name(), "referenceFullName": source_ref, "commitId": commit,
        "callerUserArn": "arn:aws:iam::111111111111:user/dev",
    });
    let sender = (REPOSITORY_ACCOUNT, REPOSITORY_REGION);
    envelope(&format!("hint-{number}"), "aws.codecommit", "CodeCommit Repository State Change", sender, &detail)
}

/// What somebody did with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImageAction {
    Push,
    Delete,
}

/// ECR's event about a manifest. There is one event for each tag, and one without a tag for an untagged manifest.
pub(crate) fn image_action(number: u64, action: ImageAction, tag: Option<&str>, digest: &Revision) -> String {
    let action = match action {
        ImageAction::Push => "PUSH",
        ImageAction::Delete => "DELETE",
    };
    let mut detail = json!({
        "result": "SUCCESS", "action-type": action, "repository-name": NAMES[SHOP], "image-digest": digest,
    });
    if let Some(tag) = tag {
        detail["image-tag"] = json!(tag);
    }
    let sender = (REPOSITORY_ACCOUNT, REPOSITORY_REGION);
    envelope(&format!("image-{number}"), "aws.ecr", "ECR Image Action", sender, &detail)
}

/// The event of a schedule. The repository account's schedule starts a reconcile.
pub(crate) fn schedule(number: u64, sender: (&str, &str)) -> String {
    envelope(&format!("tick-{number}"), "aws.events", "Scheduled Event", sender, &json!({}))
}

/// An event of a bus, which is in this region.
pub(crate) fn from_bus(number: u64, message: &Message, region: &str) -> String {
    let detail: Value = serde_json::from_str(&message.detail).unwrap_or_default();
    envelope(&format!("bus-{number}"), message.source, message.detail_type, (message.sender, region), &detail)
}

/// CodePipeline's event about the new status of an execution.
pub(crate) fn execution_changed(
    number: u64,
    place: usize,
    pipeline: &str,
    execution: (&str, usize),
    (status, at): (ExecutionStatus, OffsetDateTime),
) -> String {
    let (id, retries) = execution;
    let detail = json!({
        "pipeline": pipeline, "execution-id": id, "state": event_state(status), "version": 1,
        "pipeline-execution-attempt": retries + 1,
    });
    let detail_type = "CodePipeline Pipeline Execution State Change";
    // The time has whole seconds.
    let time = timestamp::seconds(at);
    envelope_at(&time, &format!("end-{number}"), "aws.codepipeline", detail_type, PLACES[place], &detail)
}

/// CloudWatch's event about the new state of an alarm.
pub(crate) fn alarm_changed(number: u64, place: usize, name: &str) -> String {
    let detail = json!({"alarmName": name, "state": {"value": "ALARM"}});
    envelope(&format!("alarm-{number}"), "aws.cloudwatch", "CloudWatch Alarm State Change", PLACES[place], &detail)
}

/// A person's request to send the orders of these targets again.
pub(crate) fn resend(route: &str, account: &str) -> String {
    json!({"action": "resend", "route": route, "account": account}).to_string()
}

fn envelope(id: &str, source: &str, detail_type: &str, sender: (&str, &str), detail: &Value) -> String {
    envelope_at("2026-11-21T12:00:00Z", id, source, detail_type, sender, detail)
}

fn envelope_at(time: &str, id: &str, source: &str, detail_type: &str, sender: (&str, &str), detail: &Value) -> String {
    let (account, region) = sender;
    json!({
        "version": "0", "id": id, "source": source, "detail-type": detail_type, "account": account, "region": region,
        "time": time, "resources": [], "detail": detail,
    })
    .to_string()
}
