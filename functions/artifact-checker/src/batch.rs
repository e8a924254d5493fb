//! The ledger row of a repair that a sweep has left to S3 Batch Operations.

use std::time::Duration;

use sekisho_domain::code::Code;
use sekisho_domain::decision::Decision;
use sekisho_domain::timestamp::{epoch_millis, parse_seconds};
use sekisho_ledger::{Key, Lease};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::outcome::Outcome;
use crate::repair::RequestCount;
use crate::report::folder;
use crate::sweep_row::SweepRow;

/// The partition of these rows, one for each bucket.
const PARTITION: &str = "artifact-repair";
/// The time after a write of the row in which only its holder may continue the repair.
pub(crate) const TERM: Duration = Duration::from_mins(2);
/// How long the row is kept after its last change.
const RETENTION: Duration = Duration::from_hours(24 * 400);
/// What S3 charges in US dollars for a job, and for a million objects of it, besides the requests.
const USD_PER_JOB: f64 = 0.25;
const USD_PER_MILLION: f64 = 1.0;
/// The requests of a job for one object. Unlike artifact-checker, a job does not read the object.
const REQUESTS: RequestCount = RequestCount { writes_and_lists: 1, reads: 0, kms: 2 };

/// A repair that a sweep has left to S3 Batch Operations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct BatchRow {
    /// The code with which a person confirms the repair.
    pub(crate) code: Code,
    pub(crate) bucket: String,
    /// The id of the sweep.
    pub(crate) sweep: String,
    /// Whether the manifests name versions.
    pub(crate) versions: bool,
    /// The folder of the sweep's lists, in which the manifests and the reports lie, too.
    pub(crate) folder: String,
    pub(crate) right_key: String,
    pub(crate) step: Step,
    /// At most one manifest with and one without the S3 Bucket Key, because this is a setting of a job.
    #[serde(default)]
    pub(crate) manifests: Vec<Manifest>,
    /// When a person confirmed the repair, in seconds since 1970.
    #[serde(default)]
    pub(crate) confirmed: Option<i64>,
    /// When the next message is due, in seconds since 1970. An earlier one is dropped.
    #[serde(default)]
    pub(crate) due: Option<i64>,
    /// Why the repair is incomplete.
    #[serde(default)]
    pub(crate) incomplete: Vec<String>,
    /// When the last confirmed repair of the bucket ended, in seconds since 1970. After its own end, this one counts.
    #[serde(default)]
    pub(crate) ended_at: Option<i64>,
    /// The id of the request that works on the repair.
    pub(crate) holder: String,
    /// The end of the time in which only the holder may work on it.
    pub(crate) until: Lease,
    /// When DynamoDB may delete the row, in seconds since 1970.
    pub(crate) expires: u64,
}

/// How far a repair has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Step {
    /// The manifests are put together from the parts that the sweep wrote.
    Collecting(Collecting),
    /// A person has to confirm the repair.
    Waiting,
    /// The jobs are created.
    Creating,
    /// The jobs run.
    Running,
    /// The reports of the jobs are read.
    Reading(Reading),
    Ended,
}

/// How far a manifest has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Collecting {
    /// Whether the manifest without the S3 Bucket Key is under way. It is the second one.
    pub(crate) is_second: bool,
    /// The last part that is in the manifest.
    pub(crate) after: Option<String>,
    /// The number of lines so far.
    pub(crate) tasks: u64,
    /// The id of the upload in parts, and the entity tags of its parts.
    pub(crate) upload: Option<(String, Vec<String>)>,
}

/// How far the reports have been read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reading {
    /// The manifest whose report is being read.
    pub(crate) manifest: usize,
    /// The file of the report.
    pub(crate) file: usize,
    /// The number of bytes of the file that have been read.
    pub(crate) offset: u64,
    /// The number of results in the files of this report so far.
    pub(crate) lines: u64,
    /// The number of findings that are resolved so far.
    pub(crate) resolved: u64,
    /// The number of failed tasks whose findings have no rows.
    pub(crate) untracked: u64,
}

/// A manifest, and the job that has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Whether the objects get the S3 Bucket Key.
    pub(crate) bucket_key: bool,
    pub(crate) key: String,
    pub(crate) etag: String,
    /// The number of objects.
    pub(crate) tasks: u64,
    /// When S3 was first asked to create the job, in seconds since 1970.
    #[serde(default)]
    pub(crate) asked: Option<i64>,
    #[serde(default)]
    pub(crate) job: Option<String>,
    /// When S3 answered that it had created the job, in seconds since 1970.
    #[serde(default)]
    pub(crate) created: Option<i64>,
    /// `None` until the job has ended.
    #[serde(default)]
    pub(crate) end: Option<JobEnd>,
}

/// How a job has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobEnd {
    /// Why the job did not complete.
    pub(crate) fault: Option<String>,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
}

impl Manifest {
    /// A manifest without a job.
    pub(crate) fn new(bucket_key: bool, key: String, etag: String, tasks: u64) -> Self {
        Self { bucket_key, key, etag, tasks, asked: None, job: None, created: None, end: None }
    }
}

impl BatchRow {
    pub(crate) fn key(bucket: &str) -> Key {
        Key { pk: PARTITION.to_owned(), sk: bucket.to_owned() }
    }

    /// The repair that a sweep leaves. `ended_at` is that of the row before.
    pub(crate) fn new(bucket: &str, sweep: &SweepRow, right_key: &str, ended_at: Option<i64>, holder: &str) -> Self {
        Self {
            code: Code::of(&["repair", bucket, &sweep.sweep]),
            bucket: bucket.to_owned(),
            sweep: sweep.sweep.clone(),
            versions: sweep.versions,
            folder: folder(bucket, sweep),
            right_key: right_key.to_owned(),
            step: Step::Collecting(Collecting::default()),
            manifests: Vec::new(),
            confirmed: None,
            due: None,
            incomplete: Vec::new(),
            ended_at,
            holder: holder.to_owned(),
            until: Lease::FREE,
            expires: 0,
        }
    }

    /// Whether the repair has not ended.
    pub(crate) fn is_open(&self) -> bool {
        self.step != Step::Ended
    }

    /// Whether a confirmed repair of the bucket has ended since a sweep began, or so many seconds before.
    pub(crate) fn has_ended_since(&self, sweep: &SweepRow, margin: i64) -> bool {
        let began = parse_seconds(&sweep.started).map_or(i64::MIN, OffsetDateTime::unix_timestamp);
        self.ended_at.is_some_and(|ended_at| began <= ended_at + margin)
    }

    /// Whether no person has confirmed the repair, so that a later sweep may replace it.
    pub(crate) fn is_unconfirmed(&self) -> bool {
        matches!(self.step, Step::Collecting(_) | Step::Waiting)
    }

    /// Whether an invocation works on the repair.
    pub(crate) fn is_held(&self, now: OffsetDateTime) -> bool {
        self.until.is_held(now, TERM)
    }

    /// Sets the time after `now` in which only the holder may work on the repair.
    pub(crate) fn lease(&mut self, now: OffsetDateTime, term: Duration) {
        self.until = if term.is_zero() { Lease::FREE } else { Lease::new(now, term) };
        self.expires = epoch_millis(now + RETENTION) / 1000;
    }

    /// The number of objects.
    pub(crate) fn tasks(&self) -> u64 {
        self.manifests.iter().map(|manifest| manifest.tasks).sum()
    }

    /// The estimated cost in US dollars.
    #[expect(clippy::cast_precision_loss, reason = "the result is an estimate")]
    pub(crate) fn usd(&self) -> f64 {
        let (jobs, tasks) = (self.manifests.len() as f64, self.tasks() as f64);
        jobs * USD_PER_JOB + tasks * (USD_PER_MILLION / 1e6 + REQUESTS.usd())
    }

    /// How many objects the jobs have put under the right key, and for how many they failed.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let ends = self.manifests.iter().filter_map(|manifest| manifest.end.as_ref());
        ends.fold((0, 0), |(succeeded, failed), end| (succeeded + end.succeeded, failed + end.failed))
    }

    /// The finding of which people know until the repair has ended. Each repair has a finding of its own, so that people
    /// get a notice with its code.
    pub(crate) fn finding(&self) -> Decision<Outcome> {
        let Self { code, .. } = self;
        let waiting = format!(
            "{} objects are under a wrong key, and the sweep left them to S3 Batch Operations, because it repairs only \
             as many as `confirm_above` allows. {} would repair them for an estimated {}. To start this: `make repair \
             ENV=… CODE={code}`, or invoke the function with {{\"repair\":\"{code}\"}}",
            self.tasks(),
            if self.manifests.len() == 1 { "A job" } else { "Jobs" },
            dollars(self.usd())
        );
        let confirmed =
            format!("the repair of {} objects is confirmed, and S3 Batch Operations makes it", self.tasks());
        Decision::new(Outcome::Reported, if self.confirmed.is_some() { confirmed } else { waiting })
            .about("bucket", &self.bucket)
            .about("problem", format!("repair-{code}"))
            .about("code", code.to_string())
    }

    /// How far the repair has come, as a decision that is no finding.
    pub(crate) fn progress(&self) -> Decision<Outcome> {
        let (succeeded, failed) = self.counts();
        let (tasks, cost) = (self.tasks(), dollars(self.usd()));
        let reason = match self.step {
            Step::Collecting(_) => {
                "the list of the objects for S3 Batch Operations is being written; a notice follows".to_owned()
            }
            Step::Waiting => format!("the repair of {tasks} objects waits for a confirmation; estimated cost: {cost}"),
            Step::Creating | Step::Running | Step::Reading(_) => format!(
                "S3 Batch Operations repairs {tasks} objects; estimated cost: {cost}; a notice follows at the end"
            ),
            Step::Ended if self.incomplete.is_empty() => {
                format!("S3 Batch Operations put {succeeded} of {tasks} objects under the right key; {failed} failed")
            }
            Step::Ended => format!(
                "the repair of {tasks} objects is incomplete ({succeeded} repaired, {failed} failed): {}. The next \
                 complete sweep finds what is left",
                self.incomplete.join("; ")
            ),
        };
        let outcome = match self.step {
            Step::Ended if !self.incomplete.is_empty() => Outcome::Unknown,
            Step::Ended if failed == 0 => Outcome::Repaired,
            _ => Outcome::Reported,
        };
        Decision::new(outcome, reason)
            .about("bucket", &self.bucket)
            .about("sweep", &self.sweep)
            .about("code", self.code.to_string())
    }

    /// The folder with the parts of a manifest. Only they are in it.
    pub(crate) fn parts(&self, bucket_key: bool) -> String {
        parts(&self.folder, bucket_key)
    }

    /// The folder in which S3 makes a folder for the report of each job. S3 adds the slash at its end.
    pub(crate) fn reports(&self) -> String {
        format!("{}jobs", self.folder)
    }
}

/// The finding that a repair is incomplete. Unlike the decision about the end, it has no sweep.
pub(crate) fn incomplete_finding(bucket: &str, reason: String) -> Decision<Outcome> {
    Decision::new(Outcome::Unknown, reason).about("bucket", bucket).about("problem", "repair-incomplete")
}

/// The folder with the parts of a manifest, below that of a sweep.
pub(crate) fn parts(folder: &str, bucket_key: bool) -> String {
    format!("{folder}left/{}/", if bucket_key { "bucket-key" } else { "no-bucket-key" })
}

/// An amount in US dollars.
pub(crate) fn dollars(usd: f64) -> String {
    if usd < 0.01 { "less than $0.01".to_owned() } else { format!("${usd:.2}") }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::key::KeyArn;
    use crate::request::SweepRequest;
    use crate::sweep_row::{Before, Start};

    const KEY: &str = "arn:aws:kms:ap-northeast-1:222222222222:key/right";

    fn manifest(bucket_key: bool, tasks: u64, end: Option<(u64, u64)>) -> Manifest {
        let end = end.map(|(succeeded, failed)| JobEnd { fault: None, succeeded, failed });
        let new = Manifest::new(bucket_key, "k".into(), "e".into(), tasks);
        Manifest { job: Some("j".into()), end, ..new }
    }

    fn row(step: Step, manifests: Vec<Manifest>) -> BatchRow {
        BatchRow {
            code: Code::of(&["c"]),
            bucket: "b".into(),
            sweep: "s".into(),
            versions: false,
            folder: "sekisho-reports/b/s/".into(),
            right_key: "k".into(),
            step,
            manifests,
            confirmed: None,
            due: None,
            incomplete: Vec::new(),
            ended_at: None,
            holder: "h".into(),
            until: Lease::FREE,
            expires: 0,
        }
    }

    #[test]
    fn a_hundred_million_objects_cost_what_the_documentation_says() {
        let usd = row(Step::Waiting, vec![manifest(true, 100_000_000, None)]).usd();
        assert!((usd - 1_200.25).abs() < 0.001, "{usd}");
        assert_eq!((dollars(usd), dollars(0.0099)), ("$1200.25".to_owned(), "less than $0.01".to_owned()));
    }

    #[test]
    fn the_end_of_a_repair_is_repaired_reported_or_unknown() {
        let ended = |end| row(Step::Ended, vec![manifest(true, 3, Some(end)), manifest(false, 1, Some((1, 0)))]);
        assert_eq!(ended((3, 0)).progress().outcome, Outcome::Repaired);
        assert_eq!(ended((2, 1)).progress().outcome, Outcome::Reported);
        let incomplete = BatchRow { incomplete: vec!["why".into()], ..ended((3, 0)) };
        assert_eq!(incomplete.progress().outcome, Outcome::Unknown);
        assert!(incomplete.progress().reason.contains("why"));
    }

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let steps = [
            Step::Collecting(Collecting { upload: Some(("u".into(), vec!["e".into()])), ..Collecting::default() }),
            Step::Waiting,
            Step::Reading(Reading { offset: 7, ..Reading::default() }),
        ];
        for step in steps {
            let row = BatchRow { ended_at: Some(7), ..row(step, vec![manifest(true, 3, None)]) };
            let text = serde_json::to_string(&row).unwrap();
            assert_eq!(serde_json::from_str::<BatchRow>(&text).unwrap(), row, "{text}");
            // An earlier version counted the repairs that had ended.
            let earlier = text.replace("\"ended_at\":7", "\"ended\":3");
            assert_ne!(earlier, text);
            assert_eq!(serde_json::from_str::<BatchRow>(&earlier).unwrap(), BatchRow { ended_at: None, ..row });
        }
    }

    #[test]
    fn a_sweep_that_began_up_to_the_margin_after_the_end_of_a_repair_may_not_know_of_it() {
        let began = datetime!(2026-11-21 12:00 UTC);
        let before = Before { right_key: &KeyArn::parse(KEY).unwrap(), since: None };
        let Start::Row(sweep) = SweepRow::start(None, &SweepRequest::scheduled("b"), before, "r", began) else {
            panic!("the sweep begins")
        };
        for (late, expected) in [(-60, false), (-6, false), (-5, true), (0, true), (60, true)] {
            let row = BatchRow { ended_at: Some(began.unix_timestamp() + late), ..row(Step::Ended, Vec::new()) };
            assert_eq!(row.has_ended_since(&sweep, 5), expected, "{late}");
        }
        assert!(!row(Step::Ended, Vec::new()).has_ended_since(&sweep, 5));
    }
}
