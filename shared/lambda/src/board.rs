//! The alias `board`, through which a function only answers questions, and the payloads of widgets.
//!
//! Whoever may look at the dashboard may invoke `board`, so nothing that comes through it may change or record anything.

use crate::event::has_field;
use crate::invocation::Invocation;

/// The read-only alias of every function.
pub const BOARD: &str = "board";
/// The answer to a request that would change something, at the alias `board`.
pub const READ_ONLY: &str = "the alias `board` only answers questions: invoke the function without the alias";

impl Invocation {
    /// Whether the invocation came through the alias `board`.
    #[must_use]
    pub fn is_board(&self) -> bool {
        self.qualifier.as_deref() == Some(BOARD)
    }
}

/// Whether a payload is that of a widget. It is never anything else, whatever other fields it has, because the person
/// who looks at a dashboard did not write them.
#[must_use]
pub fn is_widget(payload: &str) -> bool {
    has_field(payload, &["widgetContext", "describe"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_with_a_context_or_describe_is_a_widget() {
        for widget in [
            r#"{"widgetContext":{}}"#,
            r#"{"action":"hold","widgetContext":null,"route":"shop"}"#,
            r#"{"describe":true}"#,
            r#"{"describe":false,"source":"aws.events"}"#,
            r#"{"describe":true,"describe":true}"#,
            r#"{"widget\u0043ontext":{}}"#,
        ] {
            assert!(is_widget(widget), "{widget}");
        }
        for other in [r#"{"action":"describe"}"#, r#"{"event":{"describe":true}}"#, r#"["describe"]"#, "{", "null", ""]
        {
            assert!(!is_widget(other), "{other}");
        }
    }
}
