//! The pure plans: what to do with an order that arrives, and what is due for an order that the ledger holds.

use sekisho_domain::change::Change;
use sekisho_domain::decision::Decision;
use sekisho_domain::order::Order;
use sekisho_domain::report::ReportState;
use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::Lease;
use time::OffsetDateTime;

use crate::claim::Claims;
use crate::order::{Cause, OrderRow, Progress};
use crate::outcome::Outcome;
use crate::pins::noun;
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
    /// Write the row, and start nothing now. The decision says why.
    Write(Box<OrderRow>, Decision<Outcome>),
    /// Start nothing, and answer with the last report: the order has arrived before.
    Repeated,
    /// Start nothing, and answer with the last report: the pipeline has received a newer order with this number.
    Stale(u64),
}

impl Plan {
    /// The plan for an order. `row` is the row of the pipeline's newest order.
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
            // The order was refused; now a route leads here.
            let is_open_again = row.progress == Progress::Ended(ReportState::Refused);
            let reopened = || Self::take(row.reopened(place.pipeline, now), is_implicit, place, now);
            return if is_open_again { reopened() } else { Self::Repeated };
        }
        if row.is_implicit && !is_implicit && row.ordered().id() == change.id() {
            return Self::continued(row, order, place, now);
        }
        let mut new = OrderRow::new(order, change, place.pipeline, Some(row), now);
        new.executions.extend(claims.outdated.clone());
        let new = match claims.started(change) {
            Some((execution, since)) if !is_earlier(row, execution) => new.adopted(execution, since, now),
            _ => new,
        };
        Self::take(new, is_implicit, place, now)
    }

    /// The execution of an earlier version that the order may adopt, if nothing else has run in the pipeline since.
    pub(crate) fn adoptable<'c>(row: Option<&OrderRow>, claims: &'c Claims, arrival: &Arrival<'_>) -> Option<&'c str> {
        let (execution, _) = claims.started(arrival.change)?;
        let may_adopt = row.is_none_or(|row| {
            let is_continued = row.is_implicit && !arrival.is_implicit && row.ordered().id() == arrival.change.id();
            row.number < arrival.order.number && !is_continued && !is_earlier(row, execution)
        });
        may_adopt.then_some(execution)
    }

    /// The plan for a new row.
    fn take(row: OrderRow, is_implicit: bool, place: &Place<'_>, now: OffsetDateTime) -> Self {
        let row = OrderRow { is_implicit, ..row };
        let at = row.next_at(now);
        if row.execution.is_some() {
            let reason = "the execution was started for this change before the order came";
            return Self::adopt(row.report_at(at, ReportState::Running, reason, place));
        }
        if row.blocker(now) == Lease::FREE {
            return Self::Start(Box::new(row.claimed(now)));
        }
        let reason = "an older order may still be started";
        let queued = OrderRow { at, ..row }.waiting(Cause::Busy, now, reason, place);
        let reason = "starts as soon as no invocation and no call can start an older order any more";
        Self::Write(Box::new(queued), Decision::new(Outcome::Waiting, reason))
    }

    /// The plan for a row that continues with what was done for the change before the order came.
    fn adopt(row: OrderRow) -> Self {
        let decision = match &row.execution {
            Some(execution) => Decision::new(Outcome::Duplicate, format!("started before, as execution {execution}"))
                .about("execution", execution),
            None => Decision::new(Outcome::Duplicate, "this change already waits to be started"),
        };
        Self::Write(Box::new(row), decision)
    }

    /// The plan for an order about a change that has arrived before without an order.
    fn continued(row: &OrderRow, order: Order, place: &Place<'_>, now: OffsetDateTime) -> Self {
        let row = OrderRow {
            number: order.number,
            // A target that goes back by itself goes on with that.
            kind: if row.way_back.is_some() { row.kind } else { order.kind },
            is_implicit: false,
            ordered_bake: order.bake,
            promoted: order.promoted,
            ..row.clone()
        };
        let at = row.next_at(now);
        let (state, reason) = match &row.progress {
            Progress::Running { .. } if row.is_baking() => (ReportState::Baking, "the alarms are watched"),
            Progress::Running { .. } => (ReportState::Running, "the execution runs"),
            Progress::Ended(ReportState::Refused) => {
                return Self::take(row.reopened(place.pipeline, now), false, place, now);
            }
            Progress::Ended(state) => (*state, "the execution has ended"),
            // The invocation that holds the claim must be able to write its result. event-relay offers the order again,
            // because no report on it has come.
            Progress::Claimed(_) if row.blocker(now) != Lease::FREE => return Self::Repeated,
            Progress::Claimed(_) | Progress::Waiting(_) => (ReportState::Waiting, "the start has not succeeded yet"),
        };
        Self::adopt(row.report_at(at, state, reason, place))
    }

    /// The decision that the plan leads to if CodePipeline accepts the start.
    pub(crate) fn decision(&self) -> Decision<Outcome> {
        match self {
            Self::Start(row) => {
                Decision::new(Outcome::Started, format!("would be started at this {}", noun(&row.change.revision)))
            }
            Self::Write(_, decision) => decision.clone(),
            Self::Repeated => Decision::new(Outcome::Duplicate, "this order has arrived before"),
            Self::Stale(newer) => {
                Decision::new(Outcome::Stale, format!("this pipeline has received a newer order, with number {newer}"))
            }
        }
    }
}

/// Whether this is the execution of an order before the last one, so that the pipeline has run another commit since.
/// CloudFormation may have brought back an earlier version for some time, whose executions the row does not have.
fn is_earlier(row: &OrderRow, execution: &str) -> bool {
    row.executions.iter().any(|earlier| earlier == execution)
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
    /// Read the alarms of the order, which bakes.
    Watch,
    /// Send the last report, which no bus has accepted yet, or a notice, which the topic has not accepted yet.
    Send,
    /// Nothing.
    Nothing,
}

impl Due {
    pub(crate) fn new(row: &OrderRow, is_routed: bool, now: OffsetDateTime) -> Self {
        if row.is_startable(false, now) {
            // An execution may run already. Its end must be reported, so the search comes before the order is closed.
            // A target that goes back keeps trying.
            let is_kept = is_routed || row.way_back.is_some() || row.claimed(now).may_run;
            return if is_kept { Self::Start } else { Self::Close };
        }
        // A write would keep the invocation that holds the claim from recording its result.
        if matches!(row.progress, Progress::Claimed(_)) {
            return Self::Nothing;
        }
        if let (Progress::Running { check }, Some(execution)) = (&row.progress, &row.execution)
            && *check <= epoch_millis(now)
        {
            return if row.is_baking() { Self::Watch } else { Self::Check(execution.clone()) };
        }
        let is_unsent = row.owes_notice || row.report.as_ref().is_some_and(|last| last.is_due(now));
        if is_unsent { Self::Send } else { Self::Nothing }
    }

    /// The time since which this is due for the order, in epoch milliseconds. An expired claim comes first.
    pub(crate) fn since(&self, row: &OrderRow) -> u64 {
        match (self, &row.progress) {
            (Self::Start | Self::Close, Progress::Waiting(wait)) => wait.next,
            (Self::Check(_) | Self::Watch, Progress::Running { check }) => *check,
            (Self::Send, _) => row.report.as_ref().map_or(0, |last| last.next),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sekisho_domain::order::OrderKind;
    use sekisho_domain::report::ReportTime;
    use sekisho_ledger::Row;

    use super::*;
    use crate::claim::{self, ClaimRow, Progress as ClaimProgress};
    use crate::sample::{NOW, at_shop, change, claimed, row, running, waiting, with};

    const SECOND: Duration = Duration::from_secs(1);

    fn plan(row: &OrderRow, number: u64) -> Plan {
        let change = change(number);
        let arrival = Arrival { order: Order::deploy(number), change: &change, is_implicit: false };
        at_shop(|place| Plan::new(Some(row), &Claims::default(), &arrival, place, NOW))
    }

    /// The name of a plan, without its row.
    fn name(plan: &Plan) -> &'static str {
        match plan {
            Plan::Start(_) => "start",
            Plan::Write(_, decision) if decision.outcome == Outcome::Waiting => "queue",
            Plan::Write(..) => "adopt",
            Plan::Repeated => "repeated",
            Plan::Stale(_) => "stale",
        }
    }

    #[test]
    fn every_row_has_one_plan_for_every_number() {
        let fenced = OrderRow { fence: Lease::new(NOW, SECOND), ..row(5) };
        let cases = [
            (claimed(&row(5), SECOND), ["stale", "repeated", "queue"]),
            (claimed(&row(5), Duration::ZERO), ["stale", "repeated", "start"]),
            (fenced, ["stale", "repeated", "queue"]),
            (waiting(&row(5), Cause::Busy, NOW), ["stale", "repeated", "start"]),
            (waiting(&row(5), Cause::Unanswered, NOW + SECOND), ["stale", "repeated", "queue"]),
            (waiting(&row(5), Cause::Unanswered, NOW), ["stale", "repeated", "start"]),
            (running(&row(5)), ["stale", "repeated", "start"]),
            (with(&row(5), Progress::Ended(ReportState::Failed)), ["stale", "repeated", "start"]),
            (with(&row(5), Progress::Ended(ReportState::Refused)), ["stale", "start", "start"]),
        ];
        for (row, expected) in cases {
            assert_eq!([4, 5, 6].map(|number| name(&plan(&row, number))), expected, "{row:?}");
        }
    }

    #[test]
    fn a_newer_order_knows_the_executions_and_the_good_commit_of_the_older_one() {
        let older = OrderRow { good: Some(change(3).revision), executions: vec!["d".to_owned()], ..running(&row(5)) };
        let Plan::Start(newer) = plan(&older, 6) else { panic!() };
        assert_eq!((newer.number, &newer.good), (6, &Some(change(3).revision)));
        assert_eq!(newer.executions, ["d", "e"]);
        assert_eq!((newer.may_run, newer.report.is_none(), newer.fence), (false, true, Lease::FREE));
        assert!(newer.token != older.token);
    }

    #[test]
    fn the_times_of_a_newer_order_follow_those_of_the_older_one() {
        let at = ReportTime::next(NOW + SECOND, None);
        let older = OrderRow { at, ..running(&row(5)) };
        let Plan::Start(newer) = plan(&older, 6) else { panic!() };
        assert!(newer.at > at);
    }

    /// The change was relayed without an order first, for example by an earlier version of event-relay.
    #[test]
    fn an_order_about_an_implicit_orders_change_continues_it() {
        let arrival = |row: &OrderRow| {
            let change = change(5);
            let arrival = Arrival { order: Order::deploy(9), change: &change, is_implicit: false };
            at_shop(|place| Plan::new(Some(row), &Claims::default(), &arrival, place, NOW))
        };
        let implicit = OrderRow { is_implicit: true, ..row(5) };
        let cases = [
            (running(&implicit), Some(ReportState::Running)),
            (with(&implicit, Progress::Ended(ReportState::Failed)), Some(ReportState::Failed)),
            (waiting(&implicit, Cause::Busy, NOW), Some(ReportState::Waiting)),
            (claimed(&implicit, Duration::ZERO), Some(ReportState::Waiting)),
            (claimed(&implicit, SECOND), None),
        ];
        for (row, state) in cases {
            match (arrival(&row), state) {
                (Plan::Write(adopted, _), Some(state)) => {
                    assert_eq!((adopted.number, adopted.kind, adopted.is_implicit), (9, OrderKind::Deploy, false));
                    assert_eq!((&adopted.progress, &adopted.token), (&row.progress, &row.token));
                    assert_eq!(adopted.report.unwrap().report.state, state);
                }
                (Plan::Repeated, None) => {}
                (plan, state) => panic!("{plan:?} instead of {state:?}"),
            }
        }
        assert_eq!(name(&arrival(&running(&row(5)))), "start", "the row has an order of its own");
    }

    /// An earlier version, which CloudFormation brought back for some time, has started the change.
    #[test]
    fn a_new_order_adopts_the_execution_in_the_claim_of_its_change() {
        let claims = |sequence, progress| {
            let change = change(sequence);
            let sk = claim::key(&"shop".parse().unwrap(), &change.repository, &change.source_ref).sk;
            let state = ClaimRow { sequence, commit: change.revision, token: "t".to_owned(), since: 7, progress };
            Claims::new(vec![Ok(Row { sk, revision: 1, state })])
        };
        let started = || ClaimProgress::Started("theirs".to_owned());
        let arrival = |claims: &Claims| {
            let change = change(6);
            let arrival = Arrival { order: Order::deploy(6), change: &change, is_implicit: false };
            at_shop(|place| Plan::new(Some(&running(&row(5))), claims, &arrival, place, NOW))
        };
        let Plan::Write(adopted, decision) = arrival(&claims(6, started())) else { panic!() };
        assert_eq!((adopted.number, adopted.execution.as_deref(), adopted.since), (6, Some("theirs"), 7));
        assert_eq!((adopted.progress, adopted.executions), (running(&row(5)).progress, vec!["e".to_owned()]));
        assert_eq!(decision.outcome, Outcome::Duplicate);
        for other in [claims(5, started()), claims(6, ClaimProgress::Failed("why".to_owned())), Claims::default()] {
            assert_eq!(name(&arrival(&other)), "start");
        }
        // The target ran the change, then another one, and is ordered to run the first one again.
        let after_another = OrderRow { executions: vec!["theirs".to_owned()], ..running(&row(5)) };
        let change = change(6);
        let again = Arrival { order: Order::deploy(9), change: &change, is_implicit: false };
        let plan = at_shop(|place| Plan::new(Some(&after_another), &claims(6, started()), &again, place, NOW));
        assert_eq!(name(&plan), "start");
    }

    #[test]
    fn every_row_has_one_thing_that_is_due() {
        let unsent = |row: &OrderRow| {
            let at = ReportTime::next(NOW, None);
            at_shop(|place| row.report_at(at, ReportState::Running, "runs", place))
        };
        let later = OrderRow { progress: Progress::Running { check: epoch_millis(NOW + SECOND) }, ..running(&row(5)) };
        let fenced = OrderRow { fence: Lease::new(NOW, SECOND), ..row(5) };
        let lost = OrderRow { may_run: true, ..row(5) };
        let cases = [
            (claimed(&row(5), SECOND), Due::Nothing, Due::Nothing),
            (unsent(&claimed(&row(5), SECOND)), Due::Nothing, Due::Nothing),
            (claimed(&row(5), Duration::ZERO), Due::Start, Due::Start),
            (fenced, Due::Nothing, Due::Nothing),
            (waiting(&row(5), Cause::Busy, NOW), Due::Start, Due::Close),
            (waiting(&row(5), Cause::Busy, NOW + SECOND), Due::Nothing, Due::Nothing),
            (unsent(&waiting(&row(5), Cause::Source, NOW + SECOND)), Due::Send, Due::Send),
            (waiting(&lost, Cause::Unanswered, NOW), Due::Start, Due::Start),
            (running(&row(5)), Due::Check("e".to_owned()), Due::Check("e".to_owned())),
            (later.clone(), Due::Nothing, Due::Nothing),
            (unsent(&later), Due::Send, Due::Send),
            (with(&row(5), Progress::Ended(ReportState::Healthy)), Due::Nothing, Due::Nothing),
            (unsent(&with(&row(5), Progress::Ended(ReportState::Healthy))), Due::Send, Due::Send),
        ];
        for (row, routed, unrouted) in cases {
            assert_eq!((Due::new(&row, true, NOW), Due::new(&row, false, NOW)), (routed, unrouted), "{row:?}");
        }
    }
}
