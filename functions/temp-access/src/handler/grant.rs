//! A grant: look, plan, claim, write, read back.

use futures_util::future::try_join_all;
use futures_util::join;
use sekisho_domain::decision::Decision;
use sekisho_domain::timestamp;
use sekisho_lambda::Failure;
use sekisho_ledger::{Error as LedgerError, Store};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};

use super::{DECIDED, Done, LOOKED, PAUSE, SHOWN, Settle, TempAccess, Turn, WRITTEN, whom};
use crate::answer::{self, Outcome, Shown};
use crate::error::Error;
use crate::event::Grant;
use crate::grant::{self, Asked, Before, Effect, Inline, Plan};
use crate::iam::{Failed, Why};
use crate::notice::{self, event_history};
use crate::policy::{self, Reading};
use crate::principal::Principal;
use crate::row::{self, Row, State};
use crate::window::Window;
use sekisho_domain::notice::Notice;

impl<S: Store> TempAccess<S> {
    pub(super) async fn grant(&self, grant: &Grant, turn: &Turn<'_>) -> Result<Done, Error> {
        let asked = Asked::of(grant, self.access()?)?;
        let decided = timeout_at(turn.until(DECIDED), self.decide(&asked, grant, turn)).await;
        let (plan, claimed) = decided.unwrap_or(Err(Error::TooSlow("Nothing was granted")))?;
        let Some(Claim { row, revision, before }) = claimed else {
            let decision =
                about(Decision::new(Outcome::Previewed, "dry run: nothing was written"), &asked, &plan, grant);
            return Ok(Done::text(grant::preview(&asked, &plan), decision));
        };
        let key = row::key(asked.principal, &plan.policy);

        let carried_out = timeout_at(turn.until(WRITTEN), self.carry_out(&asked, &plan, turn)).await;
        let shown = match carried_out.unwrap_or_else(|_| Err(Failed::silent("policy write"))) {
            Ok(()) => self.read_back(&asked, &plan, turn).await,
            Err(failed) => {
                // Whatever IAM said to the last try, an earlier one may have taken effect.
                let open = matches!(failed.why, Why::Silent | Why::Throttled);
                match if open { self.read_back(&asked, &plan, turn).await } else { Shown::NotYet } {
                    shown @ Shown::Window(_) => shown,
                    shown if failed.why == Why::Silent || shown == Shown::Unknown => {
                        return Ok(unknown(&asked, &plan, grant, failed, turn));
                    }
                    _ => {
                        self.give_back(&key, revision, before, turn).await;
                        return Err(Error::Iam { outcome: nothing_granted(&plan), source: failed });
                    }
                }
            }
        };

        let text = answer::granted(&asked, &plan, shown, grant.reason.as_deref());
        let (outcome, reason) = match plan.effect {
            Effect::Grants => (Outcome::Granted, "access was given"),
            Effect::Extends(_) => (Outcome::Extended, "access ends later than before"),
            Effect::Keeps => (Outcome::Unchanged, "access lasts until then already"),
        };
        let decision = about(Decision::new(outcome, reason), &asked, &plan, grant);
        let settle = Some(Settle { key, row: row.settled(State::Granted), revision });
        let mut done = Done { settle, ..Done::text(text, decision) };
        if outcome != Outcome::Unchanged {
            done.notices.push(let_in(&asked, &plan, grant, turn));
        }
        Ok(done)
    }

    /// Looks, plans and claims, again until the claim holds: what was read is then still so. A dry run claims nothing.
    async fn decide(&self, asked: &Asked<'_>, grant: &Grant, turn: &Turn<'_>) -> Result<(Plan, Option<Claim>), Error> {
        let policy = asked.policy();
        let key = row::key(asked.principal, &policy);
        let ledger = |source| Error::Ledger { outcome: "Nothing was granted", source };
        loop {
            // Together, since they don't need each other; IAM first, which is far. The ledger is near: what it knows to be
            // live is read while IAM still looks for the names.
            let known = async {
                let row = self.ledger.read::<Row>(&key).await?;
                let now = (self.clock)();
                let live = row
                    .as_ref()
                    .is_some_and(|row| row.state.gives_access(now) && !row.state.is_held_by_another(turn.request, now));
                let own = if live { Some(self.iam.policy(asked.principal, &policy).await) } else { None };
                Ok((row, own))
            };
            let (person, names, known) =
                join!(self.person(asked.principal), self.iam.policy_names(asked.principal), known);
            person?;
            let (row, own) = known.map_err(ledger)?;
            let held = row.as_ref().is_some_and(|row| row.state.is_held_by_another(turn.request, (self.clock)()));
            if held && !grant.dry_run {
                self.pause(asked.principal, turn.until(DECIDED)).await?;
                continue;
            }
            let iam = |source| Error::Iam { outcome: "Nothing was granted".to_owned(), source };
            let mut names = names.map_err(iam)?;
            let own = own.transpose().map_err(iam)?;
            let now = (self.clock)();
            // The names may be older than the row: what the row tells of is asked for by name.
            let unlisted = row.as_ref().is_some_and(|row| row.state.is_young(now)) && !names.contains(&policy);
            if own.is_some() {
                names.retain(|name| *name != policy);
            } else if unlisted {
                names.push(policy.clone());
            }
            let mut inline = self.inline(asked.principal, names).await?;
            inline.extend(own.flatten().map(|document| Inline { name: policy.clone(), document }));
            // IAM may still show what has been revoked, and the row says so only once it is deleted.
            let revoked = row.as_ref().map(|row| &row.state).filter(|row| row.state == State::Revoked);
            inline.retain(|one| one.name != policy || !revoked.is_some_and(|row| shows_no_more_than(one, row)));

            let now = (self.clock)();
            let granted = row.as_ref().and_then(|row| row.state.just_granted(now));
            let unseen = granted.is_some_and(|granted| !shows(&inline, &policy, granted));
            if unseen && !grant.dry_run && Instant::now() + PAUSE < turn.until(LOOKED) {
                sleep(PAUSE).await;
                continue;
            }
            let before = row.as_ref().map_or(Before::Nothing, |row| before(&row.state, turn.request));
            let plan = grant::plan(asked, &inline, granted, before, now)?;
            if grant.dry_run {
                return Ok((plan, None));
            }
            let (revision, earlier) = row.map_or((None, None), |row| (Some(row.revision), Some(row.state)));
            let mut claim = Row::held(State::Intent, plan.window, turn.request, earlier.as_ref(), now);
            if grant.reason.is_some() || plan.effect == Effect::Grants {
                claim.reason.clone_from(&grant.reason);
            }
            match self.ledger.write(&key, &claim, revision, turn.request).await {
                Ok(revision) => return Ok((plan, Some(Claim { row: claim, revision, before: earlier }))),
                Err(LedgerError::Changed(_)) => self.pause(asked.principal, turn.until(DECIDED)).await?,
                Err(error) => return Err(ledger(error)),
            }
        }
    }

    /// Whether the principal is one that may be let in.
    async fn person(&self, principal: &Principal) -> Result<(), Error> {
        let person = self.known(principal).await?;
        let kind = principal.kind().as_str();
        if person.path.starts_with("/aws-reserved/") || person.path.starts_with("/aws-service-role/") {
            return Err(Error::Refused(format!(
                "{principal} belongs to AWS (path {}), and IAM lets nobody change it: name a user or role of your own",
                person.path
            )));
        }
        let lacks = match (person.grantable, person.boundary.as_deref() == Some(self.boundary.as_str())) {
            (true, true) => return Ok(()),
            (false, true) => "the tag sekisho:access=grantable",
            (true, false) => "the access boundary",
            (false, false) => "the tag sekisho:access=grantable and the access boundary",
        };
        let variable = kind.to_uppercase();
        Err(Error::Refused(format!(
            "{principal} is not prepared: it lacks {lacks}. If it is to be let in, an administrator prepares it once with \
             `make prepare {variable}={} ENV=… PROFILE=…` (an administrator's profile)",
            principal.name()
        )))
    }

    async fn inline(&self, principal: &Principal, names: Vec<String>) -> Result<Vec<Inline>, Error> {
        let documents = try_join_all(names.into_iter().map(async |name| {
            let document = self.iam.policy(principal, &name).await?;
            Ok::<_, Failed>(document.map(|document| Inline { name, document }))
        }));
        let documents =
            documents.await.map_err(|source| Error::Iam { outcome: "Nothing was changed".to_owned(), source })?;
        Ok(documents.into_iter().flatten().collect())
    }

    async fn carry_out(&self, asked: &Asked<'_>, plan: &Plan, turn: &Turn<'_>) -> Result<(), Failed> {
        for ended in &plan.remove {
            // What is live again, or in somebody else's hands, stays; IAM then says whether there is room.
            if let Err(Error::Iam { source, .. }) = self.retire(asked.principal, ended, turn).await {
                return Err(source);
            }
        }
        match &plan.document {
            Some(document) => self.iam.put(asked.principal, &plan.policy, document).await,
            None => Ok(()),
        }
    }

    /// What IAM shows now. Its answers may be older than its deeds, so it is asked until they are not.
    async fn read_back(&self, asked: &Asked<'_>, plan: &Plan, turn: &Turn<'_>) -> Shown {
        let mut shown = Shown::Unknown;
        loop {
            let answer = timeout_at(turn.until(SHOWN), self.iam.policy(asked.principal, &plan.policy)).await;
            shown = match answer {
                Ok(Ok(document)) => match document.as_deref().map(policy::read) {
                    // Of a first grant, what ends later is what was there before.
                    Some(Reading::Grant(window)) if plan.effect == Effect::Grants && window != plan.window => {
                        Shown::NotYet
                    }
                    Some(Reading::Grant(window)) if window.end >= plan.window.end => return Shown::Window(window),
                    _ => Shown::NotYet,
                },
                Ok(Err(_)) => Shown::Unknown,
                Err(_) => return shown,
            };
            if Instant::now() + PAUSE >= turn.until(SHOWN) {
                return shown;
            }
            sleep(PAUSE).await;
        }
    }
}

/// A row that this invocation holds, and the row as it was before.
struct Claim {
    row: Row,
    revision: u64,
    before: Option<Row>,
}

/// Whether this is a policy that the row knows to be deleted.
fn shows_no_more_than(one: &Inline, row: &Row) -> bool {
    matches!(policy::read(&one.document), Reading::Grant(window) if window.end <= row.end)
}

/// Whether IAM shows what was granted, or something that ends later, or is not ours.
fn shows(inline: &[Inline], policy: &str, granted: Window) -> bool {
    let shown = inline.iter().find(|one| one.name == policy).map(|one| policy::read(&one.document));
    match shown {
        Some(Reading::Grant(window)) => window.end >= granted.end,
        Some(Reading::Foreign(_) | Reading::Denies) => true,
        None => false,
    }
}

fn before(row: &Row, request: &str) -> Before {
    if row.requests.iter().any(|known| known == request) {
        Before::Done
    } else if row.state == State::Intent && row.request == request {
        Before::Intended(row.window())
    } else {
        Before::Nothing
    }
}

fn about(decision: Decision<Outcome>, asked: &Asked<'_>, plan: &Plan, grant: &Grant) -> Decision<Outcome> {
    whom(decision, asked.principal)
        .about("profile", asked.profile.as_str())
        .about("minutes", asked.minutes.to_string())
        .about("start", timestamp::seconds(plan.window.start))
        .about("until", timestamp::seconds(plan.window.end))
        .about_some("because", grant.reason.clone())
}

fn nothing_granted(plan: &Plan) -> String {
    match plan.effect {
        Effect::Grants => "Nothing was granted".to_owned(),
        Effect::Extends(end) => {
            format!("Nothing was granted, and access ends at {} as before", timestamp::seconds(end))
        }
        Effect::Keeps => format!("Nothing was changed, and access ends at {}", timestamp::seconds(plan.window.end)),
    }
}

fn unknown(asked: &Asked<'_>, plan: &Plan, grant: &Grant, failed: Failed, turn: &Turn<'_>) -> Done {
    let end = timestamp::seconds(plan.window.end);
    let outcome = format!(
        "It is not known whether {} was given {} until {end}, at most until then; {{\"action\":\"list\"}} tells in a minute",
        asked.principal, asked.profile
    );
    let error = Error::Iam { outcome, source: failed };
    let decision = Decision::new(Outcome::Failed, error.to_string()).about("error", error.error_type().name());
    let decisions = vec![about(decision, asked, plan, grant)];
    let mut notice = let_in(asked, plan, grant, turn);
    notice.title = format!("Perhaps let in: {}", asked.principal);
    notice.lines.insert(0, "IAM did not answer: it is not known whether this took effect.".to_owned());
    Done { answer: Err(error), decisions, notices: vec![notice], settle: None }
}

fn let_in(asked: &Asked<'_>, plan: &Plan, grant: &Grant, turn: &Turn<'_>) -> Notice {
    let (principal, profile, account) = (asked.principal, asked.profile, &turn.invocation.account);
    let end = timestamp::seconds(plan.window.end);
    let verb = match plan.effect {
        Effect::Extends(_) => "stays",
        Effect::Grants | Effect::Keeps => "is",
    };
    let mut lines = vec![format!("{principal} {verb} let into account {account} as {profile} until {end}.")];
    lines.push(match grant.reason.as_deref().filter(|reason| !reason.is_empty()) {
        Some(reason) => format!("Reason: {reason}"),
        None => "No reason was given.".to_owned(),
    });
    let revoke = json!({"action": "revoke", principal.kind().as_str(): principal.name()});
    lines.push(format!("To end it: lambda invoke {} --payload {revoke}", turn.invocation.function));
    Notice {
        title: format!("Let in: {principal} until {end}"),
        lines,
        link: Some(event_history(principal, turn.invocation)),
        context: notice::context(principal, "open", Some(profile.as_str())),
    }
}
