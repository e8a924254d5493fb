//! Carries out what a train does next: writes the train's row together with the rows of targets, and then offers the
//! orders.

use std::collections::BTreeSet;

use sekisho_domain::decision::Decision;
use sekisho_domain::route::{Route, TargetId};
use sekisho_ledger::{MAX_TRANSACTION, Row, Store, Write};

use crate::decision_log::DecisionLog;
use crate::error::Error;
use crate::next::{Missing, Next, Scope, TrainFacts, next};
use crate::notice::{about_unknown, due};
use crate::ordering::{Placed, orders};
use crate::outcome::Outcome;
use crate::relay::examine;
use crate::relay::notify::{Occasion, notify};
use crate::relay::offer::{Offered, offer};
use crate::relay::source;
use crate::run::Run;
use crate::snapshot::{Snapshot, TargetRows};
use crate::train::{self, TrainRow};
use crate::train_text::TrainView;
use crate::world::World;

/// Moves a train on: lets changes enter waves, orders targets, judges waves and sends targets back, until nothing is
/// left to do. Then it sends the notices that people should have. The rows are read here, so the caller writes its own
/// change of the train's row first.
///
/// # Errors
/// A row could not be read or written, or other invocations wrote the rows again and again.
pub(crate) async fn advance<W: World>(run: &Run<'_, W>, route: &Route, scope: Scope) -> Result<DecisionLog, Error> {
    let mut log = DecisionLog::default();
    let mut offered = Offered::default();
    let mut progress = Progress { scope: scope.clone(), log: &mut log, offered: &mut offered };
    let (row, targets) = run.until_unchanged(async || step(run, route, &mut progress).await).await?;
    let view = TrainView { routes: run.routes, route, row: &row, targets: &targets, now: run.now() };
    // Most reports lead to no decision, so they do not read which notices were sent.
    let notices = if scope == Scope::All || !log.is_empty() { due(&view) } else { about_unknown(&view) };
    let occasion = if scope == Scope::All { Occasion::Pass } else { Occasion::Event };
    log.extend(notify(run, route, notices, occasion).await);
    log.extend(offered.not_accepted.first().map(|first| {
        let count = offered.not_accepted.len();
        let reason = format!(
            "{count} of {} buses did not accept the orders; the reconcile offers them again, the first: {}",
            offered.all(),
            first.reason
        );
        Decision::new(Outcome::Ignored, reason).about("route", route.name())
    }));
    Ok(log)
}

/// What an invocation has done for a train so far.
struct Progress<'a> {
    scope: Scope,
    log: &'a mut DecisionLog,
    offered: &'a mut Offered,
}

/// Decides, writes and offers. Returns the rows afterwards, as far as they were read.
async fn step<W: World>(
    run: &Run<'_, W>,
    route: &Route,
    progress: &mut Progress<'_>,
) -> Result<(TrainRow, TargetRows), Error> {
    let stored = read(run, route).await?;
    let Snapshot { row, mut revision } = stored.clone();
    let (targets, scope) = (TargetRows::default(), progress.scope.clone());
    let facts = TrainFacts { routes: run.routes, route, row, targets, scope, gone: vec![] };
    let (Next { row, orders: placed, decisions }, mut targets) = decide(run, facts).await?;
    if row == stored.row && placed.is_empty() {
        return Ok((row, targets));
    }
    // Another invocation may work on the train. The train's row is in each transaction, so only one of them goes on.
    let mut decisions = Some(decisions);
    let mut rest = placed.as_slice();
    loop {
        let (part, later) = rest.split_at(rest.len().min(MAX_TRANSACTION - 1));
        let mut writes = vec![Write::new(train::key(route.name()), &without_newcomers(&row, later), revision)?];
        for one in part {
            writes.push(one.write()?);
        }
        run.write_all(&writes).await?;
        revision = Some(revision.unwrap_or(0) + 1);
        progress.log.extend(decisions.take().into_iter().flatten());
        progress.offered.extend(offer(run, &orders(part)).await);
        if later.is_empty() {
            break;
        }
        // If the next part cannot be written, only a look at all waves finds what is left of it.
        progress.scope = Scope::All;
        rest = later;
    }
    for Placed { target, row, replaces } in placed {
        targets.read.insert(target, Snapshot { row, revision: Some(replaces.unwrap_or(0) + 1) });
    }
    Ok((row, targets))
}

/// The row of a train before these orders are written. A newcomer is no member before it has its order, so that another
/// invocation places the order if this one does not get so far.
fn without_newcomers(row: &TrainRow, later: &[Placed]) -> TrainRow {
    let has_joined =
        |one: &&Placed| one.row.order.as_ref().and_then(|order| order.train.as_ref()).is_some_and(|train| train.joined);
    let newcomers: BTreeSet<&TargetId> = later.iter().filter(has_joined).map(|one| &one.target).collect();
    let mut row = row.clone();
    for wave in &mut row.waves {
        wave.members.retain(|member| !newcomers.contains(member));
    }
    row
}

/// Reads the row of a train.
async fn read<W: World>(run: &Run<'_, W>, route: &Route) -> Result<Snapshot<TrainRow>, Error> {
    let row: Option<Row<TrainRow>> = run.world.ledger().read(&train::key(route.name())).await?;
    Ok(Snapshot::from(row))
}

/// Decides what a train does next, and returns the rows of targets that it had to read. The images to order are read,
/// too. Writes nothing.
async fn decide<W: World>(run: &Run<'_, W>, mut facts: TrainFacts<'_>) -> Result<(Next, TargetRows), Error> {
    loop {
        match next(&facts, run.now()) {
            Ok(next) => {
                let mut gone = source::gone(run, &next.orders).await;
                gone.retain(|change| !facts.gone.contains(change));
                if gone.is_empty() {
                    return Ok((next, facts.targets));
                }
                facts.gone.append(&mut gone);
            }
            Err(Missing(targets)) => add_rows(run, &mut facts.targets, &targets).await?,
        }
    }
}

async fn add_rows<W: World>(
    run: &Run<'_, W>,
    rows: &mut TargetRows,
    missing: &BTreeSet<TargetId>,
) -> Result<(), Error> {
    let read = examine::target_rows(run, missing).await?;
    rows.read.extend(read.read);
    rows.unreadable.extend(read.unreadable);
    Ok(())
}
