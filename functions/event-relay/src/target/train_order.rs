//! What an order of a wave has besides other orders, and how far a target is with it.

use sekisho_domain::bake::BakeTime;
use sekisho_domain::change::Change;
use sekisho_domain::order::{Order, OrderKind};
use serde::{Deserialize, Serialize};

/// What the order of a wave has besides other orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainOrder {
    /// The route's name.
    pub route: String,
    /// Which change of the train is deployed or, for an order of kind `rollback`, taken back.
    pub seen: u64,
    /// The time for which the target bakes.
    pub bake: BakeTime,
    /// Whether a person promoted the change.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub promoted: bool,
    /// Whether a person takes the target for healthy while it is unknown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accepted: bool,
    /// Whether the order was placed because the target joined the wave. It changes no verdict on the change.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub joined: bool,
}

/// What became of a route's order that another route's order replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// Which change of the train was ordered or taken back.
    pub seen: u64,
    /// The sequence of the order's change.
    pub sequence: u64,
    /// How the order ended.
    pub state: FinishedState,
    /// Whether the target had joined the wave when the order was placed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub joined: bool,
    /// The change that was healthy in the target before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Change>,
}

/// How an order ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FinishedState {
    /// The change was healthy, or a person took it for healthy.
    Healthy,
    /// The change failed, or the target went back by itself.
    Failed,
    /// The target was sent back.
    SentBack,
}

/// How far a target is with its current order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The target said that it has not started the order.
    Waiting,
    /// The target works on the order, or has not answered yet.
    Running,
    /// The target goes back, by itself or because the order says so.
    GoingBack,
    /// The change is healthy, or a person takes it for healthy.
    Healthy,
    /// The change failed, or the target went back by itself.
    Failed,
    /// The target went back because the order said so, or it refused an order that is withdrawn or did not answer it for
    /// two hours. A rollback that failed counts, too: nothing follows it.
    SentBack,
    /// Nobody can tell how the order ended, or the target has been silent for too long.
    Unknown,
}

impl Progress {
    /// Whether the order needs nothing more, neither a report nor a person.
    pub(crate) fn is_settled(self) -> bool {
        matches!(self, Self::Healthy | Self::Failed | Self::SentBack)
    }
}

/// The order of a wave, as the relayed event has it.
pub(crate) fn order_of_wave(number: u64, kind: OrderKind, train: &TrainOrder) -> Order {
    Order { number, kind, bake: Some(train.bake), promoted: train.promoted }
}
