//! Reads the facts that a plan depends on, and writes nothing.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, join4, select, try_join, try_join_all};
use sekisho_domain::change::{RepositoryArn, Revision};
use sekisho_domain::route::TargetId;
use sekisho_ledger::{Key, MAX_TRANSACTION, Store};

use crate::error::Error;
use crate::hint::{Hint, Trigger};
use crate::outcome::needs_repair;
use crate::plan::{Facts, Missing, Plan, needs_floor, plan};
use crate::relay::source;
use crate::repository::{self, RepositoryRow};
use crate::route::{TouchedRoutes, plain_routes_to};
use crate::run::{RESERVE, Run, TargetLocks};
use crate::snapshot::{Snapshot, TargetRows, TrainRows};
use crate::target;
use crate::train::{self, Hold, TrainRow};
use crate::world::World;

/// The function reads at most this many pages of changed paths. If there are more pages, the change goes to every
/// route. A page has up to a few hundred paths.
const MAX_PAGES: usize = 100;
/// Reading changed paths ends when only this time and [`RESERVE`] are left, so that the change can still be sent.
const OFFER_TIME: Duration = Duration::from_secs(5);

/// Reads facts about a reference until the plan for the reference is known. The caller keeps the locks until the plan
/// is carried out.
pub(crate) async fn reference<W: World>(run: &Run<'_, W>, facts: &mut Facts<'_>) -> Result<(Plan, TargetLocks), Error> {
    let hint = facts.hint;
    let mut locks = TargetLocks::default();
    loop {
        match plan(facts, run.now()) {
            Ok(plan) => return Ok((plan, locks)),
            Err(Missing::Row) => facts.row = Some(run.read_row(&hint.repository, &hint.source_ref).await?),
            Err(Missing::Head) => read_head(run, facts).await?,
            Err(Missing::Image(change)) => facts.is_gone = Some(source::is_gone(run, &change).await),
            Err(Missing::Paths { previous, head }) => {
                match touched_routes(run, hint, &facts.touched, previous.as_ref(), &head).await {
                    Ok(touched) => facts.touched = touched,
                    Err(error) => facts.paths_error = Some(error),
                }
            }
            Err(Missing::Floor) => facts.floor = Some(floor(run, &hint.repository).await?),
            Err(Missing::Rows { targets, trains }) if targets.is_empty() => {
                facts.trains.extend(train_rows(run, trains).await?);
            }
            Err(Missing::Rows { targets, trains }) => {
                locks = run.lock(&targets).await;
                let (targets, trains) = try_join(target_rows(run, &targets), train_rows(run, trains)).await?;
                facts.targets = targets;
                facts.trains.extend(trains);
            }
        }
    }
}

/// Reads the head. If the head of an event may go to many targets, their rows, those of their routes and the lower
/// bound of the sequence are read at the same time. In a reconcile, nearly every head was relayed before and needs none
/// of them.
async fn read_head<W: World>(run: &Run<'_, W>, facts: &mut Facts<'_>) -> Result<(), Error> {
    let hint = facts.hint;
    let head = source::head(run.world, &hint.repository, &hint.source_ref);
    let targets = facts.touched.all_targets();
    if facts.trigger == Trigger::Reconcile || targets.len() < MAX_TRANSACTION {
        facts.head = Some(head.await?);
        return Ok(());
    }
    let needs_floor = facts.row.as_ref().is_some_and(|snapshot| needs_floor(hint, &snapshot.row));
    let floor = async { if needs_floor { floor(run, &hint.repository).await.map(Some) } else { Ok(None) } };
    let trains = train_rows(run, plain_routes_to(facts.touched.all(), &targets));
    let (head, rows, trains, floor) = join4(head, target_rows(run, &targets), trains, floor).await;
    (facts.head, facts.targets, facts.trains, facts.floor) = (Some(head?), rows?, trains?, floor?);
    Ok(())
}

/// Reads the lower bound for the sequences of references whose rows have expired.
async fn floor<W: World>(run: &Run<'_, W>, repository: &RepositoryArn) -> Result<u64, sekisho_ledger::Error> {
    let row = run.world.ledger().read::<RepositoryRow>(&repository::key(repository)).await?;
    Ok(row.map_or(0, |row| row.state.floor))
}

/// Reads the rows of targets. A row that cannot be read does not keep the other targets from their orders.
pub(crate) async fn target_rows<W: World>(
    run: &Run<'_, W>,
    targets: &BTreeSet<TargetId>,
) -> Result<TargetRows, sekisho_ledger::Error> {
    let keys: Vec<Key> = targets.iter().map(target::key).collect();
    let mut rows = TargetRows::default();
    for (target, row) in targets.iter().zip(run.world.ledger().read_many(&keys).await?) {
        match row {
            Ok(row) => drop(rows.read.insert(target.clone(), Snapshot::from(row))),
            Err(error) => {
                let decision = needs_repair(&error.into()).about("target", target.to_string());
                rows.unreadable.insert(target.clone(), decision);
            }
        }
    }
    Ok(rows)
}

/// Reads the rows of the trains of these routes.
pub(crate) async fn train_rows<W: World>(
    run: &Run<'_, W>,
    routes: BTreeSet<String>,
) -> Result<TrainRows, sekisho_ledger::Error> {
    let read = async |route: String| {
        let row = run.world.ledger().read::<TrainRow>(&train::key(&route)).await?;
        Ok((route, Snapshot::from(row)))
    };
    Ok(try_join_all(routes.into_iter().map(read)).await?.into_iter().collect())
}

/// Reads the rows that say whether these routes without waves are held. A row that cannot be read counts as a hold, so
/// that it keeps only the targets of its route from their orders.
pub(crate) async fn rows_of_holds<W: World>(
    run: &Run<'_, W>,
    routes: BTreeSet<String>,
) -> Result<TrainRows, sekisho_ledger::Error> {
    let read = async |route: String| match train_rows(run, [route.clone()].into()).await {
        Err(sekisho_ledger::Error::Unreadable { .. }) => {
            let row = TrainRow { holds: vec![Hold::of_unreadable_row()], ..TrainRow::default() };
            Ok(TrainRows::from([(route, Snapshot { row, revision: None })]))
        }
        rows => rows,
    };
    Ok(try_join_all(routes.into_iter().map(read)).await?.into_iter().flatten().collect())
}

/// Reads changed paths as long as they can touch another route and time is left to send the change afterwards. If there
/// are too many paths to read in this time, the change goes to every route. An error would not help, because reading
/// would take as long on every retry and block the branch. If CodeCommit does not answer at all, a retry may help.
async fn touched_routes<'r, W: World>(
    run: &Run<'_, W>,
    hint: &Hint,
    routes: &TouchedRoutes<'r>,
    previous: Option<&Revision>,
    head: &Revision,
) -> Result<TouchedRoutes<'r>, Error> {
    let time = run.time_left().saturating_sub(RESERVE + OFFER_TIME);
    let has_page = Cell::new(false);
    let touched = match previous {
        None => None,
        Some(previous) => {
            let pages = pin!(read_paths(run, hint, routes.clone(), previous, head, &has_page));
            match select(pages, pin!(run.world.sleep(time))).await {
                Either::Left((touched, _)) => touched?,
                Either::Right(_) if has_page.get() => None,
                Either::Right(_) => return Err(Error::no_time(hint)),
            }
        }
    };
    Ok(touched.unwrap_or_else(|| routes.clone().touch_all()))
}

/// Adds changed paths to the routes, page by page, and sets `has_page` after the first one. Returns `None` if the
/// changed paths cannot be known.
async fn read_paths<'r, W: World>(
    run: &Run<'_, W>,
    hint: &Hint,
    mut routes: TouchedRoutes<'r>,
    previous: &Revision,
    head: &Revision,
    has_page: &Cell<bool>,
) -> Result<Option<TouchedRoutes<'r>>, Error> {
    let mut page = None;
    for _ in 0..MAX_PAGES {
        // After a force-push, the previous commit may not exist any more.
        let Some(differences) = run.world.differences(hint.repository.name(), previous, head, page).await? else {
            return Ok(None);
        };
        has_page.set(true);
        routes.add_paths(&differences.paths);
        page = differences.next;
        if page.is_none() || !routes.wants_paths() {
            return Ok(Some(routes.without_further_paths()));
        }
    }
    Ok(None)
}
