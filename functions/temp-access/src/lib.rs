//! A person is let in for a stated time, for a stated reason, and is out again by itself.
//!
//! A request is one JSON object, typed in Slack; `{"user":"prd-user"}` is a whole one. It puts one inline policy
//! `sekisho-<profile>` on an IAM user or role, whose every statement ends by a condition on the time: nothing of ours has
//! to be alive for it to end. The answer begins with `End time is 2026-11-21T23:45:00Z`.
//!
//! - **Only who is prepared** is let in: by the tag `sekisho:access=grantable` and by the access boundary. The code looks,
//!   for a clear answer; the function's role allows nothing else, for certainty.
//! - **A grant never shortens access**, and grants that follow each other last at most `max_minutes` from the first start,
//!   which the policy itself carries.
//! - **Record, grant, read back, tell**: without the intent in the ledger nothing is granted. The ledger's row is also the
//!   lease under which one invocation at a time changes a policy, since IAM writes unconditionally.
//! - **What is not ours is never touched**: a policy of our name with an Allow that does not end is told of instead.
//! - **A revoke needs no ledger** and waits for nobody: it deletes first, tries every policy, and says afterwards what it
//!   removed and what not. Nothing needs the sweep.
//! - **Who has access is IAM's to say**, in a list too; the ledger adds why.
//!
//! Outcomes: `granted`, `extended`, `unchanged`, `revoked`, `previewed`, `listed`, `helped`, `swept`, `idle`,
//! `open-ended`, `refused` (nothing changed), `failed`. Only a sweep answers with decisions; requests answer with text. A
//! dry run writes nothing, not even its decision to the ledger.
//!
//! Calls of an everyday grant: `GetUser`, `ListUserPolicies`, `PutUserPolicy`, `GetUserPolicy` at IAM (and one
//! `GetUserPolicy` more for each inline policy there is; that of an extension goes out with the names), one read and three
//! writes at the ledger, one `Publish`.

pub mod answer;
pub mod error;
pub mod event;
pub mod grant;
pub mod handler;
pub mod iam;
pub mod notice;
pub mod policy;
pub mod principal;
pub mod row;
pub mod sweep;
pub mod window;
