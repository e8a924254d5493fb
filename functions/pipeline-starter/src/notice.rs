//! What people are told of a failed execution.

use sekisho_domain::account::{AccountId, Region};
use sekisho_domain::notice::Notice;

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

/// What, where, why, at which commit, and a link.
#[must_use]
pub fn of(pipeline: &str, execution: &str, account: &AccountId, region: &Region, failed: &Failed) -> Notice {
    let line = |what: &str, known: &Option<String>| format!("{what}: {}", known.as_deref().unwrap_or("not known"));
    let address = format!(
        "https://{region}.console.aws.amazon.com/codesuite/codepipeline/pipelines/{pipeline}/executions/{execution}/timeline?region={region}"
    );
    Notice {
        title: format!("Pipeline {pipeline} failed in {account}, {region}"),
        lines: vec![line("Where", &failed.place), line("Why", &failed.reason), line("Commit", &failed.commit)],
        link: Some(("Execution".to_owned(), address)),
        ..Notice::default()
    }
}
