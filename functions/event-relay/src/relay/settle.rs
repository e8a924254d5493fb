//! Settles one reference: makes plans and carries them out until the head is relayed or nothing is left to relay.

use crate::decision_log::Report;
use crate::error::Error;
use crate::hint::{Hint, Trigger};
use crate::plan::{Facts, Plan, Verdict};
use crate::relay::deliver;
use crate::relay::examine;
use crate::run::{POLL_INTERVAL, Run};
use crate::world::World;

/// The most claims that may fail because another invocation wrote the row first. After that, the function returns
/// [`Error::Busy`].
const MAX_CONFLICTS: usize = 20;

/// Settles the reference of `hint`.
pub(crate) async fn settle<W: World>(run: &Run<'_, W>, hint: &Hint, trigger: Trigger) -> Report {
    let mut report = Report::default();
    let mut conflicts = 0;
    while conflicts < MAX_CONFLICTS {
        let plan = match examine::reference(run, Facts::new(run.routes, hint, trigger)).await {
            Ok(plan) => plan,
            Err(error) => return report.failed(error),
        };
        let (claim, is_head) = match plan {
            Plan::Nothing => return report,
            Plan::Decide(verdict) => return decide(run, hint, verdict, report).await,
            Plan::Wait(_) if trigger == Trigger::Event && run.has_time() => {
                run.world.sleep(POLL_INTERVAL).await;
                continue;
            }
            Plan::Wait(_) => return report.failed(Error::busy(hint)),
            Plan::Finish(claim) => (claim, false),
            Plan::Relay(claim) => (claim, true),
        };
        if !run.has_time() {
            return report.failed(Error::no_time(hint));
        }
        match deliver::relay(run, hint, &claim).await {
            Ok(relayed) => {
                report.log.extend(relayed.log.into_decisions());
                if let Some(error) = relayed.failure {
                    return report.failed(error);
                }
                if is_head {
                    return report;
                }
            }
            // Another invocation wrote the row first: plan again. Only conflicts about a head are counted, because a
            // conflict about a pending change means that the other invocation finishes that change.
            Err(sekisho_ledger::Error::Changed(_)) => conflicts += usize::from(is_head),
            Err(error) => return report.failed(error),
        }
    }
    report.failed(Error::busy(hint))
}

/// Adds the verdict's decision to the report. Also writes the verdict's row, if there is one, so that the next
/// reconcile need not compare the head again.
async fn decide<W: World>(run: &Run<'_, W>, hint: &Hint, verdict: Verdict, report: Report) -> Report {
    let report = report.with(verdict.decision);
    let Some(remember) = verdict.remember else { return report };
    match run.write_row(&hint.repository, &hint.git_ref, &remember.row, remember.revision).await {
        // A conflict is ignored on purpose: if another invocation wrote the row first, the next reconcile compares the
        // head again.
        Ok(_) | Err(sekisho_ledger::Error::Changed(_)) => report,
        Err(error) => report.failed(error),
    }
}
