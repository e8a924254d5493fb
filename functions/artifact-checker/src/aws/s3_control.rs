//! S3 Control: the jobs of S3 Batch Operations.

use sekisho_lambda::ServiceError;
use sekisho_lambda::signed::Signed;

use crate::aws::element;

const PATH: &str = "/v20180820/jobs";
const ACCOUNT: &str = "x-amz-account-id";
const NAMESPACE: &str = "http://awss3control.amazonaws.com/doc/2018-08-20/";

/// A job that puts the objects of a manifest under another key in place.
pub(crate) struct NewJob<'a> {
    pub(crate) account: &'a str,
    /// If a job with this token exists, S3 makes no second one.
    pub(crate) token: &'a str,
    pub(crate) description: &'a str,
    /// The ARN of the role that S3 assumes.
    pub(crate) role: &'a str,
    pub(crate) kms_key: &'a str,
    pub(crate) bucket_key: bool,
    /// The ARN of the bucket with the manifest, in which S3 writes the report, too.
    pub(crate) bucket: &'a str,
    pub(crate) manifest: &'a str,
    pub(crate) manifest_etag: &'a str,
    /// Whether the manifest names versions.
    pub(crate) versions: bool,
    /// The folder of the report, without the slash at its end.
    pub(crate) reports: &'a str,
}

/// The codes of final answers. After any other error, such as one about expired credentials, the same call may succeed.
const FINAL: [&str; 4] = ["AccessDenied", "BadRequestException", "InvalidRequest", "MalformedXML"];

/// What S3 says about a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    /// S3's name for the status, such as `Active`.
    pub(crate) status: String,
    /// Why the job failed or was cancelled.
    pub(crate) why: Option<String>,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
}

impl Job {
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.status.as_str(), "Complete" | "Failed" | "Cancelled")
    }

    /// Why the job did not complete.
    pub(crate) fn fault(&self) -> Option<String> {
        let why = self.why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        (self.status != "Complete").then(|| format!("the job ended with status {}{why}", self.status))
    }
}

/// Creates a job, which starts at once. Returns its id.
pub(crate) async fn create(s3: &Signed, job: &NewJob<'_>) -> Result<String, ServiceError> {
    let headers = [("content-type", "application/xml"), (ACCOUNT, job.account)];
    let answer = s3.post(PATH, &headers, body(job)).await.map_err(|error| error.refused_only_for(&FINAL))?;
    let id = element(&answer.body, "JobId").filter(|id| !id.is_empty());
    id.ok_or_else(|| ServiceError::unexpected("s3:CreateJob", "the answer has no id of a job"))
}

fn body(job: &NewJob<'_>) -> String {
    let version = if job.versions { "<member>VersionId</member>" } else { "" };
    let NewJob { account, bucket_key, .. } = job;
    let [token, description, role, kms_key, bucket, manifest, etag, reports] =
        [job.token, job.description, job.role, job.kms_key, job.bucket, job.manifest, job.manifest_etag, job.reports]
            .map(escaped);
    format!(
        "<CreateJobRequest xmlns=\"{NAMESPACE}\"><ConfirmationRequired>false</ConfirmationRequired>\
         <Operation><S3UpdateObjectEncryption><ObjectEncryption><SSE-KMS><KMSKeyArn>{kms_key}</KMSKeyArn>\
         <BucketKeyEnabled>{bucket_key}</BucketKeyEnabled></SSE-KMS></ObjectEncryption></S3UpdateObjectEncryption>\
         </Operation><Report><Bucket>{bucket}</Bucket><Format>Report_CSV_20180820</Format><Enabled>true</Enabled>\
         <Prefix>{reports}</Prefix><ReportScope>AllTasks</ReportScope>\
         <ExpectedBucketOwner>{account}</ExpectedBucketOwner></Report>\
         <ClientRequestToken>{token}</ClientRequestToken><Manifest><Spec>\
         <Format>S3BatchOperations_CSV_20180820</Format><Fields><member>Bucket</member><member>Key</member>{version}\
         </Fields></Spec><Location><ObjectArn>{bucket}/{manifest}</ObjectArn><ETag>{etag}</ETag></Location></Manifest>\
         <Description>{description}</Description><Priority>10</Priority><RoleArn>{role}</RoleArn></CreateJobRequest>"
    )
}

/// Reads how a job stands. `None` if S3 does not have the job, or does not have it yet.
pub(crate) async fn describe(s3: &Signed, account: &str, id: &str) -> Result<Option<Job>, ServiceError> {
    match s3.get(&format!("{PATH}/{id}"), &[(ACCOUNT, account)]).await {
        Ok(answer) => job(&answer.body)
            .map(Some)
            .ok_or_else(|| ServiceError::unexpected("s3:DescribeJob", "the answer has no status of the job")),
        Err(error) if error.status == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

fn job(text: &str) -> Option<Job> {
    let count = |name| element(text, name).and_then(|count| count.parse().ok()).unwrap_or(0);
    let why = element(text, "FailureReason").or_else(|| element(text, "StatusUpdateReason"));
    Some(Job {
        status: element(text, "Status")?,
        why: why.filter(|why| !why.is_empty()),
        succeeded: count("NumberOfTasksSucceeded"),
        failed: count("NumberOfTasksFailed"),
    })
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_described() {
        let text = "<?xml version=\"1.0\"?><DescribeJobResult><Job><JobId>1</JobId><Status>Failed</Status>\
                    <ProgressSummary><TotalNumberOfTasks>7</TotalNumberOfTasks>\
                    <NumberOfTasksSucceeded>2</NumberOfTasksSucceeded><NumberOfTasksFailed>4</NumberOfTasksFailed>\
                    </ProgressSummary><FailureReasons><member><FailureCode>x</FailureCode>\
                    <FailureReason>too many &lt;failures&gt; &amp;lt;</FailureReason></member></FailureReasons>\
                    </Job></DescribeJobResult>";
        let found = job(text).unwrap();
        assert_eq!((found.succeeded, found.failed, found.has_ended()), (2, 4, true));
        assert_eq!(found.fault().unwrap(), "the job ended with status Failed: too many <failures> &lt;");
        assert_eq!(job("<Job></Job>"), None);
        for (status, expected) in [("Active", false), ("Completing", false), ("Suspended", false), ("Complete", true)] {
            let found = job(&format!("<Status>{status}</Status><FailureReason></FailureReason>")).unwrap();
            assert_eq!((found.has_ended(), found.why), (expected, None), "{status}");
        }
    }
}
