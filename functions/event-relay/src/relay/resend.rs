//! `resend`: sends the latest order of each selected target again, now. A target without an order gets one for the
//! newest change that the ledger knows.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};
use sekisho_domain::change::{Change, RepositoryArn, SourceKind};
use sekisho_domain::decision::Decision;
use sekisho_domain::report::ReportState;
use sekisho_domain::route::{Route, TargetId};
use sekisho_domain::slack;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Row, Store};

use crate::branch::{self, BranchRow};
use crate::decision_log::DecisionLog;
use crate::error::Error;
use crate::newest::{Candidate, leads_order, newest};
use crate::outcome::{Outcome, about_change};
use crate::plan::GONE;
use crate::relay::examine::rows_of_holds;
use crate::relay::offer::{NotAccepted, offer};
use crate::relay::source;
use crate::route::plain_routes_to;
use crate::run::{CONCURRENT_CALLS, Run};
use crate::selection::{route, routes_to, targets};
use crate::snapshot::TrainRows;
use crate::sources::Sources;
use crate::status::revision;
use crate::target::{self, PlacedOrder, TargetRow};
use crate::target_request::ResendRequest;
use crate::train::held_targets;
use crate::world::World;

/// The reason if a target has no order, and the ledger knows no change that could be ordered.
const NO_CHANGE: &str = "no change for this target is known yet: push, or wait for the next reconcile";
/// The reason if a target of a wave has no order.
const IN_WAVE: &str = "the target is in a wave and has no order yet: it gets the next change that enters the wave";
/// The reason if a target has no order, and a person holds a route to it.
const HELD: &str = "the target has no order yet, and a route to it is held: send `resume` first";
/// The most characters of an answer. Slack shows a text completely only if it has fewer than 1,000 characters.
const LONGEST_ANSWER: usize = 999;

/// An order in the ledger that is to be offered.
#[derive(Debug)]
struct Placed {
    target: TargetId,
    order: PlacedOrder,
    /// Whether the target had no order before this request.
    is_new: bool,
    /// The state in which the target has finished the order, if the target has finished it.
    finished: Option<ReportState>,
}

/// What happened to one target.
#[derive(Debug)]
enum Resent {
    /// The ledger has the order.
    Placed(Box<Placed>),
    /// Nothing can be sent, for this reason.
    Nothing(String),
}

/// Sends the orders, records the decisions and returns the answer.
pub(crate) async fn resend<W: World>(run: &Run<'_, W>, request: &ResendRequest) -> Result<String, Error> {
    let (mut answer, mut log) = send(run, request).await?;
    // The orders are sent, so the request must not fail.
    if run.record(&mut log).await.is_err() {
        answer.insert_str(0, "The ledger did not record this request; the function's log did.\n");
    }
    Ok(cut(&answer))
}

async fn send<W: World>(run: &Run<'_, W>, request: &ResendRequest) -> Result<(String, DecisionLog), Error> {
    let here = &run.invocation.region;
    let named = route(run.routes, here, &request.route)?;
    let selected = targets(named, &request.account, request.region.as_ref(), request.pipeline.as_ref())?;
    let selected: Vec<TargetId> = selected.into_iter().collect();
    let resending = place_all(run, selected).await?;
    if resending.placed.is_empty() {
        return Err(resending.into_error());
    }
    let not_accepted = resending.offer(run).await;
    let mut log = DecisionLog::default();
    log.extend(resending.decisions("a person", &not_accepted));
    Ok((resending.text(&not_accepted), log))
}

/// Writes an order of each target into the ledger: the target's latest order or, if the target has none, an order to
/// run the newest change of its references.
pub(crate) async fn place_all<W: World>(run: &Run<'_, W>, targets: Vec<TargetId>) -> Result<Resending, Error> {
    let candidates = candidates(run, &targets).await?;
    let results: Vec<(TargetId, Result<Resent, Error>)> = stream::iter(targets)
        .map(async |target| {
            let result = place(run, &target, &candidates).await;
            (target, result)
        })
        .buffered(CONCURRENT_CALLS)
        .collect()
        .await;
    let mut resending = Resending::default();
    for (target, result) in results {
        match result {
            Ok(Resent::Placed(placed)) => resending.placed.push(*placed),
            Ok(Resent::Nothing(reason)) => resending.nothing.push((target, reason)),
            Err(error) => resending.failed.push((target, error)),
        }
    }
    Ok(resending)
}

/// The newest changes that could be ordered, if one of the targets has no order.
async fn candidates<W: World>(run: &Run<'_, W>, selected: &[TargetId]) -> Result<Vec<Candidate>, Error> {
    let keys: Vec<_> = selected.iter().map(target::key).collect();
    let rows = run.world.ledger().read_many::<TargetRow>(&keys).await?;
    let has_order = |row: &Option<Row<TargetRow>>| row.as_ref().is_some_and(|row| row.state.standing_order().is_some());
    let without: Vec<&TargetId> = selected
        .iter()
        .zip(&rows)
        .filter(|(_, row)| row.as_ref().is_ok_and(|row| !has_order(row)))
        .map(|(target, _)| target)
        .collect();
    let mut reads = stream::iter(repositories(run, &without).await?)
        .map(async |repository| {
            let rows = run.world.ledger().each::<BranchRow>(&branch::partition(&repository), "").await;
            (repository, rows)
        })
        .buffer_unordered(CONCURRENT_CALLS);
    let mut candidates = Vec::new();
    while let Some((repository, rows)) = reads.next().await {
        // An unreadable row is a decision of the next reconcile.
        candidates.extend(rows?.into_iter().flatten().filter_map(|row| Candidate::new(&repository, row)));
    }
    Ok(candidates)
}

/// The repositories of the routes that lead to one of the targets.
async fn repositories<W: World>(run: &Run<'_, W>, targets: &[&TargetId]) -> Result<Vec<RepositoryArn>, Error> {
    let here = &run.invocation.region;
    let routes: Vec<&Route> = targets.iter().flat_map(|target| routes_to(run.routes, here, target)).collect();
    let mut all = Vec::new();
    for kind in [SourceKind::Git, SourceKind::Image] {
        let routes = || routes.iter().filter(|route| route.source() == kind);
        // A name that the service does not allow is a mistake that the reconcile reports.
        let arn = |name: &str| source::arn(run.invocation, kind, name).ok();
        all.extend(routes().filter_map(|route| arn(route.repository().literal()?)));
        if routes().any(|route| route.repository().literal().is_none()) {
            let found = source::repositories(run.world, kind).await?;
            let found = found.iter().filter_map(|name| arn(name));
            all.extend(found.filter(|arn| routes().any(|route| route.covers_repository(arn))));
        }
    }
    all.sort();
    all.dedup();
    Ok(all)
}

/// Writes the order into the target's row, so that the order counts as offered now.
async fn place<W: World>(run: &Run<'_, W>, target: &TargetId, candidates: &[Candidate]) -> Result<Resent, Error> {
    run.until_unchanged(async || {
        let key = target::key(target);
        let read: Option<Row<TargetRow>> = run.world.ledger().read(&key).await?;
        let (row, revision) = read.map_or_else(Default::default, |row| (row.state, Some(row.revision)));
        let trains = if row.standing_order().is_some() {
            TrainRows::new()
        } else {
            let routes = routes_to(run.routes, &run.invocation.region, target);
            rows_of_holds(run, plain_routes_to(routes, &BTreeSet::from([target.clone()]))).await?
        };
        let (row, is_new) = match plan(run, target, &row, candidates, &trains) {
            Ok(plan) => plan,
            Err(reason) => return Ok(Resent::Nothing(reason)),
        };
        let Some(order) = row.order.clone() else { return Ok(Resent::Nothing(NO_CHANGE.to_owned())) };
        if source::is_gone(run, &order.change).await {
            return Ok(Resent::Nothing(format!("{}: {GONE}", revision_of(&order.change))));
        }
        let finished = row.current_report().map(|report| report.state).filter(|state| state.is_final());
        run.world.ledger().write(&key, &row, revision, &run.invocation.request_id).await?;
        Ok(Resent::Placed(Box::new(Placed { target: target.clone(), order, is_new, finished })))
    })
    .await
}

/// The row after this request, and whether its order is new. An error says why nothing can be sent.
fn plan<W: World>(
    run: &Run<'_, W>,
    target: &TargetId,
    row: &TargetRow,
    candidates: &[Candidate],
    trains: &TrainRows,
) -> Result<(TargetRow, bool), String> {
    let (routes, here) = (run.routes, &run.invocation.region);
    match row.standing_order() {
        Some(order) if order.withdrawn => Err(format!(
            "{} is condemned and not offered any more: pardon it, or push a newer change. If the route has no waves \
             any more, the next reconcile orders the newest head",
            revision(&order.change)
        )),
        Some(order) if leads_order(routes, here, target, order) => Ok((row.offered_again(run.now()), false)),
        Some(order) => Err(format!(
            "the latest order is {}, which no route leads to this target any more: push to a branch or tag that is \
             routed",
            revision(&order.change)
        )),
        None if routes.waves_of(target).next().is_some() => Err(IN_WAVE.to_owned()),
        None => {
            let (change, others) = newest(routes, here, target, candidates).ok_or(NO_CHANGE)?;
            let leading = routes.concerning(&change.repository, &change.source_ref);
            if held_targets(leading, trains, &change.source_ref, run.now()).contains(target) {
                return Err(HELD.to_owned());
            }
            let row = row.placed(change, Sources::new(routes, target), run.now());
            Ok((row.before_others(others.into_iter().cloned()), true))
        }
    }
}

/// What happened to all targets.
#[derive(Debug, Default)]
pub(crate) struct Resending {
    /// The orders in the ledger.
    placed: Vec<Placed>,
    /// The targets to which nothing can be sent, with the reasons.
    pub(crate) nothing: Vec<(TargetId, String)>,
    /// The targets whose rows could not be written.
    pub(crate) failed: Vec<(TargetId, Error)>,
}

impl Resending {
    /// The error if no order can be sent. A failed call is reported first, because the same request may succeed later.
    fn into_error(mut self) -> Error {
        let failure = self.failed.pop().map(|(_, error)| error);
        let first = || self.nothing.first().map(|(target, reason)| Error::NotFound(format!("{target}: {reason}")));
        failure.or_else(first).unwrap_or_else(|| Error::NotFound(NO_CHANGE.to_owned()))
    }

    /// Sends the orders to the buses, and returns those that were not accepted.
    pub(crate) async fn offer<W: World>(&self, run: &Run<'_, W>) -> Vec<NotAccepted> {
        let orders: Vec<(TargetId, PlacedOrder)> =
            self.placed.iter().map(|placed| (placed.target.clone(), placed.order.clone())).collect();
        offer(run, &orders).await.not_accepted
    }

    /// The decisions about the orders that `sender` sent.
    pub(crate) fn decisions(&self, sender: &str, not_accepted: &[NotAccepted]) -> Vec<Decision<Outcome>> {
        let decision = |Placed { target, order, is_new, .. }: &Placed| {
            let what = if *is_new { "a new order" } else { "the latest order" };
            let reason = match not_accepted.iter().find(|event| event.targets.contains(target)) {
                None => format!("{sender} sent {what}, and the bus accepted it"),
                Some(event) => format!("{sender} sent {what}, but the bus did not accept it yet: {}", event.reason),
            };
            about_change(&order.change, Decision::new(Outcome::Ordered, reason))
                .about("target", target.to_string())
                .about("order", order.number.to_string())
        };
        self.placed.iter().map(decision).collect()
    }

    fn text(&self, not_accepted: &[NotAccepted]) -> String {
        let mut lines = Vec::new();
        let mut alike: BTreeMap<_, Vec<&TargetId>> = BTreeMap::new();
        for Placed { target, order, is_new, finished } in &self.placed {
            if !not_accepted.iter().any(|event| event.targets.contains(target)) {
                let finished = finished.map(ReportState::as_str);
                alike.entry((revision_of(&order.change), is_new, finished)).or_default().push(target);
            }
        }
        for ((revision, is_new, finished), targets) in alike {
            let what = if *is_new { "A new order" } else { "The latest order" };
            lines.push(format!("{what}, {revision}, was sent to {}.", counted(&targets)));
            if let Some(state) = finished {
                lines.push(format!(
                    "The order already ended there ({state}), so it starts nothing: push a change to deploy again."
                ));
            }
        }
        for NotAccepted { targets, reason, .. } in not_accepted {
            lines.push(format!(
                "The bus did not accept the order for {}: {}. The next reconciles offer it again.",
                counted(&targets.iter().collect::<Vec<_>>()),
                slack::shown(reason)
            ));
        }
        lines.extend(self.nothing.iter().map(|(target, reason)| format!("Nothing was sent to {target}: {reason}.")));
        let failed = |(target, error): &(TargetId, Error)| {
            format!("Nothing was sent to {target}: {}. Send the request again.", slack::shown(&chain(error)))
        };
        lines.extend(self.failed.iter().map(failed));
        lines.join("\n")
    }
}

fn revision_of(change: &Change) -> String {
    format!("{} of {}", revision(change), change.repository.name())
}

/// The number of targets, and the targets themselves as long as there are few.
fn counted(targets: &[&TargetId]) -> String {
    const MOST_NAMED: usize = 4;
    let names: Vec<String> = targets.iter().map(ToString::to_string).collect();
    match names.as_slice() {
        [one] => one.clone(),
        few if few.len() <= MOST_NAMED => format!("{} targets: {}", few.len(), few.join(", ")),
        many => format!("{} targets", many.len()),
    }
}

/// Cuts a long answer, so that Slack shows it completely.
pub(crate) fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST_ANSWER) {
        None => text.to_owned(),
        Some(_) => text.chars().take(LONGEST_ANSWER - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slack_shows_an_answer_completely() {
        let fits = "あ".repeat(999);
        assert_eq!(cut(&fits), fits);
        assert_eq!((cut(&"あ".repeat(1_000)).chars().count(), cut(&fits).ends_with('…')), (999, false));
    }

    #[test]
    fn few_targets_are_named_and_many_are_counted() {
        let targets: Vec<TargetId> = (0..5).map(|n| format!("222222222222/us-east-1/p{n}").parse().unwrap()).collect();
        let some = |count: usize| counted(&targets.iter().take(count).collect::<Vec<_>>());
        assert_eq!(some(1), "222222222222/us-east-1/p0");
        assert_eq!(some(2), "2 targets: 222222222222/us-east-1/p0, 222222222222/us-east-1/p1");
        assert_eq!(some(5), "5 targets");
    }
}
