//! The use case in which a schedule requests a sweep of every artifact bucket of the account.

use std::collections::BTreeSet;
use std::iter::once;
use std::time::Duration;

use sekisho_ledger::Store;

use crate::answer::Answer;
use crate::aws::lambda;
use crate::checker::bucket::artifact_stores;
use crate::checker::sweep::sweep_or_report;
use crate::error::Error;
use crate::request::SweepRequest;
use crate::run::Run;

/// If less time than this is left, the function invokes itself for the next bucket.
const SHORTEST_SWEEP: Duration = Duration::from_mins(2);

/// Sweeps the bucket that was deployed with this function, and the buckets of the account's pipelines.
pub(crate) async fn sweep_all<L: Store>(run: &Run<'_, L>) -> Result<Answer, Error> {
    let stores = artifact_stores(run).await;
    let own = run.settings.bucket.as_str();
    let buckets: BTreeSet<&str> = stores.shown.iter().map(|store| store.bucket.as_str()).collect();
    let others = buckets.into_iter().filter(|bucket| *bucket != own);
    let mut answer = Answer::default();
    for bucket in once(own).chain(others) {
        let request = SweepRequest::of_bucket(bucket);
        if run.invocation.time_left(run.now()) < SHORTEST_SWEEP {
            lambda::invoke(&run.clients.lambda, &run.invocation.function, request.payload()).await?;
        } else {
            answer = answer.followed_by(sweep_or_report(run, &request, &stores).await?);
        }
    }
    Ok(answer)
}
