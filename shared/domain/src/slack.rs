//! How text from elsewhere is shown in Slack.

/// Longest piece of a payload that an error shows, in characters.
const QUOTED: usize = 60;

/// On one line, without control characters or changes of direction: nothing in it looks like a line of ours.
#[must_use]
pub fn on_one_line(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    let breaks = |c: char| matches!(c, '\u{2028}' | '\u{2029}') || c.is_control();
    text.chars().filter(|c| !turns(*c)).map(|c| if breaks(c) { ' ' } else { c }).collect()
}

/// [`on_one_line`], with `&`, `<` and `>` escaped: so that nothing in it is a mention or a link either.
#[must_use]
pub fn shown(text: &str) -> String {
    on_one_line(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
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
