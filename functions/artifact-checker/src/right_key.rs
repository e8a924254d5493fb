//! Determines the right key of a bucket, and finds pipelines and default encryptions that do not name that key.

use std::collections::BTreeSet;

use sekisho_domain::decision::Decision;

use crate::key::{KeyArn, KeyStatus};
use crate::outcome::Outcome;

/// The key that is right for a bucket's artifacts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RightKey {
    Known(KeyArn),
    /// The key is unclear for this reason, so no object of the bucket is checked or repaired.
    Unclear(String),
}

/// The bucket and the key with which a pipeline stores its artifacts in one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArtifactStore {
    /// The pipeline's name.
    pub(crate) pipeline: String,
    pub(crate) bucket: String,
    /// The pipeline's name for the key: an ARN, an alias or an id. `None` means that the pipeline names no key and uses
    /// `aws/s3`.
    pub(crate) key: Option<String>,
}

/// The bucket's default encryption, which S3 uses for a write that names no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DefaultEncryption {
    /// The default is S3's own keys or the key `aws/s3`.
    S3Managed,
    /// The default is the key of this name, which has this status.
    Key(String, KeyStatus),
    /// S3 does not show the default encryption, for this reason.
    NotShown(String),
}

/// An artifact store, and the status of the key that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoreKey {
    pub(crate) store: ArtifactStore,
    /// `None` if the store names no key.
    pub(crate) status: Option<KeyStatus>,
}

/// The right key of a bucket, with the findings about pipelines and the bucket that do not name that key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyAssessment {
    pub(crate) right_key: RightKey,
    pub(crate) findings: Vec<Decision<Outcome>>,
}

/// Determines the right key of a bucket. `configured` is the key of the bucket that was deployed with this function; it
/// takes precedence over all pipelines.
pub(crate) fn assess(
    bucket: &str,
    configured: Option<&KeyArn>,
    store_keys: &[StoreKey],
    default: &DefaultEncryption,
) -> KeyAssessment {
    let right_key = right_key(configured, store_keys, default);
    let mut problems = Vec::new();
    for store_key in store_keys {
        problems.extend(store_problems(store_key, &right_key));
    }
    problems.extend(default_problem(default, &right_key, configured.is_some()));
    if let RightKey::Unclear(why) = &right_key {
        let reason = format!("the bucket's right key is unclear: {why}");
        problems.push(Problem::of_bucket("unclear-key", Outcome::Unknown, reason));
    }
    let findings = problems.into_iter().map(|problem| problem.into_finding(bucket, &right_key)).collect();
    KeyAssessment { right_key, findings }
}

/// A problem in a pipeline, or in the bucket if `pipeline` is `None`.
struct Problem<'a> {
    /// A name for programs.
    name: &'static str,
    outcome: Outcome,
    reason: String,
    pipeline: Option<&'a str>,
}

impl<'a> Problem<'a> {
    fn of_bucket(name: &'static str, outcome: Outcome, reason: String) -> Self {
        Self { name, outcome, reason, pipeline: None }
    }

    fn of_pipeline(pipeline: &'a str, name: &'static str, outcome: Outcome, reason: String) -> Self {
        Self { name, outcome, reason, pipeline: Some(pipeline) }
    }

    fn into_finding(self, bucket: &str, right_key: &RightKey) -> Decision<Outcome> {
        let finding = Decision::new(self.outcome, self.reason)
            .about("bucket", bucket)
            .about("problem", self.name)
            .about_some("pipeline", self.pipeline);
        match right_key {
            RightKey::Known(key) => finding.about("right_key", key.as_str()),
            RightKey::Unclear(_) => finding,
        }
    }
}

fn store_problems<'a>(store_key: &'a StoreKey, right_key: &RightKey) -> Vec<Problem<'a>> {
    let StoreKey { store, status } = store_key;
    let problem = |name, outcome, reason| Problem::of_pipeline(&store.pipeline, name, outcome, reason);
    let expected = expected(right_key);
    let Some(name) = &store.key else {
        let reason = format!(
            "the pipeline names no key, so each action writes under the key aws/s3 of its own account: write \
             {expected} as the artifact store's encryptionKey"
        );
        return vec![problem("no-key", Outcome::Reported, reason)];
    };
    let mut problems = Vec::new();
    if KeyArn::parse(name).is_none() {
        let reason = format!(
            "the pipeline names its key `{name}`, which AWS looks up in the account of each action's role: write \
             {expected} as the artifact store's encryptionKey"
        );
        problems.push(problem("key-name", Outcome::Reported, reason));
    }
    match (arn(name, status.as_ref()), right_key) {
        (Some(arn), RightKey::Known(right)) if arn != *right => {
            let reason = format!(
                "the pipeline names {arn}, which is not the bucket's right key: write {expected} as the artifact \
                 store's encryptionKey"
            );
            problems.push(problem("wrong-key", Outcome::Reported, reason));
        }
        (None, _) => {
            let reason = format!(
                "KMS does not show which key `{name}` is: write {expected} as the artifact store's encryptionKey"
            );
            problems.push(problem("unknown-key", Outcome::Unverifiable, reason));
        }
        _ => {}
    }
    problems
}

/// `is_own` says whether the bucket was deployed with this function, under the right key. In another bucket, each
/// pipeline names the key.
fn default_problem<'a>(default: &DefaultEncryption, right_key: &RightKey, is_own: bool) -> Option<Problem<'a>> {
    match (default, right_key) {
        (DefaultEncryption::S3Managed, RightKey::Known(_)) if is_own => {
            let expected = expected(right_key);
            let reason =
                format!("the bucket's default encryption is under S3's own key or aws/s3: set it to {expected}");
            Some(Problem::of_bucket("default-key", Outcome::Reported, reason))
        }
        (DefaultEncryption::Key(name, status), RightKey::Known(right))
            if arn(name, Some(status)).as_ref() != Some(right) =>
        {
            let expected = expected(right_key);
            let reason = format!("the bucket's default encryption is under {name}: set it to {expected}");
            Some(Problem::of_bucket("default-key", Outcome::Reported, reason))
        }
        (DefaultEncryption::NotShown(why), _) => {
            let reason = format!("S3 does not show the bucket's default encryption: {why}");
            Some(Problem::of_bucket("default-key", Outcome::Unverifiable, reason))
        }
        _ => None,
    }
}

/// The text with which a person should replace a wrong name of the key.
fn expected(right_key: &RightKey) -> String {
    match right_key {
        RightKey::Known(key) => format!("the full ARN {key}"),
        RightKey::Unclear(_) => "a key's full ARN".to_owned(),
    }
}

fn right_key(configured: Option<&KeyArn>, store_keys: &[StoreKey], default: &DefaultEncryption) -> RightKey {
    if let Some(configured) = configured {
        return RightKey::Known(configured.clone());
    }
    let of_bucket = match default {
        DefaultEncryption::Key(name, status) => arn(name, Some(status)),
        DefaultEncryption::S3Managed | DefaultEncryption::NotShown(_) => None,
    };
    let of_stores =
        store_keys.iter().filter_map(|StoreKey { store, status }| arn(store.key.as_deref()?, status.as_ref()));
    let named: BTreeSet<KeyArn> = of_stores.chain(of_bucket).collect();
    let mut named = named.into_iter();
    match (named.next(), named.next()) {
        (Some(key), None) => RightKey::Known(key),
        (None, _) => RightKey::Unclear("neither a pipeline nor the bucket names a key".to_owned()),
        (Some(one), Some(other)) => {
            RightKey::Unclear(format!("the pipelines and the bucket name several keys, such as {one} and {other}"))
        }
    }
}

/// The ARN of the key that a name stands for. If the name is a full ARN, the answer of KMS is not needed.
fn arn(name: &str, status: Option<&KeyStatus>) -> Option<KeyArn> {
    KeyArn::parse(name).or_else(|| match status {
        Some(KeyStatus::Usable(arn) | KeyStatus::Unusable(arn, _)) => Some(arn.clone()),
        Some(KeyStatus::Missing | KeyStatus::NotShown(_)) | None => None,
    })
}

/// The likely reason why an object is under a key of account `owner`, in one sentence. `store` is the artifact store of
/// the pipeline that wrote the object, if one is known.
pub(crate) fn likely_cause(owner: &str, store: Option<&ArtifactStore>, right: &KeyArn) -> String {
    let cause = match store.map(|store| (store.pipeline.as_str(), store.key.as_deref())) {
        None => format!(
            "no recent pipeline execution wrote the object: somebody in account {owner} wrote it without naming the \
             key {right}"
        ),
        Some((pipeline, None)) => format!(
            "pipeline {pipeline} names no key, so the action's role wrote under the key aws/s3 of its own account \
             {owner}: write {right} as the artifact store's encryptionKey"
        ),
        Some((pipeline, Some(name))) if KeyArn::parse(name).is_none() => format!(
            "pipeline {pipeline} names its key `{name}`, which was looked up in {owner}, the account of the action's \
             role: write {right} as the artifact store's encryptionKey"
        ),
        Some((pipeline, Some(name))) if name == right.as_str() => format!(
            "pipeline {pipeline} names the right key, but the action wrote without requesting that key: in a build, \
             give `sam package` the option --kms-key-id {right}"
        ),
        Some((pipeline, Some(name))) => {
            format!("pipeline {pipeline} names {name}: write {right} as the artifact store's encryptionKey")
        }
    };
    match store {
        Some(_) => format!("{cause}. Then push a commit: a retried stage would read this object again"),
        None => cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> KeyArn {
        KeyArn::parse(&format!("arn:aws:kms:ap-northeast-1:222222222222:key/{id}")).unwrap()
    }

    fn named(name: Option<&str>, status: Option<KeyStatus>) -> StoreKey {
        let store = ArtifactStore { pipeline: "shop".into(), bucket: "b".into(), key: name.map(str::to_owned) };
        StoreKey { store, status }
    }

    fn by_arn(id: &str) -> StoreKey {
        named(Some(key(id).as_str()), Some(KeyStatus::Usable(key(id))))
    }

    fn default_key(id: &str) -> DefaultEncryption {
        DefaultEncryption::Key(key(id).to_string(), KeyStatus::Usable(key(id)))
    }

    #[test]
    fn there_is_no_finding_if_all_name_the_same_key() {
        let expected = KeyAssessment { right_key: RightKey::Known(key("a")), findings: vec![] };
        for configured in [None, Some(key("a"))] {
            let assessment = assess("b", configured.as_ref(), &[by_arn("a"), by_arn("a")], &default_key("a"));
            assert_eq!(assessment, expected);
        }
        assert_eq!(assess("b", None, &[by_arn("a")], &DefaultEncryption::S3Managed), expected);
    }

    #[test]
    fn each_wrong_name_of_the_key_is_a_finding() {
        let a = key("a");
        let alias = || named(Some("alias/artifacts"), Some(KeyStatus::Usable(key("a"))));
        let bare = || named(Some("1234"), Some(KeyStatus::Missing));
        let hidden = DefaultEncryption::NotShown("AccessDenied".into());
        let cases = [
            (named(None, None), default_key("a"), vec![(Outcome::Reported, "aws/s3")]),
            (alias(), default_key("a"), vec![(Outcome::Reported, "alias/artifacts")]),
            (bare(), default_key("a"), vec![(Outcome::Reported, "`1234`"), (Outcome::Unverifiable, "`1234`")]),
            (by_arn("other"), default_key("a"), vec![(Outcome::Reported, "key/other")]),
            (by_arn("a"), default_key("other"), vec![(Outcome::Reported, "key/other")]),
            (by_arn("a"), hidden, vec![(Outcome::Unverifiable, "AccessDenied")]),
            (by_arn("a"), DefaultEncryption::S3Managed, vec![(Outcome::Reported, "S3's own key")]),
        ];
        for (named, default, expected) in cases {
            let KeyAssessment { right_key, findings } = assess("b", Some(&a), std::slice::from_ref(&named), &default);
            assert_eq!(right_key, RightKey::Known(a.clone()));
            assert_eq!(findings.len(), expected.len(), "{named:?}");
            for (finding, (outcome, name)) in findings.iter().zip(&expected) {
                assert_eq!(finding.outcome, *outcome, "{named:?}");
                assert!(finding.reason.contains(name), "{}", finding.reason);
                assert_eq!(finding.concerns["bucket"], "b");
                assert_eq!(finding.concerns["right_key"], a.as_str());
            }
        }
    }

    #[test]
    fn the_right_key_is_unclear_if_several_or_none_are_named() {
        let cases = [
            (vec![by_arn("a"), by_arn("b")], DefaultEncryption::S3Managed),
            (vec![by_arn("a")], default_key("b")),
            (vec![named(None, None)], DefaultEncryption::S3Managed),
            (vec![], DefaultEncryption::S3Managed),
        ];
        for (named, default) in cases {
            let KeyAssessment { right_key, findings } = assess("b", None, &named, &default);
            assert!(matches!(right_key, RightKey::Unclear(_)), "{named:?}");
            assert_eq!(findings.last().unwrap().outcome, Outcome::Unknown);
        }
        let by_default = assess("b", None, &[named(None, None)], &default_key("a"));
        assert_eq!(by_default.right_key, RightKey::Known(key("a")));
    }

    #[test]
    fn a_cause_names_what_to_change() {
        let right = key("a");
        let store = |name: Option<&str>| named(name, None).store;
        let cases = [
            (None, "account 111111111111"),
            (Some(store(None)), "aws/s3"),
            (Some(store(Some("alias/x"))), "`alias/x`"),
            (Some(store(Some(right.as_str()))), "--kms-key-id"),
            (Some(store(Some(key("b").as_str()))), "key/b"),
        ];
        for (store, part) in cases {
            let cause = likely_cause("111111111111", store.as_ref(), &right);
            assert!(cause.contains(part) && cause.contains(right.as_str()), "{cause}");
            assert_eq!(cause.contains("push a commit"), part != "account 111111111111", "{cause}");
        }
    }
}
