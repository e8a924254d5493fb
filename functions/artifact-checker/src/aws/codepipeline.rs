//! CodePipeline: the artifact stores of the account's pipelines, and the executions that wrote their artifacts.

pub(crate) mod executions;

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use aws_sdk_codepipeline::Client;
use aws_sdk_codepipeline::types::{ActionExecutionDetail, ArtifactStore as StoreDeclaration};
use futures_util::{StreamExt, stream};
use sekisho_lambda::ServiceError;
use tokio::sync::OnceCell;
use tokio::time::sleep;

use crate::artifact_stores::{ArtifactStores, HiddenPipelines, RemoteStore, ShownStores};
use crate::aws::service_error;
use crate::right_key::ArtifactStore;

/// How many calls are in flight at the same time. The number is small, because CodePipeline's request limits are low
/// and AWS does not publish them.
pub(crate) const CONCURRENT_CALLS: usize = 4;
/// The pauses before a call is repeated, after the SDK's own retries.
const PAUSES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(5)];
/// How many pages of action executions are read for each pipeline. The latest executions come first.
const PAGES: usize = 5;
const PAGE_SIZE: i32 = 100;
/// The error code for a pipeline that was deleted after it was listed.
const NOT_FOUND: &str = "PipelineNotFoundException";

/// The artifact stores of all pipelines in `region`. A pipeline that CodePipeline does not show hides no other one.
pub(crate) async fn artifact_stores(client: &Client, region: &str) -> ArtifactStores {
    let names = match until_answered(|| pipeline_names(client)).await {
        Ok(names) => names,
        Err(error) => {
            let hidden = vec![HiddenPipelines { name: None, error }];
            return ArtifactStores { hidden, ..ArtifactStores::default() };
        }
    };
    let read = |name: String| async move {
        let stores = until_answered(|| stores_of_pipeline(client, &name, region)).await;
        stores.map_err(|error| HiddenPipelines { name: Some(name), error })
    };
    let mut answers = stream::iter(names.into_iter().map(read)).buffered(CONCURRENT_CALLS);
    let mut shown = ShownStores::default();
    let mut hidden = Vec::new();
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(stores) => {
                shown.here.extend(stores.here);
                shown.elsewhere.extend(stores.elsewhere);
            }
            Err(pipeline) => hidden.push(pipeline),
        }
    }
    ArtifactStores { shown: Rc::new(shown), hidden }
}

/// Repeats a call that CodePipeline throttled or did not answer.
async fn until_answered<T>(call: impl AsyncFn() -> Result<T, ServiceError>) -> Result<T, ServiceError> {
    for pause in PAUSES {
        match call().await {
            Err(error) if !error.is_refused() => sleep(pause).await,
            answer => return answer,
        }
    }
    call().await
}

async fn pipeline_names(client: &Client) -> Result<Vec<String>, ServiceError> {
    let mut names = Vec::new();
    let mut pages = client.list_pipelines().into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| service_error("codepipeline:ListPipelines", error))?;
        names.extend(page.pipelines.unwrap_or_default().into_iter().filter_map(|pipeline| pipeline.name));
    }
    Ok(names)
}

async fn stores_of_pipeline(client: &Client, name: &str, region: &str) -> Result<ShownStores, ServiceError> {
    let declaration = match client.get_pipeline().name(name).send().await {
        Ok(answer) => answer.pipeline,
        Err(error) => {
            let error = service_error("codepipeline:GetPipeline", error);
            if is_not_found(&error) { None } else { return Err(error) }
        }
    };
    let Some(declaration) = declaration else { return Ok(ShownStores::default()) };
    let store = |store: StoreDeclaration| ArtifactStore {
        pipeline: name.to_owned(),
        bucket: store.location,
        key: store.encryption_key.map(|key| key.id),
    };
    // A pipeline in one region declares one store; a pipeline in several regions declares one store for each region.
    let mut regional = declaration.artifact_stores.unwrap_or_default();
    let here = declaration.artifact_store.into_iter().chain(regional.remove(region)).map(store).collect();
    let mut elsewhere: Vec<RemoteStore> =
        regional.into_iter().map(|(region, declared)| RemoteStore { region, store: store(declared) }).collect();
    elsewhere.sort_by(|one, other| one.region.cmp(&other.region));
    Ok(ShownStores { here, elsewhere })
}

/// The latest executions of a pipeline's actions, from the latest to the earliest. A pipeline that was deleted has none.
async fn action_executions(client: &Client, pipeline: &str) -> Result<Vec<ActionExecutionDetail>, ServiceError> {
    let actions = client.list_action_executions().pipeline_name(pipeline).max_results(PAGE_SIZE);
    let mut pages = actions.into_paginator().send();
    let mut details = Vec::new();
    for _ in 0..PAGES {
        let Some(page) = pages.next().await else { break };
        match page.map_err(|error| service_error("codepipeline:ListActionExecutions", error)) {
            Ok(page) => details.extend(page.action_execution_details.unwrap_or_default()),
            Err(error) if is_not_found(&error) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(details)
}

fn is_not_found(error: &ServiceError) -> bool {
    error.is_refused() && error.code() == Some(NOT_FOUND)
}

/// The pipeline action that wrote an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArtifactWriter {
    /// The pipeline's name.
    pub(crate) pipeline: String,
    /// The execution's id.
    pub(crate) execution: String,
    /// The action's name.
    pub(crate) action: String,
}

/// The writers of a bucket's recent artifacts. The first call of `writer_of` reads the latest executions of the
/// bucket's pipelines.
#[derive(Debug)]
pub(crate) struct ArtifactWriters<'a> {
    client: &'a Client,
    stores: &'a [ArtifactStore],
    bucket: &'a str,
    by_key: OnceCell<HashMap<String, ArtifactWriter>>,
}

impl<'a> ArtifactWriters<'a> {
    pub(crate) fn new(client: &'a Client, stores: &'a [ArtifactStore], bucket: &'a str) -> Self {
        Self { client, stores, bucket, by_key: OnceCell::new() }
    }

    /// The writer of the object with this key, if a recent execution wrote it.
    pub(crate) async fn writer_of(&self, key: &str) -> Result<Option<&ArtifactWriter>, ServiceError> {
        Ok(self.by_key.get_or_try_init(|| self.read()).await?.get(key))
    }

    /// The artifact store of this pipeline in the bucket.
    pub(crate) fn store(&self, pipeline: &str) -> Option<&'a ArtifactStore> {
        self.stores_of_bucket().find(|store| store.pipeline == pipeline)
    }

    fn stores_of_bucket(&self) -> impl Iterator<Item = &'a ArtifactStore> {
        self.stores.iter().filter(|store| store.bucket == self.bucket)
    }

    async fn read(&self) -> Result<HashMap<String, ArtifactWriter>, ServiceError> {
        let mut by_key = HashMap::new();
        for store in self.stores_of_bucket() {
            let actions = action_executions(self.client, &store.pipeline).await?;
            by_key.extend(actions.into_iter().flat_map(|action| self.written_by(&store.pipeline, action)));
        }
        Ok(by_key)
    }

    /// The keys of the artifacts that an action wrote into the bucket.
    fn written_by(&self, pipeline: &str, action: ActionExecutionDetail) -> Vec<(String, ArtifactWriter)> {
        let writer = ArtifactWriter {
            pipeline: pipeline.to_owned(),
            execution: action.pipeline_execution_id.unwrap_or_default(),
            action: action.action_name.unwrap_or_default(),
        };
        let artifacts = action.output.and_then(|output| output.output_artifacts).unwrap_or_default();
        let locations = artifacts.into_iter().filter_map(|artifact| artifact.s3_location);
        locations
            .filter(|location| location.bucket.as_deref() == Some(self.bucket))
            .filter_map(|location| Some((location.key?, writer.clone())))
            .collect()
    }
}
