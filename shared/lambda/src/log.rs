//! Kept until all functions log through `tracing`.

use sekisho_domain::decision::Decision;
use serde::Serialize;

use crate::environment::Environment;

/// Level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Debug.
    Debug,
    /// Info.
    Info,
    /// Warn.
    Warn,
    /// Error.
    Error,
}

/// Start.
pub fn start(environment: &Environment) {
    crate::telemetry::start(environment);
}

/// Off.
pub fn off() {}

/// Line.
pub fn line(_: Level, message: &str, fields: &impl Serialize) {
    tracing::warn!(fields.json = serde_json::to_string(fields).unwrap_or_default(), "{message}");
}

/// Decisions.
pub fn decisions<O: Serialize>(_: &str, decisions: &[Decision<O>]) {
    for decision in decisions {
        tracing::info!(decision.json = serde_json::to_string(decision).unwrap_or_default(), "decision");
    }
}
