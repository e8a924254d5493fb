//! The payload with which a dashboard asks for a widget.

use sekisho_domain::slack;
use serde::Deserialize;
use serde_json::Value;
use time::{OffsetDateTime, UtcOffset};

use crate::viewer::{Theme, Viewer};

/// What a dashboard asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// The documentation of the widget, in Markdown.
    Describe,
    /// The widget for this viewer, as HTML.
    Show(Viewer),
}

/// The fields that every widget has. A dashboard may add any others.
#[derive(Deserialize)]
struct Written {
    widget: Option<Value>,
    #[serde(default)]
    describe: Value,
    #[serde(default, rename = "widgetContext")]
    context: Value,
}

/// Reads a payload. `own` is the name of the function's widget, which a payload need not have.
///
/// # Errors
/// A sentence that says what to write instead, if the payload names another widget.
pub fn read(payload: &str, own: &str, now: OffsetDateTime) -> Result<Question, String> {
    let wrong = |what: &str| format!("{what}: write {{\"widget\":\"{own}\"}}, or leave `widget` out");
    let written: Written = serde_json::from_str(payload).map_err(|error| {
        wrong(&format!("the payload is not one of a widget ({})", slack::shown(&error.to_string())))
    })?;
    match &written.widget {
        None => {}
        Some(Value::String(name)) if name == own => {}
        Some(Value::String(name)) => {
            return Err(wrong(&format!("this function has no widget `{}`", slack::quoted(name))));
        }
        Some(_) => return Err(wrong("`widget` is not text")),
    }
    if written.describe == Value::Bool(true) {
        return Ok(Question::Describe);
    }
    let text = |pointer: &str| written.context.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let theme = if text("/theme") == "dark" { Theme::Dark } else { Theme::Light };
    let offset = offset(text("/timezone/offsetISO")).unwrap_or(UtcOffset::UTC);
    Ok(Question::Show(Viewer { theme, now: now.to_offset(offset) }))
}

/// Parses an offset such as `+09:00`.
fn offset(text: &str) -> Option<UtcOffset> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+')?),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let number = |text: &str| text.parse::<i8>().ok().filter(|number| *number >= 0);
    UtcOffset::from_hms(sign * number(hours)?, sign * number(minutes)?, 0).ok()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 23:45 UTC);

    fn viewer(context: &str) -> Viewer {
        match read(&format!(r#"{{"widgetContext":{context}}}"#), "trains", NOW) {
            Ok(Question::Show(viewer)) => viewer,
            other => panic!("{context}: {other:?}"),
        }
    }

    #[test]
    fn the_context_has_the_theme_and_the_offset() {
        let dark = viewer(r#"{"theme":"dark","timezone":{"label":"Local","offsetISO":"+09:00"},"width":400}"#);
        assert_eq!((dark.theme, dark.now.to_string()), (Theme::Dark, "2026-11-22 8:45:00.0 +09:00:00".to_owned()));
        assert_eq!(
            viewer(r#"{"timezone":{"offsetISO":"-03:30"}}"#).now.offset(),
            UtcOffset::from_hms(-3, -30, 0).unwrap()
        );
        let hostile = r#"{"theme":["dark"],"timezone":{"offsetISO":"+99:99"}}"#;
        for context in ["null", "true", "{}", r#"{"timezone":7}"#, r#"{"theme":"\"><script>"}"#, hostile] {
            assert_eq!(viewer(context), Viewer { theme: Theme::Light, now: NOW }, "{context}");
        }
        for text in ["", "+", "+9", "+-9:00", "+09:-1", "09:00", "+128:00"] {
            assert_eq!(offset(text), None, "{text}");
        }
    }

    #[test]
    fn a_payload_may_name_the_widget_of_the_function_only() {
        for payload in [r#"{"widget":"trains","route":"shop"}"#, r#"{"describe":false}"#, r#"{"describe":"true"}"#] {
            assert!(matches!(read(payload, "trains", NOW), Ok(Question::Show(_))), "{payload}");
        }
        assert_eq!(read(r#"{"describe":true,"widget":"trains"}"#, "trains", NOW), Ok(Question::Describe));
        for (payload, words) in [
            (r#"{"widget":"access","describe":true}"#, "no widget `access`"),
            (r#"{"widget":"<b>","widgetContext":{}}"#, "no widget `&lt;b&gt;`"),
            (r#"{"widget":7,"widgetContext":{}}"#, "`widget` is not text"),
            (r#"{"describe":true,"describe":true}"#, "duplicate field"),
        ] {
            let reason = read(payload, "trains", NOW).unwrap_err();
            assert!(reason.contains(words) && reason.contains(r#"{"widget":"trains"}"#), "{reason}");
        }
    }
}
