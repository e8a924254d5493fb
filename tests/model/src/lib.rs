//! A model of a repository account and two places with pipelines around the **real** functions event-relay and
//! pipeline-starter, with ledgers that enforce the same conditions as the table. In the model, events are lost,
//! repeated, delayed and reordered, calls fail before or after they take effect, invocations crash between any two
//! calls, clocks differ, and accounts deploy configurations at different times.
//!
//! Every call that a function makes yields to the history before and after the call takes effect. A history picks a
//! random invocation and polls it until the next yield. If the history drops the invocation instead, the invocation
//! crashes at exactly this point.
//!
//! | module | content |
//! | --- | --- |
//! | `cloud` | everything outside the functions: chance, clocks, and the accounts |
//! | `repository`, `registry`, `bus`, `codepipeline`, `ledger` | the services, with their faults |
//! | `relay_account`, `starter_account` | the services as each function sees them |
//! | `lambda`, `deployment`, `configuration` | invocations, and the functions with their configurations |
//! | `developer`, `publisher`, `operator` | what people do, and what becomes of executions |
//! | `in_flight`, `event` | the events about it |
//! | `cloudwatch`, `train` | alarms, and a history of a train with three waves |
//! | `upgrade` | the ledgers of an earlier version |
//! | `history`, `settle`, `report` | one history: random steps, and then the time without faults |
//! | `check` | the promises |

#![expect(clippy::indexing_slicing, reason = "every index is drawn below the length of its list")]

mod bus;
mod check;
mod cloud;
mod cloudwatch;
mod codepipeline;
mod configuration;
mod deployment;
mod developer;
mod event;
mod history;
mod in_flight;
mod lambda;
mod ledger;
mod operator;
mod publisher;
mod registry;
mod relay_account;
mod report;
mod repository;
mod settle;
mod starter_account;
mod train;
mod upgrade;

pub use check::Broken;
pub use history::run;
pub use report::{Report, TrainReport};
pub use train::run as run_train;
