//! Targets that have an order for a condemned change, and cannot or must not go back.

use sekisho_domain::report::ReportState::{Failed, Healthy, Refused, RolledBack, Running, Unknown, Waiting};

use super::named::{A, B, C, settled};
use super::world::{CONFIG, World, id, is_by_wave, routes, with};
use crate::wave::Standing;

fn is_offered(world: &World, pipeline: &str) -> bool {
    world.targets[&id(pipeline)].is_due(world.now + time::Duration::hours(2))
}

/// A train whose first change failed in `a1` after `a2` reported this state.
fn condemned(state: sekisho_domain::report::ReportState) -> World {
    let mut world = World::new(CONFIG);
    world.push(1);
    world.report("a2", state);
    world.report("a1", Failed);
    assert!(world.is_condemned(1));
    world
}

#[test]
fn a_condemned_change_is_not_offered_again_to_a_target_that_refused_it() {
    let mut world = condemned(Refused);
    assert!(!is_offered(&world, "a2"));
    world.wait(180);
    assert_eq!(world.standings(0), [Standing::Failed, Standing::SentBack], "nobody has to decide about the target");
    world.push(2);
    assert_eq!(world.orders(), "2 2 0 0 0 0");
    assert!(is_offered(&world, "a2"));
}

#[test]
fn a_pardoned_change_is_ordered_again_to_a_target_that_refused_it() {
    let mut world = condemned(Refused);
    let number = world.targets[&id("a2")].number;
    assert!(world.pardon(1));
    assert!(world.targets[&id("a2")].number > number && is_offered(&world, "a2"));
    world.all(&A, Healthy);
    assert_eq!(world.orders(), "1 1 1 1 0 0");
}

#[test]
fn a_target_that_refused_the_change_gets_it_if_a_retried_stage_ends_healthy() {
    let mut world = condemned(Refused);
    world.report("a1", Running);
    world.report("a1", Healthy);
    assert!(!world.is_condemned(1) && is_offered(&world, "a2"));
    assert_eq!(world.standings(0), [Standing::Healthy, Standing::Running]);
}

/// The offer was under way when the change was condemned.
#[test]
fn a_target_that_takes_the_change_after_all_counts_by_its_reports() {
    let mut world = condemned(Refused);
    world.report("a2", Running);
    assert_eq!(world.standings(0), [Standing::Failed, Standing::Running]);
    assert!(is_offered(&world, "a2"), "the target is asked for its report");
}

#[test]
fn a_target_that_waits_for_a_condemned_change_is_asked_for_its_report_until_a_newer_change_comes() {
    let mut world = condemned(Waiting);
    assert_eq!(world.standings(0), [Standing::Failed, Standing::Waiting]);
    assert!(is_offered(&world, "a2"), "the target has taken the order, so the offer starts nothing");
    world.push(2);
    assert_eq!(world.orders(), "2 2 0 0 0 0");
}

#[test]
fn a_target_that_refused_the_change_and_can_go_back_goes_back() {
    let mut world = settled(CONFIG);
    world.push(2);
    world.report("a2", Refused);
    world.report("a1", RolledBack);
    assert_eq!(world.orders(), "2 <1 1 1 1 1");
}

/// The account of the target is not deployed yet, so its bus accepts nothing.
#[test]
fn a_condemned_change_is_not_offered_again_to_a_target_that_never_answered() {
    for silent in [1, 180] {
        let mut world = World::new(CONFIG);
        world.push(1);
        world.wait(silent);
        world.report("a1", Failed);
        world.wait(3);
        assert!(world.is_condemned(1));
        assert_eq!(is_offered(&world, "a2"), silent == 1, "the target may still answer the first offer");
        world.wait(2);
        let row = &world.targets[&id("a2")];
        assert!(!is_offered(&world, "a2") && !row.needs_alert(world.now + time::Duration::hours(3)));
        if silent == 1 {
            assert_eq!(
                world.standings(0),
                [Standing::Failed, Standing::Running],
                "its bus may have accepted the offer"
            );
            let mut early = world.clone();
            early.push(2);
            assert_eq!(early.orders(), "1 1 0 0 0 0", "the next change waits for the target");
            world.wait(120);
        }
        assert_eq!(world.standings(0), [Standing::Failed, Standing::SentBack], "nobody has to decide about the target");
        let mut late = world.clone();
        late.report("a2", Running);
        assert_eq!(late.standings(0), [Standing::Failed, Standing::Running], "it had the order all the same");
        world.push(2);
        assert_eq!(world.orders(), "2 2 0 0 0 0");
        assert!(is_offered(&world, "a2"));
    }
}

#[test]
fn a_target_that_never_answered_and_can_go_back_goes_back() {
    let mut world = settled(CONFIG);
    world.push(2);
    world.wait(180);
    assert_eq!(world.standings(0), [Standing::Unknown, Standing::Unknown]);
    world.report("a1", RolledBack);
    assert_eq!(world.orders(), "2 <1 1 1 1 1");
}

/// The wave sends back only the targets that failed, and this one may have started the change.
#[test]
fn a_target_that_never_answered_gets_no_more_offers_if_nothing_else_goes_back() {
    let mut world = settled(&with("a", r#"retreat = "target""#));
    world.push(2);
    world.report("a1", RolledBack);
    world.wait(5);
    assert_eq!(world.orders(), "2 2 1 1 1 1");
    assert!(!is_offered(&world, "a2"));
}

/// A train whose first wave has passed its only change, or its second one after another one, when a newcomer refused
/// that change and the second wave condemned it.
fn refused_by_a_newcomer(mut world: World, change: u64) -> World {
    world.push(change);
    world.all(&A, Healthy);
    world.routes = routes(&CONFIG.replace("\"a2\"", "\"a3\""));
    world.wait(5);
    world.report("a3", Refused);
    assert_eq!(world.ordered("a3"), change.to_string());
    world.all(&B, RolledBack);
    assert!(world.is_condemned(change));
    world.wait(5);
    world
}

#[test]
fn a_newcomer_that_refused_a_condemned_change_gets_what_was_healthy_before() {
    let world = refused_by_a_newcomer(settled(CONFIG), 2);
    assert_eq!(world.ordered("a3"), "1");
}

#[test]
fn a_newcomer_that_refused_the_change_gets_it_if_the_change_is_pardoned() {
    let mut world = refused_by_a_newcomer(World::new(CONFIG), 1);
    assert!(!is_offered(&world, "a3") && !world.row.waves[0].members.contains(&id("a3")));
    let number = world.targets[&id("a3")].number;
    assert!(world.pardon(1));
    assert!(world.targets[&id("a3")].number > number && is_offered(&world, "a3"));
    world.report("a3", Healthy);
    assert!(world.row.waves[0].members.contains(&id("a3")));
}

/// The failures condemn the change, whatever the unknown target will report. But no target goes back until somebody has
/// decided about the unknown one.
#[test]
fn a_wave_with_an_unknown_target_fails_but_waits_if_more_of_the_others_fail_than_it_tolerates() {
    let a3 = CONFIG.split("[[route.wave").find(|table| table.contains("a2")).unwrap().replace("a2", "a3");
    let mut world = World::new(&CONFIG.replace("#a\n", &format!("[[route.wave{a3}")));
    world.push(1);
    world.report("a3", Healthy);
    for wave in [A, B, C] {
        world.all(&wave, Healthy);
    }
    world.push(2);
    world.report("a1", Unknown);
    world.report("a3", Healthy);
    assert!(!world.is_condemned(2));
    world.report("a2", Failed);
    assert!(is_by_wave(&world, 2));
    world.push(3);
    let orders = |world: &World| format!("{} {}", world.orders(), world.ordered("a3"));
    assert_eq!(orders(&world), "2 2 1 1 1 1 2", "the unknown target holds the wave: it goes neither on nor back");
    let (mut accepted, mut recalled) = (world.clone(), world.clone());
    accepted.accept(0);
    assert_eq!(orders(&accepted), "<1 2 1 1 1 1 <1", "a person says that it is healthy, but the change failed");
    assert!(recalled.recall("a"));
    assert_eq!(orders(&recalled), "<1 <1 1 1 1 1 <1", "nothing keeps a person from a rollback");
    world.report("a1", Healthy);
    assert_eq!(orders(&world), "<1 2 1 1 1 1 <1", "the change failed, also where it looks healthy");
    world.report("a1", RolledBack);
    world.report("a3", RolledBack);
    assert_eq!(orders(&world), "3 3 1 1 1 1 3");
}

/// A later wave sends an earlier one back only once nobody has to decide about the earlier one.
#[test]
fn a_wave_with_an_unknown_target_does_not_retreat_with_the_train() {
    let config = with("b", r#"retreat = "train""#).replace("#a\n", "at_once = 1\n");
    let mut world = settled(&config);
    world.push(2);
    world.all(&A, Healthy);
    world.push(3);
    let mut decided = world.clone();
    world.report("a1", Unknown);
    world.all(&B, RolledBack);
    assert!(is_by_wave(&world, 2));
    assert_eq!(world.orders(), "3 2 2 <1 1 1");
    decided.report("a1", Running);
    decided.all(&B, RolledBack);
    assert_eq!(decided.orders(), "3 <1 2 <1 1 1");
}
