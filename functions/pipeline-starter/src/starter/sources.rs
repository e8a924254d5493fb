//! Chooses the pins of an order before its start, if routes feed several source actions of the pipeline.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sekisho_domain::order::OrderKind;
use sekisho_domain::route::{ActionName, PipelineName};
use sekisho_lambda::ServiceError;

use crate::order::OrderRow;
use crate::pins::{EarlierOrder, Pin, PinSet, Sources, newest_with};
use crate::run::Run;
use crate::sources::RowSources;
use crate::world::{ExecutionStatus, ListedExecution, World};

/// The pause before the next attempt to start an order that lacks a revision for a source action. The next order and
/// the end of an execution do not wait for it.
pub(crate) const PAUSE: Duration = Duration::from_mins(10);

/// The pins of an order.
#[derive(Debug)]
pub(crate) enum Choice {
    /// The pins of all source actions. Empty in a pipeline with one source.
    Pins(PinSet),
    /// These source actions have no revision.
    Missing(BTreeSet<ActionName>),
    /// CodePipeline's list of executions could not be read.
    Unread(ServiceError),
}

/// Chooses the pins of the row's execution, and returns the row with what was learned. Nothing is written. An execution
/// that may have started keeps its pins in the row, because the search goes by them.
pub(crate) async fn choose<W: World>(run: &Run<'_, W>, pipeline: &PipelineName, row: OrderRow) -> (OrderRow, Choice) {
    let Some(routed) = run.routes.pins(row.kind, &row.change, pipeline) else {
        return (row, Choice::Pins(PinSet::new()));
    };
    let all = run.routes.sources(pipeline);
    if all.is_subset(&routed.actions) {
        // What the row knows about other sources is of no use any more.
        let kept = if row.may_run { row.sources.pins.clone() } else { PinSet::new() };
        let sources = RowSources { pins: kept, earlier: Vec::new(), ..row.sources.clone() };
        return (OrderRow { sources, ..row }, Choice::Pins(PinSet::new()));
    }
    // `Box::pin` keeps the future of every order with one source small.
    Box::pin(choose_several(run, pipeline, row, &routed.actions, &all)).await
}

async fn choose_several<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    row: OrderRow,
    own: &BTreeSet<ActionName>,
    all: &BTreeSet<ActionName>,
) -> (OrderRow, Choice) {
    let mut row = without_taken_back(run, pipeline, row, own);
    row.sources.earlier = newest(run, pipeline, &row, own);
    let is_first = row.sources.good.is_empty() && !row.sources.is_past_known;
    let needs_past = is_first || pins(run, pipeline, &row, own, all).is_err();
    if needs_past || row.sources.earlier.iter().any(EarlierOrder::is_open) {
        match run.world.executions(pipeline, None).await {
            Ok(page) => {
                row.sources.learn(&page.executions, all);
                if let Some(past) = past(run, pipeline, &row, own, all, &page.executions).filter(|_| needs_past) {
                    row.sources.good.insert(0, past);
                }
            }
            Err(error) => return (row, Choice::Unread(error)),
        }
    }
    let chosen = pins(run, pipeline, &row, own, all);
    let choice = match chosen {
        Ok(pins) => {
            if !row.may_run {
                row.sources.pins.clone_from(&pins);
                row.sources.is_past_known = true;
            }
            Choice::Pins(pins)
        }
        Err(missing) => Choice::Missing(missing),
    };
    (row, choice)
}

/// The pins, or the source actions without a revision.
fn pins<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    row: &OrderRow,
    own: &BTreeSet<ActionName>,
    all: &BTreeSet<ActionName>,
) -> Result<PinSet, BTreeSet<ActionName>> {
    let own_pin = Pin { source_ref: row.knows_ref().then(|| row.change.source_ref.clone()), ..Pin::of(&row.change) };
    let own: PinSet = own.iter().map(|action| (action.clone(), own_pin.clone())).collect();
    let recorded = recorded_good(run, pipeline, row);
    let good: &[PinSet] = if row.sources.good.is_empty() { &recorded } else { &row.sources.good };
    let restored = match (row.kind, &row.way_back) {
        (OrderKind::Deploy, _) => PinSet::new(),
        (OrderKind::Rollback, Some(_)) if !row.sources.pins.is_empty() => row.sources.pins.clone(),
        (OrderKind::Rollback, _) => newest_with(good, &own),
    };
    let mut newest: BTreeMap<ActionName, &EarlierOrder> = BTreeMap::new();
    for order in &row.sources.earlier {
        newest.extend(run.routes.sources_of(&order.pin, pipeline).into_iter().map(|action| (action, order)));
    }
    Sources { own, all, newest, good, restored: &restored }.choose()
}

/// The healthy revision that an order with one source has recorded, as a set.
fn recorded_good<W: World>(run: &Run<'_, W>, pipeline: &PipelineName, row: &OrderRow) -> Vec<PinSet> {
    let Some((revision, repository)) = row.good.as_ref().zip(row.good_repository.as_ref()) else { return Vec::new() };
    let pin =
        Pin { revision: revision.clone(), repository: Some(repository.clone()), source_ref: row.good_ref.clone() };
    let actions = run.routes.sources_of(&pin, pipeline);
    vec![actions.into_iter().map(|action| (action, pin.clone())).collect()]
}

/// The row of a rollback that event-relay orders, without the healthy sets that the rollback takes back. These are the
/// sets with the revision of the source's last order.
fn without_taken_back<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    mut row: OrderRow,
    own: &BTreeSet<ActionName>,
) -> OrderRow {
    if row.kind != OrderKind::Rollback || row.way_back.is_some() {
        return row;
    }
    let is_own = |order: &&EarlierOrder| !run.routes.sources_of(&order.pin, pipeline).is_disjoint(own);
    let last = row.sources.earlier.iter().rev().find(is_own).map(|order| order.pin.revision.clone());
    if let Some(last) = last.filter(|last| *last != row.change.revision) {
        let has_last = |set: &PinSet| own.iter().any(|action| set.get(action).is_some_and(|pin| pin.revision == last));
        let count = row.sources.good.len();
        row.sources.good.retain(|set| !has_last(set));
        if row.sources.good.len() < count {
            // The time is that of the newest set.
            row.good_since = None;
        }
    }
    row
}

/// The earlier orders that are the newest one of a source action which does not get the row's own change.
fn newest<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    row: &OrderRow,
    own: &BTreeSet<ActionName>,
) -> Vec<EarlierOrder> {
    let mut seen = own.clone();
    let mut newest: Vec<EarlierOrder> = Vec::new();
    for order in row.sources.earlier.iter().rev() {
        let actions = run.routes.sources_of(&order.pin, pipeline);
        if !actions.is_subset(&seen) {
            seen.extend(actions);
            newest.push(order.clone());
        }
    }
    newest.reverse();
    newest
}

/// The pins of the last successful execution, which ran before the first order with several sources. They count as
/// healthy. In a wave, an execution of an order counts only if the order was healthy, because its bake may have failed.
/// Outside of waves, a success is healthy, also if a newer order came before it.
fn past<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    row: &OrderRow,
    own: &BTreeSet<ActionName>,
    all: &BTreeSet<ActionName>,
    listed: &[ListedExecution],
) -> Option<PinSet> {
    let is_good = |execution: &ListedExecution| {
        let good = row.good.as_ref().map(sekisho_domain::change::Revision::as_str);
        execution.revisions.iter().any(|listed| Some(listed.revision.as_str()) == good)
    };
    let is_in_wave = row.ordered_bake.is_some() || !run.routes.waves(&row.change, pipeline).is_empty();
    let counts = |execution: &&ListedExecution| {
        let is_ordered = row.executions.contains(&execution.id);
        execution.status == ExecutionStatus::Succeeded && (!is_ordered || !is_in_wave || is_good(execution))
    };
    let execution = listed.iter().find(counts)?;
    let pin = |action: &ActionName| {
        let revision = execution.revision_of(action)?.parse().ok()?;
        let pin = run.routes.pin(&revision, action, pipeline, &row.change.repository)?;
        let pin =
            if own.contains(action) { Pin { repository: Some(row.change.repository.clone()), ..pin } } else { pin };
        // Without its repository, the URI of an image is not known.
        (pin.repository.is_some() || !revision.is_digest()).then(|| (action.clone(), pin))
    };
    let pins: PinSet = all.iter().filter_map(pin).collect();
    (!pins.is_empty()).then_some(pins)
}

/// Why an order that lacks a revision waits.
pub(crate) fn reason(missing: &BTreeSet<ActionName>) -> String {
    let names: Vec<&str> = missing.iter().map(ActionName::as_str).collect();
    format!(
        "the order starts when source action {} has a revision: no order for it has come or the last one failed, and \
         nothing was healthy with it before",
        names.join(" and ")
    )
}
