//! An event about a branch or tag: relays the head.

use sekisho_domain::change::RefKind;

use crate::decision_log::Report;
use crate::hint::{Hint, Trigger};
use crate::outcome::{about_hint, needs_repair};
use crate::run::Run;
use crate::settle::settle;
use crate::world::World;

pub(crate) async fn relay_change<W: World>(run: &Run<'_, W>, hint: &Hint) -> Report {
    let settled = settle(run, hint, Trigger::Event).await;
    let mut report = Report { failure: settled.failure, ..Report::default() };
    report.log.extend(settled.decisions);
    match report.failure {
        // The reconcile looks at a branch again. A tag's event would be lost, so it goes to the dead-letter queue.
        Some(error) if error.is_final() && hint.git_ref.kind() == RefKind::Branch => {
            report.log.push(about_hint(hint, needs_repair(&error)));
            Report { failure: None, ..report }
        }
        failure => Report { failure, ..report },
    }
}
