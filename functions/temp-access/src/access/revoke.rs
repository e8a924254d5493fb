//! A revoke ends all access of a principal. A revoke needs only IAM. If the ledger answers, its rows show policies that
//! IAM may not show yet, and the revoke records the end of access in the ledger after the delete.

use futures_util::future::join_all;
use futures_util::join;
use sekisho_domain::decision::Decision;
use sekisho_lambda::Invocation;
use sekisho_ledger::{Key, Row, Store};
use tokio::time::{Instant, sleep, timeout_at};

use crate::answer::{self, Answer};
use crate::aws::iam::IamError;
use crate::error::Error;
use crate::notice;
use crate::outcome::{self, Outcome};
use crate::plan;
use crate::policy::{self, Reading};
use crate::principal::Principal;
use crate::report::Report;
use crate::request::Revoke;
use crate::revocation::{PolicyEnd, Revocation};
use crate::row::{self, GrantRow, State};
use crate::run::{CONFIRM_LIMIT, LedgerAnswer, PLAN_LIMIT, POLL_INTERVAL, Run};
use crate::window::{Window, later};

/// Ends all access of a principal, or shows what a revoke would end.
pub(crate) async fn revoke<S: Store>(revoke: &Revoke, run: &Run<'_, S>) -> Result<Report, Error> {
    let principal = &revoke.principal;
    let prefix = row::prefix(principal);
    let facts = async {
        let rows = async {
            if revoke.dry_run {
                return Vec::new();
            }
            match run.try_ledger(run.ledger.list::<GrantRow>(row::PARTITION, &prefix)).await {
                LedgerAnswer::Done(rows) => rows,
                LedgerAnswer::Changed | LedgerAnswer::Lost => Vec::new(),
            }
        };
        join!(run.describe(principal), run.iam.policy_names(principal), rows)
    };
    let facts = timeout_at(run.deadline(PLAN_LIMIT), facts).await;
    let (details, names, rows) = facts.map_err(|_| Error::TooSlow("Nothing was changed"))?;
    details?;

    let mut revocation = Revocation::default();
    let names = match names {
        Ok(names) => names,
        Err(source) if revoke.dry_run => {
            return Err(Error::Iam {
                outcome: "It is not known which policies a revoke would delete".to_owned(),
                source,
            });
        }
        // Without IAM's list, the revoke ends the policies that the ledger records.
        Err(error) => {
            revocation.failed.push(("policies that the ledger does not record".to_owned(), error));
            Vec::new()
        }
    };
    let recorded = rows.iter().filter_map(|row| row::subject(&row.sk)).map(|(_, profile)| profile);
    let policies = plan::revocation(names, recorded);
    if revoke.dry_run {
        let decision = Decision::new(Outcome::Previewed, "dry run: nothing was written");
        return Ok(Report::text(answer::revoke_preview(principal, &policies), outcome::about(decision, principal)));
    }

    // All policies are ended at the same time, so that a policy that cannot be deleted does not delay the others.
    let ends = join_all(policies.iter().map(async |policy| {
        let key = row::key(principal, policy);
        let row = rows.iter().find(|row| row.sk == key.sk).cloned();
        Ending { run, principal, policy, key }.end(row).await
    }));
    let revocation =
        policies.iter().cloned().zip(ends.await).fold(revocation, |all, (policy, end)| all.with(policy, end));
    Ok(report(revocation, revoke, run.invocation))
}

/// How many times a revoke tries to write the end of access over another request's row. If every try fails, the answer
/// reports that the end of access is not recorded.
const RECORD_ATTEMPTS: usize = 3;

/// Ends the access that one policy gives.
struct Ending<'a, S> {
    run: &'a Run<'a, S>,
    principal: &'a Principal,
    policy: &'a str,
    key: Key,
}

/// The result of writing the end of access to the ledger's row.
enum Recorded {
    Yes,
    /// The ledger does not answer.
    Lost,
    /// Another request has changed the row, or has a lease on the row.
    Changed,
}

/// What to do after another request has changed or held the row.
enum Next {
    /// The other request is done. Check once more whether there is access.
    Again(Option<Row<GrantRow>>),
    Finished(PolicyEnd),
}

impl<S: Store> Ending<'_, S> {
    /// Deletes the policy, and then records the end of access in the policy's row, provided that the row has not
    /// changed since it was read. If another request granted access in the meantime, the policy is deleted once more. A
    /// revoke claims no lease, and it deletes the policy before it waits for another request's lease to end.
    async fn end(&self, mut row: Option<Row<GrantRow>>) -> PolicyEnd {
        let mut removed: Option<Window> = None;
        let failed = |removed: Option<Window>, error| PolicyEnd::Failed { removed: removed.is_some(), error };
        loop {
            let shown = match self.read().await {
                Ok(Some(Reading::Foreign(why))) => return PolicyEnd::Foreign(why),
                Ok(Some(Reading::DenyOnly)) => return PolicyEnd::Nothing,
                Ok(Some(Reading::Grant(window))) => Some(window),
                Ok(None) => None,
                Err(error) => return failed(removed, error),
            };
            // Reads of the ledger are consistent, but reads of IAM are not: IAM may not show a recent grant yet. A
            // policy that only the ledger records is deleted too, because deleting a policy that does not exist does no
            // harm.
            let recorded = row.as_ref().filter(|row| row.state.gives_access(self.run.now()));
            let Some(window) = later(shown, recorded.map(|row| row.state.window())) else {
                return removed.map_or(PolicyEnd::Nothing, |_| PolicyEnd::Removed { recorded: true, held: false });
            };
            match self.delete().await {
                Ok(()) => removed = later(removed, Some(window)),
                Err(error) => return failed(removed, error),
            }
            match self.record(row.as_ref(), window).await {
                Recorded::Yes => return PolicyEnd::Removed { recorded: true, held: false },
                Recorded::Lost => return PolicyEnd::Removed { recorded: false, held: false },
                Recorded::Changed => {}
            }
            match self.wait_for_other(row, window).await {
                Next::Again(changed) => row = changed,
                Next::Finished(end) => return end,
            }
        }
    }

    async fn read(&self) -> Result<Option<Reading>, IamError> {
        let read = timeout_at(self.run.deadline(CONFIRM_LIMIT), self.run.iam.policy(self.principal, self.policy)).await;
        let document = read.unwrap_or_else(|_| Err(IamError::unanswered("policy read")))?;
        Ok(document.as_deref().map(policy::read))
    }

    async fn delete(&self) -> Result<(), IamError> {
        let delete = self.run.iam.delete(self.principal, self.policy);
        let deleted = timeout_at(self.run.deadline(CONFIRM_LIMIT), delete).await;
        deleted.unwrap_or_else(|_| Err(IamError::unanswered("policy delete")))
    }

    /// Records the end of access in the row, unless another request holds the row.
    async fn record(&self, row: Option<&Row<GrantRow>>, window: Window) -> Recorded {
        if self.run.is_ledger_lost.get() {
            return Recorded::Lost;
        }
        let (now, request) = (self.run.now(), self.run.request_id());
        if row.is_some_and(|row| row.state.is_held_by_another(request, now)) {
            return Recorded::Changed;
        }
        let state = GrantRow::held(State::Revoked, window, request, row.map(|row| &row.state), now).free();
        let write = self.run.ledger.write(&self.key, &state, row.map(|row| row.revision), request);
        match self.run.try_ledger(write).await {
            LedgerAnswer::Done(_) => Recorded::Yes,
            LedgerAnswer::Changed => Recorded::Changed,
            LedgerAnswer::Lost => Recorded::Lost,
        }
    }

    /// Waits until no other request holds the row. If time runs out, the policy is deleted once more, and the end of
    /// access is recorded although the other request holds the row.
    async fn wait_for_other(&self, mut row: Option<Row<GrantRow>>, window: Window) -> Next {
        let (run, limit) = (self.run, self.run.deadline(CONFIRM_LIMIT));
        loop {
            match run.try_ledger(run.ledger.read::<GrantRow>(&self.key)).await {
                LedgerAnswer::Done(read) => row = read,
                LedgerAnswer::Changed => {}
                LedgerAnswer::Lost => return Next::Finished(PolicyEnd::Removed { recorded: false, held: true }),
            }
            let now = run.now();
            let Some(holder) = row.as_ref().filter(|row| row.state.is_held_by_another(run.request_id(), now)) else {
                return Next::Again(row);
            };
            if Instant::now() + POLL_INTERVAL * 4 >= limit {
                let _ = timeout_at(limit, run.iam.delete(self.principal, self.policy)).await;
                let recorded = self.record_over(holder.clone(), window).await;
                return Next::Finished(PolicyEnd::Removed { recorded, held: true });
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Records the end of access in a row that another request holds. The other request finds the row changed, so it
    /// never records that it granted access. The lease of the other request stays in the row, so that no further grant
    /// begins before the calls of that request are over.
    ///
    /// The other request may write the row at the same moment, because both requests have the same time limits. In this
    /// case, the end of access is recorded over that write too. Otherwise the row would still record the deleted
    /// policy's window, and the next grant would continue this window.
    async fn record_over(&self, mut row: Row<GrantRow>, window: Window) -> bool {
        let (run, request) = (self.run, self.run.request_id());
        for _ in 0..RECORD_ATTEMPTS {
            let mut state = GrantRow::held(State::Revoked, window, request, Some(&row.state), run.now());
            state.lease = row.state.lease;
            match run.try_ledger(run.ledger.write(&self.key, &state, Some(row.revision), request)).await {
                LedgerAnswer::Done(_) => return true,
                LedgerAnswer::Lost => return false,
                LedgerAnswer::Changed => {}
            }
            match run.try_ledger(run.ledger.read::<GrantRow>(&self.key)).await {
                LedgerAnswer::Done(Some(read)) => row = read,
                LedgerAnswer::Done(None) => return true,
                LedgerAnswer::Changed | LedgerAnswer::Lost => return false,
            }
        }
        false
    }
}

/// Reports which policies were removed and which could not be removed.
fn report(revocation: Revocation, revoke: &Revoke, invocation: &Invocation) -> Report {
    let principal = &revoke.principal;
    let text = answer::revoked(principal, &revocation);
    let (mut decisions, mut notices) = (Vec::new(), Vec::new());
    let removed = revocation.removed.join(" ");
    let decide = |outcome, reason| {
        let decision = outcome::about(Decision::new(outcome, reason), principal).about("policies", removed.as_str());
        decision.about_some("because", revoke.reason.clone())
    };
    if !revocation.removed.is_empty() {
        decisions.push(decide(Outcome::Revoked, "access was ended"));
        notices.push(notice::ended(principal, &revocation.removed, revoke.reason.as_deref(), invocation));
    } else if revocation.failed.is_empty() {
        decisions.push(decide(Outcome::Unchanged, "there was no access to end"));
    }
    for (policy, why) in &revocation.foreign {
        let decision = outcome::about(Decision::new(Outcome::OpenEnded, *why), principal);
        decisions.push(decision.about("policy", policy.clone()));
        notices.push(notice::open_ended(principal, policy, why));
    }
    let failed: Vec<&str> = revocation.failed.iter().map(|(policy, _)| policy.as_str()).collect();
    let failed = failed.join(" ");
    let answer = match revocation.into_error(principal) {
        Some(error) => {
            decisions.push(outcome::of_error(&error, Some(principal)).about("policies", failed));
            Err(error)
        }
        None => Ok(Answer::Text(text)),
    };
    Report { answer, decisions, notices, settlement: None }
}
