use super::*;
use crate::sample::{NOW, at_shop, claimed, pipeline, row, running, waiting};

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
        (StartAnswer::Unanswered(reason()), wait(Cause::Unanswered, 100), true),
        (StartAnswer::Rejected(reason()), wait(Cause::Rejected, 60), false),
    ];
    for (answer, progress, may_run) in cases {
        let after = after(&row(5), &answer);
        assert_eq!((after.progress, after.may_run), (progress, may_run), "{answer:?}");
        assert_eq!(after.report.unwrap().report.at, after.at.unwrap(), "the time that the claim reserved");
    }
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
fn each_order_and_each_restart_has_its_token() {
    let change = &row(5).change;
    let tokens = [token(change, &pipeline(), 5, 0), token(change, &pipeline(), 6, 0), token(change, &pipeline(), 5, 1)];
    assert!(tokens[0] != tokens[1] && tokens[0] != tokens[2] && tokens[1] != tokens[2]);
    assert!(tokens.iter().all(|token| token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')));
}
