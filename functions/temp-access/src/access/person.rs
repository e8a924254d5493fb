//! Finds out who a person of Identity Center is, before a request about the person is carried out.

use std::collections::BTreeSet;

use futures_util::{StreamExt, stream};
use sekisho_domain::access::{Access, Subject};
use sekisho_ledger::{Row, Store};
use tokio::time::timeout_at;

use crate::aws::identity_center::IdentityCenter;
use crate::door::{self, Door};
use crate::error::Error;
use crate::principal::{Kind, Principal};
use crate::row::{self, GrantRow};
use crate::run::{LedgerAnswer, PLAN_LIMIT, Run};

/// What the failure of a revoke means for access, and the way around it.
const NOTHING_ENDED: &str = "Nothing was ended (a revoke that names the person as {\"action\":\"list\"} does, by the \
                             address or user id there, does not ask Identity Center)";
/// How many addresses are looked up at the same time.
const CONCURRENT_LOOKUPS: usize = 8;

/// The principal with the user id that the address of a person leads to now. Users and roles stay as they are.
///
/// # Errors
/// If there is no such person, if Identity Center does not answer, or if the account knows no Identity Center.
pub(crate) async fn resolve<S: Store>(principal: &Principal, run: &Run<'_, S>) -> Result<Principal, Error> {
    if principal.kind() != Kind::Person {
        return Ok(principal.clone());
    }
    let center = center(run)?;
    let asked = timeout_at(run.deadline(PLAN_LIMIT), center.user_id(principal.name())).await;
    let id = asked.map_err(|_| Error::TooSlow("Nothing was changed"))?;
    let id = id.map_err(|source| Error::People { outcome: "Nothing was changed", source: Box::new(source) })?;
    let id = id.ok_or_else(|| Error::NotFound(principal.clone()))?;
    Ok(Principal::person(&id, Some(principal.name())))
}

/// Like [`resolve`], for a revoke. The person who has access under the address comes first, because the address
/// may lead to somebody else by now, or to nobody. The list shows a person without a known address by the user id. What
/// the list shows needs no Identity Center, and the user id not even the ledger.
/// Also returns whether another user has access under the address.
///
/// # Errors
/// As for [`resolve`].
pub(crate) async fn resolve_for_revoke<S: Store>(
    principal: &Principal,
    run: &Run<'_, S>,
) -> Result<(Principal, bool), Error> {
    if principal.kind() != Kind::Person {
        return Ok((principal.clone(), false));
    }
    let name = principal.name();
    let mut rows = match run.try_ledger(run.ledger.each::<GrantRow>(row::PARTITION, row::PEOPLE)).await {
        LedgerAnswer::Done(rows) => rows.into_iter().filter_map(Result::ok).collect(),
        LedgerAnswer::Changed | LedgerAnswer::Lost => Vec::new(),
    };
    let is_called = |row: &Row<GrantRow>| {
        row.state.email.as_ref().is_some_and(|email| email.eq_ignore_ascii_case(name))
            || row::subject(&row.sk).is_some_and(|(person, _)| person.key() == name)
    };
    rows.retain(is_called);
    rows.sort_by_key(|row| row.state.end);
    let now = run.now();
    let is_in = |row: &&Row<GrantRow>| row.state.gives_access(now) || row.state.owes_delete;
    let mut people = rows.iter().rev().filter(is_in).filter_map(|row| row::subject(&row.sk));
    if let Some((person, _)) = people.next() {
        let has_others = people.any(|(other, _)| other != person);
        return Ok((Principal::person(person.key(), Some(name)), has_others));
    }
    if is_user_id(name) {
        return Ok((Principal::person(name, None), false));
    }
    let resolved = resolve(principal, run).await.map_err(|error| match error {
        Error::People { source, .. } => Error::People { outcome: NOTHING_ENDED, source },
        Error::TooSlow(_) => Error::TooSlow(NOTHING_ENDED),
        error => error,
    });
    match (resolved, rows.last().and_then(|row| row::subject(&row.sk))) {
        (Err(_), Some((person, _))) => Ok((Principal::person(person.key(), Some(name)), false)),
        (resolved, _) => resolved.map(|resolved| (resolved, false)),
    }
}

/// Checks, before an approval, that the person's address still leads to the user for whom access was asked.
///
/// # Errors
/// [`Error::Refused`] if not, or as for [`resolve`].
pub(crate) async fn check_address<S: Store>(principal: &Principal, run: &Run<'_, S>) -> Result<(), Error> {
    if principal.kind() != Kind::Person || resolve(&address(principal.name())?, run).await?.key() == principal.key() {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "the address {} leads to another user of Identity Center since the request: ask again. Nothing was approved",
        principal.name()
    )))
}

/// Checks, before an approval or the end of a review, that nobody behind the door is the person under another address.
///
/// # Errors
/// [`Error::Refused`] if somebody is, or as for [`resolve`].
pub(crate) async fn check_others<S: Store>(
    principal: &Principal,
    access: &Access,
    run: &Run<'_, S>,
) -> Result<(), Error> {
    let Door::Person(door) = &run.door else { return Ok(()) };
    if principal.kind() != Kind::Person {
        return Ok(());
    }
    let mut names = BTreeSet::new();
    let is_new =
        |subject: &&Subject| subject.kind() == Kind::Person.as_str() && names.insert(subject.name().to_lowercase());
    let others = door::beneficiaries(access, door).filter(is_new).map(|subject| address(subject.name()));
    let others: Vec<Principal> = others.collect::<Result<_, _>>()?;
    // A group may have many people, and an answer has little time.
    let mut found = stream::iter(others)
        .map(async |other| {
            let resolved = resolve(&other, run).await;
            (other, resolved)
        })
        .buffer_unordered(CONCURRENT_LOOKUPS);
    while let Some((other, resolved)) = found.next().await {
        match resolved {
            Ok(same) if same.key() == principal.key() => {
                return Err(Error::Refused(format!(
                    "{principal} is {} of Identity Center, who belongs to the door {door}: somebody else has to \
                     approve. Nothing was approved",
                    other.name()
                )));
            }
            Ok(_) | Err(Error::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn address(name: &str) -> Result<Principal, Error> {
    Principal::new(Kind::Person, name).map_err(Error::Refused)
}

fn center<'a, S: Store>(run: &Run<'a, S>) -> Result<&'a IdentityCenter, Error> {
    run.identity_center.filter(|center| center.has_store()).ok_or_else(|| {
        Error::Refused(
            "this account knows no people of Identity Center: to let them in, deploy it with the parameters \
             IdentityStoreId and IdentityCenterRegion. Nothing was changed"
                .to_owned(),
        )
    })
}

/// Whether a text is a user id of Identity Center: a UUID, in most stores after ten hexadecimal digits.
fn is_user_id(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    matches!(lengths.as_slice(), [8, 4, 4, 4, 12] | [10, 8, 4, 4, 4, 12])
        && parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_id_is_no_address() {
        for id in ["0123456789-11111111-2222-3333-4444-555555555555", "11111111-2222-3333-4444-55555555555a"] {
            assert!(is_user_id(id), "{id}");
        }
        for other in ["hana@example.com", "hana", "", "11111111-2222-3333-4444-55555555555x"] {
            assert!(!is_user_id(other), "{other}");
        }
    }
}
