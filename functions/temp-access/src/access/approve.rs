//! An approval carries out the grant that was requested, or closes the review of a break-glass grant.
//!
//! The approval claims the request first, and the grant's row after that. If the invocation dies in between, the request
//! waits again as soon as its lease ends. Every approval of one request carries out the same grant, so the grant is made
//! once.

use std::cell::Cell;

use sekisho_domain::code::Code;
use sekisho_domain::decision::Decision;
use sekisho_lambda::Invocation;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Error as LedgerError, Row, Store};
use tokio::time::timeout_at;
use tracing::warn;

use crate::access::basis::Basis;
use crate::access::grant::carry_out;
use crate::access::person;
use crate::answer::{self, Answer};
use crate::error::Error;
use crate::notice;
use crate::outcome::{self, Outcome};
use crate::pending::{self, Approving, Claim, PendingRow, Stage};
use crate::plan::Terms;
use crate::principal::Principal;
use crate::report::Report;
use crate::request::Grant;
use crate::run::{PLAN_LIMIT, Run, SETTLE_LIMIT};

const NOTHING_APPROVED: &str = "Nothing was approved";

/// Approves a request, or closes a review.
pub(crate) async fn approve<S: Store>(code: &Code, run: &Run<'_, S>) -> Report {
    let mut found = None;
    let claimed = timeout_at(run.deadline(PLAN_LIMIT), claim(code, &mut found, run)).await;
    let (claim, principal, approving) = match claimed.unwrap_or(Err(Error::TooSlow(NOTHING_APPROVED))) {
        Ok(claimed) => claimed,
        Err(error) => return failed(error, code, found.as_ref(), "approved_by", run),
    };
    match approving {
        Approving::Closes => closed(&claim.row, run),
        Approving::Grants(minutes) => {
            let row = &claim.row;
            let grant = Grant {
                principal,
                minutes: Some(minutes.get().into()),
                from: row.from,
                profile: Some(row.profile.to_string()),
                reason: row.reason.clone(),
                dry_run: false,
            };
            let granted = grant_as_approved(&grant, &claim, run).await;
            granted.unwrap_or_else(|error| failed(error, code, Some(row), "approved_by", run))
        }
    }
}

/// The requests in the ledger.
#[derive(Default)]
pub(crate) struct Requests {
    pub(crate) rows: Vec<Row<PendingRow>>,
    /// Why each of the other rows cannot be read.
    pub(crate) unreadable: Vec<String>,
}

/// Reads the requests of all doors whose keys have this prefix.
pub(crate) async fn read_requests<S: Store>(run: &Run<'_, S>, prefix: &str) -> Result<Requests, LedgerError> {
    let mut requests = Requests::default();
    for row in run.ledger.each::<PendingRow>(pending::PARTITION, prefix).await? {
        match row {
            Ok(row) => requests.rows.push(row),
            Err(error) => {
                warn!(error = chain(&error), "a request is left out");
                requests.unreadable.push(error.to_string());
            }
        }
    }
    Ok(requests)
}

/// Finds the request that a code names, and its principal.
pub(crate) async fn find<S: Store>(
    code: &Code,
    outcome: &'static str,
    run: &Run<'_, S>,
) -> Result<(Row<PendingRow>, Principal), Error> {
    let requests = read_requests(run, "").await.map_err(|source| Error::Ledger { outcome, source })?;
    let row = requests.rows.into_iter().find(|row| row.state.code == *code);
    let found = row.and_then(|row| row.state.principal().map(|principal| (row, principal)));
    found.ok_or_else(|| Error::NoRequest(code.clone()))
}

/// Checks the approval, and claims the request. `found` gets the request first, for the record of a refusal.
async fn claim<S: Store>(
    code: &Code,
    found: &mut Option<PendingRow>,
    run: &Run<'_, S>,
) -> Result<(Claim, Principal, Approving), Error> {
    loop {
        let (row, principal) = find(code, NOTHING_APPROVED, run).await?;
        *found = Some(row.state.clone());
        let now = run.now();
        let approving = pending::approve(&row.state, &principal, &run.door, run.access()?, run.request_id(), now)?;
        if matches!(approving, Approving::Grants(_)) {
            person::check_address(&principal, run).await?;
        }
        person::check_others(&principal, run.access()?, run).await?;
        let new = match approving {
            Approving::Grants(_) => row.state.claimed(&run.door, run.request_id(), now),
            Approving::Closes => row.state.decided(Stage::Approved, Some(&run.door), run.request_id(), now),
        };
        let was_approved = row.state.stage == Stage::Approved;
        let key = pending::key(row.sk);
        match run.ledger.write(&key, &new, Some(row.revision), run.request_id()).await {
            Ok(revision) => return Ok((Claim { key, row: new, revision, was_approved }, principal, approving)),
            Err(LedgerError::Changed(_)) => run.wait_for_other(&principal).await?,
            Err(source) => return Err(Error::Ledger { outcome: NOTHING_APPROVED, source }),
        }
    }
}

/// Carries out the grant under the claim on its request.
async fn grant_as_approved<S: Store>(grant: &Grant, claim: &Claim, run: &Run<'_, S>) -> Result<Report, Error> {
    let invocation = Invocation { request_id: claim.row.grant_id(), ..run.invocation.clone() };
    let granting = Run { invocation: &invocation, is_ledger_lost: Cell::new(false), door: run.door.clone(), ..*run };
    let consent = claim.row.consent(Some(&run.door));
    let basis = Basis { grant, consent, approved: Some(claim), review: None };
    let granted = async {
        let terms = Terms::of(grant, run.access()?)?;
        carry_out(&terms, &basis, &granting).await
    };
    let mut report = match granted.await {
        Ok(report) => report,
        Err(error) => {
            let approved = || claim.row.decided(Stage::Approved, Some(&run.door), run.request_id(), run.now());
            let row = if claim.was_approved { approved() } else { claim.row.released() };
            settle(claim, &row, run).await;
            return Err(error);
        }
    };
    // If it is unknown whether there is access, the next approval continues the same grant.
    if let Ok(Answer::Text(text)) = &mut report.answer {
        let approved = claim.row.decided(Stage::Approved, Some(&run.door), run.request_id(), run.now());
        settle(claim, &approved, run).await;
        answer::warn(text, &answer::approval::approved(&claim.row, grant.minutes, &run.door));
        let decision = Decision::new(Outcome::Approved, "the request was approved");
        let decision = outcome::about_request(decision, &claim.row, Some(&run.door));
        report.decisions.insert(0, decision);
    }
    Ok(report)
}

/// Writes the row of a claimed request. A failure is no error: the request then waits again when the lease ends, and
/// another approval of it changes nothing.
async fn settle<S: Store>(claim: &Claim, row: &PendingRow, run: &Run<'_, S>) {
    let written = run.ledger.write(&claim.key, row, Some(claim.revision), run.request_id());
    if let Ok(Err(error)) = timeout_at(run.deadline(SETTLE_LIMIT), written).await {
        warn!(error = chain(&error), "a request was not settled");
    }
}

fn closed<S: Store>(row: &PendingRow, run: &Run<'_, S>) -> Report {
    let decision =
        Decision::new(Outcome::Approved, "the review of a break-glass grant was closed").about("review", "true");
    let mut report =
        Report::text(answer::approval::closed(row, &run.door), outcome::about_request(decision, row, Some(&run.door)));
    report.notices.push(notice::approval::closed(row, &run.door, run.invocation));
    report
}

/// The report about an attempt to approve or decline a request that changed nothing: who tried it, and what it was about.
pub(crate) fn failed<S: Store>(
    error: Error,
    code: &Code,
    row: Option<&PendingRow>,
    tried_by: &'static str,
    run: &Run<'_, S>,
) -> Report {
    let mut decision = outcome::of_error(&error, None).about("code", code.as_str());
    if let Some(row) = row {
        decision = outcome::about_request(decision, row, None);
    }
    let decisions = vec![decision.about(tried_by, run.door.as_str())];
    Report { answer: Err(error), decisions, notices: Vec::new(), settlement: None }
}
