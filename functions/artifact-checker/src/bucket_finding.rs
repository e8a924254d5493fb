//! Findings about buckets and pipelines. Such a finding stays until somebody acts on it, so a notice about the finding
//! is sent once per interval, and not with each event.

use std::time::Duration;

use sekisho_domain::decision::Decision;
use sekisho_ledger::Key;

use crate::outcome::Outcome;

/// The time after which another notice about the same finding is sent.
const INTERVAL: Duration = Duration::from_hours(24);
/// The interval for a finding about a bucket that this function may not read. This interval is longer, because nobody
/// has asked this function to check that bucket.
const CLOSED_BUCKET_INTERVAL: Duration = Duration::from_hours(24 * 30);
/// How many characters of a reason the ledger key contains. DynamoDB accepts keys of at most 2,048 bytes.
const REASON_LENGTH: usize = 250;
/// The name of the concern that marks a finding about a bucket that this function may not read.
const CLOSED: &str = "closed";

/// The ledger key of the notice about a finding. `None` if the decision is not a finding, or concerns neither a bucket
/// nor a pipeline but an object, a whole sweep or a malformed event.
pub(crate) fn notice_key(decision: &Decision<Outcome>) -> Option<Key> {
    let about = |name| decision.concerns.get(name).map(String::as_str);
    if !decision.outcome.is_finding() || about("object").is_some() || about("sweep").is_some() {
        return None;
    }
    let (bucket, pipeline) = match (about("bucket"), about("pipeline")) {
        (None, None) => return None,
        (bucket, pipeline) => (bucket.unwrap_or_default(), pipeline.unwrap_or_default()),
    };
    // S3's message about a closed bucket varies, so the message cannot be part of the key.
    let reason: String =
        if is_closed(decision) { CLOSED.to_owned() } else { decision.reason.chars().take(REASON_LENGTH).collect() };
    Some(Key::state(format!("notice#artifacts#{bucket}#{pipeline}#{}#{reason}", decision.outcome.name())))
}

/// The time after a notice in which no other notice about the same finding is sent. `own_bucket` is the bucket that was
/// deployed with this function.
pub(crate) fn notice_interval(decision: &Decision<Outcome>, own_bucket: &str) -> Duration {
    let is_own = decision.concerns.get("bucket").is_some_and(|bucket| bucket == own_bucket);
    if is_own || !is_closed(decision) { INTERVAL } else { CLOSED_BUCKET_INTERVAL }
}

/// The decision that replaces a finding about which a notice was sent recently.
pub(crate) fn already_sent(finding: &Decision<Outcome>) -> Decision<Outcome> {
    let reason = format!("a notice about this finding was sent recently: {}", finding.reason);
    Decision::new(Outcome::Ignored, reason).about_some("bucket", finding.concerns.get("bucket").cloned())
}

/// The finding that this function may not read a bucket. The reason says which permissions to add. `answer` is S3's
/// answer.
pub(crate) fn closed(bucket: &str, partition: &str, region: &str, answer: &str) -> Decision<Outcome> {
    let reason = format!(
        "a pipeline stores its artifacts in the bucket, and this function may not read the bucket ({answer}). To have \
         the bucket checked, give the role sekisho-artifact-checker-{region} the permissions that it has for its own \
         bucket: s3:GetEncryptionConfiguration, s3:ListBucket and s3:ListBucketVersions on \
         arn:{partition}:s3:::{bucket}, the actions of its statement ReadAndMendArtifacts on \
         arn:{partition}:s3:::{bucket}/*, and those of EncryptArtifacts on the bucket's key. If the bucket \
         need not be checked, do nothing"
    );
    Decision::new(Outcome::Unverifiable, reason).about("bucket", bucket).about(CLOSED, "true")
}

fn is_closed(decision: &Decision<Outcome>) -> bool {
    decision.concerns.contains_key(CLOSED)
}
