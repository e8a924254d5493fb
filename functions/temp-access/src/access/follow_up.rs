//! In a follow-up, the schedule invokes the function every minute to finish what the ledger's rows still owe: the notice
//! and the decision of a grant whose invocation could not send or record them, the delete of a policy that a revoke could
//! not delete, the end of sessions, a reminder of an end, and a summary of what was done.

use sekisho_domain::decision::{Decision, Decisions};
use sekisho_domain::timestamp;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Lease, Row, Store};
use time::{Duration, OffsetDateTime};
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

use crate::access::owed::{TRIED, awaits_delete, subject, write};
use crate::access::{policies, reminder, removal, summary, tend};
use crate::answer::Answer;
use crate::error::Error;
use crate::notice::{self, LetIn};
use crate::outcome::{self, Outcome};
use crate::policy::{self, Reading};
use crate::principal::Principal;
use crate::report::Report;
use crate::row::{self, GrantRow, State};
use crate::run::Run;
use crate::session::SessionsEnd;

/// How long after a grant was begun a follow-up looks for its policy. A grant that IAM does not show by then was not
/// carried out.
const SEARCHED: Duration = Duration::hours(1);
/// The end of access takes effect everywhere within this time, and Session Manager lists a session that began until
/// then.
const SETTLING: Duration = Duration::minutes(2);

/// Carries out a follow-up alone.
pub(crate) async fn report<S: Store>(run: &Run<'_, S>) -> Result<Report, Error> {
    let decisions = follow_up(run, run.sweep_deadline()).await?;
    let answer = Ok(Answer::Decisions(Decisions { decisions: decisions.clone() }));
    Ok(Report { answer, decisions, notices: Vec::new(), settlement: None })
}

/// Finishes what the rows owe, and returns a decision about each thing that was done.
///
/// # Errors
/// If the ledger cannot be read. The next follow-up tries again, but a role that may not read would never end a
/// session, so the invocation fails.
pub(crate) async fn follow_up<S: Store>(run: &Run<'_, S>, deadline: Instant) -> Result<Vec<Decision<Outcome>>, Error> {
    const OUTCOME: &str = "Neither sessions were ended nor notices sent";
    let rows = match timeout_at(deadline, run.ledger.each::<GrantRow>(row::PARTITION, "")).await {
        Ok(Ok(rows)) => rows,
        Ok(Err(source)) => return Err(Error::Ledger { outcome: OUTCOME, source }),
        Err(_) => return Err(Error::TooSlow(OUTCOME)),
    };
    let readable = rows
        .into_iter()
        .filter_map(|row| row.inspect_err(|error| warn!(error = chain(error), "the follow-up leaves a row out")).ok());
    let mut rows: Vec<Row<GrantRow>> = readable.collect();
    let mut decisions = tend::tend(&rows, deadline, run).await;
    // The notices come first, because they find out which intents were carried out.
    for row in &mut rows {
        let Some((principal, profile)) = subject(row, run) else { continue };
        if owes_notice(&row.state, run)
            && let Some(decision) = send_notice(row, &principal, &profile, deadline, run).await
        {
            if row.state.state == State::Intent {
                row.state.state = State::Granted;
            }
            decisions.push(decision);
        }
    }
    for row in &rows {
        let Some((principal, profile)) = subject(row, run) else { continue };
        if awaits_delete(&row.state, run.now()) {
            decisions.extend(removal::finish_revoke(row, &principal, &profile, deadline, run).await);
        } else if owes_sessions(row, (&principal, &profile), &rows, run)
            && !is_let_in(&principal, &rows, deadline, run).await
        {
            decisions.extend(end_sessions(row, &principal, deadline, run).await);
        }
    }
    reminder::remind(&rows, deadline, run).await;
    summary::summarize(&rows, deadline, run).await;
    Ok(decisions)
}

/// Whether a grant has no notice, although it gave access or may have given it. An intent without a lease belongs to an
/// invocation that died, or to one that IAM did not answer.
fn owes_notice<S: Store>(row: &GrantRow, run: &Run<'_, S>) -> bool {
    let now = run.now();
    let is_new = timestamp::epoch_millis(now - SEARCHED) < row.claimed;
    row.owes_notice && now < row.over_at().saturating_add(TRIED)
        || row.state == State::Intent && is_new && !row.is_unchanged
}

/// Sends the notice of a grant, also after its end. An intent has a notice only if IAM shows the access, and if the
/// approval or the review is on record that the access needs.
async fn send_notice<S: Store>(
    row: &Row<GrantRow>,
    principal: &Principal,
    profile: &str,
    deadline: Instant,
    run: &Run<'_, S>,
) -> Option<Decision<Outcome>> {
    // Until a revoked policy is deleted, it lets in, and nobody knows when that ends.
    if awaits_delete(&row.state, run.now()) {
        return None;
    }
    let end = row.state.over_at();
    let is_over = end <= run.now();
    let window = row.state.window();
    let is_scheduled = window.is_scheduled(end.min(run.now()));
    if row.state.state == State::Intent || !is_over {
        let name = format!("{}{profile}", policy::PREFIX);
        let document = timeout_at(deadline, policies::read(principal, &name, run)).await.ok()?.ok()??;
        if !matches!(policy::read(&document), Reading::Grant(window) if window.end == end) {
            return None;
        }
    }
    // Before its start, the access of a person is only in the ledger, so that an intent looks like access.
    if row.state.awaits_entry && !tend::is_secured(&row.state, run).await {
        return None;
    }
    // The row is claimed first, so that a sweep at the same time does not send the notice as well.
    let claim = GrantRow { lease: Lease::new(run.now(), row::LEASE_TERM), ..row.state.clone() };
    let revision = write(row, &claim, deadline, run).await?;
    let row = Row { revision, ..row.clone() };
    let reason = row.state.reason.as_deref();
    let (consent, is_wider) = (&row.state.consent, row.state.is_wider);
    // A scheduled grant that was revoked before it began let nobody in.
    let has_notice = !(is_over && is_scheduled);
    if has_notice {
        let start = is_scheduled.then_some(window.start);
        let let_in = LetIn { principal, profile, start, end, reason, consent, is_longer: is_wider, is_wider, is_over };
        let published = timeout_at(deadline, run.topic.publish(&notice::let_in(&let_in, run.invocation))).await.ok()?;
        if let Err(error) = published {
            error!(error = chain(&error), "a notice was not sent");
            write(&row, &row.state.clone().free(), deadline, run).await;
            return None;
        }
    }
    let state = if row.state.state == State::Intent { State::Granted } else { row.state.state };
    let settled = GrantRow { owes_notice: false, is_wider: false, ..row.state.clone() }.settled(state);
    write(&row, &settled, deadline, run).await;
    let reason = if has_notice {
        "access was given earlier, and its notice or its decision was missing"
    } else {
        "access was to begin later, and was ended before that"
    };
    let outcome = match (is_scheduled, is_wider) {
        (true, _) => Outcome::Scheduled,
        (false, true) => Outcome::Widened,
        (false, false) => Outcome::Granted,
    };
    let decision = outcome::about(Decision::new(outcome, reason), principal)
        .about("profile", profile)
        .about("start", timestamp::seconds(window.start))
        .about("until", timestamp::seconds(end))
        .about_some("given", row.state.claimed_at().map(timestamp::seconds))
        .about_some("because", row.state.reason.clone());
    Some(outcome::with_consent(decision, consent))
}

/// Whether sessions of the grant still have to be ended. Nothing is tried for longer than [`TRIED`] after the time at
/// which the sessions could be ended first: when the last grant of the principal that allows to open sessions had
/// ended.
fn owes_sessions<S: Store>(
    row: &Row<GrantRow>,
    (principal, profile): (&Principal, &str),
    rows: &[Row<GrantRow>],
    run: &Run<'_, S>,
) -> bool {
    let now = run.now();
    let has_failed = row.state.state == State::Intent && !row.state.is_held(now) && run.opens_sessions(profile);
    let others = of_sessions(principal, rows, run).map(|row| row.state.over_at());
    let first = others.filter(|over| *over <= now).fold(row.state.over_at(), OffsetDateTime::max);
    row.state.sessions_from.is_some() && (row.state.over_at() <= now || has_failed) && now < first.saturating_add(TRIED)
}

/// The rows of the principal's grants that allow to open sessions.
fn of_sessions<'a, S: Store>(
    principal: &Principal,
    rows: &'a [Row<GrantRow>],
    run: &Run<'_, S>,
) -> impl Iterator<Item = &'a Row<GrantRow>> {
    let theirs = rows.iter().filter(move |row| row::subject(&row.sk).is_some_and(|(whose, _)| whose == *principal));
    theirs.filter(move |row| row::subject(&row.sk).is_some_and(|(_, profile)| run.opens_sessions(profile)))
}

/// Whether a grant of the principal that allows to open sessions is live, so that the sessions may go on.
async fn is_let_in<S: Store>(
    principal: &Principal,
    rows: &[Row<GrantRow>],
    deadline: Instant,
    run: &Run<'_, S>,
) -> bool {
    for row in of_sessions(principal, rows, run) {
        if row.state.is_open(run.now()) && is_carried_out(row, principal, deadline, run).await {
            return true;
        }
    }
    false
}

/// Whether a grant was carried out, or still may be. An intent without a lease is one that failed, unless IAM shows
/// live access, which may be that of an earlier grant.
async fn is_carried_out<S: Store>(
    row: &Row<GrantRow>,
    principal: &Principal,
    deadline: Instant,
    run: &Run<'_, S>,
) -> bool {
    let Some((_, profile)) = row::subject(&row.sk) else { return false };
    if row.state.state == State::Granted || row.state.is_held(run.now()) {
        return true;
    }
    let policy = format!("{}{profile}", policy::PREFIX);
    match timeout_at(deadline, policies::read(principal, &policy, run)).await {
        Ok(Ok(Some(document))) => !matches!(policy::read(&document), Reading::Grant(end) if !end.is_live(run.now())),
        Ok(Ok(None)) => false,
        Ok(Err(_)) | Err(_) => true,
    }
}

/// Ends the sessions that began inside the grant's window.
async fn end_sessions<S: Store>(
    row: &Row<GrantRow>,
    principal: &Principal,
    deadline: Instant,
    run: &Run<'_, S>,
) -> Option<Decision<Outcome>> {
    let over = row.state.over_at();
    let end = run.end_sessions(principal, (row.state.sessions_from?, Some(over.min(run.now()))), deadline).await;
    match end {
        // Session Manager may not list a session yet that began at the last moment.
        SessionsEnd::Ended(_) if over.saturating_add(SETTLING) <= run.now() => {
            let settled = GrantRow { sessions_from: None, sessions_failed: false, ..row.state.clone() };
            write(row, &settled, deadline, run).await;
        }
        SessionsEnd::Ended(_) => {}
        // A failure is logged each time, but becomes a decision, and thus an alarm, only once.
        SessionsEnd::Failed { .. } if row.state.sessions_failed => return None,
        SessionsEnd::Failed { .. } => {
            write(row, &GrantRow { sessions_failed: true, ..row.state.clone() }, deadline, run).await;
        }
    }
    outcome::of_sessions(&end, principal)
}
