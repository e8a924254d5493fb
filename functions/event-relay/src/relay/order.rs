//! Carries out an ordering: writes the orders into the ledger and then offers them to the targets. One transaction
//! writes the rows of the targets together with the row of the reference. Only for more targets than a transaction can
//! hold, the change is pending in between, and an invocation that crashes is continued by the next one.

use std::cell::RefCell;
use std::collections::BTreeSet;

use futures_util::future::{join, join_all, try_join};
use sekisho_domain::change::Change;
use sekisho_domain::decision::Decision;
use sekisho_domain::route::TargetId;
use sekisho_ledger::{MAX_TRANSACTION, Write};
use tokio::sync::Semaphore;

use crate::branch::{self, BranchRow};
use crate::decision_log::Report;
use crate::error::Error;
use crate::ordering::{Ordering, Part, Placed, Recipients, TrainArrival, orders, without};
use crate::outcome::{Outcome, about_change};
use crate::relay::examine;
use crate::relay::offer::{Offered, offer};
use crate::route::plain_routes_to;
use crate::run::Run;
use crate::snapshot::Snapshot;
use crate::target::is_target;
use crate::train::{Arrival, held_targets};
use crate::world::World;

/// Whether the ordered change is a new head. The outcome of the decision depends on this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NewHead {
    /// The outcome is `relayed`.
    Yes,
    /// Targets have joined since the head was relayed: the outcome is `ordered`.
    No,
}

impl NewHead {
    fn outcome(self) -> Outcome {
        match self {
            Self::Yes => Outcome::Relayed,
            Self::No => Outcome::Ordered,
        }
    }
}

/// Writes the orders and offers them.
///
/// # Errors
/// A row could not be written. [`sekisho_ledger::Error::Changed`] means that the caller must plan again.
pub(crate) async fn carry_out<W: World>(
    run: &Run<'_, W>,
    ordering: Ordering,
    new_head: NewHead,
) -> Result<Report, Error> {
    let Ordering { change, finished, notes, .. } = &ordering;
    let (part, offered) = if ordering.fits_transaction() {
        write_all(run, change, &ordering.part.placed, Some(finished), &ordering.trains).await?;
        let offered = offer(run, &orders(&ordering.part.placed)).await;
        (ordering.part.clone(), offered)
    } else {
        carry_out_many(run, &ordering).await?
    };
    let mut report = Report::default();
    report.log.extend(notes.iter().chain(part.unreadable.values()).cloned());
    if ordering.concerns_targets() {
        report.log.push(decision(change, &part, &offered, new_head));
    }
    report.log.extend(ordering.trains.iter().map(|train| train.decision(change)));
    Ok(report)
}

fn decision(change: &Change, part: &Part, offered: &Offered, new_head: NewHead) -> Decision<Outcome> {
    let (accepted, all) = (offered.accepted, offered.all());
    let (outcome, reason) = match (part.unplaced(), offered.not_accepted.first()) {
        (Some((outcome, reason)), _) => (outcome, reason.to_owned()),
        (None, None) => (new_head.outcome(), format!("{accepted} of {all} buses accepted the change")),
        (None, Some(first)) => {
            let reason = format!(
                "{accepted} of {all} buses accepted the change; the reconcile offers it to the others again, the \
                 first: {}",
                first.reason
            );
            (new_head.outcome(), reason)
        }
    };
    let counted = |count: usize| (count > 0).then(|| count.to_string());
    about_change(change, Decision::new(outcome, reason))
        .about_some("targets", (!part.placed.is_empty()).then(|| accepted.to_string()))
        .about_some("duplicates", counted(part.duplicates))
        .about_some("superseded", counted(part.superseded))
        .about_some("held", counted(part.held.len()))
}

/// Writes the rows of targets in one transaction, together with the finished row of the reference if there is one.
pub(crate) async fn write_all<W: World>(
    run: &Run<'_, W>,
    change: &Change,
    placed: &[Placed],
    finished: Option<&Snapshot<BranchRow>>,
    trains: &[TrainArrival],
) -> Result<(), sekisho_ledger::Error> {
    let mut writes = Vec::with_capacity(placed.len() + trains.len() + 1);
    for train in trains.iter().filter(|train| train.arrival != Arrival::Duplicate) {
        writes.push(train.write()?);
    }
    for one in placed {
        writes.push(one.write()?);
    }
    if let Some(Snapshot { row, revision }) = finished {
        writes.push(Write::new(branch::key(&change.repository, &change.source_ref), row, *revision)?);
    }
    run.write_all(&writes).await
}

/// Carries out an ordering in several transactions. The row of the reference is finished in the last one. Orders are
/// offered as soon as their transaction is written.
async fn carry_out_many<W: World>(run: &Run<'_, W>, ordering: &Ordering) -> Result<(Part, Offered), Error> {
    let Ordering { change, part: Part { placed, duplicates, superseded, held, unreadable }, .. } = ordering;
    let mut finished = ordering.finished.clone();
    if let Some(pending) = &ordering.pending {
        finished.revision = Some(write_pending(run, ordering, pending).await?);
    }
    let mut parts: Vec<&[Placed]> = placed.chunks(MAX_TRANSACTION - 1).collect();
    let last = parts.pop().unwrap_or_default();
    let written = Semaphore::new(0);
    let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    // The targets that were held or whose rows became unreadable in the meantime.
    let excluded = RefCell::new(BTreeSet::new());
    let first = parts.into_iter().map(async |placed| {
        let part = place(run, change, placed, None).await;
        match &part {
            Ok(part) => {
                excluded.borrow_mut().extend(part.left_out().cloned());
                written.add_permits(1);
            }
            Err(_) => written.close(),
        }
        offer_part(run, part?).await
    });
    let last = async {
        // If one of the first transactions failed, the change stays pending, and a retry continues it.
        if written.acquire_many(count).await.is_err() {
            return Ok((Part::default(), Offered::default()));
        }
        let finished = without(finished, excluded.take().iter());
        offer_part(run, place(run, change, last, Some(&finished)).await?).await
    };
    let (first, last) = join(join_all(first), last).await;
    let (held, unreadable) = (held.clone(), unreadable.clone());
    let mut whole = Part { placed: vec![], duplicates: *duplicates, superseded: *superseded, held, unreadable };
    let mut offered = Offered::default();
    for part in first.into_iter().chain([last]) {
        let (part, part_offered) = part?;
        whole.add(part);
        offered.extend(part_offered);
    }
    Ok((whole, offered))
}

/// Writes the row of the reference with the pending change, and returns the row's revision. The trains are written with
/// it, because an invocation that continues the change does not know which trains it touches.
async fn write_pending<W: World>(
    run: &Run<'_, W>,
    Ordering { change, finished, trains, .. }: &Ordering,
    pending: &BranchRow,
) -> Result<u64, sekisho_ledger::Error> {
    if trains.is_empty() {
        return run.write_row(&change.repository, &change.source_ref, pending, finished.revision).await;
    }
    let row = Snapshot { row: pending.clone(), revision: finished.revision };
    write_all(run, change, &[], Some(&row), trains).await?;
    Ok(finished.revision.unwrap_or(0) + 1)
}

async fn offer_part<W: World>(run: &Run<'_, W>, part: Part) -> Result<(Part, Offered), Error> {
    let offered = offer(run, &orders(&part.placed)).await;
    Ok((part, offered))
}

/// Writes the rows of some of the targets, together with the finished row of the reference in the last transaction. If
/// another invocation wrote one of these rows first, the rows are read again, and the orders are placed again.
async fn place<W: World>(
    run: &Run<'_, W>,
    change: &Change,
    placed: &[Placed],
    finished: Option<&Snapshot<BranchRow>>,
) -> Result<Part, Error> {
    let mut part = Part { placed: placed.to_vec(), ..Part::default() };
    let mut pauses = run.pauses();
    loop {
        if !run.has_time() {
            let (source_ref, repository) = (change.source_ref.clone(), change.repository.clone());
            return Err(Error::NoTime { source_ref, repository });
        }
        // The last transaction takes no permit, because offers may hold all permits.
        let permit = if finished.is_none() { run.calls.acquire().await.ok() } else { None };
        let row = finished.map(|row| without(row.clone(), part.left_out()));
        let written = write_all(run, change, &part.placed, row.as_ref(), &[]).await;
        drop(permit);
        match written {
            Ok(()) => return Ok(part),
            Err(sekisho_ledger::Error::Changed(key)) if is_target(&key) => {}
            Err(error) => return Err(error.into()),
        }
        run.world.sleep(pauses.next().unwrap_or_default()).await;
        let targets: BTreeSet<TargetId> = placed.iter().map(|one| one.target.clone()).collect();
        let routes = || run.routes.concerning(&change.repository, &change.source_ref);
        let trains = examine::rows_of_holds(run, plain_routes_to(routes(), &targets));
        let (rows, trains) = try_join(examine::target_rows(run, &targets), trains).await?;
        let held = held_targets(routes(), &trains, &change.source_ref, run.now());
        let recipients = Recipients { routes: run.routes, targets: &targets, held: &held, rows: &rows };
        part = Part::new(change, &recipients, run.now());
    }
}
