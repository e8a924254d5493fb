//! In a sweep, scheduled grants are compared with the configuration. A grant that does not fit any more ends before it
//! begins, or becomes shorter.

use sekisho_domain::decision::Decision;
use sekisho_domain::timestamp;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Lease, Row, Store};
use time::OffsetDateTime;
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

use crate::access::policies;
use crate::access::window::Turn;
use crate::aws::iam::{ErrorKind, IamError};
use crate::notice::approval as notice;
use crate::outcome::{self, Outcome};
use crate::policy::{self, Reading};
use crate::principal::Principal;
use crate::row::{self, GrantRow, LEASE_TERM, State};
use crate::run::{ATTEMPT_TIMEOUT, Run};
use crate::scheduled::{Scheduled, Verdict, verdict};
use crate::window::Window;

/// A scheduled grant, as IAM and the ledger show it.
pub(crate) struct Found<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) profile: &'a str,
    pub(crate) window: Window,
    /// The policy's text, if IAM shows it.
    pub(crate) document: Option<&'a str>,
    /// The end of the live access that the grant extends, if the extension is not entered yet.
    pub(crate) extended: Option<OffsetDateTime>,
}

/// Compares the grants of people that are scheduled, or not entered yet, with the configuration. Their policies are
/// entered shortly before they begin, so the ledger's rows name them. Also reports each grant whose row cannot be read.
pub(crate) async fn check_people<S: Store>(deadline: Instant, run: &Run<'_, S>) -> Vec<Decision<Outcome>> {
    let Ok(Ok(rows)) = timeout_at(deadline, run.ledger.each::<GrantRow>(row::PARTITION, "")).await else {
        error!("the sweep could not compare the scheduled grants of people with the configuration");
        return Vec::new();
    };
    let mut decisions = Vec::new();
    for row in rows {
        let row = match row {
            Ok(row) => row,
            // Nothing is sent, summarized or ended for such a grant, and the next write of `sekisho-window` leaves it
            // out.
            Err(error) => {
                decisions.push(Decision::new(Outcome::Failed, error.to_string()));
                continue;
            }
        };
        if !row.sk.starts_with(row::PEOPLE) {
            continue;
        }
        let window = row.state.window();
        let is_ahead = window.is_scheduled(run.now()) || row.state.awaits_entry;
        if !row.state.gives_access(run.now()) || !is_ahead {
            continue;
        }
        let Some((principal, profile)) = row::subject_of(&row.sk, &row.state) else { continue };
        let name = format!("{}{profile}", policy::PREFIX);
        // The policy is written again only if it has the grant already. What has begun without being entered may extend
        // access that is live.
        let (document, extended) = if !row.state.awaits_entry {
            let read = timeout_at(deadline, policies::read(&principal, &name, run)).await;
            (read.ok().and_then(Result::ok).flatten(), None)
        } else if window.is_scheduled(run.now()) {
            (None, None)
        } else {
            let read = timeout_at(deadline, policies::read_entered(&principal, &name, run)).await;
            let Ok(Ok(entered)) = read else { continue };
            (None, entered.and_then(|document| live_end(&document, run.now())))
        };
        let found = Found { principal: &principal, profile, window, document: document.as_deref(), extended };
        decisions.extend(check(&found, deadline, run).await);
    }
    decisions
}

/// The end of the access that a policy gives now.
fn live_end(document: &str, now: OffsetDateTime) -> Option<OffsetDateTime> {
    match policy::read(document) {
        Reading::Grant(window) if window.is_live(now) && !window.is_scheduled(now) => Some(window.end),
        Reading::Grant(_) | Reading::OpenEnded(_) | Reading::DenyOnly => None,
    }
}

/// Compares a scheduled grant with the configuration, and ends or shortens it if it does not fit. Returns `None` if it
/// stays as it is, or if that could not be found out or done, so that the next sweep tries again.
pub(crate) async fn check<S: Store>(
    found: &Found<'_>,
    deadline: Instant,
    run: &Run<'_, S>,
) -> Option<Decision<Outcome>> {
    let access = run.access.as_ref().ok()?;
    let policy = format!("{}{}", policy::PREFIX, found.profile);
    let key = row::key(found.principal, &policy);
    let row: Option<Row<GrantRow>> = timeout_at(deadline, run.ledger.read(&key)).await.ok()?.ok()?;
    let now = run.now();
    if let Some(Row { state, .. }) = &row {
        // IAM's list may be older than the row, and an invocation that holds the row is changing the grant.
        let is_same = state.is_granted() && state.window() == found.window;
        let is_entered = found.extended.is_some() && !state.awaits_entry;
        if is_entered || !is_same || state.is_held(now) {
            return None;
        }
    }
    let before = row.as_ref().map(|row| &row.state);
    let (profile, window) = (found.profile, found.window);
    let scheduled = Scheduled { profile, window, document: found.document, extended: found.extended, row: before };
    let verdict = verdict(&scheduled, access);
    if verdict == Verdict::Keeps {
        return None;
    }
    // The row is claimed first, so that the grant that is ended is the one that was judged.
    let lease = Lease::new(now, LEASE_TERM);
    let claim = match before {
        Some(row) => GrantRow { request: run.request_id().to_owned(), lease, ..row.clone() },
        None => GrantRow::held(State::Granted, found.window, run.request_id(), None, now),
    };
    let revision = row.as_ref().map(|row| row.revision);
    let claimed = timeout_at(deadline, run.ledger.write(&key, &claim, revision, run.request_id())).await;
    let revision =
        claimed.ok()?.inspect_err(|error| warn!(error = chain(error), "a scheduled grant is not compared yet")).ok()?;
    // A change of IAM ends before the lease, so that it does not hit the policy of the next holder.
    let limit = deadline.min(Instant::now() + lease.time_left(run.now()).saturating_sub(ATTEMPT_TIMEOUT));
    let changing = Changing { found, policy: &policy, access, limit, run };
    let (settled, decision) = match changing.change(&verdict, claim.clone()).await {
        Ok(changed) => changed,
        Err(error) => {
            error!(error = chain(&error), "a scheduled grant could not be changed");
            if error.kind == ErrorKind::Unanswered {
                return None;
            }
            (claim, None)
        }
    };
    // The state stays what it is, and the request that made the grant is not one of those that were carried out here.
    let written = run.ledger.write(&key, &settled.free(), Some(revision), run.request_id()).await;
    if let Err(error) = written {
        warn!(error = chain(&error), "a scheduled grant was changed, but this was not recorded");
    }
    decision
}

/// The change of a scheduled grant, under a claim on its row.
struct Changing<'a, S> {
    found: &'a Found<'a>,
    policy: &'a str,
    access: &'a sekisho_domain::access::Access,
    limit: Instant,
    run: &'a Run<'a, S>,
}

type Changed = (GrantRow, Option<Decision<Outcome>>);

impl<S: Store> Changing<'_, S> {
    async fn change(&self, verdict: &Verdict, claim: GrantRow) -> Result<Changed, IamError> {
        match verdict {
            Verdict::Keeps => Ok((claim, None)),
            Verdict::Ends(why) => self.end(why, claim).await,
            Verdict::Shortens(end) => self.shorten(*end, claim).await,
            Verdict::ExtendsNothing(end, why) => Ok(self.take_back(*end, why, claim).await),
        }
    }

    async fn end(&self, why: &str, claim: GrantRow) -> Result<Changed, IamError> {
        let Found { principal, profile, window, .. } = *self.found;
        let run = self.run;
        let deleted = timeout_at(self.limit, policies::delete(principal, self.policy, Turn::GoesAhead, run)).await;
        deleted.unwrap_or_else(|_| Err(IamError::unanswered("policy delete")))?;
        let notice = notice::schedule_ended(principal, profile, why, run.invocation);
        if let Err(error) = run.topic.publish(&notice).await {
            error!(error = chain(&error), "a notice was not sent");
        }
        let reason = format!("access was ended before it began: {why}");
        let decision = self.decide(Outcome::Revoked, reason, &claim, window).about("policies", self.policy);
        Ok((GrantRow { state: State::Revoked, ended: Some(run.now()), ..claim }, Some(decision)))
    }

    async fn shorten(&self, end: OffsetDateTime, claim: GrantRow) -> Result<Changed, IamError> {
        let Found { principal, profile, window, document, .. } = *self.found;
        let run = self.run;
        let window = Window { end, ..window };
        let configured = self.access.profiles.iter().find(|(name, _)| name.as_str() == profile);
        // What a follow-up enters is written then. Where IAM could not be read, it is read once more: if the policy may
        // have the grant, a shorter row alone would leave the longer end in force.
        let is_written = match document {
            Some(_) => true,
            None if claim.awaits_entry => false,
            None => {
                let read = timeout_at(self.limit, policies::read(principal, self.policy, run)).await;
                read.unwrap_or_else(|_| Err(IamError::unanswered("policy read")))?.is_some()
            }
        };
        if let (Some((_, allows)), true) = (configured, is_written) {
            let document = policy::document(allows, window, run.now());
            let put = timeout_at(self.limit, policies::put(principal, self.policy, &document, self.limit, run)).await;
            put.unwrap_or_else(|_| Err(IamError::unanswered("policy write")))?;
        }
        let times = (timestamp::seconds(window.start), timestamp::seconds(window.end));
        let notice = notice::schedule_shortened(principal, profile, (&times.0, &times.1), run.invocation);
        if let Err(error) = run.topic.publish(&notice).await {
            error!(error = chain(&error), "a notice was not sent");
        }
        let reason = "the scheduled access will end earlier, because `max_minutes` of its profile was lowered";
        let decision = self.decide(Outcome::Scheduled, reason.to_owned(), &claim, window);
        Ok((GrantRow { end, ..claim }, Some(decision)))
    }

    /// Takes back an extension that is not entered yet.
    async fn take_back(&self, end: OffsetDateTime, why: &str, claim: GrantRow) -> Changed {
        let Found { principal, profile, window, .. } = *self.found;
        let notice = notice::not_extended(principal, profile, &timestamp::seconds(end), why, self.run.invocation);
        if let Err(error) = self.run.topic.publish(&notice).await {
            error!(error = chain(&error), "a notice was not sent");
        }
        let reason = format!("the access ends as before its extension: {why}");
        let decision = self.decide(Outcome::Scheduled, reason, &claim, Window { end, ..window });
        (GrantRow { end, awaits_entry: false, ..claim }, Some(decision))
    }

    fn decide(&self, outcome: Outcome, reason: String, row: &GrantRow, window: Window) -> Decision<Outcome> {
        let decision = outcome::about(Decision::new(outcome, reason), self.found.principal)
            .about("profile", self.found.profile)
            .about("start", timestamp::seconds(window.start))
            .about("until", timestamp::seconds(window.end))
            .about_some("because", row.reason.clone());
        outcome::with_consent(decision, &row.consent)
    }
}
