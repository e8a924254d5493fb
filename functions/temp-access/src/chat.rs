//! What chat does to the text that people type, and how it is undone.
//!
//! Phones and web pages put no-break spaces between the parts of a payload. Slack turns a word with a dot or an `@`
//! into a link, such as `<mailto:hana@example.com|hana@example.com>`, and escapes `&`, `<` and `>`.

use std::borrow::Cow;

/// The payload with plain spaces between its parts. Characters without a width are left out. The texts in quotes stay
/// as they are.
pub(crate) fn with_plain_spaces(payload: &str) -> Cow<'_, str> {
    if payload.is_ascii() {
        return Cow::Borrowed(payload);
    }
    let plain = with_quoting(payload).filter_map(|(c, is_quoted)| match c {
        c if is_quoted => Some(c),
        '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' => None,
        c if c.is_whitespace() => Some(if c.is_ascii() { c } else { ' ' }),
        c => Some(c),
    });
    Cow::Owned(plain.collect())
}

/// Whether a payload has quotes that are not straight, outside the texts in straight quotes.
pub(crate) fn has_curly_quotes(payload: &str) -> bool {
    with_quoting(payload).any(|(c, is_quoted)| !is_quoted && is_curly(c))
}

/// The characters of a payload, each with whether it is part of a text in straight quotes.
fn with_quoting(payload: &str) -> impl Iterator<Item = (char, bool)> {
    payload.chars().scan((false, false), |(is_quoted, is_escaped), c| {
        if c == '"' && !*is_escaped {
            *is_quoted = !*is_quoted;
        }
        *is_escaped = *is_quoted && c == '\\' && !*is_escaped;
        Some((c, *is_quoted))
    })
}

/// Whether the character is a quote that a phone or an input method puts in place of a straight one.
fn is_curly(c: char) -> bool {
    matches!(c, '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{2018}' | '\u{2019}' | '\u{ff02}' | '\u{ff07}')
}

/// The text without Slack's links and escapes. A link whose label is the word that was typed becomes that word, and any
/// other link becomes its address.
pub(crate) fn as_typed(text: &str) -> String {
    let mut typed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        typed.push_str(before);
        if let Some((word, after)) = after.split_once('>').and_then(|(link, after)| Some((unlinked(link)?, after))) {
            typed.push_str(word);
            rest = after;
        } else {
            typed.push('<');
            rest = after;
        }
    }
    typed.push_str(rest);
    // `&amp;` comes last, so that `&amp;lt;` becomes `&lt;`.
    typed.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// The word for which Slack made a link; `None` if the text between `<` and `>` is no link of Slack's.
fn unlinked(link: &str) -> Option<&str> {
    let (address, label) = link.split_once('|').map_or((link, None), |(address, label)| (address, Some(label)));
    let word = address.strip_prefix("mailto:").or_else(|| address.strip_prefix("tel:"));
    let shown = word.or_else(|| address.strip_prefix("http://")).or_else(|| address.strip_prefix("https://"))?;
    let is_link = !shown.is_empty() && !address.contains(char::is_whitespace);
    is_link.then(|| match label {
        // Slack makes a number of its own from a telephone number that was typed.
        Some(label) if address.starts_with("tel:") => label,
        Some(label) if label == shown || label == shown.trim_end_matches('/') => label,
        _ => word.unwrap_or(address),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_between_the_parts_become_plain() {
        let cases = [
            ("{\u{a0}\"user\":\u{3000}\"prd-user\"\u{202f}}\u{feff}", "{ \"user\": \"prd-user\" }"),
            ("{\"reason\":\"a\u{a0}b \\\"\u{a0}\\\\\"\u{a0}}", "{\"reason\":\"a\u{a0}b \\\"\u{a0}\\\\\" }"),
            ("{\"reason\":\"関\"}", "{\"reason\":\"関\"}"),
            ("\u{200b}{}", "{}"),
        ];
        for (mangled, plain) in cases {
            assert_eq!(with_plain_spaces(mangled), plain);
        }
    }

    #[test]
    fn curly_quotes_count_only_outside_straight_ones() {
        assert!(has_curly_quotes("{“user”:“a”}") && has_curly_quotes("{\"user\":“a”}"));
        assert!(!has_curly_quotes("{\"reason\":\"the “shop” isn’t up\""));
        assert!(!has_curly_quotes("{\"reason\":\"a \\\"“b”\\\"\"}"));
    }

    #[test]
    fn links_and_escapes_of_slack_become_what_was_typed() {
        let cases = [
            ("<mailto:hana@example.com|hana@example.com>", "hana@example.com"),
            ("<mailto:hana@example.com>", "hana@example.com"),
            ("<tel:+819012345678|090-1234-5678>", "090-1234-5678"),
            ("<tel:0312345678>", "0312345678"),
            ("<http://prd.example.com|prd.example.com>", "prd.example.com"),
            ("see <https://example.com/a?b=c> now", "see https://example.com/a?b=c now"),
            ("see <https://example.com/a|the page>", "see https://example.com/a"),
            ("<http://a.example|a.example> & <http://b.example|b.example>", "a.example & b.example"),
            ("a &amp; b &lt;c&gt; &amp;lt;", "a & b <c> &lt;"),
            ("<!channel> a < b > c <", "<!channel> a < b > c <"),
            ("<mailto:>", "<mailto:>"),
            ("<http://a b>", "<http://a b>"),
            ("障害 “対応”", "障害 “対応”"),
        ];
        for (mangled, typed) in cases {
            assert_eq!(as_typed(mangled), typed);
        }
    }
}
