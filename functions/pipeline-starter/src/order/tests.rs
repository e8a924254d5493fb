use super::*;
use crate::sample::{NOW, at_shop, claimed, pipeline, row, running, waiting};
use crate::world::StartAnswer;

fn after(row: &OrderRow, answer: &StartAnswer) -> OrderRow {
    at_shop(|place| row.claimed(NOW).after_start(answer, place, NOW))
}

#[test]
fn each_answer_to_a_start_has_its_progress() {
    let reason = || "why".to_owned();
    let wait = |cause, seconds: u64| Progress::Waiting(Wait { cause, next: epoch_millis(NOW) + seconds * 1_000 });
    let check = epoch_millis(NOW + FIRST_CHECK);
    let cases = [
        (StartAnswer::Started("e".to_owned()), Progress::Running { check }, false),
        (StartAnswer::Deferred(reason()), wait(Cause::Busy, 0), false),
        (StartAnswer::Unanswered(reason()), wait(Cause::Unanswered, 120), true),
        (StartAnswer::Rejected(reason()), wait(Cause::Rejected, 60), false),
    ];
    for (answer, progress, may_run) in cases {
        let after = after(&row(5), &answer);
        assert_eq!((after.progress, after.may_run), (progress, may_run), "{answer:?}");
        assert_eq!(after.report.unwrap().report.at, after.at, "the time that the claim reserved");
    }
}

#[test]
fn a_wait_is_reported_again_only_if_its_cause_changes() {
    let first = after(&row(5), &StartAnswer::Deferred("throttled, request 1".to_owned()));
    let same = after(&first, &StartAnswer::Deferred("throttled, request 2".to_owned()));
    assert_eq!(same.report, first.report);
    let other = after(&same, &StartAnswer::Rejected("no such pipeline".to_owned()));
    assert!(other.report.as_ref().unwrap().report.at > first.report.unwrap().report.at);
    let running = after(&other, &StartAnswer::Started("e".to_owned()));
    assert_eq!(running.reported_cause, None);
}

#[test]
fn a_claim_after_a_start_without_a_result_keeps_the_time_of_the_search() {
    let since = row(5).since;
    let lost = OrderRow { may_run: true, ..row(5) };
    let cases = [
        (waiting(&row(5), Cause::Busy, NOW), false, epoch_millis(NOW)),
        (waiting(&lost, Cause::Unanswered, NOW), true, since),
        (claimed(&row(5), Duration::ZERO), true, since),
    ];
    for (row, may_run, since) in cases {
        let claimed = row.claimed(NOW);
        assert_eq!((claimed.may_run, claimed.since, &claimed.token), (may_run, since, &row.token), "{row:?}");
    }
}

#[test]
fn the_end_of_another_execution_makes_room_only_for_some_causes() {
    let later = NOW + Duration::from_secs(1);
    for (cause, expected) in
        [(Cause::Busy, true), (Cause::Rejected, true), (Cause::Unanswered, false), (Cause::Source, false)]
    {
        assert_eq!(waiting(&row(5), cause, later).is_startable(true, NOW), expected, "{cause:?}");
        assert!(!waiting(&row(5), cause, later).is_startable(false, NOW), "{cause:?}");
        assert!(waiting(&row(5), cause, NOW).is_startable(false, NOW), "{cause:?}");
    }
    let fenced = OrderRow { fence: Lease::new(NOW, Duration::from_secs(1)), ..row(5) };
    assert!(!fenced.is_startable(true, NOW));
}

#[test]
fn a_lease_of_a_wrong_clock_does_not_count() {
    let far_ahead = Duration::from_hours(24);
    assert!(claimed(&row(5), far_ahead).is_startable(false, NOW));
}

/// The call of the older order may still take effect, and its execution would then be the last one.
#[test]
fn a_newer_order_waits_for_a_call_of_the_older_one_that_got_no_answer() {
    let older = row(5).claimed(NOW);
    let newer = OrderRow::new(Order::deploy(6), &row(6).change, &pipeline(), Some(&older), NOW);
    assert!(!newer.is_startable(true, NOW));
    let unanswered = at_shop(|place| older.after_start(&StartAnswer::Unanswered("late".to_owned()), place, NOW));
    let started = at_shop(|place| older.after_start(&StartAnswer::Started("e".to_owned()), place, NOW));
    for (after, delay) in [(&unanswered, 120), (&started, 0)] {
        let unblocked = newer.unblocked(&older, after, NOW);
        assert_eq!(unblocked.fence.time_left(NOW), Duration::from_secs(delay));
        assert!(unblocked.is_startable(false, NOW + Duration::from_secs(delay)));
    }
    assert_eq!(newer.unblocked(&older, &started, NOW).executions, ["e"]);
    let fenced_by_another = OrderRow { fence: Lease::new(NOW, Duration::from_secs(9)), ..newer };
    assert!(!fenced_by_another.unblocked(&older, &started, NOW).is_startable(false, NOW));
}

/// A route may come back after a week.
#[test]
fn an_order_that_is_opened_again_begins_anew() {
    let failed = OrderRow {
        source_failures: 9,
        source_failed: Some(1),
        cancellations: 2,
        may_run: true,
        restarts: 4,
        is_announced: true,
        ..running(&row(5))
    };
    let closed = at_shop(|place| failed.closed(place, NOW));
    assert!(!closed.may_run);
    let again = closed.reopened(&pipeline(), NOW);
    assert_eq!((again.number, again.source_failed, again.source_failures, again.cancellations), (5, None, 0, 0));
    assert_eq!((again.since, again.may_run, again.is_announced), (epoch_millis(NOW), false, false));
    assert_eq!((again.token, again.executions), (token(&row(5).change, &pipeline(), 5, 5), vec!["e".to_owned()]));
    assert!(again.report.is_none() && again.at == closed.at);
}

/// event-relay copies both texts from an event, which may have 256 KB.
#[test]
fn a_row_does_not_store_a_long_actor_or_event() {
    for (length, is_stored) in [(300, true), (301, false)] {
        let text = Some("a".repeat(length));
        let long = Change { actor: text.clone(), event: text, ..row(5).change };
        let stored = OrderRow::new(Order::deploy(5), &long, &pipeline(), None, NOW).change;
        assert_eq!((stored.actor.is_some(), stored.event.is_some(), stored.id()), (is_stored, is_stored, long.id()));
    }
}

/// The search must not take the execution of an earlier order for its own.
#[test]
fn a_row_remembers_the_last_ten_executions() {
    let mut last = row(1);
    for number in 2..20 {
        let order = Order::deploy(number);
        let ran = OrderRow { execution: Some(format!("e{number}")), ..running(&last) };
        last = OrderRow::new(order, &ran.change, &pipeline(), Some(&ran), NOW);
    }
    let expected: Vec<String> = (10..20).map(|number| format!("e{number}")).collect();
    assert_eq!(last.executions, expected);
}

#[test]
fn a_report_mentions_the_last_execution_that_no_order_started() {
    let ended = OrderRow { executions: vec!["d".to_owned()], ..running(&row(5)) };
    let ended = at_shop(|place| crate::conclusion::ended(&ended, ReportState::Failed, "no image", place, NOW));
    let mut last = ended.report.clone().unwrap();
    (last.report.in_source, last.is_sent) = (true, true);
    let ended = OrderRow { report: Some(last.clone()), ..ended };
    let mentioned = ended.mentioning("x", None, NOW).unwrap();
    let report = &mentioned.report.as_ref().unwrap().report;
    assert_eq!(report.reason, "no image; execution x, which no order is known to have started, ended later");
    assert_eq!(report.foreign_execution.as_deref(), Some("x"));
    let unmentioned = OrderReport {
        reason: last.report.reason.clone(),
        at: last.report.at,
        foreign_execution: None,
        ..report.clone()
    };
    assert_eq!(unmentioned, last.report);
    assert!(report.at > last.report.at && report.at == mentioned.at && !mentioned.is_answered());
    let again = mentioned.mentioning("y", None, NOW).unwrap();
    assert_eq!(again.reason(), "no image; execution y, which no order is known to have started, ended later");
    for (row, execution) in [
        (&again, "y"),
        (&ended, "d"),
        (&running(&ended), "x"),
        (&waiting(&ended, Cause::Busy, NOW), "x"),
        (&OrderRow { progress: Progress::Ended(ReportState::Refused), ..ended.clone() }, "x"),
    ] {
        assert_eq!(row.mentioning(execution, None, NOW), None, "{execution} {:?}", row.progress);
    }
    let started = after(&again, &StartAnswer::Started("f".to_owned()));
    assert_eq!((started.reason(), started.foreign_execution.as_ref()), ("the execution runs", None));
}

/// The row remembers only some of the executions of its orders, and an event may come days late.
#[test]
fn a_report_does_not_mention_an_execution_that_ended_before_the_order_started() {
    let ended = at_shop(|place| crate::conclusion::ended(&running(&row(5)), ReportState::Healthy, "ok", place, NOW));
    let started = from_epoch_millis(i64::try_from(ended.since).unwrap()).unwrap();
    let mentioned = |at: OffsetDateTime| ended.mentioning("x", Some(at), NOW).is_some();
    // An event has whole seconds.
    assert!(!mentioned(started - Duration::from_secs(1)));
    assert!(mentioned(started - Duration::from_millis(999)) && mentioned(NOW));
}

/// event-relay cuts a longer reason at its end.
#[test]
fn a_long_reason_is_cut_in_front_of_the_mention() {
    let long = "é".repeat(5_000);
    let ended = at_shop(|place| crate::conclusion::ended(&running(&row(5)), ReportState::Failed, &long, place, NOW));
    let mentioned = ended.mentioning("x", None, NOW).unwrap();
    let later = at_shop(|place| mentioned.report_at(mentioned.next_at(NOW), ReportState::Unknown, &long, place));
    for row in [&mentioned, &mentioned.mentioning("y", None, NOW).unwrap(), &later] {
        let execution = row.foreign_execution.as_ref().unwrap();
        let end = format!("é…; execution {execution}, which no order is known to have started, ended later");
        assert!(row.reason().ends_with(&end) && row.reason().chars().count() == 1_000, "{}", row.reason());
    }
}

#[test]
fn each_order_and_each_restart_has_its_token() {
    let change = &row(5).change;
    let tokens = [token(change, &pipeline(), 5, 0), token(change, &pipeline(), 6, 0), token(change, &pipeline(), 5, 1)];
    assert!(tokens[0] != tokens[1] && tokens[0] != tokens[2] && tokens[1] != tokens[2]);
    assert!(tokens.iter().all(|token| token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')));
}
