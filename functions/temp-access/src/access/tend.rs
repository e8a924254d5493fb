//! A follow-up looks after `sekisho-window`: it enters the grants that begin soon, and repairs what writers left behind.

use sekisho_domain::decision::Decision;
use sekisho_domain::timestamp;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Key, Lease, Row, Store};
use time::Duration;
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

use crate::access::policies;
use crate::access::window::{Turn, write};
use crate::aws::iam::IamError;
use crate::outcome::{self, Outcome};
use crate::principal::Principal;
use crate::row::{self, GrantRow, LEASE_TERM, State};
use crate::run::Run;
use crate::scheduled::{Scheduled, Verdict, verdict};
use crate::window_policy::{self, Change, ENTERED};
use crate::window_row::{WindowRow, key};

/// How long access that was to begin at once may wait without an alarm.
const LAG: Duration = Duration::minutes(3);
/// How long one write may take.
const WRITE_TERM: std::time::Duration = std::time::Duration::from_secs(20);

/// Looks after the policy, and returns a decision about each grant that could not be entered.
pub(crate) async fn tend<S: Store>(
    rows: &[Row<GrantRow>],
    deadline: Instant,
    run: &Run<'_, S>,
) -> Vec<Decision<Outcome>> {
    let mut decisions = Vec::new();
    let now = run.now();
    let is_of_person = |row: &&Row<GrantRow>| row.sk.starts_with(row::PEOPLE) && row.state.gives_access(now);
    let people: Vec<&Row<GrantRow>> = rows.iter().filter(is_of_person).collect();
    if people.is_empty() || run.identity_center.is_none() {
        return decisions;
    }
    let is_due = |row: &GrantRow| {
        row.awaits_entry
            && row.state == State::Granted
            && !row.is_held_by_another(run.request_id(), now)
            && row.window().start <= now + ENTERED
    };
    for row in people.into_iter().filter(|row| is_due(&row.state)) {
        let Some((principal, profile)) = row::subject_of(&row.sk, &row.state) else { continue };
        if let Err(error) = enter(row, &principal, profile, deadline, run).await {
            error!(error = chain(&error), "a grant is not entered into sekisho-window yet");
            // The next follow-up tries again. The failure becomes a decision, and thus an alarm, once the start is near,
            // or if access that was to begin at once has waited for longer than IAM lags behind.
            let claimed = i64::try_from(row.state.claimed).ok().and_then(timestamp::from_epoch_millis);
            let late = row.state.from.map(|start| start - ENTERED / 2).or_else(|| Some(claimed? + LAG));
            if late.is_some_and(|late| (late..late + ENTERED * 3 / 2).contains(&run.now())) {
                let reason = format!("the access is not in sekisho-window yet: {error}");
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
    let scheduled = Scheduled { profile, window, document: None, row: Some(&row.state) };
    let fits = run.access.as_ref().is_ok_and(|access| verdict(&scheduled, access) == Verdict::Keeps);
    let document = policies::profile_document(profile, window, run).filter(|_| fits);
    let document = document.ok_or_else(|| IamError::busy("the grant no longer fits the configuration"))?;
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
    let row = GrantRow { awaits_entry: written.is_err(), ..claim }.free();
    if let Err(error) = run.ledger.write(&key, &row, Some(revision), run.request_id()).await {
        warn!(error = chain(&error), "a scheduled grant was entered, but this was not recorded");
    }
    written.map(drop)
}

/// Repairs the policy if a writer died or overlooked something, or if somebody has written it without the ledger.
async fn repair<S: Store>(deadline: Instant, run: &Run<'_, S>) -> Result<(), IamError> {
    let Some(center) = run.identity_center else { return Ok(()) };
    let row = run.ledger.read::<WindowRow>(&key()).await.map_err(IamError::busy)?;
    let shown = timeout_at(deadline, run.iam.default_version(center.policy())).await;
    let shown = shown.unwrap_or_else(|_| Err(IamError::unanswered("GetPolicy")))?;
    let is_known = row.is_some_and(|row| shown <= row.state.version && !row.state.needs_repair(run.now()));
    if is_known {
        return Ok(());
    }
    write(&Change::Repair, Turn::Waits, deadline.min(Instant::now() + WRITE_TERM), run).await.map(drop)
}
