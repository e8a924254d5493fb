//! What users of other tools ask for. docs/testing.md names the threads, and the tests of the other requests.

use std::collections::BTreeMap;

use sekisho_domain::report::ReportState::{Healthy, RolledBack, Running};

use super::named::{A, B, C, settled};
use super::world::{CONFIG, World, with};

#[test]
fn a_closed_window_keeps_a_change_out_and_never_blocks_a_rollback() {
    // The train begins at 21:00 in Tokyo.
    let mut world = World::new(&with("b", "windows = [\"Mon-Fri 22:00-23:00 Asia/Tokyo\"]"));
    world.push(1);
    world.all(&A, Healthy);
    assert_eq!(world.orders(), "1 1 0 0 0 0", "the window is closed");
    world.wait(61);
    assert_eq!(world.orders(), "1 1 1 1 0 0");
    world.all(&B, Healthy);
    world.all(&C, Healthy);
    world.push(2);
    world.all(&A, Healthy);
    world.all(&B, Running);
    world.wait(60);
    world.report("b1", Healthy);
    world.report("b2", RolledBack);
    assert_eq!(world.orders(), "2 2 <1 2 1 1", "the window is closed, and the wave goes back");
    world.report("b1", RolledBack);
    world.push(3);
    world.all(&A, Healthy);
    assert_eq!(world.orders(), "3 3 <1 2 1 1", "until tomorrow");
}

#[test]
fn a_window_that_closes_keeps_the_change_from_the_targets_that_are_left() {
    let mut world = World::new(&with("b", "at_once = 1\nwindows = [\"Mon-Fri 20:00-22:00 Asia/Tokyo\"]"));
    world.push(1);
    world.all(&A, Healthy);
    assert_eq!(world.orders(), "1 1 1 0 0 0");
    world.wait(61);
    world.report("b1", Healthy);
    assert_eq!(world.orders(), "1 1 1 0 0 0");
    world.wait(22 * 60);
    assert_eq!(world.orders(), "1 1 1 1 0 0");
}

/// The wave was healthy with the change, so it does not matter what the wave runs when the next one becomes free.
#[test]
fn a_change_that_was_healthy_enters_the_next_wave_although_a_newer_one_has_overtaken_it() {
    let mut world = settled(CONFIG);
    world.hold(Some("b"));
    world.push(2);
    world.all(&A, Healthy);
    world.push(3);
    world.all(&A, Running);
    assert_eq!(world.orders(), "3 3 1 1 1 1");
    world.resume(Some("b"));
    assert_eq!(world.orders(), "3 3 2 2 1 1");
}

#[test]
fn each_account_and_region_of_a_wave_is_a_target_and_at_once_counts_them() {
    let one = "account = \"222222222222\"\nregion = \"ap-northeast-1\"\npipeline = \"b1\"";
    let four = "accounts = [\"222222222222\", \"333333333333\"]\nregions = [\"ap-northeast-1\", \"us-east-1\"]\n\
                pipeline = \"b1\"";
    let mut world = World::new(&with("b", "at_once = 3").replace(one, four));
    world.push(1);
    world.all(&A, Healthy);
    let ordered: BTreeMap<String, bool> = world.route().waves()[1]
        .targets
        .iter()
        .map(|target| (target.id().to_string(), world.targets.get(&target.id()).is_some_and(|row| row.order.is_some())))
        .collect();
    let is_ordered = [
        ("222222222222/ap-northeast-1/b1", true),
        ("222222222222/ap-northeast-1/b2", false),
        ("222222222222/us-east-1/b1", true),
        ("333333333333/ap-northeast-1/b1", true),
        ("333333333333/us-east-1/b1", false),
    ];
    assert_eq!(ordered, is_ordered.map(|(target, is_ordered)| (target.to_owned(), is_ordered)).into());
}
