//! The values of pipeline variables.

use std::collections::BTreeMap;

use sekisho_domain::change::{Change, RefKind, Revision};

/// The value of a placeholder that the change has no value for. A variable of CodePipeline cannot be empty.
const NONE: &str = "none";

/// Replaces the placeholders in the values of variables. `knows_ref` says whether the change's branch or tag is known.
pub(crate) fn resolve(
    variables: &BTreeMap<String, String>,
    change: &Change,
    knows_ref: bool,
    number: u64,
) -> BTreeMap<String, String> {
    let number = number.to_string();
    let name = |kind| Some(change.source_ref.name()).filter(|_| knows_ref && change.kind == kind);
    let values = [
        ("tag", name(RefKind::Tag)),
        ("branch", name(RefKind::Branch)),
        ("commit", Some(change.revision.as_str())),
        ("digest", None),
        ("image", None),
        ("order", Some(number.as_str())),
        ("previous", change.previous.as_ref().map(Revision::as_str)),
    ];
    let resolved = |text: &String| replace(text, &values);
    variables.iter().map(|(name, text)| (name.clone(), resolved(text))).collect()
}

/// Replaces all placeholders in one pass, so that a placeholder in the name of a branch stays as it is.
fn replace(text: &str, values: &[(&str, Option<&str>)]) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        result.push_str(before);
        let placeholder = after.split_once('}').and_then(|(name, after)| {
            let (_, value) = values.iter().find(|(known, _)| *known == name)?;
            Some((value.unwrap_or(NONE), after))
        });
        // A brace that belongs to no placeholder stays as it is.
        let (value, after) = placeholder.unwrap_or(("{", after));
        result.push_str(value);
        rest = after;
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(source_ref: &str, previous: Option<&str>) -> Change {
        let source_ref: sekisho_domain::change::SourceRef = source_ref.parse().unwrap();
        Change {
            kind: source_ref.kind(),
            repository: "arn:aws:codecommit:ap-northeast-1:111111111111:shop".parse().unwrap(),
            source_ref,
            revision: "0123456789abcdef0123456789abcdef01234567".parse().unwrap(),
            previous: previous.map(|commit| commit.parse().unwrap()),
            sequence: 5,
            actor: None,
            event: None,
        }
    }

    #[test]
    fn each_placeholder_has_a_value_or_is_none() {
        const OLD: &str = "89abcdef0123456789abcdef0123456701234567";
        const NEW: &str = "0123456789abcdef0123456789abcdef01234567";
        let cases = [
            ("refs/tags/v1", None, "{tag} {branch} {previous}", "v1 none none".to_owned()),
            ("refs/heads/main", Some(OLD), "{tag}/{branch}/{previous}", format!("none/main/{OLD}")),
            ("refs/heads/main", None, "{commit}@{order}", format!("{NEW}@7")),
            ("refs/heads/main", None, "{digest}{image}", "nonenone".to_owned()),
            ("refs/heads/{tag}", None, "{branch}", "{tag}".to_owned()),
            ("refs/heads/main", None, "{unknown} {branch", "{unknown} {branch".to_owned()),
        ];
        for (source_ref, previous, text, expected) in cases {
            let variables = BTreeMap::from([("V".to_owned(), text.to_owned())]);
            let resolved = resolve(&variables, &change(source_ref, previous), true, 7);
            assert_eq!(resolved["V"], expected, "{text}");
        }
    }

    /// The tag of the change that is taken back would be wrong.
    #[test]
    fn a_reference_that_is_not_known_is_none() {
        let variables = BTreeMap::from([("V".to_owned(), "{tag}{branch}".to_owned())]);
        for source_ref in ["refs/tags/v2", "refs/heads/main"] {
            assert_eq!(resolve(&variables, &change(source_ref, None), false, 7)["V"], "nonenone");
        }
    }
}
