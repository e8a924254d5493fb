//! Reads the alarms of bakes. Many pipelines may watch the same alarms, and CloudWatch throttles at about 20 calls a
//! second, so the orders of an invocation share the answers.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use sekisho_domain::timestamp::from_epoch_millis;
use time::OffsetDateTime;
use tokio::sync::OnceCell;

use crate::bake::{Bake, Window};
use crate::judge::{Gap, MOST_ALARMS, ObservedAlarm, Reading, is_over, needs_history};
use crate::run::Run;
use crate::world::{Alarm, AlarmEvent, AlarmState, Extent, World};

/// The most histories that one order reads at the same time.
const MAX_HISTORIES: usize = 4;
/// How long before the window a history begins, so that it shows the state at the beginning.
const BEFORE: Duration = Duration::from_mins(1);
/// How long before the window the history of a deleted alarm begins, because nothing else shows the alarm's state.
/// CloudWatch keeps a history for at least this time.
const BEFORE_DELETION: Duration = Duration::from_hours(14 * 24);

/// The answer of CloudWatch, which several orders share.
type Shared<T> = Rc<OnceCell<Result<Rc<[T]>, Gap>>>;

/// An alarm that has changed its state, according to an event.
#[derive(Debug)]
pub(crate) struct Hint {
    alarm: String,
    /// The beginning of the history, before the bakes of all orders that watch the alarm.
    since: OffsetDateTime,
    history: Shared<AlarmEvent>,
}

impl Hint {
    /// The hint for bakes with these windows.
    pub(crate) fn new<'w>(alarm: &str, windows: impl Iterator<Item = &'w Window>, now: OffsetDateTime) -> Self {
        let since = windows.map(|window| beginning(window, now)).min().unwrap_or(now);
        Self { alarm: alarm.to_owned(), since: since - BEFORE, history: Shared::default() }
    }

    /// The history of the alarm, from the first call of the invocation.
    async fn history<W: World>(&self, run: &Run<'_, W>) -> Result<Rc<[AlarmEvent]>, Gap> {
        let read = || async { history(run, &self.alarm, self.since).await.map(Rc::from) };
        self.history.get_or_init(read).await.clone()
    }
}

/// Reads the alarms of a bake and, after the window, also their history. During the window, the history of the alarm
/// that an event is about shows whether it rang, although it may be quiet again. The first reading may come late, when
/// events about alarms have been ignored, so it reads the history of each alarm that has changed.
pub(crate) async fn read<W: World>(run: &Run<'_, W>, bake: &Bake, window: &Window, hint: Option<&Hint>) -> Reading {
    let is_over = is_over(window, run.alarms.at);
    // The first reading lists all alarms, because an alarm that is deleted later must be missed.
    let lists_all = is_over || window.watched.is_none();
    let extent = if lists_all { Extent::All } else { Extent::Ringing };
    let alarms = match matching(run, bake, extent, beginning(window, run.alarms.at)).await {
        Ok(alarms) => alarms,
        Err(gap) => return Reading { alarms: Vec::new(), gap: Some(gap) },
    };
    if lists_all && alarms.len() <= MOST_ALARMS {
        return with_histories(run, window, alarms).await;
    }
    let rings = |name: &str| alarms.get(name).is_some_and(|alarm| alarm.state == AlarmState::Ringing);
    let flapping = match hint.filter(|hint| !is_over && !rings(&hint.alarm)) {
        Some(hint) => Some((hint, hint.history(run).await)),
        None => None,
    };
    let observed = |(name, alarm)| ObservedAlarm { name, alarm: Some(alarm), history: Vec::new() };
    let mut reading = Reading { alarms: alarms.into_iter().map(observed).collect(), gap: None };
    match flapping {
        Some((hint, Ok(history))) => {
            let (name, history) = (hint.alarm.clone(), history.to_vec());
            match reading.alarms.iter_mut().find(|observed| observed.name == name) {
                Some(observed) => observed.history = history,
                None => reading.alarms.push(ObservedAlarm { name, alarm: None, history }),
            }
        }
        Some((_, Err(gap))) => reading.gap = Some(gap),
        None => {}
    }
    reading
}

/// All alarms, with the histories that can change the verdict.
async fn with_histories<W: World>(run: &Run<'_, W>, window: &Window, alarms: BTreeMap<String, Alarm>) -> Reading {
    let watched = window.watched.iter().flatten().cloned();
    let names: BTreeSet<String> = alarms.keys().cloned().chain(watched).collect();
    let since = beginning(window, run.alarms.at);
    // An alarm that rings during the window fails the bake without its history.
    let is_open = !is_over(window, run.alarms.at);
    let is_clear = |alarm: &Alarm| !needs_history(window, alarm) || (is_open && alarm.state == AlarmState::Ringing);
    let observed = names.into_iter().map(async |name| {
        let alarm = alarms.get(&name).cloned();
        if alarm.as_ref().is_some_and(is_clear) {
            return (ObservedAlarm { name, alarm, history: Vec::new() }, None);
        }
        let before = if alarm.is_some() { BEFORE } else { BEFORE_DELETION };
        match history(run, &name, since - before).await {
            Ok(history) => (ObservedAlarm { name, alarm, history }, None),
            Err(gap) => (ObservedAlarm { name, alarm, history: Vec::new() }, Some(gap)),
        }
    });
    let observed: Vec<_> = stream::iter(observed).buffered(MAX_HISTORIES).collect().await;
    let gap = observed.iter().filter_map(|(_, gap)| gap.clone()).max();
    Reading { alarms: observed.into_iter().map(|(observed, _)| observed).collect(), gap }
}

/// When the window begins.
fn beginning(window: &Window, now: OffsetDateTime) -> OffsetDateTime {
    i64::try_from(window.since).ok().and_then(from_epoch_millis).unwrap_or(now)
}

async fn history<W: World>(run: &Run<'_, W>, name: &str, since: OffsetDateTime) -> Result<Vec<AlarmEvent>, Gap> {
    if !run.has_time_after(Duration::ZERO) {
        return Err(Gap::Passing("the time does not suffice for the history of all alarms".to_owned()));
    }
    run.world.alarm_history(name, since, run.now()).await.map_err(|error| Gap::of(&error))
}

/// The alarms that a bake watches, by name, as they were at `since` or later.
pub(crate) async fn matching<W: World>(
    run: &Run<'_, W>,
    bake: &Bake,
    extent: Extent,
    since: OffsetDateTime,
) -> Result<BTreeMap<String, Alarm>, Gap> {
    let mut matching = BTreeMap::new();
    for prefix in bake.prefixes() {
        let list = run.alarms.read(run.world, prefix, extent, since).await?;
        let watched = list.iter().filter(|alarm| bake.watches(&alarm.name));
        matching.extend(watched.map(|alarm| (alarm.name.clone(), alarm.clone())));
    }
    Ok(matching)
}
