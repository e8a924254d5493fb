//! People get a notice about each failure, also if a retried stage fails again.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Broken;
use crate::history::History;
use crate::lambda::Function;
use crate::operator::{IMAGES, PAIR};

/// The pipelines to which every configuration has a route, each with its place. For the other pipelines, the account may
/// not have had a route when the event arrived.
const ALWAYS_ROUTED: [(usize, &str); 6] = [(0, "all"), (0, "shelf"), (0, IMAGES), (1, "both"), (1, "tags"), (1, PAIR)];

/// Checks that at least as many notices about an execution were sent as failures were reported to pipeline-starter.
pub(crate) fn are_sent(history: &History) -> Result<(), Broken> {
    let mut failures: BTreeMap<(usize, String, String), BTreeSet<u64>> = BTreeMap::new();
    for (function, _, payload) in &history.lambda.succeeded {
        let Function::Starter(place) = *function else { continue };
        if !payload.contains("\"FAILED\"") {
            continue;
        }
        let event: Value = serde_json::from_str(payload).map_err(|error| Broken::of(&error))?;
        let text = |field: &str| event["detail"][field].as_str().unwrap_or_default().to_owned();
        let attempt = event["detail"]["pipeline-execution-attempt"].as_u64().unwrap_or_default();
        failures.entry((place, text("pipeline"), text("execution-id"))).or_default().insert(attempt);
    }
    for ((place, pipeline, id), attempts) in failures {
        let state = &history.cloud.places[place];
        let is_source =
            state.codepipeline.execution(&pipeline, &id).is_some_and(|execution| execution.failed_in_source());
        // The failures in a source action of one order are told once.
        if is_source || !ALWAYS_ROUTED.contains(&(place, pipeline.as_str())) {
            continue;
        }
        let path = format!("/executions/{id}/");
        let sent = state.notices.borrow().iter().filter(|link| link.contains(&path)).count();
        if sent < attempts.len() {
            let count = attempts.len();
            return Err(Broken(format!("{pipeline}: {sent} notices about the {count} failures of execution {id}")));
        }
    }
    Ok(())
}
