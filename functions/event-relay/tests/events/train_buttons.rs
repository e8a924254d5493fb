//! People who press every button at the wrong time: every request in every state of a train is answered sensibly,
//! breaks no rule, and leaves a train that a person can bring to its end.

use std::collections::BTreeMap;
use std::time::Duration;

use sekisho_domain::order::OrderKind;
use serde_json::{Value, json};

use crate::function::commit;
use crate::targets::target_row;
use crate::trains::{ONE_BOX, TOKYO, Train, WORLD, about, request};

const TARGETS: [&str; 4] = [ONE_BOX, TOKYO[0], TOKYO[1], WORLD];

/// The states in which the buttons are pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Empty,
    Entered,
    Running,
    Waiting,
    Unknown,
    Failed,
    RolledBack,
    RollingBack,
    SentBack,
    SomeHealthy,
    Healthy,
    HeldTrain,
    HeldWave,
    Promoted,
    Pardoned,
    Silent,
}

const STATES: [State; 16] = [
    State::Empty,
    State::Entered,
    State::Running,
    State::Waiting,
    State::Unknown,
    State::Failed,
    State::RolledBack,
    State::RollingBack,
    State::SentBack,
    State::SomeHealthy,
    State::Healthy,
    State::HeldTrain,
    State::HeldWave,
    State::Promoted,
    State::Pardoned,
    State::Silent,
];

/// Brings a train into a state of the wave `tokyo`. The second commit is the one that is under way.
async fn brought_to(state: State) -> Train {
    let train = Train::new();
    if state == State::Empty {
        return train;
    }
    train.healthy_everywhere(1).await;
    train.push(2).await;
    if state == State::HeldTrain {
        train.answer(request("hold", json!({"reason": "freeze"}))).await;
    }
    train.report(ONE_BOX, "healthy").await;
    let reports: &[&str] = match state {
        State::Running => &["running"],
        State::Waiting => &["waiting"],
        State::Unknown => &["running", "unknown"],
        State::Failed | State::Pardoned => &["failed"],
        State::RolledBack => &["rolling-back", "rolled-back"],
        State::RollingBack => &["rolling-back"],
        State::SomeHealthy | State::Healthy => &["healthy"],
        _ => &[],
    };
    for report in reports {
        train.report(TOKYO[0], report).await;
    }
    match state {
        State::Healthy => train.report(TOKYO[1], "healthy").await,
        State::SentBack => drop(train.answer(about("rollback", "tokyo")).await),
        State::HeldWave => drop(train.answer(about("hold", "tokyo")).await),
        State::Promoted => {
            let promote = request("promote", json!({"wave": "world", "revision": commit(2), "reason": "urgent"}));
            train.answer(promote).await;
        }
        State::Pardoned => {
            train.answer(request("pardon", json!({"revision": commit(2), "reason": "flaky"}))).await;
        }
        State::Silent => {
            train.wait(Duration::from_hours(3)).await;
            train.reconcile().await;
        }
        _ => {}
    }
    train
}

/// Every request: for each wave, revision and code of a notice so far.
fn requests(train: &Train) -> Vec<Value> {
    let mut requests = vec![
        json!({"train": "shop"}),
        request("hold", json!({"reason": "r"})),
        request("hold", json!({"reason": "r", "ref": "main", "minutes": 5})),
        request("resume", json!({})),
        json!({"hold": "ABCD2345", "reason": "r"}),
    ];
    for wave in ["one-box", "tokyo", "world"] {
        requests.extend(["hold", "resume", "accept", "rollback"].map(|action| about(action, wave)));
        for n in 1..=3 {
            requests.push(request("promote", json!({"wave": wave, "revision": commit(n), "reason": "r"})));
        }
    }
    requests.extend((1..=3).map(|n| request("pardon", json!({"revision": commit(n), "reason": "r"}))));
    for (_, code) in train.codes() {
        for action in ["hold", "resume", "accept", "pardon", "rollback"] {
            let mut request = json!({"reason": "r"});
            request[action] = json!(code);
            requests.push(request);
        }
    }
    requests
}

/// The number of each target's order.
fn numbers(train: &Train) -> BTreeMap<&'static str, u64> {
    let number = |target: &'static str| Some((target, target_row(train.function.account(), target)?.number));
    TARGETS.into_iter().filter_map(number).collect()
}

/// Sends a request, and checks what must hold whatever the state is.
async fn press(train: &Train, request: &Value, context: &str) {
    let (row, orders) = (train.row(), numbers(train));
    let answer = match train.ask(request).await {
        Ok(answer) => answer,
        Err(error) => {
            let kind = sekisho_lambda::Failure::error_type(&error).name();
            assert!(["NotFound", "Refused", "InvalidRequest"].contains(&kind), "{context}: {kind}: {error}");
            assert_eq!((train.row(), numbers(train)), (row, orders), "{context}: a refused request changes nothing");
            return;
        }
    };
    assert!(!answer.trim().is_empty() && answer.chars().count() < 1_000, "{context}: {answer}");
    for (target, number) in numbers(train) {
        assert!(number >= orders.get(target).copied().unwrap_or(0), "{context}: the number of {target} fell");
    }
    for target in TARGETS {
        let Some(placed) = target_row(train.function.account(), target).and_then(|row| row.order) else { continue };
        let is_new = orders.get(target).is_none_or(|number| placed.number > *number);
        let is_condemned = train.row().condemnation(&placed.change).is_some();
        let is_deploy = placed.kind == OrderKind::Deploy;
        assert!(!(is_new && is_deploy && is_condemned), "{context}: {target} was ordered to run a condemned change");
    }
}

/// Lets every target answer what it is asked, and people end what they began, until nothing moves any more.
async fn finish(train: &Train, newest: u64, context: &str) {
    for wave in [None, Some("one-box"), Some("tokyo"), Some("world")] {
        train.answer(request("resume", json!({"wave": wave}))).await;
    }
    train.push(newest).await;
    let mut answered = BTreeMap::new();
    // Each round moves the train by a wave, or ends what was under way when the buttons were pressed.
    for _ in 0..8 {
        for target in TARGETS {
            let Some((_, kind)) = train.order(target) else { continue };
            let number = numbers(train).get(target).copied();
            if answered.insert(target, number) != Some(number) {
                train.report(target, if kind == OrderKind::Deploy { "healthy" } else { "rolled-back" }).await;
            }
        }
        train.reconcile().await;
        if TARGETS.iter().all(|target| train.order(target) == Some((newest, OrderKind::Deploy))) {
            break;
        }
    }
    for target in TARGETS {
        assert_eq!(train.order(target), Some((newest, OrderKind::Deploy)), "{context}: {target}: {:?}", train.row());
    }
    train.report(WORLD, "healthy").await;
    let shown = train.answer(json!({"train": "shop"})).await;
    assert!(!shown.contains("wait"), "{context}: {shown}");
}

#[tokio::test(start_paused = true)]
async fn each_request_in_each_state_is_answered_and_the_train_can_still_end() {
    for state in STATES {
        let count = requests(&brought_to(state).await).len();
        for index in 0..count {
            let train = brought_to(state).await;
            let request = requests(&train).swap_remove(index);
            let context = format!("{state:?}: {request}");
            press(&train, &request, &context).await;
            press(&train, &request, &format!("{context} again")).await;
            finish(&train, 9, &context).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_button_after_every_other_one_leaves_a_train_that_can_end() {
    for state in STATES {
        let train = brought_to(state).await;
        let mut seed = 7_usize;
        for step in 0..60 {
            let requests = requests(&train);
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let request = &requests[(seed >> 33) % requests.len()];
            press(&train, request, &format!("{state:?}, step {step}: {request}")).await;
        }
        finish(&train, 9, &format!("{state:?}")).await;
    }
}
