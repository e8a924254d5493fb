//! The inline policy of a grant: its text, its size, and the meaning of an existing policy.

mod coverage;
mod reading;

use sekisho_domain::access::{Access, Profile, ProfileName, Statement};
use sekisho_domain::code::digest;
use sekisho_domain::timestamp;
use serde_json::{Value, json};
use time::OffsetDateTime;

pub(crate) use self::coverage::{covers, opens_sessions};
pub use self::reading::{Reading, read};
use crate::principal::Kind;
use crate::window::{LEEWAY, Window};

/// The name of every policy of ours consists of this prefix and the profile's name.
pub(crate) const PREFIX: &str = "sekisho-";

pub(crate) const CURRENT_TIME: &str = "aws:CurrentTime";
const EPOCH_TIME: &str = "aws:EpochTime";
const MFA_AGE: &str = "aws:MultiFactorAuthAge";
/// The operator for the start of a window that had begun when the policy was written; [`LEEWAY`] is before the start.
pub(crate) const AFTER: &str = "DateGreaterThan";
/// The operator for the start of a window that began later, without a leeway.
pub(crate) const FROM: &str = "DateGreaterThanEquals";
pub(crate) const BEFORE: &str = "DateLessThan";

/// The name of a profile's policy. A principal has one policy for each profile.
pub(crate) fn name(profile: &ProfileName) -> String {
    format!("{PREFIX}{profile}")
}

/// The text of a policy that is written now: the profile's statements, each with the window and the profile's conditions.
#[must_use]
pub fn document(profile: &Profile, window: Window, now: OffsetDateTime) -> String {
    let statements: Vec<Value> =
        profile.statements.iter().map(|statement| allow(profile, statement, window, now)).collect();
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

/// Whether the text is that of the profile and the window, whenever it was written. Parsed JSON is compared, because IAM
/// keeps the meaning of a policy, but not necessarily its spelling.
pub(crate) fn is_same(text: &str, profile: &Profile, window: Window) -> bool {
    let before = window.start.saturating_sub(LEEWAY);
    [before, window.start].into_iter().any(|now| is_same_json(text, &document(profile, window, now)))
}

/// Compares parsed JSON, as [`is_same`] does.
pub(crate) fn is_same_json(one: &str, other: &str) -> bool {
    let parse = |text| serde_json::from_str::<Value>(text).ok();
    parse(one).is_some_and(|one| Some(one) == parse(other))
}

/// The operator and the time of the condition that begins the window in a policy that is written now.
pub(crate) fn beginning(window: Window, now: OffsetDateTime) -> (&'static str, OffsetDateTime) {
    if now < window.start { (FROM, window.start) } else { (AFTER, window.start.saturating_sub(LEEWAY)) }
}

fn allow(profile: &Profile, statement: &Statement, window: Window, now: OffsetDateTime) -> Value {
    let (operator, start) = beginning(window, now);
    let mut condition = json!({
        operator: {CURRENT_TIME: timestamp::seconds(start)},
        BEFORE: {CURRENT_TIME: timestamp::seconds(window.end)},
    });
    if let Some(condition) = condition.as_object_mut() {
        if profile.require_mfa {
            condition.insert("Bool".to_owned(), json!({"aws:MultiFactorAuthPresent": "true"}));
        }
        // A session that was opened without MFA has no age, so this condition requires MFA, too.
        if let Some(minutes) = profile.mfa_minutes {
            let seconds = (minutes.get() * 60).to_string();
            condition.insert("NumericLessThan".to_owned(), json!({MFA_AGE: seconds}));
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

/// What a profile allows, as a digest: equal texts mean equal statements, MFA and addresses.
#[must_use]
pub(crate) fn fingerprint(profile: &Profile) -> String {
    let mfa_minutes = profile.mfa_minutes.map(|minutes| minutes.to_string());
    // Each value is preceded by the name of its key, so that no value can be mistaken for one of another key.
    let mut parts = vec!["require_mfa", if profile.require_mfa { "true" } else { "false" }];
    parts.extend(mfa_minutes.iter().flat_map(|minutes| ["mfa_minutes", minutes.as_str()]));
    for statement in &profile.statements {
        parts.push("statement");
        parts.extend(statement.actions.iter().flat_map(|action| ["action", action.as_str()]));
        parts.extend(statement.resources.iter().flat_map(|resource| ["resource", resource.as_str()]));
    }
    parts.extend(profile.source_ips.iter().flat_map(|range| ["source_ip", range.as_str()]));
    digest(&parts)
}

/// The size of a policy as IAM counts it: characters without white space.
#[must_use]
pub fn size(document: &str) -> usize {
    document.chars().filter(|c| !c.is_ascii_whitespace()).count()
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
        let size = size(&document(profile, any, any.start));
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

    const CONFIG: &str = r#"
        [access]
        default_minutes = 180
        max_minutes     = 480
        default_profile = "admin"
        [access.profiles.admin]
        statements = [{ actions = ["*"], resources = ["*"] }]
        [access.profiles.strict]
        statements  = [{ actions = ["ec2:Describe*", "logs:Get*"], resources = ["*"] }]
        require_mfa = true
        mfa_minutes = 90
        source_ips  = ["203.0.113.0/24"]
    "#;

    fn access() -> Access {
        Document::parse("sekisho.toml", CONFIG).unwrap().access().unwrap()
    }

    fn written(profile: &str) -> Value {
        let access = access();
        let profile = &access.profiles[&profile.parse::<ProfileName>().unwrap()];
        serde_json::from_str(&document(profile, WINDOW, WINDOW.start)).unwrap()
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
    fn a_window_that_begins_later_is_written_as_it_is() {
        let access = access();
        let profile = &access.profiles[&access.default_profile];
        let text = document(profile, WINDOW, WINDOW.start - time::Duration::SECOND);
        let condition = &serde_json::from_str::<Value>(&text).unwrap()["Statement"][0]["Condition"];
        let expected = json!({
            "DateGreaterThanEquals": {"aws:CurrentTime": "2026-11-21T20:45:00Z"},
            "DateLessThan": {"aws:CurrentTime": "2026-11-21T23:45:00Z"},
        });
        assert_eq!(*condition, expected);
        assert!(is_same(&text, profile, WINDOW) && is_same(&document(profile, WINDOW, WINDOW.end), profile, WINDOW));
        let longer = Window { end: WINDOW.end + time::Duration::MINUTE, ..WINDOW };
        assert!(!is_same(&text, profile, longer));
    }

    #[test]
    fn mfa_and_source_addresses_are_conditions_of_every_statement() {
        let statement = &written("strict")["Statement"][0];
        assert_eq!(statement["Action"], json!(["ec2:Describe*", "logs:Get*"]));
        assert_eq!(statement["Condition"]["Bool"], json!({"aws:MultiFactorAuthPresent": "true"}));
        assert_eq!(statement["Condition"]["NumericLessThan"], json!({"aws:MultiFactorAuthAge": "5400"}));
        assert_eq!(statement["Condition"]["IpAddress"], json!({"aws:SourceIp": "203.0.113.0/24"}));
        assert_eq!(statement["Condition"]["DateLessThan"], json!({"aws:CurrentTime": "2026-11-21T23:45:00Z"}));
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
