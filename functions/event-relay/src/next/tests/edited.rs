//! What happens to a train whose route is edited while a change is under way.

use sekisho_domain::report::ReportState::{Failed, Healthy, RolledBack, Running};
use sekisho_domain::timestamp::epoch_millis;

use super::named::{A, B, C, settled};
use super::world::{CONFIG, Details, World, id, routes, with};
use crate::sources::Sources;
use crate::target::TargetRow;
use crate::train::Hold;

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

/// The configuration with the target `a3` as the last one of the first wave.
fn with_a3() -> String {
    let (head, rest) = CONFIG.split_once("[[route.wave]]\nname = \"b\"").unwrap();
    let target = "[[route.wave.target]]\naccount = \"222222222222\"\nregion = \"ap-northeast-1\"\npipeline = \"a3\"\n";
    format!("{head}{target}action = \"Source\"\n[[route.wave]]\nname = \"b\"{rest}")
}

#[test]
fn a_newcomer_that_fails_is_no_reason_for_the_verdict() {
    let mut world = settled(CONFIG);
    world.push(2);
    world.all(&A, Running);
    edit(&mut world, &with_a3());
    world.report("a3", RolledBack);
    world.report("a1", RolledBack);
    let condemned = world.row.condemned[0].clone();
    assert!(condemned.reason.contains("/a1 ") && !condemned.reason.contains("/a3 "), "{}", condemned.reason);
    assert_eq!(world.row.waves[0].passage.as_ref().unwrap().failed, [id("a1")]);
}

/// The target had something healthy before it moved to this wave.
#[test]
fn a_newcomer_whose_stage_is_retried_is_not_sent_back_before_it_ends() {
    let mut world = settled(CONFIG);
    world.targets.insert(id("a3"), world.targets[&id("a1")].clone());
    world.push(2);
    world.all(&A, Running);
    edit(&mut world, &with_a3());
    assert_eq!(world.ordered("a3"), "2");
    world.report("a3", Failed);
    world.report("a1", RolledBack);
    assert_eq!((world.orders(), world.ordered("a3")), ("2 <1 1 1 1 1".to_owned(), "2".to_owned()));
    world.report("a3", Running);
    assert_eq!(world.ordered("a3"), "2", "the new end counts");
    let mut failed = world.clone();
    failed.report("a3", Failed);
    failed.report("a3", Running);
    assert_eq!(failed.ordered("a3"), "2");
    world.report("a3", Healthy);
    assert_eq!(world.ordered("a3"), "<1");
}

#[test]
fn a_retried_stage_lifts_the_condemnation_of_a_wave_that_was_renamed() {
    let mut world = settled(&with("a", r#"retreat = "target""#));
    world.push(2);
    world.report("a2", Healthy);
    world.report("a1", Failed);
    let codes = |world: &World| world.row.condemned.iter().map(|one| (one.seen, one.at)).collect::<Vec<_>>();
    let before = codes(&world);
    edit(&mut world, &with("a", r#"retreat = "target""#).replace("name = \"a\"", "name = \"first\""));
    assert_eq!(codes(&world), before);
    world.report("a1", Running);
    world.report("a1", Healthy);
    assert!(!world.is_condemned(2));
    assert_eq!(world.orders(), "2 2 2 2 1 1");
}

/// A route without waves whose targets, except one, have the first commit.
fn without_waves(missing: &str) -> World {
    let mut world = World::new(CONFIG);
    let change = World::change(1, "main", epoch_millis(world.now));
    for pipeline in [A, B, C].concat().into_iter().filter(|one| *one != missing) {
        world.targets.insert(id(pipeline), TargetRow::default().placed(&change, Sources::unrouted(), world.now));
        world.receive(pipeline, if pipeline == "a2" { Failed } else { Healthy }, Details::default());
    }
    world
}

#[test]
fn a_target_that_comes_together_with_the_waves_is_a_newcomer() {
    let mut world = without_waves("b2");
    world.wait(5);
    assert_eq!((world.ordered("b2"), world.placed.len()), ("1".to_owned(), 1), "the others get nothing");
    world.report("b2", Healthy);
    assert!(world.row.waves.iter().all(|wave| wave.members.len() == 2));
    world.push(2);
    assert_eq!(world.orders(), "2 2 1 1 1 1");
}

#[test]
fn a_held_route_that_gets_waves_is_a_held_train() {
    let mut world = without_waves("");
    let hold = Hold { wave: None, source_ref: None, reason: "r".to_owned(), until: None, by: None, since: 7 };
    world.row.hold(hold.clone());
    world.push(2);
    assert_eq!((world.orders(), &world.row.holds), ("1 1 1 1 1 1".to_owned(), &vec![hold]));
    assert!(world.row.waves.iter().all(|wave| wave.members.len() == 2), "the route got its waves all the same");
    world.resume(None);
    assert_eq!(world.orders(), "2 2 1 1 1 1");
}

/// While the waves of the route were taken out of the file, a target was added and got the head.
#[test]
fn a_newcomer_that_has_a_newer_head_is_not_moved_back() {
    for state in [None, Some(Running), Some(Healthy), Some(Failed)] {
        let mut world = settled(CONFIG);
        world.wait(5);
        let head = World::change(2, "main", epoch_millis(world.now));
        world.targets.insert(id("c3"), TargetRow::default().placed(&head, Sources::unrouted(), world.now));
        if let Some(state) = state {
            world.receive("c3", state, Details::default());
        }
        edit(&mut world, &CONFIG.replace("\"c2\"", "\"c3\""));
        assert_eq!((world.ordered("c3"), world.placed.len()), ("2".to_owned(), 6), "{state:?}");
        assert!(world.row.waves[2].members.contains(&id("c3")), "{state:?}");
        world.push(3);
        for wave in [&A, &B] {
            world.all(wave, Healthy);
        }
        assert_eq!((world.ordered("c1"), world.ordered("c3")), ("3".to_owned(), "3".to_owned()), "{state:?}");
    }
}

/// The target has a head of another repository, to which the change does not compare.
#[test]
fn a_newcomer_with_a_head_of_another_repository_gets_what_was_healthy_last() {
    let mut world = settled(CONFIG);
    world.wait(5);
    let mut head = World::change(2, "main", epoch_millis(world.now));
    head.repository = "arn:aws:codecommit:ap-northeast-1:111111111111:lib".parse().unwrap();
    world.targets.insert(id("c3"), TargetRow::default().placed(&head, Sources::unrouted(), world.now));
    edit(&mut world, &CONFIG.replace("\"c2\"", "\"c3\""));
    assert_eq!(world.ordered("c3"), "1");
}
