//! A route with three waves, and the targets that report on its orders.

use std::cell::Cell;
use std::time::Duration;

use event_relay::Error;
use event_relay::train::{self, TrainRow};
use event_relay::world::World;
use futures_util::FutureExt;
use sekisho_domain::order::OrderKind;
use sekisho_lambda::Failure;
use sekisho_ledger::{Memory, Store};
use serde_json::{Value, json};

use crate::function::{Function, commit, file};
use crate::targets::{report, target_row};

/// The targets of the route, in the order of the waves.
pub const ONE_BOX: &str = "222222222222/ap-northeast-1/shop";
pub const TOKYO: [&str; 2] = ["333333333333/ap-northeast-1/shop", "444444444444/ap-northeast-1/shop"];
pub const WORLD: &str = "333333333333/us-east-1/shop";

/// The waves `one-box`, `tokyo` and `world`, without bakes.
pub const TRAIN: &str = r#"
[[route]]
name = "shop"
repository = "shop"
branches = ["main", "hotfix"]
existing = "relay"
[[route.wave]]
name = "one-box"
[[route.wave.target]]
account = "222222222222"
region = "ap-northeast-1"
pipeline = "shop"
action = "Source"
[[route.wave]]
name = "tokyo"
[[route.wave.target]]
accounts = ["333333333333", "444444444444"]
region = "ap-northeast-1"
pipeline = "shop"
action = "Source"
[[route.wave]]
name = "world"
[[route.wave.target]]
account = "333333333333"
region = "us-east-1"
pipeline = "shop"
action = "Source"
"#;

/// The function with the route [`TRAIN`].
pub struct Train {
    pub function: Function,
    reports: Cell<u64>,
}

impl Train {
    pub fn new() -> Self {
        Self::with(TRAIN)
    }

    pub fn with(config: &str) -> Self {
        let function = Function::with(config);
        function.account().branches.replace(Some(std::collections::BTreeMap::new()));
        Self { function, reports: Cell::new(0) }
    }

    /// Moves `main` to the n-th commit.
    pub async fn push(&self, n: u64) {
        self.push_to("main", n).await;
    }

    pub async fn push_to(&self, branch: &str, n: u64) {
        self.wait(Duration::from_secs(1)).await;
        self.function.point(branch, Some(commit(n)));
        let event = file("branch-created").replace("refs/heads/main", &format!("refs/heads/{branch}"));
        let event = event.replace(r#""referenceName": "main""#, &format!(r#""referenceName": "{branch}""#));
        self.function.handle(&event).await.unwrap();
    }

    pub async fn wait(&self, time: Duration) {
        self.function.account().sleep(time).await;
    }

    pub async fn reconcile(&self) {
        self.function.file("schedule").await.unwrap();
    }

    /// Lets a target report on its current order.
    pub async fn report(&self, target: &str, state: &str) {
        self.report_with(target, state, &json!({})).await;
    }

    /// Lets a target report on its current order, with these fields.
    pub async fn report_with(&self, target: &str, state: &str, fields: &Value) {
        self.wait(Duration::from_secs(1)).await;
        self.reports.set(self.reports.get() + 1);
        let row = target_row(self.function.account(), target).unwrap_or_else(|| panic!("{target} has no order"));
        let mut event = report(target, &row, state, 0);
        let at = self.function.account().now();
        event["detail"]["at"] = json!(sekisho_domain::timestamp::millis(at));
        event["detail"]["reason"] = json!(format!("reason {state}"));
        for (name, value) in fields.as_object().unwrap() {
            event["detail"][name] = value.clone();
        }
        event["id"] = json!(self.reports.get().to_string());
        self.function.handle(&event.to_string()).await.unwrap();
    }

    /// Lets all targets of all waves report that the n-th commit, which was pushed last, is healthy.
    pub async fn healthy_everywhere(&self, n: u64) {
        self.push(n).await;
        for target in [ONE_BOX, TOKYO[0], TOKYO[1], WORLD] {
            assert_eq!(self.order(target), Some((n, OrderKind::Deploy)), "{target}");
            self.report(target, "healthy").await;
        }
    }

    /// The number of the commit and the kind of a target's current order.
    pub fn order(&self, target: &str) -> Option<(u64, OrderKind)> {
        let order = target_row(self.function.account(), target)?.order?;
        let number = u64::from_str_radix(order.change.revision.digits(), 16).unwrap();
        Some((number, order.kind))
    }

    pub async fn ask(&self, request: &Value) -> Result<String, Error> {
        self.wait(Duration::from_secs(1)).await;
        self.function.ask(&request.to_string()).await
    }

    /// The answer to a request that succeeds.
    pub async fn answer(&self, request: Value) -> String {
        self.ask(&request).await.unwrap_or_else(|error| panic!("{request}: {error}"))
    }

    /// The error type and the message of a request that fails.
    pub async fn error(&self, request: Value) -> (&'static str, String) {
        match self.ask(&request).await {
            Err(error) => (error.error_type().name(), error.to_string()),
            Ok(answer) => panic!("{request}: {answer}"),
        }
    }

    pub fn row(&self) -> TrainRow {
        let memory: &Memory = &self.function.account().ledger;
        let row = memory.read::<TrainRow>(&train::key("shop")).now_or_never().unwrap().unwrap();
        row.map(|row| row.state).unwrap_or_default()
    }

    /// The outcomes of the stored decisions that are about a request or the train.
    pub fn outcomes(&self) -> Vec<String> {
        let decisions = self.function.stored_decisions();
        decisions.iter().filter_map(|decision| Some(decision["outcome"].as_str()?.to_owned())).collect()
    }

    /// The codes in the notices so far, each with the kind of its notice.
    pub fn codes(&self) -> Vec<(String, String)> {
        let notices = self.function.account().notices.borrow();
        notices.iter().map(|notice| (notice.context["train"].clone(), notice.context["code"].clone())).collect()
    }
}

/// A request about the route `shop`.
pub fn request(action: &str, mut more: Value) -> Value {
    (more["action"], more["route"]) = (json!(action), json!("shop"));
    more
}

/// A request about a wave, with a reason.
pub fn about(action: &str, wave: &str) -> Value {
    request(action, json!({"wave": wave, "reason": "why not"}))
}
