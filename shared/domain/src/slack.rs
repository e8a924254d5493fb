//! Makes text from outside safe to show in Slack.

/// The longest piece of a payload that an error shows, in characters.
const QUOTED: usize = 60;

/// Puts text on one line: replaces control characters by spaces, and removes characters that change the direction of
/// the text. No part of the text can then look like a line that Sekisho wrote.
#[must_use]
pub fn on_one_line(text: &str) -> String {
    let changes_direction =
        |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}');
    let is_control = |c: char| matches!(c, '\u{2028}' | '\u{2029}') || c.is_control();
    text.chars().filter(|c| !changes_direction(*c)).map(|c| if is_control(c) { ' ' } else { c }).collect()
}

/// Like [`on_one_line`], but also escapes `&`, `<` and `>`, so that no part of the text is a mention or a link in
/// Slack.
#[must_use]
pub fn shown(text: &str) -> String {
    on_one_line(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The first 60 characters of what a person typed, safe to show in an error.
#[must_use]
pub fn quoted(text: &str) -> String {
    let short: String = text.chars().take(QUOTED).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    shown(&short) + more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_text_contains_no_markup() {
        assert_eq!(
            shown("<!channel> & <https://example.com|here>"),
            "&lt;!channel&gt; &amp; &lt;https://example.com|here&gt;"
        );
        assert_eq!(shown("fine\nEnd time is never\u{202e}"), "fine End time is never");
        assert_eq!(shown("障害対応 🚒"), "障害対応 🚒");
    }

    #[test]
    fn quoted_text_is_short() {
        assert_eq!(quoted(&"あ".repeat(61)), "あ".repeat(60) + "…");
    }
}
