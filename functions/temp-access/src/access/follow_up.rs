//! In a follow-up, the schedule invokes the function every minute to finish what the ledger's rows still owe: to end the
//! sessions of grants that have ended, and to send the notice of a grant whose invocation died before that.

use sekisho_domain::decision::{Decision, Decisions};
use sekisho_domain::timestamp;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Error as LedgerError, Row, Store};
use time::Duration;
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

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
/// A revoke takes effect everywhere within this time. A session that begins until then is ended as well.
const SETTLING: Duration = Duration::minutes(2);
/// Sessions that could not be ended within this time are left. No session of Session Manager lasts longer.
const TRIED: Duration = Duration::days(1);

/// Carries out a follow-up alone.
pub(crate) async fn report<S: Store>(run: &Run<'_, S>) -> Result<Report, Error> {
    let decisions = follow_up(run, run.sweep_deadline()).await;
    let answer = Ok(Answer::Decisions(Decisions { decisions: decisions.clone() }));
    Ok(Report { answer, decisions, notices: Vec::new(), settlement: None })
}

/// Finishes what the rows owe, and returns a decision about each thing that was done. If the ledger cannot be read, the
/// next follow-up does it.
pub(crate) async fn follow_up<S: Store>(run: &Run<'_, S>, deadline: Instant) -> Vec<Decision<Outcome>> {
    let rows = match timeout_at(deadline, run.ledger.each::<GrantRow>(row::PARTITION, "")).await {
        Ok(Ok(rows)) => rows,
        Ok(Err(error)) => {
            error!(error = chain(&error), "the follow-up could not read the grants");
            return Vec::new();
        }
        Err(_) => return Vec::new(),
    };
    let readable = rows
        .into_iter()
        .filter_map(|row| row.inspect_err(|error| warn!(error = chain(error), "the follow-up leaves a row out")).ok());
    let rows: Vec<Row<GrantRow>> = readable.collect();
    let mut decisions = Vec::new();
    for row in &rows {
        let Some((principal, profile)) = row::subject(&row.sk) else { continue };
        let now = run.now();
        if row.state.is_held_by_another(run.request_id(), now) {
            continue;
        }
        if owes_notice(&row.state, run) {
            decisions.extend(send_notice(row, &principal, profile, deadline, run).await);
        } else if owes_sessions(&row.state, run) && !is_let_in(&principal, &rows, run) {
            decisions.extend(end_sessions(row, &principal, deadline, run).await);
        }
    }
    decisions
}

/// Whether a grant that may give access has no notice. An intent without a lease belongs to an invocation that died, or
/// to one that IAM did not answer.
fn owes_notice<S: Store>(row: &GrantRow, run: &Run<'_, S>) -> bool {
    let now = run.now();
    let is_new = timestamp::epoch_millis(now - SEARCHED) < row.claimed;
    row.gives_access(now) && (row.owes_notice || row.state == State::Intent && is_new)
}

/// Sends the notice of a grant, if IAM shows the access.
async fn send_notice<S: Store>(
    row: &Row<GrantRow>,
    principal: &Principal,
    profile: &str,
    deadline: Instant,
    run: &Run<'_, S>,
) -> Option<Decision<Outcome>> {
    let name = format!("{}{profile}", policy::PREFIX);
    let document = timeout_at(deadline, run.iam.policy(principal, &name)).await.ok()?.ok()??;
    let end = row.state.end;
    if !matches!(policy::read(&document), Reading::Grant(window) if window.end == end) {
        return None;
    }
    let reason = row.state.reason.as_deref();
    let let_in = LetIn { principal, profile, end, reason, is_longer: false, is_wider: false };
    if let Err(error) = timeout_at(deadline, run.topic.publish(&notice::let_in(&let_in, run.invocation))).await.ok()? {
        error!(error = chain(&error), "a notice was not sent");
        return None;
    }
    let settled = GrantRow { owes_notice: false, ..row.state.clone() }.settled(State::Granted);
    write(row, &settled, deadline, run).await;
    let reason = "access was given earlier, and its notice was missing";
    let decision = outcome::about(Decision::new(Outcome::Granted, reason), principal);
    Some(decision.about("profile", profile).about("until", timestamp::seconds(end)))
}

/// Whether sessions of the grant still have to be ended.
fn owes_sessions<S: Store>(row: &GrantRow, run: &Run<'_, S>) -> bool {
    let now = run.now();
    row.sessions_from.is_some() && !row.gives_access(now) && now < row.chain().end.saturating_add(TRIED)
}

/// Whether another grant of the principal is live, so that its sessions may go on.
fn is_let_in<S: Store>(principal: &Principal, rows: &[Row<GrantRow>], run: &Run<'_, S>) -> bool {
    let prefix = row::prefix(principal);
    rows.iter().any(|row| row.sk.starts_with(&prefix) && row.state.gives_access(run.now()))
}

/// Ends the sessions that began inside the grant's window.
async fn end_sessions<S: Store>(
    row: &Row<GrantRow>,
    principal: &Principal,
    deadline: Instant,
    run: &Run<'_, S>,
) -> Option<Decision<Outcome>> {
    let end = run.end_sessions(principal, row.state.sessions_from?, deadline).await;
    let is_settled = row.state.state != State::Revoked || row.state.chain().end.saturating_add(SETTLING) <= run.now();
    if matches!(end, SessionsEnd::Ended(_)) && is_settled {
        write(row, &GrantRow { sessions_from: None, ..row.state.clone() }, deadline, run).await;
    }
    // A failure is logged each time, but becomes a decision, and thus an alarm, only once.
    let is_first = run.now() < row.state.chain().end.saturating_add(SETTLING);
    outcome::of_sessions(&end, principal).filter(|_| is_first || matches!(end, SessionsEnd::Ended(_)))
}

/// Writes a row that has not changed since it was read. If it has changed, or the ledger fails, the next follow-up finds
/// the same row again, or what the other invocation made of it.
async fn write<S: Store>(row: &Row<GrantRow>, state: &GrantRow, deadline: Instant, run: &Run<'_, S>) {
    let key = sekisho_ledger::Key { pk: row::PARTITION.to_owned(), sk: row.sk.clone() };
    let written = timeout_at(deadline, run.ledger.write(&key, state, Some(row.revision), run.request_id())).await;
    if let Ok(Err(error)) = written
        && !matches!(error, LedgerError::Changed(_))
    {
        warn!(error = chain(&error), "a follow-up was not recorded");
    }
}
