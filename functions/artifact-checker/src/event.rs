//! What comes in: events of EventBridge, and requests of people.

use sekisho_domain::account::AccountId;
use sekisho_domain::envelope::{Envelope, SCHEDULE_SOURCE};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::object::Target;

const S3: &str = "aws.s3";
const OBJECT_CREATED: &str = "Object Created";

/// What an invocation asks for.
#[derive(Debug)]
pub enum Input {
    /// Look at one object.
    Written(Written),
    /// Look at all objects of every artifact bucket.
    Scheduled,
    /// Look at all objects of one bucket.
    Sweep(Order),
    /// An event of no concern, for this reason.
    Ignored(String),
    /// An event of ours that can't be read, for this reason.
    Unreadable(String),
    /// Not a request; the text says what to write instead.
    Invalid(String),
}

/// An object that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Which.
    pub target: Target,
    /// The account or service that wrote it.
    pub writer: Option<String>,
    /// The event's id.
    pub event: String,
}

/// A sweep that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    action: Action,
    /// The bucket.
    pub bucket: String,
    /// All versions, not only the latest.
    #[serde(default)]
    pub versions: bool,
    /// Report and estimate, change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Go on with this sweep, and do nothing if it is not there any more: what the function sends itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<String>,
}

impl Order {
    /// The latest versions of all objects of a bucket, and what is wrong repaired.
    #[must_use]
    pub fn of(bucket: &str) -> Self {
        Self { action: Action::Sweep, bucket: bucket.to_owned(), versions: false, dry_run: false, sweep: None }
    }

    /// To go on with this sweep, and with no other.
    #[must_use]
    pub fn going_on(&self, sweep: &str) -> Self {
        Self { sweep: Some(sweep.to_owned()), ..self.clone() }
    }

    /// As a request has it.
    #[must_use]
    pub fn payload(&self) -> String {
        serde_json::json!(self).to_string()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Sweep,
}

#[derive(Deserialize)]
struct Created {
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

/// Reads a payload.
#[must_use]
pub fn read(payload: &str, account: &AccountId) -> Input {
    let Ok(object) = serde_json::from_str::<Map<String, Value>>(payload) else {
        return Input::Invalid(usage("the payload is not a JSON object"));
    };
    if !object.contains_key("detail-type") {
        return match serde_json::from_value::<Order>(Value::Object(object)) {
            Ok(order) => Input::Sweep(order),
            Err(error) => Input::Invalid(usage(&error.to_string())),
        };
    }
    let event = match Envelope::parse(payload) {
        Ok(event) => event,
        Err(reason) => return Input::Unreadable(format!("not an event of EventBridge: {reason}")),
    };
    if event.account != account.as_str() {
        let reason = format!("the event comes from account {}; this function looks after {account}", event.account);
        return Input::Ignored(reason);
    }
    match (event.source.as_str(), event.detail_type.as_str()) {
        (SCHEDULE_SOURCE, _) => Input::Scheduled,
        (S3, OBJECT_CREATED) => match event.detail::<Created>() {
            Ok(created) => Input::Written(Written {
                target: Target {
                    bucket: created.bucket.name,
                    key: created.object.key,
                    version: created.object.version.filter(|version| !version.is_empty()),
                },
                writer: created.requester,
                event: event.id,
            }),
            Err(reason) => Input::Unreadable(reason),
        },
        (source, detail_type) => {
            Input::Ignored(format!("`{detail_type}` of `{source}` says nothing of an object that was written"))
        }
    }
}

fn usage(reason: &str) -> String {
    format!(
        "{reason}: write {{\"action\":\"sweep\",\"bucket\":\"<bucket>\"}}, with \"versions\":true for all versions and \
         \"dry_run\":true to change nothing"
    )
}
