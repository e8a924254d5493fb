//! What happens to a train in situations that people meet.

use sekisho_domain::report::ReportState::{
    Baking, Failed, Healthy, RolledBack, RollingBack, Running, Unknown, Waiting,
};

use super::world::{CONFIG, World, id, is_by_wave, with};
use crate::train::{Arrival, Verdict};
use crate::wave::Standing;

pub(super) const A: [&str; 2] = ["a1", "a2"];
pub(super) const B: [&str; 2] = ["b1", "b2"];
pub(super) const C: [&str; 2] = ["c1", "c2"];

/// A train in which commit 1 is healthy everywhere.
pub(super) fn settled(config: &str) -> World {
    let mut world = World::new(config);
    world.push(1);
    for wave in [A, B, C] {
        world.all(&wave, Healthy);
    }
    assert_eq!(world.orders(), "1 1 1 1 1 1");
    world.outcomes();
    world
}

#[test]
fn a_change_enters_wave_after_wave() {
    let mut world = World::new(CONFIG);
    world.push(1);
    assert_eq!((world.orders(), world.outcomes()), ("1 1 0 0 0 0".into(), vec!["entered 1 a".into()]));
    world.all(&A, Running);
    world.report("a1", Healthy);
    assert_eq!(world.orders(), "1 1 0 0 0 0");
    world.report("a2", Healthy);
    assert_eq!((world.orders(), world.outcomes()), ("1 1 1 1 0 0".into(), vec!["entered 1 b".into()]));
    world.push(2);
    assert_eq!(world.orders(), "2 2 1 1 0 0");
    world.all(&A, Healthy);
    assert_eq!(world.orders(), "2 2 1 1 0 0", "the wave b is not free");
    world.all(&B, Healthy);
    assert_eq!(world.orders(), "2 2 2 2 1 1");
    world.all(&B, Healthy);
    world.push(3);
    world.all(&A, Healthy);
    world.all(&B, Healthy);
    world.outcomes();
    world.all(&C, Healthy);
    assert_eq!(
        (world.orders(), world.outcomes()),
        ("3 3 3 3 3 3".into(), vec!["superseded 2 c".into(), "entered 3 c".into()])
    );
}

#[test]
fn a_wave_that_fails_condemns_the_change_and_goes_back() {
    let mut world = settled(CONFIG);
    world.push(2);
    world.all(&A, Running);
    world.report("a1", RollingBack);
    assert!(!world.is_condemned(2));
    world.report("a1", RolledBack);
    assert!(is_by_wave(&world, 2));
    assert_eq!(world.orders(), "2 <1 1 1 1 1", "the target that did not fail is sent back, too");
    assert_eq!(world.outcomes(), ["entered 2 a", "condemned 2 a", "ordered 2 a"]);
    world.push(3);
    assert_eq!(world.orders(), "2 <1 1 1 1 1", "a rollback is under way");
    world.report("a2", RolledBack);
    assert_eq!(world.orders(), "3 3 1 1 1 1");
}

#[test]
fn targets_that_fail_within_the_tolerance_stay_as_they_are_until_the_next_change() {
    let mut world = settled(&with("a", "tolerate = 1"));
    world.push(2);
    world.report("a1", RolledBack);
    assert_eq!(world.standings(0), [Standing::Failed, Standing::Running]);
    world.report("a2", Healthy);
    assert_eq!(world.orders(), "2 2 2 2 1 1");
    world.push(3);
    assert_eq!(world.orders(), "3 3 2 2 1 1");
    world.report("a1", RolledBack);
    world.report("a2", RolledBack);
    assert!(world.is_condemned(3), "no target is healthy");
}

#[test]
fn an_unknown_target_that_was_accepted_and_failed_later() {
    let mut world = settled(CONFIG);
    world.push(2);
    world.report("a1", Healthy);
    world.report("a2", Unknown);
    world.push(3);
    world.wait(600);
    assert_eq!(world.orders(), "2 2 1 1 1 1", "an unknown target holds its wave");
    world.hold(Some("a"));
    world.accept(0);
    assert_eq!(world.orders(), "2 2 2 2 1 1");
    world.all(&B, Running);
    world.report("a2", Failed);
    assert!(is_by_wave(&world, 2));
    assert_eq!(world.orders(), "<1 2 2 2 1 1", "the wave b judges the change by its own alarms");
    world.all(&B, Healthy);
    assert_eq!(world.orders(), "<1 2 2 2 1 1", "a condemned change enters no further wave");
    world.report("a1", RolledBack);
    world.resume(Some("a"));
    assert_eq!(world.orders(), "3 3 2 2 1 1");
}

#[test]
fn a_hold_that_is_set_while_at_once_has_targets_left() {
    let mut world = settled(&with("b", "at_once = 1"));
    world.push(2);
    world.all(&A, Healthy);
    assert_eq!(world.orders(), "2 2 2 1 1 1");
    world.hold(Some("b"));
    world.report("b1", Running);
    world.report("b1", Baking);
    world.report("b1", Healthy);
    assert_eq!(world.orders(), "2 2 2 1 1 1");
    assert_eq!(world.row.waves[1].open().map(|passage| passage.verdict), Some(Verdict::Open));
    world.push(3);
    world.all(&A, Healthy);
    assert_eq!(world.orders(), "3 3 2 1 1 1");
    assert_eq!(world.resume(Some("b")), 1);
    assert_eq!(world.orders(), "3 3 2 2 1 1", "the wave finishes its change first");
    world.report("b2", Healthy);
    assert_eq!(world.orders(), "3 3 3 2 2 2");
}

#[test]
fn a_hold_never_blocks_a_rollback() {
    let mut world = settled(CONFIG);
    world.push(2);
    world.report("a1", Healthy);
    world.hold(None);
    world.report("a2", RolledBack);
    assert_eq!(world.orders(), "<1 2 1 1 1 1");
}

#[test]
fn the_whole_train_retreats_except_for_a_wave_that_has_moved_on() {
    let mut world = settled(&with("c", r#"retreat = "train""#));
    world.push(2);
    world.all(&A, Healthy);
    world.all(&B, Healthy);
    world.push(3);
    assert_eq!(world.orders(), "3 3 2 2 2 2");
    world.report("c1", RolledBack);
    assert_eq!(world.orders(), "3 3 <1 <1 2 <1", "the wave a has taken a newer change");
    world.all(&A, Healthy);
    assert_eq!(world.orders(), "3 3 <1 <1 2 <1", "rollbacks are under way in the wave b");
    world.all(&B, RolledBack);
    assert_eq!(world.orders(), "3 3 3 3 2 <1");
}

#[test]
fn a_condemned_revision_that_comes_back_from_another_ref() {
    let mut world = settled(CONFIG);
    world.push(2);
    world.all(&A, RolledBack);
    world.push(3);
    assert_eq!(world.push_to("hotfix", 2), Arrival::Condemned);
    world.all(&A, Healthy);
    assert_eq!(world.orders(), "3 3 3 3 1 1");
    assert!(world.pardon(2));
    assert_eq!(world.orders(), "2 2 3 3 1 1", "the newest change with the revision is pardoned");
}

#[test]
fn a_pardoned_change_is_taken_once_more() {
    let mut world = settled(CONFIG);
    world.push(2);
    world.all(&A, Healthy);
    world.all(&B, RolledBack);
    world.all(&B, RolledBack);
    let sequence = world.row.newest().unwrap().change.sequence;
    assert!(world.pardon(2));
    assert_eq!(world.orders(), "2 2 2 2 1 1");
    let order = world.targets[&id("b1")].order.clone().unwrap();
    assert!(order.change.sequence > sequence, "the change is ordered again");
    world.all(&A, Running);
    world.report("b1", RolledBack);
    world.report("b2", RolledBack);
    assert!(world.is_condemned(2));
    world.wait(10);
    assert_eq!(world.orders(), "2 2 2 <1 1 1");
    assert!(world.pardon(2) && !world.pardon(7));
    world.push(3);
    world.all(&A, Healthy);
    assert_eq!(world.ordered("b1"), "2");
}

#[test]
fn a_force_push_to_a_revision_that_was_healthy_starts_at_the_first_wave() {
    let mut world = settled(CONFIG);
    world.push(2);
    world.all(&A, Healthy);
    world.push(1);
    assert_eq!(world.orders(), "1 1 2 2 1 1");
    world.all(&A, Healthy);
    world.all(&B, Healthy);
    assert_eq!(world.orders(), "1 1 1 1 2 2", "the wave c takes 2, and then goes on");
    world.all(&B, Healthy);
    world.all(&C, Healthy);
    assert_eq!(world.orders(), "1 1 1 1 1 1");
}

#[test]
fn a_revision_that_the_targets_run_already_passes_without_an_order() {
    let mut world = settled(CONFIG);
    world.hold(Some("a"));
    world.push(2);
    world.push(1);
    let orders = world.placed.len();
    world.resume(Some("a"));
    assert_eq!((world.orders(), world.placed.len()), ("1 1 1 1 1 1".into(), orders));
    assert_eq!(world.row.waves[2].healthy.last(), world.seen(1).as_ref());
}

#[test]
fn a_promotion_and_then_the_normal_train_with_an_older_change() {
    let mut world = settled(CONFIG);
    world.push(2);
    world.push_to("hotfix", 3);
    world.promote("c", 3);
    assert_eq!(world.orders(), "2 2 1 1 3 3");
    let order = world.targets[&id("c1")].order.clone().unwrap();
    assert!(order.order().promoted && order.order().bake.is_some());
    world.all(&C, Healthy);
    world.all(&A, Healthy);
    assert_eq!(world.orders(), "3 3 2 2 3 3");
    world.all(&B, Healthy);
    assert_eq!(world.orders(), "3 3 2 2 3 3", "the wave c never goes back by itself");
    world.all(&A, Healthy);
    assert_eq!(world.orders(), "3 3 3 3 3 3");
    world.all(&B, Healthy);
    assert_eq!(world.row.waves[2].healthy.last(), world.seen(3).as_ref());
}

#[test]
fn a_promoted_older_change_skips_holds_and_goes_back_only_then() {
    let mut world = settled(CONFIG);
    world.push(2);
    for wave in [A, B, C] {
        world.all(&wave, Healthy);
    }
    world.hold(None);
    world.promote("c", 1);
    assert_eq!(world.orders(), "2 2 2 2 1 1");
    world.all(&C, Healthy);
    world.resume(None);
    assert_eq!(world.orders(), "2 2 2 2 1 1");
}

#[test]
fn a_change_that_waits_in_its_wave_is_promoted() {
    let mut world = settled(CONFIG);
    world.push(2);
    world.report("a1", Waiting);
    world.report("a2", Running);
    let number = world.targets[&id("a2")].number;
    world.promote("a", 2);
    let promoted = |pipeline| world.targets[&id(pipeline)].order.clone().unwrap().order().promoted;
    assert_eq!((promoted("a1"), promoted("a2")), (true, false));
    assert_eq!(world.targets[&id("a2")].number, number, "an order that has started goes on");
    assert_eq!(world.row.waves[0].promotion, None);
}

#[test]
fn a_newer_change_replaces_one_that_no_target_has_started() {
    let mut world = settled(CONFIG);
    world.push(2);
    world.all(&A, Waiting);
    world.push(3);
    assert_eq!(world.orders(), "3 3 1 1 1 1");
    world.report("a1", Waiting);
    world.push(4);
    assert_eq!(world.orders(), "3 3 1 1 1 1", "silence counts as started");
    world.report("a2", Waiting);
    assert_eq!(world.orders(), "4 4 1 1 1 1");
}

#[test]
fn a_silent_target_is_unknown_after_two_hours_until_it_reports() {
    let mut world = settled(CONFIG);
    world.push(2);
    world.report("a1", Healthy);
    world.wait(119);
    assert_eq!(world.standings(0), [Standing::Healthy, Standing::Running]);
    world.wait(1);
    assert_eq!(world.standings(0), [Standing::Healthy, Standing::Unknown]);
    world.report("a2", Running);
    assert_eq!(world.standings(0), [Standing::Healthy, Standing::Running]);
    world.report("a2", Healthy);
    assert_eq!(world.orders(), "2 2 2 2 1 1");
}

#[test]
fn nothing_but_refusals_for_two_hours_is_unknown() {
    let mut world = settled(CONFIG);
    world.push(2);
    world.all(&A, sekisho_domain::report::ReportState::Refused);
    world.wait(119);
    world.report("a1", sekisho_domain::report::ReportState::Refused);
    world.wait(1);
    assert_eq!(world.standings(0), [Standing::Unknown, Standing::Unknown]);
}

#[test]
fn a_retried_stage_that_ends_healthy_lifts_the_condemnation() {
    let mut world = settled(&with("a", r#"retreat = "target""#));
    world.push(2);
    world.report("a2", Healthy);
    world.report("a1", Failed);
    assert!(world.is_condemned(2));
    world.report("a1", Running);
    assert!(world.is_condemned(2));
    world.report("a1", Healthy);
    assert!(!world.is_condemned(2));
    assert_eq!(world.orders(), "2 2 2 2 1 1");
}

#[test]
fn a_target_that_was_sent_back_gets_the_change_again_if_the_condemnation_is_lifted() {
    let mut world = settled(CONFIG);
    world.push(2);
    world.report("a2", Healthy);
    world.report("a1", Failed);
    assert_eq!(world.orders(), "2 <1 1 1 1 1");
    world.report("a1", Running);
    world.report("a2", RolledBack);
    world.report("a1", Healthy);
    assert_eq!(world.orders(), "2 2 1 1 1 1");
    world.report("a2", Healthy);
    assert_eq!(world.orders(), "2 2 2 2 1 1");
}

#[test]
fn a_person_sends_every_target_back_after_the_bake() {
    let mut world = settled(CONFIG);
    world.push(2);
    for wave in [A, B, C] {
        world.all(&wave, Healthy);
    }
    assert!(world.recall("b"));
    assert_eq!(world.orders(), "2 2 <1 <1 2 2");
    world.report("b1", RolledBack);
    world.report("b2", Failed);
    assert!(world.is_condemned(2));
    world.push(3);
    world.all(&A, Healthy);
    assert_eq!(world.orders(), "3 3 <1 <1 2 2", "the wave is held");
    world.resume(Some("b"));
    assert_eq!(world.orders(), "3 3 3 3 2 2", "nothing follows a rollback that failed");
}

#[test]
fn a_person_sends_unknown_targets_back() {
    let mut world = settled(CONFIG);
    world.push(2);
    world.all(&A, Unknown);
    assert!(world.recall("a"));
    assert_eq!(world.orders(), "<1 <1 1 1 1 1");
}

#[test]
fn nothing_goes_back_if_nothing_was_healthy_before() {
    let mut world = World::new(CONFIG);
    world.push(1);
    world.report("a1", Failed);
    assert_eq!(world.orders(), "1 1 0 0 0 0");
    world.report("a2", Healthy);
    world.push(2);
    assert_eq!(world.orders(), "2 2 0 0 0 0");
}

#[test]
fn a_target_that_waits_for_a_condemned_change_does_not_start_it() {
    let mut world = settled(&with("a", r#"retreat = "target""#));
    world.push(2);
    world.report("a2", Waiting);
    world.report("a1", RolledBack);
    assert_eq!(world.orders(), "2 <1 1 1 1 1");
}

#[test]
fn a_route_that_gets_waves_orders_nothing() {
    let mut world = World::new(CONFIG);
    world.wait(5);
    assert_eq!((world.orders(), world.placed.len()), ("0 0 0 0 0 0".into(), 0));
    assert!(world.row.waves.iter().all(|wave| wave.members.len() == 2));
}

#[test]
fn two_trains_take_turns_at_a_target() {
    let other = r#"
[[route]]
name = "image"
repository = "image"
branches = ["main"]
[[route.wave]]
name = "only"
[[route.wave.target]]
account = "222222222222"
region = "ap-northeast-1"
pipeline = "a1"
action = "Image"
"#;
    let mut world = settled(&format!("{CONFIG}{other}"));
    let shop = world.targets[&id("a1")].clone();
    let mut of = shop.order.clone().unwrap().train.unwrap();
    of.route = "image".to_owned();
    let (change, order) = (World::change(9, "main", 0), (sekisho_domain::order::OrderKind::Deploy, of));
    let foreign = shop.ordered(&change, order, crate::sources::Sources::new(&world.routes, &id("a1")), world.now);
    assert_eq!(foreign.finished.len(), 1, "the row remembers what became of the train's own order");
    world.targets.insert(id("a1"), foreign);
    world.push(2);
    assert_eq!(world.orders(), "9 2 1 1 1 1");
    assert_eq!(world.standings(0)[0], Standing::OtherTrain);
    world.report("a1", Healthy);
    assert_eq!(world.orders(), "2 2 1 1 1 1");
}
