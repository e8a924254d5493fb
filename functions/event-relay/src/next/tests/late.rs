//! What happens to a train if reports, requests and edits come late or overtake each other.

use sekisho_domain::report::ReportState::{Healthy, RolledBack, Running, Unknown, Waiting};

use super::named::{A, B, settled};
use super::world::{CONFIG, World, id, is_by_wave, with};
use crate::sources::Sources;

/// The waves are taken out of the file, the targets of the wave `a` run the n-th commit, and the waves are put back.
fn deploy_without_waves(world: &mut World, n: u64) {
    world.wait(1);
    let change = World::change(n, "main", sekisho_domain::timestamp::epoch_millis(world.now));
    for pipeline in A {
        let row = world.targets.get(&id(pipeline)).cloned().unwrap_or_default();
        world.targets.insert(id(pipeline), row.placed(&change, Sources::unrouted(), world.now));
    }
}

#[test]
fn an_open_change_does_not_replace_a_newer_one_that_was_ordered_without_waves() {
    let mut world = settled(&with("a", "at_once = 1"));
    world.push(2);
    world.report("a1", Healthy);
    deploy_without_waves(&mut world, 3);
    world.wait(5);
    assert_eq!(world.orders(), "3 3 1 1 1 1");
    world.all(&A, Healthy);
    world.wait(5);
    assert_eq!(world.orders(), "3 3 1 1 1 1");
    assert_eq!(world.row.waves[0].open(), None);
    world.push(4);
    assert_eq!(world.ordered("a1"), "4");
}

#[test]
fn a_promotion_does_not_replace_a_newer_change_that_was_ordered_without_waves() {
    let mut world = settled(CONFIG);
    world.push(2);
    world.report("a1", Unknown);
    world.promote("a", 1);
    deploy_without_waves(&mut world, 3);
    world.all(&A, Healthy);
    world.wait(5);
    assert_eq!((world.orders(), world.row.waves[0].promotion.is_none()), ("3 3 1 1 1 1".into(), true));
    world.push(4);
    assert_eq!(world.ordered("a1"), "4");
}

#[test]
fn a_target_that_says_after_the_promotion_that_it_waits_gets_the_promoted_order() {
    let mut world = settled(CONFIG);
    world.push(2);
    world.promote("a", 2);
    world.report("a1", Waiting);
    world.report("a2", Running);
    let promoted = |pipeline| world.targets[&id(pipeline)].order.clone().unwrap().order().promoted;
    assert_eq!((promoted("a1"), promoted("a2")), (true, false));
}

#[test]
fn an_accepted_target_that_fails_after_its_wave_took_the_next_change_condemns_its_own_change() {
    let mut world = settled(&with("a", "at_once = 1"));
    world.push(2);
    world.report("a1", Healthy);
    world.report("a2", Unknown);
    world.accept(0);
    world.push(3);
    assert_eq!(world.orders(), "3 2 2 2 1 1");
    world.report("a2", RolledBack);
    assert!(is_by_wave(&world, 2));
    assert_eq!(world.ordered("b1"), "2", "the wave b judges the change by its own alarms");
    world.all(&B, Healthy);
    assert_eq!(world.ordered("c1"), "1");
    assert!(world.pardon(2));
    assert_eq!(world.ordered("c1"), "2", "the report condemns the change once");
}

#[test]
fn a_failure_of_an_accepted_target_is_not_tolerated() {
    let mut world = settled(&with("a", "tolerate = 1"));
    world.push(2);
    world.report("a1", Healthy);
    world.report("a2", Unknown);
    world.accept(0);
    assert_eq!(world.orders(), "2 2 2 2 1 1");
    let mut other = world.clone();
    world.report("a2", RolledBack);
    assert!(is_by_wave(&world, 2));
    assert_eq!(world.orders(), "<1 2 2 2 1 1");
    other.report("a1", RolledBack);
    assert!(!other.is_condemned(2), "nobody accepted this target");
    world.report("a1", RolledBack);
    assert!(world.pardon(2));
    world.wait(5);
    assert_eq!((world.is_condemned(2), world.orders()), (false, "2 2 2 2 1 1".into()), "it condemns the change once");
}

#[test]
fn a_failure_in_a_source_action_condemns_nothing_and_holds_the_wave() {
    let mut world = settled(CONFIG);
    world.push(2);
    world.report("a1", Healthy);
    world.fail_in_source("a2");
    world.push(3);
    world.wait(600);
    assert_eq!((world.orders(), world.is_condemned(2)), ("2 2 1 1 1 1".into(), false));
    let mut accepted = world.clone();
    accepted.accept(0);
    assert_eq!(accepted.orders(), "3 3 2 2 1 1");
    let mut recalled = world.clone();
    assert!(recalled.recall("a"));
    assert_eq!(recalled.orders(), "<1 <1 1 1 1 1");
    // Somebody retries the stage.
    world.report("a2", Running);
    world.report("a2", Healthy);
    assert_eq!(world.orders(), "3 3 2 2 1 1");
}
