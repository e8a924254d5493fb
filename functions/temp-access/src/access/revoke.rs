//! A revoke ends all access of a principal. It needs only IAM, once it is known who the principal is. If the ledger
//! answers, its rows show policies that IAM may not show yet, and the revoke records the end of access there afterwards.

use std::cell::Cell;

use backon::{BackoffBuilder, ConstantBuilder};
use futures_util::future::join_all;
use futures_util::join;
use sekisho_domain::decision::Decision;
use sekisho_domain::timestamp;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Error as LedgerError, Key, Row, Store};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::warn;

use crate::access::decline::{self, Withdrawal};
use crate::access::first_deletes::FirstDeletes;
use crate::access::owed::awaits_delete;
use crate::access::window::Turn;
use crate::access::{policies, revoke_preview};
use crate::answer::{self, Answer};
use crate::aws::iam::{ErrorKind, IamError};
use crate::error::Error;
use crate::notice;
use crate::outcome::{self, Outcome};
use crate::plan;
use crate::policy::{self, Reading};
use crate::principal::{Kind, Principal};
use crate::report::Report;
use crate::request::Revoke;
use crate::revocation::{PolicyEnd, Revocation};
use crate::row::{self, GrantRow, State};
use crate::run::{CONFIRM_LIMIT, LedgerAnswer, POLL_INTERVAL, READ_TIMEOUT, RECHECK_LIMIT, Run};
use crate::window::{Window, later, latest_end};

/// Ends all access of a principal, or shows what a revoke would end.
///
/// A revoke never waits long for a read. Only two answers stop it: there is no such principal, or IAM spells the name
/// in another way. Whatever else cannot be read is deleted without being read.
pub(crate) async fn revoke<S: Store>(revoke: &Revoke, run: &Run<'_, S>) -> Result<Report, Error> {
    let principal = &revoke.principal;
    if revoke.dry_run {
        return revoke_preview::preview(principal, run).await;
    }
    let describe = timeout(READ_TIMEOUT, run.describe(principal));
    let names = timeout(READ_TIMEOUT, policies::names(principal, run));
    // The requests are withdrawn first, and then the rows of grants are read. So an approval at the same moment either
    // finds that its request was withdrawn, or has written the row of its grant, which is then read here.
    let ledger = async {
        let withdrawal = decline::withdraw(principal, run).await;
        (withdrawal, read_rows(principal, run).await)
    };
    let (details, names, (withdrawal, rows)) = join!(describe, names, ledger);
    match details {
        Ok(Err(error @ Error::Refused(_))) => return Err(error),
        // The sessions of a user who was deleted go on, so a revoke ends them.
        Ok(Err(error @ Error::NotFound(_))) if !rows.owes(run.now()) && withdrawal.withdrawn.is_empty() => {
            return Err(error);
        }
        Ok(_) | Err(_) => {}
    }

    let mut revocation = Revocation::default();
    // Without IAM's list, the revoke ends the policies that the ledger records, and those of all configured profiles.
    let names = match names.unwrap_or_else(|_| Err(IamError::unanswered("policy list"))) {
        Ok(names) => names,
        Err(error) if error.kind == ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            revocation.failed.push(("policies that neither the ledger nor the configuration has".to_owned(), error));
            run.access.iter().flat_map(|access| access.profiles.keys()).map(policy::name).collect()
        }
    };
    let policies = plan::revocation(names.clone(), rows.profiles.iter().map(String::as_str));
    let due = rows.readable.iter().filter_map(|row| row.state.sessions_from).min();
    let first = FirstDeletes::of(policies.len(), due);
    // All policies are ended at the same time, so that a policy that cannot be deleted does not delay the others.
    let ends = join_all(policies.iter().map(async |policy| {
        let key = row::key(principal, policy);
        let row = rows.readable.iter().find(|row| row.sk == key.sk).cloned();
        let is_recordable = !rows.unreadable.contains(&key.sk);
        let is_named = names.contains(policy) || !is_recordable;
        let count = Cell::new(1);
        let ending = Ending { run, principal, policy, key, is_recordable, is_named, first: &first, count: &count };
        let end = ending.end(row).await;
        first.count(count.take(), None);
        end
    }));
    // The sessions are ended beside the waiting for other requests, which may take all the time that a revoke has.
    let sessions = async {
        let _ = timeout_at(run.deadline(RECHECK_LIMIT), first.all()).await;
        let from = first.from.get()?;
        Some(run.end_sessions(principal, (from, None), run.deadline(CONFIRM_LIMIT)).await)
    };
    let (ends, sessions) = join!(ends, sessions);
    let ends = policies.iter().cloned().zip(ends);
    let mut revocation = ends.fold(Revocation { sessions, ..revocation }, |all, (policy, end)| all.with(policy, end));
    let is_incomplete = run.is_ledger_lost.get() || revocation.is_unrecorded || !rows.unreadable.is_empty();
    revocation.may_begin_later = principal.kind() == Kind::Person && is_incomplete;
    Ok(report(revocation, &withdrawal, revoke, run))
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

impl Rows {
    /// Whether a row says that there is access, or that sessions have to be ended.
    fn owes(&self, now: OffsetDateTime) -> bool {
        self.readable.iter().any(|row| row.state.gives_access(now) || row.state.sessions_from.is_some())
    }
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
    /// Whether IAM listed the policy, or its row cannot be read. Such a policy is deleted even if a read does not find
    /// it.
    is_named: bool,
    first: &'a FirstDeletes,
    /// 1 until the policy was deleted for the first time, and 0 afterwards.
    count: &'a Cell<usize>,
}

/// What to do after another request has changed or held the row.
enum Next {
    /// The other request is done. Check once more whether there is access.
    Again(Box<Option<Row<GrantRow>>>),
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
    /// The window that the ledger gets.
    window: Window,
    /// The end that the policy had.
    end: OffsetDateTime,
    /// Whether the access would have gone on.
    was_live: bool,
    /// When the access began. It is early if this is not known.
    start: OffsetDateTime,
}

impl Access {
    fn end(self, recorded: bool, held: bool) -> PolicyEnd {
        if self.was_live { PolicyEnd::Removed { recorded, held } } else { PolicyEnd::Expired(self.end) }
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
            // policy that only the ledger or a list has is deleted too, because deleting a policy that does not exist
            // does no harm.
            let recorded = row.as_ref().filter(|row| row.state.gives_access(now)).map(|row| row.state.window());
            let (shown, is_unread) = match self.read().await {
                Shown::Policy(Reading::OpenEnded(why)) => return PolicyEnd::OpenEnded(why),
                Shown::Policy(Reading::DenyOnly) => return PolicyEnd::Nothing,
                Shown::Policy(Reading::Grant(window)) => (Some(window), false),
                Shown::Nothing => (None, self.is_named && removed.is_none()),
                Shown::Unread => (None, true),
            };
            let is_known = shown.is_some() || recorded.is_some();
            if !is_known && !is_unread {
                return done(removed);
            }
            let access = self.access(shown, recorded, row.as_ref().map(|row| &row.state), now);
            match self.delete().await {
                Ok(false) if !is_known => return done(removed),
                Ok(_) => {}
                Err(error) => {
                    // A follow-up goes on with a delete that could not be made in time.
                    let is_late = matches!(error.kind, ErrorKind::Throttled | ErrorKind::Unanswered);
                    let is_owed = is_late
                        && matches!(self.record(row.as_ref(), access, true).await,
                                    LedgerAnswer::Done(row) if awaits_delete(&row, now));
                    return PolicyEnd::Failed { removed: removed.is_some(), is_owed, error };
                }
            }
            let access = removed.filter(|removed| removed.was_live && !access.was_live).unwrap_or(access);
            removed = Some(access);
            self.first.count(self.count.take(), access.was_live.then_some(access.start));
            match self.record(row.as_ref(), access, false).await {
                LedgerAnswer::Done(_) => return access.end(true, false),
                LedgerAnswer::Lost => return access.end(false, false),
                LedgerAnswer::Changed => {}
            }
            match self.wait_for_other(row, access).await {
                Next::Again(changed) => row = *changed,
                Next::Finished(end) => return end,
            }
        }
    }

    /// What is known about the access before the delete. `shown` is IAM's window, and `recorded` is the live window of
    /// the row.
    fn access(
        &self,
        shown: Option<Window>,
        recorded: Option<Window>,
        row: Option<&GrantRow>,
        now: OffsetDateTime,
    ) -> Access {
        // A window that Sekisho did not write is no part of a chain, so the ledger does not get it.
        let is_ours =
            |window: &Window| window.start > OffsetDateTime::UNIX_EPOCH && self.run.is_ours(self.policy, *window, row);
        let now = now.replace_nanosecond(0).unwrap_or(now);
        let profile = self.policy.strip_prefix(policy::PREFIX).unwrap_or(self.policy);
        let window = later(shown.filter(is_ours), recorded).unwrap_or_else(|| match (row, shown) {
            // A policy that could not be deleted gives access until the end that the row has.
            (Some(row), _) if row.owes_delete => row.window(),
            (Some(row), _) => row.chain(),
            (None, Some(_)) => Window { start: now, end: now },
            // Nothing is known about a policy without a row that cannot be read. It counts as the longest one that
            // Sekisho may have written, so that a revoke renews no chain. IAM may show it for some more seconds.
            (None, None) => {
                Window { start: OffsetDateTime::UNIX_EPOCH, end: latest_end(now, self.run.longest(profile)) }
            }
        });
        match later(shown, recorded) {
            Some(Window { start, end }) => Access { window, end, was_live: now < end, start },
            // It is not known when the access began, so all sessions of the principal may belong to it. Unless the row
            // says otherwise, the access would have gone on.
            None => Access {
                window,
                end: window.end,
                was_live: row.is_none_or(|row| row.window().is_live(now)),
                start: OffsetDateTime::UNIX_EPOCH,
            },
        }
    }

    /// Reads the policy, but does not wait for long.
    async fn read(&self) -> Shown {
        match timeout(READ_TIMEOUT, policies::read(self.principal, self.policy, self.run)).await {
            Ok(Ok(Some(document))) => Shown::Policy(policy::read(&document)),
            Ok(Ok(None)) => Shown::Nothing,
            Ok(Err(error)) => {
                warn!(error = chain(&error), "a policy is deleted unread");
                Shown::Unread
            }
            Err(_) => Shown::Unread,
        }
    }

    /// Deletes the policy, and goes on as long as there is time: IAM's limits are those of the whole account, so
    /// somebody who has access could exhaust them.
    async fn delete(&self) -> Result<bool, IamError> {
        let limit = self.run.deadline(CONFIRM_LIMIT);
        // The pauses have a random part, so that several revokes do not get in each other's way.
        let mut pauses = ConstantBuilder::default()
            .with_delay(POLL_INTERVAL)
            .without_max_times()
            .with_jitter()
            .with_jitter_seed(self.run.invocation.jitter_seed())
            .build();
        let (mut is_doubtful, mut last) = (false, None);
        loop {
            let deleted = policies::delete(self.principal, self.policy, Turn::Revokes, self.run);
            let error = match timeout_at(limit, deleted).await {
                // If the answer to an earlier attempt was lost, that attempt may have deleted the policy.
                Ok(Ok(existed)) => return Ok(existed || is_doubtful),
                Ok(Err(error)) => error,
                Err(_) => return Err(last.unwrap_or_else(|| IamError::unanswered("policy delete"))),
            };
            let pause = pauses.next().unwrap_or(POLL_INTERVAL);
            let is_final = !matches!(error.kind, ErrorKind::Throttled | ErrorKind::Unanswered);
            if is_final || Instant::now() + pause >= limit {
                return Err(error);
            }
            is_doubtful |= error.kind == ErrorKind::Unanswered;
            last = Some(error);
            sleep(pause).await;
        }
    }

    /// Records the end of access in the row, unless another request holds the row. With `owes_delete`, a follow-up
    /// deletes the policy. Returns the row.
    async fn record(&self, row: Option<&Row<GrantRow>>, access: Access, owes_delete: bool) -> LedgerAnswer<GrantRow> {
        if self.run.is_ledger_lost.get() || !self.is_recordable {
            return LedgerAnswer::Lost;
        }
        let (now, request) = (self.run.now(), self.run.request_id());
        if row.is_some_and(|row| row.state.is_held_by_another(request, now)) {
            return LedgerAnswer::Changed;
        }
        let state = if access.was_live { State::Revoked } else { State::Expired };
        let mut state = GrantRow::held(state, access.window, request, row.map(|row| &row.state), now).free();
        state.owes_delete = owes_delete;
        if access.was_live {
            state.sessions_from = state.sessions_from.map(|from| from.min(access.start));
        }
        let revision = row.map(|row| row.revision);
        let write = async { self.run.ledger.write(&self.key, &state, revision, request).await.map(|_| state) };
        self.run.try_ledger(write).await
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
                return Next::Again(Box::new(row));
            };
            if Instant::now() + POLL_INTERVAL * 4 >= limit {
                let _ = timeout_at(limit, policies::delete(self.principal, self.policy, Turn::Revokes, run)).await;
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
fn report<S: Store>(revocation: Revocation, withdrawal: &Withdrawal, revoke: &Revoke, run: &Run<'_, S>) -> Report {
    let (principal, invocation) = (&revoke.principal, run.invocation);
    // Without an approval in the configuration, nobody has to look for requests.
    let has_approvals = run.access.as_ref().map_or(true, decline::has_approvals);
    let mut besides = answer::approval::withdrawn(&withdrawal.withdrawn, withdrawal.is_incomplete && has_approvals);
    besides.extend(answer::revoked_besides(&revocation, invocation));
    let text = answer::revoked(principal, &revocation.removed, &besides);
    let (mut decisions, mut notices) = (Vec::new(), Vec::new());
    let decide = |outcome, reason: &str| outcome::about(Decision::new(outcome, reason), principal);
    let removed = revocation.removed.join(" ");
    let because = || revoke.reason.clone();
    if !revocation.removed.is_empty() {
        let decision = decide(Outcome::Revoked, "access was ended").about("policies", removed.as_str());
        decisions.push(decision.about_some("because", because()));
        let reason = revoke.reason.as_deref();
        notices.push(notice::ended(principal, &revocation.removed, reason, |one| run.is_open(one), invocation));
    } else if revocation.failed.is_empty() && !revocation.may_begin_later {
        let decision = decide(Outcome::Unchanged, "there was no access to end").about("policies", removed.as_str());
        decisions.push(decision.about_some("because", because()));
    }
    for (policy, end) in &revocation.expired {
        let decision = decide(Outcome::Swept, "the access had already ended").about("policy", policy.clone());
        decisions.push(decision.about("until", timestamp::seconds(*end)));
    }
    for (policy, why) in &revocation.open_ended {
        decisions.push(decide(Outcome::OpenEnded, why).about("policy", policy.clone()));
        notices.push(notice::open_ended(principal, policy, why, invocation));
    }
    decisions.extend(withdrawal.decisions());
    decisions.extend(revocation.sessions.as_ref().and_then(|sessions| outcome::of_sessions(sessions, principal)));
    let failed: Vec<&str> = revocation.failed.iter().map(|(policy, _)| policy.as_str()).collect();
    let failed = failed.join(" ");
    let answer = match revocation.into_error(principal, &besides) {
        Some(error) => {
            decisions.push(outcome::of_error(&error, Some(principal)).about("policies", failed));
            Err(error)
        }
        None => Ok(Answer::Text(text)),
    };
    Report { answer, decisions, notices, settlement: None }
}
