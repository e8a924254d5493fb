//! The use case in which a schedule requests a sweep of every artifact bucket of the account.

use std::collections::BTreeSet;
use std::iter::once;
use std::time::Duration;

use sekisho_lambda::failure::chain;
use sekisho_ledger::Store;
use tracing::error;

use crate::answer::Answer;
use crate::artifact_stores::ArtifactStores;
use crate::aws::s3::list;
use crate::checker::batch;
use crate::checker::bucket::artifact_stores;
use crate::checker::passes::Passes;
use crate::checker::range_state::{resume, send};
use crate::checker::sweep::sweep_or_report;
use crate::error::Error;
use crate::request::{SweepMode, SweepRequest};
use crate::run::Run;
use crate::sweep_row::SweepRow;

/// If less time than this is left, the next bucket is left to the function's queue.
const SHORTEST_SWEEP: Duration = Duration::from_mins(2);

/// Sweeps the bucket that was deployed with this function, the buckets of the account's pipelines, and the account's
/// buckets that have a section in the configuration. An error with one bucket keeps no other one waiting: the invocation
/// fails after the last bucket, and Lambda repeats it.
pub(crate) async fn sweep_all<L: Store>(run: &Run<'_, L>) -> Result<Answer, Error> {
    let stores = artifact_stores(run).await;
    let own = run.settings.bucket.as_str();
    let mut buckets: BTreeSet<&str> = stores.here().iter().map(|store| store.bucket.as_str()).collect();
    for bucket in run.settings.artifacts.buckets.keys() {
        if !buckets.contains(bucket.as_str()) && !is_elsewhere(run, bucket).await {
            buckets.insert(bucket);
        }
    }
    let others = buckets.into_iter().filter(|bucket| *bucket != own);
    batch::resume(run).await;
    let (mut answer, mut failure) = (Answer::default(), None);
    for bucket in once(own).chain(others) {
        match sweep_one(run, bucket, &stores).await {
            Ok(swept) => answer = answer.followed_by(swept),
            Err(error) => {
                error!(error = chain(&error), bucket, "the bucket could not be swept, the next one is");
                failure.get_or_insert(error);
            }
        }
    }
    failure.map_or(Ok(answer), Err)
}

/// Whether a bucket that the configuration names belongs to another account or region, as far as S3 shows it: all
/// accounts have the same configuration. S3 refuses a bucket of another account like one for which this function lacks a
/// permission, but a bucket that was swept before belongs to this account. After any other error, the sweep reports it.
async fn is_elsewhere<L: Store>(run: &Run<'_, L>, bucket: &str) -> bool {
    match list::page(&run.s3(), bucket, false, None).await {
        Err(error) if error.status == Some(403) => {
            Passes::read(run, bucket).await.is_ok_and(|passes| passes.is_first())
        }
        listed => listed.is_err_and(|error| error.is_refused()),
    }
}

/// Sweeps a bucket, or leaves it to the function's queue.
async fn sweep_one<L: Store>(run: &Run<'_, L>, bucket: &str, stores: &ArtifactStores) -> Result<Answer, Error> {
    resume_requested(run, bucket).await?;
    let request = SweepRequest::scheduled(bucket);
    if run.time_left() >= SHORTEST_SWEEP {
        return sweep_or_report(run, &request, stores).await;
    }
    send(run, &request, Duration::ZERO).await?;
    Ok(Answer::default())
}

/// Resumes the sweeps of a bucket that persons have requested and whose messages may be lost.
async fn resume_requested<L: Store>(run: &Run<'_, L>, bucket: &str) -> Result<(), Error> {
    let keys = SweepMode::OTHERS.map(|mode| SweepRow::key(bucket, mode));
    for row in run.ledger.read_many::<SweepRow>(&keys).await? {
        // An unreadable row must not keep the schedule from its own sweep.
        if let Ok(Some(row)) = row
            && !row.state.complete
        {
            let request = SweepRequest::of_mode(bucket, row.state.mode());
            resume(run, &request, &row.state).await?;
        }
    }
    Ok(())
}
