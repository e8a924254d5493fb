//! The pure plans: what to do with an order that arrives, and what is due for an order that the ledger holds.

use sekisho_domain::change::Change;
use sekisho_domain::decision::Decision;
use sekisho_domain::order::Order;
use sekisho_domain::report::{ReportState, ReportTime};
use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::Lease;
use time::OffsetDateTime;

use crate::claim::Claims;
use crate::order::{Cause, OrderRow, Progress};
use crate::outcome::Outcome;
use crate::report::Place;

/// An order that has arrived for a pipeline.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival<'a> {
    pub(crate) order: Order,
    pub(crate) change: &'a Change,
    /// Whether the event has no order for the pipeline.
    pub(crate) is_implicit: bool,
}

/// The plan for an order that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Write the claimed row, then start the execution.
    Start(Box<OrderRow>),
    /// Write the row, and start nothing now: another invocation may still start an older order.
    Queue(Box<OrderRow>),
    /// Write the row, which continues with an execution that an event without this order started.
    Adopt(Box<OrderRow>),
    /// Start nothing, and answer with the last report: the order has arrived before.
    Repeated,
    /// Start nothing, and answer with the last report: the pipeline has received a newer order with this number.
    Stale(u64),
}

impl Plan {
    /// The plan for an order. `row` is the row of the pipeline's newest order. The claims matter only without a row.
    pub(crate) fn new(
        row: Option<&OrderRow>,
        claims: &Claims,
        arrival: &Arrival<'_>,
        place: &Place<'_>,
        now: OffsetDateTime,
    ) -> Self {
        let Arrival { order, change, is_implicit } = *arrival;
        let Some(row) = row else {
            return match claims.newest_sequence() {
                Some(newest) if is_implicit && newest > order.number => Self::Stale(newest),
                _ => Self::take(claims.order_row(order, change, place.pipeline, now), is_implicit, place, now),
            };
        };
        if row.number > order.number {
            return Self::Stale(row.number);
        }
        if row.number == order.number {
            // The account did not route the order, and does now.
            let is_open_again = row.progress == Progress::Ended(ReportState::Refused);
            return if is_open_again { Self::take(row.reopened(now), is_implicit, place, now) } else { Self::Repeated };
        }
        if row.is_implicit && !is_implicit && row.change.id() == change.id() {
            return Self::continued(row, order, place, now);
        }
        Self::take(OrderRow::new(order, change, place.pipeline, Some(row), now), is_implicit, place, now)
    }

    /// The plan for a new row.
    fn take(row: OrderRow, is_implicit: bool, place: &Place<'_>, now: OffsetDateTime) -> Self {
        let row = OrderRow { is_implicit, ..row };
        let at = ReportTime::next(now, row.at);
        if row.execution.is_some() {
            let reason = "an earlier version of this function started the execution";
            return Self::Adopt(Box::new(row.report_at(at, ReportState::Running, reason, place)));
        }
        if row.blocker(now) == Lease::FREE {
            return Self::Start(Box::new(row.claimed(now)));
        }
        let reason = "another invocation may still start an older order";
        let queued = OrderRow { at: Some(at), ..row }.waiting(Cause::Busy, now, reason, place);
        Self::Queue(Box::new(queued))
    }

    /// The plan for an order about a change that has arrived before without an order.
    fn continued(row: &OrderRow, order: Order, place: &Place<'_>, now: OffsetDateTime) -> Self {
        let row = OrderRow { number: order.number, kind: order.kind, is_implicit: false, ..row.clone() };
        let at = ReportTime::next(now, row.at);
        let (state, reason) = match &row.progress {
            Progress::Running { .. } => (ReportState::Running, "the execution runs"),
            Progress::Ended(ReportState::Refused) => return Self::take(row.reopened(now), false, place, now),
            Progress::Ended(state) => (*state, "the execution has ended"),
            // The invocation that holds the claim must be able to write its result. event-relay offers the order again,
            // because no report on it has come.
            Progress::Claimed(_) if row.blocker(now) != Lease::FREE => return Self::Repeated,
            Progress::Claimed(_) | Progress::Waiting(_) => (ReportState::Waiting, "the start has not succeeded yet"),
        };
        Self::Adopt(Box::new(row.report_at(at, state, reason, place)))
    }

    /// The decision that the plan leads to if CodePipeline accepts the start.
    pub(crate) fn decision(&self) -> Decision<Outcome> {
        match self {
            Self::Start(_) => Decision::new(Outcome::Started, "would be started at this commit"),
            Self::Queue(_) => Decision::new(
                Outcome::Waiting,
                "starts as soon as another invocation, which may still start an older order, has finished",
            ),
            Self::Adopt(row) => match &row.execution {
                Some(execution) => {
                    Decision::new(Outcome::Duplicate, format!("started before, as execution {execution}"))
                        .about("execution", execution)
                }
                None => Decision::new(Outcome::Duplicate, "the change waits for its start already"),
            },
            Self::Repeated => Decision::new(Outcome::Duplicate, "this order has arrived before"),
            Self::Stale(newer) => {
                Decision::new(Outcome::Stale, format!("this pipeline has received a newer order, with number {newer}"))
            }
        }
    }
}

impl OrderRow {
    /// The closed order, which waits for its first attempt again.
    fn reopened(&self, now: OffsetDateTime) -> Self {
        let wait = crate::order::Wait { cause: Cause::Busy, next: epoch_millis(now) };
        Self { progress: Progress::Waiting(wait), ..self.clone() }
    }
}

/// What is due for an order that the ledger holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Due {
    /// Start the execution, or look for the execution that an earlier attempt may have started.
    Start,
    /// Close the order, because no route leads to the pipeline any more.
    Close,
    /// Look whether this execution has ended.
    Check(String),
    /// Send the last report, which no bus has accepted yet.
    Send,
    /// Nothing.
    Nothing,
}

impl Due {
    pub(crate) fn new(row: &OrderRow, is_routed: bool, now: OffsetDateTime) -> Self {
        if row.is_startable(false, now) {
            // An execution may run already. Its end must be reported, so the search comes before the order is closed.
            return if is_routed || row.claimed(now).may_run { Self::Start } else { Self::Close };
        }
        // A write would keep the invocation that holds the claim from recording its result.
        if matches!(row.progress, Progress::Claimed(_)) {
            return Self::Nothing;
        }
        if let (Progress::Running { check }, Some(execution)) = (&row.progress, &row.execution)
            && *check <= epoch_millis(now)
        {
            return Self::Check(execution.clone());
        }
        if row.report.as_ref().is_some_and(|last| last.is_due(now)) { Self::Send } else { Self::Nothing }
    }
}
