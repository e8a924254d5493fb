//! A held route gets waves or loses them, and a hold that ends while a target reports.

use std::time::Duration;

use sekisho_domain::order::OrderKind::Deploy;
use serde_json::{Value, json};

use crate::function::routes;
use crate::trains::{ONE_BOX, TOKYO, TRAIN, Train, WORLD, about, request};

/// The route of [`TRAIN`] without waves.
fn plain() -> String {
    let without_names = TRAIN.lines().filter(|line| !line.starts_with("[[route.wave]]") && !is_name_of_wave(line));
    without_names.collect::<Vec<_>>().join("\n").replace("[[route.wave.target]]", "[[route.target]]")
}

fn is_name_of_wave(line: &str) -> bool {
    ["one-box", "tokyo", "world"].iter().any(|wave| line == format!("name = \"{wave}\""))
}

fn set_routes(train: &mut Train, config: &str) {
    train.function.relay.routes = routes(config);
}

/// All targets of a route without waves have the first commit.
async fn without_waves(config: &str, targets: &[&str]) -> Train {
    let train = Train::with(config);
    train.push(1).await;
    for target in targets {
        assert_eq!(train.order(target), Some((1, Deploy)), "{target}");
        train.report(target, "healthy").await;
    }
    train
}

fn hold() -> Value {
    request("hold", json!({"reason": "incident 7"}))
}

fn resume() -> Value {
    request("resume", json!({}))
}

#[tokio::test(start_paused = true)]
async fn a_held_route_that_gets_its_waves_back_is_a_held_train() {
    let mut train = Train::new();
    train.healthy_everywhere(1).await;
    set_routes(&mut train, &plain());
    train.answer(hold()).await;
    let waves = train.row().waves;
    assert_eq!((waves.len(), waves[0].healthy.len()), (3, 1), "the waves keep their state while they are gone");
    set_routes(&mut train, TRAIN);
    train.push(2).await;
    assert_eq!(train.order(ONE_BOX), Some((1, Deploy)));
    let shown = train.answer(json!({"train": "shop"})).await;
    assert!(shown.contains("The train is held until `resume`: incident 7"), "{shown}");
    assert!(train.answer(resume()).await.starts_with("shop is no longer held: incident 7."));
    assert_eq!((train.order(ONE_BOX), train.order(WORLD)), (Some((2, Deploy)), Some((1, Deploy))));
}

#[tokio::test(start_paused = true)]
async fn the_holds_of_a_train_hold_the_route_when_its_waves_are_gone() {
    let mut train = Train::new();
    train.healthy_everywhere(1).await;
    train.answer(about("hold", "world")).await;
    set_routes(&mut train, &plain());
    train.push(2).await;
    train.reconcile().await;
    assert_eq!(train.order(ONE_BOX), Some((1, Deploy)));
    let shown = train.answer(json!({"train": "shop"})).await;
    assert!(shown.contains("The route is held until `resume`: why not"), "{shown}");
    assert!(train.answer(resume()).await.starts_with("shop is no longer held: why not."));
    train.reconcile().await;
    assert_eq!((train.order(ONE_BOX), train.order(WORLD)), (Some((2, Deploy)), Some((2, Deploy))));
}

/// Nobody looks at the train between the deployment of the waves and the request.
#[tokio::test(start_paused = true)]
async fn a_request_before_the_first_look_at_a_new_train_keeps_the_hold_and_finds_the_newcomers() {
    let added = TOKYO[1].split('/').next().unwrap();
    let before = plain().replace(&format!(", \"{added}\""), "");
    let mut train = without_waves(&before, &[ONE_BOX, TOKYO[0], WORLD]).await;
    train.answer(hold()).await;
    set_routes(&mut train, TRAIN);
    train.answer(about("hold", "world")).await;
    assert_eq!(train.row().holds.len(), 2);
    train.push(2).await;
    assert_eq!((train.order(ONE_BOX), train.order(TOKYO[1])), (Some((1, Deploy)), None));
    train.answer(resume()).await;
    assert_eq!(train.order(ONE_BOX), Some((2, Deploy)));
    assert_eq!(train.order(TOKYO[1]), Some((1, Deploy)), "the newcomer gets what was healthy last in its wave");
}

#[tokio::test(start_paused = true)]
async fn resume_before_the_first_look_at_a_new_train_ends_the_hold() {
    let mut train = without_waves(&plain(), &[ONE_BOX, TOKYO[0], TOKYO[1], WORLD]).await;
    train.answer(hold()).await;
    set_routes(&mut train, TRAIN);
    assert!(train.answer(resume()).await.starts_with("shop is no longer held: incident 7."));
    train.push(2).await;
    assert_eq!((train.order(ONE_BOX), train.order(WORLD)), (Some((2, Deploy)), Some((1, Deploy))));
}

/// The hold begins without waves and ends with them. Then the waves are taken out again.
#[tokio::test(start_paused = true)]
async fn a_hold_that_ended_as_the_hold_of_a_train_does_not_come_back() {
    let mut train = without_waves(&plain(), &[ONE_BOX, TOKYO[0], TOKYO[1], WORLD]).await;
    train.answer(hold()).await;
    set_routes(&mut train, TRAIN);
    train.reconcile().await;
    train.answer(resume()).await;
    set_routes(&mut train, &plain());
    train.push(2).await;
    for target in [ONE_BOX, TOKYO[0], TOKYO[1], WORLD] {
        assert_eq!(train.order(target), Some((2, Deploy)), "{target}");
    }
}

/// The report comes before, during or after the request: each call takes 10 ms, so the calls of the two invocations
/// follow each other in many orders. Nobody looks at the train afterwards.
#[tokio::test(start_paused = true)]
async fn a_change_enters_a_wave_whenever_its_report_comes_while_the_hold_ends() {
    for delay in (0..400).step_by(3).map(Duration::from_millis) {
        let train = Train::new();
        train.healthy_everywhere(1).await;
        train.answer(about("hold", "tokyo")).await;
        train.push(2).await;
        train.function.set_call_time(Duration::from_millis(10));
        let resumed = async {
            train.wait(Duration::from_millis(200)).await;
            train.answer(request("resume", json!({"wave": "tokyo"}))).await
        };
        let reported = async {
            train.wait(delay).await;
            train.report(ONE_BOX, "healthy").await;
        };
        let (answer, ()) = tokio::join!(resumed, reported);
        assert_eq!(train.order(TOKYO[0]), Some((2, Deploy)), "{delay:?}: {answer}");
    }
}
