//! Sends reports to the bus of the repository account.

use std::time::Duration;

use sekisho_domain::account::{AccountId, Region};
use sekisho_domain::change::Change;
use sekisho_domain::report::{OrderReport, REPORT_DETAIL_TYPE, REPORT_SOURCE};
use sekisho_lambda::eventbridge::{Entry, EntryResult, bus_arn};
use sekisho_ledger::{Key, Write};

use crate::error::Error;
use crate::notice;
use crate::order::{OrderRow, Progress};
use crate::run::{Run, Written};
use crate::world::World;

/// Puts a report on the bus in the account and region of the change's repository.
pub(crate) async fn put<W: World>(run: &Run<'_, W>, report: &OrderReport, change: &Change) -> EntryResult {
    let repository = &change.repository;
    // An ARN may name a region that does not exist; its report is refused.
    let (account, region) = match (repository.account().parse::<AccountId>(), repository.region().parse::<Region>()) {
        (Ok(account), Ok(region)) => (account, region),
        (Err(error), _) | (_, Err(error)) => return EntryResult::Refused(error.to_string()),
    };
    let detail = match serde_json::to_string(report) {
        Ok(detail) => detail,
        Err(error) => return EntryResult::Refused(error.to_string()),
    };
    let event = Entry {
        bus: bus_arn(&run.invocation.partition, &account, &region),
        account,
        source: REPORT_SOURCE,
        detail_type: REPORT_DETAIL_TYPE,
        resource: repository.to_string(),
        detail,
    };
    run.world.put_event(&region, &event).await
}

/// Sends the row's last report, if it has one, and returns the row with the result.
pub(crate) async fn send<W: World>(run: &Run<'_, W>, row: &OrderRow) -> OrderRow {
    let Some(last) = &row.report else { return row.clone() };
    let result = put(run, &last.report, &row.change).await;
    OrderRow { report: Some(last.after(&result, row.is_implicit, run.now())), ..row.clone() }
}

/// Sends the row's last report if the report is due, and returns the row with the result.
pub(crate) async fn send_if_due<W: World>(run: &Run<'_, W>, row: &OrderRow) -> OrderRow {
    let is_due = row.report.as_ref().is_some_and(|last| last.is_due(run.now()));
    if is_due { send(run, row).await } else { row.clone() }
}

/// Publishes the notice about a failed bake, if the row owes it, and returns the row with the result. If the topic does
/// not accept the notice, or if the time does not suffice, the follow-up publishes it.
pub(crate) async fn announce<W: World>(run: &Run<'_, W>, key: &Key, row: &OrderRow) -> OrderRow {
    if !row.owes_notice || !run.has_time_after(Duration::ZERO) {
        return row.clone();
    }
    let notice = notice::about_bake(row, &key.sk, &run.invocation.account, &run.invocation.region);
    OrderRow { owes_notice: run.world.publish(&notice).await.is_err(), ..row.clone() }
}

/// Writes a row, which may have a new report, together with other rows. Then sends the report if it is due, and writes
/// that it was sent. If the target goes back, the rollback comes first: its start sends the report and the notice.
/// Returns the row and its revision, or `None` if another invocation has written the row first.
pub(crate) async fn write_and_send<W: World>(
    run: &Run<'_, W>,
    key: &Key,
    row: &OrderRow,
    revision: Option<u64>,
    others: Vec<Write>,
) -> Result<Option<(OrderRow, u64)>, Error> {
    let Written::Revision(revision) = run.write_with(key, row, revision, others).await? else { return Ok(None) };
    let goes_back = row.way_back.is_some() && row.is_startable(true, run.now());
    if goes_back {
        return Ok(Some((row.clone(), revision)));
    }
    let sent = announce(run, key, &send_if_due(run, row).await).await;
    if sent == *row {
        return Ok(Some((sent, revision)));
    }
    // If another invocation has written the row in the meantime, this write changes nothing, and no later write with
    // this revision does. The follow-up then sends the report again, with the same time.
    Ok(match run.write(key, &sent, Some(revision)).await? {
        Written::Revision(revision) => Some((sent, revision)),
        Written::ChangedByAnother => Some((sent, revision)),
    })
}

/// Sends the last report again, as the answer to an order that starts nothing. If CodePipeline rejected the start, the
/// next follow-up tries again, because a person may have corrected the cause.
pub(crate) async fn answer<W: World>(run: &Run<'_, W>, key: &Key, row: &OrderRow, revision: u64) -> Result<(), Error> {
    let answered = send(run, row).await;
    let is_newly_sent = answered.report.as_ref().is_some_and(|last| last.is_sent) && !row.is_answered();
    let hurried = answered.hurried(run.now());
    // A write would keep the invocation that holds the claim from recording its result.
    let is_claimed = matches!(row.progress, Progress::Claimed(_));
    if !is_claimed && (is_newly_sent || hurried != answered) {
        run.write(key, &hurried, Some(revision)).await?;
    }
    Ok(())
}
