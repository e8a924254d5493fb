//! Who is in.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use futures_util::join;
use sekisho_domain::decision::Decision;
use sekisho_lambda::failure::chain;
use sekisho_lambda::log::{self, Level};
use sekisho_ledger::Store;
use serde_json::json;
use time::OffsetDateTime;
use tokio::time::{Instant, timeout_at};

use super::{Done, SHOWN, TempAccess, Turn, WRITTEN};
use crate::answer::{self, Outcome};
use crate::error::Error;
use crate::iam::{Failed, Found};
use crate::policy::{self, Reading};
use crate::principal::Principal;
use crate::row::{self, Row, State};

/// A principal and a policy of our name.
type Whose = (Principal, String);

impl<S: Store> TempAccess<S> {
    /// Who has access is IAM's to say; why, the ledger's. What only one of them knows is said.
    pub(super) async fn list(&self, turn: &Turn<'_>) -> Result<Done, Error> {
        let rows = timeout_at(turn.until(WRITTEN), self.ledger.list::<Row>(row::PARTITION, ""));
        let ((found, whole), rows) = join!(self.found(turn.until(WRITTEN)), rows);
        let unread = match &rows {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(chain(error)),
            Err(_) => Some("no answer in time".to_owned()),
        };
        let rows = rows.ok().and_then(Result::ok).unwrap_or_default();
        let rows: BTreeMap<Whose, Row> = rows
            .into_iter()
            .filter_map(|row| {
                let (principal, profile) = row::subject(&row.sk)?;
                Some(((principal, format!("{}{profile}", policy::PREFIX)), row.state))
            })
            .collect();
        if unread.is_some() && whole.is_err() {
            return Err(match whole {
                Err(Some(source)) => Error::Iam { outcome: "The list could not be made".to_owned(), source },
                _ => Error::TooSlow("The list could not be made"),
            });
        }
        let mut lines = self.lines(found, &rows, unread.is_none(), turn.until(SHOWN)).await;
        let decision = Decision::new(Outcome::Listed, "asked who has access").about("live", lines.len().to_string());
        if lines.is_empty() && whole.is_ok() {
            lines.push("Nobody has access now.".to_owned());
        }
        let warn = |message, error: &str| {
            log::line(Level::Error, message, &json!({"requestId": turn.request, "error": error}));
        };
        if let Err(failed) = &whole {
            warn(
                "the list is not whole",
                &failed.as_ref().map_or("no answer in time".to_owned(), |failed| chain(failed)),
            );
            lines.push(
                "Not all users and roles could be looked at: there may be more, of whom the ledger does not know."
                    .to_owned(),
            );
        }
        if let Some(error) = unread {
            warn("the list has no reasons", &error);
            lines.push("The ledger could not be read: the reasons are missing.".to_owned());
        }
        Ok(Done::text(lines.join("\n"), decision))
    }

    /// The policies of our name, as far as there is time; `Err` where that is not all of them.
    async fn found(&self, limit: Instant) -> (Vec<Found>, Result<(), Option<Failed>>) {
        let (mut found, mut marker) = (Vec::new(), None);
        loop {
            match timeout_at(limit, self.iam.page_of_our_name(marker)).await {
                Ok(Ok((page, next))) => {
                    found.extend(page);
                    if next.is_none() {
                        return (found, Ok(()));
                    }
                    marker = next;
                }
                Ok(Err(failed)) => return (found, Err(Some(failed))),
                Err(_) => return (found, Err(None)),
            }
        }
    }

    async fn lines(&self, found: Vec<Found>, rows: &BTreeMap<Whose, Row>, read: bool, limit: Instant) -> Vec<String> {
        let now = (self.clock)();
        let mut shown: BTreeMap<Whose, Reading> =
            found.into_iter().map(|one| ((one.principal, one.name), policy::read(&one.document))).collect();
        // Where the ledger knows of more than IAM shows of everybody, that one is asked for by name.
        let ends_later = |whose: &&Whose, row: &Row| !matches!(shown.get(*whose), Some(Reading::Grant(window)) if window.end >= row.end);
        let unseen = rows.iter().filter(|(whose, row)| row.gives_access(now) && ends_later(whose, row));
        let asked = join_all(unseen.map(async |(whose, _)| {
            let (principal, policy) = whose;
            let answer = timeout_at(limit, self.iam.policy(principal, policy)).await;
            (whose, answer.unwrap_or_else(|_| Err(Failed::silent("policy read"))))
        }));
        let mut doubtful = BTreeMap::new();
        for (whose, answer) in asked.await {
            match answer {
                Ok(Some(document)) => drop(shown.insert(whose.clone(), policy::read(&document))),
                Ok(None) => drop(shown.remove(whose)),
                Err(failed) => drop(doubtful.insert(whose, failed)),
            }
        }
        let mut all: Vec<&Whose> = shown.keys().chain(rows.keys()).collect();
        // By kind and name as the ledger has them: roles first.
        all.sort_by_key(|(principal, policy)| (principal.kind().as_str(), principal.name(), policy));
        all.dedup();
        all.into_iter()
            .filter_map(|whose| line(whose, shown.get(whose), rows.get(whose), doubtful.get(whose), read, now))
            .collect()
    }
}

/// One policy's line; none where it gives no access.
fn line(
    (principal, policy): &Whose,
    shown: Option<&Reading>,
    row: Option<&Row>,
    doubtful: Option<&Failed>,
    read: bool,
    now: OffsetDateTime,
) -> Option<String> {
    let subject = principal.to_string();
    let profile = policy.strip_prefix(policy::PREFIX).unwrap_or(policy);
    let listed = |end| answer::listed(&subject, profile, end, row.and_then(|row| row.reason.as_deref()), now);
    match (shown, row) {
        (Some(Reading::Grant(window)), _) if window.is_live(now) => {
            let unknown = if row.is_none() && read { " (the ledger does not know of it)" } else { "" };
            Some(listed(window.end) + unknown)
        }
        (Some(Reading::Foreign(why)), _) => Some(format!("{principal}: {policy} is not Sekisho's: {why}")),
        (_, Some(row)) if row.gives_access(now) => match doubtful {
            Some(failed) => Some(format!("{} (as the ledger has it: {failed})", listed(row.end))),
            // An intent that came to nothing is no access.
            None if row.state == State::Intent => None,
            None if row.just_granted(now).is_some() => {
                Some(format!("{} (as the ledger has it: IAM does not show it yet)", listed(row.end)))
            }
            None => Some(format!("{} (only the ledger says so: IAM has no such policy)", listed(row.end))),
        },
        _ => None,
    }
}
