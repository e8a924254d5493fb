//! The outer event that EventBridge delivers.

use std::collections::BTreeMap;

use aws_lambda_events::eventbridge::EventBridgeEvent;
use sekisho_domain::decision::Decision;
use sekisho_domain::timestamp::from_epoch_millis;
use serde::Deserialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;

/// The `source` of a schedule's event.
pub const SCHEDULE_SOURCE: &str = "aws.events";
/// The size limit of an event, in bytes; larger events are refused. Every event that Sekisho expects is far smaller.
/// With this limit, the record of an event always fits into an item of DynamoDB, which holds 400 KB.
const LARGEST: usize = 256 * 1024;

/// The fields around an event's `detail`. EventBridge sets `account`; the sender writes the other fields.
///
/// `aws_lambda_events` parses the event and leaves most fields optional. [`Envelope::parse`] checks these fields, so
/// that the functions need not check them.
#[derive(Debug)]
pub struct Envelope {
    /// The event's id. A repeated delivery has the same id.
    pub id: String,
    /// The sender's name, such as `aws.codecommit` or `sekisho.relay`.
    pub source: String,
    /// The kind of event, such as `CodeCommit Repository State Change`.
    pub detail_type: String,
    /// The account that sent the event.
    pub account: String,
    /// The region that sent the event.
    pub region: String,
    /// The time of the event, if the sender gave one.
    pub time: Option<OffsetDateTime>,
    /// The ARNs of the resources that the event concerns.
    pub resources: Vec<String>,
    /// The detail as the sender wrote it, byte for byte. If it were parsed and written again, a number could get
    /// another text.
    pub detail: Box<RawValue>,
}

impl Envelope {
    /// Parses an event.
    ///
    /// # Errors
    /// A sentence that names the missing or malformed field.
    pub fn parse(payload: &str) -> Result<Self, String> {
        if payload.len() > LARGEST {
            return Err(format!("event: has {} bytes, and the limit is {LARGEST}", payload.len()));
        }
        let event: EventBridgeEvent<Box<RawValue>> = parse("event", payload)?;
        let present = |field: Option<String>, name: &str| field.ok_or_else(|| format!("event: missing field `{name}`"));
        Ok(Self {
            id: present(event.id, "id")?,
            source: event.source,
            detail_type: event.detail_type,
            account: present(event.account, "account")?,
            region: present(event.region, "region")?,
            time: event.time.and_then(|time| from_epoch_millis(time.timestamp_millis())),
            resources: event.resources.unwrap_or_default(),
            detail: event.detail,
        })
    }

    /// Parses the detail as `T`.
    ///
    /// # Errors
    /// A sentence that names the missing or malformed field.
    pub fn detail<'a, T: Deserialize<'a>>(&'a self) -> Result<T, String> {
        parse("event.detail", self.detail.get())
    }
}

/// The answer to an `explain` request without an event.
pub const EXPLAIN_WITHOUT_EVENT: &str =
    "`event` is missing: send {\"action\":\"explain\",\"event\":{…}} with the event to explain";
/// The answer to an `explain` request whose event is itself an `explain` request.
pub const EXPLAIN_OF_EXPLAIN: &str = "`event` is a request to explain: put the event itself into `event`";

/// A person's request to a function that is driven by events: `{"action":"explain","event":{…}}`.
#[derive(Debug, Deserialize)]
pub struct Action {
    /// The action's name.
    pub action: String,
    /// The event that the action is about.
    pub event: Option<Box<RawValue>>,
}

impl Action {
    /// Parses a payload that has an `action`. Returns `None` for every other payload.
    #[must_use]
    pub fn parse(payload: &str) -> Option<Self> {
        // Only objects are accepted. serde would also accept an array, and assign its elements to the fields in order.
        if payload.trim_start().starts_with('{') { serde_json::from_str(payload).ok() } else { None }
    }
}

/// Whether a payload is an object that has one of these fields, with whatever value.
#[must_use]
pub fn has_field(payload: &str, names: &[&str]) -> bool {
    // A map accepts a field that is given twice.
    let fields = serde_json::from_str::<BTreeMap<String, &RawValue>>(payload);
    fields.is_ok_and(|fields| names.iter().any(|name| fields.contains_key(*name)))
}

/// The answer to a request of an action that has no dry run.
#[must_use]
pub fn no_dry_run(action: &str) -> String {
    format!("`dry_run` is not a field of {}: leave it out", short(action))
}

/// Adds text fields of an event to the decision not to act on the event, so that people see which event was meant.
///
/// `fields` has pairs of a name and a JSON pointer. A field that is missing or is not text is left out. Every other
/// field is cut to 300 characters.
#[must_use]
pub fn about_payload<O>(payload: &str, fields: &[(&'static str, &str)], decision: Decision<O>) -> Decision<O> {
    let event: serde_json::Value = serde_json::from_str(payload).unwrap_or_default();
    let text = |pointer: &str| Some(event.pointer(pointer)?.as_str()?.chars().take(300).collect::<String>());
    fields.iter().fold(decision, |decision, (name, pointer)| decision.about_some(name, text(pointer)))
}

/// The first 60 characters of text from outside, for use in a message.
#[must_use]
pub fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

/// Parses a JSON object as `T`. `whole` is the name of the object in the error, such as `event`.
///
/// # Errors
/// A sentence that names the missing or malformed field.
pub fn parse<'a, T: Deserialize<'a>>(whole: &str, text: &'a str) -> Result<T, String> {
    // Only objects are accepted. serde would also accept an array, and assign its elements to the fields in order.
    if !text.trim_start().starts_with('{') {
        return Err(format!("{whole}: not an object"));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut json).map_err(|error| match error.path().to_string().as_str() {
        "." => format!("{whole}: {}", error.inner()),
        path => format!("{whole}.{path}: {}", error.inner()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const WHOLE: &str = r#"{"id":"1","source":"aws.s3","detail-type":"Object Created","account":"222222222222",
        "region":"ap-northeast-1","time":"2026-11-21T12:00:00Z","new":1,"detail":{"n":1.10}}"#;

    #[test]
    fn the_record_has_the_fields_that_are_text() {
        let fields = [("event", "/id"), ("account", "/account"), ("ref", "/detail/ref")];
        let about = |payload: &str| about_payload(payload, &fields, Decision::new("ignored", "")).concerns;
        let event = format!(r#"{{"id":"{}","account":1,"detail":{{"ref":"main"}}}}"#, "1".repeat(400));
        assert_eq!(about(&event), BTreeMap::from([("event", "1".repeat(300)), ("ref", "main".to_owned())]));
        assert!(about("[]").is_empty() && about("{").is_empty());
    }

    #[test]
    fn an_array_is_not_an_event() {
        let event = r#"["1","aws.s3","Object Created","222222222222","ap-northeast-1",[],{}]"#;
        assert_eq!(Envelope::parse(event).unwrap_err(), "event: not an object");
        assert!(Action::parse(r#"["explain",{}]"#).is_none());
        assert_eq!(Action::parse(r#"{"action":"explain","event":{}}"#).unwrap().action, "explain");
    }

    #[test]
    fn the_detail_is_kept_byte_for_byte_and_unknown_fields_are_allowed() {
        let event = Envelope::parse(WHOLE).unwrap();
        assert_eq!(event.detail.get(), r#"{"n":1.10}"#);
        assert_eq!(event.time, Some(datetime!(2026-11-21 12:00 UTC)));
        assert_eq!(event.resources, [""; 0]);
    }

    #[test]
    fn a_missing_or_malformed_field_is_named() {
        for field in ["id", "source", "detail-type", "account", "region", "detail"] {
            let mut json: serde_json::Value = serde_json::from_str(WHOLE).unwrap();
            json.as_object_mut().unwrap().remove(field);
            let error = Envelope::parse(&json.to_string()).unwrap_err();
            assert!(error.contains(&format!("missing field `{field}`")), "{error}");
        }
        for (field, value) in [("account", "222222222222"), ("time", "2026-11-21T12:00:00Z")] {
            let wrong = WHOLE.replace(&format!("\"{field}\":\"{value}\""), &format!("\"{field}\":[1]"));
            let error = Envelope::parse(&wrong).unwrap_err();
            assert!(error.starts_with(&format!("event.{field}: ")), "{error}");
        }
        assert!(Envelope::parse("[]").is_err() && Envelope::parse("null").is_err() && Envelope::parse("{").is_err());
    }

    #[test]
    fn an_oversized_event_is_not_read() {
        let padded = WHOLE.replace("1.10", &format!("\"{}\"", "x".repeat(LARGEST)));
        assert!(Envelope::parse(&padded).unwrap_err().contains("bytes"));
    }
}
