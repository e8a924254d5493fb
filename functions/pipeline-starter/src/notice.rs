//! The notices about failed executions and about approvals: whether to send them, and their texts.

use sekisho_domain::account::{AccountId, Region};
use sekisho_domain::change::Revision;
use sekisho_domain::decision::Decision;
use sekisho_domain::notice::Notice;
use sekisho_domain::order::OrderKind;
use sekisho_domain::report::ReportState;
use sekisho_domain::route::PipelineName;
use sekisho_ledger::{Key, SentNotice};
use time::Duration;

use crate::order::{OrderRow, Progress};
use crate::outcome::Outcome;
use crate::request::{ActionState, EndedExecution};
use crate::world::FailureDetails;

/// The time for which the ledger remembers that a notice was sent. The dead-letter queue keeps an event for at most 14
/// days, and a person can redeliver the event during this time.
pub(crate) const REMEMBERED: Duration = Duration::days(14);

/// The key of the row that records the notice about a failure. A retried stage that fails again has a row of its own.
/// The row of the first run has the key that earlier versions gave to the row of an execution.
pub(crate) fn key(ended: &EndedExecution) -> Key {
    match ended.run() {
        Some(run) if run > 1 => Key::state(format!("notice#{}#{run}", ended.id)),
        _ => Key::state(format!("notice#{}", ended.id)),
    }
}

/// The key of the row that records the notice about an approval.
pub(crate) fn approval_key(action: &ActionState) -> Key {
    Key::state(format!("notice#approval#{}", action.run()))
}

/// The plan for the notice about a failure.
#[derive(Debug)]
pub(crate) enum NoticePlan {
    /// Send nothing, because the execution did not fail.
    None,
    /// Send nothing, because the notice was sent before.
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

/// The notice about a failed execution. It names the place and the reason of the failure, the revisions and, if the
/// execution is an order's that may go back, what happens next. It has a link to the execution.
pub(crate) fn about(
    ended: &EndedExecution,
    account: &AccountId,
    region: &Region,
    details: &FailureDetails,
    next: Option<String>,
) -> Notice {
    let EndedExecution { pipeline, id, .. } = ended;
    let line = |label: &str, value: &Option<String>| format!("{label}: {}", value.as_deref().unwrap_or("not known"));
    let mut lines = vec![line("Where", &details.place), line("Why", &details.reason)];
    lines.extend(revision_lines(&details.revisions));
    lines.extend(next);
    Notice {
        title: format!("Pipeline {pipeline} failed in {account}, {region}"),
        lines,
        link: Some(execution_link(pipeline, id, region)),
        ..Notice::default()
    }
}

/// A line for each revision that an execution runs at.
fn revision_lines(revisions: &[Revision]) -> Vec<String> {
    if revisions.is_empty() {
        return vec!["Commit: not known".to_owned()];
    }
    revisions.iter().map(revision_line).collect()
}

fn revision_line(revision: &Revision) -> String {
    let label = if revision.is_digest() { "Image" } else { "Commit" };
    format!("{label}: {revision}")
}

fn execution_link(pipeline: &str, execution: &str, region: &Region) -> (String, String) {
    let address = format!(
        "https://{region}.console.aws.amazon.com/codesuite/codepipeline/pipelines/{pipeline}\
         /executions/{execution}/timeline?region={region}"
    );
    ("Execution".to_owned(), address)
}

/// What happens after an execution of the row's order has failed. Returns `None` if the order does not go back in any
/// case.
pub(crate) fn next_step(row: &OrderRow, ended: &EndedExecution) -> Option<String> {
    if row.goes_back_from(&ended.id) {
        return Some(format!("Next: {}", goes_back_to(row)));
    }
    let is_own = row.execution.as_deref() == Some(ended.id.as_str());
    if !is_own || row.progress != Progress::Ended(ReportState::Failed) {
        return None;
    }
    if row.kind == OrderKind::Rollback {
        return Some(format!("Next: {STAYS} This was the way back to {}.", row.destination_text()));
    }
    row.bake.as_ref().map(|_| format!("Next: {STAYS} {}", row.reason()))
}

const STAYS: &str =
    "the target stays as it is, and the next change may enter; while an alarm rings, it has to be promoted.";

fn goes_back_to(row: &OrderRow) -> String {
    format!("the target goes back to {}.", row.destination_text())
}

/// The notice about a bake that failed. It names the alarm, the revision, the execution and what happens next.
pub(crate) fn about_bake(row: &OrderRow, pipeline: &str, account: &AccountId, region: &Region) -> Notice {
    let change = row.ordered();
    let execution = row.way_back.as_ref().map_or(&row.execution, |way_back| &way_back.execution);
    let (why, next) = match &row.way_back {
        Some(way_back) => (way_back.reason.as_str(), goes_back_to(row)),
        None => (row.reason(), STAYS.to_owned()),
    };
    Notice {
        title: format!("Pipeline {pipeline} deployed an unhealthy change in {account}, {region}"),
        lines: vec![
            format!("Why: {why}"),
            format!("Change: {} of {}", change.source_ref, change.repository),
            revision_line(&change.revision),
            format!("Next: {next}"),
        ],
        link: execution.as_ref().map(|execution| execution_link(pipeline, execution, region)),
        ..Notice::default()
    }
}

/// The notice about an order that CodePipeline refuses to start. The function tries again by itself after a person has
/// corrected the cause.
pub(crate) fn about_rejection(
    row: &OrderRow,
    pipeline: &PipelineName,
    account: &AccountId,
    region: &Region,
    reason: &str,
) -> Notice {
    Notice {
        title: format!("Pipeline {pipeline} cannot be started in {account}, {region}"),
        lines: vec![
            format!("Why: {reason}"),
            format!("Change: {} of {}", row.ordered().source_ref, row.ordered().repository),
            revision_line(&row.change.revision),
            "Sekisho tries again at least once an hour.".to_owned(),
        ],
        ..Notice::default()
    }
}

/// The notice about an approval. It names the action that waits and the revisions, and has a link to the page where a
/// person approves or rejects.
pub(crate) fn about_approval(
    action: &ActionState,
    account: &AccountId,
    region: &Region,
    revisions: &[Revision],
) -> Notice {
    let pipeline = &action.pipeline;
    let address = format!(
        "https://{region}.console.aws.amazon.com/codesuite/codepipeline/pipelines/{pipeline}/view?region={region}"
    );
    Notice {
        title: format!("Pipeline {pipeline} waits for approval in {account}, {region}"),
        lines: std::iter::once(format!("Where: {}", action.place())).chain(revision_lines(revisions)).collect(),
        link: Some(("Review and answer".to_owned(), address)),
        ..Notice::default()
    }
}
