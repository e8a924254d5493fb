//! Reads a grant's policy back, until IAM shows what was written.

use sekisho_ledger::Store;
use tokio::time::{Instant, sleep, timeout_at};

use crate::access::policies;
use crate::answer::Confirmation;
use crate::plan::Plan;
use crate::policy::{self, Reading};
use crate::run::{CONFIRM_LIMIT, POLL_INTERVAL, Run};

/// Reads the policy until IAM shows the plan's window, because IAM may show older states for some time.
pub(super) async fn read_back<S: Store>(plan: &Plan<'_>, run: &Run<'_, S>) -> Confirmation {
    let mut confirmation = Confirmation::Unknown;
    loop {
        let read =
            timeout_at(run.deadline(CONFIRM_LIMIT), policies::read(plan.terms.principal, &plan.policy, run)).await;
        confirmation = match read {
            Ok(Ok(document)) => match document.as_deref().map(policy::read) {
                // If there was no access before, a different window belongs to an older state, even if that window ends
                // later.
                Some(Reading::Grant(window)) if plan.effect.is_new() && window != plan.window => Confirmation::NotYet,
                // If the end stays the same, only the text shows whether the write took effect.
                Some(Reading::Grant(window))
                    if window.end == plan.window.end
                        && plan.puts
                        && !document.as_deref().is_some_and(|shown| policy::is_same_json(shown, &plan.document)) =>
                {
                    Confirmation::NotYet
                }
                Some(Reading::Grant(window)) if window.end >= plan.window.end => {
                    return Confirmation::Confirmed(window);
                }
                _ => Confirmation::NotYet,
            },
            Ok(Err(_)) => Confirmation::Unknown,
            Err(_) => return confirmation,
        };
        if Instant::now() + POLL_INTERVAL >= run.deadline(CONFIRM_LIMIT) {
            return confirmation;
        }
        sleep(POLL_INTERVAL).await;
    }
}
