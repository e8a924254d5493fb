//! What comes in, and what it hints at.

use sekisho_domain::account::{AccountId, Region};
use sekisho_domain::change::{CommitId, GitRef, RefKind, RepositoryArn};
use sekisho_domain::envelope::{Envelope, SCHEDULE_SOURCE};
use sekisho_domain::timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::deliver::Redelivery;

const CODECOMMIT: &str = "aws.codecommit";

/// What an invocation asks for.
#[derive(Debug)]
pub enum Input {
    /// Look at one reference.
    Look(Hint),
    /// Look at everything that is routed.
    Reconcile,
    /// Say what the event would lead to.
    Explain(Box<RawValue>),
    /// Send what could not be delivered again.
    Redeliver(Box<Redelivery>),
    /// Nothing to do, for this reason.
    Ignored(String),
    /// Not to be believed, for this reason.
    Refused(String),
    /// A request of a person that is not one, with what to send instead.
    Invalid(String),
}

/// A reference that may have moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// Of which repository.
    pub repository: RepositoryArn,
    /// Which branch or tag.
    pub git_ref: GitRef,
    /// Where the event said that it points: for a tag the only source there is; a branch's head is read.
    pub tag_commit: Option<CommitId>,
    /// When a tag's event happened, in epoch milliseconds: one that comes late must not undo a newer one.
    pub at: Option<u64>,
    /// Who did it, where the event said so.
    pub actor: Option<String>,
    /// The event; none when the reconcile looks.
    pub event: Option<String>,
}

/// Whose events are believed.
#[derive(Debug, Clone, Copy)]
pub struct Here<'a> {
    /// The function's partition.
    pub partition: &'a str,
    /// The function's account.
    pub account: &'a AccountId,
    /// The function's region.
    pub region: &'a Region,
}

#[derive(Deserialize)]
struct StateChange {
    event: String,
    #[serde(rename = "repositoryName")]
    repository: String,
    #[serde(rename = "referenceFullName")]
    git_ref: Option<String>,
    #[serde(rename = "commitId")]
    commit: Option<String>,
    #[serde(rename = "callerUserArn")]
    actor: Option<String>,
}

#[derive(Deserialize)]
struct PullRequest {
    event: String,
    #[serde(rename = "isMerged")]
    is_merged: Option<String>,
    #[serde(rename = "repositoryNames")]
    repositories: Option<Vec<String>>,
    #[serde(rename = "destinationReference")]
    destination: Option<String>,
    #[serde(rename = "callerUserArn")]
    actor: Option<String>,
}

#[derive(Deserialize)]
struct Action {
    action: String,
    event: Option<Box<RawValue>>,
}

/// Reads a payload.
#[must_use]
pub fn read(payload: &str, here: Here<'_>) -> Input {
    // An array would be read as the fields in their order.
    let is_object = payload.trim_start().starts_with('{');
    if is_object && let Ok(action) = serde_json::from_str::<Action>(payload) {
        return request(payload, action);
    }
    let envelope = match Envelope::parse(payload) {
        Ok(envelope) => envelope,
        Err(reason) => return Input::Refused(format!("not an event of EventBridge: {reason}")),
    };
    if envelope.account != here.account.as_str() {
        return Input::Refused(format!(
            "the event comes from account {}: only account {} is believed",
            short(&envelope.account),
            here.account
        ));
    }
    if envelope.region != here.region.as_str() {
        return Input::Refused(format!(
            "the event comes from region {}: the relay of {} reads its own only",
            short(&envelope.region),
            here.region
        ));
    }
    match (envelope.source.as_str(), envelope.detail_type.as_str()) {
        (SCHEDULE_SOURCE, _) => Input::Reconcile,
        (CODECOMMIT, "CodeCommit Repository State Change") => state_change(&envelope, here),
        // The documentation spells it both ways.
        (CODECOMMIT, "CodeCommit Pull Request State Change" | "CodeCommit PullRequest State Change") => {
            pull_request(&envelope, here)
        }
        (CODECOMMIT, other) => Input::Ignored(format!("`{}` moves no branch or tag", short(other))),
        (other, _) => Input::Refused(format!(
            "the event's source is `{}`: only `{CODECOMMIT}` and schedules are believed",
            short(other)
        )),
    }
}

fn request(payload: &str, action: Action) -> Input {
    match (action.action.as_str(), action.event) {
        ("explain", Some(event)) => Input::Explain(event),
        ("explain", None) => Input::Invalid(
            "`event` is missing: send {\"action\":\"explain\",\"event\":{…}} with the event to explain".to_owned(),
        ),
        ("redeliver", _) => match serde_json::from_str::<Redelivery>(payload) {
            Ok(redelivery) if redelivery.change.kind != redelivery.change.git_ref.kind() => {
                Input::Invalid("not a message of the dead-letter queue: change.kind does not fit change.ref".to_owned())
            }
            Ok(redelivery) => Input::Redeliver(Box::new(redelivery)),
            Err(error) => Input::Invalid(format!("not a message of the dead-letter queue: {error}")),
        },
        (other, _) => Input::Invalid(format!("no action `{}`: send `explain` or `redeliver`", short(other))),
    }
}

fn state_change(envelope: &Envelope, here: Here<'_>) -> Input {
    let detail: StateChange = match envelope.detail() {
        Ok(detail) => detail,
        Err(reason) => return Input::Refused(reason),
    };
    match detail.event.as_str() {
        "referenceCreated" | "referenceUpdated" => {}
        "referenceDeleted" => return Input::Ignored("the reference was deleted: there is nothing to start".to_owned()),
        "unreferencedMergeCommitCreated" => {
            return Input::Ignored("a merge commit that no reference points at".to_owned());
        }
        other => return Input::Ignored(format!("`{}` moves no branch or tag", short(other))),
    }
    let Some(git_ref) = detail.git_ref else {
        return Input::Refused("event.detail: missing field `referenceFullName`".to_owned());
    };
    hint(envelope, here, &detail.repository, &git_ref, detail.commit, detail.actor)
}

fn pull_request(envelope: &Envelope, here: Here<'_>) -> Input {
    let detail: PullRequest = match envelope.detail() {
        Ok(detail) => detail,
        Err(reason) => return Input::Refused(reason),
    };
    // A string, not a boolean.
    if detail.event != "pullRequestMergeStatusUpdated" || detail.is_merged.as_deref() != Some("True") {
        return Input::Ignored("the pull request has not been merged".to_owned());
    }
    // The merge moves the branch with an event of its own; whichever comes second finds the head relayed.
    let repository = detail.repositories.as_deref().and_then(<[String]>::first);
    match (repository, detail.destination) {
        (Some(repository), Some(destination)) => hint(envelope, here, repository, &destination, None, detail.actor),
        (None, _) => Input::Refused("event.detail: missing field `repositoryNames`".to_owned()),
        (_, None) => Input::Refused("event.detail: missing field `destinationReference`".to_owned()),
    }
}

fn hint(
    envelope: &Envelope,
    here: Here<'_>,
    repository: &str,
    git_ref: &str,
    commit: Option<String>,
    actor: Option<String>,
) -> Input {
    let repository = match RepositoryArn::new(here.partition, here.region.as_str(), here.account, repository) {
        Ok(arn) => arn,
        Err(reason) => return Input::Refused(format!("event.detail.repositoryName: {reason}")),
    };
    if envelope.resources.iter().any(|resource| resource != repository.as_str()) {
        return Input::Refused(format!("event.resources names another repository than {repository}"));
    }
    let git_ref: GitRef = match git_ref.parse() {
        Ok(git_ref) => git_ref,
        Err(reason) => return Input::Refused(format!("event.detail.referenceFullName: {reason}")),
    };
    let (tag_commit, at) = match (git_ref.kind(), commit) {
        (RefKind::Branch, _) => (None, None),
        (RefKind::Tag, None) => return Input::Refused("event.detail: missing field `commitId`".to_owned()),
        (RefKind::Tag, Some(commit)) => match (commit.parse(), envelope.time.as_deref()) {
            (Err(reason), _) => return Input::Refused(format!("event.detail.commitId: {reason}")),
            (_, None) => return Input::Refused("event: missing field `time`".to_owned()),
            (Ok(commit), Some(time)) => match timestamp::parse_seconds(time) {
                Some(at) => (Some(commit), Some(timestamp::epoch_millis(at))),
                None => return Input::Refused(format!("event.time: `{}` is no time", short(time))),
            },
        },
    };
    Input::Look(Hint { repository, git_ref, tag_commit, at, actor, event: Some(envelope.id.clone()) })
}

/// A stranger's text, shortened for a message.
fn short(text: &str) -> String {
    text.chars().take(60).collect()
}
