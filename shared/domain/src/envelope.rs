//! The outer event that EventBridge delivers.

use serde::Deserialize;
use serde_json::value::RawValue;

/// `source` of a schedule's event.
pub const SCHEDULE_SOURCE: &str = "aws.events";
/// The largest event that is read, in bytes: far more than any that is meant for us, and less than a DynamoDB item's 400 KB,
/// so that what is kept of an event always fits.
pub const LARGEST: usize = 256 * 1024;

/// What stands around every event's `detail`. EventBridge sets `account` itself; the rest is what the sender wrote.
#[derive(Debug, Deserialize)]
pub struct Envelope {
    /// The event's id; the same when it is delivered again.
    pub id: String,
    /// `aws.codecommit`, `sekisho.relay`, `aws.events`, …
    pub source: String,
    /// Such as `CodeCommit Repository State Change`.
    #[serde(rename = "detail-type")]
    pub detail_type: String,
    /// The account that the event comes from.
    pub account: String,
    /// The region that the event comes from.
    pub region: String,
    /// When it happened, such as `2026-11-21T12:00:00Z`.
    #[serde(default)]
    pub time: Option<String>,
    /// ARNs of what it concerns.
    #[serde(default)]
    pub resources: Vec<String>,
    /// As it came, to the byte: parsed numbers would not be written back as they were.
    pub detail: Box<RawValue>,
}

impl Envelope {
    /// Reads an event.
    ///
    /// # Errors
    /// A sentence that names the field that is missing or wrong.
    pub fn parse(payload: &str) -> Result<Self, String> {
        if payload.len() > LARGEST {
            return Err(format!("event: has {} bytes, more than the {LARGEST} that are read", payload.len()));
        }
        parse("event", payload)
    }

    /// Reads the detail as `T`.
    ///
    /// # Errors
    /// A sentence that names the field that is missing or wrong.
    pub fn detail<'a, T: Deserialize<'a>>(&'a self) -> Result<T, String> {
        parse("event.detail", self.detail.get())
    }
}

/// What an event that is not acted on says of itself, for the record: at each of `fields` (a name and a JSON pointer)
/// the text that stands there, if any, up to 300 characters of it.
#[must_use]
pub fn says<'f>(payload: &str, fields: &[(&'f str, &str)]) -> Vec<(&'f str, String)> {
    let event: serde_json::Value = serde_json::from_str(payload).unwrap_or_default();
    let text = |pointer: &str| Some(event.pointer(pointer)?.as_str()?.chars().take(300).collect());
    fields.iter().filter_map(|(name, pointer)| Some((*name, text(pointer)?))).collect()
}

fn parse<'a, T: Deserialize<'a>>(whole: &str, text: &'a str) -> Result<T, String> {
    // Of an array the elements would be read as the fields in their order.
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

    #[test]
    fn an_event_says_what_is_text_and_there() {
        let fields = [("event", "/id"), ("account", "/account"), ("ref", "/detail/ref")];
        let event = format!(r#"{{"id":"{}","account":1,"detail":{{"ref":"main"}}}}"#, "1".repeat(400));
        assert_eq!(says(&event, &fields), [("event", "1".repeat(300)), ("ref", "main".to_owned())]);
        assert_eq!(says("[]", &fields), []);
        assert_eq!(says("{", &fields), []);
    }

    #[test]
    fn an_array_is_no_event_even_with_every_field_in_its_place() {
        let event = r#"["1","aws.s3","Object Created","222222222222","ap-northeast-1",[],{}]"#;
        assert_eq!(Envelope::parse(event).unwrap_err(), "event: not an object");
    }

    #[test]
    fn a_missing_field_is_named_and_an_unknown_one_is_not_minded() {
        let whole = r#"{"id":"1","source":"aws.s3","detail-type":"Object Created","account":"222222222222","region":"ap-northeast-1","new":1,"detail":{"n":1.10}}"#;
        assert_eq!(Envelope::parse(whole).unwrap().detail.get(), r#"{"n":1.10}"#);
        for field in ["id", "source", "detail-type", "account", "region", "detail"] {
            let mut json: serde_json::Value = serde_json::from_str(whole).unwrap();
            json.as_object_mut().unwrap().remove(field);
            let error = Envelope::parse(&json.to_string()).unwrap_err();
            assert!(error.contains(&format!("`{field}`")), "{error}");
        }
        let padded = whole.replace("1.10", &format!("\"{}\"", "x".repeat(LARGEST)));
        assert!(Envelope::parse(&padded).unwrap_err().contains("bytes"));
        assert!(Envelope::parse("[]").is_err() && Envelope::parse("null").is_err() && Envelope::parse("{").is_err());
    }
}
