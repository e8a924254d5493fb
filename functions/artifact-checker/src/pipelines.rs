//! CodePipeline: which buckets the account's pipelines keep artifacts in, under which key, and which execution wrote one.

use std::collections::HashMap;

use aws_sdk_codepipeline::Client;
use aws_sdk_codepipeline::types::ArtifactStore;
use futures_util::{StreamExt, TryStreamExt, stream};
use sekisho_domain::decision::Decision;
use sekisho_lambda::failure::chain;
use tokio::sync::OnceCell;

use crate::answer::{Refusal, Unanswered};
use crate::key::{KeyArn, named_account};
use crate::right_key::{Store, likely_cause};
use crate::sdk::refusal;
use crate::verdict::Outcome;

const LIST: &str = "codepipeline:ListPipelines";
const GET: &str = "codepipeline:GetPipeline";
const ACTIONS: &str = "codepipeline:ListActionExecutions";
/// CodePipeline's rates are unpublished and low.
const AT_ONCE: usize = 4;
/// Pages of 100 actions that are read to find who wrote an artifact: the last executions.
const PAGES: usize = 5;
const PAGE: i32 = 100;

/// The artifact stores of all pipelines in `region`.
///
/// # Errors
/// Where CodePipeline did not answer, or does not let this function see.
pub async fn stores(client: &Client, region: &str) -> Result<Vec<Store>, Unanswered> {
    let mut names = Vec::new();
    let mut pages = client.list_pipelines().into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| refusal(LIST, error).into_unanswered(LIST))?;
        names.extend(page.pipelines.unwrap_or_default().into_iter().filter_map(|pipeline| pipeline.name));
    }
    let found: Vec<Vec<Store>> = stream::iter(names.into_iter().map(|name| of_pipeline(client, name, region)))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().collect())
}

async fn of_pipeline(client: &Client, name: String, region: &str) -> Result<Vec<Store>, Unanswered> {
    let declared = match client.get_pipeline().name(&name).send().await {
        Ok(answer) => answer.pipeline,
        Err(error) => match refusal(GET, error) {
            // Deleted since it was listed.
            Refusal::Said(said) if said.code.as_deref() == Some("PipelineNotFoundException") => None,
            refused => return Err(refused.into_unanswered(GET)),
        },
    };
    let Some(declared) = declared else { return Ok(Vec::new()) };
    let store = |store: ArtifactStore| Store {
        pipeline: name.clone(),
        bucket: store.location,
        key: store.encryption_key.map(|key| key.id),
    };
    // A pipeline of one region has a store, one of several has one for each.
    let here = declared.artifact_stores.and_then(|mut stores| stores.remove(region));
    Ok(declared.artifact_store.into_iter().chain(here).map(store).collect())
}

/// An action of a pipeline that wrote an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The pipeline's name.
    pub pipeline: String,
    /// The execution's id.
    pub execution: String,
    /// The action's name.
    pub action: String,
}

/// Finds which execution wrote an artifact. What the pipelines' last executions wrote is read once, when it is asked for.
#[derive(Debug)]
pub struct Origins<'a> {
    client: &'a Client,
    stores: &'a [Store],
    bucket: &'a str,
    known: OnceCell<HashMap<String, Origin>>,
}

impl<'a> Origins<'a> {
    /// Of a bucket's artifacts.
    #[must_use]
    pub fn new(client: &'a Client, stores: &'a [Store], bucket: &'a str) -> Self {
        Self { client, stores, bucket, known: OnceCell::new() }
    }

    /// Which action wrote this object, if it is one of the last.
    ///
    /// # Errors
    /// Where CodePipeline did not answer, or does not let this function see.
    pub async fn of(&self, key: &str) -> Result<Option<&Origin>, Unanswered> {
        Ok(self.known.get_or_try_init(|| self.read()).await?.get(key))
    }

    /// A finding about an object under another account's key, with the execution that wrote it and the likely cause.
    pub async fn explain(&self, finding: Decision<Outcome>, right: &KeyArn) -> Decision<Outcome> {
        let about = |what| finding.concerns.get(what).map_or("", String::as_str);
        let owner = named_account(about("encryption")).unwrap_or("unknown").to_owned();
        let origin = match self.of(about("object")).await {
            Ok(origin) => origin,
            // What can't be explained is a finding all the same.
            Err(unanswered) => return finding.about("likely_cause", format!("not found out: {}", chain(&unanswered))),
        };
        let store = origin.and_then(|origin| self.store(&origin.pipeline));
        let finding = if finding.concerns.contains_key("writer") {
            finding
        } else {
            finding.about("writer", format!("account {owner}, whose key it is under"))
        };
        finding
            .about_some("pipeline", origin.map(|origin| origin.pipeline.as_str()))
            .about_some("execution", origin.map(|origin| origin.execution.as_str()))
            .about_some("action", origin.map(|origin| origin.action.as_str()))
            .about("likely_cause", likely_cause(&owner, store, right))
    }

    fn store(&self, pipeline: &str) -> Option<&'a Store> {
        self.stores.iter().find(|store| store.bucket == self.bucket && store.pipeline == pipeline)
    }

    async fn read(&self) -> Result<HashMap<String, Origin>, Unanswered> {
        let mut known = HashMap::new();
        for store in self.stores.iter().filter(|store| store.bucket == self.bucket) {
            let actions = self.client.list_action_executions().pipeline_name(&store.pipeline).max_results(PAGE);
            let mut pages = actions.into_paginator().send();
            let mut read = 0;
            while let Some(page) = pages.next().await {
                let page = match page.map_err(|error| refusal(ACTIONS, error)) {
                    Ok(page) => page,
                    Err(Refusal::Said(said)) if said.code.as_deref() == Some("PipelineNotFoundException") => break,
                    Err(refused) => return Err(refused.into_unanswered(ACTIONS)),
                };
                for action in page.action_execution_details.unwrap_or_default() {
                    let origin = Origin {
                        pipeline: store.pipeline.clone(),
                        execution: action.pipeline_execution_id.unwrap_or_default(),
                        action: action.action_name.unwrap_or_default(),
                    };
                    let written = action.output.and_then(|output| output.output_artifacts).unwrap_or_default();
                    for place in written.into_iter().filter_map(|artifact| artifact.s3_location) {
                        if let (Some(bucket), Some(key)) = (place.bucket, place.key)
                            && bucket == self.bucket
                        {
                            known.insert(key, origin.clone());
                        }
                    }
                }
                read += 1;
                if read == PAGES {
                    break;
                }
            }
        }
        Ok(known)
    }
}
