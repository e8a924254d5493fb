//! The policies of a principal: inline policies of a user or role, and parts of `sekisho-window` for a person.
//!
//! The use cases see no difference: what a person has of a profile in `sekisho-window` looks like an inline policy.

use std::collections::BTreeMap;

use sekisho_ledger::{Error as LedgerError, Row, Store};
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::access::window::base::{self, Base, configured, holders_in, newest};
use crate::access::window::{self, Turn};
use crate::aws::iam::{IamError, NamedPolicy};
use crate::error::Error;
use crate::plan::Plan;
use crate::policy;
use crate::principal::{Kind, Principal};
use crate::row::{self, GrantRow, State};
use crate::run::{CONFIRM_LIMIT, RECHECK_LIMIT, Run};
use crate::window::Window;
use crate::window_policy::{self, Change, ENTERED, Holder, Share};

/// The names of all inline policies of a principal.
pub(crate) async fn names<S: Store>(principal: &Principal, run: &Run<'_, S>) -> Result<Vec<String>, IamError> {
    match principal.kind() {
        Kind::User | Kind::Role => run.iam.policy_names(principal).await,
        Kind::Person => Ok(policies_of_person(principal, run).await?.into_keys().collect()),
    }
}

/// The text of an inline policy; `None` if it does not exist.
pub(crate) async fn read<S: Store>(
    principal: &Principal,
    name: &str,
    run: &Run<'_, S>,
) -> Result<Option<String>, IamError> {
    match principal.kind() {
        Kind::User | Kind::Role => run.iam.policy(principal, name).await,
        Kind::Person => Ok(policies_of_person(principal, run).await?.remove(name)),
    }
}

/// The text of what a person has of a policy in `sekisho-window`. Unlike [`read`], it leaves out what is not entered
/// yet.
pub(crate) async fn read_entered<S: Store>(
    principal: &Principal,
    name: &str,
    run: &Run<'_, S>,
) -> Result<Option<String>, IamError> {
    match entered(principal, run).await? {
        (Some(_), mut policies) => Ok(policies.remove(name)),
        (None, _) => Err(IamError::busy("the ledger does not say which access is whose")),
    }
}

/// Puts an inline policy. An existing policy of the same name is replaced. The policy of a person that begins much
/// later stays in the ledger, and a follow-up enters it into `sekisho-window`.
///
/// # Errors
/// If IAM fails. If `sekisho-window` cannot be written by the limit, the error is one of throttling.
pub(crate) async fn put<S: Store>(
    principal: &Principal,
    name: &str,
    document: &str,
    limit: Instant,
    run: &Run<'_, S>,
) -> Result<(), IamError> {
    if principal.kind() != Kind::Person {
        return run.iam.put(principal, name, document).await;
    }
    let shares = window_policy::shares(principal.key(), document);
    if shares.iter().all(|share| enters_later(principal, share.window, run.now())) {
        return Ok(());
    }
    let user = principal.key().to_owned();
    let change = Change::Put { user, profile: profile(name).to_owned(), shares };
    window::write(&change, Turn::Waits, limit, run).await.map(drop)
}

/// Deletes an inline policy. Returns whether the policy existed. Without the ledger, nothing that a person has is
/// deleted, unless it is for a revoke, which ends all of it.
pub(crate) async fn delete<S: Store>(
    principal: &Principal,
    name: &str,
    turn: Turn,
    run: &Run<'_, S>,
) -> Result<bool, IamError> {
    if principal.kind() != Kind::Person {
        return run.iam.delete(principal, name).await;
    }
    let change = Change::Remove { user: principal.key().to_owned(), profile: profile(name).to_owned() };
    // A sweep may already have taken longer than a request may.
    let limit = run.deadline(CONFIRM_LIMIT).max(Instant::now() + RECHECK_LIMIT);
    window::write(&change, turn, limit, run).await
}

/// A person's rows, unless the ledger does not answer, and what `sekisho-window` has for the person, by the name that
/// an inline policy would have.
async fn entered<S: Store>(
    principal: &Principal,
    run: &Run<'_, S>,
) -> Result<(Option<Vec<Row<GrantRow>>>, BTreeMap<String, String>), IamError> {
    if run.identity_center.is_none() {
        return Ok((Some(Vec::new()), BTreeMap::new()));
    }
    let rows = rows(&row::prefix(principal), run).await;
    let base = newest_shown(run).await?;
    let theirs: Vec<Share> = base.shares.into_iter().filter(|share| share.user == principal.key()).collect();
    // Without the ledger, IAM alone knows who has access, and it may lag behind.
    if rows.is_none() && theirs.is_empty() {
        return Err(IamError::busy("the ledger does not answer, and IAM may not show recent access yet"));
    }
    let policies = by_profile(&theirs, &holders_in(rows.as_deref().unwrap_or_default(), run.now()), run);
    Ok((rows, policies))
}

/// What a person has or is about to have, by the name that an inline policy would have.
async fn policies_of_person<S: Store>(
    principal: &Principal,
    run: &Run<'_, S>,
) -> Result<BTreeMap<String, String>, IamError> {
    let (rows, mut policies) = entered(principal, run).await?;
    let rows = rows.unwrap_or_default();
    // A grant that begins later is only in the ledger. An intent that has begun shows nothing, because the write of its
    // invocation may have failed.
    let now = run.now();
    let is_begun_intent = |row: &GrantRow| row.state == State::Intent && !row.window().is_scheduled(now);
    let is_ahead = |row: &GrantRow| row.awaits_entry && row.gives_access(now) && !is_begun_intent(row);
    for row in rows.iter().filter(|row| is_ahead(&row.state)) {
        let Some((_, profile)) = row::subject(&row.sk) else { continue };
        let document = profile_document(profile, row.state.window(), run);
        policies.extend(document.map(|document| (format!("{}{profile}", policy::PREFIX), document)));
    }
    Ok(policies)
}

/// The rows whose keys have this prefix; `None` if the ledger does not answer.
async fn rows<S: Store>(prefix: &str, run: &Run<'_, S>) -> Option<Vec<Row<GrantRow>>> {
    if run.is_ledger_lost.get() {
        return None;
    }
    let rows = run.ledger.each::<GrantRow>(row::PARTITION, prefix).await.ok()?;
    Some(rows.into_iter().filter_map(Result::ok).collect())
}

/// The newest state of `sekisho-window`.
async fn newest_shown<S: Store>(run: &Run<'_, S>) -> Result<Base, IamError> {
    let row = if run.is_ledger_lost.get() { None } else { base::read(run).await.ok().flatten() };
    newest(row.as_ref().map(|row| &row.state), Turn::GoesAhead, Instant::now(), run).await
}

/// The shares of one person as inline policies. A share that belongs to no profile counts as one of a profile
/// `window`, and one that may belong to several is in each of them.
fn by_profile<S: Store>(shares: &[Share], holders: &[Holder], run: &Run<'_, S>) -> BTreeMap<String, String> {
    let configured = configured(run.access.as_ref().ok());
    let mut profiles: BTreeMap<&str, Vec<Share>> = BTreeMap::new();
    for share in shares {
        let found = window_policy::profiles(share, holders, &configured);
        for profile in if found.is_empty() { vec!["window"] } else { found } {
            profiles.entry(profile).or_default().push(share.clone());
        }
    }
    let named = |(profile, shares): (&str, Vec<Share>)| {
        (format!("{}{profile}", policy::PREFIX), window_policy::inline_policy(&shares, run.now()))
    };
    profiles.into_iter().map(named).collect()
}

/// What all people have in `sekisho-window`, apart from what has ended.
///
/// # Errors
/// If IAM fails.
pub(crate) async fn of_people<S: Store>(run: &Run<'_, S>) -> Result<Vec<NamedPolicy>, IamError> {
    let Some(center) = run.identity_center else { return Ok(Vec::new()) };
    let rows = rows(row::PEOPLE, run).await.unwrap_or_default();
    if rows.is_empty() && !center.has_store() {
        return Ok(Vec::new());
    }
    let now = run.now();
    let holders = holders_in(&rows, now);
    let mut people: BTreeMap<String, Vec<Share>> = BTreeMap::new();
    for share in newest_shown(run).await?.shares.into_iter().filter(|share| share.window.is_live(now)) {
        people.entry(share.user.clone()).or_default().push(share);
    }
    let policies = people.into_iter().flat_map(|(user, shares)| {
        let email = rows.iter().filter_map(|row| row::subject_of(&row.sk, &row.state));
        let known = email.map(|(principal, _)| principal).find(|principal| principal.key() == user);
        let principal = known.unwrap_or_else(|| Principal::person(&user, None));
        let policies = by_profile(&shares, &holders, run).into_iter();
        policies.map(move |(name, document)| NamedPolicy { principal: principal.clone(), name, document })
    });
    Ok(policies.collect())
}

/// Checks that the grant of a person fits into `sekisho-window`, together with those that others have, are about to get,
/// and get before its end.
///
/// # Errors
/// [`Error::WindowFull`], with who leaves next.
pub(crate) async fn check_room<S: Store>(plan: &Plan<'_>, run: &Run<'_, S>) -> Result<(), Error> {
    let principal = plan.terms.principal;
    if principal.kind() != Kind::Person || !plan.puts {
        return Ok(());
    }
    let failed = |source| Error::Iam { outcome: "Nothing was granted".to_owned(), source };
    let ledger = |source| Error::Ledger { outcome: "Nothing was granted", source };
    let rows: Vec<Result<Row<GrantRow>, LedgerError>> =
        run.ledger.each::<GrantRow>(row::PARTITION, row::PEOPLE).await.map_err(ledger)?;
    let rows: Vec<Row<GrantRow>> = rows.into_iter().filter_map(Result::ok).collect();
    let base = newest_shown(run).await.map_err(failed)?;
    let now = run.now();
    let holders = holders_in(&rows, now);
    let put = |shares: &[Share], user: &str, profile: &str, document: &str| {
        let theirs = window_policy::shares(user, document);
        let change = Change::Put { user: user.to_owned(), profile: profile.to_owned(), shares: theirs };
        window_policy::apply(shares, &change, Some(&holders), now)
    };
    let own = row::key(principal, &plan.policy).sk;
    let is_coming = |row: &GrantRow| row.awaits_entry || row.state == State::Intent && row.is_held(now);
    let mut shares = base.shares;
    for row in rows.iter().filter(|row| row.sk != own && row.state.gives_access(now) && is_coming(&row.state)) {
        let Some((whose, profile)) = row::subject(&row.sk) else { continue };
        let Some(document) = profile_document(profile, row.state.window(), run) else { continue };
        shares = put(&shares, whose.key(), profile, &document);
    }
    let shares = put(&shares, principal.key(), profile(&plan.policy), &plan.document);
    let Some(crowd) = window_policy::overfull(&shares, plan.window, now) else { return Ok(()) };
    let next = window_policy::next_to_leave(&crowd, principal.key()).map(|(user, end)| {
        let email = rows.iter().filter_map(|row| row::subject_of(&row.sk, &row.state));
        let known = email.map(|(principal, _)| principal).find(|principal| principal.key() == user);
        let person = known.unwrap_or_else(|| Principal::person(user, None));
        format!("The next to leave is {person}, at {}. ", sekisho_domain::timestamp::seconds(end))
    });
    Err(Error::WindowFull { next: next.unwrap_or_default() })
}

/// The policy of a profile as it is configured now; `None` if it is not configured.
pub(crate) fn profile_document<S: Store>(profile: &str, window: Window, run: &Run<'_, S>) -> Option<String> {
    let profiles = &run.access.as_ref().ok()?.profiles;
    let (_, profile) = profiles.iter().find(|(name, _)| name.as_str() == profile)?;
    Some(policy::document(profile, window, run.now()))
}

/// Whether the grant of a person is entered into `sekisho-window` only later.
pub(crate) fn enters_later(principal: &Principal, window: Window, now: OffsetDateTime) -> bool {
    principal.kind() == Kind::Person && now + ENTERED < window.start
}

/// The profile in a policy's name.
fn profile(policy: &str) -> &str {
    policy.strip_prefix(policy::PREFIX).unwrap_or(policy)
}
