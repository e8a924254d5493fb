//! The promises about an order of kind `deploy` that depend on what its wave has taken before, on the other targets of
//! the wave, and on the time.

use event_relay::target::{PlacedOrder, TargetRow, TrainOrder};
use event_relay::train::TrainRow;
use sekisho_domain::order::OrderKind;
use sekisho_domain::report::{OrderReport, ReportState};
use sekisho_domain::timestamp::epoch_millis;
use time::{Duration, OffsetDateTime};

use crate::check::Broken;
use crate::train::configuration::{at_once, is_open, tolerated};
use crate::train::witness::{Witness, is_given_up};

/// The most that a clock is ahead of the true time.
const LARGEST_LEAD: Duration = Duration::seconds(20);
/// The longest time from a decision to its write: the time limit of an invocation, whose clock may be slow.
const LONGEST_DECISION: Duration = Duration::seconds(45 + 20);

/// An order that was just placed.
#[derive(Debug)]
pub(crate) struct Deploy<'a> {
    pub(crate) place: usize,
    pub(crate) pipeline: &'static str,
    pub(crate) placed: &'a PlacedOrder,
    pub(crate) order: &'a TrainOrder,
    /// Whether the target said that it had not started the order before this one.
    pub(crate) has_replaced_unstarted: bool,
    /// The train's row, as the transaction with the order wrote it.
    pub(crate) train: &'a TrainRow,
    /// The true time.
    pub(crate) now: OffsetDateTime,
}

/// Another target of the wave, with its row.
#[derive(Debug)]
pub(crate) struct Other {
    pub(crate) place: usize,
    pub(crate) pipeline: &'static str,
    pub(crate) row: TargetRow,
}

/// Checks that an order is about the change that it names. An order of kind `rollback` leads away from the change that
/// it names, and only from a condemned one.
pub(crate) fn check_change(placed: &PlacedOrder, order: &TrainOrder, train: &TrainRow) -> Result<(), Broken> {
    let Some(named) = train.change(order.seen) else {
        // A newcomer gets what is healthy in its wave, even if the train has forgotten the change.
        let is_known = placed.kind == OrderKind::Deploy && order.joined;
        return if is_known { Ok(()) } else { Err(Broken(format!("the train has no change {}", order.seen))) };
    };
    let is_same = named.change.revision == placed.change.revision;
    match placed.kind {
        OrderKind::Deploy if !is_same => Err(Broken(format!("the change {} has another revision", order.seen))),
        OrderKind::Rollback if is_same => Err(Broken("the target goes back to what it comes from".to_owned())),
        // A rollback that is unknown is ordered again, although its change may have been pardoned.
        OrderKind::Rollback if train.condemnation(&named.change).is_none() && !named.again => {
            Err(Broken(format!("the change {} is not condemned, and is taken back", order.seen)))
        }
        OrderKind::Deploy | OrderKind::Rollback => Ok(()),
    }
}

/// Checks that the order was decided while a window of its wave was open.
pub(crate) fn check_window(witness: &Witness, deploy: &Deploy<'_>) -> Result<(), Broken> {
    // The targets of this name are in the third wave in every configuration, and only that wave has a window.
    let index = if deploy.pipeline == "three" { Some(2) } else { witness.wave_of(deploy.place, deploy.pipeline) };
    let Some(index) = index.filter(|_| !deploy.order.promoted) else { return Ok(()) };
    let times = [deploy.now - LONGEST_DECISION, deploy.now + LARGEST_LEAD];
    if times.into_iter().any(|at| is_open(witness.features, index, at)) {
        return Ok(());
    }
    Err(Broken(format!("no window of the wave is open at {}", deploy.now)))
}

/// Checks that a wave by itself takes only a change that is newer than every change it has taken, or once more the newest
/// one, if that was pardoned. `taken` has the changes of the wave in the order in which it took them.
pub(crate) fn check_newer(taken: &mut Vec<u64>, deploy: &Deploy<'_>) -> Result<(), Broken> {
    let seen = deploy.order.seen;
    if deploy.order.joined || taken.last() == Some(&seen) {
        return Ok(());
    }
    let newest = taken.iter().copied().max().unwrap_or(0);
    taken.push(seen);
    if deploy.order.promoted || seen > newest {
        return Ok(());
    }
    if seen < newest {
        return Err(Broken(format!("the wave took the change {newest} before the change {seen}")));
    }
    match deploy.train.change(seen) {
        Some(one) if one.again => Ok(()),
        _ => Err(Broken(format!("the wave takes the change {seen} once more, and nobody pardoned it"))),
    }
}

/// Checks that no more targets of the wave deploy than may do so at the same time, and that the wave does not go on with
/// a change that failed in more targets than it tolerates. An older change that the target has not started is replaced
/// at once, because it must not start any more.
pub(crate) fn check_others(
    witness: &Witness,
    index: usize,
    others: &[Other],
    deploy: &Deploy<'_>,
) -> Result<(), Broken> {
    let busy = others.iter().filter(|other| is_busy(witness, other, deploy.now)).count();
    let limit = at_once(witness.features, index).filter(|_| !deploy.has_replaced_unstarted);
    if limit.is_some_and(|limit| busy >= limit) {
        return Err(Broken(format!("{busy} other targets of the wave have not ended their orders")));
    }
    let failed = others.iter().filter(|other| has_failed(&other.row, deploy)).count();
    if failed > tolerated(witness.features, index) {
        return Err(Broken(format!("{failed} targets of the wave failed with the change {}", deploy.order.seen)));
    }
    Ok(())
}

/// Whether a target said about the order before this one that it had not started it. `row` has the new order.
pub(crate) fn has_replaced_unstarted(row: &TargetRow, before: Option<&PlacedOrder>) -> bool {
    let is_unstarted = |report: &OrderReport| {
        matches!(report.state, ReportState::Waiting | ReportState::Refused)
            && before.is_some_and(|before| before.number == report.number)
    };
    row.report.as_ref().is_some_and(is_unstarted)
}

/// Whether a target works on its order. An order that ended once may come to life again at any time, because somebody
/// retries a stage.
fn is_busy(witness: &Witness, Other { place, pipeline, row }: &Other, now: OffsetDateTime) -> bool {
    let Some(order) = row.order.as_ref().filter(|_| !is_given_up(row, epoch_millis(now))) else { return false };
    let is_accepted = order.train.as_ref().is_some_and(|of| of.accepted);
    if is_accepted || witness.ended.contains(&(*place, (*pipeline).to_owned(), order.number)) {
        return false;
    }
    match row.current_report().map(|report| report.state) {
        None => true,
        Some(ReportState::Refused) => !order.withdrawn,
        Some(state) => !state.is_final(),
    }
}

/// Whether a target failed with the change of an order, and event-relay knew that when it decided to place the order.
pub(crate) fn has_failed(row: &TargetRow, deploy: &Deploy<'_>) -> bool {
    let Some((order, report)) = row.order.as_ref().zip(row.current_report()) else { return false };
    let is_same = order.train.as_ref().is_some_and(|of| of.seen == deploy.order.seen && !of.joined);
    // If the change was ordered again since, the earlier failure does not count.
    let is_current = order.kind == OrderKind::Deploy && order.change.sequence >= deploy.placed.change.sequence;
    let was_known = row.heard.is_some_and(|heard| heard <= epoch_millis(deploy.now - LONGEST_DECISION));
    let has_failed = match report.state {
        ReportState::Failed => !report.in_source,
        state => state == ReportState::RolledBack,
    };
    is_same && is_current && was_known && has_failed
}
