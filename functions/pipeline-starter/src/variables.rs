//! The values of pipeline variables.

use std::collections::BTreeMap;

use sekisho_domain::change::{Change, RefKind, RepositoryArn, SourceKind};

use crate::pins::{Pin, PinSet};

/// The value of a placeholder that no source has a value for. A variable of CodePipeline cannot be empty.
const NONE: &str = "none";

/// Replaces the placeholders in the values of variables. A placeholder takes its value from the change or, if the
/// change has none, from the first of the other pins that has one. `knows_ref` says whether the change's branch or tag
/// is known.
pub(crate) fn resolve(
    variables: &BTreeMap<String, String>,
    change: &Change,
    knows_ref: bool,
    others: &PinSet,
    number: u64,
) -> BTreeMap<String, String> {
    let own = Pin { source_ref: Some(change.source_ref.clone()).filter(|_| knows_ref), ..Pin::of(change) };
    let pins: Vec<&Pin> = std::iter::once(&own).chain(others.values()).collect();
    let name = |kinds: &[RefKind]| {
        let mut refs = pins.iter().filter_map(|pin| pin.source_ref.as_ref());
        refs.find(|source_ref| kinds.contains(&source_ref.kind())).map(|source_ref| source_ref.name().to_owned())
    };
    let revision = |is_digest: bool| {
        let mut revisions = pins.iter().map(|pin| &pin.revision);
        revisions.find(|revision| revision.is_digest() == is_digest).map(ToString::to_string)
    };
    let values = [
        ("tag", name(&[RefKind::Tag, RefKind::Image])),
        ("branch", name(&[RefKind::Branch])),
        ("commit", revision(false)),
        ("digest", revision(true)),
        ("image", pins.iter().find_map(|pin| image(pin))),
        ("order", Some(number.to_string())),
        ("previous", change.previous.as_ref().map(ToString::to_string)),
    ];
    let resolved = |text: &String| replace(text, &values);
    variables.iter().map(|(name, text)| (name.clone(), resolved(text))).collect()
}

/// The URI of an image by its digest. A URI by tag could lead to another image later.
fn image(pin: &Pin) -> Option<String> {
    let repository = pin.repository.as_ref().filter(|repository| repository.kind() == SourceKind::Image)?;
    Some(format!("{}/{}@{}", registry(repository), repository.name(), pin.revision))
}

/// The registry's domain. The regions of China have a suffix of their own.
fn registry(repository: &RepositoryArn) -> String {
    let suffix = if repository.as_str().starts_with("arn:aws-cn:") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("{}.dkr.ecr.{}.{suffix}", repository.account(), repository.region())
}

/// Replaces all placeholders in one pass, so that a placeholder in the name of a branch stays as it is.
fn replace(text: &str, values: &[(&str, Option<String>)]) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        result.push_str(before);
        let placeholder = after.split_once('}').and_then(|(name, after)| {
            let (_, value) = values.iter().find(|(known, _)| *known == name)?;
            Some((value.as_deref().unwrap_or(NONE), after))
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
            let resolved = resolve(&variables, &change(source_ref, previous), true, &PinSet::new(), 7);
            assert_eq!(resolved["V"], expected, "{text}");
        }
    }

    /// The tag of the change that is taken back would be wrong.
    #[test]
    fn a_reference_that_is_not_known_is_none() {
        let variables = BTreeMap::from([("V".to_owned(), "{tag}{branch}".to_owned())]);
        for source_ref in ["refs/tags/v2", "refs/heads/main"] {
            let resolved = resolve(&variables, &change(source_ref, None), false, &PinSet::new(), 7);
            assert_eq!(resolved["V"], "nonenone");
        }
    }

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn image_of(repository: &str, tag: Option<&str>) -> Pin {
        Pin {
            revision: DIGEST.parse().unwrap(),
            repository: Some(repository.parse().unwrap()),
            source_ref: tag.map(|tag| tag.parse().unwrap()),
        }
    }

    #[test]
    fn a_placeholder_takes_its_value_from_whichever_source_has_one() {
        let ecr = "arn:aws:ecr:ap-northeast-1:111111111111:repository/team/shop";
        let china = ecr.replace("arn:aws:", "arn:aws-cn:").replace("ap-northeast-1", "cn-north-1");
        let image = image_of(ecr, Some("refs/images/v1.2"));
        let uri = format!("111111111111.dkr.ecr.ap-northeast-1.amazonaws.com/team/shop@{DIGEST}");
        let cases = [
            ("refs/heads/main", image.clone(), "{branch} {tag} {digest}", format!("main v1.2 {DIGEST}")),
            ("refs/heads/main", image.clone(), "{image}", uri.clone()),
            ("refs/tags/v9", image, "{tag} {branch}", "v9 none".to_owned()),
            ("refs/heads/main", image_of(ecr, None), "{tag} {image}", format!("none {uri}")),
            (
                "refs/heads/main",
                image_of(&china, None),
                "{image}",
                format!("111111111111.dkr.ecr.cn-north-1.amazonaws.com.cn/team/shop@{DIGEST}"),
            ),
        ];
        for (source_ref, image, text, expected) in cases {
            let variables = BTreeMap::from([("V".to_owned(), text.to_owned())]);
            let resolved = resolve(
                &variables,
                &change(source_ref, None),
                true,
                &PinSet::from([("Image".parse().unwrap(), image)]),
                7,
            );
            assert_eq!(resolved["V"], expected, "{text}");
        }
        let code = Pin::of(&change("refs/heads/main", None));
        let image = image_of(ecr, Some("refs/images/v1.2"));
        let order = Change {
            kind: RefKind::Image,
            repository: image.repository.clone().unwrap(),
            source_ref: "refs/images/v1.2".parse().unwrap(),
            revision: image.revision,
            ..change("refs/heads/main", None)
        };
        let variables = BTreeMap::from([("V".to_owned(), "{commit} {image} {branch} {tag}".to_owned())]);
        let resolved = resolve(&variables, &order, true, &PinSet::from([("Source".parse().unwrap(), code.clone())]), 7);
        assert_eq!(resolved["V"], format!("{} {uri} main v1.2", code.revision));
    }
}
