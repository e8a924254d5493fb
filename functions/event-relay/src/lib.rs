//! event-relay: a hint that a branch or tag moved becomes its head, once, on every bus that has a route for it.
//!
//! It runs in the repository account and is **level-triggered**: an event only says "look". For a branch it reads the
//! head; where that is what it relayed last there is nothing to do, else the head gets the branch's next sequence and
//! goes to every target. Late, doubled or lost events, pushes within a second and force-pushes thus all end at the head.
//!
//! **Two phases.** The change is `pending` in the ledger before the first bus hears of it, and `relayed` after every
//! target's bus has taken it (or the dead-letter queue has it, with the reason). A crash in between is finished by the
//! retry or the next reconcile, with the same sequence and id.
//!
//! | input | what happens |
//! | --- | --- |
//! | `CodeCommit Repository State Change`, merged pull request | look at that branch or tag |
//! | schedule (`source` `aws.events`) | reconcile: look at every routed branch, finish what is pending |
//! | `{"action":"explain","event":{…}}` | what would happen and why; nothing is written or sent |
//! | `{"action":"redeliver",…}` | a message of the dead-letter queue, sent again |
//!
//! Returns `{"decisions":[…]}` with outcomes `relayed`, `duplicate`, `filtered`, `ignored`, `refused`, `failed`. What a
//! retry can mend fails the invocation.

pub mod aws;
pub mod buses;
pub mod codecommit;
pub mod deliver;
pub mod event;
pub mod handler;
pub mod queue;
mod reconcile;
pub mod reference;
pub mod route;
pub mod world;
