//! The notice that tells people about findings.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sekisho_domain::decision::Decision;
use sekisho_domain::notice::Notice;
use sekisho_domain::slack::on_one_line;

use crate::outcome::Outcome;

/// The most bytes of a notice's text; SNS accepts 256 KB. The text gives only the number of the findings that do not
/// fit.
const LARGEST_TEXT: usize = 200_000;

/// Findings that changed.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Decisions, of which the notice names the findings.
    pub(crate) found: Vec<Decision<Outcome>>,
    /// The number of further findings that are not in `found`.
    pub(crate) more: u64,
    /// Findings that were not found again.
    pub(crate) resolved: Vec<Decision<Outcome>>,
    /// The number of further findings that are not in `resolved`.
    pub(crate) more_resolved: u64,
    /// The folder with the list of all findings.
    pub(crate) list: Option<String>,
}

/// Makes the notice about findings that changed and about retried stages. Returns `None` if there are none.
pub(crate) fn of_changes(title: &str, changes: &Changes) -> Option<Notice> {
    let findings: Vec<_> = changes.found.iter().filter(|decision| is_news(decision.outcome)).collect();
    if findings.is_empty() && changes.resolved.is_empty() {
        return None;
    }
    let mut text = text(title, &findings, changes.more);
    if !changes.resolved.is_empty() {
        text.push_str("\nNot found any more:\n");
        for finding in &changes.resolved {
            let _ = writeln!(text, "{}", subject(finding));
        }
    }
    if changes.more_resolved > 0 {
        let _ = writeln!(text, "… and {} more: the log has them.", changes.more_resolved);
    }
    if let Some(list) = &changes.list {
        let _ = writeln!(text, "\nAll findings: {list}");
    }
    let lines = text.lines().map(ToOwned::to_owned).collect();
    Some(Notice { title: title.to_owned(), lines, context: context(&findings), ..Notice::default() })
}

/// The variables of the button that confirms a repair (`RepairArtifacts` in template.yaml).
fn context(findings: &[&Decision<Outcome>]) -> BTreeMap<&'static str, String> {
    let code = findings.iter().find_map(|finding| finding.concerns.get("code"));
    code.map_or_else(BTreeMap::new, |code| BTreeMap::from([("repair", "waiting".to_owned()), ("code", code.clone())]))
}

/// Whether people get a notice about the outcome.
fn is_news(outcome: Outcome) -> bool {
    outcome.is_finding() || outcome == Outcome::Retried
}

/// The text, with one paragraph for each finding.
fn text(title: &str, findings: &[&Decision<Outcome>], more: u64) -> String {
    let mut text = format!("{title}\n");
    let mut left_out = more;
    for finding in findings {
        let paragraph = paragraph(finding);
        if text.len() + paragraph.len() > LARGEST_TEXT {
            left_out += 1;
        } else {
            text.push_str(&paragraph);
        }
    }
    if left_out > 0 {
        let _ = write!(text, "\n… and {left_out} more: the log has them.\n");
    }
    text
}

/// The outcome and the object or bucket of a finding, on one line.
fn subject(finding: &Decision<Outcome>) -> String {
    // A key may contain a line break, and the text after the line break must not look like another finding.
    let about = |name| finding.concerns.get(name).map(|value| on_one_line(value));
    let mut line = format!("{}: ", finding.outcome.name());
    if let (Some(bucket), Some(object)) = (about("bucket"), about("object")) {
        let _ = write!(line, "s3://{bucket}/{object}");
        if let Some(version) = about("version") {
            let _ = write!(line, " (version {version})");
        }
    } else if let Some(bucket) = about("bucket") {
        let _ = write!(line, "s3://{bucket}");
    }
    line
}

fn paragraph(finding: &Decision<Outcome>) -> String {
    let about = |name| finding.concerns.get(name).map(|value| on_one_line(value));
    let mut lines = format!("\n{}\n{}\n", subject(finding), on_one_line(&finding.reason));
    for name in ["writer", "pipeline", "execution", "stage", "action", "likely_cause", "finding"] {
        if let Some(value) = about(name) {
            let _ = writeln!(lines, "{}: {value}", name.replace('_', " "));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_notice_about_a_repair_that_waits_has_a_button() {
        let waits = Decision::new(Outcome::Reported, "r").about("bucket", "b").about("code", "7KQ2M9XA");
        let other = Decision::new(Outcome::Reported, "r").about("bucket", "b");
        let notice = |found: &Decision<Outcome>| {
            of_changes("t", &Changes { found: vec![found.clone()], ..Changes::default() }).unwrap()
        };
        let expected = BTreeMap::from([("repair", "waiting".to_owned()), ("code", "7KQ2M9XA".to_owned())]);
        assert_eq!((notice(&waits).context, notice(&other).context), (expected, BTreeMap::new()));
        let changes = Changes { resolved: vec![waits], ..Changes::default() };
        assert_eq!(of_changes("t", &changes).unwrap().context, BTreeMap::new());
    }

    #[test]
    fn a_key_with_a_line_break_stays_on_one_line() {
        let finding = Decision::new(Outcome::Reported, "a reason")
            .about("bucket", "b")
            .about("object", "a\nforeign-key: s3://b/c");
        assert!(text("t", &[&finding], 0).contains("\nreported: s3://b/a foreign-key: s3://b/c\n"));
    }
}
