//! The meaning of an existing policy: whether and when the access that it gives ends.

use sekisho_domain::timestamp;
use serde_json::Value;
use time::OffsetDateTime;

use super::{AFTER, BEFORE, CURRENT_TIME, EPOCH_TIME};
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
        // All conditions of a statement must hold, so the earliest end counts.
        let Some(end) = times(statement, BEFORE).into_iter().filter_map(|times| times.values.into_iter().max()).min()
        else {
            return Reading::OpenEnded("it has an Allow without DateLessThan on aws:CurrentTime");
        };
        // A policy without a start is read as if its chain had begun in 1970. The chain is then longer than any
        // configuration allows, so no grant can extend the access. Only `FROM` is written without a leeway.
        let starts = times(statement, AFTER).into_iter().filter_map(|times| {
            let start = times.values.into_iter().min()?;
            Some(if times.is_inclusive { start } else { start.saturating_add(LEEWAY) })
        });
        let start = starts.max().unwrap_or(OffsetDateTime::UNIX_EPOCH);
        whole = Some(whole.map_or(Window { start, end }, |so_far| Window {
            start: so_far.start.min(start),
            end: so_far.end.max(end),
        }));
    }
    whole.map_or(Reading::DenyOnly, Reading::Grant)
}

/// The times to which one condition compares the current time.
struct Times {
    values: Vec<OffsetDateTime>,
    /// Whether the condition also holds at the time itself.
    is_inclusive: bool,
}

/// The times to which each condition of a statement compares the current time. IAM ignores the case of a key, and a
/// condition holds if it holds for one of several values. A condition with a value that is no time is left out.
fn times(statement: &Value, operator: &str) -> Vec<Times> {
    let operators = statement.get("Condition").and_then(Value::as_object).into_iter().flatten();
    let conditions = operators.filter_map(|(written, keys)| Some((comparison(written, operator)?, keys.as_object()?)));
    let values = conditions.flat_map(|(how, keys)| keys.iter().map(move |(key, value)| (how, key, value)));
    let compared = values.filter(|(how, key, _)| {
        how.is_of_dates && key.eq_ignore_ascii_case(CURRENT_TIME) || key.eq_ignore_ascii_case(EPOCH_TIME)
    });
    let times = compared.filter_map(|(how, _, value)| {
        let values = match value {
            Value::Array(values) => values.iter().map(time).collect::<Option<_>>()?,
            one => vec![time(one)?],
        };
        Some(Times { values, is_inclusive: how.is_inclusive })
    });
    times.collect()
}

/// How an operator compares.
#[derive(Clone, Copy)]
struct Comparison {
    /// Whether it compares dates; otherwise, it compares numbers.
    is_of_dates: bool,
    /// Whether it also holds for equal values.
    is_inclusive: bool,
}

/// How an operator compares, if it does so like `operator`, which compares dates. The current time always exists and has
/// one value, so `IfExists`, `ForAnyValue` and `ForAllValues` change nothing.
fn comparison(written: &str, operator: &str) -> Option<Comparison> {
    let plain = written.strip_prefix("ForAnyValue:").or_else(|| written.strip_prefix("ForAllValues:"));
    let plain = plain.unwrap_or(written);
    let plain = plain.strip_suffix("IfExists").unwrap_or(plain);
    let exclusive = plain.strip_suffix("Equals");
    let is_inclusive = exclusive.is_some();
    let plain = exclusive.unwrap_or(plain);
    let (date, number) = (plain.strip_prefix("Date"), plain.strip_prefix("Numeric"));
    let wanted = operator.strip_prefix("Date");
    (date.or(number) == wanted).then_some(Comparison { is_of_dates: date.is_some(), is_inclusive })
}

/// Reads a time in one of the spellings that IAM understands: ISO 8601, from a year alone to fractions of a second, or
/// seconds since 1970.
fn time(value: &Value) -> Option<OffsetDateTime> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let is_number = !whole.is_empty() && [whole, fraction].iter().all(|part| part.bytes().all(|b| b.is_ascii_digit()));
    match (is_number, whole.len()) {
        // A few digits are a date rather than a second of the year 1970. Read as a second, it would seem to have
        // passed.
        (true, 4) => timestamp::parse_any(&format!("{whole}-01-01")),
        (true, 8) => timestamp::parse_any(whole),
        (true, _) => OffsetDateTime::from_unix_timestamp(whole.parse().ok()?).ok(),
        (false, _) => timestamp::parse_any(&text).or_else(|| timestamp::parse_any(&format!("{text}-01"))),
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
            for now in [WINDOW.start - time::Duration::SECOND, WINDOW.start, WINDOW.end] {
                assert_eq!(read(&document(profile, WINDOW, now)), Reading::Grant(WINDOW), "{now}");
            }
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
            r#""1795304700.5""#,
            "1795304700.5",
            r#""2026-11-22T08:45:00+0900""#,
            r#""2026-11-22T08:45+09""#,
            r#""20261121T234500Z""#,
            r#""20261121T2345Z""#,
            r#"["2026-11-21T23:45:00Z"]"#,
            r#"["2026-11-21T23:45:00Z","2026-11-21T20:00:00Z"]"#,
        ];
        for end in same {
            let expected = Window { start: OffsetDateTime::UNIX_EPOCH, end: WINDOW.end };
            assert_eq!(read(&ending(end)), Reading::Grant(expected), "{end}");
        }
        let days = [
            ("2026-11-21", datetime!(2026-11-21 00:00 UTC)),
            ("20261121", datetime!(2026-11-21 00:00 UTC)),
            ("2099-12", datetime!(2099-12-01 00:00 UTC)),
            ("2099", datetime!(2099-01-01 00:00 UTC)),
        ];
        for (text, end) in days {
            let expected = Window { start: OffsetDateTime::UNIX_EPOCH, end };
            assert_eq!(read(&ending(&format!("\"{text}\""))), Reading::Grant(expected), "{text}");
        }
        let lower = ending(r#""2026-11-21T23:45:00Z""#).replace("CurrentTime", "currenttime");
        assert!(matches!(read(&lower), Reading::Grant(_)));
    }

    /// Each of these conditions limits the access, whoever wrote it.
    #[test]
    fn an_end_is_read_with_every_operator_and_key() {
        let document =
            |condition: &str| read(&format!(r#"{{"Statement":{{"Effect":"Allow","Condition":{{{condition}}}}}}}"#));
        let expected = Reading::Grant(Window { start: OffsetDateTime::UNIX_EPOCH, end: WINDOW.end });
        for condition in [
            r#""DateLessThanEquals":{"aws:CurrentTime":"2026-11-21T23:45:00Z"}"#,
            r#""DateLessThanIfExists":{"aws:CurrentTime":"2026-11-21T23:45:00Z"}"#,
            r#""ForAnyValue:DateLessThan":{"aws:CurrentTime":"2026-11-21T23:45:00Z"}"#,
            r#""DateLessThan":{"aws:EpochTime":"1795304700"}"#,
            r#""NumericLessThan":{"aws:MultiFactorAuthAge":"60","aws:EpochTime":1795304700}"#,
            r#""NumericLessThanEquals":{"aws:epochtime":"1795304700"}"#,
            r#""DateLessThan":{"aws:CurrentTime":"2099"},"NumericLessThan":{"aws:EpochTime":1795304700}"#,
        ] {
            assert_eq!(document(condition), expected, "{condition}");
        }
        for condition in [
            r#""NumericLessThan":{"aws:MultiFactorAuthAge":"1795304700"}"#,
            r#""NumericLessThan":{"aws:CurrentTime":"1795304700"}"#,
            r#""DateGreaterThan":{"aws:CurrentTime":"2026-11-21T23:45:00Z"}"#,
            r#""DateNotEquals":{"aws:CurrentTime":"2026-11-21T23:45:00Z"}"#,
            r#""Equals":{"aws:CurrentTime":"2026-11-21T23:45:00Z"}"#,
        ] {
            assert!(matches!(document(condition), Reading::OpenEnded(_)), "{condition}");
        }
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
