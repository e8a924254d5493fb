//! The part of a reconcile that orders targets which a route leads to only now.

use std::collections::BTreeSet;

use futures_util::{StreamExt, stream};
use sekisho_domain::route::TargetId;
use sekisho_ledger::MAX_TRANSACTION;

use crate::decision_log::Report;
use crate::error::Error;
use crate::joining::{Joining, joining};
use crate::outcome::needs_repair;
use crate::plan::{Ordering, Snapshot};
use crate::relay::examine;
use crate::relay::look::write_part;
use crate::relay::order::{self, NewHead};
use crate::run::{CONCURRENT_CALLS, Run};
use crate::worklist::Reference;
use crate::world::World;

/// Orders joined targets to run the newest head of their references, and records the targets in the rows of the
/// references. What another invocation changes meanwhile is left to the next reconcile.
pub(crate) async fn order_joined<W: World>(
    run: &Run<'_, W>,
    references: &[Reference],
    ordered: &BTreeSet<TargetId>,
    undecided: &BTreeSet<TargetId>,
) -> Report {
    let all = joining(run.routes, references, ordered, undecided);
    let (joined, noted): (Vec<Joining<'_>>, Vec<Joining<'_>>) =
        all.into_iter().partition(|one| !one.targets.is_empty());
    let reports: Vec<Result<Report, Error>> =
        stream::iter(joined).map(|joining| order_one(run, joining)).buffer_unordered(CONCURRENT_CALLS).collect().await;
    let mut whole = Report::default();
    for report in reports {
        match report {
            Ok(report) => whole.log.extend(report.log.into_decisions()),
            Err(error) => fail(&mut whole, error),
        }
    }
    // The newest heads are ordered first: a target that is recorded somewhere counts as joined.
    let noted: Vec<Reference> = noted.into_iter().map(noted_reference).collect();
    for part in noted.chunks(MAX_TRANSACTION) {
        if !run.has_time() {
            break;
        }
        if let Err(error) = write_part(run, part).await {
            fail(&mut whole, error.into());
        }
    }
    whole
}

async fn order_one<W: World>(run: &Run<'_, W>, joining: Joining<'_>) -> Result<Report, Error> {
    let Reference { repository, git_ref, snapshot } = joining.reference;
    let change = snapshot.row.change(repository, git_ref).filter(|_| run.has_time());
    let Some(change) = change else { return Ok(Report::default()) };
    let rows = examine::target_rows(run, &joining.targets).await?;
    let finished = Snapshot { row: joining.row, revision: snapshot.revision };
    order::carry_out(run, Ordering::new(change, finished, &joining.targets, &rows, run.now()), NewHead::No).await
}

fn noted_reference(Joining { reference, row, .. }: Joining<'_>) -> Reference {
    let revision = reference.snapshot.revision;
    Reference { snapshot: Snapshot { row, revision }, ..reference.clone() }
}

fn fail(report: &mut Report, error: Error) {
    match error {
        Error::Ledger(sekisho_ledger::Error::Changed(_)) | Error::NoTime { .. } => {}
        error if error.is_final() => report.log.push(needs_repair(&error)),
        error => drop(report.failure.get_or_insert(error)),
    }
}
