//! Values for the unit tests of the pure modules.

use std::time::Duration;

use sekisho_domain::account::Region;
use sekisho_domain::change::{Change, RefKind};
use sekisho_domain::order::Order;
use sekisho_domain::route::PipelineName;
use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::Lease;
use time::OffsetDateTime;
use time::macros::datetime;

use crate::order::{Cause, LEASE_TERM, OrderRow, Progress, Wait};
use crate::report::Place;

pub(crate) const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);

pub(crate) fn pipeline() -> PipelineName {
    "shop".parse().unwrap()
}

/// Calls `test` with the place of the pipeline `shop`.
pub(crate) fn at_shop<T>(test: impl FnOnce(&Place<'_>) -> T) -> T {
    let region: Region = "ap-northeast-1".parse().unwrap();
    test(&Place { pipeline: &pipeline(), region: &region })
}

pub(crate) fn change(sequence: u64) -> Change {
    Change {
        kind: RefKind::Branch,
        repository: "arn:aws:codecommit:ap-northeast-1:111111111111:shop".parse().unwrap(),
        source_ref: "refs/heads/main".parse().unwrap(),
        revision: format!("{sequence:040x}").parse().unwrap(),
        previous: None,
        sequence,
        actor: None,
        event: None,
    }
}

/// The order with this number, which arrived an hour ago and waits.
pub(crate) fn row(number: u64) -> OrderRow {
    OrderRow::new(Order::deploy(number), &change(number), &pipeline(), None, NOW - Duration::from_hours(1))
}

pub(crate) fn with(row: &OrderRow, progress: Progress) -> OrderRow {
    OrderRow { progress, ..row.clone() }
}

pub(crate) fn waiting(row: &OrderRow, cause: Cause, next: OffsetDateTime) -> OrderRow {
    with(row, Progress::Waiting(Wait { cause, next: epoch_millis(next) }))
}

/// The row whose claim ends this much after now.
pub(crate) fn claimed(row: &OrderRow, left: Duration) -> OrderRow {
    with(row, Progress::Claimed(Lease::new(NOW + left - LEASE_TERM, LEASE_TERM)))
}

pub(crate) fn running(row: &OrderRow) -> OrderRow {
    let progress = Progress::Running { check: epoch_millis(NOW) };
    OrderRow { progress, execution: Some("e".to_owned()), ..row.clone() }
}
