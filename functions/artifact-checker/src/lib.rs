//! artifact-checker: checks that every artifact is encrypted under the right key and can be read, and repairs artifacts
//! under a wrong key.
//!
//! **Input.** An S3 event reports each written object. A person requests a sweep with a payload:
//! `{"action":"sweep","bucket":"…"}` checks every object of a bucket, `"versions":true` includes every version, and
//! `"dry_run":true` changes nothing. `{"action":"accept","finding":"…","reason":"…"}` accepts a finding. A schedule
//! sweeps every artifact bucket of the account. A message of the queue asks for the check of one range of a sweep.
//! A payload with `widgetContext` or `describe` is answered with the widget `artifacts` as HTML or with its
//! documentation; it changes nothing.
//!
//! **Check of one object.** The function finds out which key the object is under and whether that key works, and reads
//! one byte of the object. If the object is under a wrong key of this account, the function repairs it in the way that
//! the section `[artifacts]` of the configuration file sets, and checks it again. In a bucket other than the one that
//! was deployed with it, the function repairs only if the configuration has a section for that bucket. A copy by the
//! function causes a further S3 event, and the check for that event ends as `compliant`.
//!
//! **Sweep.** A sweep sends one HEAD request for each object, and reads one object of each page of the listing. After a
//! failed read, the sweep reads further objects until a read succeeds. If 20 reads in a row have failed, the other
//! objects get the same verdict without a read. A sweep uses at most half of the request rates of S3 and KMS. A bucket
//! or pipeline that AWS does not show is a finding, and the other buckets are swept. A sweep also checks whether the
//! bucket blocks public access and requests without TLS, and whether the right key works and is going to.
//!
//! **Ranges.** The first invocation checks up to 20,000 objects. What is left becomes a range: a part of the listing from
//! one key to another, with a row of its own in the ledger and a message in a queue. The function
//! `sekisho-artifact-sweeper`, which is this program with more memory, checks the ranges. While there are fewer ranges
//! than invocations that may run at the same time, an invocation divides its range. The row of the sweep lists the open
//! ranges; a range leaves this list and adds its counts in one write, so each object counts once. A range that could not
//! be checked in three attempts is set aside, and the sweep is incomplete. The invocation that checks the last range ends
//! the sweep. An object whose check takes longer than an invocation, such as a very large copy, does not hold up the
//! others: the next invocation continues its upload.
//!
//! **Jobs.** A sweep of the deployed bucket puts as many objects under the right key in place as the configuration allows
//! (`confirm_above`). The others become the manifest of a job of S3 Batch Operations. People get a notice with the
//! estimated cost and a code, and `{"repair":"<code>"}` creates the job. `sekisho-artifact-sweeper` looks at the job again
//! and again, reads its report into the findings, and sends a notice. While a job waits or runs, no sweep repairs in
//! place. A job that does not complete, or whose report lacks results, makes the repair incomplete. Copies and repairs in
//! another bucket have the same limit, and what is above it is reported.
//!
//! **Incremental sweeps.** The schedule's sweep checks the objects that were written since the last sweep, and those with
//! findings; once a week, it checks all objects. Every sweep that a person requests checks all objects.
//!
//! **Outcomes.** See [`Outcome`]. The function returns, logs and records each decision with its reason.
//!
//! **Findings.** A finding is new, open, resolved or accepted. Each change is an event on the account's default bus.
//! People get a notice about new and resolved findings, and once a week a summary of the open ones. A sweep writes the
//! list of all its findings to the bucket that was deployed with the function, below `sekisho-reports/`.
//!
//! **After a repair.** With `retry_stage`, the function retries the stage of a pipeline that failed because its actions
//! could not use the key that the repaired object was under. A stage is retried once.
//!
//! **Guarantees.** The function never deletes an object, never copies a version that is not the latest, and never
//! bypasses an object lock. The function gives up on an object after three repairs, if each was made within ten minutes
//! after the previous one.

mod answer;
mod artifact_stores;
mod aws;
mod batch;
mod batch_report;
mod bucket_finding;
mod cache;
mod checker;
mod claim;
mod error;
mod finding;
mod finding_rows;
mod key;
mod limit;
mod manifest_lines;
mod notice;
mod object;
mod open_pages;
mod outcome;
mod posture;
mod proofs;
mod rate;
mod repair;
mod report;
mod request;
mod right_key;
mod run;
mod settings;
mod slow_objects;
mod stage_retry;
mod sweep_ranges;
mod sweep_report;
mod sweep_row;
mod sweep_totals;
mod verdict;
mod widget;

pub use answer::{Answer, Response};
pub use aws::Clients;
pub use cache::Cache;
pub use checker::Checker;
pub use error::{CheckError, Error, SweepError};
pub use key::KeyArn;
pub use outcome::Outcome;
pub use rate::Rates;
pub use settings::Settings;
pub use sweep_report::{Estimate, RepairCost, SweepReport};
