//! What the jobs of S3 Batch Operations do, and the confirmations that start them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use artifact_checker::Answer;
use serde_json::json;

use super::cloud::{Cloud, State};
use super::network::is_right;
use super::others::{self, Deed};
use super::scene::Special;
use super::witness::Task;
use crate::world::jobs::{JobRules, ReportFault};
use crate::world::request::decode;
use crate::world::s3::{Sse, Version};
use crate::world::{BUCKET, Request};

/// How the jobs of a history run: half of them end before they have come to every object.
pub(super) fn rules(state: &mut State, special: Special) -> JobRules {
    match state.below(4) {
        _ if special == Special::JobBesideSweep => JobRules { tries: 1, ..JobRules::default() },
        0 => JobRules { status: "Failed", tries: 1, ..JobRules::default() },
        1 => JobRules { tries: 2, looks: 3, ..JobRules::default() },
        2 => JobRules { fault: Some(ReportFault::Short), ..JobRules::default() },
        _ => JobRules::default(),
    }
}

/// The request with which a person confirms a repair.
pub(super) fn confirmation(code: &str) -> Deed {
    Deed::Invoke { payload: json!({"repair": code}).to_string(), what: "confirmations" }
}

/// The confirmations of the repair that an answer asks for. Some repairs are confirmed late, twice or never.
pub(super) fn confirmations(state: &mut State, special: Special, answer: &Answer) -> Vec<(Duration, Deed)> {
    let asks = |reason: &str| reason.contains("make repair") || reason.contains("waits for a confirmation");
    let asking = answer.decisions.iter().find(|decision| asks(&decision.reason));
    let Some(code) = asking.and_then(|decision| decision.concerns.get("code")) else { return Vec::new() };
    if special == Special::JobBesideSweep {
        return vec![
            (Duration::from_secs(1), confirmation(code)),
            (Duration::from_secs(4), others::sweep_of_schedule()),
        ];
    }
    let count = state.one_of(&[0, 1, 1, 2]);
    let late = |_| Duration::from_secs(state.one_of(&[1, 1, 20, 200, 3_600 * 24]));
    (0..count).map(late).map(|late| (late, confirmation(code))).collect()
}

/// The bucket before a request that may let a job run.
pub(super) struct BeforeJob {
    number: usize,
    writes: u64,
    objects: BTreeMap<String, Vec<Version>>,
}

impl BeforeJob {
    /// `None` if the request lets no job run.
    pub(super) fn of(request: &Request, cloud: &Cloud) -> Option<Self> {
        let number = request.path.rsplit_once("/job").filter(|_| request.operation == "DescribeJob")?.1.parse().ok()?;
        let world = cloud.world.state();
        let bucket = world.bucket(BUCKET);
        Some(Self { number, writes: bucket.writes, objects: bucket.objects.clone() })
    }

    /// Shows the witness what the job has done, if it has run.
    pub(super) fn compare(self, state: &mut State, cloud: &Cloud) {
        let (job, bucket_key, tries, default) = {
            let world = cloud.world.state();
            if world.bucket(BUCKET).writes == self.writes {
                return;
            }
            let job = &world.jobs[self.number];
            let default = world.bucket(BUCKET).defaults_to_bucket_key;
            (job.manifest.clone(), job.bucket_key, world.job_rules.tries, default)
        };
        state.count(if bucket_key { "jobs with the S3 Bucket Key" } else { "jobs without the S3 Bucket Key" });
        let lines = job.lines().count();
        state.log(&format!("job {} comes to {} of {lines} objects", self.number, tries.min(lines)));
        if tries < lines {
            state.count("jobs that failed halfway");
        }
        let mut done = BTreeSet::new();
        for line in job.lines().take(tries) {
            let mut fields = line.split(',').skip(1).map(decode);
            let (key, version) = (fields.next().expect("a line has a key"), fields.next());
            let found = match &version {
                Some(id) => self.objects.get(&key).and_then(|all| all.iter().find(|one| one.id == *id)),
                None => self.objects.get(&key).and_then(|all| all.last()),
            };
            let Some(found) = found else { continue };
            let was_right = is_right(&found.sse) || !done.insert(line.to_owned());
            let keeps_setting = match found.sse {
                Sse::S3 => bucket_key == default,
                _ => bucket_key == found.bucket_key,
            };
            state.witness.repaired_by_job(Task { key, was_right, keeps_setting });
        }
    }
}
