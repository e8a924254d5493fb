//! Reports: what the function answers to an order, and when an answer is sent again.

use std::collections::BTreeSet;
use std::time::Duration;

use sekisho_domain::account::Region;
use sekisho_domain::change::Change;
use sekisho_domain::order::{Order, OrderKind};
use sekisho_domain::pause::doubled;
use sekisho_domain::report::{OrderReport, ReportState, ReportTime};
use sekisho_domain::route::PipelineName;
use sekisho_domain::timestamp::epoch_millis;
use sekisho_lambda::eventbridge::EntryResult;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// The longest reason of a report, in characters. A reason may quote text from outside, and event-relay cuts a longer
/// one.
const LONGEST_REASON: usize = 1_000;
/// The pause after the first attempt that fails: to start an order, or to send a report. The follow-up runs as often.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_mins(1);
/// The longest pause between two attempts to send a report.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// A report about an order that has no row takes its time this much before now. The clock of the next invocation may be
/// behind, and its report must be later than this one although no row has stored this time.
const CLOCK_TOLERANCE: Duration = Duration::from_mins(2);

/// The pipeline and the region that a report is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) pipeline: &'a PipelineName,
    pub(crate) region: &'a Region,
}

/// The last report about a pipeline. The row holds the report before it is sent, so that a report is never lost and an
/// order that arrives again gets the same answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastReport {
    /// The report.
    pub report: OrderReport,
    /// Whether a bus has accepted the report.
    pub is_sent: bool,
    /// The earliest time of the next attempt to send the report, in epoch milliseconds.
    pub next: u64,
    /// The number of attempts that failed.
    pub failures: u32,
}

impl LastReport {
    pub(crate) fn new(report: OrderReport) -> Self {
        Self { report, is_sent: false, next: 0, failures: 0 }
    }

    /// Whether the report must be sent now.
    pub(crate) fn is_due(&self, now: OffsetDateTime) -> bool {
        !self.is_sent && self.next <= epoch_millis(now)
    }

    /// The report after an attempt to send it. A version of event-relay that gives no orders has no bus for reports, so
    /// a refusal is final if the order is implicit.
    pub(crate) fn after(&self, result: &EntryResult, is_implicit: bool, now: OffsetDateTime) -> Self {
        let is_sent = match result {
            EntryResult::Accepted => true,
            EntryResult::Refused(_) => is_implicit,
            EntryResult::Retryable(_) => false,
        };
        let failures = self.failures + 1;
        let next = epoch_millis(now + doubled(FIRST_PAUSE, failures, LONGEST_PAUSE));
        Self { is_sent: is_sent || self.is_sent, next, failures, ..self.clone() }
    }
}

/// The time of a report that no row stores. `last` is the time of the pipeline's last report.
pub(crate) fn unstored_at(last: Option<ReportTime>, now: OffsetDateTime) -> ReportTime {
    ReportTime::next(now - CLOCK_TOLERANCE, last)
}

/// The reason with an addition. A long reason is cut in front of the addition, because event-relay would cut the end.
pub(crate) fn bounded(reason: &str, addition: &str) -> String {
    let length = LONGEST_REASON.saturating_sub(addition.chars().count());
    if reason.chars().nth(length).is_none() {
        return format!("{reason}{addition}");
    }
    let beginning: String = reason.chars().take(length.saturating_sub(1)).collect();
    format!("{beginning}…{addition}")
}

/// A report without an execution.
pub(crate) fn report(
    order: Order,
    change: &Change,
    place: &Place<'_>,
    state: ReportState,
    reason: &str,
    at: ReportTime,
) -> OrderReport {
    // The target goes back with an order of kind `rollback`, whose states have names of their own.
    let state = match (order.kind, state) {
        (OrderKind::Rollback, ReportState::Running) => ReportState::RollingBack,
        (OrderKind::Rollback, ReportState::Healthy) => ReportState::RolledBack,
        (_, state) => state,
    };
    OrderReport {
        version: OrderReport::VERSION,
        pipeline: place.pipeline.clone(),
        number: order.number,
        id: change.id(),
        revision: change.revision.clone(),
        state,
        region: place.region.clone(),
        execution: None,
        reason: bounded(reason, ""),
        at,
        until: None,
        good: None,
        since: None,
        in_source: false,
        lacks: BTreeSet::new(),
        foreign_execution: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{NOW, at_shop, change};

    fn running(kind: OrderKind, state: ReportState) -> OrderReport {
        let at = ReportTime::next(NOW, None);
        at_shop(|place| report(Order::outside_waves(5, kind), &change(5), place, state, "why", at))
    }

    fn last() -> LastReport {
        LastReport::new(running(OrderKind::Deploy, ReportState::Running))
    }

    #[test]
    fn only_an_accepted_report_is_sent_and_the_pauses_double() {
        let refused = EntryResult::Refused("AccessDenied".to_owned());
        let retryable = EntryResult::Retryable("ThrottlingException".to_owned());
        for (result, is_implicit, is_sent) in [
            (&EntryResult::Accepted, false, true),
            (&refused, false, false),
            (&refused, true, true),
            (&retryable, true, false),
        ] {
            assert_eq!(last().after(result, is_implicit, NOW).is_sent, is_sent, "{result:?} {is_implicit}");
        }
        let twice = last().after(&retryable, false, NOW).after(&retryable, false, NOW);
        assert!(!twice.is_due(NOW + Duration::from_secs(119)) && twice.is_due(NOW + Duration::from_mins(2)));
        assert!(last().after(&EntryResult::Accepted, false, NOW).after(&retryable, false, NOW).is_sent);
    }

    #[test]
    fn the_states_of_a_rollback_have_their_own_names() {
        for (state, expected) in [
            (ReportState::Running, ReportState::RollingBack),
            (ReportState::Healthy, ReportState::RolledBack),
            (ReportState::Failed, ReportState::Failed),
        ] {
            assert_eq!(running(OrderKind::Rollback, state).state, expected);
        }
    }

    /// The next invocation's clock may be 40 s behind, and no row has stored the time of the refusal.
    #[test]
    fn a_refusal_is_earlier_than_every_later_report_and_later_than_every_earlier_one() {
        assert!(unstored_at(None, NOW) < ReportTime::next(NOW - Duration::from_secs(40), None));
        let last = ReportTime::next(NOW, None);
        assert!(unstored_at(Some(last), NOW) > last);
    }

    #[test]
    fn a_long_reason_is_cut() {
        let at = ReportTime::next(NOW, None);
        let long = "é".repeat(200_000);
        let report = at_shop(|place| report(Order::deploy(5), &change(5), place, ReportState::Refused, &long, at));
        assert_eq!((report.reason.chars().count(), report.reason.ends_with("é…")), (LONGEST_REASON, true));
    }
}
