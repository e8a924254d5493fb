//! The list of all findings of a sweep, as CSV and as JSON Lines.
//!
//! A sweep writes the list in parts, so that it needs little memory. All parts of a sweep are in one folder.

use std::fmt::Write as _;

use sekisho_domain::decision::Decision;
use sekisho_lambda::telemetry;

use crate::object::REPORTS;
use crate::outcome::Outcome;
use crate::sweep_row::SweepRow;

/// The columns of the CSV file: the outcome, the reason, and concerns of the finding.
const CONCERNS: [&str; 12] = [
    "finding",
    "state",
    "bucket",
    "object",
    "version",
    "encryption",
    "right_key",
    "writer",
    "pipeline",
    "execution",
    "action",
    "likely_cause",
];
/// A spreadsheet takes a cell that begins with one of these for a formula.
const FORMULA: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];
/// Without a mark at the beginning, Excel takes the file for another encoding than UTF-8.
const MARK: &str = "\u{feff}";

/// The folder of a sweep's list, such as `sekisho-reports/bucket/2026-11-21T234500Z-id/`.
pub(crate) fn folder(bucket: &str, row: &SweepRow) -> String {
    format!("{REPORTS}{bucket}/{}-{}/", row.started.replace(':', ""), safe(&row.sweep))
}

/// The name of the next part, without its extension. A repeated attempt writes the same part again.
pub(crate) fn part(row: &SweepRow) -> String {
    let range = row.range.map_or_else(|| "start".to_owned(), |range| format!("range-{range:05}"));
    format!("{range}-{:05}", row.totals.report_parts)
}

/// The characters of a request id that need no encoding in a URL.
fn safe(id: &str) -> String {
    id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

/// The findings as JSON Lines.
pub(crate) fn json_lines(findings: &[Decision<Outcome>]) -> String {
    findings.iter().fold(String::new(), |lines, finding| lines + &telemetry::json(finding) + "\n")
}

/// The findings as CSV.
pub(crate) fn csv(findings: &[Decision<Outcome>]) -> String {
    let mut text = format!("{MARK}verdict,{},reason\r\n", CONCERNS.join(","));
    for finding in findings {
        let _ = write!(text, "{}", finding.outcome.name());
        for name in CONCERNS {
            let _ = write!(text, ",{}", cell(finding.concerns.get(name).map_or("", String::as_str)));
        }
        let _ = write!(text, ",{}\r\n", cell(&finding.reason));
    }
    text
}

/// A cell that a spreadsheet shows as text: an apostrophe before what would be a formula.
fn cell(value: &str) -> String {
    let apostrophe = if value.starts_with(FORMULA) { "'" } else { "" };
    if value.contains(['"', ',', '\n', '\r']) {
        format!("\"{apostrophe}{}\"", value.replace('"', "\"\""))
    } else {
        format!("{apostrophe}{value}")
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;

    #[test]
    fn a_spreadsheet_shows_every_cell_as_text() {
        let finding = Decision::new(Outcome::ForeignKey, "it is \"theirs\", not ours")
            .about("bucket", "b")
            .about("object", "=HYPERLINK(\"http://x\",\"y\")\n2");
        let lines = csv(from_ref(&finding));
        let expected = "foreign-key,,,b,\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\n2\",,,,,,,,,\"it is \"\"theirs\"\", not ours\"\r\n";
        assert_eq!(lines.split_once("\r\n").unwrap().1, expected);
        assert!(lines.starts_with("\u{feff}verdict,finding,state,bucket,object,"));
        for formula in ["=1", "+1", "-1", "@x", "\tx", "＝1", "＋1", "－1", "＠x"] {
            assert_eq!(cell(formula), format!("'{formula}"));
        }
        assert_eq!(cell("\n=1"), "\"'\n=1\"");
        assert_eq!(cell("a-b"), "a-b");
        let line = json_lines(&[finding]);
        assert_eq!((line.lines().count(), line.contains(r#""outcome":"foreign-key""#)), (1, true), "{line}");
    }
}
