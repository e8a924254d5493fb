//! The artifact stores of the account's pipelines, and the pipelines that CodePipeline did not show.

use std::borrow::Cow;
use std::rc::Rc;

use sekisho_domain::decision::Decision;
use sekisho_lambda::ServiceError;

use crate::bucket_finding::QUIET;
use crate::key::KeyArn;
use crate::outcome::Outcome;
use crate::repair::RepairRule;
use crate::right_key::ArtifactStore;
use crate::settings::Settings;
use crate::verdict::in_words;

/// The artifact stores that CodePipeline showed.
#[derive(Debug, Default)]
pub(crate) struct ShownStores {
    /// The stores in this function's region.
    pub(crate) here: Vec<ArtifactStore>,
    /// The stores of the same pipelines in other regions, for their actions there.
    pub(crate) elsewhere: Vec<RemoteStore>,
}

/// The artifact store of a pipeline in another region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteStore {
    pub(crate) region: String,
    pub(crate) store: ArtifactStore,
}

/// The artifact stores of the account's pipelines.
#[derive(Debug, Default)]
pub(crate) struct ArtifactStores {
    pub(crate) shown: Rc<ShownStores>,
    /// The pipelines whose stores are missing in `shown`.
    pub(crate) hidden: Vec<HiddenPipelines>,
}

/// A pipeline that CodePipeline did not show, or several pipelines.
#[derive(Debug)]
pub(crate) struct HiddenPipelines {
    /// The pipeline's name; `None` if CodePipeline did not list the pipelines.
    pub(crate) name: Option<String>,
    /// The answer of CodePipeline.
    pub(crate) error: ServiceError,
}

impl ArtifactStores {
    /// The stores in this function's region.
    pub(crate) fn here(&self) -> &[ArtifactStore] {
        &self.shown.here
    }

    /// Whether artifacts are in the bucket: a pipeline of this account stores artifacts there, or the configuration has
    /// a section for the bucket, as for a central bucket that only pipelines of other accounts use.
    pub(crate) fn has_bucket(&self, settings: &Settings, bucket: &str) -> bool {
        self.here().iter().any(|store| store.bucket == bucket) || settings.artifacts.buckets.contains_key(bucket)
    }

    /// Whether the stores of every pipeline are known.
    pub(crate) fn is_complete(&self) -> bool {
        self.hidden.is_empty()
    }

    /// How objects of a bucket may be repaired. A hidden pipeline may store artifacts in the bucket under another key,
    /// so the bucket is then only reported on. The right key of the function's own bucket depends on no pipeline.
    pub(crate) fn repair_rule(&self, settings: &Settings, bucket: &str) -> RepairRule {
        match settings.repair_rule(bucket) {
            RepairRule::Update { .. } | RepairRule::Copy if bucket != settings.bucket && !self.is_complete() => {
                RepairRule::Report(Cow::Borrowed("CodePipeline does not show every pipeline that may use the bucket"))
            }
            rule => rule,
        }
    }

    /// Fails if a pipeline is hidden for a reason that passes, such as throttling.
    pub(crate) fn or_passing_error(mut self) -> Result<Self, ServiceError> {
        match self.hidden.iter().position(|hidden| !hidden.error.is_refused()) {
            Some(at) => Err(self.hidden.swap_remove(at).error),
            None => Ok(self),
        }
    }

    /// The answer that hid the first hidden pipeline.
    pub(crate) fn into_error(self) -> Option<ServiceError> {
        self.hidden.into_iter().next().map(|hidden| hidden.error)
    }

    /// One finding for each hidden pipeline and each store in another region.
    pub(crate) fn findings(&self) -> Vec<Decision<Outcome>> {
        let elsewhere = self.shown.elsewhere.iter().map(RemoteStore::finding);
        self.hidden.iter().map(HiddenPipelines::finding).chain(elsewhere).collect()
    }
}

impl RemoteStore {
    /// A wrong name of the key can be seen from here, but the objects cannot be checked from here.
    fn finding(&self) -> Decision<Outcome> {
        let Self { region, store: ArtifactStore { pipeline, bucket, key } } = self;
        let store = format!("the pipeline stores artifacts of its actions in {region} in the bucket {bucket}");
        let fix = format!("write the full ARN of a key in {region} as the encryptionKey of that artifact store");
        let is_of_region = |key: &KeyArn| key.region() == region;
        let wrong_name = match key.as_deref().map(|name| (name, KeyArn::parse(name))) {
            None => Some("names no key, so each action writes under the key aws/s3 of its own account".to_owned()),
            Some((name, None)) => {
                Some(format!("names its key `{name}`, which AWS looks up in the account of each action's role"))
            }
            Some((name, Some(key))) if !is_of_region(&key) => Some(format!("names {name}, a key of another region")),
            Some(_) => None,
        };
        let decision = match wrong_name {
            Some(wrong) => Decision::new(Outcome::Reported, format!("{store}, and {wrong}: {fix}")),
            None => Decision::new(
                Outcome::Unverifiable,
                format!(
                    "{store}, which this function does not check: deploy the stack in {region}, with a section \
                     `[artifacts.buckets.{bucket}]` in its configuration. If it is checked there, accept this finding"
                ),
            )
            .about(QUIET, "true"),
        };
        decision.about("pipeline", pipeline).about("problem", format!("store-in-{region}"))
    }
}

impl HiddenPipelines {
    fn finding(&self) -> Decision<Outcome> {
        let outcome = if self.error.is_refused() { Outcome::Unverifiable } else { Outcome::Unknown };
        let answer = in_words(&self.error);
        let reason = match &self.name {
            Some(_) => format!(
                "CodePipeline does not show the pipeline ({answer}): its artifact bucket is not swept, unless another \
                 pipeline stores artifacts in it"
            ),
            None => format!(
                "CodePipeline does not list the pipelines ({answer}): only the bucket that was deployed with this \
                 function is swept"
            ),
        };
        // The star keeps this finding apart from a finding about one pipeline.
        Decision::new(outcome, reason)
            .about("pipeline", self.name.as_deref().unwrap_or("*"))
            .about("problem", "hidden-pipeline")
    }
}
