//! Which key is right for a bucket, and what is wrong with how it is said.

use std::collections::BTreeSet;

use sekisho_domain::decision::Decision;

use crate::key::{Described, KeyArn};
use crate::verdict::Outcome;

/// The key that is right for a bucket's artifacts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Right {
    /// This one.
    Key(KeyArn),
    /// It can't be told, for this reason: nothing is judged and nothing is repaired.
    Unclear(String),
}

/// Where a pipeline keeps its artifacts in one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// The pipeline's name.
    pub pipeline: String,
    /// The bucket.
    pub bucket: String,
    /// What it names as the key: an ARN, an alias, an id, or nothing, which means `aws/s3`.
    pub key: Option<String>,
}

/// The key that a bucket gives to what is written without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketKey {
    /// None but S3's own, or `aws/s3`.
    OfS3,
    /// The key of this name, and what KMS says of it.
    Key(String, Described),
    /// It could not be read, for this reason.
    Hidden(String),
}

/// A pipeline's store, and what KMS says of the key that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The store.
    pub store: Store,
    /// What its key is, where it names one.
    pub key: Option<Described>,
}

/// Decides, and finds what is to be mended in pipelines and bucket. `configured` is the key of the bucket that was
/// deployed with this function: no pipeline changes that.
#[must_use]
pub fn decide(
    bucket: &str,
    configured: Option<&KeyArn>,
    named: &[Named],
    default: &BucketKey,
) -> (Right, Vec<Decision<Outcome>>) {
    let right = right(configured, named, default);
    let should = match &right {
        Right::Key(key) => format!("the full ARN {key}"),
        Right::Unclear(_) => "a key's full ARN".to_owned(),
    };
    let mut findings = Vec::new();
    let mut found = |outcome, pipeline: Option<&str>, reason: String| {
        let finding = Decision::new(outcome, reason).about("bucket", bucket).about_some("pipeline", pipeline);
        findings.push(match &right {
            Right::Key(key) => finding.about("right_key", key.as_str()),
            Right::Unclear(_) => finding,
        });
    };
    for Named { store, key } in named {
        let pipeline = Some(store.pipeline.as_str());
        let Some(name) = &store.key else {
            let reason = format!(
                "the pipeline names no key, so that each action's account writes under its own aws/s3: set its \
                 artifact store's encryptionKey to {should}"
            );
            found(Outcome::Reported, pipeline, reason);
            continue;
        };
        if KeyArn::parse(name).is_none() {
            let reason = format!(
                "the pipeline names its key by `{name}`, which is looked up in the account of each action's role: \
                 write {should}"
            );
            found(Outcome::Reported, pipeline, reason);
        }
        match (arn(name, key.as_ref()), &right) {
            (Some(arn), Right::Key(right)) if arn != *right => {
                let reason = format!("the pipeline names {arn}, and the bucket's key is another: write {should}");
                found(Outcome::Reported, pipeline, reason);
            }
            (None, _) => {
                found(
                    Outcome::Unverifiable,
                    pipeline,
                    format!("which key `{name}` is can't be found out: write {should}"),
                );
            }
            _ => {}
        }
    }
    match (default, &right) {
        (BucketKey::Key(name, key), Right::Key(right)) if arn(name, Some(key)).as_ref() != Some(right) => {
            let reason = format!("the bucket's default encryption is under {name}: set it to {should}");
            found(Outcome::Reported, None, reason);
        }
        (BucketKey::Hidden(why), _) => {
            found(Outcome::Unverifiable, None, format!("the bucket's default encryption can't be read: {why}"));
        }
        _ => {}
    }
    if let Right::Unclear(why) = &right {
        found(Outcome::Unknown, None, format!("which key is right for the bucket can't be told: {why}"));
    }
    (right, findings)
}

fn right(configured: Option<&KeyArn>, named: &[Named], default: &BucketKey) -> Right {
    if let Some(configured) = configured {
        return Right::Key(configured.clone());
    }
    let default = match default {
        BucketKey::Key(name, key) => arn(name, Some(key)),
        BucketKey::OfS3 | BucketKey::Hidden(_) => None,
    };
    let of_pipelines = named.iter().filter_map(|named| arn(named.store.key.as_deref()?, named.key.as_ref()));
    let said: BTreeSet<KeyArn> = of_pipelines.chain(default).collect();
    let mut said = said.into_iter();
    match (said.next(), said.next()) {
        (Some(key), None) => Right::Key(key),
        (None, _) => Right::Unclear("neither a pipeline nor the bucket names a key".to_owned()),
        (Some(one), Some(other)) => {
            Right::Unclear(format!("pipelines and bucket name several, such as {one} and {other}"))
        }
    }
}

/// The key behind a name: an ARN is itself, whatever KMS lets this function see of it.
fn arn(name: &str, key: Option<&Described>) -> Option<KeyArn> {
    KeyArn::parse(name).or_else(|| match key {
        Some(Described::Usable(arn) | Described::Unusable(arn, _)) => Some(arn.clone()),
        Some(Described::Missing | Described::Hidden(_)) | None => None,
    })
}

/// Why an object is probably under another account's key, in one sentence. `store` is what the pipeline that wrote it
/// says, where one was found.
#[must_use]
pub fn likely_cause(owner: &str, store: Option<&Store>, right: &KeyArn) -> String {
    match store.map(|store| (store.pipeline.as_str(), store.key.as_deref())) {
        None => format!(
            "no recent execution of a pipeline wrote it: somebody in account {owner} did, without naming the key {right}"
        ),
        Some((pipeline, None)) => format!(
            "pipeline {pipeline} names no key, so that the action's role wrote under aws/s3 of its own account {owner}: \
             set the artifact store's encryptionKey to {right}"
        ),
        Some((pipeline, Some(name))) if KeyArn::parse(name).is_none() => format!(
            "pipeline {pipeline} names its key by `{name}`, which was looked up in account {owner} of the action's role: \
             write {right}"
        ),
        Some((pipeline, Some(name))) if name == right.as_str() => format!(
            "pipeline {pipeline} names the right key, so that the action wrote without asking for it: in a build, give \
             `sam package` the option --kms-key-id {right}"
        ),
        Some((pipeline, Some(name))) => {
            format!("pipeline {pipeline} names {name}: set the artifact store's encryptionKey to {right}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> KeyArn {
        KeyArn::parse(&format!("arn:aws:kms:ap-northeast-1:222222222222:key/{id}")).unwrap()
    }

    fn named(name: Option<&str>, key: Option<Described>) -> Named {
        let store = Store { pipeline: "shop".into(), bucket: "b".into(), key: name.map(str::to_owned) };
        Named { store, key }
    }

    fn by_arn(id: &str) -> Named {
        named(Some(key(id).as_str()), Some(Described::Usable(key(id))))
    }

    fn by_default(id: &str) -> BucketKey {
        BucketKey::Key(key(id).to_string(), Described::Usable(key(id)))
    }

    fn outcomes(findings: &[Decision<Outcome>]) -> Vec<Outcome> {
        findings.iter().map(|finding| finding.outcome).collect()
    }

    #[test]
    fn where_all_agree_nothing_is_found() {
        for configured in [None, Some(key("a"))] {
            let (right, findings) = decide("b", configured.as_ref(), &[by_arn("a"), by_arn("a")], &by_default("a"));
            assert_eq!((right, findings), (Right::Key(key("a")), vec![]));
        }
        let (right, findings) = decide("b", None, &[by_arn("a")], &BucketKey::OfS3);
        assert_eq!((right, findings), (Right::Key(key("a")), vec![]));
    }

    #[test]
    fn each_way_to_say_it_wrong_is_a_finding() {
        let a = key("a");
        let alias = || named(Some("alias/artifacts"), Some(Described::Usable(key("a"))));
        let bare = || named(Some("1234"), Some(Described::Missing));
        let cases = [
            (named(None, None), by_default("a"), vec![(Outcome::Reported, "aws/s3")]),
            (alias(), by_default("a"), vec![(Outcome::Reported, "alias/artifacts")]),
            (
                bare(),
                by_default("a"),
                vec![(Outcome::Reported, "by `1234`"), (Outcome::Unverifiable, "can't be found out")],
            ),
            (by_arn("other"), by_default("a"), vec![(Outcome::Reported, "another")]),
            (by_arn("a"), by_default("other"), vec![(Outcome::Reported, "default encryption is under")]),
            (by_arn("a"), BucketKey::Hidden("AccessDenied".into()), vec![(Outcome::Unverifiable, "AccessDenied")]),
        ];
        for (named, default, expected) in cases {
            let (right, findings) = decide("b", Some(&a), std::slice::from_ref(&named), &default);
            assert_eq!(right, Right::Key(a.clone()));
            let found: Vec<Outcome> = expected.iter().map(|(outcome, _)| *outcome).collect();
            assert_eq!(outcomes(&findings), found, "{named:?}");
            for (finding, (_, says)) in findings.iter().zip(&expected) {
                assert!(finding.reason.contains(says), "{}", finding.reason);
                assert_eq!(finding.concerns["bucket"], "b");
                assert_eq!(finding.concerns["right_key"], a.as_str());
            }
        }
    }

    #[test]
    fn what_is_said_twice_or_never_is_not_clear() {
        let cases = [
            (vec![by_arn("a"), by_arn("b")], BucketKey::OfS3),
            (vec![by_arn("a")], by_default("b")),
            (vec![named(None, None)], BucketKey::OfS3),
            (vec![], BucketKey::OfS3),
        ];
        for (named, default) in cases {
            let (right, findings) = decide("b", None, &named, &default);
            assert!(matches!(right, Right::Unclear(_)), "{named:?}");
            assert_eq!(findings.last().unwrap().outcome, Outcome::Unknown);
        }
        let (right, _) = decide("b", None, &[named(None, None)], &by_default("a"));
        assert_eq!(right, Right::Key(key("a")));
    }

    #[test]
    fn a_cause_names_what_to_change() {
        let right = key("a");
        let store = |name: Option<&str>| named(name, None).store;
        let cases = [
            (None, "no recent execution"),
            (Some(store(None)), "names no key"),
            (Some(store(Some("alias/x"))), "looked up in account 111111111111"),
            (Some(store(Some(right.as_str()))), "--kms-key-id"),
            (Some(store(Some(key("b").as_str()))), "set the artifact store's encryptionKey"),
        ];
        for (store, says) in cases {
            let cause = likely_cause("111111111111", store.as_ref(), &right);
            assert!(cause.contains(says) && cause.contains(right.as_str()), "{cause}");
        }
    }
}
