//! pipeline-starter: a relayed change becomes one execution of each routed pipeline, at exactly that commit, in order.
//!
//! It runs in every pipeline account, behind the rule on the bus `sekisho`. It believes nothing but the outer
//! `account`, which EventBridge sets, and starts only what this account's **own** configuration routes for that
//! repository and reference; the event's `pipelines` narrows that and never widens it.
//!
//! **Claims.** Per pipeline and reference the ledger holds the newest sequence. An equal one is a `duplicate`, a smaller
//! one `stale`. Before a start the row is claimed for the length of a lease, so that a crash between claim and start is
//! taken up again, with the same client request token. A claim that could not be used is given back, and taken up by
//! Lambda's retry, by a newer change, or when an execution of that pipeline ends.
//!
//! | input | what happens |
//! | --- | --- |
//! | `Source Change` from the repository account | start |
//! | `CodePipeline Pipeline Execution State Change` of this account | tell a failure; start what was given back |
//! | `{"action":"explain","event":{…}}` | what would happen and why; nothing is written or started |
//!
//! Returns `{"decisions":[…]}` with outcomes `started`, `duplicate`, `stale`, `filtered`, `ignored`, `refused`,
//! `failed`. What a retry can mend fails the invocation.

pub mod aws;
pub mod claim;
pub mod event;
pub mod handler;
pub mod notice;
pub mod pipelines;
pub mod select;
pub mod world;
