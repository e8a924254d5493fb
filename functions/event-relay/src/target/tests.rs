use sekisho_domain::change::RefKind;
use sekisho_domain::report::ReportTime;
use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);

fn change(commit: u64, sequence: u64) -> Change {
    Change {
        kind: RefKind::Branch,
        repository: "arn:aws:codecommit:ap-northeast-1:111111111111:shop".parse().unwrap(),
        source_ref: "refs/heads/main".parse().unwrap(),
        revision: format!("{commit:040x}").parse().unwrap(),
        previous: None,
        sequence,
        actor: None,
        event: None,
    }
}

/// A target that was ordered at `NOW` to run the second commit.
fn ordered() -> TargetRow {
    TargetRow::default().placed(&change(2, 20), Sources::unrouted(), NOW)
}

fn report(row: &TargetRow, state: ReportState, at: OffsetDateTime) -> OrderReport {
    let order = row.order.as_ref().unwrap();
    OrderReport {
        version: OrderReport::VERSION,
        pipeline: "shop".parse().unwrap(),
        number: order.number,
        id: order.change.id(),
        revision: order.change.revision.clone(),
        state,
        region: "ap-northeast-1".parse().unwrap(),
        execution: None,
        reason: String::new(),
        at: ReportTime::next(at, None),
        until: None,
        good: None,
        since: None,
        in_source: false,
        lacks: std::collections::BTreeSet::new(),
        foreign_execution: None,
    }
}

fn reported(row: &TargetRow, state: ReportState, at: OffsetDateTime) -> TargetRow {
    match row.receive(&report(row, state, at), at) {
        Reception::Stored { row, .. } => row,
        other => panic!("{other:?}"),
    }
}

#[test]
fn numbers_rise_even_if_the_clock_goes_back() {
    let first = ordered();
    assert_eq!(first.number, epoch_millis(NOW));
    let second = first.placed(&change(3, 30), Sources::unrouted(), NOW - Duration::from_mins(1));
    assert_eq!(second.order.unwrap().number, first.number + 1);
    let ahead = epoch_millis(NOW) + 5;
    assert_eq!(TargetRow::default().placed(&change(3, ahead), Sources::unrouted(), NOW).number, ahead);
}

#[test]
fn a_target_gets_a_new_commit_unless_it_should_run_the_same_or_a_later_one() {
    let row = ordered();
    assert!(matches!(row.place(&change(3, 21), Sources::unrouted(), NOW), Placement::Placed(_)));
    assert_eq!(row.place(&change(2, 21), Sources::unrouted(), NOW), Placement::Duplicate);
    assert_eq!(row.place(&change(3, 19), Sources::unrouted(), NOW), Placement::Superseded);
    assert!(matches!(TargetRow::default().place(&change(2, 20), Sources::unrouted(), NOW), Placement::Placed(_)));
}

#[test]
fn an_order_without_a_report_is_offered_after_five_minutes_and_then_with_doubling_pauses_up_to_an_hour() {
    let mut row = ordered();
    let mut last = NOW;
    for minutes in [5, 10, 20, 40, 60, 60] {
        let due = last + Duration::from_mins(minutes);
        assert!(!row.is_due(due - Duration::from_millis(1)), "{minutes}");
        assert!(row.is_due(due), "{minutes}");
        row = row.offered_again(due);
        last = due;
    }
    assert!(!TargetRow::default().is_due(NOW));
}

#[test]
fn an_order_is_offered_until_its_target_accepts_and_finishes_it() {
    let hour = NOW + Duration::from_hours(1);
    let day = NOW + Duration::from_hours(24);
    let state = |state| reported(&ordered(), state, NOW);
    assert!(state(ReportState::Refused).is_due(NOW + Duration::from_mins(5)));
    for unfinished in [ReportState::Waiting, ReportState::Running, ReportState::Baking, ReportState::RollingBack] {
        assert!(!state(unfinished).is_due(hour - Duration::from_millis(1)), "{unfinished:?}");
        assert!(state(unfinished).is_due(hour), "{unfinished:?}");
    }
    for finished in [ReportState::Healthy, ReportState::Failed, ReportState::Unknown, ReportState::RolledBack] {
        assert!(!state(finished).is_due(day), "{finished:?}");
    }
    let next = state(ReportState::Healthy).placed(&change(3, 30), Sources::unrouted(), day);
    assert!(next.is_due(day + Duration::from_mins(5)), "a report on an earlier order says nothing");
}

#[test]
fn the_latest_report_on_the_current_order_counts() {
    let row = ordered();
    let minute = NOW + Duration::from_mins(1);
    let running = report(&row, ReportState::Running, NOW);
    let stored = reported(&row, ReportState::Healthy, minute);
    assert_eq!(stored.current_report().unwrap().state, ReportState::Healthy);
    assert_eq!(stored.receive(&running, minute), Reception::Repeated);
    assert_eq!(stored.receive(&report(&row, ReportState::Healthy, minute), minute), Reception::Repeated);
    assert_eq!(stored.placed(&change(3, 30), Sources::unrouted(), minute).receive(&running, minute), Reception::Older);
}

#[test]
fn a_refusal_counts_once_for_each_order() {
    let refuse = |row: &TargetRow, minute: u64| {
        let at = NOW + Duration::from_mins(minute);
        match row.receive(&report(row, ReportState::Refused, at), at) {
            Reception::Stored { row, is_refusal } => (row, is_refusal),
            other => panic!("{other:?}"),
        }
    };
    let (row, first) = refuse(&ordered(), 1);
    let (row, second) = refuse(&row, 2);
    let (_, next_order) = refuse(&row.placed(&change(3, 30), Sources::unrouted(), NOW), 3);
    assert_eq!([first, second, next_order], [true, false, true]);
}

#[test]
fn a_report_on_a_lost_order_only_raises_the_number() {
    let report = report(&ordered(), ReportState::Healthy, NOW);
    let Reception::Unplaced(row) = TargetRow::default().receive(&report, NOW) else { panic!() };
    assert_eq!(row, TargetRow { number: report.number, report: Some(report.clone()), ..TargetRow::default() });
    assert_eq!(row.receive(&report, NOW), Reception::Older);
    assert!(row.placed(&change(3, 30), Sources::unrouted(), NOW - Duration::from_hours(1)).number > report.number);
}

/// An event of an earlier version has no order, and counts as one with the sequence as the number.
#[test]
fn a_target_that_took_a_change_of_an_earlier_version_calls_the_order_stale() {
    let row = ordered();
    for ahead in [0, 20_000] {
        let theirs = TargetRow { number: row.number + ahead - 1, ..TargetRow::default() };
        let theirs = theirs.placed(&change(4, 30), Sources::unrouted(), NOW);
        let report = report(&theirs, ReportState::Healthy, NOW);
        let Reception::Unplaced(row) = row.receive(&report, NOW) else { panic!() };
        assert_eq!((row.unplaced_report(), row.current_report()), (Some(&report), None));
        assert!(!row.is_due(NOW + Duration::from_hours(2)), "the target would call the order stale again");
        assert_eq!(
            row.place(&change(3, row.number), Sources::unrouted(), NOW),
            Placement::Superseded,
            "nothing goes back"
        );
        let Placement::Placed(next) = row.place(&change(2, row.number + 1), Sources::unrouted(), NOW) else { panic!() };
        assert_eq!((next.number > report.number, next.unplaced_report()), (true, None));
        let adopted = row.adopted(&change(4, 30), Sources::unrouted(), NOW);
        assert_eq!((adopted.number, adopted.current_report()), (report.number, Some(&report)));
    }
}

#[test]
fn a_number_that_is_more_than_a_day_ahead_is_refused() {
    let report = report(&ordered(), ReportState::Healthy, NOW);
    let ahead = |hours| TargetRow::default().receive(&report, NOW - Duration::from_hours(hours));
    assert!(matches!(ahead(24), Reception::Unplaced(_)));
    assert_eq!(ahead(25), Reception::TooFarAhead("number"));
}

/// No bake is longer than a week, and a widget shows the time.
#[test]
fn a_bake_that_ends_much_later_than_the_longest_one_is_refused() {
    let report = report(&ordered(), ReportState::Baking, NOW);
    let until = |hours| Some(ReportTime::next(NOW + Duration::from_hours(hours), None));
    let receive = |hours| TargetRow::default().receive(&OrderReport { until: until(hours), ..report.clone() }, NOW);
    assert!(matches!(receive(168 + 24), Reception::Unplaced(_)));
    assert_eq!(receive(168 + 25), Reception::TooFarAhead("until"));
}

#[test]
fn people_are_alerted_once_about_an_order_that_no_bus_accepts() {
    let row = ordered();
    assert!(!row.needs_alert(NOW + Duration::from_mins(119)));
    assert!(row.needs_alert(NOW + Duration::from_hours(2)));
    assert!(!row.alerted().needs_alert(NOW + Duration::from_hours(2)));
    assert!(!reported(&row, ReportState::Running, NOW).needs_alert(NOW + Duration::from_hours(2)));
}

/// The waves of a route are taken out after its targets were sent back from the second commit, or got it once more.
#[test]
fn a_new_sequence_of_a_change_of_a_wave_does_not_keep_later_heads_out() {
    let of =
        |seen| serde_json::from_value::<TrainOrder>(serde_json::json!({"route": "shop", "seen": seen, "bake": "0s"}));
    for (kind, ordered) in [(OrderKind::Rollback, change(1, 90)), (OrderKind::Deploy, change(2, 90))] {
        let row = TargetRow::default().ordered(&ordered, (kind, of(20).unwrap()), Sources::unrouted(), NOW);
        assert!(matches!(row.place(&change(3, 30), Sources::unrouted(), NOW), Placement::Placed(_)), "{kind:?}");
        assert_eq!(row.place(&change(4, 20), Sources::unrouted(), NOW), Placement::Superseded, "{kind:?}");
        assert_eq!(row.place(&change(4, 10), Sources::unrouted(), NOW), Placement::Superseded, "{kind:?}");
    }
}

/// The waves of a route are taken out after its newest change was condemned.
#[test]
fn a_withdrawn_order_keeps_no_head_out() {
    let of = serde_json::from_value(serde_json::json!({"route": "shop", "seen": 21, "bake": "0s"})).unwrap();
    let row = TargetRow::default().ordered(&change(2, 21), (OrderKind::Deploy, of), Sources::unrouted(), NOW);
    let later = NOW + Duration::from_mins(5);
    assert_eq!(row.place(&change(2, 20), Sources::unrouted(), later), Placement::Duplicate);
    let withdrawn = row.withdrawn(later).unwrap();
    assert_eq!(withdrawn.withdrawn(later), None, "it is withdrawn once");
    // The train may have given the head a larger sequence.
    let Placement::Placed(next) = withdrawn.place(&change(2, 20), Sources::unrouted(), later) else { panic!() };
    assert!(next.number > row.number && next.is_due(later + Duration::from_mins(5)));
    assert_eq!(withdrawn.place(&change(3, 20), Sources::unrouted(), later), Placement::Superseded);
    assert!(matches!(withdrawn.place(&change(3, 22), Sources::unrouted(), later), Placement::Placed(_)));
}
