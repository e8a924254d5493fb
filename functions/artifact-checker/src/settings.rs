//! The values that the environment and the configuration file set for this function.

use std::borrow::Cow;

use sekisho_domain::artifacts::Artifacts;
use sekisho_domain::config::Misconfigured;
use sekisho_lambda::Environment;
use sekisho_lambda::environment::{ARTIFACT_BUCKET, ARTIFACT_KEY_ARN, SWEEP_CONCURRENCY, SWEEP_QUEUE_URL};

use crate::key::KeyArn;
use crate::rate::Rates;
use crate::repair::RepairRule;
use crate::request::SweepRequest;
use crate::sweep_ranges::MOST_RANGES;

/// At half of S3's rate, these objects take about seven seconds. A smaller bucket needs no second invocation.
const ALONE: usize = 20_000;

/// The size of a part of a manifest in bytes. An upload has up to 10,000 parts.
const MANIFEST_PART: usize = 32 * 1024 * 1024;

/// The function's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The `[artifacts]` section of the configuration file.
    pub artifacts: Artifacts,
    /// The artifact bucket that was deployed with this function.
    pub bucket: String,
    /// The right key of `bucket`.
    pub key: KeyArn,
    /// The most requests per second that a sweep sends.
    pub rates: Rates,
    /// How many objects of a bucket the first invocation checks before it leaves the rest to the ranges of the sweep.
    pub alone: usize,
    /// How many bytes of a manifest are uploaded at once.
    pub manifest_part: usize,
    /// The URL of the queue of the ranges of sweeps.
    pub queue_url: String,
    /// The most invocations that Lambda lets work on the ranges of sweeps at the same time.
    pub concurrency: u32,
}

impl Settings {
    /// How objects of a bucket may be repaired.
    pub(crate) fn repair_rule(&self, bucket: &str) -> RepairRule {
        match self.artifacts.buckets.get(bucket) {
            Some(entry) => RepairRule::of(entry.repair),
            None if bucket == self.bucket => RepairRule::of(self.artifacts.repair),
            None => RepairRule::Report(Cow::Owned(format!(
                "the bucket is not the stack's own, and the configuration has no section `[artifacts.buckets.{bucket}]`"
            ))),
        }
    }

    /// How many objects a sweep may repair; `None` if it repairs nothing.
    pub(crate) fn most_repairs(&self, request: &SweepRequest, rule: &RepairRule) -> Option<u64> {
        let repairs = !request.dry_run && !matches!(rule, RepairRule::Report(_));
        repairs.then_some(self.artifacts.confirm_above)
    }

    /// Reads the settings.
    ///
    /// # Errors
    /// If a variable or the `[artifacts]` section is missing or malformed.
    pub(crate) fn read(environment: &Environment) -> Result<Self, Misconfigured> {
        Ok(Self {
            artifacts: environment.configuration()?.artifacts()?,
            bucket: environment.required(ARTIFACT_BUCKET)?.to_owned(),
            key: KeyArn::of_variable(ARTIFACT_KEY_ARN, environment.required(ARTIFACT_KEY_ARN)?)?,
            rates: Rates::HALF,
            alone: ALONE,
            manifest_part: MANIFEST_PART,
            queue_url: environment.required(SWEEP_QUEUE_URL)?.to_owned(),
            concurrency: concurrency(environment.required(SWEEP_CONCURRENCY)?)?,
        })
    }
}

fn concurrency(text: &str) -> Result<u32, Misconfigured> {
    // More invocations than ranges would find nothing to do.
    text.parse().ok().filter(|concurrency| (1..=MOST_RANGES).contains(concurrency)).ok_or_else(|| Misconfigured {
        file: "environment".to_owned(),
        key: SWEEP_CONCURRENCY.to_owned(),
        reason: format!(
            "`{text}` is not a number from 1 to {MOST_RANGES}: deploy the function with the template, which sets it"
        ),
    })
}
