//! The fields of a payload, each of which has its own type and occurs at most once.

use std::fmt;

use sekisho_domain::code::Code;
use sekisho_domain::{slack, timestamp};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::json;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use crate::chat;
use crate::error::Error;
use crate::principal::{Kind, Principal};

/// Longest reason, in characters.
const LONGEST_REASON: usize = 500;

/// A complete request, for error messages.
pub(super) const EXAMPLE: &str = r#"{"user":"prd-user"}"#;

pub(super) fn invalid<T>(message: impl Into<String>) -> Result<T, Error> {
    Err(Error::Invalid(message.into()))
}

/// The object's entries in their order, with unparsed values. A map would keep only one of two equal keys, so a
/// repeated field could not be refused.
pub(super) struct Fields<'p>(Vec<(String, &'p RawValue)>);

impl<'p> Fields<'p> {
    pub(super) fn read(payload: &'p str) -> Result<Self, Error> {
        let wrong = match payload.trim_start().chars().next() {
            Some('{') => None,
            Some('[') => Some("a list: write one JSON object such as"),
            Some('"') => Some("a text in quotes: leave out the quotes around the object, as in"),
            _ => Some("not a JSON object: write one JSON object such as"),
        };
        if let Some(wrong) = wrong {
            return invalid(format!("the payload is {wrong} {EXAMPLE}"));
        }
        let fields: Self = match serde_json::from_str(payload) {
            Ok(fields) => fields,
            Err(_) if chat::has_curly_quotes(payload) => {
                return invalid(format!("the payload has curly or wide quotes: type straight ones, as in {EXAMPLE}"));
            }
            Err(error) => {
                return invalid(format!("the payload is not JSON ({error}): write one object such as {EXAMPLE}"));
            }
        };
        for (i, (key, _)) in fields.0.iter().enumerate() {
            if fields.0.iter().take(i).any(|(earlier, _)| earlier == key) {
                return invalid(format!("`{}` is given twice: write it once", slack::quoted(key)));
            }
        }
        Ok(fields)
    }

    /// Refuses every field that is not `known`; `problem` is the part of the message after the field's name, such as
    /// `not a field of revoke`.
    pub(super) fn only(&self, known: &[&str], problem: &str) -> Result<(), Error> {
        match self.0.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some((key, _)) => {
                let key = slack::quoted(key);
                invalid(format!("`{key}` is {problem}: leave it out, or write one of {}", known.join(", ")))
            }
        }
    }

    /// The object without one of its fields, as JSON. The values of the others are not changed.
    pub(super) fn without(&self, key: &str) -> String {
        let others = self.0.iter().filter(|(known, _)| known != key);
        let others: Vec<String> = others.map(|(key, value)| format!("{}:{value}", json!(key))).collect();
        format!("{{{}}}", others.join(","))
    }

    pub(super) fn get(&self, key: &str) -> Option<&'p str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.get())
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<String>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        // A JSON string may be invalid text: `"\ud800"` is half a character.
        match serde_json::from_str::<String>(value) {
            Ok(text) => Ok(Some(chat::as_typed(&text))),
            Err(_) if value.starts_with('"') => invalid(format!("`{key}` contains half a character: type it again")),
            Err(_) => invalid(format!("`{key}` is {}: write a text in quotes, or leave it out", type_of(value))),
        }
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool, Error> {
        match self.get(key) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => invalid(format!("`{key}` is {}: write true or false, without quotes", type_of(other))),
        }
    }

    pub(super) fn minutes(&self) -> Result<Option<u64>, Error> {
        let Some(value) = self.get("minutes") else { return Ok(None) };
        let fix = "write a whole number, at least 1, without quotes";
        if !value.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
            return invalid(format!("`minutes` is {}: {fix}", type_of(value)));
        }
        if value.contains(['.', 'e', 'E']) {
            return invalid(format!("`minutes` is {}, which is not a whole number: {fix}", slack::quoted(value)));
        }
        // A number beyond u64 becomes u64::MAX, which the check against the configuration refuses.
        match value.parse::<i128>() {
            Ok(number) if number < 1 => invalid(format!("`minutes` is {number}: {fix}")),
            Ok(number) => Ok(Some(u64::try_from(number).unwrap_or(u64::MAX))),
            Err(_) if value.starts_with('-') => invalid(format!("`minutes` is below zero: {fix}")),
            Err(_) => Ok(Some(u64::MAX)),
        }
    }

    /// A time with an offset. Its fraction of a second is cut off.
    pub(super) fn time(&self, key: &str) -> Result<Option<OffsetDateTime>, Error> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let at = timestamp::parse_any(&text).filter(|_| text.contains('T'));
        let at = at.and_then(|at| at.replace_nanosecond(0).ok());
        match at {
            Some(at) => Ok(Some(at)),
            None => invalid(format!(
                "`{key}` is `{}`: write a time with its offset from UTC, such as 2026-12-01T22:00:00+09:00",
                slack::quoted(&text)
            )),
        }
    }

    /// The code of a request, which this field has to have.
    pub(super) fn code(&self, key: &str) -> Result<Code, Error> {
        let Some(text) = self.text(key)? else {
            return invalid(format!("`{key}` is missing: add the code of the request, such as \"{key}\":\"7KQ2M9XA\""));
        };
        text.trim().parse().map_err(|malformed| Error::Invalid(format!("`{key}`: {malformed}")))
    }

    pub(super) fn reason(&self) -> Result<Option<String>, Error> {
        let reason = self.text("reason")?;
        let length = reason.as_ref().map_or(0, |reason| reason.chars().count());
        if length > LONGEST_REASON {
            return invalid(format!("`reason` has {length} characters: write at most {LONGEST_REASON}"));
        }
        Ok(reason)
    }

    pub(super) fn principal(&self, action: &str) -> Result<Principal, Error> {
        let kinds = [Kind::User, Kind::Role, Kind::Person];
        let mut named = Vec::new();
        for kind in kinds {
            named.extend(self.text(kind.as_str())?.map(|name| (kind, name)));
        }
        let (kind, name) = match named.as_slice() {
            [one] => one,
            [(one, _), (other, _), ..] => {
                return invalid(format!(
                    "`{}` and `{}` are both given: write one of them",
                    one.as_str(),
                    other.as_str()
                ));
            }
            [] => {
                return invalid(format!(
                    "`user`, `role` or `person` is missing in this {action}: add one of them, such as \
                     \"user\":\"prd-user\"; {{\"action\":\"help\"}} shows all fields"
                ));
            }
        };
        Principal::new(*kind, name).map_err(|why| Error::Invalid(format!("`{}` {why}", kind.as_str())))
    }
}

impl<'de: 'p, 'p> Deserialize<'de> for Fields<'p> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Vec<(String, &'de RawValue)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Entries).map(Fields)
    }
}

/// The type of a JSON value, for a message.
fn type_of(value: &str) -> &'static str {
    match value.chars().next() {
        Some('"') => "a text",
        Some('{') => "an object",
        Some('[') => "a list",
        Some('t' | 'f') => "true or false",
        Some('n') => "null",
        _ => "a number",
    }
}
