//! The part of a reconcile that orders targets which a route leads to only now.

use std::collections::BTreeSet;

use futures_util::{StreamExt, stream};
use sekisho_domain::decision::Decision;
use sekisho_domain::route::TargetId;
use sekisho_ledger::MAX_TRANSACTION;

use crate::decision_log::Report;
use crate::error::Error;
use crate::joining::{Joining, joining};
use crate::ordering::{Ordering, Recipients};
use crate::outcome::{Outcome, about_change, needs_repair};
use crate::plan::GONE;
use crate::relay::examine;
use crate::relay::look::write_part;
use crate::relay::order::{self, NewHead};
use crate::relay::source;
use crate::run::{CONCURRENT_CALLS, Run};
use crate::snapshot::{Snapshot, TrainRows};
use crate::worklist::Reference;
use crate::world::World;

/// Orders joined targets to run the newest head of their references, unless they should run a head that was seen later,
/// and records the targets in the rows of the references. What another invocation changes meanwhile is left to the next
/// reconcile.
pub(crate) async fn order_joined<W: World>(
    run: &Run<'_, W>,
    references: &[Reference],
    undecided: &BTreeSet<TargetId>,
) -> Report {
    let mut trains = TrainRows::new();
    let all = loop {
        let routes = match joining(run.routes, references, undecided, &trains, run.now()) {
            Ok(all) => break all,
            Err(routes) => routes,
        };
        match examine::rows_of_holds(run, routes).await {
            Ok(rows) => trains.extend(rows),
            Err(error) => {
                let mut report = Report::default();
                fail(&mut report, error.into());
                return report;
            }
        }
    };
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
    let Reference { repository, source_ref, snapshot } = joining.reference;
    let change = snapshot.row.change(repository, source_ref).filter(|_| run.has_time());
    let Some(change) = change else { return Ok(Report::default()) };
    if source::is_gone(run, &change).await {
        return Ok(about_change(&change, Decision::new(Outcome::Failed, GONE)).into());
    }
    let rows = examine::target_rows(run, &joining.targets).await?;
    let has_no_order = |target: &TargetId| rows.read.get(target).is_some_and(|one| one.row.order.is_none());
    let runs_later = |target: &&TargetId| joining.fed_later.contains(*target) && has_no_order(target);
    let targets = joining.targets.iter().filter(|target| !runs_later(target)).cloned().collect();
    let finished = Snapshot { row: joining.row, revision: snapshot.revision };
    let recipients = Recipients { routes: run.routes, targets: &targets, held: &BTreeSet::new(), rows: &rows };
    let ordering = Ordering::new(change, finished, &recipients, run.now());
    if ordering.unplaced().is_none() {
        return order::carry_out(run, ordering, NewHead::No).await;
    }
    let mut report = Report::default();
    report.log.extend(ordering.notes);
    if ordering.finished.row != snapshot.row {
        let noted = Reference { snapshot: ordering.finished, ..joining.reference.clone() };
        write_part(run, &[noted]).await?;
    }
    Ok(report)
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
