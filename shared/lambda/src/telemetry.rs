//! The log: one JSON object per line, with `timestamp` and `level` where Lambda's JSON log format expects them.
//!
//! `tracing` collects events and spans, and tracing-subscriber's registry keeps the spans' fields. The formatter is
//! ours: tracing-subscriber's JSON formatter writes a nested value as a quoted string, in which neither metric filters
//! nor Logs Insights find the fields of a decision.

use std::fmt;
use std::io::Write as _;

use sekisho_domain::decision::Decision;
use sekisho_domain::timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Scope};

use crate::environment::{Environment, LOG_LEVEL, SECRET_KEY, SESSION_TOKEN};
use crate::metrics;

/// A field whose name has this suffix holds JSON text, and is written as a nested value without the suffix.
const NESTED: &str = ".json";

/// Sends all `tracing` events of this process to the log. [`LOG_LEVEL`] sets the lowest level that is written.
///
/// An unknown level is reported in the log, and `INFO` is used instead. A second call in one process has no effect.
pub fn start(environment: &Environment) {
    let name = environment.optional(LOG_LEVEL).unwrap_or("INFO").to_ascii_uppercase();
    let known = level(&name);
    let secrets = [SECRET_KEY, SESSION_TOKEN].into_iter().filter_map(|name| environment.optional(name));
    let lines = JsonLines {
        level: known.unwrap_or(LevelFilter::INFO),
        secrets: secrets.map(str::to_owned).collect(),
        write: write_line,
    };
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines));
    if known.is_none() {
        tracing::warn!(variable = LOG_LEVEL, value = name, "unknown log level, INFO is used");
    }
}

/// Logs each decision as one line, `"decision": {"outcome": …, "reason": …, …}`, and counts the outcomes as metrics
/// under the dimension `function`.
pub fn decisions<O: Serialize>(function: &str, decisions: &[Decision<O>]) {
    decisions.iter().for_each(decision);
    metrics::count_outcomes(function, decisions);
}

/// Logs a decision without counting its outcome.
pub fn decision<O: Serialize>(decision: &Decision<O>) {
    tracing::info!(decision.json = json(decision), "decision");
}

/// The JSON text of a value, for a field whose name ends in `.json`.
#[must_use]
pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| Value::from(error.to_string()).to_string())
}

/// Writes one log line. Does nothing before [`start`], so that tests with thousands of invocations print nothing.
pub(crate) fn write_object(object: &Map<String, Value>) {
    if tracing::dispatcher::has_been_set() {
        write_line(&serde_json::to_string(object).unwrap_or_default());
    }
}

fn write_line(line: &str) {
    // Lambda reads standard output. If standard output is closed, there is no other place for a report, so the error is
    // ignored.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// The level of Lambda's `AWS_LAMBDA_LOG_LEVEL`. The SDK logs whole requests at `TRACE`, so `TRACE` means `DEBUG` here.
fn level(name: &str) -> Option<LevelFilter> {
    match name {
        "TRACE" | "DEBUG" => Some(LevelFilter::DEBUG),
        "INFO" => Some(LevelFilter::INFO),
        "WARN" => Some(LevelFilter::WARN),
        "ERROR" | "FATAL" => Some(LevelFilter::ERROR),
        _ => None,
    }
}

/// Writes each event as one JSON line, with the fields of the spans around it.
struct JsonLines {
    level: LevelFilter,
    /// Texts that never appear in the log, whatever a library writes at `DEBUG`.
    secrets: Vec<String>,
    write: fn(&str),
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for JsonLines {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        // Spans of level INFO are enabled at every log level: the invocation's span has level INFO, and even a log of
        // only ERROR lines needs the request id from this span.
        *metadata.level() <= if metadata.is_span() { self.level.max(LevelFilter::INFO) } else { self.level }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level.max(LevelFilter::INFO))
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        // The fields of the runtime's own span are left out: they repeat the request id and add a trace id that nobody
        // looks up.
        let is_runtimes = attributes.metadata().target().starts_with("lambda_runtime");
        if let Some(span) = context.span(id)
            && !is_runtimes
        {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        if repeats_an_invocation_error(metadata) {
            return;
        }
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(Scope::from_root) {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                fields.0.extend(of_span.0.clone());
            }
        }
        event.record(&mut fields);
        let mut object = fields.0;
        object.insert("timestamp".to_owned(), timestamp::millis(crate::now()).into());
        object.insert("level".to_owned(), metadata.level().as_str().into());
        if self.level == LevelFilter::DEBUG {
            object.insert("target".to_owned(), metadata.target().into());
        }
        let mut line = serde_json::to_string(&object).unwrap_or_default();
        for secret in &self.secrets {
            if line.contains(secret.as_str()) {
                line = line.replace(secret.as_str(), "(secret)");
            }
        }
        (self.write)(&line);
    }
}

/// Whether the event is the runtime's own report of an error that a function returned. [`crate::serve`] has already
/// logged that error, with its type and causes. The runtime's reports of panics have a field `error` and are kept.
fn repeats_an_invocation_error(metadata: &Metadata<'_>) -> bool {
    metadata.target() == "lambda_runtime::layers::panic" && metadata.fields().field("error").is_none()
}

/// The fields of a span or an event.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn insert(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name().strip_suffix(NESTED) {
            Some(name) => {
                let nested = serde_json::from_str(value).unwrap_or_else(|_| value.into());
                self.0.insert(name.to_owned(), nested);
            }
            None => self.insert(field, value),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use aws_credential_types::Credentials;
    use aws_credential_types::provider::SharedCredentialsProvider;
    use aws_smithy_runtime_api::client::http::{
        HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
    };
    use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
    use aws_smithy_types::body::SdkBody;
    use sekisho_domain::notice::Notice;
    use serde_json::json;
    use tracing::{debug, error, info, info_span, trace};

    use super::*;
    use crate::Topic;
    use crate::aws::{BehaviorVersion, Region, SdkConfig, later};

    /// A service that refuses every request.
    #[derive(Debug)]
    struct Refusing;

    impl HttpConnector for Refusing {
        fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
            HttpConnectorFuture::ready(Ok(HttpResponse::new(403.try_into().unwrap(), SdkBody::empty())))
        }
    }

    thread_local! {
        static LINES: RefCell<Vec<Value>> = const { RefCell::new(Vec::new()) };
    }

    /// The lines that `log` writes at this level, without their timestamps.
    fn lines(level: LevelFilter, secrets: &[&str], log: impl FnOnce()) -> Vec<Value> {
        let secrets = secrets.iter().map(ToString::to_string).collect();
        let write = |line: &str| LINES.with_borrow_mut(|lines| lines.push(serde_json::from_str(line).unwrap()));
        let subscriber = tracing_subscriber::registry().with(JsonLines { level, secrets, write });
        tracing::subscriber::with_default(subscriber, log);
        let mut lines = LINES.take();
        for line in &mut lines {
            assert!(line.as_object_mut().unwrap().remove("timestamp").unwrap().as_str().unwrap().ends_with('Z'));
        }
        lines
    }

    #[test]
    fn a_line_has_its_fields_and_those_of_its_spans_at_the_top() {
        let found = lines(LevelFilter::INFO, &[], || {
            info_span!("invocation", requestId = "r", function = "f").in_scope(|| {
                info!(count = 2, late = true, reason = %"because", "done");
                debug!("not written");
            });
        });
        let expected = json!({"level": "INFO", "message": "done", "requestId": "r", "function": "f", "count": 2,
            "late": true, "reason": "because"});
        assert_eq!(found, [expected]);
    }

    #[test]
    fn a_decision_is_a_nested_object() {
        let decision = Decision::new("relayed", "on \"every\" bus").about("ref", "refs/heads/main");
        let found = lines(LevelFilter::INFO, &[], || {
            // The subscriber gets no line about the metrics, because metrics are written directly to standard output.
            decisions("f", &[decision]);
        });
        let nested = json!({"outcome": "relayed", "reason": "on \"every\" bus", "ref": "refs/heads/main"});
        assert_eq!(found, [json!({"level": "INFO", "message": "decision", "decision": nested})]);
    }

    #[test]
    fn an_error_line_has_the_request_id_when_only_errors_are_written() {
        let found = lines(LevelFilter::ERROR, &[], || {
            let span = info_span!("invocation", requestId = "r");
            let _entered = span.enter();
            info!("not written");
            error!("failed");
        });
        assert_eq!(found, [json!({"level": "ERROR", "message": "failed", "requestId": "r"})]);
    }

    #[test]
    fn secrets_and_trace_events_are_never_written() {
        let found = lines(LevelFilter::DEBUG, &["wJalr/XUtn+FEMI="], || {
            trace!("a request with its signature");
            debug!(header = "Bearer wJalr/XUtn+FEMI= end", "sent");
        });
        assert_eq!(found.len(), 1);
        assert_eq!(found[0]["header"], "Bearer (secret) end");
    }

    /// The removal of secrets is a second guard, because at DEBUG the SDK itself already writes no secrets.
    #[test]
    fn the_sdks_own_events_appear_at_debug_and_hold_no_secret() {
        let credentials =
            Credentials::new("AKIDEXAMPLE", "wJalr/XUtn+FEMI=", Some("session/token==".into()), None, "test");
        let aws = SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("ap-northeast-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(http_client_fn(|_, _| SharedHttpConnector::new(Refusing)))
            .build();
        let found = lines(LevelFilter::DEBUG, &[], || {
            let topic = Topic::new(later(&aws, aws_sdk_sns::Client::new), "arn:aws:sns:ap-northeast-1:111111111111:t");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(topic.publish(&Notice::default())).unwrap_err();
        });
        assert!(
            found.iter().any(|line| line["target"].as_str().unwrap().starts_with("aws_smithy_runtime")),
            "{found:?}"
        );
        for secret in ["wJalr/XUtn+FEMI=", "session/token==", "Signature="] {
            assert!(!serde_json::to_string(&found).unwrap().contains(secret), "{secret}: {found:?}");
        }
    }

    #[test]
    fn every_level_of_lambda_is_known() {
        let known = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"].map(|name| level(name).unwrap());
        assert!(known.is_sorted_by(|a, b| a >= b), "{known:?}");
        assert_eq!(level("LOUD"), None);
    }

    #[test]
    fn an_error_that_a_function_returns_is_logged_once() {
        let found = lines(LevelFilter::INFO, &[], || {
            error!(target: "lambda_runtime::layers::panic", "Diagnostic {{ … }}");
            error!(target: "lambda_runtime::layers::panic", error = "index out of bounds", "user handler panicked");
        });
        assert_eq!(found.len(), 1);
        assert_eq!(found[0]["error"], "index out of bounds");
    }
}
