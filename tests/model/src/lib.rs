//! A model of a repository account and a pipeline account in which events are lost, doubled, delayed and reordered,
//! calls fail with and without effect, and invocations crash between any two calls, around the **real** handlers of
//! event-relay and pipeline-starter and a ledger with the real one's conditions.
//!
//! Every call of a handler to the world gives way once before it takes effect and once after. A history polls any of
//! the running invocations, one step at a time, or drops it: that is a crash at that very point.

#![expect(clippy::indexing_slicing, reason = "every index is drawn below the length of what it indexes")]

mod account;
mod check;
mod history;

pub use check::Broken;
pub use history::{Report, run};
