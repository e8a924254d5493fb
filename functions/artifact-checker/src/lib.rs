//! artifact-checker: every artifact is encrypted under the right key and can be read.
//!
//! **Input.** An S3 event says that an object was written. `{"action":"sweep","bucket":"…"}` asks for a check of every
//! object of a bucket, with `"versions":true` of every version, and with `"dry_run":true` without any change. A
//! schedule sweeps every artifact bucket of the account.
//!
//! **Check of one object.** The function reads which key the object is encrypted under, whether that key works, and one
//! byte of the object. If the object is under a wrong key of this account, the function repairs it as `[artifacts]
//! repair` configures, and checks it again. The events of its own writes end as `compliant`.
//!
//! **Sweep.** Each object costs one HEAD request. One object of each page of the listing is also read, and after a
//! failed read every object is. If the time of an invocation runs out, the function invokes itself to continue the
//! sweep.
//!
//! **Guarantees.** The function never deletes an object, never copies a version that is not the latest, never bypasses
//! an object lock, and repairs one object at most three times within ten minutes.

mod answer;
mod aws;
mod bucket_finding;
mod cache;
mod checker;
mod claim;
mod error;
mod key;
mod limit;
mod log_line;
mod notice;
mod object;
mod open_pages;
mod outcome;
mod repair;
mod request;
mod right_key;
mod run;
mod settings;
mod sweep_report;
mod sweep_row;
mod verdict;

pub use answer::Answer;
pub use aws::Clients;
pub use cache::Cache;
pub use checker::Checker;
pub use error::{CheckError, Error, SweepError};
pub use key::KeyArn;
pub use outcome::Outcome;
pub use settings::Settings;
pub use sweep_report::{Estimate, SweepReport};
