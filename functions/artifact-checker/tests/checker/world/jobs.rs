//! The simulated S3 Batch Operations. A job runs when somebody looks at it often enough, and writes its report.

use std::collections::BTreeSet;

use crate::world::request::decode;
use crate::world::s3::{Sse, Version, write};
use crate::world::{ACCOUNT, BUCKET, REGION, Request, Response, State};

/// A job.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) token: String,
    pub(crate) bucket_key: bool,
    pub(crate) manifest: String,
    kms_key: String,
    reports: String,
    looks: u32,
    /// The status, and how many tasks succeeded and failed.
    ended: Option<(&'static str, usize, usize)>,
}

/// What is wrong with a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReportFault {
    /// There is none.
    Missing,
    /// Each line is there twice.
    Doubled,
    /// The last line of each file is missing.
    Short,
    /// A line has only a few fields.
    Garbled,
}

/// How jobs run.
#[derive(Debug, Clone)]
pub(crate) struct JobRules {
    /// How often S3 answers that a job is active.
    pub(crate) looks: u32,
    /// How many tasks a job comes to.
    pub(crate) tries: usize,
    /// How a job ends.
    pub(crate) status: &'static str,
    /// The keys that a job may not change.
    pub(crate) denied: BTreeSet<String>,
    pub(crate) fault: Option<ReportFault>,
    /// Whether S3 forgets a job.
    pub(crate) forgets: bool,
    /// How many answers about created jobs are lost.
    pub(crate) lost: u32,
}

impl Default for JobRules {
    fn default() -> Self {
        let denied = BTreeSet::new();
        Self { looks: 1, tries: usize::MAX, status: "Complete", denied, fault: None, forgets: false, lost: 0 }
    }
}

pub(crate) fn answer(state: &mut State, request: &Request) -> Response {
    assert_eq!(request.header("x-amz-account-id"), Some(ACCOUNT));
    assert!(request.header("authorization").unwrap().contains("/s3/aws4_request"));
    if request.operation == "CreateJob" { create(state, request) } else { describe(state, request) }
}

fn element(text: &str, name: &str) -> String {
    text.split_once(&format!("<{name}>")).unwrap().1.split_once("</").unwrap().0.to_owned()
}

fn create(state: &mut State, request: &Request) -> Response {
    let of = |name| element(&request.body, name);
    let token = of("ClientRequestToken");
    assert!(token.len() <= 64 && of("ConfirmationRequired") == "false" && of("ReportScope") == "AllTasks");
    assert_eq!(of("RoleArn"), format!("arn:aws:iam::{ACCOUNT}:role/sekisho-artifact-batch-{REGION}"));
    let location = of("ObjectArn");
    let key = location.strip_prefix(&format!("arn:aws:s3:::{BUCKET}/")).unwrap();
    let found = state.bucket(BUCKET).latest(key).unwrap().clone();
    assert_eq!((found.etag.trim_matches('"'), &found.sse), (of("ETag").as_str(), &Sse::S3));
    let versions = request.body.contains("<member>VersionId</member>");
    assert!(found.content.lines().all(|line| line.split(',').count() == if versions { 3 } else { 2 }));
    let known = state.jobs.iter().position(|job| job.token == token);
    let number = known.unwrap_or_else(|| {
        state.jobs.push(Job {
            token,
            bucket_key: of("BucketKeyEnabled") == "true",
            manifest: found.content,
            kms_key: of("KMSKeyArn"),
            reports: of("Prefix"),
            looks: 0,
            ended: None,
        });
        state.jobs.len() - 1
    });
    if state.job_rules.lost > 0 {
        state.job_rules.lost -= 1;
        return Response::error(500, "InternalError", "We encountered an error.");
    }
    Response::new(200).body(format!("<CreateJobResult><JobId>job{number}</JobId></CreateJobResult>"))
}

fn describe(state: &mut State, request: &Request) -> Response {
    let number: usize = request.path.rsplit_once("/job").unwrap().1.parse().unwrap();
    if state.job_rules.forgets {
        return Response::error(404, "NoSuchJob", "The specified job does not exist.");
    }
    let job = &mut state.jobs[number];
    job.looks += 1;
    if job.looks > state.job_rules.looks && job.ended.is_none() {
        let ended = run(state, number);
        state.jobs[number].ended = Some(ended);
    }
    let (status, succeeded, failed) = state.jobs[number].ended.unwrap_or(("Active", 0, 0));
    let why = if status == "Complete" { "" } else { "<FailureReason>too many &lt;failures&gt;</FailureReason>" };
    Response::new(200).body(format!(
        "<DescribeJobResult><Job><JobId>job{number}</JobId><Status>{status}</Status><ProgressSummary>\
         <TotalNumberOfTasks>{}</TotalNumberOfTasks><NumberOfTasksSucceeded>{succeeded}</NumberOfTasksSucceeded>\
         <NumberOfTasksFailed>{failed}</NumberOfTasksFailed></ProgressSummary><FailureReasons><member>{why}</member>\
         </FailureReasons></Job></DescribeJobResult>",
        state.jobs[number].manifest.lines().count()
    ))
}

fn run(state: &mut State, number: usize) -> (&'static str, usize, usize) {
    let (job, rules) = (state.jobs[number].clone(), state.job_rules.clone());
    let (mut succeeded, mut failed) = (Vec::new(), Vec::new());
    for line in job.manifest.lines().take(rules.tries) {
        let mut fields = line.split(',');
        let (bucket, key, version) = (fields.next().unwrap(), fields.next().unwrap(), fields.next());
        let result = task(state, &job, bucket, &decode(key), version);
        let version = version.unwrap_or_default();
        match result {
            Ok(()) => succeeded.push(format!("{bucket},{key},{version},succeeded,200,,Successful")),
            Err((code, status)) => {
                failed.push(format!("{bucket},{key},{version},failed,{status},{code},\"S3 says \"\"no\"\",\nreally\""));
            }
        }
    }
    if rules.fault != Some(ReportFault::Missing) {
        write_report(state, &job, number, [("succeeded", &succeeded), ("failed", &failed)]);
    }
    (rules.status, succeeded.len(), failed.len())
}

/// Updates an object. The error is S3's code and status.
fn task(
    state: &mut State,
    job: &Job,
    bucket: &str,
    key: &str,
    version: Option<&str>,
) -> Result<(), (&'static str, u16)> {
    let Some(found) = state.bucket(bucket).find(key, version).cloned() else { return Err(("NoSuchKey", 404)) };
    if state.job_rules.denied.contains(key) || write::can_be_updated(state, bucket, &found, &job.kms_key).is_err() {
        return Err(("AccessDenied", 403));
    }
    let bucket = state.buckets.get_mut(bucket).unwrap();
    bucket.writes += 1;
    let found = bucket.objects.get_mut(key).unwrap().iter_mut().find(|one| one.id == found.id).unwrap();
    found.sse = Sse::Kms(job.kms_key.clone());
    found.bucket_key = job.bucket_key;
    Ok(())
}

fn write_report(state: &mut State, job: &Job, number: usize, results: [(&str, &Vec<String>); 2]) {
    let fault = state.job_rules.fault;
    let folder = format!("{}/job-job{number}", job.reports);
    let mut files = Vec::new();
    for (status, lines) in results {
        if lines.is_empty() {
            continue;
        }
        let mut lines = lines.clone();
        match fault {
            Some(ReportFault::Doubled) => lines.extend(lines.clone()),
            Some(ReportFault::Short) => drop(lines.pop()),
            Some(ReportFault::Garbled) => "garbled,line".clone_into(&mut lines[0]),
            Some(ReportFault::Missing) | None => {}
        }
        let key = format!("{folder}/results/{status}.csv");
        state.put(BUCKET, &key, Version::new(&(lines.join("\n") + "\n"), Sse::S3));
        files.push(serde_json::json!({"TaskExecutionStatus": status, "Bucket": BUCKET, "MD5Checksum": "", "Key": key}));
    }
    let listing = serde_json::json!({"Format": "Report_CSV_20180820", "Results": files});
    state.put(BUCKET, &format!("{folder}/manifest.json"), Version::new(&listing.to_string(), Sse::S3));
}
