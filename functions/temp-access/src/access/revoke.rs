//! A revoke ends all access of a principal. A revoke needs only IAM. If the ledger answers, its rows show policies that
//! IAM may not show yet, and the revoke records the end of access in the ledger after the delete.

use futures_util::future::{join_all, try_join_all};
use futures_util::join;
use sekisho_domain::decision::Decision;
use sekisho_domain::timestamp;
use sekisho_lambda::Invocation;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Error as LedgerError, Key, Row, Store};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::warn;

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
use crate::run::{CONFIRM_LIMIT, LedgerAnswer, PLAN_LIMIT, POLL_INTERVAL, READ_TIMEOUT, Run};
use crate::window::{Window, later};

/// Ends all access of a principal, or shows what a revoke would end.
///
/// A revoke never waits long for a read. Only two answers stop it: there is no such principal, or IAM spells the name
/// in another way. Whatever else cannot be read is deleted without being read.
pub(crate) async fn revoke<S: Store>(revoke: &Revoke, run: &Run<'_, S>) -> Result<Report, Error> {
    let principal = &revoke.principal;
    if revoke.dry_run {
        return preview(principal, run).await;
    }
    let describe = timeout(READ_TIMEOUT, run.describe(principal));
    let names = timeout(READ_TIMEOUT, run.iam.policy_names(principal));
    let (details, names, rows) = join!(describe, names, read_rows(principal, run));
    if let Ok(Err(error @ (Error::NotFound(_) | Error::Refused(_)))) = details {
        return Err(error);
    }

    let mut revocation = Revocation::default();
    // Without IAM's list, the revoke ends the policies that the ledger records, and those of all configured profiles.
    let names = names.unwrap_or_else(|_| Err(IamError::unanswered("policy list"))).unwrap_or_else(|error| {
        revocation.failed.push(("policies that neither the ledger nor the configuration has".to_owned(), error));
        let profiles = run.access.iter().flat_map(|access| access.profiles.keys());
        profiles.map(policy::name).collect()
    });
    let policies = plan::revocation(names, rows.profiles.iter().map(String::as_str));
    // All policies are ended at the same time, so that a policy that cannot be deleted does not delay the others.
    let ends = join_all(policies.iter().map(async |policy| {
        let key = row::key(principal, policy);
        let row = rows.readable.iter().find(|row| row.sk == key.sk).cloned();
        let is_recordable = !rows.unreadable.contains(&key.sk);
        Ending { run, principal, policy, key, is_recordable }.end(row).await
    }));
    let ends = policies.iter().cloned().zip(ends.await);
    let mut revocation = ends.fold(revocation, |all, (policy, end)| all.with(policy, end));
    for due in rows.readable.iter().filter_map(|row| row.state.sessions_from) {
        revocation.owes_sessions_from(due);
    }
    if let Some(from) = revocation.sessions_from {
        revocation.sessions = Some(run.end_sessions(principal, from, run.deadline(CONFIRM_LIMIT)).await);
    }
    Ok(report(revocation, revoke, run.invocation))
}

/// The ledger's rows of a principal.
#[derive(Default)]
struct Rows {
    readable: Vec<Row<GrantRow>>,
    /// The profiles of all rows, also of those that cannot be read.
    profiles: Vec<String>,
    /// The sort keys of the rows that cannot be read.
    unreadable: Vec<String>,
}

async fn read_rows<S: Store>(principal: &Principal, run: &Run<'_, S>) -> Rows {
    let prefix = row::prefix(principal);
    let read = run.ledger.each::<GrantRow>(row::PARTITION, &prefix);
    let LedgerAnswer::Done(read) = run.try_ledger(read).await else { return Rows::default() };
    let mut rows = Rows::default();
    for row in read {
        let sk = match row {
            Ok(row) => {
                rows.readable.push(row.clone());
                row.sk
            }
            Err(LedgerError::Unreadable { ref key, .. }) => {
                warn!(row = %key, "access is ended without a row of the ledger, which cannot be read");
                rows.unreadable.push(key.sk.clone());
                key.sk.clone()
            }
            Err(_) => continue,
        };
        rows.profiles.extend(row::subject(&sk).map(|(_, profile)| profile.to_owned()));
    }
    rows
}

/// Shows what a revoke would do to each policy.
async fn preview<S: Store>(principal: &Principal, run: &Run<'_, S>) -> Result<Report, Error> {
    let facts = async {
        run.describe(principal).await?;
        let names = run.iam.policy_names(principal).await.map_err(unknown)?;
        let policies = plan::revocation(names, std::iter::empty()).into_iter();
        let read = try_join_all(policies.map(async |name| {
            let document = run.iam.policy(principal, &name).await?;
            Ok::<_, IamError>(document.map(|document| (name, policy::read(&document))))
        }));
        Ok::<_, Error>(read.await.map_err(unknown)?.into_iter().flatten().collect::<Vec<_>>())
    };
    let policies = timeout_at(run.deadline(PLAN_LIMIT), facts).await;
    let policies = policies.map_err(|_| Error::TooSlow("Nothing was changed"))??;
    let decision = Decision::new(Outcome::Previewed, "dry run: nothing was written");
    let text = answer::revoke_preview(principal, &policies, run.now());
    Ok(Report::text(text, outcome::about(decision, principal)))
}

fn unknown(source: IamError) -> Error {
    Error::Iam { outcome: "It is not known which policies a revoke would delete".to_owned(), source }
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
    /// Whether the end of access can be recorded. A row that cannot be read is not overwritten.
    is_recordable: bool,
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

/// What IAM shows of a policy.
enum Shown {
    Policy(Reading),
    Nothing,
    /// IAM did not answer in time, or failed.
    Unread,
}

/// The access that a revoke has ended.
#[derive(Clone, Copy)]
struct Access {
    window: Window,
    /// Whether the access would have gone on.
    was_live: bool,
    /// When the access began. It is early if this is not known.
    start: OffsetDateTime,
}

impl Access {
    fn end(self, recorded: bool, held: bool) -> PolicyEnd {
        if self.was_live {
            PolicyEnd::Removed { start: self.start, recorded, held }
        } else {
            PolicyEnd::Expired(self.window.end)
        }
    }
}

impl<S: Store> Ending<'_, S> {
    /// Deletes the policy, and then records the end of access in the policy's row, provided that the row has not
    /// changed since it was read. If another request granted access in the meantime, the policy is deleted once more. A
    /// revoke claims no lease, and it deletes the policy before it waits for another request's lease to end.
    async fn end(&self, mut row: Option<Row<GrantRow>>) -> PolicyEnd {
        let mut removed: Option<Access> = None;
        let done = |removed: Option<Access>| removed.map_or(PolicyEnd::Nothing, |access| access.end(true, false));
        loop {
            let now = self.run.now();
            // Reads of the ledger are consistent, but reads of IAM are not: IAM may not show a recent grant yet. A
            // policy that only the ledger records is deleted too, because deleting a policy that does not exist does no
            // harm.
            let recorded = row.as_ref().filter(|row| row.state.gives_access(now)).map(|row| row.state.window());
            let (window, is_unread) = match self.read().await {
                Shown::Policy(Reading::OpenEnded(why)) => return PolicyEnd::OpenEnded(why),
                Shown::Policy(Reading::DenyOnly) => return PolicyEnd::Nothing,
                Shown::Policy(Reading::Grant(window)) => (later(Some(window), recorded), false),
                Shown::Nothing => (recorded, false),
                Shown::Unread => (recorded, true),
            };
            if window.is_none() && !is_unread {
                return done(removed);
            }
            match self.delete().await {
                Ok(false) if window.is_none() => return done(removed),
                Ok(_) => {}
                Err(error) => return PolicyEnd::Failed { removed: removed.is_some(), error },
            }
            let access = match window {
                Some(window) => Access { window, was_live: window.is_live(now), start: window.start },
                // It is not known when the access began, so all sessions of the principal may belong to it.
                None => Access {
                    window: row.as_ref().map_or(Window { start: now, end: now }, |row| row.state.window()),
                    was_live: true,
                    start: OffsetDateTime::UNIX_EPOCH,
                },
            };
            let access = removed.filter(|removed| removed.was_live && !access.was_live).unwrap_or(access);
            removed = Some(access);
            match self.record(row.as_ref(), access).await {
                Recorded::Yes => return access.end(true, false),
                Recorded::Lost => return access.end(false, false),
                Recorded::Changed => {}
            }
            match self.wait_for_other(row, access).await {
                Next::Again(changed) => row = changed,
                Next::Finished(end) => return end,
            }
        }
    }

    /// Reads the policy, but does not wait for long.
    async fn read(&self) -> Shown {
        match timeout(READ_TIMEOUT, self.run.iam.policy(self.principal, self.policy)).await {
            Ok(Ok(Some(document))) => Shown::Policy(policy::read(&document)),
            Ok(Ok(None)) => Shown::Nothing,
            Ok(Err(error)) => {
                warn!(error = chain(&error), "a policy is deleted unread");
                Shown::Unread
            }
            Err(_) => Shown::Unread,
        }
    }

    async fn delete(&self) -> Result<bool, IamError> {
        let delete = self.run.iam.delete(self.principal, self.policy);
        let deleted = timeout_at(self.run.deadline(CONFIRM_LIMIT), delete).await;
        deleted.unwrap_or_else(|_| Err(IamError::unanswered("policy delete")))
    }

    /// Records the end of access in the row, unless another request holds the row.
    async fn record(&self, row: Option<&Row<GrantRow>>, access: Access) -> Recorded {
        if self.run.is_ledger_lost.get() || !self.is_recordable {
            return Recorded::Lost;
        }
        let (now, request) = (self.run.now(), self.run.request_id());
        if row.is_some_and(|row| row.state.is_held_by_another(request, now)) {
            return Recorded::Changed;
        }
        let state = if access.was_live { State::Revoked } else { State::Expired };
        let state = GrantRow::held(state, access.window, request, row.map(|row| &row.state), now).free();
        let write = self.run.ledger.write(&self.key, &state, row.map(|row| row.revision), request);
        match self.run.try_ledger(write).await {
            LedgerAnswer::Done(_) => Recorded::Yes,
            LedgerAnswer::Changed => Recorded::Changed,
            LedgerAnswer::Lost => Recorded::Lost,
        }
    }

    /// Waits until no other request holds the row. If time runs out, the policy is deleted once more, and the end of
    /// access is recorded although the other request holds the row.
    async fn wait_for_other(&self, mut row: Option<Row<GrantRow>>, access: Access) -> Next {
        let (run, limit) = (self.run, self.run.deadline(CONFIRM_LIMIT));
        loop {
            match run.try_ledger(run.ledger.read::<GrantRow>(&self.key)).await {
                LedgerAnswer::Done(read) => row = read,
                LedgerAnswer::Changed => {}
                LedgerAnswer::Lost => return Next::Finished(access.end(false, true)),
            }
            let now = run.now();
            let Some(holder) = row.as_ref().filter(|row| row.state.is_held_by_another(run.request_id(), now)) else {
                return Next::Again(row);
            };
            if Instant::now() + POLL_INTERVAL * 4 >= limit {
                let _ = timeout_at(limit, run.iam.delete(self.principal, self.policy)).await;
                let recorded = self.record_over(holder.clone(), access.window).await;
                return Next::Finished(Access { was_live: true, ..access }.end(recorded, true));
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

/// Reports which policies were removed and which could not be removed, and what happened to the open sessions.
fn report(revocation: Revocation, revoke: &Revoke, invocation: &Invocation) -> Report {
    let principal = &revoke.principal;
    let text = answer::revoked(principal, &revocation, invocation);
    let (mut decisions, mut notices) = (Vec::new(), Vec::new());
    let decide = |outcome, reason: &str| outcome::about(Decision::new(outcome, reason), principal);
    let removed = revocation.removed.join(" ");
    let because = || revoke.reason.clone();
    if !revocation.removed.is_empty() {
        let decision = decide(Outcome::Revoked, "access was ended").about("policies", removed.as_str());
        decisions.push(decision.about_some("because", because()));
        notices.push(notice::ended(principal, &revocation.removed, revoke.reason.as_deref(), invocation));
    } else if revocation.failed.is_empty() {
        let decision = decide(Outcome::Unchanged, "there was no access to end").about("policies", removed.as_str());
        decisions.push(decision.about_some("because", because()));
    }
    for (policy, end) in &revocation.expired {
        let decision = decide(Outcome::Swept, "the access had already ended").about("policy", policy.clone());
        decisions.push(decision.about("until", timestamp::seconds(*end)));
    }
    for (policy, why) in &revocation.open_ended {
        decisions.push(decide(Outcome::OpenEnded, why).about("policy", policy.clone()));
        notices.push(notice::open_ended(principal, policy, why));
    }
    decisions.extend(revocation.sessions.as_ref().and_then(|sessions| outcome::of_sessions(sessions, principal)));
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
