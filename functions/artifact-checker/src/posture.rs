//! Findings about the settings of a bucket and of its right key that do not concern single objects: public access, access
//! without TLS, and a key that stops working.

use std::time::Duration;

use sekisho_domain::decision::Decision;
use serde_json::Value;
use time::OffsetDateTime;

use crate::key::{KeyArn, KeyLife};
use crate::outcome::Outcome;

/// People are warned this long before the key's imported material expires.
const WARNING: Duration = Duration::from_hours(24 * 30);

/// What S3 shows about the access to a bucket. `None` means that S3 does not show the setting to this function.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BucketAccess {
    /// Whether all four settings that block public access are on.
    pub(crate) blocks_public_access: Option<bool>,
    /// The bucket's policy; an empty text if the bucket has none.
    pub(crate) policy: Option<String>,
}

/// The findings about a bucket and its right key.
pub(crate) fn findings(
    bucket: &str,
    access: &BucketAccess,
    key: &KeyArn,
    life: &KeyLife,
    now: OffsetDateTime,
) -> Vec<Decision<Outcome>> {
    let finding = |outcome, problem: &'static str, reason: String| {
        Decision::new(outcome, reason).about("bucket", bucket).about("problem", problem)
    };
    let mut findings = Vec::new();
    if access.blocks_public_access == Some(false) {
        let reason = "the bucket itself does not block public access: turn on its four settings of Block Public Access";
        findings.push(finding(Outcome::Reported, "public-access", reason.to_owned()));
    }
    if access.policy.as_ref().is_some_and(|policy| !denies_requests_without_tls(policy)) {
        let reason = "the bucket's policy admits requests without TLS: deny s3:* if aws:SecureTransport is false";
        findings.push(finding(Outcome::Reported, "no-tls", reason.to_owned()));
    }
    let about_key = |outcome, problem, reason| finding(outcome, problem, reason).about("right_key", key.as_str());
    match life {
        KeyLife::Expires(at) if *at - now < WARNING => {
            let at = sekisho_domain::timestamp::seconds(*at);
            let reason =
                format!("the imported material of the right key {key} expires at {at}: import it again before");
            findings.push(about_key(Outcome::Reported, "key-expires", reason));
        }
        KeyLife::Works | KeyLife::Expires(_) => {}
        KeyLife::DeletedAt(at) => {
            let at = sekisho_domain::timestamp::seconds(*at);
            let reason = format!(
                "the right key {key} is deleted at {at}, and nobody can read an artifact then: cancel the deletion and \
                 enable the key"
            );
            findings.push(about_key(Outcome::KeyUnusable, "key-deletion", reason));
        }
        KeyLife::Disabled => {
            let reason = format!("the right key {key} is disabled, and nobody can read an artifact: enable it");
            findings.push(about_key(Outcome::KeyUnusable, "key-disabled", reason));
        }
        KeyLife::WithoutMaterial => {
            let reason = format!(
                "the right key {key} has no imported material, and nobody can read an artifact: import it again"
            );
            findings.push(about_key(Outcome::KeyUnusable, "key-material", reason));
        }
    }
    findings
}

/// Whether a policy denies everybody every request without TLS.
fn denies_requests_without_tls(policy: &str) -> bool {
    let Ok(policy) = serde_json::from_str::<Value>(policy) else { return false };
    let statements = match policy.get("Statement") {
        Some(Value::Array(statements)) => statements.iter().collect(),
        Some(statement) => vec![statement],
        None => Vec::new(),
    };
    statements.into_iter().any(|statement| {
        let is = |name: &str, value: &str| statement.get(name).is_some_and(|found| contains(found, value));
        let is_everybody = is("Principal", "*")
            || statement
                .get("Principal")
                .and_then(|principal| principal.get("AWS"))
                .is_some_and(|aws| contains(aws, "*"));
        let conditions = statement.get("Condition").and_then(Value::as_object);
        // A second condition would exempt some requests.
        let is_tls_the_only_condition = conditions.is_some_and(|conditions| {
            conditions.len() == 1
                && conditions.get("Bool").and_then(Value::as_object).is_some_and(|keys| {
                    keys.len() == 1
                        && keys.iter().all(|(key, value)| {
                            key.eq_ignore_ascii_case("aws:SecureTransport")
                                && (contains(value, "false") || *value == Value::Bool(false))
                        })
                })
        });
        let has_objects = match statement.get("Resource") {
            Some(Value::Array(resources)) => resources.iter().any(is_all_objects),
            Some(resource) => is_all_objects(resource),
            None => false,
        };
        let is_every_action = is("Action", "s3:*") || is("Action", "*");
        is("Effect", "Deny") && is_everybody && is_every_action && has_objects && is_tls_the_only_condition
    })
}

/// Whether the resource of a statement in a bucket's policy stands for all objects of the bucket.
fn is_all_objects(resource: &Value) -> bool {
    resource
        .as_str()
        .is_some_and(|resource| resource == "*" || (resource.ends_with("/*") && resource.matches('/').count() == 1))
}

/// Whether a JSON value is this text, or a list with it.
fn contains(value: &Value, text: &str) -> bool {
    match value {
        Value::String(found) => found == text,
        Value::Array(found) => found.iter().any(|one| one == text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 00:00 UTC);

    fn problems(access: &BucketAccess, life: &KeyLife) -> Vec<String> {
        let key = KeyArn::parse("arn:aws:kms:ap-northeast-1:222222222222:key/a").unwrap();
        let findings = findings("b", access, &key, life, NOW);
        findings.into_iter().map(|finding| finding.concerns["problem"].clone()).collect()
    }

    #[test]
    fn a_policy_has_to_deny_everybody_everything_without_tls() {
        let policy = |statement: &str| format!(r#"{{"Version":"2012-10-17","Statement":{statement}}}"#);
        let deny = r#"{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::b","arn:aws:s3:::b/*"],"Condition":{"Bool":{"aws:SecureTransport":"false"}}}"#;
        let in_other_words = deny
            .replace(r#""Principal":"*""#, r#""Principal":{"AWS":["*"]}"#)
            .replace(r#""s3:*""#, r#"["s3:*"]"#)
            .replace(r#""false""#, "false")
            .replace("aws:SecureTransport", "aws:securetransport");
        for statement in [deny.to_owned(), format!("[{deny}]"), in_other_words] {
            assert!(denies_requests_without_tls(&policy(&statement)), "{statement}");
        }
        for (from, to) in [
            ("Deny", "Allow"),
            (r#""Principal":"*""#, r#""Principal":{"AWS":"arn:aws:iam::222222222222:root"}"#),
            ("s3:*", "s3:GetObject"),
            (r#""false""#, r#""true""#),
            (r#"{"Bool""#, r#"{"StringEquals":{"s3:prefix":"a"},"Bool""#),
            (r#""aws:SecureTransport":"false""#, r#""aws:SecureTransport":"false","aws:ViaAWSService":"false""#),
            ("Condition", "Conditions"),
            ("arn:aws:s3:::b/*", "arn:aws:s3:::b/folder/*"),
        ] {
            assert!(deny.contains(from));
            assert!(!denies_requests_without_tls(&policy(&deny.replace(from, to))), "{to}");
        }
        assert!(!denies_requests_without_tls("") && !denies_requests_without_tls("{}"));
    }

    #[test]
    fn a_bucket_with_public_access_or_without_tls_is_a_finding() {
        let access = BucketAccess { blocks_public_access: Some(false), policy: Some(String::new()) };
        assert_eq!(problems(&access, &KeyLife::Works), ["public-access", "no-tls"]);
        assert_eq!(problems(&BucketAccess::default(), &KeyLife::Works), [""; 0]);
    }

    #[test]
    fn people_are_warned_before_a_key_stops_working() {
        let access = BucketAccess::default();
        for (days, expected) in [(0, vec!["key-expires"]), (29, vec!["key-expires"]), (31, vec![])] {
            let at = NOW + Duration::from_hours(24 * days);
            assert_eq!(problems(&access, &KeyLife::Expires(at)), expected, "{days}");
        }
        assert_eq!(problems(&access, &KeyLife::DeletedAt(NOW + Duration::from_hours(24 * 30))), ["key-deletion"]);
        assert_eq!(problems(&access, &KeyLife::Disabled), ["key-disabled"]);
        assert_eq!(problems(&access, &KeyLife::WithoutMaterial), ["key-material"]);
    }
}
