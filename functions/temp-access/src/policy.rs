//! The inline policy of a grant: how it is written, how large it is, and what an existing one is worth.

use sekisho_domain::access::{Access, Profile, ProfileName, Statement};
use sekisho_domain::timestamp;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::principal::Kind;
use crate::window::{LEEWAY, Window};

/// All policies of ours are named so, followed by the profile.
pub const PREFIX: &str = "sekisho-";

const CURRENT_TIME: &str = "aws:CurrentTime";
const AFTER: &str = "DateGreaterThan";
const BEFORE: &str = "DateLessThan";

/// The name of a profile's policy: there is one for each principal and profile.
#[must_use]
pub fn name(profile: &ProfileName) -> String {
    format!("{PREFIX}{profile}")
}

/// The policy's text: the profile's statements, each with the window and the profile's conditions.
#[must_use]
pub fn document(profile: &Profile, window: Window) -> String {
    let statements: Vec<Value> = profile.statements.iter().map(|statement| allow(profile, statement, window)).collect();
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

fn allow(profile: &Profile, statement: &Statement, window: Window) -> Value {
    let mut condition = json!({
        AFTER: {CURRENT_TIME: timestamp::seconds(window.start - LEEWAY)},
        BEFORE: {CURRENT_TIME: timestamp::seconds(window.end)},
    });
    if let Some(condition) = condition.as_object_mut() {
        if profile.require_mfa {
            condition.insert("Bool".to_owned(), json!({"aws:MultiFactorAuthPresent": "true"}));
        }
        if !profile.source_ips.is_empty() {
            let ranges = one_or_many(profile.source_ips.iter().map(sekisho_domain::access::SourceIp::as_str));
            condition.insert("IpAddress".to_owned(), json!({"aws:SourceIp": ranges}));
        }
    }
    json!({
        "Effect": "Allow",
        "Action": one_or_many(statement.actions.iter().map(sekisho_domain::access::Action::as_str)),
        "Resource": one_or_many(statement.resources.iter().map(sekisho_domain::access::Resource::as_str)),
        "Condition": condition,
    })
}

/// One value stands without brackets: a user's policies have 2,048 characters in all.
fn one_or_many<'a>(values: impl Iterator<Item = &'a str>) -> Value {
    let values: Vec<&str> = values.collect();
    match values.as_slice() {
        [one] => json!(one),
        many => json!(many),
    }
}

/// A policy's size as IAM counts it: characters, white space aside.
#[must_use]
pub fn size(document: &str) -> usize {
    document.chars().filter(|c| !c.is_ascii_whitespace()).count()
}

/// What an existing policy under our name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// A grant: every Allow in it ends.
    Grant(Window),
    /// Somebody else wrote it, since something in it never ends, or has an end that we would not write. Why.
    Foreign(&'static str),
    /// Somebody else wrote it, and it gives no access: it only denies.
    Denies,
}

/// Reads a policy of our name. What cannot be read is not ours: it is left alone, and told.
#[must_use]
pub fn read(document: &str) -> Reading {
    let Ok(document) = serde_json::from_str::<Value>(document) else {
        return Reading::Foreign("it is no JSON");
    };
    let statements = match document.get("Statement") {
        Some(Value::Array(statements)) => statements.as_slice(),
        Some(one @ Value::Object(_)) => std::slice::from_ref(one),
        _ => return Reading::Foreign("it has no statements"),
    };
    let mut whole: Option<Window> = None;
    for statement in statements.iter().filter(|one| one.get("Effect").and_then(Value::as_str) != Some("Deny")) {
        let Some(end) = limit(statement, BEFORE) else {
            return Reading::Foreign("it has an Allow without DateLessThan on aws:CurrentTime");
        };
        // Without a first start the chain has lasted forever: such a grant is not extended, only ended.
        let start = limit(statement, AFTER).map_or(OffsetDateTime::UNIX_EPOCH, |start| start.saturating_add(LEEWAY));
        whole = Some(whole.map_or(Window { start, end }, |so_far| Window {
            start: so_far.start.min(start),
            end: so_far.end.max(end),
        }));
    }
    whole.map_or(Reading::Denies, Reading::Grant)
}

fn limit(statement: &Value, operator: &str) -> Option<OffsetDateTime> {
    timestamp::parse_seconds(statement.get("Condition")?.get(operator)?.get(CURRENT_TIME)?.as_str()?)
}

/// Finds a profile that no principal's inline policies have room for; key and reason of the first one.
///
/// # Errors
/// Where there is one.
pub fn check(access: &Access) -> Result<(), (String, String)> {
    // Every timestamp has the same length, so any window tells the size.
    let any = Window { start: OffsetDateTime::UNIX_EPOCH, end: OffsetDateTime::UNIX_EPOCH };
    let most = Kind::Role.policy_limit();
    for (name, profile) in &access.profiles {
        let size = size(&document(profile, any));
        if size > most {
            let reason = format!(
                "its policy has {size} characters, {} more than an inline policy may: use globs, or split the profile",
                size - most
            );
            return Err((format!("access.profiles.{name}"), reason));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sekisho_domain::config::Document;
    use time::macros::datetime;

    const WINDOW: Window = Window { start: datetime!(2026-11-21 20:45 UTC), end: datetime!(2026-11-21 23:45 UTC) };

    fn access() -> Access {
        Document::parse("sekisho.toml", include_str!("../../../config/sekisho.toml")).unwrap().access().unwrap()
    }

    fn written(profile: &str) -> Value {
        let access = access();
        let profile = &access.profiles[&profile.parse::<ProfileName>().unwrap()];
        serde_json::from_str(&document(profile, WINDOW)).unwrap()
    }

    #[test]
    fn every_statement_has_the_window() {
        assert_eq!(
            written("admin"),
            json!({"Version": "2012-10-17", "Statement": [{
                "Effect": "Allow", "Action": "*", "Resource": "*",
                "Condition": {
                    "DateGreaterThan": {"aws:CurrentTime": "2026-11-21T20:43:00Z"},
                    "DateLessThan": {"aws:CurrentTime": "2026-11-21T23:45:00Z"},
                },
            }]})
        );
    }

    #[test]
    fn second_factor_and_addresses_are_conditions_of_every_statement() {
        let statement = &written("read-only")["Statement"][0];
        assert_eq!(statement["Action"], json!(["ec2:Describe*", "logs:Get*"]));
        assert_eq!(statement["Condition"]["Bool"], json!({"aws:MultiFactorAuthPresent": "true"}));
        assert_eq!(statement["Condition"]["IpAddress"], json!({"aws:SourceIp": "203.0.113.0/24"}));
        assert_eq!(statement["Condition"]["DateLessThan"], json!({"aws:CurrentTime": "2026-11-21T23:45:00Z"}));
    }

    #[test]
    fn what_is_written_is_read_back() {
        for profile in access().profiles.values() {
            assert_eq!(read(&document(profile, WINDOW)), Reading::Grant(WINDOW));
        }
    }

    #[test]
    fn what_never_ends_is_not_ours() {
        let end = r#""DateLessThan":{"aws:CurrentTime":"2026-11-21T23:45:00Z"}"#;
        let cases = [
            "",
            "{}",
            r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#,
            r#"{"Statement":[{"Effect":"Allow","Condition":{"DateLessThan":{"aws:CurrentTime":"soon"}}}]}"#,
            r#"{"Statement":[{"Effect":"Allow","Condition":{"DateLessThanIfExists":{"aws:CurrentTime":"2026-11-21T23:45:00Z"}}}]}"#,
            r#"{"Statement":[{"Effect":"Allow","Condition":{"DateLessThan":{"aws:TokenIssueTime":"2026-11-21T23:45:00Z"}}}]}"#,
            &format!(r#"{{"Statement":[{{"Effect":"Allow","Condition":{{{end}}}}},{{"Effect":"Allow"}}]}}"#),
        ];
        for document in cases {
            assert!(matches!(read(document), Reading::Foreign(_)), "{document}");
        }
        let without_start = format!(r#"{{"Statement":{{"Effect":"Allow","Condition":{{{end}}}}}}}"#);
        assert_eq!(read(&without_start), Reading::Grant(Window { start: OffsetDateTime::UNIX_EPOCH, end: WINDOW.end }));
    }

    #[test]
    fn what_only_denies_is_not_without_an_end() {
        for document in [r#"{"Statement":[]}"#, r#"{"Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}"#] {
            assert_eq!(read(document), Reading::Denies, "{document}");
        }
    }

    #[test]
    fn white_space_is_not_counted() {
        // IAM takes U+00A0 in a policy's text, and it is a character as any other.
        assert_eq!(size("\u{a0}"), 1);
        assert_eq!(size("{ \"a\" :\t\"é\"\r\n}"), 9);
    }

    #[test]
    fn a_profile_that_fits_nowhere_is_named() {
        assert_eq!(check(&access()), Ok(()));
        let many: Vec<String> = (0..600).map(|i| format!("\"service{i}:DoThis*\"")).collect();
        let text = format!(
            "[access]\ndefault_minutes = 1\nmax_minutes = 1\ndefault_profile = \"big\"\n\
             [access.profiles.big]\nstatements = [{{ actions = [{}], resources = [\"*\"] }}]",
            many.join(",")
        );
        let (key, reason) = check(&Document::parse("sekisho.toml", &text).unwrap().access().unwrap()).unwrap_err();
        assert_eq!(key, "access.profiles.big");
        assert!(reason.contains("more than an inline policy may"), "{reason}");
    }
}
