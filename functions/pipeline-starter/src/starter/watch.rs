//! Watches the alarms of an order that bakes: reads the alarms, judges and reports.

use std::time::Duration;

use sekisho_domain::decision::Decision;
use sekisho_domain::report::ReportState;
use sekisho_domain::route::PipelineName;
use sekisho_domain::timestamp::{epoch_millis, from_epoch_millis, seconds};
use sekisho_ledger::Row;
use time::OffsetDateTime;

use crate::bake::{Bake, Window};
use crate::conclusion::after_verdict;
use crate::error::Error;
use crate::judge::{MOST_ALARMS, Reading, Verdict, cannot_tell, is_over, judge, judged_from};
use crate::order::{self, OrderRow, Progress};
use crate::outcome::{Outcome, about_order};
use crate::report::Place;
use crate::run::Run;
use crate::starter::alarms::{Hint, read};
use crate::starter::send;
use crate::world::World;

/// The shortest pause between two readings of the alarms by the follow-up, which runs once a minute, but not to the
/// second.
const PAUSE: Duration = Duration::from_secs(40);

/// Reads the alarms of an order that bakes, and writes and reports what follows. If the target goes back, the report is
/// left to the start of the rollback. Returns the new row, or `None` if another invocation has written the row.
pub(crate) async fn watch<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    row: &Row<OrderRow>,
    hint: Option<&Hint>,
) -> Result<Option<Row<OrderRow>>, Error> {
    let Some((bake, window)) = row.state.bake.as_ref().zip(row.state.window()) else { return Ok(None) };
    let (place, now) = (run.place(pipeline), run.alarms.at);
    let reading = read(run, bake, window, hint).await;
    let verdict = judge(bake, window, &reading, now);
    let after = after_verdict(&row.state, &verdict, &place, now);
    let after = after.unwrap_or_else(|| still_bakes(&row.state, bake, window, &reading, &place, now));
    let written = send::write_and_send(run, &order::key(pipeline), &after, Some(row.revision), Vec::new()).await?;
    Ok(written.map(|(state, revision)| Row { sk: row.sk.clone(), revision, state }))
}

/// The row after a reading without a verdict: the next reading comes later, and at the latest when the bake can be
/// judged. After the bake, a reading without a verdict has failed. If the first complete reading shows that the alarms
/// cannot tell, people need not wait for the end to learn that, so it is reported.
fn still_bakes(
    row: &OrderRow,
    bake: &Bake,
    window: &Window,
    reading: &Reading,
    place: &Place<'_>,
    now: OffsetDateTime,
) -> OrderRow {
    let is_first = window.watched.is_none() && reading.gap.is_none();
    let names = || reading.alarms.iter().map(|observed| observed.name.clone()).take(MOST_ALARMS).collect();
    let watched = window.watched.clone().or_else(|| is_first.then(names));
    let is_over = is_over(window, now);
    let failing_since = window.failing_since.or_else(|| is_over.then(|| epoch_millis(now)));
    let pause = epoch_millis(now + PAUSE);
    let check = if is_over { pause } else { pause.min(judged_from(window)) };
    let window = Window { watched, failing_since, ..window.clone() };
    let baking = Bake { window: Some(window), ..bake.clone() };
    let after = OrderRow { bake: Some(baking), progress: Progress::Running { check }, ..row.clone() };
    match cannot_tell(bake, reading.alarms.len()).filter(|_| is_first) {
        Some(why) => {
            let reason = format!("as things are, the bake cannot end healthy: {why}");
            after.report_at(after.next_at(now), ReportState::Baking, &reason, place)
        }
        None => after,
    }
}

/// The decision about an order whose bake has ended.
pub(crate) fn verdict_decision(after: &OrderRow, pipeline: &PipelineName) -> Option<Decision<Outcome>> {
    let outcome = match after.progress {
        Progress::Ended(ReportState::Healthy) => Outcome::Healthy,
        Progress::Ended(ReportState::Unknown) => Outcome::Unknown,
        Progress::Ended(_) | Progress::Waiting(_) => Outcome::Unhealthy,
        Progress::Running { .. } | Progress::Claimed(_) => return None,
    };
    let execution = after.way_back.as_ref().map_or(&after.execution, |way_back| &way_back.execution).clone();
    let decision = Decision::new(outcome, after.reason()).about_some("execution", execution);
    Some(about_order(after, pipeline, decision))
}

/// The decision that the next reading would lead to, for `explain`.
pub(crate) async fn explain<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    row: &OrderRow,
    hint: Option<&Hint>,
) -> Option<Decision<Outcome>> {
    let (bake, window) = row.bake.as_ref().zip(row.window())?;
    let now = run.alarms.at;
    let reading = read(run, bake, window, hint).await;
    let verdict = judge(bake, window, &reading, now);
    let after = after_verdict(row, &verdict, &run.place(pipeline), now);
    let decision = after.and_then(|after| verdict_decision(&after, pipeline));
    decision.or_else(|| (verdict == Verdict::Open).then(|| about_order(row, pipeline, still_open(window))))
}

fn still_open(window: &Window) -> Decision<Outcome> {
    let until = i64::try_from(window.until).ok().and_then(from_epoch_millis);
    let until = until.map(seconds).unwrap_or_default();
    Decision::new(Outcome::Waiting, format!("no alarm rings, and the bake lasts until {until}"))
}
