//! What people are told of a failed execution.

use sekisho_domain::account::{AccountId, Region};

/// What CodePipeline says of a failed execution, as far as it says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failed {
    /// The stage and action that failed.
    pub place: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// The source revision.
    pub commit: Option<String>,
}

/// SNS takes 100 characters of ASCII as a subject.
#[must_use]
pub fn subject(pipeline: &str, account: &AccountId) -> String {
    format!("Pipeline {pipeline} failed in {account}").chars().take(100).collect()
}

/// The text: what, where, why, at which commit, and a link.
#[must_use]
pub fn text(pipeline: &str, execution: &str, account: &AccountId, region: &Region, failed: &Failed) -> String {
    let or_unknown = |known: &Option<String>| known.clone().unwrap_or_else(|| "not known".to_owned());
    format!(
        "Pipeline {pipeline} failed in account {account}, {region}.\nWhere: {}\nWhy: {}\nCommit: {}\n\
         https://{region}.console.aws.amazon.com/codesuite/codepipeline/pipelines/{pipeline}/executions/{execution}/timeline?region={region}",
        or_unknown(&failed.place),
        or_unknown(&failed.reason),
        or_unknown(&failed.commit),
    )
}
