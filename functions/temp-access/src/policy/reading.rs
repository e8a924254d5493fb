//! The meaning of an existing policy: whether and when the access that it gives ends.

use sekisho_domain::timestamp;
use serde_json::Value;
use time::OffsetDateTime;

use super::{AFTER, BEFORE, CURRENT_TIME};
use crate::window::{LEEWAY, Window};

/// The meaning of an existing policy whose name begins with `sekisho-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// Every Allow in the policy has an end.
    Grant(Window),
    /// An Allow has no end that could be read. The text says how this was recognized.
    OpenEnded(&'static str),
    /// The policy gives no access, because it only denies.
    DenyOnly,
}

/// Reads a policy whose name begins with `sekisho-`. A policy that cannot be read counts as one without an end.
#[must_use]
pub fn read(document: &str) -> Reading {
    let Ok(document) = serde_json::from_str::<Value>(document) else {
        return Reading::OpenEnded("it is not JSON");
    };
    let statements = match document.get("Statement") {
        Some(Value::Array(statements)) => statements.as_slice(),
        Some(one @ Value::Object(_)) => std::slice::from_ref(one),
        _ => return Reading::OpenEnded("it has no statements"),
    };
    let mut whole: Option<Window> = None;
    for statement in statements.iter().filter(|one| one.get("Effect").and_then(Value::as_str) != Some("Deny")) {
        let Some(end) = times(statement, BEFORE).and_then(|times| times.into_iter().max()) else {
            return Reading::OpenEnded("it has an Allow without DateLessThan on aws:CurrentTime");
        };
        // A policy without a start is read as if its chain had begun in 1970. The chain is then longer than any
        // configuration allows, so no grant can extend the access.
        let start = times(statement, AFTER).and_then(|times| times.into_iter().min());
        let start = start.map_or(OffsetDateTime::UNIX_EPOCH, |start| start.saturating_add(LEEWAY));
        whole = Some(whole.map_or(Window { start, end }, |so_far| Window {
            start: so_far.start.min(start),
            end: so_far.end.max(end),
        }));
    }
    whole.map_or(Reading::DenyOnly, Reading::Grant)
}

/// The times to which a statement compares the current time. IAM ignores the case of a key, and the condition holds if
/// it holds for one of several values. Returns `None` if there is no such condition, or if one of its values is no
/// time.
fn times(statement: &Value, operator: &str) -> Option<Vec<OffsetDateTime>> {
    let keys = statement.get("Condition")?.get(operator)?.as_object()?;
    let (_, value) = keys.iter().find(|(key, _)| key.eq_ignore_ascii_case(CURRENT_TIME))?;
    match value {
        Value::Array(values) => values.iter().map(time).collect(),
        one => Some(vec![time(one)?]),
    }
}

/// Reads a time in one of the spellings that IAM understands: RFC 3339, a date alone, or seconds since 1970.
fn time(value: &Value) -> Option<OffsetDateTime> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let is_number = text.bytes().all(|b| b.is_ascii_digit());
    let seconds = is_number.then(|| text.parse().ok()).flatten().map(OffsetDateTime::from_unix_timestamp);
    match seconds {
        Some(time) => time.ok(),
        None => timestamp::parse_any(&text),
    }
}

#[cfg(test)]
mod tests {
    use sekisho_domain::config::Document;
    use time::macros::datetime;

    use super::*;
    use crate::policy::document;

    const WINDOW: Window = Window { start: datetime!(2026-11-21 20:45 UTC), end: datetime!(2026-11-21 23:45 UTC) };

    fn ending(end: &str) -> String {
        format!(r#"{{"Statement":{{"Effect":"Allow","Condition":{{"DateLessThan":{{"aws:CurrentTime":{end}}}}}}}}}"#)
    }

    #[test]
    fn a_written_policy_is_read_back_with_its_window() {
        let text = include_str!("../../../../config/sekisho.toml");
        let access = Document::parse("sekisho.toml", text).unwrap().access().unwrap();
        for profile in access.profiles.values() {
            assert_eq!(read(&document(profile, WINDOW)), Reading::Grant(WINDOW));
        }
    }

    /// Somebody may have written the end by hand.
    #[test]
    fn an_end_is_read_in_every_spelling_that_iam_understands() {
        let same = [
            r#""2026-11-21T23:45:00Z""#,
            r#""2026-11-22T08:45:00+09:00""#,
            r#""2026-11-21T23:45:00.000Z""#,
            r#""2026-11-21T23:45Z""#,
            r#""1795304700""#,
            "1795304700",
            r#"["2026-11-21T23:45:00Z"]"#,
            r#"["2026-11-21T23:45:00Z","2026-11-21T20:00:00Z"]"#,
        ];
        for end in same {
            let expected = Window { start: OffsetDateTime::UNIX_EPOCH, end: WINDOW.end };
            assert_eq!(read(&ending(end)), Reading::Grant(expected), "{end}");
        }
        let midnight = Window { start: OffsetDateTime::UNIX_EPOCH, end: datetime!(2026-11-21 00:00 UTC) };
        assert_eq!(read(&ending(r#""2026-11-21""#)), Reading::Grant(midnight));
        let lower = ending(r#""2026-11-21T23:45:00Z""#).replace("CurrentTime", "currenttime");
        assert!(matches!(read(&lower), Reading::Grant(_)));
    }

    #[test]
    fn a_policy_that_never_ends_is_open_ended() {
        let end = r#""DateLessThan":{"aws:CurrentTime":"2026-11-21T23:45:00Z"}"#;
        let cases = [
            "",
            "{}",
            r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#,
            &ending(r#""soon""#),
            &ending("null"),
            &ending("[]"),
            &ending(r#"["2026-11-21T23:45:00Z","soon"]"#),
            &ending("99999999999999999"),
            &format!(
                r#"{{"Statement":[{{"Effect":"Allow","Condition":{{{}}}}}]}}"#,
                end.replace("Than", "ThanIfExists")
            ),
            &format!(
                r#"{{"Statement":[{{"Effect":"Allow","Condition":{{{}}}}}]}}"#,
                end.replace("Current", "TokenIssue")
            ),
            &format!(r#"{{"Statement":[{{"Effect":"Allow","Condition":{{{end}}}}},{{"Effect":"Allow"}}]}}"#),
        ];
        for document in cases {
            assert!(matches!(read(document), Reading::OpenEnded(_)), "{document}");
        }
    }

    #[test]
    fn a_policy_that_only_denies_gives_no_access() {
        for document in [r#"{"Statement":[]}"#, r#"{"Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}"#] {
            assert_eq!(read(document), Reading::DenyOnly, "{document}");
        }
    }
}
