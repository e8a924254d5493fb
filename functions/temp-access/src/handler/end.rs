//! The end of access by request. It takes IAM alone: what the ledger knows is a help, and it is told afterwards.

use std::future::Future;

use futures_util::future::join_all;
use futures_util::join;
use sekisho_domain::decision::Decision;
use sekisho_domain::notice::Notice;
use sekisho_lambda::failure::chain;
use sekisho_lambda::log::{self, Level};
use sekisho_ledger::{Error as LedgerError, Row as Found, Store};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{DECIDED, Done, LEDGER_STEP, PAUSE, SHOWN, TempAccess, Turn, whom};
use crate::answer::{Answer, Outcome};
use crate::error::Error;
use crate::event::Revoke;
use crate::iam::{Failed, Why};
use crate::notice::{self, event_history};
use crate::policy::{self, Reading};
use crate::principal::Principal;
use crate::row::{self, Row, State};
use crate::window::{Window, later};

/// What became of the policies of one principal.
#[derive(Default)]
struct Ended {
    removed: Vec<String>,
    foreign: Vec<(String, &'static str)>,
    failed: Vec<(String, Failed)>,
    /// Removed, while another request had them in hands.
    held: Vec<String>,
    unrecorded: bool,
}

/// What became of one policy.
enum End {
    Removed {
        recorded: bool,
        held: bool,
    },
    /// It was not there, or gives no access.
    Nothing,
    Foreign(&'static str),
    Failed {
        removed: bool,
        failed: Failed,
    },
}

/// The ledger for as long as it answers: what has failed once is not waited for again.
struct Patience<'a> {
    turn: &'a Turn<'a>,
}

impl Patience<'_> {
    /// The step's result; `None` where the ledger is not there. That a row has changed is an answer.
    async fn step<T>(&self, step: impl Future<Output = Result<T, LedgerError>>) -> Option<Result<T, LedgerError>> {
        if self.turn.ledger_lost.get() {
            return None;
        }
        let error = match timeout(LEDGER_STEP, step).await {
            Ok(answer @ (Ok(_) | Err(LedgerError::Changed(_)))) => return Some(answer),
            Ok(Err(error)) => chain(&error),
            Err(_) => "no answer in time".to_owned(),
        };
        self.turn.ledger_lost.set(true);
        let fields = json!({"requestId": self.turn.request, "error": error});
        log::line(Level::Error, "access is ended without the ledger", &fields);
        None
    }
}

impl<S: Store> TempAccess<S> {
    pub(super) async fn revoke(&self, revoke: &Revoke, turn: &Turn<'_>) -> Result<Done, Error> {
        let principal = &revoke.principal;
        let patience = Patience { turn };
        let prefix = row::prefix(principal);
        let looked = async {
            let rows = async {
                if revoke.dry_run {
                    None
                } else {
                    patience.step(self.ledger.list::<Row>(row::PARTITION, &prefix)).await
                }
            };
            join!(self.known(principal), self.iam.policy_names(principal), rows)
        };
        let looked = timeout_at(turn.until(DECIDED), looked).await;
        let (known, names, rows) = looked.map_err(|_| Error::TooSlow("Nothing was changed"))?;
        known?;
        if revoke.dry_run {
            let names = names
                .map_err(|source| Error::Iam { outcome: "It is not known what would be ended".to_owned(), source })?;
            return Ok(preview(principal, names));
        }

        let mut ended = Ended::default();
        // A grant under way may not have reached IAM yet: its row tells.
        let mut rows = rows.and_then(Result::ok).unwrap_or_default();
        rows.retain(|row| row::subject(&row.sk).is_some());
        let of_rows = rows.iter().filter_map(|row| row::subject(&row.sk));
        let mut policies: Vec<String> = of_rows.map(|(_, profile)| format!("{}{profile}", policy::PREFIX)).collect();
        match names {
            Ok(names) => policies.extend(names),
            // What the ledger knows of is ended all the same.
            Err(failed) => ended.failed.push(("policies that the ledger does not know".to_owned(), failed)),
        }
        policies.retain(|name| name.starts_with(policy::PREFIX));
        policies.sort();
        policies.dedup();

        // All at once: one that does not go keeps none of the others.
        let ends = join_all(policies.iter().map(async |policy| {
            let key = row::key(principal, policy);
            let row = rows.iter().find(|row| row.sk == key.sk).cloned();
            self.end(principal, policy, row, &patience).await
        }));
        for (policy, end) in policies.iter().zip(ends.await) {
            let policy = policy.clone();
            match end {
                End::Nothing => {}
                End::Foreign(why) => ended.foreign.push((policy, why)),
                End::Failed { removed, failed } => {
                    if removed {
                        ended.removed.push(policy.clone());
                    }
                    ended.failed.push((policy, failed));
                }
                End::Removed { recorded, held } => {
                    ended.unrecorded |= !recorded;
                    if held {
                        ended.held.push(policy.clone());
                    }
                    ended.removed.push(policy);
                }
            }
        }
        Ok(done(revoke, ended, turn))
    }

    /// Deletes a policy, and then says so in its row, if that is still as it was read before: where a grant has had its turn
    /// in between, it looks again. It holds no lease, and waits for another's only after the deed.
    async fn end(
        &self,
        principal: &Principal,
        policy: &str,
        mut row: Option<Found<Row>>,
        patience: &Patience<'_>,
    ) -> End {
        let (key, turn) = (row::key(principal, policy), patience.turn);
        let limit = turn.until(SHOWN);
        let mut removed: Option<Window> = None;
        let fails = |removed: Option<Window>, failed| End::Failed { removed: removed.is_some(), failed };
        loop {
            let shown = match timeout_at(limit, self.iam.policy(principal, policy)).await {
                Ok(Ok(document)) => match document.as_deref().map(policy::read) {
                    Some(Reading::Foreign(why)) => return End::Foreign(why),
                    Some(Reading::Denies) => return End::Nothing,
                    Some(Reading::Grant(window)) => Some(window),
                    None => None,
                },
                Ok(Err(failed)) => return fails(removed, failed),
                Err(_) => return fails(removed, Failed::silent("policy read")),
            };
            // The ledger's reads are consistent and IAM's are not: what was granted a moment ago may not show there yet. What
            // is not there is deleted without harm.
            let given = row.as_ref().filter(|row| row.state.gives_access((self.clock)())).map(|row| row.state.window());
            let Some(window) = later(shown, given) else {
                return removed.map_or(End::Nothing, |_| End::Removed { recorded: true, held: false });
            };
            match timeout_at(limit, self.iam.delete(principal, policy)).await {
                Ok(Ok(())) => removed = later(removed, Some(window)),
                Ok(Err(failed)) => return fails(removed, failed),
                Err(_) => return fails(removed, Failed::silent("policy delete")),
            }
            if turn.ledger_lost.get() {
                return End::Removed { recorded: false, held: false };
            }
            let now = (self.clock)();
            if !row.as_ref().is_some_and(|row| row.state.is_held_by_another(turn.request, now)) {
                let before = row.as_ref().map(|row| &row.state);
                let state = Row::held(State::Revoked, window, turn.request, before, now).free();
                let revision = row.as_ref().map(|row| row.revision);
                match patience.step(self.ledger.write(&key, &state, revision, turn.request)).await {
                    Some(Ok(_)) => return End::Removed { recorded: true, held: false },
                    Some(Err(_)) => {}
                    None => return End::Removed { recorded: false, held: false },
                }
            }
            // Another request had its turn, or has it: what it does is ended too.
            loop {
                match patience.step(self.ledger.read::<Row>(&key)).await {
                    Some(Ok(read)) => row = read,
                    Some(Err(_)) => {}
                    None => return End::Removed { recorded: false, held: true },
                }
                let now = (self.clock)();
                let Some(holder) = row.as_ref().filter(|row| row.state.is_held_by_another(turn.request, now)) else {
                    break;
                };
                if Instant::now() + PAUSE * 4 >= limit {
                    let _ = timeout_at(limit, self.iam.delete(principal, policy)).await;
                    // Whoever is late finds the row changed, so that it never says that this was granted; nobody else begins
                    // before that one's lease is over.
                    let mut state = Row::held(State::Revoked, window, turn.request, Some(&holder.state), now);
                    state.held_until = holder.state.held_until;
                    let write = self.ledger.write(&key, &state, Some(holder.revision), turn.request);
                    let recorded = matches!(patience.step(write).await, Some(Ok(_)));
                    return End::Removed { recorded, held: true };
                }
                sleep(PAUSE).await;
            }
        }
    }
}

fn preview(principal: &Principal, mut names: Vec<String>) -> Done {
    names.retain(|name| name.starts_with(policy::PREFIX));
    let text = match names.as_slice() {
        [] => format!("Dry run, nothing is written. {principal} has no policy of Sekisho's."),
        names => format!("Dry run, nothing is written. {principal} would lose {}.", names.join(", ")),
    };
    Done::text(text, whom(Decision::new(Outcome::Previewed, "dry run: nothing was written"), principal))
}

/// What is said and told: of what was removed also where something else did not go.
fn done(revoke: &Revoke, ended: Ended, turn: &Turn<'_>) -> Done {
    let principal = &revoke.principal;
    let Ended { removed, foreign, failed, held, unrecorded } = ended;
    let mut lines = Vec::new();
    let mut decisions = Vec::new();
    let mut notices = Vec::new();
    if removed.is_empty() {
        lines.push(format!("{principal} had no access that could be ended."));
    } else {
        lines.push(format!("Access of {principal} is ended: {} removed.", removed.join(", ")));
        lines.push("IAM takes seconds to some minutes to spread it.".to_owned());
        notices.push(told(revoke, &removed, turn));
    }
    if !removed.is_empty() || failed.is_empty() {
        let (outcome, reason) = if removed.is_empty() {
            (Outcome::Unchanged, "there was no access to end")
        } else {
            (Outcome::Revoked, "access was ended")
        };
        let decision = whom(Decision::new(outcome, reason), principal).about("policies", removed.join(" "));
        decisions.push(decision.about_some("because", revoke.reason.clone()));
    }
    if !held.is_empty() {
        let held = held.join(", ");
        lines.push(format!(
            "Another request for {held} is under way, or has died: list in a minute, and revoke again if it shows."
        ));
    }
    if unrecorded {
        lines.push(
            "The ledger does not know yet: a grant within two minutes of the last may bring its end back.".to_owned(),
        );
    }
    for (policy, why) in &foreign {
        lines.push(format!(
            "Not removed, since it is not Sekisho's ({why}): {policy}. Look who wrote it, and delete it."
        ));
        decisions.push(whom(Decision::new(Outcome::OpenEnded, *why), principal).about("policy", policy.clone()));
        notices.push(notice::open_ended(principal, policy, why));
    }
    let answer = match still_there(principal, &removed, failed, &mut decisions) {
        Some(error) => Err(error),
        None => Ok(Answer::Text(lines.join("\n"))),
    };
    Done { answer, decisions, notices, settle: None }
}

/// The error about what did not go; it says too what did.
fn still_there(
    principal: &Principal,
    removed: &[String],
    failed: Vec<(String, Failed)>,
    decisions: &mut Vec<Decision<Outcome>>,
) -> Option<Error> {
    let names: Vec<&str> = failed.iter().map(|(policy, _)| policy.as_str()).collect();
    let open = failed.iter().any(|(_, failed)| matches!(failed.why, Why::Silent | Why::Throttled));
    let has = if open { "may still have" } else { "still has" };
    let went = if removed.is_empty() { String::new() } else { format!("; {} removed", removed.join(", ")) };
    let outcome = format!("{principal} {has} {}{went}", names.join(", "));
    let policies = names.join(" ");
    let (_, source) = failed.into_iter().next()?;
    let error = Error::Iam { outcome, source };
    decisions.push(super::failure(&error, Some(principal)).about("policies", policies));
    Some(error)
}

fn told(revoke: &Revoke, removed: &[String], turn: &Turn<'_>) -> Notice {
    let principal = &revoke.principal;
    let mut lines = vec![format!("Access of {principal} to account {} was ended.", turn.invocation.account)];
    lines.extend(revoke.reason.as_ref().filter(|reason| !reason.is_empty()).map(|reason| format!("Reason: {reason}")));
    // Of several profiles none is meant more than the others.
    let again = if let [one] = removed { one.strip_prefix(policy::PREFIX) } else { None };
    Notice {
        title: format!("Ended: access of {principal}"),
        lines,
        link: Some(event_history(principal, turn.invocation)),
        context: notice::context(principal, "ended", again),
    }
}
