//! Targets in waves of two routes, whose pipelines have two source actions.

use sekisho_domain::order::OrderKind;
use sekisho_domain::report::ReportState::{Healthy, RolledBack};

use super::named::settled;
use super::world::{CONFIG, World, id, routes};

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
    let row = world.targets[&id("a1")].clone();
    let mut of = row.order.clone().unwrap().train.unwrap();
    of.route = "lib".to_owned();
    let mut change = World::change(n, "main", sekisho_domain::timestamp::epoch_millis(world.now));
    change.repository = "arn:aws:codecommit:ap-northeast-1:111111111111:lib".parse().unwrap();
    world.targets.insert(id("a1"), row.ordered(&change, OrderKind::Deploy, of, world.now));
    world.report("a1", Healthy);
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
