//! Creates the jobs of a repair, and looks whether they have ended.

use std::time::Duration;

use sekisho_domain::code::digest;
use sekisho_lambda::Invocation;
use sekisho_ledger::Store;

use crate::aws::s3_control::{self, NewJob};
use crate::batch::{BatchRow, JobEnd, Manifest, Reading, Step};
use crate::checker::batch::taken::TakenBatch;
use crate::error::Error;
use crate::run::Run;
use crate::verdict::in_words;

/// The pauses between two looks at a job grow with its age, between these limits. A message waits up to 15 minutes.
const SHORTEST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(15);
/// S3 may not show a job at once. After this time, a job that S3 does not show is lost.
const LONGEST_UNSEEN: Duration = Duration::from_hours(1);
/// After this time, a job whose creation S3 has not answered is given up. S3 does not say how long it remembers a token.
const LONGEST_CREATION: Duration = Duration::from_hours(12);

/// Creates the jobs that do not exist yet. The token of a job depends only on the repair and the manifest, so a call
/// whose answer was lost is repeated without a second job.
pub(super) async fn create<L: Store>(run: &Run<'_, L>, taken: &mut TakenBatch) -> Result<(), Error> {
    let is_open = |manifest: &Manifest| manifest.job.is_none() && manifest.end.is_none();
    while let Some(at) = taken.row.manifests.iter().position(is_open) {
        if let Some(manifest) = taken.row.manifests.get_mut(at).filter(|manifest| manifest.asked.is_none()) {
            manifest.asked = Some(run.now().unix_timestamp());
            taken.save(run).await?;
        }
        let answer = match taken.row.manifests.get(at) {
            Some(manifest) if time_since(run, manifest.asked) <= LONGEST_CREATION => {
                create_one(run, &taken.row, manifest).await
            }
            _ => Ok(None),
        };
        let (job, fault) = match answer {
            Ok(Some(job)) => (Some(job), None),
            Ok(None) => (None, Some("S3 did not say in time whether it created the job".to_owned())),
            Err(error) if error.is_refused() => {
                (None, Some(format!("S3 did not create the job: {}", in_words(&error))))
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(manifest) = taken.row.manifests.get_mut(at) {
            manifest.created = job.as_ref().map(|_| run.now().unix_timestamp());
            manifest.job = job;
            manifest.end = fault.map(|fault| JobEnd { fault: Some(fault), succeeded: 0, failed: 0 });
        }
        taken.save(run).await?;
    }
    taken.row.step = Step::Running;
    Ok(taken.save(run).await?)
}

async fn create_one<L: Store>(
    run: &Run<'_, L>,
    row: &BatchRow,
    manifest: &Manifest,
) -> Result<Option<String>, sekisho_lambda::ServiceError> {
    let Invocation { partition, region, account, .. } = run.invocation;
    let job = NewJob {
        account: account.as_str(),
        token: &digest(&["repair", &row.bucket, &row.sweep, &manifest.key]),
        description: &format!("Sekisho repairs {} objects, code {}", manifest.tasks, row.code),
        role: &format!("arn:{partition}:iam::{account}:role/sekisho-artifact-batch-{region}"),
        kms_key: &row.right_key,
        bucket_key: manifest.bucket_key,
        bucket: &format!("arn:{partition}:s3:::{}", run.settings.bucket),
        manifest: &manifest.key,
        manifest_etag: &manifest.etag,
        versions: row.versions,
        reports: &row.reports(),
    };
    s3_control::create(&run.clients.jobs(run.account()), &job).await.map(Some)
}

/// Looks at the jobs. Returns whether all have ended.
pub(super) async fn look<L: Store>(run: &Run<'_, L>, taken: &mut TakenBatch) -> Result<bool, Error> {
    let jobs = run.clients.jobs(run.account());
    for manifest in taken.row.manifests.iter_mut().filter(|manifest| manifest.end.is_none()) {
        let Some(id) = &manifest.job else { continue };
        manifest.end = match s3_control::describe(&jobs, run.account(), id).await? {
            Some(job) if !job.has_ended() => None,
            Some(job) => Some(JobEnd { fault: job.fault(), succeeded: job.succeeded, failed: job.failed }),
            None if time_since(run, manifest.created) <= LONGEST_UNSEEN => None,
            None => {
                let fault = Some(format!("S3 does not have the job {id}"));
                Some(JobEnd { fault, succeeded: 0, failed: 0 })
            }
        };
    }
    let all_ended = taken.row.manifests.iter().all(|manifest| manifest.end.is_some());
    if all_ended {
        taken.row.step = Step::Reading(Reading::default());
    }
    taken.save(run).await?;
    Ok(all_ended)
}

/// The pause until the next look.
pub(super) fn pause<L: Store>(run: &Run<'_, L>, row: &BatchRow) -> Duration {
    (time_since(run, row.confirmed) / 4).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

/// The time since a moment in seconds since 1970.
fn time_since<L: Store>(run: &Run<'_, L>, moment: Option<i64>) -> Duration {
    let seconds = run.now().unix_timestamp() - moment.unwrap_or_default();
    Duration::from_secs(seconds.max(0).unsigned_abs())
}
