//! The use case of an event about a branch or tag: relays the head.

use crate::decision_log::Report;
use crate::hint::{Hint, Trigger};
use crate::outcome::{about_hint, needs_repair};
use crate::relay::settle::settle;
use crate::run::Run;
use crate::world::World;

pub(crate) async fn relay_change<W: World>(run: &Run<'_, W>, hint: &Hint) -> Report {
    let report = settle(run, hint, Trigger::Event, None).await.report;
    match report.failure {
        // The next reconcile reads the head again: the ledger has a row of every reference that it must examine.
        Some(error) if error.is_final() => {
            Report { failure: None, ..report }.with(about_hint(hint, needs_repair(&error)))
        }
        failure => Report { failure, ..report },
    }
}
