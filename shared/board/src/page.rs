//! The page of a widget, and its parts.

use maud::{Markup, PreEscaped, html};
use sekisho_domain::slack;

use crate::viewer::Viewer;

/// The stylesheet of all widgets.
const STYLE: &str = include_str!("board.css");
/// The longest text from outside that a widget shows, in characters.
const LONGEST: usize = 300;

/// What a state means for the people who look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// All is well.
    Good,
    /// Something is being done.
    Busy,
    /// Something waits.
    Wait,
    /// Something failed.
    Bad,
    /// Nobody can tell, or a person should look.
    Odd,
    /// There is nothing to see.
    Idle,
}

impl Tone {
    /// The class of an element with this tone.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Busy => "busy",
            Self::Wait => "wait",
            Self::Bad => "bad",
            Self::Odd => "odd",
            Self::Idle => "idle",
        }
    }
}

/// The HTML of a widget.
#[must_use]
pub fn page(viewer: &Viewer, body: &Markup) -> String {
    let page = html! {
        style { (PreEscaped(STYLE)) }
        div class=(viewer.theme.class()) {
            (body)
            p.muted { "As of " (viewer.stamp()) }
        }
    };
    page.into_string()
}

/// Text that other people or accounts wrote. It stays on one line, and no character in it turns the direction of the
/// text around it.
#[must_use]
pub fn outside(text: &str) -> Markup {
    let start: String = text.chars().take(LONGEST).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    html! { bdi { (slack::on_one_line(&start)) (more) } }
}

/// A state in words, with the color of its tone.
#[must_use]
pub fn tag(tone: Tone, text: &str) -> Markup {
    html! { span class={ "tag " (tone.class()) } { (text) } }
}

/// A sentence in place of a list that is empty.
#[must_use]
pub fn note(text: &str) -> Markup {
    html! { p.none { (text) } }
}

/// A bar of which this many percent are filled. Its meaning must also be written beside it.
#[must_use]
pub fn bar(tone: Tone, percent: u64) -> Markup {
    html! {
        svg class={ "bar " (tone.class()) } viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" {
            rect class="rest" width="100" height="6" {}
            rect class="left" width=(percent.min(100)) height="6" {}
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::viewer::Theme;

    #[test]
    fn the_themes_differ_only_in_the_class_of_the_page() {
        let page = |theme| page(&Viewer { theme, now: datetime!(2026-11-21 23:45 UTC) }, &tag(Tone::Good, "healthy"));
        let light = page(Theme::Light);
        assert!(light.ends_with(r#"<p class="muted">As of 2026-11-21 23:45 UTC+00:00</p></div>"#), "{light}");
        assert_eq!(light.matches(r#"class="sekisho light "#).count(), 1);
        assert_eq!(page(Theme::Dark), light.replace(r#"class="sekisho light "#, r#"class="sekisho dark "#));
    }

    #[test]
    fn text_from_outside_is_escaped_bounded_and_on_one_line() {
        let shown = |text: &str| outside(text).into_string();
        assert_eq!(shown("<b onload=\"x\">&'"), "<bdi>&lt;b onload=&quot;x&quot;&gt;&amp;'</bdi>");
        assert_eq!(shown("a\n\u{0}b\u{202e}c\u{2067}\u{200f}\u{61c}d"), "<bdi>a  bcd</bdi>");
        assert_eq!(shown(&"関".repeat(500)), format!("<bdi>{}…</bdi>", "関".repeat(LONGEST)));
    }

    /// `</style>` would end the stylesheet, and a rule without the class would change the console around the widget.
    #[test]
    fn every_rule_of_the_stylesheet_is_bound_to_the_page() {
        assert!(!STYLE.contains(['<', '@', '\\']) && !STYLE.contains("url("));
        let rules: Vec<&str> = STYLE.split('}').filter_map(|rule| rule.split_once('{')).map(|(of, _)| of).collect();
        assert!(rules.len() > 20);
        for selector in rules.iter().flat_map(|selectors| selectors.split(',')) {
            assert!(selector.trim().starts_with(".sekisho"), "{selector}");
        }
    }
}
