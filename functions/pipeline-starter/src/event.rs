//! What comes in, and whether it is believed.

use sekisho_domain::account::AccountId;
use sekisho_domain::change::{RELAY_DETAIL_TYPE, RELAY_SOURCE, SourceChange};
use sekisho_domain::envelope::Envelope;
use serde::Deserialize;
use serde_json::value::RawValue;

const CODEPIPELINE: &str = "aws.codepipeline";

/// What an invocation asks for.
#[derive(Debug)]
pub enum Input {
    /// Start what this change concerns.
    Start(Box<SourceChange>),
    /// An execution of a pipeline here has ended.
    Ended(Execution),
    /// Say what the event would lead to.
    Explain(Box<RawValue>),
    /// Not to be believed, for this reason.
    Refused(String),
    /// A request of a person that is not one, with what to send instead.
    Invalid(String),
}

/// An execution that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Execution {
    /// The pipeline's name.
    pub pipeline: String,
    /// The execution's id.
    #[serde(rename = "execution-id")]
    pub execution: String,
    /// `SUCCEEDED`, `FAILED`, `STOPPED`, `SUPERSEDED`, `CANCELED`, …
    pub state: String,
}

#[derive(Deserialize)]
struct Action {
    action: String,
    event: Option<Box<RawValue>>,
}

/// Reads a payload: changes are believed from `repository_account`, pipelines' ends from `own_account`.
#[must_use]
pub fn read(payload: &str, repository_account: &AccountId, own_account: &AccountId) -> Input {
    // An array would be read as the fields in their order.
    let is_object = payload.trim_start().starts_with('{');
    if is_object && let Ok(request) = serde_json::from_str::<Action>(payload) {
        return match (request.action.as_str(), request.event) {
            ("explain", Some(event)) => Input::Explain(event),
            ("explain", None) => Input::Invalid(
                "`event` is missing: send {\"action\":\"explain\",\"event\":{…}} with the event to explain".to_owned(),
            ),
            (other, _) => Input::Invalid(format!("no action `{}`: send `explain`", short(other))),
        };
    }
    let envelope = match Envelope::parse(payload) {
        Ok(envelope) => envelope,
        Err(reason) => return Input::Refused(format!("not an event of EventBridge: {reason}")),
    };
    let from = |account: &AccountId| {
        (envelope.account != account.as_str()).then(|| {
            format!("the event comes from account {}: only account {account} is believed", short(&envelope.account))
        })
    };
    match (envelope.source.as_str(), envelope.detail_type.as_str()) {
        (RELAY_SOURCE, RELAY_DETAIL_TYPE) => match from(repository_account) {
            Some(foreign) => Input::Refused(foreign),
            None => change(&envelope),
        },
        (CODEPIPELINE, "CodePipeline Pipeline Execution State Change") => match from(own_account) {
            Some(foreign) => Input::Refused(foreign),
            None => match envelope.detail() {
                Ok(execution) => Input::Ended(execution),
                Err(reason) => Input::Refused(reason),
            },
        },
        (source, detail_type) => Input::Refused(format!(
            "source `{}` with detail-type `{}`: only `{RELAY_SOURCE}` with `{RELAY_DETAIL_TYPE}` starts a pipeline",
            short(source),
            short(detail_type)
        )),
    }
}

fn change(envelope: &Envelope) -> Input {
    match SourceChange::parse(envelope.detail.get()) {
        Err(reason) => Input::Refused(reason.to_string()),
        Ok(event) if event.change.repository.account() != envelope.account => {
            Input::Refused(format!("the change is of {}, which is not the sender's", event.change.repository))
        }
        Ok(event) => Input::Start(Box::new(event)),
    }
}

/// A stranger's text, shortened for a message.
fn short(text: &str) -> String {
    text.chars().take(60).collect()
}
