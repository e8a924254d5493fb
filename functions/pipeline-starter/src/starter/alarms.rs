//! Reads the alarms of a bake.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use sekisho_domain::timestamp::from_epoch_millis;
use sekisho_lambda::ServiceError;
use time::OffsetDateTime;

use crate::bake::{Bake, Window};
use crate::judge::{Gap, MOST_ALARMS, ObservedAlarm, Reading, is_over, needs_history};
use crate::run::Run;
use crate::world::{Alarm, AlarmEvent, Extent, World};

/// The most histories that one invocation reads at the same time. CloudWatch throttles at 20 calls a second.
const MAX_HISTORIES: usize = 4;
/// How long before the window a history begins, so that it shows the state at the beginning.
const BEFORE: Duration = Duration::from_mins(1);

/// Reads the alarms of a bake and, after the window, also their history.
pub(crate) async fn read<W: World>(run: &Run<'_, W>, bake: &Bake, window: &Window, now: OffsetDateTime) -> Reading {
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
