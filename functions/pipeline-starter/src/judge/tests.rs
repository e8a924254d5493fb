use proptest::prelude::*;
use sekisho_domain::route::AlarmGlobs;

use super::*;
use crate::sample::NOW;

const MINUTE: Duration = Duration::from_mins(1);
/// The length of the bake, in minutes.
const LENGTH: i64 = 30;
const QUIET: AlarmState = AlarmState::Quiet;
const RINGING: AlarmState = AlarmState::Ringing;
const NO_DATA: AlarmState = AlarmState::NoData;

/// A time in minutes after the beginning of the bake.
fn at(minutes: i64) -> OffsetDateTime {
    NOW + time::Duration::minutes(minutes)
}

fn bake() -> Bake {
    Bake {
        length: "30m".parse().unwrap(),
        alarms: vec![AlarmGlobs::try_from(vec!["shop-*".to_owned()]).unwrap()],
        missing: Missing::Unknown,
        rang: Vec::new(),
        window: None,
    }
}

fn window(watched: &[&str]) -> Window {
    Window {
        since: epoch_millis(at(0)),
        until: epoch_millis(at(LENGTH)),
        watched: Some(watched.iter().map(ToString::to_string).collect()),
        failing_since: None,
    }
}

/// The window of a bake whose alarms could not be read a minute after its end.
fn failing(watched: &[&str]) -> Window {
    Window { failing_since: Some(epoch_millis(at(LENGTH + 1))), ..window(watched) }
}

/// An alarm that had the first state since an hour before the bake, and then changed at these minutes, as CloudWatch
/// shows it at `now`.
fn observed(name: &str, first: AlarmState, changes: &[(i64, AlarmState)], now: OffsetDateTime) -> ObservedAlarm {
    let mut alarm = Alarm {
        name: name.to_owned(),
        state: first,
        changed: Some(at(-60)),
        edited: Some(at(-60)),
        is_evaluated: true,
        takes: Some(MINUTE),
    };
    let mut history = Vec::new();
    for (minutes, to) in changes.iter().filter(|(minutes, _)| at(*minutes) <= now) {
        if *to != alarm.state {
            let what = AlarmChange::State { from: alarm.state, to: *to };
            history.extend((*minutes >= 0).then_some(AlarmEvent { at: at(*minutes), what }));
            (alarm.state, alarm.changed) = (*to, Some(at(*minutes)));
        }
    }
    ObservedAlarm { name: name.to_owned(), alarm: Some(alarm), history }
}

fn verdict(bake: &Bake, alarms: Vec<ObservedAlarm>, now: OffsetDateTime) -> Verdict {
    judge(bake, &window(&["shop-a"]), &Reading { alarms, gap: None }, now)
}

/// The verdict on one alarm a minute after the bake.
fn verdict_on(first: AlarmState, changes: &[(i64, AlarmState)]) -> &'static str {
    let now = at(LENGTH + 1);
    name(&verdict(&bake(), vec![observed("shop-a", first, changes, now)], now))
}

fn name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Open => "open",
        Verdict::Healthy(_) => "healthy",
        Verdict::Failed(_) => "failed",
        Verdict::Unknown(_) => "unknown",
    }
}

#[test]
fn the_whole_window_is_judged_and_nothing_else() {
    type Changes = &'static [(i64, AlarmState)];
    let cases: [(AlarmState, Changes, &str); 12] = [
        (QUIET, &[], "healthy"),
        (QUIET, &[(10, RINGING), (11, QUIET)], "failed"),
        (RINGING, &[(1, QUIET)], "failed"),
        (RINGING, &[(-1, QUIET)], "healthy"),
        (RINGING, &[], "failed"),
        (QUIET, &[(0, RINGING), (1, QUIET)], "failed"),
        (QUIET, &[(30, RINGING)], "failed"),
        (QUIET, &[(31, RINGING)], "healthy"),
        (NO_DATA, &[], "unknown"),
        (NO_DATA, &[(29, QUIET)], "healthy"),
        (QUIET, &[(29, NO_DATA)], "unknown"),
        (QUIET, &[(5, RINGING), (29, NO_DATA)], "failed"),
    ];
    for (first, changes, expected) in cases {
        assert_eq!(verdict_on(first, changes), expected, "{first:?} {changes:?}");
    }
}

#[test]
fn during_the_bake_a_ringing_alarm_fails_at_once() {
    for (changes, expected) in [(&[(5, RINGING)][..], "failed"), (&[][..], "open"), (&[(5, NO_DATA)], "open")] {
        let alarm = observed("shop-a", QUIET, changes, at(6));
        assert_eq!(name(&verdict(&bake(), vec![alarm], at(6))), expected, "{changes:?}");
    }
    // Between the end of the window and the verdict, an alarm that has just begun to ring does not count.
    let soon = at(LENGTH) + Duration::from_secs(10);
    let mut late = observed("shop-a", RINGING, &[], soon);
    late.alarm.as_mut().unwrap().changed = Some(at(LENGTH) + Duration::from_secs(1));
    assert_eq!(name(&verdict(&bake(), vec![late], soon)), "open");
}

/// An event about an alarm may arrive when the alarm is quiet again, so that a list of the ringing alarms does not
/// have it.
#[test]
fn during_the_bake_a_history_fails_the_bake_at_once() {
    let rang = |minutes: i64| vec![(minutes, RINGING), (minutes + 1, QUIET)];
    let promoted = Bake { rang: vec!["shop-a".to_owned()], ..bake() };
    for (bake, changes, expected) in [
        (bake(), rang(5), "failed"),
        (bake(), Vec::new(), "open"),
        (bake(), vec![(5, NO_DATA)], "open"),
        (promoted, rang(5), "open"),
    ] {
        let listed = observed("shop-a", QUIET, &changes, at(8));
        let unlisted = ObservedAlarm { alarm: None, ..listed.clone() };
        for alarm in [listed, unlisted] {
            assert_eq!(name(&verdict(&bake, vec![alarm.clone()], at(8))), expected, "{alarm:?}");
        }
    }
    let history = [(-3, RINGING), (-2, QUIET)].map(|(minutes, to)| AlarmEvent {
        at: at(minutes),
        what: AlarmChange::State { from: if to == QUIET { RINGING } else { QUIET }, to },
    });
    let before = ObservedAlarm { name: "shop-a".to_owned(), alarm: None, history: history.to_vec() };
    assert_eq!(name(&verdict(&bake(), vec![before], at(8))), "open", "it was quiet when the bake began");
}

#[test]
fn the_reason_names_the_alarm_and_the_time() {
    let now = at(LENGTH + 1);
    let alarms = vec![observed("shop-a", QUIET, &[], now), observed("shop-b", QUIET, &[(3, RINGING), (4, QUIET)], now)];
    let Verdict::Failed(reason) = verdict(&bake(), alarms, now) else { panic!() };
    assert_eq!(reason, "alarm shop-b rang during the bake, since 2026-11-21T12:03:00Z");
}

#[test]
fn an_alarm_without_data_is_healthy_if_the_wave_says_so() {
    let now = at(LENGTH + 1);
    let lenient = Bake { missing: Missing::Healthy, ..bake() };
    assert_eq!(name(&verdict(&lenient, vec![observed("shop-a", NO_DATA, &[], now)], now)), "healthy");
}

#[test]
fn an_edited_alarm_leaves_the_result_unknown() {
    let now = at(LENGTH + 5);
    let edited = |minutes: i64| {
        let mut observed = observed("shop-a", QUIET, &[], now);
        observed.alarm.as_mut().unwrap().edited = Some(at(minutes));
        observed
    };
    for (minutes, expected) in [(-1, "healthy"), (0, "healthy"), (1, "unknown"), (30, "unknown"), (31, "healthy")] {
        assert_eq!(name(&verdict(&bake(), vec![edited(minutes)], now)), expected, "{minutes}");
    }
    // A later edit hides the one during the bake from the alarm itself, but not from its history.
    let mut twice = edited(31);
    twice.history.push(AlarmEvent { at: at(7), what: AlarmChange::Edited });
    assert_eq!(name(&verdict(&bake(), vec![twice.clone()], now)), "unknown");
    twice.history.push(AlarmEvent { at: at(8), what: AlarmChange::State { from: QUIET, to: RINGING } });
    assert_eq!(name(&verdict(&bake(), vec![twice], now)), "failed", "a failure wins");
    // The deployment may create alarms.
    let new = ObservedAlarm { name: "shop-new".to_owned(), ..edited(9) };
    assert_eq!(name(&verdict(&bake(), vec![observed("shop-a", QUIET, &[], now), new], now)), "healthy");
}

/// The event about the end of the execution has whole seconds, and the deployment has created the alarm in the same
/// second.
#[test]
fn an_alarm_that_the_deployment_created_in_its_last_second_was_not_edited_during_the_bake() {
    let now = at(LENGTH + 1);
    let created = |after: Duration| {
        let mut observed = observed("shop-a", QUIET, &[], now);
        let alarm = observed.alarm.as_mut().unwrap();
        (alarm.edited, alarm.changed) = (Some(at(0) + after), Some(at(0) + after));
        observed.history = vec![AlarmEvent { at: at(0) + after, what: AlarmChange::Edited }];
        observed
    };
    for (milliseconds, expected) in [(300, "healthy"), (1_000, "healthy"), (1_001, "unknown")] {
        let alarm = created(Duration::from_millis(milliseconds));
        assert_eq!(name(&verdict(&bake(), vec![alarm], now)), expected, "{milliseconds}");
    }
}

#[test]
fn a_deleted_alarm_leaves_the_result_unknown_unless_it_rang_before() {
    let now = at(LENGTH + 1);
    let deleted = |history| ObservedAlarm { name: "shop-a".to_owned(), alarm: None, history };
    assert_eq!(name(&verdict(&bake(), vec![deleted(Vec::new())], now)), "unknown");
    let rang = AlarmEvent { at: at(3), what: AlarmChange::State { from: QUIET, to: RINGING } };
    assert_eq!(name(&verdict(&bake(), vec![deleted(vec![rang])], now)), "failed");
}

/// The bake may be judged an hour after its end, because CloudWatch throttles.
#[test]
fn an_alarm_that_was_deleted_after_the_bake_is_judged_by_its_history() {
    let edited = |minutes| AlarmEvent { at: at(minutes), what: AlarmChange::Edited };
    let changed = |minutes, from, to| AlarmEvent { at: at(minutes), what: AlarmChange::State { from, to } };
    let created = || vec![edited(-90), changed(-80, NO_DATA, QUIET)];
    let cases = [
        (vec![edited(LENGTH + 15)], "healthy"),
        (vec![changed(8, QUIET, RINGING), changed(9, RINGING, QUIET), edited(LENGTH + 15)], "failed"),
        (vec![changed(LENGTH + 2, QUIET, RINGING), edited(LENGTH + 15)], "healthy"),
        (vec![changed(8, QUIET, NO_DATA), edited(LENGTH + 15)], "unknown"),
        (vec![edited(LENGTH - 1)], "unknown"),
        (vec![edited(LENGTH - 1), edited(LENGTH + 15)], "unknown"),
        (Vec::new(), "unknown"),
    ];
    for (later, expected) in cases {
        let history = created().into_iter().chain(later).collect();
        let deleted = ObservedAlarm { name: "shop-a".to_owned(), alarm: None, history };
        assert_eq!(name(&verdict(&bake(), vec![deleted.clone()], at(LENGTH + 30))), expected, "{deleted:?}");
    }
    let of_no_state = ObservedAlarm { name: "shop-a".to_owned(), alarm: None, history: vec![edited(LENGTH + 15)] };
    assert_eq!(name(&verdict(&bake(), vec![of_no_state], at(LENGTH + 30))), "unknown", "nothing shows its state");
}

#[test]
fn an_alarm_that_was_created_after_the_bake_does_not_count() {
    let now = at(LENGTH + 30);
    let new = |name: &str, minutes: i64| {
        let mut new = observed(name, NO_DATA, &[], now);
        let alarm = new.alarm.as_mut().unwrap();
        (alarm.changed, alarm.edited) = (Some(at(minutes)), Some(at(minutes)));
        new.history = vec![AlarmEvent { at: at(minutes), what: AlarmChange::Edited }];
        new
    };
    let quiet = || observed("shop-a", QUIET, &[], now);
    let Verdict::Healthy(reason) = verdict(&bake(), vec![quiet(), new("shop-new", LENGTH + 10)], now) else { panic!() };
    assert_eq!(reason, "1 alarm stayed quiet for 30m");
    assert_eq!(name(&verdict(&bake(), vec![quiet(), new("shop-new", LENGTH - 10)], now)), "unknown");
    assert_eq!(name(&verdict(&bake(), vec![new("shop-new", LENGTH + 10)], now)), "unknown", "no alarm of the bake");
    assert_eq!(name(&verdict(&bake(), vec![new("shop-a", LENGTH + 10)], now)), "open", "it was watched");
}

#[test]
fn what_cannot_be_read_or_matched_is_unknown_at_the_end() {
    let now = at(LENGTH + 1);
    let many = (0..101).map(|i| observed(&format!("shop-{i}"), QUIET, &[], now)).collect();
    let mut unevaluated = observed("shop-a", QUIET, &[], now);
    unevaluated.alarm.as_mut().unwrap().is_evaluated = false;
    let cases = [
        (bake(), Vec::new(), "no alarm matches shop-*"),
        (bake(), many, "101 alarms match"),
        (bake(), vec![unevaluated], "cannot be evaluated"),
        (Bake { alarms: Vec::new(), ..bake() }, Vec::new(), "has no alarms for the bake"),
    ];
    for (bake, alarms, expected) in cases {
        let Verdict::Unknown(reason) = verdict(&bake, alarms, now) else { panic!("{expected}") };
        assert!(reason.contains(expected), "{reason}");
    }
}

#[test]
fn a_throttled_reading_is_repeated_for_an_hour_and_a_refused_one_is_not() {
    let quiet = |now| vec![observed("shop-a", QUIET, &[], now)];
    let passing = || Some(Gap::Passing("throttled".to_owned()));
    let lasting = || Some(Gap::Lasting("denied".to_owned()));
    for (gap, minutes, expected) in [
        (passing(), 15, "open"),
        (lasting(), 15, "open"),
        (passing(), LENGTH + 1, "open"),
        (passing(), LENGTH + 60, "open"),
        (passing(), LENGTH + 61, "unknown"),
        (lasting(), LENGTH + 1, "unknown"),
    ] {
        let reading = Reading { alarms: quiet(at(minutes)), gap: gap.clone() };
        let verdict = judge(&bake(), &failing(&["shop-a"]), &reading, at(minutes));
        assert_eq!(name(&verdict), expected, "{gap:?} {minutes}");
    }
}

#[test]
fn an_alarm_that_rang_when_a_promoted_order_started_counts_only_at_the_end() {
    let promoted = Bake { rang: vec!["shop-a".to_owned()], ..bake() };
    let verdict_at = |first, changes: &[(i64, AlarmState)], minutes| {
        name(&verdict(&promoted, vec![observed("shop-a", first, changes, at(minutes))], at(minutes)))
    };
    assert_eq!(verdict_at(RINGING, &[], 5), "open");
    assert_eq!(verdict_at(RINGING, &[], LENGTH + 1), "failed");
    assert_eq!(verdict_at(RINGING, &[(5, QUIET), (6, RINGING), (7, QUIET)], LENGTH + 1), "healthy");
    assert_eq!(verdict_at(RINGING, &[(31, QUIET)], LENGTH + 2), "failed", "it still rang at the end");
    let other = observed("shop-b", QUIET, &[(5, RINGING)], at(6));
    assert_eq!(name(&verdict(&promoted, vec![other], at(6))), "failed", "another alarm counts as always");
}

#[test]
fn a_state_that_the_history_does_not_show_is_waited_for() {
    let mut lagging = observed("shop-a", QUIET, &[], at(LENGTH + 1));
    lagging.alarm.as_mut().unwrap().changed = Some(at(12));
    let reading = Reading { alarms: vec![lagging], gap: None };
    let verdict_at = |minutes| name(&judge(&bake(), &failing(&["shop-a"]), &reading, at(minutes)));
    assert_eq!((verdict_at(LENGTH + 1), verdict_at(LENGTH + 61)), ("open", "unknown"));
}

#[test]
fn a_bake_that_is_too_short_for_an_alarm_is_mentioned() {
    let now = at(LENGTH + 1);
    let mut slow = observed("shop-slow", QUIET, &[], now);
    slow.alarm.as_mut().unwrap().takes = Some(MINUTE * 45);
    let Verdict::Healthy(reason) = verdict(&bake(), vec![slow], now) else { panic!() };
    assert!(reason.contains("the bake of 30m is shorter than the 2700s that alarm shop-slow takes"), "{reason}");
    let Verdict::Healthy(reason) = verdict(&bake(), vec![observed("shop-a", QUIET, &[], now)], now) else { panic!() };
    assert_eq!(reason, "1 alarm stayed quiet for 30m");
}

fn any_state() -> impl Strategy<Value = AlarmState> {
    prop_oneof![3 => Just(QUIET), 1 => Just(RINGING), 1 => Just(NO_DATA)]
}

/// The first state of an alarm, and its changes between 10 minutes before and 40 minutes after the beginning.
fn any_alarm() -> impl Strategy<Value = (AlarmState, Vec<(i64, AlarmState)>)> {
    let changes = proptest::collection::btree_map(-10..40_i64, any_state(), 0..6);
    (any_state(), changes.prop_map(|changes| changes.into_iter().collect()))
}

/// The states that an alarm had in the window, the last one at its end.
fn states((first, changes): &(AlarmState, Vec<(i64, AlarmState)>)) -> Vec<AlarmState> {
    let before = changes.iter().rev().find(|(minutes, _)| *minutes <= 0).map_or(*first, |(_, state)| *state);
    let inside = changes.iter().filter(|(minutes, _)| (1..=LENGTH).contains(minutes)).map(|(_, state)| *state);
    std::iter::once(before).chain(inside).collect()
}

proptest! {
    /// The oracle knows the whole life of each alarm. The judge sees what CloudWatch shows, at any time after the end.
    #[test]
    fn the_verdict_follows_from_what_the_alarms_did(
        alarms in proptest::collection::vec(any_alarm(), 1..4),
        gap in prop_oneof![
            2 => Just(None),
            1 => Just(Some(Gap::Passing("throttled".to_owned()))),
            1 => Just(Some(Gap::Lasting("denied".to_owned()))),
        ],
        minutes in LENGTH + 1..LENGTH + 120,
        missing in prop_oneof![Just(Missing::Unknown), Just(Missing::Healthy)],
    ) {
        let bake = Bake { missing, ..bake() };
        let now = at(minutes);
        let names: Vec<String> = (0..alarms.len()).map(|i| format!("shop-{i}")).collect();
        let shown = names.iter().zip(&alarms);
        let shown = shown.map(|(name, (first, changes))| observed(name, *first, changes, now)).collect();
        let reading = Reading { alarms: shown, gap };
        // All alarms existed when the bake began.
        let window = failing(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let verdict = judge(&bake, &window, &reading, now);
        prop_assert_eq!(&verdict, &judge(&bake, &window, &reading, now));
        let rang = alarms.iter().any(|alarm| states(alarm).contains(&RINGING));
        let lacks_data = alarms.iter().any(|alarm| states(alarm).last() == Some(&NO_DATA));
        let expected = match &reading.gap {
            _ if rang => "failed",
            Some(Gap::Passing(_)) if minutes < LENGTH + 61 => "open",
            Some(_) => "unknown",
            None if lacks_data && missing == Missing::Unknown => "unknown",
            None => "healthy",
        };
        prop_assert_eq!(name(&verdict), expected, "{:?}", verdict);
    }

    /// Whatever the reading shows, also if entries of the history are missing, the bake does not stay open, and an
    /// alarm that is seen ringing in the window never ends healthy.
    #[test]
    fn no_bake_stays_open_and_no_seen_ringing_ends_healthy(
        alarm in any_alarm(),
        kept in proptest::collection::vec(any::<bool>(), 6),
        is_deleted in any::<bool>(),
        is_watched in any::<bool>(),
    ) {
        let now = at(LENGTH + 61);
        let mut shown = observed("shop-a", alarm.0, &alarm.1, now);
        let mut keep = kept.into_iter();
        shown.history.retain(|_| keep.next().unwrap_or(true));
        if is_deleted {
            shown.alarm = None;
        }
        let is_seen = shown.history.iter().any(|event| {
            matches!(event.what, AlarmChange::State { to, .. } if to == RINGING) && event.at <= at(LENGTH)
        });
        let watched: &[&str] = if is_watched { &["shop-a"] } else { &[] };
        let verdict = judge(&bake(), &failing(watched), &Reading { alarms: vec![shown], gap: None }, now);
        prop_assert!(verdict != Verdict::Open);
        prop_assert!(!is_seen || name(&verdict) == "failed", "{:?}", verdict);
    }
}
