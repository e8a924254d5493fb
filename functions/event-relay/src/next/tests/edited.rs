//! What happens to a train whose route is edited while a change is under way.

use sekisho_domain::report::ReportState::{Healthy, RolledBack, Running};

use super::named::{A, B, C, settled};
use super::world::{CONFIG, World, routes};

fn edit(world: &mut World, config: &str) {
    world.routes = routes(config);
    world.wait(5);
}

#[test]
fn targets_that_leave_and_join_mid_change() {
    let mut world = settled(CONFIG);
    world.push(2);
    world.report("a1", Healthy);
    world.outcomes();
    edit(&mut world, &CONFIG.replace("\"a2\"", "\"a3\"").replace("\"c2\"", "\"c3\""));
    assert_eq!((world.ordered("a3"), world.ordered("c3")), ("2".to_owned(), "1".to_owned()));
    let outcomes = world.outcomes();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.starts_with("filtered")).count(), 2, "{outcomes:?}");
    assert_eq!(world.orders(), "2 2 2 2 1 1", "a newcomer has no say about the change");
    world.report("a3", RolledBack);
    assert!(!world.is_condemned(2));
    world.report("c3", Healthy);
    world.all(&B, Healthy);
    assert_eq!((world.ordered("c1"), world.ordered("c3")), ("2".to_owned(), "2".to_owned()));
}

#[test]
fn a_newcomer_waits_for_the_end_of_a_hold() {
    let mut world = settled(CONFIG);
    world.hold(Some("c"));
    edit(&mut world, &CONFIG.replace("\"c2\"", "\"c3\""));
    assert_eq!(world.ordered("c3"), "0");
    world.resume(Some("c"));
    assert_eq!(world.ordered("c3"), "1");
}

#[test]
fn a_target_that_moves_takes_its_order_along() {
    let mut world = settled(CONFIG);
    world.push(2);
    world.all(&A, Running);
    // The targets `a2` and `c2` change places.
    let moved = CONFIG.replace("\"a2\"", "\"x\"").replace("\"c2\"", "\"a2\"").replace("\"x\"", "\"c2\"");
    edit(&mut world, &moved);
    assert_eq!(world.orders(), "2 2 1 1 1 2", "the change in the wave a goes to the newcomer");
    world.report("a1", Healthy);
    assert_eq!(world.orders(), "2 2 2 2 1 2");
    world.report("c2", Healthy);
    world.all(&B, Healthy);
    assert_eq!(world.ordered("c1"), "1", "the wave c works on the order that the target `a2` brought");
    world.report("a2", Healthy);
    assert_eq!(world.ordered("c1"), "2");
    world.report("c1", Healthy);
    assert_eq!(world.row.waves[2].healthy.last(), world.seen(2).as_ref());
}

#[test]
fn renaming_a_wave_erases_no_verdict_and_no_hold() {
    let mut world = settled(CONFIG);
    world.push(2);
    world.all(&A, Healthy);
    world.hold(Some("b"));
    edit(&mut world, &CONFIG.replace("name = \"b\"", "name = \"tokyo\""));
    assert_eq!(world.row.waves[1].newest, world.seen(2).unwrap());
    world.push(3);
    world.all(&A, Healthy);
    world.all(&B, Healthy);
    assert_eq!(world.orders(), "3 3 2 2 2 2");
    assert_eq!(world.resume(Some("tokyo")), 1);
    assert_eq!(world.orders(), "3 3 3 3 2 2");
}

#[test]
fn the_hold_of_a_wave_that_is_gone_holds_the_train() {
    let mut world = settled(CONFIG);
    world.hold(Some("c"));
    let (without, _) = CONFIG.split_once("[[route.wave]]\nname = \"c\"").unwrap();
    edit(&mut world, without);
    world.push(2);
    assert_eq!(world.ordered("a1"), "1");
    assert_eq!(world.resume(Some("c")), 1);
    assert_eq!(world.ordered("a1"), "2");
}

/// A newcomer of the first wave after the change that it had healthy was condemned by the second wave.
#[test]
fn a_newcomer_never_gets_a_condemned_revision() {
    let mut world = World::new(CONFIG);
    world.push(1);
    world.all(&A, Healthy);
    world.all(&B, Running);
    world.report("b1", RolledBack);
    assert!(world.is_condemned(1));
    edit(&mut world, &CONFIG.replace("\"a2\"", "\"a3\""));
    assert_eq!(world.ordered("a3"), "0");
}

#[test]
fn a_newcomer_gets_the_promoted_change_that_was_healthy_last() {
    let mut world = settled(CONFIG);
    world.push(2);
    world.all(&A, Healthy);
    world.all(&B, Healthy);
    world.all(&C, Healthy);
    world.promote("c", 1);
    world.all(&C, Healthy);
    assert_eq!(world.orders(), "2 2 2 2 1 1");
    edit(&mut world, &CONFIG.replace("\"c2\"", "\"c3\""));
    assert_eq!(world.ordered("c3"), "1");
}
