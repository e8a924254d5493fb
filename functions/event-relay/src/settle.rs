//! Settles one reference: looks at the reference until the head is relayed or nothing is left to relay.

use sekisho_domain::decision::Decision;

use crate::deliver;
use crate::error::Error;
use crate::examine;
use crate::hint::{Hint, Trigger};
use crate::outcome::Outcome;
use crate::plan::{Facts, Plan, Verdict};
use crate::run::{POLL_INTERVAL, Run};
use crate::world::World;

/// How often a head is planned again because another invocation wrote the row first.
const MAX_CONFLICTS: usize = 20;

/// The decisions about one reference, and the error that ended the work on it, if any.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub(crate) decisions: Vec<Decision<Outcome>>,
    pub(crate) failure: Option<Error>,
}

impl Settled {
    fn with(mut self, decision: Decision<Outcome>) -> Self {
        self.decisions.push(decision);
        self
    }

    fn failed(self, error: Error) -> Self {
        Self { failure: Some(error), ..self }
    }
}

/// Settles the reference of `hint`.
pub(crate) async fn settle<W: World>(run: &Run<'_, W>, hint: &Hint, trigger: Trigger) -> Settled {
    let mut settled = Settled::default();
    let mut conflicts = 0;
    while conflicts < MAX_CONFLICTS {
        let plan = match examine::reference(run, Facts::new(run.routes, hint, trigger)).await {
            Ok(plan) => plan,
            Err(error) => return settled.failed(error),
        };
        let (claim, is_head) = match plan {
            Plan::Nothing => return settled,
            Plan::Decide(verdict) => return decide(run, hint, verdict, settled).await,
            Plan::Wait(_) if trigger == Trigger::Event && run.has_time() => {
                run.world.sleep(POLL_INTERVAL).await;
                continue;
            }
            Plan::Wait(_) => return settled.failed(Error::busy(hint)),
            Plan::Finish(claim) => (claim, false),
            Plan::Relay(claim) => (claim, true),
        };
        if !run.has_time() {
            return settled.failed(Error::no_time(hint));
        }
        match deliver::relay(run, hint, &claim).await {
            Ok(relayed) => {
                settled.decisions.extend(relayed.decisions);
                if let Some(error) = relayed.failure {
                    return settled.failed(error);
                }
                if is_head {
                    return settled;
                }
            }
            // Another invocation wrote the row first: plan again.
            Err(sekisho_ledger::Error::Changed(_)) => conflicts += usize::from(is_head),
            Err(error) => return settled.failed(error.into()),
        }
    }
    settled.failed(Error::busy(hint))
}

/// Adds the decision, and writes the row that spares the next reconcile the same work.
async fn decide<W: World>(run: &Run<'_, W>, hint: &Hint, verdict: Verdict, settled: Settled) -> Settled {
    let settled = settled.with(verdict.decision);
    let Some(remember) = verdict.remember else { return settled };
    match run.write_row(&hint.repository, &hint.git_ref, &remember.row, remember.revision).await {
        // If another invocation wrote the row first, the next reconcile compares the head once more.
        Ok(_) | Err(sekisho_ledger::Error::Changed(_)) => settled,
        Err(error) => settled.failed(error.into()),
    }
}
