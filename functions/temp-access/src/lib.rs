//! temp-access gives an IAM user or role access for a limited time and a stated reason.
//!
//! A request is one JSON object, typed in Slack; `{"user":"prd-user"}` is a complete request. A grant puts one inline
//! policy, `sekisho-<profile>`, on the principal. Every statement of the policy has a condition on the time, so access
//! ends even if no part of Sekisho runs any more. The answer to a grant begins with `End time is 2026-11-21T23:45:00Z`.
//!
//! Guarantees:
//!
//! - **Only prepared principals get access.** A principal is prepared if it has the tag `sekisho:access=grantable` and
//!   the access boundary. The function checks both, so that its answer can name what is missing. The permissions of the
//!   function's role enforce both.
//! - **A grant never shortens access.** Grants that follow each other form a chain, which ends at most `max_minutes`
//!   after its first start. The policy itself contains the chain's first start.
//! - **The ledger comes first.** A grant writes its intent to the ledger, puts the policy, reads it back, and sends a
//!   notice. If the intent cannot be written, nothing is granted. The ledger's row is also a lease, under which one
//!   invocation at a time changes a policy, because IAM has no conditional write.
//! - **A foreign policy is never touched.** If a policy's name begins with `sekisho-` but an Allow in the policy has no
//!   end, the policy is only reported.
//! - **A revoke needs neither the ledger nor the lease.** It deletes first, tries every policy, and then reports what
//!   it removed and what it could not remove. No guarantee depends on the sweep.
//! - **IAM decides who has access.** A list shows what IAM has; the ledger adds the reasons.
//!
//! Outcomes: `granted`, `extended`, `unchanged`, `revoked`, `previewed`, `listed`, `helped`, `swept`, `idle`,
//! `open-ended`, `refused` (nothing changed), `failed`. A sweep answers with decisions, a person's request with text. A
//! dry run writes nothing; not even its decision goes to the ledger.
//!
//! Calls that a common grant makes: `GetUser`, `ListUserPolicies`, `PutUserPolicy` and `GetUserPolicy` to IAM, one read
//! and three writes of the ledger, one `Publish` to SNS. Each inline policy that already exists adds one
//! `GetUserPolicy`; in an extension, that call runs at the same time as `ListUserPolicies`.

pub mod access;
pub mod answer;
pub mod aws;
pub mod error;
mod notice;
pub mod outcome;
pub mod plan;
pub mod policy;
pub mod principal;
mod report;
pub mod request;
mod revocation;
pub mod row;
mod run;
pub mod window;
