//! Settles one reference: makes a plan and carries it out. If another invocation writes one of the rows first, the
//! facts are read again.

use crate::branch::BranchRow;
use crate::decision_log::Report;
use crate::error::Error;
use crate::hint::{Hint, Trigger};
use crate::plan::{Facts, Plan};
use crate::relay::examine;
use crate::relay::order::{self, NewHead};
use crate::run::Run;
use crate::snapshot::Snapshot;
use crate::train::Arrival;
use crate::world::{Head, World};

/// What became of a reference.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub(crate) report: Report,
    /// The row of the reference, if nothing was ordered.
    pub(crate) unmoved: Option<Snapshot<BranchRow>>,
    /// Whether the reference does not exist.
    pub(crate) is_deleted: bool,
    /// The names of the routes whose trains got the change.
    pub(crate) trains: Vec<String>,
}

/// Settles the reference of `hint`. `row` and `head` are the row and the head of the reference if the caller has read
/// them, the row before the head.
pub(crate) async fn settle<W: World>(
    run: &Run<'_, W>,
    hint: &Hint,
    trigger: Trigger,
    row: Option<Snapshot<BranchRow>>,
    head: Option<Head>,
) -> Settled {
    let mut known = (row, head);
    let settled = run.until_unchanged(async || settle_once(run, hint, trigger, std::mem::take(&mut known)).await).await;
    let error = match settled {
        Ok(settled) => return settled,
        Err(Error::Ledger(sekisho_ledger::Error::Changed(_))) => Error::busy(hint),
        Err(error) => error,
    };
    Settled { report: error.into(), ..Settled::default() }
}

async fn settle_once<W: World>(
    run: &Run<'_, W>,
    hint: &Hint,
    trigger: Trigger,
    (row, head): (Option<Snapshot<BranchRow>>, Option<Head>),
) -> Result<Settled, Error> {
    let mut facts = Facts { head, ..Facts::new(run.routes, hint, trigger, row) };
    let settled = plan_and_carry_out(run, &mut facts).await;
    match &settled {
        Ok(_) | Err(Error::Ledger(sekisho_ledger::Error::Changed(_))) => {}
        Err(_) => note_unread(run, &facts).await?,
    }
    settled
}

async fn plan_and_carry_out<W: World>(run: &Run<'_, W>, facts: &mut Facts<'_>) -> Result<Settled, Error> {
    let hint = facts.hint;
    let (plan, _locks) = examine::reference(run, facts).await?;
    let failure = facts.paths_error.take();
    let verdict = match plan {
        Plan::Nothing => return Ok(Settled { report: Report { failure, ..Report::default() }, ..Settled::default() }),
        Plan::Order(_) if !run.has_time() => return Err(Error::no_time(hint)),
        Plan::Order(ordering) => {
            if facts.head == Some(Head::At(ordering.change.revision.clone())) {
                run.note_head(&ordering.change);
            }
            let joined = ordering.trains.iter().filter(|train| train.arrival == Arrival::Joined);
            let trains = joined.map(|train| train.route.clone()).collect();
            let report = order::carry_out(run, *ordering, NewHead::Yes).await?;
            return Ok(Settled { report: Report { failure, ..report }, trains, ..Settled::default() });
        }
        Plan::Decide(verdict) => verdict,
    };
    let mut report = Report::default();
    report.log.extend(verdict.decisions);
    let mut unmoved = facts.row.take();
    if let Some(row) = verdict.remember {
        let replaces = unmoved.as_ref().and_then(|snapshot| snapshot.revision);
        let revision = run.write_row(&hint.repository, &hint.source_ref, &row, replaces).await?;
        unmoved = Some(Snapshot { row, revision: Some(revision) });
    }
    Ok(Settled { report, unmoved, is_deleted: facts.head == Some(Head::NoRef), trains: vec![] })
}

/// Writes a row without a commit if a new reference could not be settled. CodeCommit lists no tags, so the row is all
/// that the next reconcile knows about a new tag; and no reference with a row is recorded as a baseline.
async fn note_unread<W: World>(run: &Run<'_, W>, facts: &Facts<'_>) -> Result<(), Error> {
    let is_new = facts.row.as_ref().is_some_and(|snapshot| snapshot.revision.is_none());
    if facts.trigger == Trigger::Reconcile || !is_new {
        return Ok(());
    }
    match run.write_row(&facts.hint.repository, &facts.hint.source_ref, &BranchRow::unread(), None).await {
        Ok(_) | Err(sekisho_ledger::Error::Changed(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
