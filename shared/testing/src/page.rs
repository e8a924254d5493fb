//! The HTML of widgets: what every page must keep to, and the golden files in `tests/board/`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Text that nobody may write into a page: markup, quotes, control characters, and marks that turn the direction.
pub const HOSTILE: &str = "</style></bdi><script>alert(1)</script><img src=x onerror=\"alert(1)\" class='y'>&lt;\u{0}\u{1b}[31m\r\n\
                           \u{202e}\u{2066}\u{200f}\u{61c}שלום عليكم `${7*7}` {{7*7}} 'quoted' \"quoted\" javascript:alert(1)";

/// 500 letters without a space.
#[must_use]
pub fn long() -> String {
    "W".repeat(500)
}

/// The elements of which pages are made.
const ELEMENTS: [&str; 21] = [
    "a", "bdi", "code", "div", "h2", "h3", "li", "p", "rect", "section", "span", "style", "svg", "table", "tbody",
    "td", "th", "thead", "time", "tr", "ul",
];
/// The attributes of these elements.
const ATTRIBUTES: [&str; 9] =
    ["aria-hidden", "class", "datetime", "height", "href", "preserveAspectRatio", "scope", "viewBox", "width"];

/// The ends of the names of the console's hosts.
const CONSOLES: [&str; 3] = [".console.aws.amazon.com", ".console.amazonaws.cn", ".console.amazonaws-us-gov.com"];

/// Asserts that a page is safe to show, and that it is the golden one of this name. A page that differs is left in
/// `target/board/`.
///
/// # Panics
/// If the page is not safe, or not the golden one.
pub fn assert_golden(name: &str, html: &str) {
    assert_safe(html);
    // One element a line, so that a difference can be read.
    let page = html.replace("><", ">\n<") + "\n";
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let golden = root.join("tests/board").join(format!("{name}.html"));
    let is_golden = std::fs::read_to_string(&golden).is_ok_and(|golden| golden == page);
    if !is_golden {
        let actual = root.join("target/board");
        std::fs::create_dir_all(&actual).unwrap();
        std::fs::write(actual.join(format!("{name}.html")), page).unwrap();
    }
    let name = Path::new(name).display();
    assert!(is_golden, "{name} differs: if that is meant, run `cp target/board/{name}.html tests/board/`");
}

/// Asserts that a page has only the elements and attributes of a widget, that each link leads to the console, and that
/// nothing in its text turns the direction or is invisible.
///
/// # Panics
/// If it has anything else.
pub fn assert_safe(html: &str) {
    let (elements, attributes): (BTreeSet<_>, BTreeSet<_>) = (ELEMENTS.into(), ATTRIBUTES.into());
    let mut open = Vec::new();
    for tag in html.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap_or_else(|| panic!("no end: <{tag}"));
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "the end of another element");
            continue;
        }
        let (name, rest) = tag.split_once(' ').unwrap_or((tag, ""));
        assert!(elements.contains(name), "<{tag}>");
        open.push(name);
        // Every value is in double quotes, so the text between two values is the name of an attribute.
        let parts: Vec<&str> = rest.split('"').collect();
        assert_eq!(parts.len() % 2, 1, "<{tag}>");
        assert!(parts.last().is_some_and(|rest| rest.trim().is_empty()), "<{tag}>");
        for pair in parts.chunks_exact(2) {
            let [attribute, value] = pair else { panic!("<{tag}>") };
            let attribute = attribute.trim().strip_suffix('=').unwrap_or_else(|| panic!("<{tag}>"));
            assert!(attributes.contains(attribute), "<{tag}>");
            let host = value.strip_prefix("https://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
            assert!(attribute != "href" || CONSOLES.iter().any(|console| host.ends_with(console)), "<{tag}>");
        }
    }
    assert!(open.is_empty(), "not closed: {open:?}");
    let is_turning =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let found = html.chars().find(|c| is_turning(*c) || c.is_control() && *c != '\n');
    assert_eq!(found, None, "an invisible character");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_safe(html: &str) -> bool {
        std::panic::catch_unwind(|| assert_safe(html)).is_ok()
    }

    #[test]
    fn a_page_with_anything_else_is_not_safe() {
        assert!(is_safe("<p class=\"x\">1 &lt; 2<svg viewBox=\"0 0 1 1\"></svg></p>"));
        assert!(is_safe("<a href=\"https://us-east-1.console.aws.amazon.com/x\">x</a>"));
        for html in [
            "<script>1</script>",
            "<p onclick=\"x\"></p>",
            "<form></form>",
            "<p class='x'></p>",
            "<p class=x></p>",
            "<a href=\"javascript:alert(1)\">x</a>",
            "<a href=\"https://example.com/console.aws.amazon.com\">x</a>",
            "<p></div>",
            "<p>",
            "<cwdb-action></cwdb-action>",
            "<p>\u{202e}</p>",
            "<p>\u{0}</p>",
            HOSTILE,
        ] {
            assert!(!is_safe(html), "{html}");
        }
    }
}
