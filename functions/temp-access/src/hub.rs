//! What crosses accounts: the hub account hands a request on to the temp-access of the account that the request names.

use sekisho_domain::access::DoorName;
use sekisho_domain::timestamp;
use sekisho_lambda::event;
use serde::{Deserialize, Deserializer};
use serde_json::json;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use crate::door::Door;
use crate::error::Error;

/// The version of the envelope.
const VERSION: u64 = 1;
/// Longest id, in characters. The id is part of keys in the ledger.
const LONGEST_ID: usize = 128;

/// A request that the hub account hands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Envelope {
    /// The id of the request in the hub account. The same id again is the same request.
    pub(crate) id: String,
    /// When the hub stops waiting for the answer.
    pub(crate) until: OffsetDateTime,
    /// The door in the hub account; `None` for the channel's.
    pub(crate) door: Option<DoorName>,
    /// The request, as JSON.
    pub(crate) request: String,
}

/// The fields of an envelope. A field that is not known is ignored, because a later version may add fields.
#[derive(Deserialize)]
struct Written<'p> {
    version: u64,
    id: String,
    until: String,
    #[serde(deserialize_with = "present")]
    door: Option<String>,
    #[serde(borrow)]
    request: &'p RawValue,
}

/// Reads a value that may be null, but that may not be missing.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer)
}

impl Envelope {
    /// Reads what a hub account hands on.
    ///
    /// # Errors
    /// [`Error::Invalid`], with the field that is missing or malformed.
    pub(crate) fn read(payload: &str) -> Result<Self, Error> {
        let invalid =
            |problem: String| Error::Invalid(format!("{problem}: the alias `hub` is for the hub account only"));
        let written: Written = event::parse("envelope", payload).map_err(invalid)?;
        if written.version != VERSION {
            return Err(invalid(format!("envelope.version: is {}, not {VERSION}", written.version)));
        }
        let is_id = |id: &str| (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
        if !is_id(&written.id) {
            return Err(invalid(format!("envelope.id: is not a text of 1 to {LONGEST_ID} visible ASCII characters")));
        }
        let until = timestamp::parse_millis(&written.until)
            .ok_or_else(|| invalid("envelope.until: is not a time such as 2026-12-01T03:00:00.000Z".to_owned()))?;
        let door = written.door.map(|door| door.parse::<DoorName>()).transpose();
        let door = door.map_err(|error| invalid(format!("envelope.door: {error}")))?;
        if !written.request.get().starts_with('{') {
            return Err(invalid("envelope.request: is not an object".to_owned()));
        }
        Ok(Self { id: written.id, until, door, request: written.request.get().to_owned() })
    }

    /// The envelope of a request that came through this door.
    pub(crate) fn of(id: &str, until: OffsetDateTime, door: &Door, request: String) -> Self {
        let door = match door {
            Door::Person(name) => Some(name.clone()),
            Door::Channel | Door::Board => None,
        };
        Self { id: id.to_owned(), until, door, request }
    }

    /// The payload for the alias `hub`.
    pub(crate) fn payload(&self) -> String {
        let door = self.door.as_ref().map(DoorName::as_str);
        format!(
            r#"{{"version":{VERSION},"id":{},"until":{},"door":{},"request":{}}}"#,
            json!(self.id),
            json!(timestamp::millis(self.until)),
            json!(door),
            self.request
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::macros::datetime;

    const WHOLE: &str =
        r#"{"version":1,"id":"one","until":"2026-12-01T03:00:00.000Z","door":"hana","request":{"a":1.0}}"#;

    #[test]
    fn an_envelope_has_every_field() {
        let envelope = Envelope::read(WHOLE).unwrap();
        assert_eq!((envelope.id.as_str(), envelope.until), ("one", datetime!(2026-12-01 03:00 UTC)));
        assert_eq!(envelope.door.unwrap().as_str(), "hana");
        assert_eq!(envelope.request, r#"{"a":1.0}"#);
        assert_eq!(Envelope::read(&WHOLE.replace("\"hana\"", "null")).unwrap().door, None);
        assert!(Envelope::read(&WHOLE.replace("\"id\"", "\"new\":{},\"id\"")).is_ok());
    }

    #[test]
    fn a_missing_or_malformed_field_is_named() {
        for field in ["version", "id", "until", "door", "request"] {
            let Err(Error::Invalid(message)) = Envelope::read(&WHOLE.replace(&format!("\"{field}\""), "\"x\"")) else {
                panic!("an envelope without {field} was accepted")
            };
            assert!(message.contains(&format!("missing field `{field}`")), "{message}");
        }
        let cases = [
            ("\"version\":1", "\"version\":2", "envelope.version"),
            ("\"one\"", "\"\"", "envelope.id"),
            ("\"one\"", "\"a b\"", "envelope.id"),
            ("\"one\"", "7", "envelope.id"),
            ("03:00:00.000Z", "03:00:00Z", "envelope.until"),
            ("\"hana\"", "\"board\"", "envelope.door"),
            ("\"hana\"", "\"hub\"", "envelope.door"),
            ("\"hana\"", "\"#channel\"", "envelope.door"),
            ("\"hana\"", "\"$LATEST\"", "envelope.door"),
            ("\"hana\"", "[]", "envelope.door"),
            (r#"{"a":1.0}"#, "\"list\"", "envelope.request"),
            (r#"{"a":1.0}"#, "null", "envelope.request"),
            ("\"door\"", "\"door\":null,\"door\"", "duplicate field `door`"),
        ];
        for (right, wrong, place) in cases {
            let Err(Error::Invalid(message)) = Envelope::read(&WHOLE.replace(right, wrong)) else {
                panic!("{wrong} was accepted")
            };
            assert!(message.contains(place), "{message}");
        }
        assert!(Envelope::read("[]").is_err() && Envelope::read("").is_err());
    }

    proptest! {
        #[test]
        fn what_one_function_writes_the_other_reads(
            id in "[!-~]{1,128}", door in proptest::option::of("d[a-z0-9-]{0,31}"), user in ".{0,40}",
        ) {
            let door = door.map_or(Door::Channel, |name| Door::Person(name.parse().unwrap()));
            let request = json!({"user": user}).to_string();
            let envelope = Envelope::of(&id, datetime!(2026-12-01 03:00:00.123 UTC), &door, request);
            prop_assert_eq!(Envelope::read(&envelope.payload()).unwrap(), envelope);
        }
    }
}
