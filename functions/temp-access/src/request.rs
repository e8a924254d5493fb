//! The payload of an invocation: a person's request, or the schedule's sweep.
//!
//! A request is one JSON object with known fields. Each field occurs at most once and has its own type. Nothing is
//! corrected silently: the answer to a mistyped request says in one line what to write instead.

use std::fmt;

use sekisho_domain::slack;
use sekisho_lambda::event::SCHEDULE_SOURCE;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::chat;
use crate::error::Error;
use crate::principal::{Kind, Principal};

/// Longest reason, in characters.
const LONGEST_REASON: usize = 500;

/// The end of the ARN of the rule for follow-ups.
const FOLLOW_UP_RULE: &str = ":rule/sekisho-access-follow-up";

const EXAMPLE: &str = r#"{"user":"prd-user"}"#;
const REQUEST_FIELDS: [&str; 7] = ["action", "user", "role", "minutes", "profile", "reason", "dry_run"];
/// The fields of an EventBridge event. Only an event has the field `source`.
const SCHEDULE_FIELDS: [&str; 9] =
    ["version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"];

/// The request of an invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// Give a principal access.
    Grant(Grant),
    /// End all access of a principal.
    Revoke(Revoke),
    /// List everybody with access.
    List,
    /// Show the help text.
    Help,
    /// Remove policies that have ended, and then follow up (the event of the schedule every 15 minutes).
    Sweep,
    /// End the sessions of grants that have ended, and send notices that are missing (the event of the schedule every
    /// minute).
    FollowUp,
}

/// A request to give a principal access. The configuration supplies the values that the request leaves out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The user or role that gets access.
    pub principal: Principal,
    /// The length in minutes, at least 1; it may exceed what the configuration allows.
    pub minutes: Option<u64>,
    /// The name of the profile.
    pub profile: Option<String>,
    /// The reason, as it was typed.
    pub reason: Option<String>,
    /// Whether the request only shows what it would do.
    pub dry_run: bool,
}

/// A request to end all access of a principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revoke {
    /// The user or role that loses access.
    pub(crate) principal: Principal,
    /// The reason, as it was typed.
    pub(crate) reason: Option<String>,
    /// Whether the request only shows what it would do.
    pub(crate) dry_run: bool,
}

impl Request {
    /// The principal that the request names.
    pub(crate) fn principal(&self) -> Option<&Principal> {
        match self {
            Self::Grant(grant) => Some(&grant.principal),
            Self::Revoke(revoke) => Some(&revoke.principal),
            Self::List | Self::Help | Self::Sweep | Self::FollowUp => None,
        }
    }

    /// Whether the request only shows what it would do.
    pub(crate) fn is_dry_run(&self) -> bool {
        match self {
            Self::Grant(grant) => grant.dry_run,
            Self::Revoke(revoke) => revoke.dry_run,
            Self::List | Self::Help | Self::Sweep | Self::FollowUp => false,
        }
    }
}

/// Reads a payload.
///
/// # Errors
/// [`Error::Invalid`] if the payload is not a request. The error's text says what to write instead.
pub(crate) fn parse(payload: &str) -> Result<Request, Error> {
    let payload = chat::with_plain_spaces(payload);
    let fields = Fields::read(&payload)?;
    if fields.get("source").is_some() {
        return schedule(&fields);
    }
    fields.only(&REQUEST_FIELDS, "not a field of a request")?;
    match fields.text("action")?.as_deref() {
        None | Some("grant") => Ok(Request::Grant(Grant {
            principal: fields.principal("grant")?,
            minutes: fields.minutes()?,
            profile: fields.text("profile")?,
            reason: fields.reason()?,
            dry_run: fields.flag("dry_run")?,
        })),
        Some("revoke") => {
            // A revoke ends the access of all profiles. If a request named one profile, people would expect that the
            // others stay.
            fields.only(&["action", "user", "role", "reason", "dry_run"], "not a field of revoke")?;
            Ok(Request::Revoke(Revoke {
                principal: fields.principal("revoke")?,
                reason: fields.reason()?,
                dry_run: fields.flag("dry_run")?,
            }))
        }
        Some("list") => fields.only(&["action"], "not a field of list").map(|()| Request::List),
        Some("help") => fields.only(&["action"], "not a field of help").map(|()| Request::Help),
        Some(other) => invalid(format!("`action` is `{}`: write grant, revoke, list or help", slack::quoted(other))),
    }
}

fn schedule(fields: &Fields) -> Result<Request, Error> {
    fields.only(&SCHEDULE_FIELDS, "not a field of a schedule's event")?;
    match fields.text("source")?.as_deref() {
        Some(SCHEDULE_SOURCE) => {
            // The two schedules differ only in their rules. The event of an unknown rule asks for the larger task.
            let rules = fields.get("resources").and_then(|rules| serde_json::from_str::<Vec<String>>(rules).ok());
            let is_follow_up = rules.is_some_and(|rules| rules.iter().any(|rule| rule.ends_with(FOLLOW_UP_RULE)));
            Ok(if is_follow_up { Request::FollowUp } else { Request::Sweep })
        }
        _ => invalid(format!(
            "the event's source is not {SCHEDULE_SOURCE}: send a schedule's event, or a request such as {EXAMPLE}"
        )),
    }
}

fn invalid<T>(message: impl Into<String>) -> Result<T, Error> {
    Err(Error::Invalid(message.into()))
}

/// The object's entries in their order, with unparsed values. A map would keep only one of two equal keys, so a
/// repeated field could not be refused.
struct Fields<'p>(Vec<(String, &'p RawValue)>);

impl<'p> Fields<'p> {
    fn read(payload: &'p str) -> Result<Self, Error> {
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
    fn only(&self, known: &[&str], problem: &str) -> Result<(), Error> {
        match self.0.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some((key, _)) => {
                let key = slack::quoted(key);
                invalid(format!("`{key}` is {problem}: leave it out, or write one of {}", known.join(", ")))
            }
        }
    }

    fn get(&self, key: &str) -> Option<&'p str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.get())
    }

    fn text(&self, key: &str) -> Result<Option<String>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        // A JSON string may be invalid text: `"\ud800"` is half a character.
        match serde_json::from_str::<String>(value) {
            Ok(text) => Ok(Some(chat::as_typed(&text))),
            Err(_) if value.starts_with('"') => invalid(format!("`{key}` contains half a character: type it again")),
            Err(_) => invalid(format!("`{key}` is {}: write a text in quotes, or leave it out", type_of(value))),
        }
    }

    fn flag(&self, key: &str) -> Result<bool, Error> {
        match self.get(key) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => invalid(format!("`{key}` is {}: write true or false, without quotes", type_of(other))),
        }
    }

    fn minutes(&self) -> Result<Option<u64>, Error> {
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

    fn reason(&self) -> Result<Option<String>, Error> {
        let reason = self.text("reason")?;
        let length = reason.as_ref().map_or(0, |reason| reason.chars().count());
        if length > LONGEST_REASON {
            return invalid(format!("`reason` has {length} characters: write at most {LONGEST_REASON}"));
        }
        Ok(reason)
    }

    fn principal(&self, action: &str) -> Result<Principal, Error> {
        let (key, kind, name) = match (self.text("user")?, self.text("role")?) {
            (Some(user), None) => ("user", Kind::User, user),
            (None, Some(role)) => ("role", Kind::Role, role),
            (Some(_), Some(_)) => return invalid("`user` and `role` are both given: write one of them"),
            (None, None) => {
                return invalid(format!(
                    "`user` or `role` is missing in this {action}: add one of them, such as \"user\":\"prd-user\"; \
                     {{\"action\":\"help\"}} shows all fields"
                ));
            }
        };
        Principal::new(kind, &name).map_err(|why| Error::Invalid(format!("`{key}` {why}")))
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grant(payload: &str) -> Grant {
        match parse(payload).unwrap() {
            Request::Grant(grant) => grant,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_with_only_a_user_is_complete() {
        let grant = grant(r#"{"user":"prd-user"}"#);
        assert_eq!(grant.principal.to_string(), "user prd-user");
        assert_eq!((grant.minutes, grant.profile, grant.reason, grant.dry_run), (None, None, None, false));
    }

    #[test]
    fn what_chat_mangles_is_understood() {
        let mailto = r#"{"user":"<mailto:hana@example.com|hana@example.com>"}"#;
        assert_eq!(grant(mailto).principal.name(), "hana@example.com");
        let spaces = "{\u{a0}\"user\":\u{a0}\"prd-user\",\u{2003}\"minutes\":\u{3000}30}";
        assert_eq!(grant(spaces).minutes, Some(30));
        let reason = grant(r#"{"user":"a","reason":"the “shop” isn’t up &amp; <http://api.example|api.example> is"}"#);
        assert_eq!(reason.reason.as_deref(), Some("the “shop” isn’t up & api.example is"));
        // The quotes inside the reason are not the problem.
        let Err(Error::Invalid(message)) = parse(r#"{"user":"a","reason":"isn’t up""#) else { panic!("accepted") };
        assert!(message.contains("not JSON"), "{message}");
    }

    #[test]
    fn all_fields_are_read() {
        let grant = grant(
            r##" {"action":"grant","role":"ops","minutes":30,"profile":"read-only",
                "reason":"障害対応 \"#42\" 🚒","dry_run":true} "##,
        );
        assert_eq!(grant.principal.to_string(), "role ops");
        assert_eq!((grant.minutes, grant.profile.as_deref(), grant.dry_run), (Some(30), Some("read-only"), true));
        assert_eq!(grant.reason.as_deref(), Some("障害対応 \"#42\" 🚒"));
    }

    #[test]
    fn a_schedules_event_asks_for_a_sweep_or_a_follow_up() {
        let event = r#"{"version":"0","id":"x","detail-type":"Scheduled Event","source":"aws.events",
            "account":"333333333333","time":"2026-11-21T00:00:00Z","region":"ap-northeast-1","resources":["arn"],
            "detail":{}}"#;
        assert_eq!(parse(event).unwrap(), Request::Sweep);
        assert_eq!(parse(r#"{"source":"aws.events"}"#).unwrap(), Request::Sweep);
        let rule = "arn:aws:events:ap-northeast-1:333333333333:rule/sekisho-access-follow-up";
        assert_eq!(parse(&event.replace("arn", rule)).unwrap(), Request::FollowUp);
    }

    #[test]
    fn an_invalid_payload_is_refused_with_the_correction() {
        let long = format!(r#"{{"user":"a","reason":"{}"}}"#, "あ".repeat(501));
        let cases = [
            ("", "one JSON object"),
            ("null", "one JSON object"),
            ("3", "one JSON object"),
            (r#"[{"user":"a"}]"#, "a list"),
            (r#""{\"user\":\"a\"}""#, "quotes around the object"),
            ("{“user”:“a”}", "curly or wide quotes"),
            ("{＂user＂:＂a＂}", "wide quotes"),
            (r#"{"user":"a"} {"user":"b"}"#, "not JSON"),
            (r#"{"user":"a""#, "not JSON"),
            ("{}", "`user` or `role` is missing"),
            (r#"{"action":"revoke"}"#, "is missing in this revoke"),
            (r#"{"user":"a","role":"b"}"#, "both given"),
            (r#"{"user":"a","user":"b"}"#, "given twice"),
            (r#"{"user":"a","\u0075ser":"a"}"#, "given twice"),
            (r#"{"usr":"a"}"#, "`usr` is not a field"),
            (r#"{"User":"a"}"#, "`User` is not a field"),
            (r#"{"user":null}"#, "`user` is null"),
            (r#"{"user":["a"]}"#, "`user` is a list"),
            (r#"{"user":7}"#, "`user` is a number"),
            (r#"{"user":""}"#, "`user` is empty"),
            (r#"{"user":"“a”"}"#, "straight quotes"),
            (r#"{"user":"a","minutes":"30"}"#, "`minutes` is a text"),
            (r#"{"user":"a","minutes":null}"#, "`minutes` is null"),
            (r#"{"user":"a","minutes":1.5}"#, "not a whole number"),
            (r#"{"user":"a","minutes":30.0}"#, "not a whole number"),
            (r#"{"user":"a","minutes":3e1}"#, "not a whole number"),
            (r#"{"user":"a","minutes":0}"#, "at least 1"),
            (r#"{"user":"a","minutes":-5}"#, "at least 1"),
            (r#"{"user":"a","minutes":-99999999999999999999999999999999999999999999}"#, "below zero"),
            (r#"{"user":"a","profile":1}"#, "`profile` is a number"),
            (r#"{"user":"a","dry_run":"true"}"#, "`dry_run` is a text"),
            (r#"{"user":"a","dry_run":1}"#, "`dry_run` is a number"),
            (r#"{"user":"a","reason":{}}"#, "`reason` is an object"),
            (r#"{"user":"a","reason":"\ud800"}"#, "half a character"),
            (&long, "at most 500"),
            (r#"{"action":"Grant","user":"a"}"#, "write grant, revoke, list or help"),
            (r#"{"action":"revoke","user":"a","profile":"admin"}"#, "not a field of revoke"),
            (r#"{"action":"revoke","user":"a","minutes":1}"#, "not a field of revoke"),
            (r#"{"action":"list","user":"a"}"#, "not a field of list"),
            (r#"{"action":"help","user":"a"}"#, "not a field of help"),
            (r#"{"source":"aws.codecommit","detail-type":"x"}"#, "not aws.events"),
            (r#"{"source":"aws.events","user":"a"}"#, "`user` is not a field of a schedule's event"),
        ];
        for (payload, expected) in cases {
            let Err(Error::Invalid(message)) = parse(payload) else { panic!("{payload} was accepted") };
            assert!(message.contains(expected), "{payload}: {message}");
            assert!(!message.contains('\n') && message.len() < 400, "{message}");
        }
    }

    #[test]
    fn no_number_of_minutes_wraps_around() {
        assert_eq!(grant(r#"{"user":"a","minutes":18446744073709551617}"#).minutes, Some(u64::MAX));
        let digits = "9".repeat(60);
        assert_eq!(grant(&format!(r#"{{"user":"a","minutes":{digits}}}"#)).minutes, Some(u64::MAX));
    }

    proptest! {
        #[test]
        fn any_reason_without_marks_of_slack_arrives_as_it_was_typed(
            reason in "[^<>&\\pC]{0,500}|[\u{0}-\u{1f}]{0,20}|[^<>&]{0,500}",
        ) {
            let payload = serde_json::json!({"user": "prd-user", "reason": reason}).to_string();
            prop_assert_eq!(grant(&payload).reason, Some(reason));
        }

        #[test]
        fn any_text_is_a_request_or_a_message(payload in ".{0,200}") {
            let _ = parse(&payload);
        }
    }
}
