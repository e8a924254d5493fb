//! The notices about failed executions and about approvals: whether to send them, and their texts.

use sekisho_domain::account::{AccountId, Region};
use sekisho_domain::decision::Decision;
use sekisho_domain::notice::Notice;
use sekisho_ledger::{Key, SentNotice};
use time::Duration;

use crate::outcome::Outcome;
use crate::request::{ActionState, EndedExecution};
use crate::world::FailureDetails;

/// How long the ledger remembers that a notice was sent. The dead-letter queue keeps an event for at most 14 days, and
/// a person can redeliver it until then.
pub(crate) const REMEMBERED: Duration = Duration::days(14);

/// The key of the row that records the notice about an execution.
pub(crate) fn key(ended: &EndedExecution) -> Key {
    Key::state(format!("notice#{}", ended.id))
}

/// The key of the row that records the notice about an approval.
pub(crate) fn approval_key(action: &ActionState) -> Key {
    Key::state(format!("notice#approval#{}", action.run()))
}

/// What to do about the notice of a failure.
#[derive(Debug)]
pub(crate) enum NoticePlan {
    /// Nothing: the execution did not fail.
    None,
    /// Nothing: the notice was sent before.
    AlreadySent,
    /// Send the notice, then record that it was sent.
    Send(SentNotice),
}

impl NoticePlan {
    /// The decision that the plan leads to if the notice can be sent.
    pub(crate) fn decision(&self) -> Option<Decision<Outcome>> {
        match self {
            Self::None => None,
            Self::AlreadySent => {
                Some(Decision::new(Outcome::Duplicate, "the notice about this failure was sent before"))
            }
            Self::Send(_) => Some(Decision::new(
                Outcome::ExecutionFailed,
                "a notice about this failure would be sent, with the details that CodePipeline reports",
            )),
        }
    }
}

/// The notice. It says where and why the execution failed and at which commit, and has a link to the execution.
pub(crate) fn about(ended: &EndedExecution, account: &AccountId, region: &Region, details: &FailureDetails) -> Notice {
    let EndedExecution { pipeline, id, .. } = ended;
    let line = |label: &str, value: &Option<String>| format!("{label}: {}", value.as_deref().unwrap_or("not known"));
    let address = format!(
        "https://{region}.console.aws.amazon.com/codesuite/codepipeline/pipelines/{pipeline}\
         /executions/{id}/timeline?region={region}"
    );
    Notice {
        title: format!("Pipeline {pipeline} failed in {account}, {region}"),
        lines: vec![line("Where", &details.place), line("Why", &details.reason), line("Commit", &details.commit)],
        link: Some(("Execution".to_owned(), address)),
        ..Notice::default()
    }
}

/// The notice: what waits for an approval, at which commit, and a link to the place where a person answers it.
pub(crate) fn about_approval(
    action: &ActionState,
    account: &AccountId,
    region: &Region,
    commit: Option<&str>,
) -> Notice {
    let pipeline = &action.pipeline;
    let address = format!(
        "https://{region}.console.aws.amazon.com/codesuite/codepipeline/pipelines/{pipeline}/view?region={region}"
    );
    Notice {
        title: format!("Pipeline {pipeline} waits for approval in {account}, {region}"),
        lines: vec![format!("Where: {}", action.place()), format!("Commit: {}", commit.unwrap_or("not known"))],
        link: Some(("Review and answer".to_owned(), address)),
        ..Notice::default()
    }
}
