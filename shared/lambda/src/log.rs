//! The log: one JSON object a line, with `timestamp` and `level` as Lambda's JSON format reads them.
//!
//! Written here and not through `tracing`, whose JSON writer turns a nested value into a quoted string, in which
//! neither metric filters nor Logs Insights find a decision's fields.

use std::sync::OnceLock;

use sekisho_domain::decision::Decision;
use sekisho_domain::timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::environment::{Environment, LOG_LEVEL};

/// How much a line matters, in rising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For whoever looks for a fault.
    Debug,
    /// What was done.
    Info,
    /// What somebody should look at some day.
    Warn,
    /// What failed.
    Error,
    /// Above everything.
    Off,
}

static LOWEST: OnceLock<Level> = OnceLock::new();

/// Sets the lowest level that is written, from [`LOG_LEVEL`]; a level that nobody knows is said, and means `INFO`.
pub fn start(environment: &Environment) {
    let name = environment.optional(LOG_LEVEL).unwrap_or("INFO").to_ascii_uppercase();
    let (level, known) = match name.as_str() {
        "TRACE" | "DEBUG" => (Level::Debug, true),
        "INFO" => (Level::Info, true),
        "WARN" => (Level::Warn, true),
        "ERROR" | "FATAL" => (Level::Error, true),
        _ => (Level::Info, false),
    };
    // A second start in one process (tests) keeps the first level.
    let _ = LOWEST.set(level);
    if !known {
        line(
            Level::Warn,
            "unknown log level, INFO is used",
            &serde_json::json!({ "variable": LOG_LEVEL, "value": name }),
        );
    }
}

/// Writes nothing at all, metrics included: for tests of many thousand invocations.
pub fn off() {
    let _ = LOWEST.set(Level::Off);
}

/// Writes an object as it is, unless the log is off.
pub(crate) fn raw(object: &Map<String, Value>) {
    if LOWEST.get() != Some(&Level::Off) {
        println!("{}", serde_json::to_string(object).unwrap_or_default());
    }
}

/// Writes a line; `fields` is an object whose entries stand beside `timestamp`, `level` and `message`.
pub fn line(level: Level, message: &str, fields: &impl Serialize) {
    if level < *LOWEST.get().unwrap_or(&Level::Info) {
        return;
    }
    let mut object = Map::new();
    object.insert("timestamp".into(), timestamp::millis(crate::now()).into());
    object.insert("level".into(), level.name().into());
    object.insert("message".into(), message.into());
    match serde_json::to_value(fields) {
        Ok(Value::Object(fields)) => object.extend(fields),
        Ok(Value::Null) => {}
        Ok(other) => drop(object.insert("value".into(), other)),
        Err(error) => drop(object.insert("unwritable".into(), error.to_string().into())),
    }
    raw(&object);
}

/// Writes each decision as one line: `"decision": {"outcome": …, "reason": …, …}`.
pub fn decisions<O: Serialize>(request_id: &str, decisions: &[Decision<O>]) {
    #[derive(Serialize)]
    struct Fields<'a, O> {
        #[serde(rename = "requestId")]
        request_id: &'a str,
        decision: &'a Decision<O>,
    }
    for decision in decisions {
        line(Level::Info, "decision", &Fields { request_id, decision });
    }
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
            Self::Off => "OFF",
        }
    }
}
