//! The widget of the dashboard: reads everything that the ledger has about access, with two queries.

use futures_util::future::try_join;
use sekisho_board::{Question, read};
use sekisho_domain::decision::Decision;
use sekisho_ledger::Store;
use tokio::time::timeout_at;

use crate::error::Error;
use crate::outcome::Outcome;
use crate::pending::{self, PendingRow};
use crate::report::Report;
use crate::row::{self, GrantRow};
use crate::run::{RECHECK_LIMIT, Run};
use crate::widget::{self, Grant, Records};

const OUTCOME: &str = "The widget could not be made";

/// The documentation or the HTML. IAM is not asked, because it is far away and answers late.
pub(crate) async fn show<S: Store>(payload: &str, run: &Run<'_, S>) -> Result<Report, Error> {
    let text = match read(payload, "access", run.now()).map_err(Error::Invalid)? {
        Question::Describe => widget::DOCUMENTATION.to_owned(),
        Question::Show(viewer) => widget::access(&viewer, &records(run).await?),
    };
    Ok(Report::text(text, Decision::new(Outcome::Listed, "the widget was requested")))
}

async fn records<'a, S: Store>(run: &Run<'a, S>) -> Result<Records<'a>, Error> {
    let grants = run.ledger.each::<GrantRow>(row::PARTITION, "");
    let requests = run.ledger.each::<PendingRow>(pending::PARTITION, "");
    let both = timeout_at(run.deadline(RECHECK_LIMIT), try_join(grants, requests)).await;
    let (grants, requests) =
        both.map_err(|_| Error::TooSlow(OUTCOME))?.map_err(|source| Error::Ledger { outcome: OUTCOME, source })?;
    let count = grants.len() + requests.len();
    let mut records =
        Records { grants: Vec::new(), requests: Vec::new(), unreadable: 0, access: run.access.as_ref().ok() };
    for row in grants.into_iter().filter_map(Result::ok) {
        if let Some((principal, profile)) = row::subject_of(&row.sk, &row.state) {
            records.grants.push(Grant { principal, profile: profile.to_owned(), row: row.state });
        }
    }
    records.requests.extend(requests.into_iter().filter_map(Result::ok).map(|row| row.state));
    records.unreadable = count - records.grants.len() - records.requests.len();
    Ok(records)
}
