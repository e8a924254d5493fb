//! Targets in waves of two routes, whose pipelines have two source actions.

use sekisho_domain::order::OrderKind;
use sekisho_domain::report::ReportState::{Failed, Healthy, RolledBack, Running, Waiting};

use super::named::settled;
use super::world::{CONFIG, World, id, routes};
use crate::sources::Sources;

/// A second train with the target `a1` in its only wave.
const LIB: &str = r#"
[[route]]
name = "lib"
repository = "lib"
branches = ["main"]
[[route.wave]]
name = "only"
[[route.wave.target]]
account = "222222222222"
region = "ap-northeast-1"
pipeline = "a1"
action = "Lib"
"#;

/// The train of `lib` orders the n-th commit of its repository to the target `a1`, where it is healthy.
fn deploy_lib(world: &mut World, n: u64) {
    order_lib(world, n);
    world.report("a1", Healthy);
}

fn order_lib(world: &mut World, n: u64) {
    let row = world.targets.get(&id("a1")).cloned().unwrap_or_default();
    let of = serde_json::json!({"route": "lib", "seen": n, "bake": "0s"});
    let of = serde_json::from_value(of).unwrap();
    let mut change = World::change(n, "main", sekisho_domain::timestamp::epoch_millis(world.now));
    change.repository = "arn:aws:codecommit:ap-northeast-1:111111111111:lib".parse().unwrap();
    world.targets.insert(
        id("a1"),
        row.ordered(&change, (OrderKind::Deploy, of), Sources::new(&world.routes, &id("a1")), world.now),
    );
}

#[test]
fn a_target_goes_back_to_what_was_healthy_of_the_same_repository() {
    let mut world = settled(&format!("{CONFIG}{LIB}"));
    deploy_lib(&mut world, 9);
    world.push(2);
    world.report("a1", Healthy);
    world.report("a2", RolledBack);
    assert_eq!(world.orders(), "<1 2 1 1 1 1");
    let order = world.targets[&id("a1")].order.clone().unwrap();
    assert_eq!(order.change.repository.name(), "shop");
}

#[test]
fn a_newcomer_never_gets_a_change_of_a_repository_of_another_route() {
    let mut world = World::new(&format!("{CONFIG}{LIB}"));
    world.push(1);
    world.report("a1", Healthy);
    world.report("a2", Healthy);
    deploy_lib(&mut world, 9);
    // The train has forgotten its changes, so the newcomer gets what the other targets had healthy last.
    world.row.changes.clear();
    world.row.waves[0].healthy.clear();
    world.routes = routes(&format!("{}{LIB}", CONFIG.replace("\"a2\"", "\"a3\"")));
    world.wait(5);
    assert_eq!(world.ordered("a3"), "1");
}

/// The order of `lib` came first, and neither source had a revision.
#[test]
fn an_order_that_waits_for_this_source_lets_a_change_enter() {
    let mut world = World::new(&format!("{CONFIG}{LIB}"));
    order_lib(&mut world, 9);
    world.push(1);
    assert_eq!(world.orders(), "9 1 0 0 0 0", "nobody knows yet whether `lib` has started");
    world.lack("a1", "Source");
    assert_eq!(world.orders(), "1 1 0 0 0 0");
    // The order brings the revision, so the target runs both, and the wave goes on.
    world.all(&["a1", "a2"], Healthy);
    assert_eq!(world.orders(), "1 1 1 1 0 0");
    // The train of `lib` orders its change again.
    deploy_lib(&mut world, 9);
    world.push(2);
    assert_eq!(world.orders(), "2 2 1 1 0 0");
}

#[test]
fn an_order_that_waits_for_something_else_keeps_its_place() {
    for action in [None, Some("Lib"), Some("Other")] {
        let mut world = World::new(&format!("{CONFIG}{LIB}"));
        order_lib(&mut world, 9);
        world.push(1);
        match action {
            // An alarm rings, or the pipeline is busy.
            None => world.report("a1", Waiting),
            Some(action) => world.lack("a1", action),
        }
        world.wait(5);
        assert_eq!(world.orders(), "9 1 0 0 0 0", "{action:?}");
        // Then the target waits for this source, and then it does not any more.
        world.lack("a1", "Source");
        assert_eq!(world.orders(), "1 1 0 0 0 0", "{action:?}");
    }
    let mut world = World::new(&format!("{CONFIG}{LIB}"));
    order_lib(&mut world, 9);
    world.lack("a1", "Source");
    world.report("a1", Running);
    world.push(1);
    assert_eq!(world.orders(), "9 1 0 0 0 0");
    world.report("a1", Failed);
    assert_eq!(world.orders(), "1 1 0 0 0 0");
}

/// Two trains never replace each other's orders again and again.
#[test]
fn an_order_that_waits_for_the_other_source_is_not_replaced_by_its_own_train() {
    let mut world = World::new(&format!("{CONFIG}{LIB}"));
    world.push(1);
    for _ in 0..3 {
        world.lack("a1", "Lib");
        world.wait(5);
    }
    assert_eq!(world.placed.len(), 2);
    order_lib(&mut world, 9);
    world.wait(5);
    assert_eq!(world.orders(), "9 1 0 0 0 0");
    deploy_lib(&mut world, 9);
    assert_eq!(world.orders(), "1 1 0 0 0 0");
}
