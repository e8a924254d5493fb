//! The inline policy of a grant: its text, its size, and the meaning of an existing policy.

use sekisho_domain::access::{Access, Profile, ProfileName, Statement};
use sekisho_domain::timestamp;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::principal::Kind;
use crate::window::{LEEWAY, Window};

/// The name of every policy of ours consists of this prefix and the profile's name.
pub(crate) const PREFIX: &str = "sekisho-";

const CURRENT_TIME: &str = "aws:CurrentTime";
const AFTER: &str = "DateGreaterThan";
const BEFORE: &str = "DateLessThan";

/// The name of a profile's policy. A principal has one policy for each profile.
pub(crate) fn name(profile: &ProfileName) -> String {
    format!("{PREFIX}{profile}")
}

/// The text of a policy: the profile's statements, each with the window and the profile's conditions.
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

/// A single value is written without brackets, because all policies of a user together have only 2,048 characters.
fn one_or_many<'a>(values: impl Iterator<Item = &'a str>) -> Value {
    let values: Vec<&str> = values.collect();
    match values.as_slice() {
        [one] => json!(one),
        many => json!(many),
    }
}

/// The size of a policy as IAM counts it: characters without white space.
#[must_use]
pub fn size(document: &str) -> usize {
    document.chars().filter(|c| !c.is_ascii_whitespace()).count()
}

/// The meaning of an existing policy whose name begins with `sekisho-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// A grant: every Allow in it has an end.
    Grant(Window),
    /// A policy that somebody else wrote, with the reason: an Allow has no end, or an end that Sekisho would not write.
    Foreign(&'static str),
    /// A policy that somebody else wrote and that gives no access, because it only denies.
    DenyOnly,
}

/// Reads a policy whose name begins with `sekisho-`. A policy that cannot be read is treated as foreign, so it is left
/// unchanged and reported.
#[must_use]
pub fn read(document: &str) -> Reading {
    let Ok(document) = serde_json::from_str::<Value>(document) else {
        return Reading::Foreign("it is not JSON");
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
        // A policy without a start is read as if its chain had begun in 1970. The chain is then longer than any
        // configuration allows, so no grant can extend the access.
        let start = limit(statement, AFTER).map_or(OffsetDateTime::UNIX_EPOCH, |start| start.saturating_add(LEEWAY));
        whole = Some(whole.map_or(Window { start, end }, |so_far| Window {
            start: so_far.start.min(start),
            end: so_far.end.max(end),
        }));
    }
    whole.map_or(Reading::DenyOnly, Reading::Grant)
}

fn limit(statement: &Value, operator: &str) -> Option<OffsetDateTime> {
    timestamp::parse_seconds(statement.get("Condition")?.get(operator)?.get(CURRENT_TIME)?.as_str()?)
}

/// Checks that the policy of each profile is small enough for a role, for which IAM has the larger limit.
///
/// # Errors
/// Returns the configuration key of the first profile whose policy is too large, and the reason.
pub(crate) fn check(access: &Access) -> Result<(), (String, String)> {
    // Every timestamp has the same length, so the size is the same for each window.
    let any = Window { start: OffsetDateTime::UNIX_EPOCH, end: OffsetDateTime::UNIX_EPOCH };
    let most = Kind::Role.policy_limit();
    for (name, profile) in &access.profiles {
        let size = size(&document(profile, any));
        if size > most {
            let reason = format!(
                "the profile's policy has {size} characters, {} more than an inline policy may have: use globs, or \
                 split the profile",
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
    fn mfa_and_source_addresses_are_conditions_of_every_statement() {
        let statement = &written("read-only")["Statement"][0];
        assert_eq!(statement["Action"], json!(["ec2:Describe*", "logs:Get*"]));
        assert_eq!(statement["Condition"]["Bool"], json!({"aws:MultiFactorAuthPresent": "true"}));
        assert_eq!(statement["Condition"]["IpAddress"], json!({"aws:SourceIp": "203.0.113.0/24"}));
        assert_eq!(statement["Condition"]["DateLessThan"], json!({"aws:CurrentTime": "2026-11-21T23:45:00Z"}));
    }

    #[test]
    fn a_written_policy_is_read_back_with_its_window() {
        for profile in access().profiles.values() {
            assert_eq!(read(&document(profile, WINDOW)), Reading::Grant(WINDOW));
        }
    }

    #[test]
    fn a_policy_that_never_ends_is_foreign() {
        let end = r#""DateLessThan":{"aws:CurrentTime":"2026-11-21T23:45:00Z"}"#;
        let cases = [
            "",
            "{}",
            r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#,
            r#"{"Statement":[{"Effect":"Allow","Condition":{"DateLessThan":{"aws:CurrentTime":"soon"}}}]}"#,
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
            assert!(matches!(read(document), Reading::Foreign(_)), "{document}");
        }
        let without_start = format!(r#"{{"Statement":{{"Effect":"Allow","Condition":{{{end}}}}}}}"#);
        assert_eq!(read(&without_start), Reading::Grant(Window { start: OffsetDateTime::UNIX_EPOCH, end: WINDOW.end }));
    }

    #[test]
    fn a_policy_that_only_denies_is_not_foreign() {
        for document in [r#"{"Statement":[]}"#, r#"{"Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}"#] {
            assert_eq!(read(document), Reading::DenyOnly, "{document}");
        }
    }

    #[test]
    fn white_space_is_not_counted() {
        // IAM accepts U+00A0 in a policy and counts it like any other character.
        assert_eq!(size("\u{a0}"), 1);
        assert_eq!(size("{ \"a\" :\t\"é\"\r\n}"), 9);
    }

    #[test]
    fn a_profile_that_is_too_large_for_any_principal_is_named() {
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
