//! A model of a repository account and a pipeline account around the **real** functions event-relay and
//! pipeline-starter, with a ledger that enforces the same conditions as the table. In the model, events are lost,
//! repeated, delayed and reordered, calls fail before or after they take effect, and invocations crash between any two
//! calls.
//!
//! Every call that a function makes yields to the history before and after the call takes effect. A history picks a
//! random invocation and polls it until the next yield. If the history drops the invocation instead, the invocation
//! crashes at exactly this point.

#![expect(clippy::indexing_slicing, reason = "every index is drawn below the length of its list")]

mod account;
mod check;
mod event;
mod history;
mod lambda;

pub use check::Broken;
pub use history::{Report, run};
