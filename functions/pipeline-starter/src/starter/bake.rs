//! Watches the alarms of orders that bake: reads the alarms, judges, reports, and begins the way back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use sekisho_domain::decision::Decision;
use sekisho_domain::report::ReportState;
use sekisho_domain::route::PipelineName;
use sekisho_domain::timestamp::{epoch_millis, from_epoch_millis, seconds};
use sekisho_lambda::ServiceError;
use sekisho_ledger::{Row, Store};
use time::OffsetDateTime;

use crate::bake::{Bake, Window};
use crate::error::Error;
use crate::judge::{Gap, MOST_ALARMS, ObservedAlarm, Reading, Verdict, is_over, judge, needs_history};
use crate::order::{self, OrderRow, Progress};
use crate::outcome::{Outcome, about_order, nothing_bakes};
use crate::request::ChangedAlarm;
use crate::results::{Recording, Results};
use crate::retreat::after_verdict;
use crate::run::Run;
use crate::starter::attempt::{Candidate, MAX_CONCURRENT};
use crate::starter::execution::{self, Decided};
use crate::starter::facts::claims_of;
use crate::starter::send;
use crate::world::{Alarm, AlarmEvent, Extent, World};

/// The shortest pause between two readings of the alarms by the follow-up, which runs once a minute, but not to the
/// second.
const PAUSE: Duration = Duration::from_secs(40);
/// The most histories that one invocation reads at the same time. CloudWatch throttles at 20 calls a second.
const MAX_HISTORIES: usize = 4;
/// How long before the window a history begins, so that it shows the state at the beginning.
const BEFORE: Duration = Duration::from_mins(1);

/// Handles the event about an alarm. The event is only a hint: the alarms of each order that watches it are read.
pub(crate) async fn alarm_changed<W: World>(run: &Run<'_, W>, alarm: &ChangedAlarm) -> Results {
    let rows = match baking(run, alarm).await {
        Ok(rows) => rows,
        Err(error) => return [Err(error)].into_iter().collect(),
    };
    let decided = stream::iter(rows).map(async |(pipeline, row)| watch(run, &pipeline, row, 0).await);
    let decided: Vec<Vec<Decided>> = decided.buffer_unordered(MAX_CONCURRENT).collect().await;
    let results: Results = decided.into_iter().flatten().collect();
    if results.decisions.is_empty() && results.failure.is_none() {
        return Results { recording: Recording::LogOnly, ..nothing_bakes(alarm).into() };
    }
    results
}

/// The orders that bake and watch this alarm.
pub(crate) async fn baking<W: World>(
    run: &Run<'_, W>,
    alarm: &ChangedAlarm,
) -> Result<Vec<(PipelineName, Row<OrderRow>)>, Error> {
    let rows = run.ledger().each::<OrderRow>(order::PARTITION, "").await?;
    // The follow-up reports rows that cannot be read.
    let watching = rows
        .into_iter()
        .flatten()
        .filter(|row| row.state.is_baking() && row.state.bake.as_ref().is_some_and(|bake| bake.watches(&alarm.name)));
    Ok(watching.filter_map(|row| Some((row.sk.parse().ok()?, row))).collect())
}

/// Reads the alarms of an order that bakes, and writes and reports what follows. If the target goes back, the rollback
/// is started; a start that CodePipeline defers is repeated at most `retries` times.
pub(crate) async fn watch<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    row: Row<OrderRow>,
    retries: usize,
) -> Vec<Decided> {
    match watch_once(run, pipeline, &row).await {
        Ok(Some((after, revision))) => {
            let mut decided: Vec<Decided> = verdict_decision(&after, pipeline).map(Ok).into_iter().collect();
            if after.is_startable(true, run.now()) {
                decided.extend(start_back(run, pipeline, &after, revision, retries).await);
            }
            decided
        }
        Ok(None) => Vec::new(),
        Err(error) => vec![Err(error)],
    }
}

/// Returns the new row and its revision, or `None` if another invocation has written the row.
async fn watch_once<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    row: &Row<OrderRow>,
) -> Result<Option<(OrderRow, u64)>, Error> {
    let Some((bake, window)) = row.state.bake.as_ref().zip(row.state.window()) else { return Ok(None) };
    let now = run.now();
    let reading = read(run, bake, window, now).await;
    let verdict = judge(bake, window, &reading, now);
    let after = after_verdict(&row.state, &verdict, &run.place(pipeline), now);
    let after = after.unwrap_or_else(|| still_bakes(&row.state, bake, window, &reading, now));
    send::write_and_send(run, &order::key(pipeline), &after, Some(row.revision), Vec::new()).await
}

/// The row after a reading without a verdict: the next reading comes later.
fn still_bakes(row: &OrderRow, bake: &Bake, window: &Window, reading: &Reading, now: OffsetDateTime) -> OrderRow {
    let names = || reading.alarms.iter().map(|observed| observed.name.clone()).take(MOST_ALARMS).collect();
    let watched = window.watched.clone().or_else(|| reading.gap.is_none().then(names));
    let bake = Bake { window: Some(Window { watched, ..window.clone() }), ..bake.clone() };
    let progress = Progress::Running { check: epoch_millis(now + PAUSE) };
    OrderRow { bake: Some(bake), progress, ..row.clone() }
}

/// The decision about an order whose bake has ended.
pub(crate) fn verdict_decision(after: &OrderRow, pipeline: &PipelineName) -> Option<Decision<Outcome>> {
    let outcome = match after.progress {
        Progress::Ended(ReportState::Healthy) => Outcome::Healthy,
        Progress::Ended(ReportState::Unknown) => Outcome::Unknown,
        Progress::Ended(_) | Progress::Waiting(_) => Outcome::Unhealthy,
        Progress::Running { .. } | Progress::Claimed(_) => return None,
    };
    let execution = after.retreat.as_ref().map_or(&after.execution, |retreat| &retreat.execution).clone();
    let decision = Decision::new(outcome, after.reason()).about_some("execution", execution);
    Some(about_order(after, pipeline, decision))
}

/// Starts the rollback of a target that goes back by itself.
async fn start_back<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    row: &OrderRow,
    revision: u64,
    retries: usize,
) -> Vec<Decided> {
    match claims_of(run, pipeline, &row.change).await {
        Ok(claims) => {
            let candidate = Candidate { row: row.claimed(run.now()), revision: Some(revision), claims };
            execution::start(run, pipeline, candidate, retries).await
        }
        Err(error) => vec![Err(error)],
    }
}

/// Reads the alarms of a bake and, after the window, also their history.
async fn read<W: World>(run: &Run<'_, W>, bake: &Bake, window: &Window, now: OffsetDateTime) -> Reading {
    let is_over = is_over(window, now);
    // The first reading lists all alarms, because an alarm that is deleted later must be missed.
    let extent = if is_over || window.watched.is_none() { Extent::All } else { Extent::Ringing };
    let alarms = match matching(run, bake, extent).await {
        Ok(alarms) => alarms,
        Err(error) => return Reading { alarms: Vec::new(), gap: Some(gap(&error)) },
    };
    if !is_over || alarms.len() > MOST_ALARMS {
        let observed = |(name, alarm)| ObservedAlarm { name, alarm: Some(alarm), history: Vec::new() };
        return Reading { alarms: alarms.into_iter().map(observed).collect(), gap: None };
    }
    let watched = window.watched.iter().flatten().cloned();
    let names: BTreeSet<String> = alarms.keys().cloned().chain(watched).collect();
    let observed = names.into_iter().map(async |name| {
        let alarm = alarms.get(&name).cloned();
        if alarm.as_ref().is_some_and(|alarm| !needs_history(window, alarm)) {
            return (ObservedAlarm { name, alarm, history: Vec::new() }, None);
        }
        match history(run, window, &name, now).await {
            Ok(history) => (ObservedAlarm { name, alarm, history }, None),
            Err(gap) => (ObservedAlarm { name, alarm, history: Vec::new() }, Some(gap)),
        }
    });
    let observed: Vec<_> = stream::iter(observed).buffered(MAX_HISTORIES).collect().await;
    let gap = observed.iter().filter_map(|(_, gap)| gap.clone()).max();
    Reading { alarms: observed.into_iter().map(|(observed, _)| observed).collect(), gap }
}

async fn history<W: World>(
    run: &Run<'_, W>,
    window: &Window,
    name: &str,
    now: OffsetDateTime,
) -> Result<Vec<AlarmEvent>, Gap> {
    if !run.has_time_after(Duration::ZERO) {
        return Err(Gap::Passing("the time does not suffice for the history of all alarms".to_owned()));
    }
    let since = i64::try_from(window.since).ok().and_then(from_epoch_millis).unwrap_or(now);
    run.world.alarm_history(name, since - BEFORE, now).await.map_err(|error| gap(&error))
}

/// The alarms that a bake watches, by name.
pub(crate) async fn matching<W: World>(
    run: &Run<'_, W>,
    bake: &Bake,
    extent: Extent,
) -> Result<BTreeMap<String, Alarm>, ServiceError> {
    let mut matching = BTreeMap::new();
    for prefix in bake.prefixes() {
        let listed = run.world.alarms(prefix, extent).await?.into_iter();
        matching.extend(listed.filter(|alarm| bake.watches(&alarm.name)).map(|alarm| (alarm.name.clone(), alarm)));
    }
    Ok(matching)
}

fn gap(error: &ServiceError) -> Gap {
    let reason = format!("{error}: {}", error.description());
    if error.is_refused() { Gap::Lasting(reason) } else { Gap::Passing(reason) }
}

/// The decision that the next reading would lead to, for `explain`.
pub(crate) async fn explain<W: World>(
    run: &Run<'_, W>,
    pipeline: &PipelineName,
    row: &OrderRow,
) -> Option<Decision<Outcome>> {
    let (bake, window) = row.bake.as_ref().zip(row.window())?;
    let now = run.now();
    let reading = read(run, bake, window, now).await;
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
