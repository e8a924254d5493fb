//! Whether a live policy already allows what the profile allows today.

use sekisho_domain::access::Profile;
use serde_json::Value;

use super::{AFTER, BEFORE, FROM};

/// Whether the policy `existing` allows everything that `new` allows, apart from the times of their windows. The answer
/// is yes only if it is certain: each statement of `new` must lie within one statement of `existing`, which must not deny
/// anything.
pub(crate) fn covers(existing: &str, new: &str) -> bool {
    let (Some(existing), Some(new)) = (allows(existing), allows(new)) else { return false };
    new.iter().all(|new| existing.iter().any(|existing| lies_within(new, existing)))
}

/// Whether the profile allows to open sessions of Session Manager, of whatever instance.
pub(crate) fn opens_sessions(profile: &Profile) -> bool {
    let mut actions = profile.statements.iter().flat_map(|statement| &statement.actions);
    actions.any(|action| glob_covers(&action.as_str().to_lowercase(), "ssm:startsession"))
}

/// The statements of a policy; `None` if one of them does not allow.
fn allows(document: &str) -> Option<Vec<Value>> {
    let document: Value = serde_json::from_str(document).ok()?;
    let statements = match document.get("Statement")? {
        Value::Array(statements) => statements.clone(),
        one => vec![one.clone()],
    };
    statements.iter().all(|one| one.get("Effect").and_then(Value::as_str) == Some("Allow")).then_some(statements)
}

fn lies_within(new: &Value, existing: &Value) -> bool {
    let has_all = |element: &str, ignores_case: bool| {
        let fold = |text: &str| if ignores_case { text.to_lowercase() } else { text.to_owned() };
        let existing: Vec<String> = texts(existing.get(element)).into_iter().map(fold).collect();
        let new = texts(new.get(element));
        !new.is_empty() && new.into_iter().all(|new| existing.iter().any(|glob| glob_covers(glob, &fold(new))))
    };
    has_all("Action", true) && has_all("Resource", false) && is_no_looser(new, existing)
}

/// Whether every condition of `existing`, apart from its window, is also a condition of `new`.
fn is_no_looser(new: &Value, existing: &Value) -> bool {
    let operators = existing.get("Condition").and_then(Value::as_object).into_iter().flatten();
    operators.filter(|(operator, _)| ![AFTER, FROM, BEFORE].contains(&operator.as_str())).all(|(operator, keys)| {
        keys.as_object().is_some_and(|keys| {
            keys.iter().all(|(key, allowed)| {
                let found = new.get("Condition").and_then(|condition| condition.get(operator)?.get(key));
                found.is_some_and(|found| is_no_looser_value(operator, found, allowed))
            })
        })
    })
}

fn is_no_looser_value(operator: &str, new: &Value, existing: &Value) -> bool {
    let (new, existing) = (texts(Some(new)), texts(Some(existing)));
    if let ("NumericLessThan", [new], [existing]) = (operator, new.as_slice(), existing.as_slice()) {
        return match (new.parse::<u64>(), existing.parse::<u64>()) {
            (Ok(new), Ok(existing)) => new <= existing,
            _ => false,
        };
    }
    !new.is_empty() && new.iter().all(|one| existing.contains(one))
}

/// The texts of a value that is one text or a list of texts.
fn texts(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(text)) => vec![text],
        _ => Vec::new(),
    }
}

/// Whether the glob matches everything that the glob `narrower` matches.
fn glob_covers(glob: &str, narrower: &str) -> bool {
    let (glob, narrower): (Vec<char>, Vec<char>) = (glob.chars().collect(), narrower.chars().collect());
    // For each beginning of `glob`, whether it covers the part of `narrower` that was read so far.
    let mut row = vec![true];
    row.extend(glob.iter().scan(true, |open, c| {
        *open &= *c == '*';
        Some(*open)
    }));
    for c in narrower {
        let mut next = vec![false];
        for (i, pattern) in glob.iter().enumerate() {
            let (diagonal, above) = (row.get(i).copied(), row.get(i + 1).copied());
            let is_covered = match pattern {
                '*' => above == Some(true) || next.last() == Some(&true),
                // A `*` of the narrower glob stands for any number of characters, so only another `*` covers it.
                '?' => c != '*' && diagonal == Some(true),
                literal => *literal == c && diagonal == Some(true),
            };
            next.push(is_covered);
        }
        row = next;
    }
    row.last() == Some(&true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(actions: &[&str], resources: &[&str], condition: &Value) -> String {
        json!({"Statement": [{"Effect": "Allow", "Action": actions, "Resource": resources, "Condition": condition}]})
            .to_string()
    }

    #[test]
    fn a_glob_covers_narrower_globs() {
        let cases = [
            ("*", "s3:Get*", true),
            ("s3:*", "s3:Get*", true),
            ("s3:Get*", "s3:GetObject", true),
            ("s3:Get*", "s3:Get*", true),
            ("s3:Get*", "s3:*", false),
            ("s3:Get?", "s3:Get*", false),
            ("s3:Get?", "s3:Get?", true),
            ("s3:Get*", "s3:PutObject", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "a*c", false),
            ("", "", true),
            ("", "a", false),
        ];
        for (glob, narrower, expected) in cases {
            assert_eq!(glob_covers(glob, narrower), expected, "{glob} {narrower}");
        }
    }

    #[test]
    fn a_policy_covers_fewer_actions_and_more_conditions() {
        let age = |seconds: &str| json!({"NumericLessThan": {"aws:MultiFactorAuthAge": seconds}});
        let ips = |ranges: Value| json!({"IpAddress": {"aws:SourceIp": ranges}});
        let window = |end: &str| json!({"DateLessThan": {"aws:CurrentTime": end}});
        let none = json!({});
        let live = |condition: &Value| policy(&["s3:*", "logs:Get*"], &["arn:aws:s3:::a/*"], condition);
        let cases = [
            (&none, policy(&["S3:getobject"], &["arn:aws:s3:::a/b"], &none), true),
            (&none, policy(&["s3:GetObject", "ec2:*"], &["arn:aws:s3:::a/b"], &none), false),
            (&none, policy(&["s3:GetObject"], &["*"], &none), false),
            (&none, policy(&["s3:GetObject"], &["arn:aws:s3:::A/b"], &none), false),
            (&none, live(&age("60")), true),
            (&age("60"), live(&none), false),
            (&age("60"), live(&age("30")), true),
            (&age("60"), live(&age("90")), false),
            (&ips(json!(["1.1.1.1", "2.2.2.2"])), live(&ips(json!("1.1.1.1"))), true),
            (&ips(json!("1.1.1.1")), live(&ips(json!(["1.1.1.1", "2.2.2.2"]))), false),
            (&window("2026-11-21T23:45:00Z"), live(&window("2026-11-22T23:45:00Z")), true),
        ];
        for (condition, new, expected) in cases {
            assert_eq!(covers(&live(condition), &new), expected, "{condition} {new}");
        }
        assert!(!covers("{}", &live(&none)) && !covers("x", &live(&none)));
        // The new policy would not have the Deny.
        let denies = live(&none).replacen('[', r#"[{"Effect":"Deny","Action":"s3:Delete*","Resource":"*"},"#, 1);
        assert!(!covers(&denies, &live(&none)) && covers(&live(&none), &live(&none)));
        let scheduled = json!({"DateGreaterThanEquals": {"aws:CurrentTime": "2026-11-21T23:45:00Z"}});
        assert!(covers(&live(&scheduled), &live(&none)));
    }
}
