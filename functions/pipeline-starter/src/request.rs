//! Parses a payload into a request, and decides whether its sender is trusted.

use sekisho_domain::account::AccountId;
use sekisho_domain::change::{RELAY_DETAIL_TYPE, RELAY_SOURCE, SourceChange};
use sekisho_domain::route::PipelineName;
use sekisho_lambda::event::{Action, EXPLAIN_WITHOUT_EVENT, Envelope, SCHEDULE_SOURCE, has_field, no_dry_run, short};
use serde::Deserialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use crate::end::{End, Ending};
use crate::world::ExecutionStatus;

const CODEPIPELINE_SOURCE: &str = "aws.codepipeline";
const CLOUDWATCH_SOURCE: &str = "aws.cloudwatch";
const ALARM_DETAIL_TYPE: &str = "CloudWatch Alarm State Change";
const EXECUTION_DETAIL_TYPE: &str = "CodePipeline Pipeline Execution State Change";
const ACTION_DETAIL_TYPE: &str = "CodePipeline Action Execution State Change";

/// The request that a payload contains.
#[derive(Debug)]
pub(crate) enum Request {
    /// Start the pipelines that this change concerns.
    Change(Box<SourceChange>),
    /// Follow up on an execution that has ended, or whose stage is retried.
    ExecutionEnded(EndedExecution),
    /// Follow up on all orders that are not finished.
    FollowUp,
    /// Send a notice if this action waits for an approval.
    ActionChanged(Box<ActionState>),
    /// Read the alarms of the orders that bake, because this alarm changed.
    AlarmChanged(ChangedAlarm),
    /// Explain what this event would lead to.
    Explain(Box<RawValue>),
    /// An event that is not trusted, with the reason.
    Refused(String),
    /// A person's request that cannot be understood. The text says what to send instead.
    Invalid(String),
}

/// The accounts whose events are trusted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    /// The account that relays changes.
    pub(crate) repository_account: &'a AccountId,
    /// The function's own account, which reports the ends of its executions.
    pub(crate) own_account: &'a AccountId,
}

/// An execution that has ended, or whose stage is retried.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct EndedExecution {
    /// The pipeline's name.
    pub(crate) pipeline: String,
    /// The execution's id.
    #[serde(rename = "execution-id")]
    pub(crate) id: String,
    /// The state: `SUCCEEDED`, `FAILED`, `STOPPED`, `SUPERSEDED`, `CANCELED`, `RESUMED`, or a state that CodePipeline
    /// adds later.
    state: String,
    /// The number of the execution's run, such as `1.0`. A retried stage begins another run.
    #[serde(rename = "pipeline-execution-attempt")]
    attempt: Option<f64>,
    /// When the state was reached, if that is known.
    #[serde(skip)]
    at: Option<OffsetDateTime>,
}

/// An alarm whose state has changed. The event is only a hint, so the state in it does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct ChangedAlarm {
    /// The alarm's name.
    #[serde(rename = "alarmName")]
    pub(crate) name: String,
}

impl EndedExecution {
    /// An execution whose end the follow-up found.
    ///
    /// CodePipeline's status does not name the run, so `run` is the run that the row had before the status was read. If
    /// a stage was retried in the meantime, the end counts as late.
    pub(crate) fn found(
        pipeline: &PipelineName,
        id: &str,
        status: Option<ExecutionStatus>,
        run: u32,
        at: Option<OffsetDateTime>,
    ) -> Self {
        let state = if status == Some(ExecutionStatus::Failed) { "FAILED" } else { "ENDED" };
        Self {
            pipeline: pipeline.to_string(),
            id: id.to_owned(),
            state: state.to_owned(),
            attempt: Some(f64::from(run)),
            at,
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.state == "FAILED"
    }

    /// When the execution ended, and which of its runs that was.
    pub(crate) fn ending(&self) -> Ending {
        Ending { run: self.run(), at: self.at }
    }

    /// The number of the execution's run, if the event has it.
    pub(crate) fn run(&self) -> Option<u32> {
        self.attempt.and_then(|attempt| format!("{attempt:.0}").parse().ok())
    }

    /// The end of the execution. Returns `None` for a failure, because the event does not say where the execution
    /// failed, and for a state that this code does not know.
    pub(crate) fn end(&self) -> Option<End> {
        match self.state.as_str() {
            "SUCCEEDED" => End::of(Some(ExecutionStatus::Succeeded)),
            "STOPPED" => End::of(Some(ExecutionStatus::Stopped)),
            "SUPERSEDED" => End::of(Some(ExecutionStatus::Superseded)),
            "CANCELED" => End::of(Some(ExecutionStatus::Canceled)),
            "RESUMED" => Some(End::Resumed),
            _ => None,
        }
    }

    /// Whether a pipeline that was busy may have room now.
    pub(crate) fn leaves_room(&self) -> bool {
        self.state != "RESUMED"
    }
}

/// The state that an action of an execution has reached.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct ActionState {
    /// The pipeline's name.
    pub(crate) pipeline: String,
    /// The execution's id.
    #[serde(rename = "execution-id")]
    pub(crate) execution: String,
    stage: String,
    action: String,
    /// The id of this run of the action. If a stage is retried, the execution keeps its id, and the action gets a new
    /// run with a new id.
    #[serde(rename = "action-execution-id")]
    run: Option<String>,
    state: String,
    #[serde(rename = "type")]
    kind: ActionKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct ActionKind {
    category: String,
}

impl ActionState {
    pub(crate) fn waits_for_approval(&self) -> bool {
        self.state == "STARTED" && self.kind.category == "Approval"
    }

    /// The stage and the action, in the same format as in the notice about a failure.
    pub(crate) fn place(&self) -> String {
        format!("{} / {}", self.stage, self.action)
    }

    /// The text that identifies this run of the action. Repeated events about the same run give the same text.
    pub(crate) fn run(&self) -> String {
        self.run.clone().unwrap_or_else(|| format!("{}/{}/{}", self.execution, self.stage, self.action))
    }
}

/// Reads a payload.
pub(crate) fn parse(payload: &str, source: &Source<'_>) -> Request {
    if let Some(action) = Action::parse(payload) {
        return parse_action(payload, action);
    }
    let envelope = match Envelope::parse(payload) {
        Ok(envelope) => envelope,
        Err(reason) => return Request::Refused(format!("the payload is not an EventBridge event: {reason}")),
    };
    match (envelope.source.as_str(), envelope.detail_type.as_str()) {
        (RELAY_SOURCE, RELAY_DETAIL_TYPE) => parse_change(&envelope, source.repository_account),
        (CODEPIPELINE_SOURCE, EXECUTION_DETAIL_TYPE) => {
            let at = envelope.time;
            parse_own(&envelope, source.own_account, |ended| Request::ExecutionEnded(EndedExecution { at, ..ended }))
        }
        (CODEPIPELINE_SOURCE, ACTION_DETAIL_TYPE) => {
            parse_own(&envelope, source.own_account, |action| Request::ActionChanged(Box::new(action)))
        }
        (CLOUDWATCH_SOURCE, ALARM_DETAIL_TYPE) => parse_own(&envelope, source.own_account, Request::AlarmChanged),
        (SCHEDULE_SOURCE, _) => match untrusted_account(&envelope, source.own_account) {
            Some(reason) => Request::Refused(reason),
            None => Request::FollowUp,
        },
        (source, detail_type) => Request::Refused(format!(
            "source `{}` with detail-type `{}`: only `{RELAY_SOURCE}` with `{RELAY_DETAIL_TYPE}` starts a pipeline",
            short(source),
            short(detail_type)
        )),
    }
}

fn parse_action(payload: &str, Action { action, event }: Action) -> Request {
    match (action.as_str(), event) {
        ("explain", _) if has_field(payload, &["dry_run"]) => Request::Invalid(no_dry_run("explain")),
        ("explain", Some(event)) => Request::Explain(event),
        ("explain", None) => Request::Invalid(EXPLAIN_WITHOUT_EVENT.to_owned()),
        (other, _) => Request::Invalid(format!("unknown action `{}`: send `explain`", short(other))),
    }
}

fn parse_change(envelope: &Envelope, trusted: &AccountId) -> Request {
    if let Some(reason) = untrusted_account(envelope, trusted) {
        return Request::Refused(reason);
    }
    match SourceChange::parse(envelope.detail.get()) {
        Err(reason) => Request::Refused(reason.to_string()),
        Ok(event) if event.change.repository.account() != envelope.account => Request::Refused(format!(
            "the change is about {}, which does not belong to the account that sent the event",
            event.change.repository
        )),
        Ok(event) => Request::Change(Box::new(event)),
    }
}

/// Parses the detail of an event of CodePipeline in the function's own account.
fn parse_own<'a, T: Deserialize<'a>>(
    envelope: &'a Envelope,
    trusted: &AccountId,
    request: impl FnOnce(T) -> Request,
) -> Request {
    if let Some(reason) = untrusted_account(envelope, trusted) {
        return Request::Refused(reason);
    }
    envelope.detail().map_or_else(Request::Refused, request)
}

/// The reason not to trust the event's account. EventBridge sets the outer `account`; a sender cannot forge it.
fn untrusted_account(envelope: &Envelope, trusted: &AccountId) -> Option<String> {
    (envelope.account != trusted.as_str()).then(|| {
        format!("the event comes from account {}: only account {trusted} is trusted", short(&envelope.account))
    })
}
