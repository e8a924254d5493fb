//! Values that a log line contains as nested JSON. The name of such a field ends in `.json`.

use sekisho_domain::decision::Decision;
use serde::Serialize;
use tracing::info;

use crate::outcome::Outcome;

/// The JSON text of a value.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Logs a decision without counting it. A sweep counts all outcomes when it is done.
pub(crate) fn decision(decision: &Decision<Outcome>) {
    info!(decision.json = json(decision), "decision");
}

/// Logs the decision of a dry run. The alarm for findings counts the lines with the message `decision`, so a dry run,
/// which raises no alarm, logs another message.
pub(crate) fn planned(decision: &Decision<Outcome>) {
    info!(would.json = json(decision), "dry run");
}
