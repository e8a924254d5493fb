//! The end of access: by request, or because its time is over.

use futures_util::join;
use sekisho_domain::decision::{Decision, Decisions};
use sekisho_domain::timestamp;
use sekisho_lambda::failure::chain;
use sekisho_lambda::log::{self, Level};
use sekisho_ledger::{Error as LedgerError, Key, Store};
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::Duration;
use tokio::time::{Instant, timeout_at};

use super::{Done, SHOWN, SWEEP_MARGIN, TempAccess, Turn, whom};
use crate::answer::{Answer, Outcome};
use crate::error::Error;
use crate::event::Revoke;
use crate::iam::Found;
use crate::notice::{self, event_history};
use crate::policy::{self, Reading};
use crate::principal::Principal;
use crate::row::{self, Row, State};
use crate::sweep::{self, Verdict};
use crate::window::later;
use sekisho_domain::notice::Notice;

impl<S: Store> TempAccess<S> {
    /// Removes a policy of ours under its claim: by request whatever its end, by the clock only if it has ended.
    pub(super) async fn retire(
        &self,
        principal: &Principal,
        policy: &str,
        to: State,
        turn: &Turn<'_>,
    ) -> Result<Retired, Error> {
        let key = row::key(principal, policy);
        let by_request = to == State::Revoked;
        let iam = |source| Error::Iam { outcome: format!("{principal} still has {policy}"), source };
        let row = match self.ledger.read::<Row>(&key).await {
            Err(source) if !by_request => {
                return Err(Error::Ledger { outcome: "An ended policy was not removed", source });
            }
            row => row,
        };
        let now = (self.clock)();
        let known = row.as_ref().ok().and_then(Option::as_ref).map(|row| &row.state);
        if known.is_some_and(|row| row.is_held_by_another(turn.request, now)) {
            return Ok(Retired::Held);
        }
        // The ledger's reads are consistent and IAM's are not: what was granted a moment ago may not show there yet.
        let given = known.filter(|row| row.gives_access(now)).map(Row::window);
        if !by_request && given.is_some() {
            return Ok(Retired::Live);
        }
        // Read after the row: a grant since then makes the claim fail.
        let shown = match self.iam.policy(principal, policy).await.map_err(iam)?.as_deref().map(policy::read) {
            Some(Reading::Foreign(why)) => return Ok(Retired::Foreign(why)),
            Some(Reading::Grant(window)) => Some(window),
            None => None,
        };
        let now = (self.clock)();
        if !by_request && shown.is_some_and(|window| window.is_live(now)) {
            return Ok(Retired::Live);
        }
        let row = match row {
            Ok(row) => row,
            // To end access takes no ledger.
            Err(error) => {
                self.iam.delete(principal, policy).await.map_err(iam)?;
                unclaimed(turn, &error);
                return Ok(Retired::Removed { recorded: false });
            }
        };
        // Deleted even where it does not show: what is not there is deleted without harm.
        let Some(window) = later(shown, given) else { return Ok(Retired::Gone) };
        let (revision, before) = row.map_or((None, None), |row| (Some(row.revision), Some(row.state)));
        let state = before.as_ref().map_or(to, |row| row.state);
        let claim = Row::held(state, window, turn.request, before.as_ref(), now);
        let revision = match self.ledger.write(&key, &claim, revision, turn.request).await {
            Ok(revision) => Some(revision),
            Err(LedgerError::Changed(_)) => return Ok(Retired::Held),
            Err(error) if by_request => {
                unclaimed(turn, &error);
                None
            }
            Err(source) => return Err(Error::Ledger { outcome: "An ended policy was not removed", source }),
        };
        if let Err(failed) = self.iam.delete(principal, policy).await {
            if let Some(revision) = revision {
                self.give_back(&key, revision, before, turn).await;
            }
            return Err(iam(failed));
        }
        let recorded = match revision {
            Some(revision) => self.ledger.write(&key, &claim.settled(to), Some(revision), turn.request).await.is_ok(),
            None => false,
        };
        Ok(Retired::Removed { recorded })
    }

    pub(super) async fn revoke(&self, revoke: &Revoke, turn: &Turn<'_>) -> Result<Done, Error> {
        let principal = &revoke.principal;
        let (known, names) = join!(self.known(principal), self.iam.policy_names(principal));
        known?;
        let still = |source| Error::Iam { outcome: format!("{principal} still has what it had"), source };
        let mut names = names.map_err(still)?;
        if revoke.dry_run {
            names.retain(|name| name.starts_with(policy::PREFIX));
            let text = match names.as_slice() {
                [] => format!("Dry run, nothing is written. {principal} has no policy of Sekisho's."),
                names => format!("Dry run, nothing is written. {principal} would lose {}.", names.join(", ")),
            };
            let decision = Decision::new(Outcome::Previewed, "dry run: nothing was written");
            return Ok(Done::text(text, whom(decision, principal)));
        }
        // A grant under way may not have reached IAM yet: its row tells.
        match self.ledger.list::<Row>(row::PARTITION, &row::prefix(principal)).await {
            Ok(rows) => {
                let policies = rows.iter().filter_map(|row| row::subject(&row.sk));
                names.extend(policies.map(|(_, profile)| format!("{}{profile}", policy::PREFIX)));
            }
            Err(error) => unclaimed(turn, &error),
        }
        names.retain(|name| name.starts_with(policy::PREFIX));
        names.sort();
        names.dedup();

        let (mut removed, mut foreign, mut recorded) = (Vec::new(), Vec::new(), true);
        for name in names {
            loop {
                let retired = timeout_at(turn.until(SHOWN), self.retire(principal, &name, State::Revoked, turn)).await;
                match retired.unwrap_or(Err(Error::TooSlow("It is not known whether all access was ended")))? {
                    Retired::Held => {
                        self.pause(principal, turn.until(SHOWN)).await?;
                        continue;
                    }
                    Retired::Removed { recorded: known } => {
                        recorded &= known;
                        removed.push(name);
                    }
                    Retired::Foreign(why) => foreign.push((name, why)),
                    Retired::Gone | Retired::Live => {}
                }
                break;
            }
        }
        Ok(revoked(revoke, &removed, &foreign, recorded, turn))
    }

    pub(super) fn sweep_limit(&self, turn: &Turn<'_>) -> Instant {
        turn.start + turn.invocation.time_left((self.clock)()).saturating_sub(SWEEP_MARGIN)
    }

    pub(super) async fn sweep(&self, turn: &Turn<'_>) -> Result<Done, Error> {
        let limit = self.sweep_limit(turn);
        let outcome = "Nothing was swept";
        let found = timeout_at(limit, self.iam.all_of_our_name()).await.map_err(|_| Error::TooSlow(outcome))?;
        let found = found.map_err(|source| Error::Iam { outcome: outcome.to_owned(), source })?;
        let (mut decisions, mut open, mut live) = (Vec::new(), Vec::new(), 0_usize);
        for one in &found {
            let decide = |outcome, reason: &str| {
                whom(Decision::new(outcome, reason), &one.principal).about("policy", one.name.clone())
            };
            match sweep::verdict(one, (self.clock)()) {
                Verdict::Live(_) => live += 1,
                Verdict::OpenEnded(why) => open.push((one, why)),
                Verdict::Ended(window) => {
                    let retired = self.retire(&one.principal, &one.name, State::Expired, turn);
                    let end = timestamp::seconds(window.end);
                    match timeout_at(limit, retired).await {
                        Ok(Ok(Retired::Removed { .. })) => {
                            decisions.push(decide(Outcome::Swept, "it had ended").about("until", end));
                        }
                        Ok(Ok(Retired::Live | Retired::Held)) => live += 1,
                        Ok(Ok(Retired::Gone)) => {}
                        Ok(Ok(Retired::Foreign(why))) => open.push((one, why)),
                        Ok(Err(error)) => decisions.push(decide(Outcome::Failed, &chain(&error)).about("until", end)),
                        Err(_) => {
                            decisions.push(decide(Outcome::Failed, "no time left: the next sweep").about("until", end));
                        }
                    }
                }
            }
        }
        let mut known = 0_usize;
        for (one, why) in open {
            if timeout_at(limit, self.tell_daily(one, why, turn)).await.unwrap_or(true) {
                let decision = whom(Decision::new(Outcome::OpenEnded, why), &one.principal);
                decisions.push(decision.about("policy", one.name.clone()));
            } else {
                known += 1;
            }
        }
        if decisions.is_empty() {
            let reason = format!("nothing had ended; live: {live}; without an end, and told today: {known}");
            decisions.push(Decision::new(Outcome::Idle, reason));
        }
        let answer = Ok(Answer::Decisions(Decisions { decisions: decisions.clone() }));
        Ok(Done { answer, decisions, notices: Vec::new(), settle: None })
    }

    /// Tells of a policy that is not ours, unless that has been told within a day; whether it had to be told.
    async fn tell_daily(&self, one: &Found, why: &str, turn: &Turn<'_>) -> bool {
        let (kind, name) = (one.principal.kind().as_str(), one.principal.name());
        let key = Key::state(format!("notice#open-ended#{kind}/{name}#{}", one.name));
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
        if let Err(error) = self.topic.publish(&open_ended(&one.principal, &one.name, why)).await {
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

/// That a notice has been sent, until it is sent again.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    expires: i64,
}

/// What became of a policy.
pub(super) enum Retired {
    /// It was deleted; the row says so, or not.
    Removed { recorded: bool },
    /// It was not there.
    Gone,
    /// It has not ended.
    Live,
    /// It is not ours.
    Foreign(&'static str),
    /// Another invocation is at work on it.
    Held,
}

fn unclaimed(turn: &Turn<'_>, error: &LedgerError) {
    let fields = json!({"requestId": turn.request, "error": chain(error)});
    log::line(Level::Error, "access is ended without the ledger", &fields);
}

fn open_ended(principal: &Principal, policy: &str, why: &str) -> Notice {
    Notice {
        title: format!("Access without an end: {principal}"),
        lines: vec![
            format!("{principal} has a policy {policy} that Sekisho did not write: {why}."),
            "It is left alone. Look who wrote it, and delete it.".to_owned(),
        ],
        ..Notice::default()
    }
}

fn revoked(
    revoke: &Revoke,
    removed: &[String],
    foreign: &[(String, &'static str)],
    recorded: bool,
    turn: &Turn<'_>,
) -> Done {
    let principal = &revoke.principal;
    let mut lines = Vec::new();
    let (outcome, reason) = if removed.is_empty() {
        lines.push(format!("{principal} had no access that could be ended."));
        (Outcome::Unchanged, "there was no access to end")
    } else {
        lines.push(format!("Access of {principal} is ended: {} removed.", removed.join(", ")));
        lines.push("IAM takes seconds to some minutes to spread it.".to_owned());
        (Outcome::Revoked, "access was ended")
    };
    if !recorded {
        lines.push("The ledger does not know yet.".to_owned());
    }
    let mut notices = Vec::new();
    if !removed.is_empty() {
        let mut told = vec![format!("Access of {principal} to account {} was ended.", turn.invocation.account)];
        told.extend(
            revoke.reason.as_ref().filter(|reason| !reason.is_empty()).map(|reason| format!("Reason: {reason}")),
        );
        // Of several profiles none is meant more than the others.
        let again = if let [one] = removed { one.strip_prefix(policy::PREFIX) } else { None };
        notices.push(Notice {
            title: format!("Ended: access of {principal}"),
            lines: told,
            link: Some(event_history(principal, turn.invocation)),
            context: notice::context(principal, "ended", again),
        });
    }
    let decision = whom(Decision::new(outcome, reason), principal)
        .about("policies", removed.join(" "))
        .about_some("because", revoke.reason.clone());
    let mut decisions = vec![decision];
    for (policy, why) in foreign {
        lines.push(format!(
            "Not removed, since it is not Sekisho's ({why}): {policy}. Look who wrote it, and delete it."
        ));
        decisions.push(whom(Decision::new(Outcome::OpenEnded, *why), principal).about("policy", policy.clone()));
        notices.push(open_ended(principal, policy, why));
    }
    Done { answer: Ok(Answer::Text(lines.join("\n"))), decisions, notices, settle: None }
}
