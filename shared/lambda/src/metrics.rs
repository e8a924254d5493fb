//! Metrics in CloudWatch's embedded metric format: CloudWatch turns a log line into metrics, so no API call is needed.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use sekisho_domain::decision::Decision;
use sekisho_domain::timestamp;

/// The namespace of all metrics.
const NAMESPACE: &str = "Sekisho";
/// The only dimension: the function's name.
const DIMENSION: &str = "Function";

/// Writes counts under the dimension `Function`. Writes nothing if there are no counts.
pub fn count(function: &str, counts: &BTreeMap<String, u64>) {
    if counts.is_empty() {
        return;
    }
    let definitions: Vec<Value> = counts.keys().map(|name| json!({"Name": name, "Unit": "Count"})).collect();
    let mut line = Map::new();
    line.insert(
        "_aws".into(),
        json!({
            "Timestamp": timestamp::epoch_millis(crate::now()),
            "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [[DIMENSION]], "Metrics": definitions}],
        }),
    );
    line.insert(DIMENSION.into(), function.into());
    line.extend(counts.iter().map(|(name, count)| (name.clone(), Value::from(*count))));
    crate::telemetry::write_object(&line);
}

/// Counts decisions by outcome: one metric for each outcome that occurred, named after the outcome.
pub(crate) fn count_outcomes<O: Serialize>(function: &str, decisions: &[Decision<O>]) {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for decision in decisions {
        if let Ok(Value::String(outcome)) = serde_json::to_value(&decision.outcome) {
            *counts.entry(outcome).or_default() += 1;
        }
    }
    count(function, &counts);
}
