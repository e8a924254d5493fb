//! The end of access because its time is over: by schedule, or to make room.

use sekisho_domain::decision::{Decision, Decisions};
use sekisho_domain::notice::Notice;
use sekisho_domain::timestamp;
use sekisho_lambda::failure::chain;
use sekisho_lambda::log::{self, Level};
use sekisho_ledger::{Error as LedgerError, Key, Store};
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::{Duration, OffsetDateTime};
use tokio::time::{Instant, timeout_at};

use super::{ATTEMPT, Done, SWEEP_MARGIN, TempAccess, Turn, whom};
use crate::answer::{Answer, Outcome};
use crate::error::Error;
use crate::iam::{Failed, Found, Why};
use crate::notice;
use crate::policy::{self, Reading};
use crate::principal::Principal;
use crate::row::{self, Row, State};
use crate::sweep::{self, Verdict};

const REASON_UNREMOVED: &str = "An ended policy was not removed";

/// What became of a policy.
pub(super) enum Retired {
    /// It was deleted.
    Removed,
    /// It was not there.
    Gone,
    /// It has not ended.
    Live,
    /// It is not ours.
    Foreign(&'static str),
    /// Another invocation is at work on it.
    Held,
}

/// What a sweep has come to so far.
#[derive(Default)]
struct Swept {
    decisions: Vec<Decision<Outcome>>,
    live: usize,
    /// Faults that were told within a day.
    known: usize,
}

impl<S: Store> TempAccess<S> {
    /// Removes a policy of ours that has ended, under its claim.
    pub(super) async fn retire(&self, principal: &Principal, policy: &str, turn: &Turn<'_>) -> Result<Retired, Error> {
        let key = row::key(principal, policy);
        let iam = |source| Error::Iam { outcome: format!("{principal} still has {policy}"), source };
        let ledger = |source| Error::Ledger { outcome: REASON_UNREMOVED, source };
        let row = self.ledger.read::<Row>(&key).await.map_err(ledger)?;
        let now = (self.clock)();
        if let Some(row) = &row {
            if row.state.is_held_by_another(turn.request, now) {
                return Ok(Retired::Held);
            }
            // The ledger's reads are consistent and IAM's are not: a grant of a moment ago may not show there yet.
            if row.state.gives_access(now) {
                return Ok(Retired::Live);
            }
        }
        // Read after the row: a grant since then makes the claim fail.
        let shown = match self.iam.policy(principal, policy).await.map_err(iam)?.as_deref().map(policy::read) {
            Some(Reading::Foreign(why)) => return Ok(Retired::Foreign(why)),
            Some(Reading::Grant(window)) => window,
            Some(Reading::Denies) | None => return Ok(Retired::Gone),
        };
        let now = (self.clock)();
        if shown.is_live(now) {
            return Ok(Retired::Live);
        }
        let (revision, before) = row.map_or((None, None), |row| (Some(row.revision), Some(row.state)));
        let state = before.as_ref().map_or(State::Expired, |row| row.state);
        let claim = Row::held(state, shown, turn.request, before.as_ref(), now);
        let revision = match self.ledger.write(&key, &claim, revision, turn.request).await {
            Ok(revision) => revision,
            Err(LedgerError::Changed(_)) => return Ok(Retired::Held),
            Err(source) => return Err(ledger(source)),
        };
        // What is still under way when the lease ends may remove the next one's grant.
        let deleted = match time_to_delete(&claim, (self.clock)()) {
            Some(limit) => timeout_at(limit, self.iam.delete(principal, policy)).await,
            None => return Err(Error::TooSlow(REASON_UNREMOVED)),
        };
        if let Err(failed) = deleted.unwrap_or_else(|_| Err(Failed::silent("policy delete"))) {
            if failed.why != Why::Silent {
                self.give_back(&key, revision, before, turn).await;
            }
            return Err(iam(failed));
        }
        // A failure to say so costs the wait for the lease.
        let _ = self.ledger.write(&key, &claim.settled(State::Expired), Some(revision), turn.request).await;
        Ok(Retired::Removed)
    }

    pub(super) fn sweep_limit(&self, turn: &Turn<'_>) -> Instant {
        turn.start + turn.invocation.time_left((self.clock)()).saturating_sub(SWEEP_MARGIN)
    }

    /// Page by page, so that what a large account has no time left for is all that it loses.
    pub(super) async fn sweep(&self, turn: &Turn<'_>) -> Result<Done, Error> {
        let limit = self.sweep_limit(turn);
        let mut swept = Swept::default();
        let (mut marker, mut pages) = (None, 0_usize);
        loop {
            let page = timeout_at(limit, self.iam.page_of_our_name(marker)).await;
            let error = match page {
                Ok(Ok((found, next))) => {
                    for one in &found {
                        self.sweep_one(one, &mut swept, limit, turn).await;
                    }
                    marker = next;
                    pages += 1;
                    if marker.is_none() {
                        break;
                    }
                    continue;
                }
                Ok(Err(source)) => Error::Iam { outcome: "Nothing was swept".to_owned(), source },
                Err(_) => Error::TooSlow("Nothing was swept"),
            };
            if pages == 0 {
                return Err(error);
            }
            let reason = format!("the sweep ended after {pages} pages of users and roles: {}", chain(&error));
            swept.decisions.push(Decision::new(Outcome::Failed, reason));
            break;
        }
        let Swept { mut decisions, live, known } = swept;
        if decisions.is_empty() {
            let reason = format!("nothing had ended; live: {live}; wrong, and told today: {known}");
            decisions.push(Decision::new(Outcome::Idle, reason));
        }
        let answer = Ok(Answer::Decisions(Decisions { decisions: decisions.clone() }));
        Ok(Done { answer, decisions, notices: Vec::new(), settle: None })
    }

    async fn sweep_one(&self, one: &Found, swept: &mut Swept, limit: Instant, turn: &Turn<'_>) {
        let decide = |outcome, reason: &str| {
            whom(Decision::new(outcome, reason), &one.principal).about("policy", one.name.clone())
        };
        let foreign = match sweep::verdict(one, (self.clock)()) {
            Verdict::Live(_) => {
                swept.live += 1;
                None
            }
            Verdict::Harmless => None,
            Verdict::OpenEnded(why) => Some(why),
            Verdict::Ended(window) => {
                let end = timestamp::seconds(window.end);
                match timeout_at(limit, self.retire(&one.principal, &one.name, turn)).await {
                    Ok(Ok(Retired::Removed)) => {
                        swept.decisions.push(decide(Outcome::Swept, "it had ended").about("until", end));
                        None
                    }
                    Ok(Ok(Retired::Live | Retired::Held)) => {
                        swept.live += 1;
                        None
                    }
                    Ok(Ok(Retired::Gone)) => None,
                    Ok(Ok(Retired::Foreign(why))) => Some(why),
                    // That it may not is for people to mend, and every sweep until then would say it.
                    Ok(Err(error)) => {
                        let decision = decide(Outcome::Failed, &chain(&error)).about("until", end);
                        let denied = matches!(&error, Error::Iam { source, .. } if source.why == Why::Denied);
                        let notice = notice::not_removed(&one.principal, &one.name);
                        if !denied || self.tells(one, "not-removed", &notice, limit, turn).await {
                            swept.decisions.push(decision);
                        } else {
                            swept.known += 1;
                        }
                        None
                    }
                    Err(_) => {
                        let decision = decide(Outcome::Failed, "no time left: the next sweep");
                        swept.decisions.push(decision.about("until", end));
                        None
                    }
                }
            }
        };
        let Some(why) = foreign else { return };
        let notice = notice::open_ended(&one.principal, &one.name, why);
        if self.tells(one, "open-ended", &notice, limit, turn).await {
            swept.decisions.push(decide(Outcome::OpenEnded, why));
        } else {
            swept.known += 1;
        }
    }

    async fn tells(&self, one: &Found, fault: &str, notice: &Notice, limit: Instant, turn: &Turn<'_>) -> bool {
        timeout_at(limit, self.tell_daily(one, fault, notice, turn)).await.unwrap_or(true)
    }

    /// Tells of a policy, unless that has been told within a day; whether it had to be told.
    async fn tell_daily(&self, one: &Found, fault: &str, notice: &Notice, turn: &Turn<'_>) -> bool {
        let (kind, name) = (one.principal.kind().as_str(), one.principal.name());
        let key = Key::state(format!("notice#{fault}#{kind}/{name}#{}", one.name));
        let now = (self.clock)();
        let warn = |message, error: String| {
            log::line(Level::Error, message, &json!({"requestId": turn.request, "error": error}));
        };
        // Without the ledger, told once too often.
        let told = self.ledger.read::<Told>(&key).await.unwrap_or_else(|error| {
            warn("it is not known what has been told", chain(&error));
            None
        });
        // DynamoDB takes its time to forget.
        if told.as_ref().is_some_and(|told| now.unix_timestamp() < told.state.expires) {
            return false;
        }
        if let Err(error) = self.topic.publish(notice).await {
            warn("a notice was not sent", chain(&error));
            return true;
        }
        let told_now = Told { expires: (now + Duration::days(1)).unix_timestamp() };
        let revision = told.map(|told| told.revision);
        if let Err(error) = self.ledger.write(&key, &told_now, revision, turn.request).await {
            warn("it was not recorded what has been told", chain(&error));
        }
        true
    }
}

/// Until when a delete under this claim may be waited for; `None` where it is not worth beginning. A request that is not
/// waited for any longer may still be carried out, so that one try's time is kept.
fn time_to_delete(claim: &Row, now: OffsetDateTime) -> Option<Instant> {
    let left = claim.held_until.checked_sub(timestamp::epoch_millis(now))?;
    let left = std::time::Duration::from_millis(left).checked_sub(ATTEMPT)?;
    Some(Instant::now() + left)
}

/// That a notice has been sent, until it is sent again.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    expires: i64,
}
