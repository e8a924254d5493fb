//! A follow-up looks after `sekisho-window`: it enters the grants that begin soon, and repairs what writers left behind.

use sekisho_domain::decision::Decision;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Error as LedgerError, Key, Lease, Row, Store};
use time::Duration;
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

use crate::access::window::{Turn, base, write};
use crate::access::{approve, policies};
use crate::aws::iam::IamError;
use crate::outcome::{self, Outcome};
use crate::pending::Stage;
use crate::policy;
use crate::principal::Principal;
use crate::row::{self, GrantRow, LEASE_TERM, State};
use crate::run::Run;
use crate::scheduled::{Scheduled, Verdict, verdict};
use crate::window_policy::{self, Change, ENTERED};

/// How long access that was to begin at once may wait without an alarm.
const LAG: Duration = Duration::minutes(3);
/// How long one write may take.
const WRITE_TERM: std::time::Duration = std::time::Duration::from_secs(20);

/// How long after a revoke the policy is looked after, although nobody has access any more. A writer whose call IAM did
/// not answer in time may still let in the person.
const WATCHED: Duration = Duration::minutes(5);

/// Looks after the policy, and returns a decision about each grant that could not be entered.
pub(crate) async fn tend<S: Store>(
    rows: &[Row<GrantRow>],
    deadline: Instant,
    run: &Run<'_, S>,
) -> Vec<Decision<Outcome>> {
    let mut decisions = Vec::new();
    let now = run.now();
    let is_watched =
        |row: &GrantRow| row.gives_access(now) || row.ended.is_some_and(|ended| now < ended.saturating_add(WATCHED));
    let mut people = rows.iter().filter(|row| row.sk.starts_with(row::PEOPLE) && is_watched(&row.state)).peekable();
    if people.peek().is_none() || run.identity_center.is_none() {
        return decisions;
    }
    let is_due = |row: &GrantRow| {
        row.awaits_entry
            && row.gives_access(now)
            && !row.is_held_by_another(run.request_id(), now)
            && row.window().start <= now + ENTERED
    };
    for row in people.filter(|row| is_due(&row.state)) {
        let Some((principal, profile)) = row::subject_of(&row.sk, &row.state) else { continue };
        if let Err(error) = enter(row, &principal, profile, deadline, run).await {
            error!(error = chain(&error), "a grant is not entered into sekisho-window yet");
            // The next follow-up tries again. The failure becomes a decision, and thus an alarm, once the start is near,
            // or if access that was to begin at once has waited for longer than IAM lags behind.
            let claimed = row.state.claimed_at();
            let late = claimed.map(|claimed| claimed + LAG).max(row.state.from.map(|start| start - ENTERED / 2));
            if late.is_some_and(|late| (late..late + ENTERED * 3 / 2).contains(&run.now())) {
                let reason = format!("the access is not in sekisho-window yet: {}", chain(&error));
                let decision = outcome::about(Decision::new(Outcome::Failed, reason), &principal);
                decisions.push(decision.about("profile", profile));
            }
        }
    }
    if let Err(error) = repair(deadline, run).await {
        warn!(error = chain(&error), "sekisho-window was not checked");
    }
    decisions
}

/// Enters a scheduled grant into the policy.
async fn enter<S: Store>(
    row: &Row<GrantRow>,
    principal: &Principal,
    profile: &str,
    deadline: Instant,
    run: &Run<'_, S>,
) -> Result<(), IamError> {
    let window = row.state.window();
    // What was granted, or approved, is what is entered. A sweep ends or shortens a grant that no longer fits.
    let scheduled = Scheduled { profile, window, document: None, extended: None, row: Some(&row.state) };
    let fits = run.access.as_ref().is_ok_and(|access| verdict(&scheduled, access) == Verdict::Keeps);
    let document = policies::profile_document(profile, window, run).filter(|_| fits);
    let document = document.ok_or_else(|| IamError::busy("the grant no longer fits the configuration"))?;
    if !is_secured(&row.state, run).await {
        return Err(IamError::busy("the invocation of the grant died before its approval or review was on record"));
    }
    let key = Key { pk: row::PARTITION.to_owned(), sk: row.sk.clone() };
    // The row is claimed first, so that a revoke notices that somebody is working on the access.
    let lease = Lease::new(run.now(), LEASE_TERM);
    let claim = GrantRow { request: run.request_id().to_owned(), lease, ..row.state.clone() };
    let claimed = run.ledger.write(&key, &claim, Some(row.revision), run.request_id()).await;
    let revision = claimed.map_err(IamError::busy)?;
    let shares = window_policy::shares(principal.key(), &document);
    let change = Change::Put { user: principal.key().to_owned(), profile: profile.to_owned(), shares };
    let limit = deadline.min(Instant::now() + LEASE_TERM / 2);
    let written = write(&change, Turn::Waits, limit, run).await;
    let row = match &written {
        // The write may still take effect. Until the lease ends, a revoke waits for it.
        Err(error) if error.may_have_taken_effect() => return written.map(drop),
        Err(_) => claim,
        Ok(_) => entered(claim),
    };
    if let Err(error) = run.ledger.write(&key, &row.free(), Some(revision), run.request_id()).await {
        warn!(error = chain(&error), "what became of the entry of a grant was not recorded");
        if matches!(error, LedgerError::Changed(_)) && written.is_ok() {
            leave_if_over(&key, principal, profile, run).await?;
        }
    }
    written.map(drop)
}

/// The row of a grant that was entered. If it was the intent of an invocation that died, its notice is still due.
fn entered(row: GrantRow) -> GrantRow {
    let owes_notice = row.owes_notice || row.state == State::Intent && !row.is_unchanged;
    GrantRow { state: State::Granted, awaits_entry: false, owes_notice, ..row }
}

/// Takes a grant out again that a revoke has ended while it was entered: the revoke may have read the policy before.
async fn leave_if_over<S: Store>(
    key: &Key,
    principal: &Principal,
    profile: &str,
    run: &Run<'_, S>,
) -> Result<(), IamError> {
    let row = run.ledger.read::<GrantRow>(key).await.map_err(IamError::busy)?;
    if row.is_some_and(|row| row.state.gives_access(run.now())) {
        return Ok(());
    }
    // Nobody tries again, and the revoke ended everything that the person had.
    policies::delete(principal, &format!("{}{profile}", policy::PREFIX), Turn::Revokes, run).await.map(drop)
}

/// Whether the approval or the review of an intent is on record. The invocation that wrote the intent may have died
/// before it checked this. If a grant was carried out, its invocation has checked it.
pub(super) async fn is_secured<S: Store>(row: &GrantRow, run: &Run<'_, S>) -> bool {
    let Some(code) = row.consent.code.as_ref().filter(|_| row.state == State::Intent && !row.is_unchanged) else {
        return true;
    };
    let found = approve::find(code, "The grant is not entered", run).await;
    found.is_ok_and(|(row, _)| matches!(row.state.stage, Stage::Approving | Stage::Approved | Stage::Review))
}

/// Repairs the policy if a writer died or overlooked something, or if somebody has written it without the ledger.
async fn repair<S: Store>(deadline: Instant, run: &Run<'_, S>) -> Result<(), IamError> {
    let Some(center) = run.identity_center else { return Ok(()) };
    let row = base::read(run).await.map_err(IamError::busy)?;
    let shown = timeout_at(deadline, run.iam.default_version(center.policy())).await;
    let shown = shown.unwrap_or_else(|_| Err(IamError::unanswered("GetPolicy")))?;
    let is_known = row.is_some_and(|row| shown <= row.state.version && !row.state.needs_repair(run.now()));
    if is_known {
        return Ok(());
    }
    write(&Change::Repair, Turn::Waits, deadline.min(Instant::now() + WRITE_TERM), run).await.map(drop)
}
