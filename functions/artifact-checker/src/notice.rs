//! The notice that tells people about findings.

use std::fmt::Write as _;

use sekisho_domain::decision::Decision;
use sekisho_domain::notice::Notice;
use sekisho_domain::slack::on_one_line;

use crate::outcome::Outcome;

/// The most bytes of a notice's text; SNS accepts 256 KB. The text gives only the number of the findings that do not
/// fit.
const LARGEST_TEXT: usize = 200_000;

/// Makes the notice about the findings in `decisions`. `more` is the number of further findings that are not in
/// `decisions`. Returns `None` if `decisions` has no findings.
pub(crate) fn of_findings(title: &str, decisions: &[Decision<Outcome>], more: u64) -> Option<Notice> {
    let findings: Vec<_> = decisions.iter().filter(|decision| decision.outcome.is_finding()).collect();
    if findings.is_empty() {
        return None;
    }
    let lines = text(title, &findings, more).lines().map(ToOwned::to_owned).collect();
    Some(Notice { title: title.to_owned(), lines, ..Notice::default() })
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

fn paragraph(finding: &Decision<Outcome>) -> String {
    // A key may contain a line break, and the text after the line break must not look like another finding.
    let about = |name| finding.concerns.get(name).map(|value| on_one_line(value));
    let mut lines = format!("\n{}: ", finding.outcome.name());
    if let (Some(bucket), Some(object)) = (about("bucket"), about("object")) {
        let _ = write!(lines, "s3://{bucket}/{object}");
        if let Some(version) = about("version") {
            let _ = write!(lines, " (version {version})");
        }
    } else if let Some(bucket) = about("bucket") {
        let _ = write!(lines, "s3://{bucket}");
    }
    let _ = write!(lines, "\n{}\n", on_one_line(&finding.reason));
    for name in ["writer", "pipeline", "execution", "action", "likely_cause"] {
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
    fn a_key_with_a_line_break_stays_on_one_line() {
        let finding = Decision::new(Outcome::Reported, "a reason")
            .about("bucket", "b")
            .about("object", "a\nforeign-key: s3://b/c");
        assert!(text("t", &[&finding], 0).contains("\nreported: s3://b/a foreign-key: s3://b/c\n"));
    }
}
