use std::time::Duration;

use sekisho_board::{Theme, Viewer};
use sekisho_domain::change::RepositoryArn;
use sekisho_domain::report::ReportState;
use sekisho_domain::timestamp::epoch_millis;
use sekisho_testing::page::{HOSTILE, assert_golden, assert_safe, long};
use time::OffsetDateTime;
use time::macros::{datetime, offset};

use super::*;
use crate::bake::{Bake, Window};
use crate::order::Cause;
use crate::report::Place;
use crate::sample::{running, waiting, with};
use crate::way_back::WayBack;

/// The time of the picture in the documentation, in which all widgets are.
const NOW: OffsetDateTime = datetime!(2026-11-21 12:30 UTC);

fn viewer() -> Viewer {
    Viewer { theme: Theme::Light, now: NOW.to_offset(offset!(+9)) }
}

fn shown(orders: Vec<(&str, Order)>) -> String {
    let pipelines: Vec<Pipeline> =
        orders.into_iter().map(|(name, order)| Pipeline { name: name.to_owned(), order }).collect();
    let html = pipelines_of(&pipelines);
    assert_safe(&html);
    html
}

fn pipelines_of(pipelines: &[Pipeline]) -> String {
    super::pipelines(&viewer(), "aws", &"ap-northeast-1".parse().unwrap(), pipelines)
}

/// A commit that people can tell from others by its first digits.
fn of(digits: &str, row: OrderRow) -> OrderRow {
    let revision = digits.repeat(5).parse().unwrap();
    let good = "0011aabb".repeat(5).parse().unwrap();
    let change = Change { revision, ..row.change.clone() };
    let good_since = Some(epoch_millis(NOW - Duration::from_hours(50)));
    OrderRow { change, good: Some(good), good_ref: Some(row.change.source_ref.clone()), good_since, ..row }
}

/// The row with a report of this many minutes ago.
fn reported(row: &OrderRow, minutes: u64, state: ReportState, reason: &str) -> OrderRow {
    let at: OffsetDateTime = NOW - Duration::from_mins(minutes);
    let region = "ap-northeast-1".parse().unwrap();
    let place = Place { pipeline: &"shop".parse().unwrap(), region: &region };
    let reported = row.report_at(row.next_at(at), state, reason, &place);
    let mut last = reported.report.clone().unwrap();
    last.is_sent = true;
    OrderRow { report: Some(last), ..reported }
}

fn boxed(row: OrderRow) -> Order {
    Order::Row(Box::new(row))
}

/// The row of a pipeline whose source is a repository of the same name.
fn own(name: &str, mut row: OrderRow) -> (&str, Order) {
    let repository: RepositoryArn = format!("arn:aws:codecommit:ap-northeast-1:111111111111:{name}").parse().unwrap();
    if let Some(way_back) = &mut row.way_back {
        way_back.change.repository = repository.clone();
    }
    row.change.repository = repository;
    row.execution = row.execution.map(|_| format!("1111111{}-2222-3333-4444-555555555555", name.len()));
    (name, boxed(row))
}

fn order(number: u64) -> OrderRow {
    crate::sample::row(number)
}

fn baking() -> OrderRow {
    let since = epoch_millis(NOW - Duration::from_mins(10));
    let window = Window { since, until: since + 30 * 60_000, watched: None, failing_since: None };
    let bake = Bake {
        length: sekisho_domain::bake::BakeTime::NONE,
        alarms: vec![],
        missing: sekisho_domain::route::Missing::Unknown,
        rang: vec![],
        window: Some(window),
    };
    let good_since = Some(epoch_millis(NOW - Duration::from_hours(3)));
    let good = Some("0123abcd".repeat(5).parse().unwrap());
    OrderRow { bake: Some(bake), good, good_since, ..of("4567cdef", running(&order(2))) }
}

fn going_back() -> OrderRow {
    let row = of("0011aabb", running(&order(3)));
    let way_back = WayBack {
        reason: "the alarm video-errors rang".to_owned(),
        change: of("89ab0123", order(4)).change,
        execution: Some("e0".to_owned()),
        run: 1,
        bake: None,
        pins: crate::pins::PinSet::default(),
    };
    OrderRow { way_back: Some(Box::new(way_back)), kind: OrderKind::Rollback, ..row }
}

#[test]
fn an_account_without_orders() {
    assert!(shown(vec![]).contains("No route leads to a pipeline"));
    assert_golden("pipelines-empty", &shown(vec![("shop", Order::None), ("website", Order::None)]));
}

#[test]
fn every_state_of_an_order_is_shown() {
    let healthy = with(&of("0123abcd", order(1)), Progress::Ended(ReportState::Healthy));
    let good_since = |minutes| Some(epoch_millis(NOW - Duration::from_mins(minutes)));
    let healthy = OrderRow { good: Some(healthy.change.revision.clone()), good_since: good_since(180), ..healthy };
    let waits = waiting(&of("4567cdef", order(2)), Cause::Busy, NOW + Duration::from_mins(1));
    // An earlier version has recorded what runs.
    let waits = OrderRow { good_since: None, ..waits };
    let went_back = with(&going_back(), Progress::Ended(ReportState::Healthy));
    let went_back = OrderRow { good_since: good_since(40), ..went_back };
    let failed = with(&of("89ab0123", order(3)), Progress::Ended(ReportState::Failed));
    let promoted = OrderRow { promoted: true, ..healthy };
    let html = shown(vec![
        own("api", reported(&promoted, 180, ReportState::Healthy, "the execution succeeded")),
        own("batch", reported(&waits, 2, ReportState::Waiting, "the pipeline is busy")),
        own("search", reported(&failed, 30, ReportState::Failed, "Deploy / Stack failed")),
        own("shop", reported(&baking(), 10, ReportState::Baking, "the alarms are quiet")),
        own("mail", reported(&went_back, 40, ReportState::Healthy, "the alarm mail-errors rang")),
        own("video", reported(&going_back(), 1, ReportState::RollingBack, "the alarm video-errors rang")),
        ("intranet", Order::None),
        ("legacy", Order::Unreadable),
    ]);
    for words in
        ["healthy", "waiting", "failed", "20m left", "rolling back", "(promoted)", "no order yet", "unreadable"]
    {
        assert!(html.contains(words), "{words}: {html}");
    }
    for words in [
        "Runs <code>0123abcd</code> <bdi>main</bdi>, since <time",
        "Runs <code>0011aabb</code> <bdi>main</bdi>, since unknown",
        "Healthy last: <code>0011aabb</code> <bdi>main</bdi>, since <time",
        "Runs <code>4567cdef</code>, since <time",
        "Before: <code>0123abcd</code> <bdi>main</bdi>, since <time",
        "Went back to <a",
        "rolled back",
    ] {
        assert!(html.contains(words), "{words}: {html}");
    }
    let places =
        ["search", "batch", "shop", "api", "intranet"].map(|name| html.find(&format!("pipelines/{name}/view")));
    assert!(places.is_sorted() && places[0].is_some(), "what needs attention comes first: {places:?}");
    assert_golden("pipelines-ordinary", &html);
}

#[test]
fn many_pipelines_are_cut() {
    let rows = (0..1_000).map(|n| {
        let state = if n % 100 == 99 { ReportState::Failed } else { ReportState::Healthy };
        let row = with(&of("0123abcd", order(n)), Progress::Ended(state));
        let order = boxed(reported(&row, n, state, &format!("reason of {n}")));
        Pipeline { name: format!("pipeline-{n:04}"), order }
    });
    let html = pipelines_of(&rows.collect::<Vec<Pipeline>>());
    assert!(html.contains("reason of 999") && html.contains("and 800 more pipelines"), "{html}");
    assert_golden("pipelines-huge", &html);
}

#[test]
fn text_of_strangers_stays_text() {
    let text = format!("{HOSTILE} {}", long());
    let mut row = of("0123abcd", running(&order(1)));
    row.execution = Some(text.clone());
    row.change.source_ref =
        format!("refs/heads/<img/src=x/onerror=alert(1)>&\"'\u{202e}{}", "x".repeat(200)).parse().unwrap();
    row.good_ref = Some(row.change.source_ref.clone());
    let html = shown(vec![
        ("shop", boxed(reported(&row, 1, ReportState::Running, &text))),
        (text.as_str(), Order::None),
        (&long(), Order::Unreadable),
    ]);
    assert!(html.contains("&lt;script&gt;") && !html.contains("<script"), "{html}");
    assert_golden("pipelines-hostile", &html);
}
