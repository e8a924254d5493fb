//! The use case in which a schedule requests a sweep of every artifact bucket of the account.

use std::collections::BTreeSet;
use std::iter::once;
use std::time::Duration;

use sekisho_ledger::Store;

use crate::answer::Answer;
use crate::aws::s3::list;
use crate::checker::batch;
use crate::checker::bucket::artifact_stores;
use crate::checker::range_state::{resume, send};
use crate::checker::sweep::sweep_or_report;
use crate::error::Error;
use crate::request::{SweepMode, SweepRequest};
use crate::run::Run;
use crate::sweep_row::SweepRow;

/// If less time than this is left, the next bucket is left to the function's queue.
const SHORTEST_SWEEP: Duration = Duration::from_mins(2);

/// Sweeps the bucket that was deployed with this function, the buckets of the account's pipelines, and the account's
/// buckets that have a section in the configuration.
pub(crate) async fn sweep_all<L: Store>(run: &Run<'_, L>) -> Result<Answer, Error> {
    let stores = artifact_stores(run).await;
    let own = run.settings.bucket.as_str();
    let mut buckets: BTreeSet<&str> = stores.here().iter().map(|store| store.bucket.as_str()).collect();
    for bucket in run.settings.artifacts.buckets.keys() {
        // All accounts have the same configuration, so the bucket may belong to another one.
        if !buckets.contains(bucket.as_str()) && list::page(&run.s3(), bucket, false, None).await.is_ok() {
            buckets.insert(bucket);
        }
    }
    let others = buckets.into_iter().filter(|bucket| *bucket != own);
    batch::resume(run).await;
    let mut answer = Answer::default();
    for bucket in once(own).chain(others) {
        resume_requested(run, bucket).await?;
        let request = SweepRequest::scheduled(bucket);
        if run.invocation.time_left(run.now()) < SHORTEST_SWEEP {
            send(run, &request, Duration::ZERO).await?;
        } else {
            answer = answer.followed_by(sweep_or_report(run, &request, &stores).await?);
        }
    }
    Ok(answer)
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
