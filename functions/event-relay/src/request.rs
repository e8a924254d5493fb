//! Parses a payload, which is an event of EventBridge or a person's request.

use sekisho_domain::change::{RefKind, RepositoryArn, SourceRef};
use sekisho_domain::report::{REPORT_DETAIL_TYPE, REPORT_SOURCE};
use sekisho_domain::route::{Route, Routes};
use sekisho_domain::slack;
use sekisho_lambda::Invocation;
use sekisho_lambda::event::{Action, EXPLAIN_WITHOUT_EVENT, Envelope, SCHEDULE_SOURCE, has_field, no_dry_run, short};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::hint::Hint;
use crate::redelivery::Redelivery;
use crate::selection::routes_here;
use crate::target_report::TargetReport;
use crate::target_request::{ResendRequest, WhereRequest};
use crate::train_request::{TrainAction, TrainRequest, is_short_form};

const CODECOMMIT: &str = "aws.codecommit";
const ECR: &str = "aws.ecr";

/// The request that a payload contains.
#[derive(Debug)]
pub(crate) enum Request {
    /// A branch, a tag or the tag of an image may have moved: relay the head.
    Change(Hint),
    /// Compare every routed reference with the ledger, and offer open orders again.
    Reconcile,
    /// Describe the plan for the event.
    Explain(Box<RawValue>),
    /// Order the change of a message that an earlier version put into the dead-letter queue.
    Redeliver(Box<Redelivery>),
    /// Store a target's report on its order.
    Report(Box<TargetReport>),
    /// Show which revision runs in each target.
    Where(WhereRequest),
    /// Send the latest orders of some targets again.
    Resend(ResendRequest),
    /// Show or change a train.
    Train(Box<TrainRequest>),
    /// The event needs no action, for this reason.
    Ignored(String),
    /// The event is not trusted, for this reason.
    Refused(String),
    /// A person's request that cannot be understood; the text says what to send instead.
    Invalid(String),
}

impl Request {
    /// Whether the answer changes and records nothing.
    pub(crate) fn is_read_only(&self) -> bool {
        match self {
            Self::Explain(_) | Self::Where(_) | Self::Invalid(_) => true,
            Self::Train(request) => request.is_read_only(),
            Self::Change(_)
            | Self::Reconcile
            | Self::Redeliver(_)
            | Self::Report(_)
            | Self::Resend(_)
            | Self::Ignored(_)
            | Self::Refused(_) => false,
        }
    }
}

#[derive(Deserialize)]
struct StateChange {
    event: String,
    #[serde(rename = "repositoryName")]
    repository: String,
    #[serde(rename = "referenceFullName")]
    source_ref: Option<String>,
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
struct ImageAction {
    result: String,
    #[serde(rename = "repository-name")]
    repository: String,
    #[serde(rename = "action-type")]
    action: String,
    /// ECR sends one event for each tag. An image that was pushed by its digest has no tag.
    #[serde(rename = "image-tag")]
    tag: Option<String>,
}

/// Reads a payload. `own` has the account and region whose events are trusted.
pub(crate) fn read(payload: &str, own: &Invocation, routes: &Routes) -> Request {
    if let Some(action) = Action::parse(payload) {
        return request(payload, action);
    }
    if is_short_form(payload) {
        return train_request(payload);
    }
    let envelope = match Envelope::parse(payload) {
        Ok(envelope) => envelope,
        Err(reason) => return Request::Refused(format!("the payload is not an EventBridge event: {reason}")),
    };
    // A report comes from the account of its target. `relay/report.rs` compares this account with the routes.
    if envelope.source != REPORT_SOURCE && envelope.account != own.account.as_str() {
        return Request::Refused(format!(
            "the event comes from account {}: only events of account {} are trusted",
            short(&envelope.account),
            own.account
        ));
    }
    if envelope.region != own.region.as_str() {
        return Request::Refused(format!(
            "the event comes from region {}: only events of region {} are trusted",
            short(&envelope.region),
            own.region
        ));
    }
    match (envelope.source.as_str(), envelope.detail_type.as_str()) {
        (SCHEDULE_SOURCE, _) => Request::Reconcile,
        (REPORT_SOURCE, REPORT_DETAIL_TYPE) => match TargetReport::parse(&envelope) {
            Ok(report) => Request::Report(Box::new(report)),
            Err(reason) => untrusted_report(&envelope, own, routes, reason),
        },
        (REPORT_SOURCE, other) => {
            let reason = format!(
                "the event's detail type is `{}`: only `{REPORT_DETAIL_TYPE}` is trusted from `{REPORT_SOURCE}`",
                short(other)
            );
            untrusted_report(&envelope, own, routes, reason)
        }
        (CODECOMMIT, "CodeCommit Repository State Change") => state_change(&envelope, own),
        // AWS documents both spellings of this detail type.
        (CODECOMMIT, "CodeCommit Pull Request State Change" | "CodeCommit PullRequest State Change") => {
            pull_request(&envelope, own)
        }
        (CODECOMMIT, other) => Request::Ignored(format!("`{}` does not move a branch or tag", short(other))),
        (ECR, "ECR Image Action" | "ECR Replication Action") => image_action(&envelope, own),
        (ECR, other) => Request::Ignored(format!("`{}` does not move the tag of an image", short(other))),
        (other, _) => Request::Refused(format!(
            "the event's source is `{}`: only `{CODECOMMIT}`, `{ECR}`, `{REPORT_SOURCE}` and schedules are trusted",
            short(other)
        )),
    }
}

/// A report that cannot be read. Only reports of the routes' accounts alert people, because other accounts may be able
/// to put events on the bus, too.
fn untrusted_report(envelope: &Envelope, own: &Invocation, routes: &Routes, reason: String) -> Request {
    let mut targets = routes_here(routes, &own.region).flat_map(Route::targets);
    if targets.any(|target| target.account.as_str() == envelope.account) {
        Request::Refused(reason)
    } else {
        Request::Ignored(format!("no route leads to account {}", short(&envelope.account)))
    }
}

fn request(payload: &str, action: Action) -> Request {
    match (action.action.as_str(), action.event) {
        (name @ ("explain" | "redeliver"), _) if has_field(payload, &["dry_run"]) => Request::Invalid(no_dry_run(name)),
        ("explain", Some(event)) => Request::Explain(event),
        ("explain", None) => Request::Invalid(EXPLAIN_WITHOUT_EVENT.to_owned()),
        ("redeliver", _) => match serde_json::from_str::<Redelivery>(payload) {
            Ok(redelivery) => Request::Redeliver(Box::new(redelivery)),
            Err(error) => {
                let error = slack::shown(&error.to_string());
                Request::Invalid(format!("the payload is not a message of the dead-letter queue: {error}"))
            }
        },
        ("where", _) => WhereRequest::parse(payload).map_or_else(Request::Invalid, Request::Where),
        ("resend", _) => ResendRequest::parse(payload).map_or_else(Request::Invalid, Request::Resend),
        (name, _) if TrainAction::named(name).is_some() => train_request(payload),
        (other, _) => {
            let other = slack::quoted(other);
            let trains: Vec<String> = TrainAction::ALL.iter().map(|action| format!("`{}`", action.as_str())).collect();
            Request::Invalid(format!(
                "`{other}` is not an action: send `where`, `resend`, {}, `explain` or `redeliver`",
                trains.join(", ")
            ))
        }
    }
}

fn train_request(payload: &str) -> Request {
    match TrainRequest::parse(payload) {
        Ok(request) => Request::Train(Box::new(request)),
        Err(reason) => Request::Invalid(reason),
    }
}

fn state_change(envelope: &Envelope, own: &Invocation) -> Request {
    let detail: StateChange = match envelope.detail() {
        Ok(detail) => detail,
        Err(reason) => return Request::Refused(reason),
    };
    match detail.event.as_str() {
        "referenceCreated" | "referenceUpdated" => {}
        "referenceDeleted" => {
            return Request::Ignored("the reference was deleted: there is nothing to relay".to_owned());
        }
        "unreferencedMergeCommitCreated" => {
            return Request::Ignored("no branch or tag points at this merge commit".to_owned());
        }
        other => return Request::Ignored(format!("`{}` does not move a branch or tag", short(other))),
    }
    let Some(source_ref) = detail.source_ref else {
        return Request::Refused("event.detail: missing field `referenceFullName`".to_owned());
    };
    change(envelope, own, Moved { repository: &detail.repository, source_ref: &source_ref, actor: detail.actor })
}

fn pull_request(envelope: &Envelope, own: &Invocation) -> Request {
    let detail: PullRequest = match envelope.detail() {
        Ok(detail) => detail,
        Err(reason) => return Request::Refused(reason),
    };
    // In CodeCommit's event, `isMerged` is a string and not a boolean.
    if detail.event != "pullRequestMergeStatusUpdated" || detail.is_merged.as_deref() != Some("True") {
        return Request::Ignored("the pull request has not been merged".to_owned());
    }
    // The merge also causes an event about the branch. The two events do not relay the head twice, because the
    // invocation for the later event finds that the head was already relayed.
    let repository = detail.repositories.as_deref().and_then(<[String]>::first);
    match (repository, detail.destination) {
        (Some(repository), Some(source_ref)) => {
            change(envelope, own, Moved { repository, source_ref: &source_ref, actor: detail.actor })
        }
        (None, _) => Request::Refused("event.detail: missing field `repositoryNames`".to_owned()),
        (_, None) => Request::Refused("event.detail: missing field `destinationReference`".to_owned()),
    }
}

/// An image was pushed or deleted, or the registry of another region or account replicated it. The digest in the event
/// is not used: the function reads the digest that the tag has now.
fn image_action(envelope: &Envelope, own: &Invocation) -> Request {
    let detail: ImageAction = match envelope.detail() {
        Ok(detail) => detail,
        Err(reason) => return Request::Refused(reason),
    };
    match (detail.action.as_str(), detail.result.as_str()) {
        ("PUSH" | "REPLICATE", "SUCCESS") => {}
        ("PUSH" | "REPLICATE", other) => {
            return Request::Ignored(format!("the push ended with `{}`: it moved no tag", short(other)));
        }
        ("DELETE", _) => {
            return Request::Ignored("the image or its tag was deleted: there is nothing to relay".to_owned());
        }
        (other, _) => return Request::Ignored(format!("`{}` does not move the tag of an image", short(other))),
    }
    let Some(tag) = detail.tag else {
        return Request::Ignored("the image was pushed without a tag: a route selects images by their tags".to_owned());
    };
    let repository = match RepositoryArn::ecr(&own.partition, own.region.as_str(), &own.account, &detail.repository) {
        Ok(arn) => arn,
        Err(reason) => return Request::Refused(format!("event.detail.repository-name: {reason}")),
    };
    // ECR leaves the resources of a push empty. A replication may name the repository of the other registry.
    if detail.action == "PUSH" && envelope.resources.iter().any(|resource| resource != repository.as_str()) {
        return Request::Refused(format!("event.resources names a repository other than {repository}"));
    }
    match SourceRef::new(RefKind::Image, &tag) {
        Ok(source_ref) => {
            Request::Change(Hint { repository, source_ref, actor: None, event: Some(envelope.id.clone()) })
        }
        Err(reason) => Request::Refused(format!("event.detail.image-tag: {reason}")),
    }
}

/// The fields of an event about a reference, before they are checked.
struct Moved<'e> {
    repository: &'e str,
    source_ref: &'e str,
    actor: Option<String>,
}

fn change(envelope: &Envelope, own: &Invocation, moved: Moved<'_>) -> Request {
    let repository =
        match RepositoryArn::codecommit(&own.partition, own.region.as_str(), &own.account, moved.repository) {
            Ok(arn) => arn,
            Err(reason) => return Request::Refused(format!("event.detail.repositoryName: {reason}")),
        };
    if envelope.resources.iter().any(|resource| resource != repository.as_str()) {
        return Request::Refused(format!("event.resources names a repository other than {repository}"));
    }
    let source_ref: SourceRef = match moved.source_ref.parse() {
        Ok(source_ref) => source_ref,
        Err(reason) => return Request::Refused(format!("event.detail.referenceFullName: {reason}")),
    };
    Request::Change(Hint { repository, source_ref, actor: moved.actor, event: Some(envelope.id.clone()) })
}
