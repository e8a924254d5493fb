//! Findings to people, through SNS.

use std::fmt::Write as _;

use aws_sdk_sns::Client;
use sekisho_domain::decision::Decision;
use sekisho_domain::notice::Notice;
use sekisho_domain::slack::on_one_line;
use sekisho_lambda::aws::Later;

use crate::answer::Unanswered;
use crate::sdk::refusal;
use crate::verdict::Outcome;

const PUBLISH: &str = "sns:Publish";
/// SNS takes up to 256 KB; findings beyond this are counted.
const ROOM: usize = 200_000;

/// Publishes findings; none at all publishes nothing.
///
/// # Errors
/// Where SNS did not take it.
pub async fn tell(
    client: &Later<Client>,
    topic: &str,
    title: &str,
    findings: &[&Decision<Outcome>],
    more: u64,
) -> Result<(), Unanswered> {
    if findings.is_empty() {
        return Ok(());
    }
    let lines = text(title, findings, more).lines().map(ToOwned::to_owned).collect();
    let notice = Notice { title: title.to_owned(), lines, ..Notice::default() };
    let sent = client.publish().topic_arn(topic).subject(notice.subject()).message_structure("json");
    sent.message(notice.message())
        .send()
        .await
        .map(drop)
        .map_err(|error| refusal(PUBLISH, error).into_unanswered(PUBLISH))
}

/// One paragraph a finding.
#[must_use]
pub fn text(title: &str, findings: &[&Decision<Outcome>], more: u64) -> String {
    let mut text = format!("{title}\n");
    let mut left = more;
    for finding in findings {
        // A key may hold a line's end, and what follows would look like a finding of ours.
        let about = |what| finding.concerns.get(what).map(|value| on_one_line(value));
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
        for what in ["writer", "pipeline", "execution", "action", "likely_cause"] {
            if let Some(value) = about(what) {
                let _ = writeln!(lines, "{}: {value}", what.replace('_', " "));
            }
        }
        if text.len() + lines.len() > ROOM {
            left += 1;
        } else {
            text.push_str(&lines);
        }
    }
    if left > 0 {
        let _ = write!(text, "\n… and {left} more: the log has them.\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_with_a_lines_end_is_one_line() {
        let finding = Decision::new(Outcome::Reported, "it is so")
            .about("bucket", "b")
            .about("object", "a\nforeign-key: s3://b/c");
        assert!(text("t", &[&finding], 0).contains("\nreported: s3://b/a foreign-key: s3://b/c\n"));
    }
}
