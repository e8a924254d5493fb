//! How text from elsewhere is shown in Slack.

/// Longest piece of a payload that an error shows, in characters.
const QUOTED: usize = 60;

/// On one line, without control characters or changes of direction, with `&`, `<` and `>` escaped: so that nothing in
/// it is a mention, a link, or looks like a line of ours.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => shown.push_str("&amp;"),
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '\u{2028}' | '\u{2029}' => shown.push(' '),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => {}
            c if c.is_control() => shown.push(' '),
            c => shown.push(c),
        }
    }
    shown
}

/// A piece of what was typed, short enough for an error.
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
    fn nothing_in_it_is_markup() {
        assert_eq!(
            shown("<!channel> & <https://example.com|here>"),
            "&lt;!channel&gt; &amp; &lt;https://example.com|here&gt;"
        );
        assert_eq!(shown("fine\nEnd time is never\u{202e}"), "fine End time is never");
        assert_eq!(shown("障害対応 🚒"), "障害対応 🚒");
    }

    #[test]
    fn quotes_are_short() {
        assert_eq!(quoted(&"あ".repeat(61)), "あ".repeat(60) + "…");
    }
}
