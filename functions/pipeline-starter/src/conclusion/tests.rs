use std::time::Duration;

use proptest::prelude::*;
use sekisho_domain::change::RepositoryArn;
use sekisho_domain::order::Order;
use sekisho_domain::report::ReportTime;
use sekisho_domain::route::{AlarmGlobs, Missing};

use super::*;
use crate::bake::Bake;
use crate::end::{End, Ending, after_end};
use crate::order::token;
use crate::sample::{NOW, at_shop, change, pipeline, row, running};
use crate::world::StartAnswer;

fn bake() -> Bake {
    Bake {
        length: "30m".parse().unwrap(),
        alarms: vec![AlarmGlobs::try_from(vec!["shop-*".to_owned()]).unwrap()],
        missing: Missing::Unknown,
        rang: Vec::new(),
        window: None,
    }
}

/// An order of a wave whose execution `e` runs, at a target where the change 3 was healthy.
fn deploying() -> OrderRow {
    OrderRow {
        bake: Some(bake()),
        ordered_bake: Some("30m".parse().unwrap()),
        good: Some(change(3).revision),
        good_ref: Some("refs/heads/main".parse().unwrap()),
        is_past_known: true,
        ..running(&row(5))
    }
}

fn failed(has_deployed: bool) -> End {
    End::Failed { is_in_source: false, has_deployed, reason: "exit status 1".to_owned() }
}

fn after(row: &OrderRow, end: &End, run: u32) -> Option<OrderRow> {
    at_shop(|place| after_end(row, end, Ending { run: Some(run), at: None }, place, NOW))
}

fn state(row: &OrderRow) -> ReportState {
    row.report.as_ref().unwrap().report.state
}

fn judged(row: &OrderRow, verdict: &Verdict) -> OrderRow {
    at_shop(|place| after_verdict(row, verdict, place, NOW)).unwrap()
}

fn baking() -> OrderRow {
    after(&deploying(), &End::Succeeded, 1).unwrap()
}

#[test]
fn a_success_begins_the_bake() {
    let baking = baking();
    assert!(baking.is_baking());
    assert_eq!((state(&baking), baking.good.as_ref()), (ReportState::Baking, Some(&change(3).revision)));
    let until = baking.report.as_ref().unwrap().report.until.unwrap();
    assert_eq!(until.millis(), epoch_millis(NOW + Duration::from_mins(30)));
    for end in [End::Succeeded, failed(true), End::Canceled, End::Unknown("stopped"), End::Resumed] {
        assert_eq!(after(&baking, &end, 2), None, "the execution has ended already: {end:?}");
    }
    let healthy = judged(&baking, &Verdict::Healthy("quiet".to_owned()));
    assert_eq!((state(&healthy), healthy.good.as_ref()), (ReportState::Healthy, Some(&change(5).revision)));
    assert_eq!(after(&judged(&baking, &Verdict::Unknown("why".to_owned())), &End::Succeeded, 1), None);
}

#[test]
fn a_bake_begins_when_the_execution_ended_and_no_later_than_now() {
    for (at, since) in [(Some(NOW - Duration::from_mins(9)), 9), (Some(NOW + Duration::from_mins(9)), 0), (None, 0)] {
        let after = at_shop(|place| after_end(&deploying(), &End::Succeeded, Ending { run: Some(1), at }, place, NOW));
        let window = after.unwrap().bake.unwrap().window.unwrap();
        assert_eq!(window.since, epoch_millis(NOW - Duration::from_mins(since)));
    }
}

#[test]
fn an_order_with_a_bake_of_no_length_is_healthy_at_once() {
    let none = Bake { length: "0s".parse().unwrap(), ..bake() };
    let healthy = after(&OrderRow { bake: Some(none), ..deploying() }, &End::Succeeded, 1).unwrap();
    assert_eq!((state(&healthy), healthy.good), (ReportState::Healthy, Some(change(5).revision)));
}

#[test]
fn a_failed_bake_goes_back_under_the_same_order() {
    let back = judged(&baking(), &Verdict::Failed("alarm shop-a rang".to_owned()));
    assert_eq!((back.number, back.kind, &back.change.revision), (5, OrderKind::Rollback, &change(3).revision));
    assert_eq!((back.ordered(), back.is_startable(false, NOW)), (&change(5), true));
    assert!(back.owes_notice);
    assert!(back.executions.contains(&"e".to_owned()) && back.execution.is_none());
    assert!(back.token != token(&change(5), &pipeline(), 5, 0));
    let report = &back.report.as_ref().unwrap().report;
    assert_eq!((report.state, &report.revision), (ReportState::RollingBack, &change(5).revision));
    assert!(
        report.reason.contains("shop-a") && report.reason.contains(change(3).revision.as_str()),
        "{}",
        report.reason
    );
    let started = at_shop(|place| back.claimed(NOW).after_start(&StartAnswer::Started("r".to_owned()), place, NOW));
    assert_eq!(state(&started), ReportState::RollingBack);
    let done = after(&started, &End::Succeeded, 1).unwrap();
    assert_eq!((state(&done), done.good), (ReportState::RolledBack, Some(change(3).revision)));
    let stuck = after(&started, &failed(true), 1).unwrap();
    assert_eq!((state(&stuck), stuck.kind), (ReportState::Failed, OrderKind::Rollback));
    assert_eq!(state(&after(&stuck, &End::Resumed, 2).unwrap()), ReportState::RollingBack, "a stage is retried");
}

/// Everything that a rollback waits for is reported as the rollback.
#[test]
fn a_rollback_that_waits_is_reported_as_rolling_back() {
    let back = judged(&baking(), &Verdict::Failed("alarm shop-a rang".to_owned()));
    for answer in [StartAnswer::Deferred("busy".to_owned()), StartAnswer::Rejected("gone".to_owned())] {
        let waiting = at_shop(|place| back.claimed(NOW).after_start(&answer, place, NOW));
        assert_eq!(state(&waiting), ReportState::RollingBack, "{answer:?}");
    }
}

#[test]
fn only_a_failure_in_or_after_a_deploy_action_goes_back() {
    let back = after(&deploying(), &failed(true), 1).unwrap();
    assert_eq!((state(&back), back.owes_notice), (ReportState::RollingBack, false));
    let before = after(&deploying(), &failed(false), 1).unwrap();
    assert_eq!((state(&before), before.way_back.is_some()), (ReportState::Failed, false));
    let plain = after(&OrderRow { bake: None, ..deploying() }, &failed(true), 1).unwrap();
    assert_eq!((state(&plain), plain.way_back.is_some()), (ReportState::Failed, false));
}

#[test]
fn a_target_that_has_nothing_to_go_back_to_stays_as_it_is() {
    for good in [None, Some(change(5).revision)] {
        let row = OrderRow { good, ..baking() };
        let stays = judged(&row, &Verdict::Failed("alarm shop-a rang".to_owned()));
        assert_eq!((state(&stays), &stays.way_back), (ReportState::Failed, &None));
        assert_eq!((stays.owes_notice, stays.good), (true, row.good));
    }
}

/// The pipeline has two source actions. Its commit of one repository does not exist in the other.
#[test]
fn a_target_does_not_go_back_to_a_commit_of_another_repository() {
    let templates: RepositoryArn = "arn:aws:codecommit:ap-northeast-1:111111111111:templates".parse().unwrap();
    let of_templates = |row: &OrderRow| {
        let change = Change { repository: templates.clone(), ..row.change.clone() };
        OrderRow { change, ..row.clone() }
    };
    let healthy = judged(&baking(), &Verdict::Healthy("quiet".to_owned()));
    let order = Order { bake: Some("30m".parse().unwrap()), ..Order::deploy(6) };
    let next = OrderRow::new(order, &of_templates(&row(6)).change, &pipeline(), Some(&healthy), NOW);
    let next = after(&OrderRow { bake: Some(bake()), ..running(&next) }, &End::Succeeded, 1).unwrap();
    assert_eq!(
        next.report.as_ref().unwrap().report.good,
        None,
        "event-relay takes it for one of the order's repository"
    );
    let stays = judged(&next, &Verdict::Failed("alarm shop-a rang".to_owned()));
    assert_eq!((state(&stays), &stays.way_back), (ReportState::Failed, &None));
    assert_eq!((stays.owes_notice, &stays.good), (true, &Some(change(5).revision)));
    assert!(stays.reason().contains(":shop, and stays as it is"), "{}", stays.reason());
    let other = judged(&next, &Verdict::Healthy("quiet".to_owned()));
    assert_eq!(other.good_of(&templates), Some(&change(6).revision));
    assert_eq!(other.good_of(&change(5).repository), None);
}

#[test]
fn a_stage_that_is_retried_before_the_rollback_begins_continues_the_order() {
    let back = after(&deploying(), &failed(true), 1).unwrap();
    let again = resumable(&back, "e").unwrap();
    let resumed = after(&again, &End::Resumed, 2).unwrap();
    assert_eq!((state(&resumed), resumed.kind, &resumed.change), (ReportState::Running, OrderKind::Deploy, &change(5)));
    assert_eq!((resumed.execution.as_deref(), resumed.bake.as_ref()), (Some("e"), Some(&bake())));
    assert_eq!(state(&after(&again, &End::Succeeded, 2).unwrap()), ReportState::Baking);
    assert_eq!(after(&again, &failed(true), 1), None, "the first failure, again");
    let claimed = back.claimed(NOW);
    let started = at_shop(|place| claimed.after_start(&StartAnswer::Started("r".to_owned()), place, NOW));
    let unanswered = at_shop(|place| claimed.after_start(&StartAnswer::Unanswered("late".to_owned()), place, NOW));
    for too_late in [claimed, started, unanswered] {
        assert_eq!(resumable(&too_late, "e"), None, "{:?}", too_late.progress);
    }
    assert_eq!(resumable(&back, "another"), None);
    let after_bake = judged(&baking(), &Verdict::Failed("alarm shop-a rang".to_owned()));
    assert_eq!(resumable(&after_bake, "e"), None, "no stage of a successful execution can be retried");
    assert_eq!(after_bake.way_back.unwrap().bake, None, "the row is read every minute");
}

#[test]
fn a_report_says_when_what_runs_was_deployed() {
    let since = |row: &OrderRow| row.report.as_ref().unwrap().report.since.map(ReportTime::millis);
    let report = |row: &OrderRow, state| at_shop(|place| row.report_at(row.next_at(NOW), state, "why", place));
    let deploying = OrderRow { good_since: Some(1_000), ..deploying() };
    let (first, second) = (NOW - Duration::from_mins(5), NOW - Duration::from_mins(2));
    for state in [ReportState::Waiting, ReportState::Running, ReportState::Refused] {
        assert_eq!(since(&report(&deploying, state)), Some(1_000), "{state:?}");
    }
    for state in [ReportState::Failed, ReportState::Unknown] {
        assert_eq!(since(&report(&deploying, state)), None, "{state:?}");
    }
    let end = |row: &OrderRow, at| {
        let ending = Ending { run: Some(1), at: Some(at) };
        at_shop(|place| after_end(row, &End::Succeeded, ending, place, NOW)).unwrap()
    };
    let baking = end(&deploying, first);
    assert_eq!((since(&baking), baking.good_since), (Some(epoch_millis(first)), Some(1_000)));
    let healthy = judged(&baking, &Verdict::Healthy("quiet".to_owned()));
    assert_eq!((since(&healthy), healthy.good_since), (Some(epoch_millis(first)), Some(epoch_millis(first))));
    let at_once = end(&OrderRow { bake: None, ..deploying.clone() }, first);
    assert_eq!((state(&at_once), since(&at_once)), (ReportState::Healthy, Some(epoch_millis(first))));

    let next = OrderRow::new(Order::deploy(6), &change(6), &pipeline(), Some(&healthy), NOW);
    assert_eq!(since(&report(&next, ReportState::Waiting)), Some(epoch_millis(first)));

    let back = judged(&baking, &Verdict::Failed("alarm shop-a rang".to_owned()));
    assert_eq!((state(&back), since(&back)), (ReportState::RollingBack, None));
    let began = epoch_millis(NOW - Duration::from_mins(3));
    let went_back = end(&OrderRow { since: began, ..running(&back) }, second);
    assert_eq!((state(&went_back), since(&went_back)), (ReportState::RolledBack, Some(epoch_millis(second))));
}

#[test]
fn the_time_passes_to_the_next_order_only_if_the_healthy_revision_surely_runs() {
    let report = |row: &OrderRow, state| at_shop(|place| row.report_at(row.next_at(NOW), state, "why", place));
    let since = |earlier: &OrderRow| {
        let next = OrderRow::new(Order::deploy(6), &change(6), &pipeline(), Some(earlier), NOW);
        let reported = report(&next, ReportState::Waiting).report.unwrap().report.since.map(ReportTime::millis);
        assert_eq!((reported, earlier.sure_good_since()), (next.good_since, next.good_since));
        next.good_since
    };
    let deploying = OrderRow { good_since: Some(1_000), ..deploying() };
    let ended = |state| OrderRow { progress: Progress::Ended(state), ..deploying.clone() };
    assert_eq!(since(&ended(ReportState::Healthy)), Some(1_000));
    for state in [ReportState::Failed, ReportState::Unknown] {
        assert_eq!(since(&ended(state)), None, "{state:?}");
    }
    assert_eq!(since(&deploying), None, "the execution may have deployed a part");
    let good = OrderRow::new(Order::deploy(5), &change(5), &pipeline(), Some(&ended(ReportState::Healthy)), NOW);
    assert_eq!(since(&good), Some(1_000), "nothing has started");
    let restarted = OrderRow { restarts: 1, ..good.clone() };
    let may_run = OrderRow { may_run: true, ..good.clone() };
    for unsure in [restarted, may_run, good.claimed(NOW)] {
        assert_eq!(since(&unsure), None);
    }
}

#[test]
fn after_an_execution_that_no_order_started_nobody_knows_since_when_what_runs() {
    let baking = OrderRow { good_since: Some(1_000), ..baking() };
    let healthy = judged(&baking, &Verdict::Healthy("quiet".to_owned()));
    assert!(healthy.good_since.is_some());
    let mentioned = healthy.mentioning("foreign", None, NOW).unwrap();
    assert_eq!((mentioned.good_since, mentioned.report.unwrap().report.since), (None, None));
    let mentioned = baking.mentioning("foreign", None, NOW).unwrap();
    let healthy = judged(&mentioned, &Verdict::Healthy("quiet".to_owned()));
    assert_eq!((healthy.good_since, healthy.report.unwrap().report.since), (None, None));
}

/// A version without bakes reads the row, and goes on with the rollback.
#[test]
fn a_row_without_the_new_fields_can_be_read_and_written_back() {
    let old = row(5);
    let written = serde_json::to_value(&old).unwrap();
    let of_waves = ["ordered_bake", "promoted", "bake", "way_back", "awaits_alarms", "good_ref", "good_repository"];
    for field in of_waves.into_iter().chain(["owes_notice", "foreign_execution", "good_since", "rings"]) {
        assert!(written.get(field).is_none(), "{field}");
    }
    assert_eq!(serde_json::from_value::<OrderRow>(written).unwrap(), old);
    let back = judged(&baking(), &Verdict::Failed("alarm shop-a rang".to_owned()));
    let written = serde_json::to_value(&back).unwrap();
    assert_eq!((written["kind"].as_str(), written["number"].as_u64()), (Some("rollback"), Some(5)));
    assert_eq!(written["change"]["commit"].as_str(), Some(change(3).revision.as_str()));
    assert_eq!(serde_json::from_value::<OrderRow>(written).unwrap(), back);
}

/// What can happen to an order.
#[derive(Debug, Clone, Copy)]
enum Step {
    Start,
    Busy,
    Succeeds,
    FailsInSource,
    FailsBeforeDeploy,
    FailsInDeploy,
    Canceled,
    Stopped,
    Resumed,
    Rings,
    Quiet,
    Blind,
}

fn any_step() -> impl Strategy<Value = Step> {
    use Step::{
        Blind, Busy, Canceled, FailsBeforeDeploy, FailsInDeploy, FailsInSource, Quiet, Resumed, Rings, Start, Stopped,
        Succeeds,
    };
    prop_oneof![
        4 => Just(Start), 4 => Just(Succeeds), 3 => Just(Rings), 3 => Just(FailsInDeploy), 1 => Just(Busy),
        1 => Just(FailsInSource), 1 => Just(FailsBeforeDeploy), 1 => Just(Canceled), 1 => Just(Stopped),
        2 => Just(Resumed), 1 => Just(Quiet), 1 => Just(Blind),
    ]
}

/// The row after a step, or `None` if the step changes nothing.
fn take(row: &OrderRow, step: Step, executions: usize) -> Option<OrderRow> {
    let start = |answer: &StartAnswer| {
        let can = row.is_startable(true, NOW);
        can.then(|| at_shop(|place| row.claimed(NOW).after_start(answer, place, NOW)))
    };
    let in_source = End::Failed { is_in_source: true, has_deployed: false, reason: "no image".to_owned() };
    let verdict = |verdict: &Verdict| row.is_baking().then(|| judged(row, verdict));
    match step {
        Step::Start => start(&StartAnswer::Started(format!("e{executions}"))),
        Step::Busy => start(&StartAnswer::Deferred("busy".to_owned())),
        Step::Succeeds => after(row, &End::Succeeded, row.run),
        Step::FailsInSource => after(row, &in_source, row.run),
        Step::FailsBeforeDeploy => after(row, &failed(false), row.run),
        Step::FailsInDeploy => after(row, &failed(true), row.run),
        Step::Canceled => after(row, &End::Canceled, row.run),
        Step::Stopped => after(row, &End::Unknown("somebody stopped the execution"), row.run),
        Step::Resumed => after(row, &End::Resumed, row.run + 1),
        Step::Rings => verdict(&Verdict::Failed("alarm shop-a rang".to_owned())),
        Step::Quiet => verdict(&Verdict::Healthy("quiet".to_owned())),
        Step::Blind => verdict(&Verdict::Unknown("no data".to_owned())),
    }
}

proptest! {
    #[test]
    fn a_rollback_is_never_rolled_back_and_the_times_of_reports_rise(
        steps in proptest::collection::vec(any_step(), 1..30),
    ) {
        let order = Order { bake: Some("30m".parse().unwrap()), ..Order::deploy(5) };
        let first = OrderRow::new(order, &change(5), &pipeline(), None, NOW);
        let mut row = OrderRow { bake: Some(bake()), good: Some(change(3).revision), ..first };
        let mut tokens = vec![row.token.clone()];
        for (executions, step) in steps.into_iter().enumerate() {
            let Some(next) = take(&row, step, executions) else { continue };
            prop_assert_eq!(next.number, 5);
            prop_assert_eq!(next.ordered(), &change(5));
            prop_assert!(next.at >= row.at);
            if next.token != tokens[tokens.len() - 1] {
                prop_assert!(!tokens.contains(&next.token), "each start has its token");
                tokens.push(next.token.clone());
            }
            if row.way_back.is_some() {
                prop_assert_eq!(&next.way_back, &row.way_back, "{:?} leads to another way back", step);
                prop_assert_eq!(&next.change.revision, &change(3).revision);
                prop_assert!(next.bake.is_none() && !next.is_baking());
                let reported = state(&next);
                let expected = [
                    ReportState::RollingBack, ReportState::RolledBack, ReportState::Failed, ReportState::Unknown,
                ];
                prop_assert!(expected.contains(&reported), "{:?}", reported);
            }
            row = next;
        }
    }
}

/// The event has the end in whole seconds. An alarm may have rung until shortly before the start.
#[test]
fn a_bake_never_begins_before_the_start_of_its_execution() {
    let start = epoch_millis(NOW) - 300;
    let row = OrderRow { since: start, ..deploying() };
    let begin = |at| {
        let baking = at_shop(|place| succeeded(&row, at, place, NOW));
        baking.bake.unwrap().window.unwrap().since
    };
    assert_eq!(begin(NOW - Duration::from_millis(900)), start);
    assert_eq!(begin(NOW - Duration::from_millis(100)), epoch_millis(NOW) - 100);
    assert_eq!(begin(NOW + Duration::from_secs(5)), epoch_millis(NOW));
}
