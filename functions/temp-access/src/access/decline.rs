//! Requests that are declined through another door, or withdrawn by whoever made them. A revoke withdraws all requests
//! for its principal.

use futures_util::future::join_all;
use sekisho_domain::access::{Access, Approval};
use sekisho_domain::code::Code;
use sekisho_domain::decision::Decision;
use sekisho_ledger::{Error as LedgerError, Store};
use tokio::time::timeout_at;

use crate::access::approve::{failed, find, read_requests};
use crate::access::requests::was_granted;
use crate::answer::approval as answer;
use crate::error::Error;
use crate::notice::approval as notice;
use crate::outcome::{self, Outcome};
use crate::pending::{self, PendingRow, Stage};
use crate::principal::Principal;
use crate::report::Report;
use crate::row;
use crate::run::{LedgerAnswer, PLAN_LIMIT, Run};

const NOTHING_DECLINED: &str = "Nothing was declined";
/// How many times a revoke tries to withdraw a request that others are changing.
const WITHDRAWALS: usize = 3;

/// Declines a request, or withdraws it.
pub(crate) async fn decline<S: Store>(code: &Code, run: &Run<'_, S>) -> Report {
    let mut found = None;
    let declined = timeout_at(run.deadline(PLAN_LIMIT), write(code, &mut found, run)).await;
    let row = match declined.unwrap_or(Err(Error::TooSlow(NOTHING_DECLINED))) {
        Ok(row) => row,
        Err(error) => return failed(error, code, found.as_ref(), "declined_by", run),
    };
    let is_own = row.door == run.door.as_str();
    let why = if is_own { "the request was withdrawn" } else { "the request was declined" };
    let decision = outcome::about_request(Decision::new(Outcome::Declined, why), &row, None);
    let mut report = Report::text(answer::declined(&row, is_own), decision.about("declined_by", run.door.as_str()));
    if !is_own {
        let how = format!("the request was declined at the door {}", run.door);
        report.notices.push(notice::ended(&row, &how, run.invocation));
    }
    report
}

/// Writes the decision to the request. `found` gets the request first, for the record of a refusal.
async fn write<S: Store>(code: &Code, found: &mut Option<PendingRow>, run: &Run<'_, S>) -> Result<PendingRow, Error> {
    loop {
        let (row, principal) = find(code, NOTHING_DECLINED, run).await?;
        *found = Some(row.state.clone());
        let now = run.now();
        pending::check_decline(&row.state, &principal, &run.door, run.access()?, run.request_id(), now)?;
        if row.state.stage == Stage::Approving && was_granted(&row.state, run).await != Some(false) {
            return Err(cut_off(&row.state));
        }
        let new = row.state.decided(Stage::Declined, Some(&run.door), run.request_id(), now);
        match run.ledger.write(&pending::key(row.sk), &new, Some(row.revision), run.request_id()).await {
            Ok(_) => return Ok(new),
            Err(LedgerError::Changed(_)) => run.wait_for_other(&principal).await?,
            Err(source) => return Err(Error::Ledger { outcome: NOTHING_DECLINED, source }),
        }
    }
}

/// The refusal to decline a request whose approval died after it had begun the grant. Only a revoke ends the access.
fn cut_off(row: &PendingRow) -> Error {
    let PendingRow { code, kind, name, .. } = row;
    Error::Refused(format!(
        "the approval of {code} was cut off and may have given the access: end it with \
         {{\"action\":\"revoke\",\"{kind}\":\"{name}\"}}, which also withdraws the request. {NOTHING_DECLINED}"
    ))
}

/// The requests that a revoke has withdrawn.
#[derive(Default)]
pub(crate) struct Withdrawal {
    pub(crate) withdrawn: Vec<PendingRow>,
    /// Whether there may be requests that were not withdrawn.
    pub(crate) is_incomplete: bool,
}

impl Withdrawal {
    /// A decision about each request.
    pub(crate) fn decisions(&self) -> impl Iterator<Item = Decision<Outcome>> {
        let decide = |row| {
            let decision = Decision::new(Outcome::Declined, "the request was withdrawn by a revoke");
            outcome::about_request(decision, row, None)
        };
        self.withdrawn.iter().map(decide)
    }
}

/// Whether any profile needs an approval.
pub(crate) fn has_approvals(access: &Access) -> bool {
    access.profiles.values().any(|profile| profile.approval == Approval::Another)
}

/// Withdraws every request for a principal, also one whose approval is being carried out: that approval then finds its
/// claim lost, or has claimed the row of its grant, which the revoke reads afterwards. Reviews stay.
pub(crate) async fn withdraw<S: Store>(principal: &Principal, run: &Run<'_, S>) -> Withdrawal {
    let prefix = row::prefix(principal);
    let mut withdrawal = Withdrawal::default();
    for _ in 0..WITHDRAWALS {
        withdrawal.is_incomplete = false;
        let LedgerAnswer::Done(requests) = run.try_ledger(read_requests(run, &prefix)).await else {
            withdrawal.is_incomplete = true;
            return withdrawal;
        };
        let is_unread = !requests.unreadable.is_empty();
        let open = requests.rows.into_iter().filter(|row| matches!(row.state.stage, Stage::Waiting | Stage::Approving));
        // The deletes of a revoke wait for this, so the rows are written at the same time.
        let written = join_all(open.map(async |row| {
            let was_open = row.state.is_waiting(run.now()) || row.state.stage == Stage::Approving;
            let new = row.state.decided(Stage::Declined, Some(&run.door), run.request_id(), run.now());
            let key = pending::key(row.sk);
            let written = run.ledger.write(&key, &new, Some(row.revision), run.request_id());
            (was_open, run.try_ledger(written).await, new)
        }));
        for (was_open, answer, new) in written.await {
            match answer {
                LedgerAnswer::Done(_) if was_open => withdrawal.withdrawn.push(new),
                LedgerAnswer::Done(_) => {}
                LedgerAnswer::Changed | LedgerAnswer::Lost => withdrawal.is_incomplete = true,
            }
        }
        if !withdrawal.is_incomplete {
            withdrawal.is_incomplete = is_unread;
            break;
        }
    }
    withdrawal
}
