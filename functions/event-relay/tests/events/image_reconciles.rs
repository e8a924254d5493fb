//! What a reconcile of image repositories costs, and when it reads the rules about caches.

use std::time::Duration;

use event_relay::Outcome::{self, Baseline, Duplicate, Ignored, Relayed};
use event_relay::image::Image;
use event_relay::world::World;
use sekisho_domain::timestamp::epoch_millis;

use crate::function::{Function, outcomes};
use crate::images::{image, push, route};

/// The calls of ECR since the test last called this function. ECR has pages of 1,000 images and of 1,000 repositories,
/// so each list of this many images counts for its pages.
fn ecr_calls(function: &Function) -> usize {
    let images = function.account().images.borrow();
    let pages = |call: &String| match call.split(' ').collect::<Vec<_>>().as_slice() {
        ["DescribeImages", repository] => {
            images.get(*repository).map_or(1, |images| images.len().div_ceil(1_000).max(1))
        }
        _ => 1,
    };
    function.calls().iter().filter(|call| call.starts_with("Describe")).map(pages).sum()
}

/// Images with the tags `v0`, `v1`, ….
fn many(count: u64) -> Vec<Image> {
    (0..count).map(|n| image(n, &[&format!("v{n}")])).collect()
}

/// One reconcile, five minutes after the last one. Returns its decisions and the number of its calls of ECR.
async fn reconcile(function: &Function) -> (Vec<Outcome>, usize) {
    tokio::time::advance(Duration::from_mins(5)).await;
    let decisions = function.file("schedule").await.unwrap().decisions;
    (outcomes(&decisions), ecr_calls(function))
}

#[tokio::test(start_paused = true)]
async fn a_reconcile_of_ten_thousand_tags_makes_eleven_calls_and_reads_no_row_for_each() {
    for (image_key, first) in [("shop", &[(Baseline, 10)][..]), ("sh*", &[(Ignored, 1), (Baseline, 11)])] {
        let function = Function::with(&route(&format!("image = \"{image_key}\"\ntags = [\"**\"]")));
        function.account().images.borrow_mut().insert("shop".to_owned(), many(9_999));
        for (outcome, calls) in first {
            assert_eq!(reconcile(&function).await, (vec![*outcome], *calls), "{image_key}");
        }
        function.ledger_calls();

        push(&function, image(10_001, &["new"]));
        let began = function.account().now();
        let decisions = function.file("schedule").await.unwrap().decisions;
        assert_eq!(outcomes(&decisions), [Relayed, Duplicate], "{decisions:?}");
        assert_eq!(decisions[1].reason.split(' ').nth(1), Some("9999"), "{decisions:?}");
        assert!(ecr_calls(&function) <= 11);
        assert_eq!(function.accepted().len(), 1);
        let ledger = function.ledger_calls();
        assert!(ledger.len() <= 15, "{ledger:?}");
        // The rows of all tags are four pages.
        assert_eq!(ledger.iter().filter(|call| **call == "Query").count(), 4);
        assert!(function.account().now() - began < Duration::from_secs(1));

        // An hour with every kind of reconcile: one reads the rules, and some offer the order again.
        let mut calls = Vec::new();
        for _ in 0..13 {
            calls.push(reconcile(&function).await.1);
        }
        assert!(calls.iter().all(|calls| *calls <= 11), "{calls:?}");
        let short = calls.iter().filter(|calls| **calls == 1).count();
        assert_eq!(short, usize::from(image_key != "shop"), "{calls:?}");
        assert!(!function.accepted().is_empty(), "the order was offered again");
    }
}

/// The new repository has all tags, or a few while another route names a large repository.
#[tokio::test(start_paused = true)]
async fn a_new_repository_costs_no_reconcile_more_than_eleven_calls() {
    let glob = route("image = \"lib/*\"\ntags = [\"**\"]");
    let literal = route("image = \"shop\"\ntags = [\"**\"]").replace("pipeline = \"shop\"", "pipeline = \"web\"");
    for (config, named, new) in [(glob.clone(), 0, 9_999), (glob + &literal, 8_999, 7)] {
        let function = Function::with(&config);
        function.account().images.borrow_mut().insert("shop".to_owned(), many(named));
        let of_named = usize::try_from(named).unwrap().div_ceil(1_000);
        // The first one reads the rules, and the second one lists the repositories.
        for _ in 0..2 {
            assert_eq!(reconcile(&function).await.1, of_named + 1);
        }
        tokio::time::advance(Duration::from_mins(2)).await;
        function.account().image_repositories_created.set(epoch_millis(function.account().now()));
        function.account().images.borrow_mut().insert("lib/api".to_owned(), many(new));
        // One finds the new repository, and the next one reads the rules.
        for _ in 0..2 {
            let (outcomes, calls) = reconcile(&function).await;
            assert!(outcomes.contains(&Ignored) && !outcomes.contains(&Baseline), "{outcomes:?}");
            assert_eq!(calls, of_named + 1);
        }
        let (outcomes, calls) = reconcile(&function).await;
        assert!(outcomes.contains(&Baseline), "{outcomes:?}");
        assert_eq!((calls, of_named + 1 + usize::try_from(new).unwrap().div_ceil(1_000)), (11, 11));
    }
}

/// ECR creates the repository of a cache at its first pull, so a rule that nobody has read shows in a new repository.
#[tokio::test(start_paused = true)]
async fn the_rules_about_caches_are_read_again_for_a_new_repository_and_after_an_hour() {
    let function = Function::with(&route("image = \"**\"\ntags = [\"**\"]\nexisting = \"relay\""));
    push(&function, image(1, &["v1"]));
    // The calls that read the rules, those that list the repositories, and those that read the images of the repository
    // that becomes a cache.
    let reads = async || {
        tokio::time::advance(Duration::from_mins(5)).await;
        function.file("schedule").await.unwrap();
        let calls = function.calls();
        let count = |wanted: &str| calls.iter().filter(|call| **call == wanted).count();
        ["DescribePullThroughCacheRules", "DescribeRepositories", "DescribeImages hub/nginx"].map(count)
    };
    let (rules, list, look) = ([1, 0, 0], [0, 1, 0], [0, 1, 1]);
    assert_eq!([reads().await, reads().await], [rules, list]);

    // Somebody makes a rule, and pulls an image through it.
    function.account().cache_prefixes.borrow_mut().insert("hub".to_owned());
    function.account().images.borrow_mut().insert("hub/nginx".to_owned(), vec![image(2, &["v1"])]);
    function.account().image_repositories_created.set(epoch_millis(function.account().now()));
    assert_eq!([reads().await, reads().await, reads().await], [list, rules, list]);

    // A further repository of a known cache needs no rules.
    function.account().images.borrow_mut().insert("hub/redis".to_owned(), vec![image(3, &["v1"])]);
    function.account().images.borrow_mut().remove("shop");
    function.account().image_repositories_created.set(epoch_millis(function.account().now()));
    assert_eq!([reads().await, reads().await], [list, list]);

    // Somebody deletes the rule. This is noticed when the rules are an hour old.
    function.account().image_repositories_created.set(0);
    function.account().cache_prefixes.borrow_mut().clear();
    let mut until_read = 0;
    while reads().await == list {
        until_read += 1;
    }
    assert_eq!((until_read, reads().await), (8, look));
}

/// Nobody knows yet whether the new repository is a cache, and a route names it literally.
#[tokio::test(start_paused = true)]
async fn a_new_repository_that_may_be_a_cache_is_not_looked_at_for_another_route_either() {
    let glob = route("image = \"**\"\ntags = [\"**\"]\nexisting = \"relay\"");
    let literal = route("image = \"hub/nginx\"\ntags = [\"v1\"]").replace("pipeline = \"shop\"", "pipeline = \"web\"");
    let function = Function::with(&(glob + &literal));
    reconcile(&function).await;
    reconcile(&function).await;
    function.account().cache_prefixes.borrow_mut().insert("hub".to_owned());
    function.account().images.borrow_mut().insert("hub/nginx".to_owned(), vec![image(1, &["v1"])]);
    function.account().image_repositories_created.set(epoch_millis(function.account().now()));
    let mut accepted = Vec::new();
    for _ in 0..3 {
        reconcile(&function).await;
        accepted.push(function.accepted().into_iter().map(|(_, event)| event.pipelines.concat()).collect::<Vec<_>>());
    }
    assert_eq!(accepted[0], [""; 0]);
    // Its target has not reported, so the order is offered again.
    assert_eq!(accepted[1..].concat(), ["web", "web"], "only the route that names the cache leads to a pipeline");
}
