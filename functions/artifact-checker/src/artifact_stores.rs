//! The artifact stores of the account's pipelines, and the pipelines that CodePipeline did not show.

use std::borrow::Cow;
use std::rc::Rc;

use sekisho_domain::decision::Decision;
use sekisho_lambda::ServiceError;

use crate::outcome::Outcome;
use crate::repair::RepairRule;
use crate::right_key::ArtifactStore;
use crate::settings::Settings;
use crate::verdict::in_words;

/// The artifact stores of the account's pipelines.
#[derive(Debug, Default)]
pub(crate) struct ArtifactStores {
    pub(crate) shown: Rc<Vec<ArtifactStore>>,
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
    pub(crate) fn has_bucket(&self, bucket: &str) -> bool {
        self.shown.iter().any(|store| store.bucket == bucket)
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

    /// The answer that hid the first hidden pipeline.
    pub(crate) fn into_error(self) -> Option<ServiceError> {
        self.hidden.into_iter().next().map(|hidden| hidden.error)
    }

    /// One finding for each hidden pipeline.
    pub(crate) fn findings(&self) -> Vec<Decision<Outcome>> {
        self.hidden.iter().map(HiddenPipelines::finding).collect()
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
