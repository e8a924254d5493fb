//! The list of everybody with access.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use futures_util::join;
use sekisho_domain::decision::Decision;
use sekisho_domain::{slack, timestamp};
use sekisho_lambda::failure::chain;
use sekisho_ledger::Store;
use time::OffsetDateTime;
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

use crate::access::policies;
use crate::answer;
use crate::aws::iam::{IamError, NamedPolicy};
use crate::error::Error;
use crate::outcome::Outcome;
use crate::policy::{self, Reading};
use crate::principal::Principal;
use crate::report::Report;
use crate::row::{self, GrantRow, State};
use crate::run::{CONFIRM_LIMIT, Run, WRITE_LIMIT};

const INCOMPLETE: &str = "The list could not be made";

/// A principal and the name of one of its policies.
type PolicyId = (Principal, String);

/// All inline policies that have a name beginning with `sekisho-`, of users and of roles, as IAM shows them.
struct Found {
    policies: Vec<NamedPolicy>,
    /// Why the policies of later pages are missing; `None` if every page was read.
    failure: Option<Error>,
}

/// The ledger's rows of all grants.
struct Recorded {
    rows: BTreeMap<PolicyId, GrantRow>,
    /// A line for each row that cannot be read.
    unreadable: Vec<String>,
    /// Why the rows are missing; `None` if they were read.
    failure: Option<String>,
}

/// Lists everybody with access. IAM decides who has access; the ledger adds the reasons. If a grant is only in IAM or
/// only in the ledger, the grant's line says where it is.
pub(crate) async fn list<S: Store>(run: &Run<'_, S>) -> Result<Report, Error> {
    let (found, recorded) = join!(find_policies(run), read_rows(run));
    let failure = match found.failure {
        Some(failure) if recorded.failure.is_some() => return Err(failure),
        failure => failure,
    };
    let mut lines = lines(found.policies, &recorded, run.deadline(CONFIRM_LIMIT), run).await;
    let decision = Decision::new(Outcome::Listed, "the list was requested").about("live", lines.len().to_string());
    if lines.is_empty() && failure.is_none() {
        lines.push("Nobody has access now.".to_owned());
    }
    lines.extend(recorded.unreadable);
    if let Some(failure) = failure {
        error!(error = chain(&failure), "the list is incomplete");
        lines.push(
            "Not all users and roles could be read: others may have access that the ledger does not record.".to_owned(),
        );
    }
    if let Some(error) = recorded.failure {
        error!(error, "the list has no reasons");
        lines.push("The ledger could not be read: the reasons are missing.".to_owned());
    }
    Ok(Report::text(lines.join("\n"), decision))
}

async fn find_policies<S: Store>(run: &Run<'_, S>) -> Found {
    let (mut policies, mut marker) = (Vec::new(), None);
    let failure = loop {
        match timeout_at(run.deadline(WRITE_LIMIT), run.iam.page_of_named_policies(marker)).await {
            Ok(Ok(page)) => {
                policies.extend(page.policies);
                if page.next.is_none() {
                    break None;
                }
                marker = page.next;
            }
            Ok(Err(source)) => break Some(Error::Iam { outcome: INCOMPLETE.to_owned(), source }),
            Err(_) => break Some(Error::TooSlow(INCOMPLETE)),
        }
    };
    let people = timeout_at(run.deadline(WRITE_LIMIT), policies::of_people(run)).await;
    let people = people.map_err(|_| Error::TooSlow(INCOMPLETE));
    match people.and_then(|people| people.map_err(|source| Error::Iam { outcome: INCOMPLETE.to_owned(), source })) {
        Ok(people) => policies.extend(people),
        Err(error) => return Found { policies, failure: failure.or(Some(error)) },
    }
    Found { policies, failure }
}

async fn read_rows<S: Store>(run: &Run<'_, S>) -> Recorded {
    let read = timeout_at(run.deadline(WRITE_LIMIT), run.ledger.each::<GrantRow>(row::PARTITION, "")).await;
    let mut recorded = Recorded { rows: BTreeMap::new(), unreadable: Vec::new(), failure: None };
    let rows = match read {
        Ok(Ok(rows)) => rows,
        Ok(Err(error)) => return Recorded { failure: Some(chain(&error)), ..recorded },
        Err(_) => return Recorded { failure: Some("no answer in time".to_owned()), ..recorded },
    };
    for row in rows {
        match row {
            Ok(row) => {
                let Some((principal, profile)) = row::subject_of(&row.sk, &row.state) else { continue };
                recorded.rows.insert((principal, format!("{}{profile}", policy::PREFIX)), row.state);
            }
            Err(error) => {
                warn!(error = chain(&error), "a row of the ledger is unreadable");
                recorded.unreadable.push(slack::shown(&error.to_string()));
            }
        }
    }
    recorded
}

async fn lines<S: Store>(
    found: Vec<NamedPolicy>,
    recorded: &Recorded,
    deadline: Instant,
    run: &Run<'_, S>,
) -> Vec<String> {
    let now = run.now();
    let mut shown: BTreeMap<PolicyId, Reading> =
        found.into_iter().map(|one| ((one.principal, one.name), policy::read(&one.document))).collect();
    // If the ledger records a grant that is missing in IAM's list of all policies, the grant's policy is read by its
    // name.
    let is_shown =
        |id: &PolicyId, row: &GrantRow| matches!(shown.get(id), Some(Reading::Grant(window)) if window.end >= row.end);
    let unseen = recorded.rows.iter().filter(|(id, row)| row.gives_access(now) && !is_shown(id, row));
    let read = join_all(unseen.map(async |(id, _)| {
        let (principal, policy) = id;
        let answer = timeout_at(deadline, policies::read(principal, policy, run)).await;
        (id, answer.unwrap_or_else(|_| Err(IamError::unanswered("policy read"))))
    }));
    let mut unread = BTreeMap::new();
    for (id, answer) in read.await {
        match answer {
            Ok(Some(document)) => drop(shown.insert(id.clone(), policy::read(&document))),
            Ok(None) => drop(shown.remove(id)),
            Err(error) => drop(unread.insert(id, error)),
        }
    }
    let mut all: Vec<&PolicyId> = shown.keys().chain(recorded.rows.keys()).collect();
    // The policies are sorted like the ledger's keys: first by the principal's kind, with roles before users, then by
    // the principal's name.
    all.sort_by_key(|(principal, policy)| (principal.kind().as_str(), principal.name(), policy));
    all.dedup();
    let entries = all.into_iter().map(|id| Entry {
        id,
        shown: shown.get(id),
        row: recorded.rows.get(id),
        unread: unread.get(id),
        is_ledger_read: recorded.failure.is_none(),
    });
    entries.filter_map(|entry| entry.line(run)).collect()
}

/// Everything that is known about one policy.
struct Entry<'a> {
    id: &'a PolicyId,
    /// The policy that IAM shows.
    shown: Option<&'a Reading>,
    row: Option<&'a GrantRow>,
    /// Why IAM did not return a policy that the ledger records.
    unread: Option<&'a IamError>,
    is_ledger_read: bool,
}

impl Entry<'_> {
    /// The policy's line in the list; `None` if the policy gives no access.
    fn line<S: Store>(&self, run: &Run<'_, S>) -> Option<String> {
        let (now, (principal, policy)) = (run.now(), self.id);
        let profile = policy.strip_prefix(policy::PREFIX).unwrap_or(policy);
        let reason = self.row.and_then(|row| row.reason.as_deref());
        let zone = run.access.as_ref().ok().and_then(|access| access.time_zone.as_ref());
        let listed = |window| answer::listed(principal, profile, window, reason, now, zone);
        match (self.shown, self.row) {
            (Some(Reading::Grant(window)), row) if window.is_live(now) && !run.is_ours(policy, *window, row) => {
                let end = timestamp::seconds(window.end);
                Some(format!("{principal}: {policy} is not Sekisho's: it ends only at {end}"))
            }
            (Some(Reading::Grant(window)), None) if window.is_live(now) && self.is_ledger_read => {
                Some(format!("{} (the ledger does not know of it)", listed(*window)))
            }
            (Some(Reading::Grant(window)), Some(row))
                if row.awaits_entry && window.is_live(now) && !window.is_scheduled(now) =>
            {
                Some(format!("{} (not in sekisho-window yet: a follow-up writes it)", listed(*window)))
            }
            (Some(Reading::Grant(window)), _) if window.is_live(now) => Some(listed(*window)),
            (Some(Reading::OpenEnded(why)), _) => Some(format!("{principal}: {policy} is not Sekisho's: {why}")),
            (_, Some(row)) if row.gives_access(now) => self.recorded_line(row, &listed(row.window()), now),
            _ => None,
        }
    }

    /// The line of a grant that only the ledger records.
    fn recorded_line(&self, row: &GrantRow, listed: &str, now: OffsetDateTime) -> Option<String> {
        if let Some(error) = self.unread {
            return Some(format!("{listed} (from the ledger: {error})"));
        }
        // An intent that was not carried out gives no access, so the list leaves it out.
        if row.state == State::Intent {
            return None;
        }
        if row.recent_grant(now).is_some() {
            return Some(format!("{listed} (from the ledger: IAM does not show it yet)"));
        }
        Some(format!("{listed} (only the ledger says so: IAM has no such policy)"))
    }
}
