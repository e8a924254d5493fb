//! Finds out a bucket's pipelines, its right key, and whether this function may read the bucket.

use std::rc::Rc;

use sekisho_domain::decision::Decision;
use sekisho_lambda::Invocation;
use sekisho_lambda::ServiceError;
use sekisho_lambda::failure::chain;
use sekisho_ledger::Store;
use tracing::warn;

use crate::artifact_stores::{ArtifactStores, HiddenPipelines};
use crate::aws::codepipeline;
use crate::aws::s3::{S3, list};
use crate::bucket_finding;
use crate::outcome::Outcome;
use crate::right_key::{self, ArtifactStore, DefaultEncryption, KeyAssessment, StoreKey};
use crate::run::Run;
use crate::verdict::in_words;

/// Returns the artifact stores of the account's pipelines, from the cache if it has all of them.
pub(crate) async fn artifact_stores<L: Store>(run: &Run<'_, L>) -> ArtifactStores {
    if let Some(shown) = run.cache.stores(run.now()) {
        return ArtifactStores { shown, ..ArtifactStores::default() };
    }
    let region = run.invocation.region.as_str();
    let stores = codepipeline::artifact_stores(&run.clients.codepipeline, region).await;
    if stores.is_complete() {
        run.cache.set_stores(Rc::clone(&stores.shown), run.now());
    }
    for HiddenPipelines { name, error } in &stores.hidden {
        warn!(pipeline = name, error = chain(error), "the key of a pipeline is not checked");
    }
    stores
}

/// Returns the artifact stores of the account's pipelines for the rest of a sweep of a bucket. A hidden pipeline may
/// decide the right key of another bucket than the function's own, so the rest waits until a passing error is over.
pub(crate) async fn stores_for_rest<L: Store>(run: &Run<'_, L>, bucket: &str) -> Result<ArtifactStores, ServiceError> {
    let stores = artifact_stores(run).await;
    if bucket == run.settings.bucket { Ok(stores) } else { stores.or_passing_error() }
}

/// Determines the right key of a bucket, and the findings about pipelines and the bucket that do not name that key.
pub(crate) async fn assess_key<L: Store>(
    run: &Run<'_, L>,
    s3: &S3,
    bucket: &str,
    stores: &[ArtifactStore],
) -> Result<KeyAssessment, ServiceError> {
    if let Some(assessment) = run.cache.key_assessment(bucket, run.now()) {
        return Ok(assessment);
    }
    let default = match s3.default_key(bucket).await {
        Ok(None) => DefaultEncryption::S3Managed,
        Ok(Some(name)) => {
            let status = run.keys.status(&name).await?;
            DefaultEncryption::Key(name, status)
        }
        Err(error) if error.is_refused() => DefaultEncryption::NotShown(in_words(&error)),
        Err(error) => return Err(error),
    };
    let mut store_keys = Vec::new();
    for store in stores.iter().filter(|store| store.bucket == bucket) {
        let status = match &store.key {
            Some(name) => Some(run.keys.status(name).await?),
            None => None,
        };
        store_keys.push(StoreKey { store: store.clone(), status });
    }
    let configured = (bucket == run.settings.bucket).then_some(&run.settings.key);
    let assessment = right_key::assess(bucket, configured, &store_keys, &default);
    run.cache.set_key_assessment(bucket, assessment.clone(), run.now());
    Ok(assessment)
}

/// Returns a finding if this function may not read a bucket, and `None` if it may. Unless a person adds permissions,
/// this function may read only the bucket that was deployed with it.
pub(crate) async fn closed_finding<L: Store>(
    run: &Run<'_, L>,
    s3: &S3,
    bucket: &str,
) -> Result<Option<Decision<Outcome>>, ServiceError> {
    match list::page(s3, bucket, false, None).await {
        Err(error) if !error.is_refused() => Err(error),
        Err(error) if error.status == Some(403) => {
            let Invocation { partition, region, .. } = run.invocation;
            Ok(Some(bucket_finding::closed(bucket, partition, region.as_str(), &in_words(&error))))
        }
        Ok(_) | Err(_) => Ok(None),
    }
}
