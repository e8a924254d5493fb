//! What is wrong with buckets and pipelines stays wrong until somebody mends it: it is told now and then, not with each
//! event.

use std::time::Duration;

use sekisho_domain::decision::Decision;
use sekisho_lambda::failure::chain;
use sekisho_lambda::log::{self, Level};
use sekisho_ledger::{Key, Store};
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;

use crate::answer::Said;
use crate::verdict::Outcome;

/// A fault is told again after so long.
const AGAIN: Duration = Duration::from_hours(24);
/// And one of a bucket that nobody asked this function to look after.
const OTHERS_AGAIN: Duration = Duration::from_hours(24 * 30);
/// Characters of a reason that tell one fault from another: DynamoDB takes 2,048 bytes of a key.
const REASON: usize = 250;

/// Who remembers what has been told: the ledger, for all invocations.
#[derive(Debug)]
pub struct Faults<'a, L> {
    /// The ledger.
    pub ledger: &'a L,
    /// The bucket that was deployed with this function.
    pub own_bucket: &'a str,
    /// This invocation.
    pub request_id: &'a str,
    /// Now.
    pub now: OffsetDateTime,
}

/// A fault that is to be told, and what is remembered of it then.
#[derive(Debug)]
pub struct Untold {
    key: Key,
    told: Told,
    revision: Option<u64>,
}

/// That a fault has been told, until it is told again; in epoch seconds.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    expires: i64,
}

impl<L: Store> Faults<'_, L> {
    /// Leaves out the faults that were told a short time ago. Where nothing else is left, one decision says so.
    pub async fn new_ones(&self, decisions: Vec<Decision<Outcome>>) -> (Vec<Decision<Outcome>>, Vec<Untold>) {
        let (mut kept, mut untold, mut known) = (Vec::new(), Vec::new(), Vec::new());
        for decision in decisions {
            let Some(key) = fault(&decision) else {
                kept.push(decision);
                continue;
            };
            // Without the ledger, told once too often.
            let row = self.ledger.read::<Told>(&key).await.unwrap_or_else(|error| {
                self.warn("it is not known what has been told", &error);
                None
            });
            // DynamoDB takes its time to forget.
            if row.as_ref().is_some_and(|row| self.now.unix_timestamp() < row.state.expires) {
                known.push(decision);
                continue;
            }
            let own = decision.concerns.get("bucket").is_some_and(|bucket| bucket == self.own_bucket);
            let again = if own || !is_closed(&decision) { AGAIN } else { OTHERS_AGAIN };
            let told = Told { expires: (self.now + again).unix_timestamp() };
            untold.push(Untold { key, told, revision: row.map(|row| row.revision) });
            kept.push(decision);
        }
        if kept.is_empty()
            && let Some(first) = known.first()
        {
            let reason = format!("what is wrong was told a short time ago: {}", first.reason);
            kept.push(
                Decision::new(Outcome::Ignored, reason).about_some("bucket", first.concerns.get("bucket").cloned()),
            );
        }
        (kept, untold)
    }

    /// Remembers what has been told. A failure to do so tells it once more.
    pub async fn are_told(&self, faults: Vec<Untold>) {
        for Untold { key, told, revision } in faults {
            if let Err(error) = self.ledger.write(&key, &told, revision, self.request_id).await {
                self.warn("it was not recorded what has been told", &error);
            }
        }
    }

    fn warn(&self, message: &str, error: &sekisho_ledger::Error) {
        log::line(Level::Warn, message, &json!({"requestId": self.request_id, "error": chain(error)}));
    }
}

const CLOSED: &str = "closed";

fn is_closed(decision: &Decision<Outcome>) -> bool {
    decision.concerns.contains_key(CLOSED)
}

/// That a bucket is not shown, and what would have it looked after.
#[must_use]
pub fn closed(bucket: &str, partition: &str, region: &str, said: &Said) -> Decision<Outcome> {
    let reason = format!(
        "this function may not look at the bucket ({said}), in which a pipeline keeps its artifacts. To have it looked after, \
         add to the role sekisho-artifact-checker-{region} a policy with what it may on its own bucket: \
         s3:GetEncryptionConfiguration, s3:ListBucket and s3:ListBucketVersions on arn:{partition}:s3:::{bucket}, the actions \
         of its statement ReadAndMendArtifacts on arn:{partition}:s3:::{bucket}/*, and those of EncryptArtifacts on the \
         bucket's key. Otherwise there is nothing to do"
    );
    Decision::new(Outcome::Unverifiable, reason).about("bucket", bucket).about(CLOSED, "true")
}

/// The row that remembers a finding of a bucket or pipeline; none for what concerns an object, or a sweep as a whole.
fn fault(decision: &Decision<Outcome>) -> Option<Key> {
    let about = |what| decision.concerns.get(what).map(String::as_str);
    if !decision.outcome.is_finding() || about("object").is_some() || about("sweep").is_some() {
        return None;
    }
    let bucket = about("bucket")?;
    let pipeline = about("pipeline").unwrap_or_default();
    // Of a bucket that is closed S3's words vary.
    let reason: String =
        if is_closed(decision) { CLOSED.to_owned() } else { decision.reason.chars().take(REASON).collect() };
    Some(Key::state(format!("notice#artifacts#{bucket}#{pipeline}#{}#{reason}", decision.outcome.name())))
}
