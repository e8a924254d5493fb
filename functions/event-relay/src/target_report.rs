//! Parses the event with which a target reports on its order.

use sekisho_domain::decision::Decision;
use sekisho_domain::report::OrderReport;
use sekisho_domain::route::TargetId;
use sekisho_lambda::event::Envelope;

use crate::outcome::{Outcome, revision_key};

/// The longest reason that the ledger stores, in characters. The rest of a longer reason is cut off.
const LONGEST_REASON: usize = 1_000;
/// The longest id of a change or an execution, in bytes. The ids of all real changes and executions are shorter. The
/// limit keeps a wrong report from filling the target's row.
const LONGEST_ID: usize = 200;
/// The most source actions without a revision that the ledger stores. A pipeline has at most 100 actions, and real ones
/// have few sources.
const MOST_SOURCES: usize = 20;

/// A report and the target that sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetReport {
    /// The target. EventBridge sets the account, so a target can report only about pipelines of its own account.
    pub(crate) target: TargetId,
    /// The report.
    pub(crate) report: OrderReport,
    /// The id of the event.
    pub(crate) event: String,
}

impl TargetReport {
    /// Parses the event.
    ///
    /// # Errors
    /// A sentence that names the missing or malformed field.
    pub(crate) fn parse(envelope: &Envelope) -> Result<Self, String> {
        let account = envelope.account.parse().map_err(|reason| format!("event.account: {reason}"))?;
        let report = OrderReport::parse(envelope.detail.get()).map_err(|error| format!("event.{error}"))?;
        let ids = [
            ("id", Some(&report.id)),
            ("execution", report.execution.as_ref()),
            ("foreign_execution", report.foreign_execution.as_ref()),
        ];
        if let Some((name, _)) = ids.into_iter().find(|(_, id)| id.is_some_and(|id| id.len() > LONGEST_ID)) {
            return Err(format!("event.detail.{name}: longer than {LONGEST_ID} bytes"));
        }
        let target = TargetId { account, region: report.region.clone(), pipeline: report.pipeline.clone() };
        let reason = report.reason.chars().take(LONGEST_REASON).collect();
        let lacks = report.lacks.into_iter().take(MOST_SOURCES).collect();
        Ok(Self { target, report: OrderReport { reason, lacks, ..report }, event: envelope.id.clone() })
    }
}

/// Makes `report` the subject of a decision.
pub(crate) fn about_report(report: &TargetReport, decision: Decision<Outcome>) -> Decision<Outcome> {
    let TargetReport { target, report, event } = report;
    decision
        .about("target", target.to_string())
        .about("order", report.number.to_string())
        .about("state", report.state.as_str())
        .about(revision_key(&report.revision), report.revision.as_str())
        .about("event", event)
        .about_some("execution", report.execution.as_deref())
}
