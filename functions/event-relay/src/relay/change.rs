//! The use case of an event about a branch or tag: relays the head.

use sekisho_domain::change::RefKind;

use crate::decision_log::Report;
use crate::hint::{Hint, Trigger};
use crate::outcome::{about_hint, needs_repair};
use crate::relay::settle::settle;
use crate::run::Run;
use crate::world::World;

pub(crate) async fn relay_change<W: World>(run: &Run<'_, W>, hint: &Hint) -> Report {
    let report = settle(run, hint, Trigger::Event, None).await.report;
    match report.failure {
        // For a branch, the next reconcile reads the head again. A new tag is known only from its event, so the
        // invocation fails, and Lambda puts the event into the dead-letter queue.
        Some(error) if error.is_final() && hint.git_ref.kind() == RefKind::Branch => {
            Report { failure: None, ..report }.with(about_hint(hint, needs_repair(&error)))
        }
        failure => Report { failure, ..report },
    }
}
