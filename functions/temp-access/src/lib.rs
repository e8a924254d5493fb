//! temp-access gives an IAM user or role access for a limited time and a stated reason.
//!
//! A request is one JSON object, typed in Slack; `{"user":"prd-user"}` is a complete request. A grant puts one inline
//! policy, `sekisho-<profile>`, on the principal. Every statement of the policy has a condition on the time, so access
//! ends even if no part of Sekisho runs any more. The answer to a grant begins with `End time is 2026-11-21T23:45:00Z`.
//!
//! Guarantees:
//!
//! - **The door is no claim.** Who may ask and approve depends on the alias in the invoked ARN ([`door`]). IAM decides
//!   who may invoke an alias. Through `board`, nothing is changed or recorded. What the hub account hands on through
//!   `hub` is decided by this account's own configuration, and the same id is the same request.
//! - **Only prepared principals get access.** A principal is prepared if it has the tag `sekisho:access=grantable` and
//!   the access boundary. The function checks both, so that its answer can name what is missing. The permissions of the
//!   function's role enforce both.
//! - **A grant never shortens access.** Grants that follow each other form a chain, which ends at most `max_minutes`
//!   after its first start, also across a revoke and a new grant within `rest_minutes`. The policy itself contains the
//!   chain's first start.
//! - **The ledger comes first.** A grant writes its intent to the ledger, puts the policy, reads it back, and sends a
//!   notice. If the intent cannot be written, nothing is granted. The ledger's row is also a lease, under which one
//!   invocation at a time changes a policy, because IAM has no conditional write.
//! - **A policy that Sekisho did not write is never replaced.** It is one with an Allow without an end, or with an end
//!   that Sekisho never writes and that the ledger does not have. It is reported. A revoke removes it if it has an end.
//! - **A revoke needs neither the ledger nor the lease, and waits for no read.** It deletes first, tries every policy,
//!   and then reports what it removed and what it could not remove. A follow-up makes a delete that IAM throttled. No
//!   guarantee depends on the sweep.
//! - **Sessions end, too.** A revoke ends the open sessions of Session Manager of the principal, and a follow-up does
//!   so within a minute after the end of the window.
//! - **Each grant has a notice.** The row says whether it was sent, and a follow-up sends a notice that is missing.
//! - **The end is announced.** Ten minutes before the end, a follow-up sends a reminder. Some twenty minutes after the
//!   end, it sends a summary of what CloudTrail shows, which is best effort.
//! - **IAM decides who has access.** A list shows what IAM has; the ledger adds the reasons.
//!
//! Outcomes: see [`outcome::Outcome`]. A sweep and a follow-up answer with decisions, a person's request with text. A
//! dry run writes nothing; not even its decision goes to the ledger.
//!
//! Calls that a common grant makes: `GetUser`, `ListUserPolicies`, `PutUserPolicy` and `GetUserPolicy` to IAM, one read
//! and three writes of the ledger, one `Publish` to SNS. Each inline policy that already exists adds one
//! `GetUserPolicy`; in an extension, that call runs at the same time as `ListUserPolicies`.

pub mod access;
pub mod answer;
pub mod aws;
mod chat;
pub mod door;
pub mod error;
mod hub;
mod names;
mod notice;
pub mod outcome;
pub mod pending;
pub mod plan;
pub mod policy;
pub mod principal;
mod report;
pub mod request;
mod revocation;
pub mod row;
mod run;
mod scheduled;
mod session;
mod trail;
mod widget;
pub mod window;
mod window_policy;
mod window_row;
