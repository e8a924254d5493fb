//! Orders: what event-relay tells a target to run.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bake::BakeTime;

/// The purpose of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderKind {
    /// Run a new change.
    Deploy,
    /// Run a change that was healthy before.
    Rollback,
}

/// An order to one target. The relayed event holds the change to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The order's number. It is larger than the number of every earlier order to the same target, whatever the
    /// branches or tags of the orders are.
    pub number: u64,
    /// The purpose.
    pub kind: OrderKind,
    /// The least time for which the target bakes. An order of a wave always has it, and no other order does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake: Option<BakeTime>,
    /// Whether a person let the change enter its wave ahead of the train. The order then starts although an alarm
    /// rings.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub promoted: bool,
}

impl Order {
    /// An order of kind `deploy` that belongs to no wave.
    #[must_use]
    pub fn deploy(number: u64) -> Self {
        Self::outside_waves(number, OrderKind::Deploy)
    }

    /// An order that belongs to no wave.
    #[must_use]
    pub fn outside_waves(number: u64, kind: OrderKind) -> Self {
        Self { number, kind, bake: None, promoted: false }
    }

    /// Reads an order as the relayed event has it. Unknown fields are ignored.
    ///
    /// # Errors
    /// The text says which field is wrong.
    pub(crate) fn parse(value: &Value) -> Result<Self, String> {
        if !value.is_object() {
            return Err("not an object".to_owned());
        }
        serde_path_to_error::deserialize(value).map_err(|error| format!("{}: {}", error.path(), error.inner()))
    }

    /// The number of an order that [`Order::parse`] rejects, if the order has a readable number. The receiver needs the
    /// number to report that it refuses the order.
    #[must_use]
    pub fn number_of(value: &Value) -> Option<u64> {
        value.get("number").and_then(Value::as_u64)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_order_can_be_read_whatever_a_later_version_adds() {
        let read = |value| Order::parse(&value);
        assert_eq!(read(json!({"number": 7, "kind": "deploy"})), Ok(Order::deploy(7)));
        let later = json!({"number": 7, "kind": "rollback", "speed": "30m"});
        assert_eq!(read(later), Ok(Order::outside_waves(7, OrderKind::Rollback)));
    }

    #[test]
    fn an_order_of_a_wave_has_its_bake_and_an_order_without_one_is_written_as_before() {
        let written = |order: Order| serde_json::to_value(order).unwrap();
        assert_eq!(written(Order::deploy(7)), json!({"number": 7, "kind": "deploy"}));
        let order = Order { bake: Some("30m".parse().unwrap()), promoted: true, ..Order::deploy(7) };
        assert_eq!(written(order), json!({"number": 7, "kind": "deploy", "bake": "30m", "promoted": true}));
        assert_eq!(Order::parse(&written(order)), Ok(order));
        let none = Order { bake: Some(BakeTime::NONE), promoted: false, ..order };
        assert_eq!(written(none), json!({"number": 7, "kind": "deploy", "bake": "0s"}));
        assert_eq!(Order::parse(&written(none)), Ok(none));
    }

    #[test]
    fn a_malformed_order_names_its_field() {
        for (value, field) in [
            (json!([7, "deploy"]), "object"),
            (json!({"kind": "deploy"}), "number"),
            (json!({"number": -1, "kind": "deploy"}), "number"),
            (json!({"number": 7}), "kind"),
            (json!({"number": 7, "kind": "retreat"}), "kind"),
            (json!({"number": 7, "kind": "deploy", "bake": "soon"}), "bake"),
            (json!({"number": 7, "kind": "deploy", "bake": 30}), "bake"),
            (json!({"number": 7, "kind": "deploy", "promoted": "yes"}), "promoted"),
        ] {
            let reason = Order::parse(&value).unwrap_err();
            assert!(reason.contains(field), "{value}: {reason}");
        }
        assert_eq!(Order::number_of(&json!({"number": 7, "kind": "retreat"})), Some(7));
        assert_eq!(Order::number_of(&json!({"number": "7"})), None);
    }
}
