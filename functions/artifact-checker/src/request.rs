//! Reads a payload, which is either an event from EventBridge or a person's request.

use std::iter::once;

use sekisho_domain::account::AccountId;
use sekisho_lambda::event::{Envelope, SCHEDULE_SOURCE};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::object::ObjectId;

const S3: &str = "aws.s3";
const OBJECT_CREATED: &str = "Object Created";
/// The most characters of the reason of a request.
const LONGEST_REASON: usize = 500;

/// What an invocation is asked to do.
#[derive(Debug)]
pub(crate) enum Request {
    /// Check one object.
    Object(WrittenObject),
    /// Sweep every artifact bucket of the account.
    Schedule,
    /// Sweep one bucket.
    Sweep(SweepRequest),
    /// Confirm or continue a repair that is left to S3 Batch Operations.
    Repair(RepairRequest),
    /// Accept a finding.
    Accept(AcceptRequest),
    /// Do nothing, because the event concerns no artifact. The text is the reason.
    Ignored(String),
    /// Report the event, because it is malformed. The text says what is wrong.
    Unreadable(String),
    /// Fail, because the payload is not a request. The text says what to write instead.
    Invalid(String),
}

/// An object that an S3 event reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrittenObject {
    pub(crate) id: ObjectId,
    /// The account or service that wrote the object.
    pub(crate) writer: Option<String>,
    /// The event's id.
    pub(crate) event: String,
}

/// A request to sweep a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SweepRequest {
    action: Action,
    pub(crate) bucket: String,
    /// Whether to check all versions, and not only the latest.
    #[serde(default)]
    pub(crate) versions: bool,
    /// Whether to report and estimate repairs without making them.
    #[serde(default)]
    pub(crate) dry_run: bool,
    /// The id of the sweep to continue. The function sets this field in the messages that it sends to its queue. If the
    /// sweep with this id is done, the request does nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sweep: Option<String>,
    /// The number of the range of that sweep to check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) range: Option<u32>,
    /// Whether the schedule asks, so that the sweep may leave out what was not written since the last one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) scheduled: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// The mode of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SweepMode {
    /// Whether the sweep checks all versions.
    pub(crate) versions: bool,
    /// Whether the sweep changes nothing.
    pub(crate) dry_run: bool,
}

impl SweepMode {
    /// The mode of the daily sweep.
    pub(crate) const ORDINARY: Self = Self { versions: false, dry_run: false };

    /// The modes in which only a person requests a sweep.
    pub(crate) const OTHERS: [Self; 3] = [
        Self { versions: true, dry_run: false },
        Self { versions: false, dry_run: true },
        Self { versions: true, dry_run: true },
    ];

    /// The modes of all sweeps.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        once(Self::ORDINARY).chain(Self::OTHERS)
    }

    /// The end of the key of the mode's row.
    pub(crate) fn suffix(self) -> &'static str {
        match (self.versions, self.dry_run) {
            (false, false) => "",
            (true, false) => "#versions",
            (false, true) => "#dry-run",
            (true, true) => "#versions#dry-run",
        }
    }
}

impl SweepRequest {
    /// Returns the schedule's request to sweep the latest versions of a bucket and to repair them.
    pub(crate) fn scheduled(bucket: &str) -> Self {
        Self {
            action: Action::Sweep,
            bucket: bucket.to_owned(),
            versions: false,
            dry_run: false,
            sweep: None,
            range: None,
            scheduled: true,
        }
    }

    /// Returns the request to sweep a bucket in this mode.
    pub(crate) fn of_mode(bucket: &str, mode: SweepMode) -> Self {
        let SweepMode { versions, dry_run } = mode;
        Self { versions, dry_run, scheduled: false, ..Self::scheduled(bucket) }
    }

    pub(crate) fn mode(&self) -> SweepMode {
        SweepMode { versions: self.versions, dry_run: self.dry_run }
    }

    /// Returns a request to continue the sweep with the id `sweep`: to check one of its ranges, or, without a range, to
    /// end the sweep.
    pub(crate) fn continuing(&self, sweep: &str, range: Option<u32>) -> Self {
        Self { sweep: Some(sweep.to_owned()), range, ..self.clone() }
    }

    /// The message for the function's queue.
    pub(crate) fn message(&self) -> String {
        serde_json::json!(self).to_string()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Sweep,
}

/// A request to accept a finding.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AcceptRequest {
    #[serde(rename = "action")]
    _action: AcceptAction,
    /// The finding's code, as it was typed.
    pub(crate) finding: String,
    pub(crate) reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AcceptAction {
    Accept,
}

/// A request to have S3 Batch Operations make the repairs that a sweep has left.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RepairRequest {
    #[serde(rename = "action", default)]
    _action: Option<RepairAction>,
    /// The code of the repair, as it was typed. `{"repair":"<code>"}` is short for the action and the code.
    #[serde(alias = "repair")]
    pub(crate) code: String,
    /// Whether to continue a confirmed repair, and to confirm none. The function sets this field in the messages that
    /// it sends to its queue.
    #[serde(default)]
    pub(crate) follow: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RepairAction {
    Repair,
}

#[derive(Deserialize)]
struct ObjectCreated {
    bucket: Bucket,
    object: Object,
    requester: Option<String>,
}

#[derive(Deserialize)]
struct Bucket {
    name: String,
}

#[derive(Deserialize)]
struct Object {
    key: String,
    #[serde(rename = "version-id")]
    version: Option<String>,
}

/// A delivery of messages from the function's queue.
#[derive(Deserialize)]
struct Delivery {
    #[serde(rename = "Records")]
    records: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    body: String,
}

/// Reads a payload. `account` is this function's account.
pub(crate) fn read(payload: &str, account: &AccountId) -> Request {
    let Ok(object) = serde_json::from_str::<Map<String, Value>>(payload) else {
        return Request::Invalid(usage("the payload is not a JSON object"));
    };
    if object.contains_key("Records") {
        return read_delivery(object);
    }
    if !object.contains_key("detail-type") {
        return read_request(object);
    }
    match Envelope::parse(payload) {
        Ok(event) => read_event(event, account),
        Err(reason) => Request::Unreadable(format!("the payload is not an EventBridge event: {reason}")),
    }
}

/// Reads the one message of a delivery. If a delivery had several, the failure of one would repeat them all.
fn read_delivery(object: Map<String, Value>) -> Request {
    let delivery = serde_json::from_value::<Delivery>(Value::Object(object));
    let message = match delivery.as_ref().map(|delivery| delivery.records.as_slice()) {
        Ok([message]) => serde_json::from_str(&message.body),
        Ok(messages) => {
            let count = messages.len();
            return Request::Invalid(format!("the delivery has {count} messages: set the mapping's batch size to 1"));
        }
        Err(error) => return Request::Invalid(format!("the delivery of the queue is malformed: {error}")),
    };
    match message {
        Ok(request) => read_request(request),
        Err(error) => Request::Invalid(usage(&format!("the queue's message is not a JSON object: {error}"))),
    }
}

fn read_request(object: Map<String, Value>) -> Request {
    let is_action = |name: &str| object.get("action").is_some_and(|action| action == name);
    let (is_accept, is_repair) = (is_action("accept"), is_action("repair") || object.contains_key("repair"));
    let object = Value::Object(object);
    let request = if is_accept {
        serde_json::from_value(object).map(Request::Accept)
    } else if is_repair {
        serde_json::from_value(object).map(Request::Repair)
    } else {
        serde_json::from_value(object).map(Request::Sweep)
    };
    match request {
        Ok(Request::Accept(request)) if request.reason.trim().is_empty() => {
            Request::Invalid(usage("`reason` is empty"))
        }
        Ok(Request::Accept(request)) if request.reason.chars().count() > LONGEST_REASON => {
            Request::Invalid(usage(&format!("`reason` has more than {LONGEST_REASON} characters")))
        }
        Ok(request) => request,
        Err(error) => Request::Invalid(usage(&error.to_string())),
    }
}

fn read_event(event: Envelope, account: &AccountId) -> Request {
    if event.account != account.as_str() {
        let reason = format!("the event is from account {}, but this function serves account {account}", event.account);
        return Request::Ignored(reason);
    }
    match (event.source.as_str(), event.detail_type.as_str()) {
        (SCHEDULE_SOURCE, _) => Request::Schedule,
        (S3, OBJECT_CREATED) => match event.detail::<ObjectCreated>() {
            Ok(created) => Request::Object(WrittenObject {
                id: ObjectId {
                    bucket: created.bucket.name,
                    key: created.object.key,
                    version: created.object.version.filter(|version| !version.is_empty()),
                },
                writer: created.requester,
                event: event.id,
            }),
            Err(reason) => Request::Unreadable(reason),
        },
        (source, detail_type) => {
            Request::Ignored(format!("an event `{detail_type}` from `{source}` does not report a written object"))
        }
    }
}

fn usage(problem: &str) -> String {
    format!(
        "{problem}: write {{\"action\":\"sweep\",\"bucket\":\"<bucket>\"}}, with \"versions\":true for all versions \
         and \"dry_run\":true to change nothing, {{\"action\":\"accept\",\"finding\":\"<code>\",\
         \"reason\":\"<why>\"}}, or {{\"action\":\"repair\",\"code\":\"<code>\"}}"
    )
}
