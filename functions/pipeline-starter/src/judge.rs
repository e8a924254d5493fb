//! The verdict on a bake.
//!
//! During the bake, an alarm that rings fails the bake at once. At the end, the whole window is judged, however late
//! that is: an alarm that rang at any moment of the window fails the bake, also if no reading has seen it. What
//! happened after the window does not count. Whatever cannot be read leaves the result unknown.

use std::time::Duration;

use sekisho_domain::route::{AlarmGlobs, Missing};
use sekisho_domain::timestamp::{epoch_millis, from_epoch_millis, seconds};
use sekisho_lambda::ServiceError;
use time::OffsetDateTime;

use crate::bake::{Bake, Window};
use crate::world::{Alarm, AlarmChange, AlarmEvent, AlarmState};

/// The most alarms that one bake can watch.
pub(crate) const MOST_ALARMS: usize = 100;
/// The time after the window in which it is not judged yet. The clock of CloudWatch may be behind ours, and its history
/// may show a change some seconds late.
const SETTLING: Duration = Duration::from_secs(20);
/// The time for which a reading after the window is repeated if it fails.
const PATIENCE: Duration = Duration::from_hours(1);
/// How much later than the window's beginning the execution may have ended.
const PRECISION: Duration = Duration::from_secs(1);
/// The largest difference between the two times that CloudWatch gives for one change of a state.
const SAME_CHANGE: Duration = Duration::from_secs(2);

/// What the alarms of a bake showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// The alarms that match or matched at the beginning.
    pub(crate) alarms: Vec<ObservedAlarm>,
    /// What could not be read.
    pub(crate) gap: Option<Gap>,
}

/// What was read about an alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObservedAlarm {
    pub(crate) name: String,
    /// The alarm as the list shows it. `None` if the list does not have the alarm. The first list and the one after the
    /// window have all alarms that exist; the others have only those that ring.
    pub(crate) alarm: Option<Alarm>,
    /// The history from the beginning of the window until now. As long as the window is open, only an alarm that an
    /// event is about has one and, at the first reading, an alarm that has changed since the beginning.
    pub(crate) history: Vec<AlarmEvent>,
}

/// Why a reading is incomplete. A lasting reason is the greater one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Gap {
    /// CloudWatch throttled the call or did not answer.
    Passing(String),
    /// CloudWatch refused the call.
    Lasting(String),
}

impl Gap {
    /// The gap that a failed call leaves.
    pub(crate) fn of(error: &ServiceError) -> Self {
        let reason = format!("{error}: {}", error.description());
        if error.is_refused() { Self::Lasting(reason) } else { Self::Passing(reason) }
    }
}

/// The result of a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is no verdict yet. The alarms are read again.
    Open,
    /// The revision is healthy.
    Healthy(String),
    /// The revision is not healthy.
    Failed(String),
    /// Nobody can tell.
    Unknown(String),
}

/// The time from which the whole window is judged, in epoch milliseconds.
pub(crate) fn judged_from(window: &Window) -> u64 {
    window.until.saturating_add(millis(SETTLING))
}

/// Whether the window is over, so that the history must be read as well.
pub(crate) fn is_over(window: &Window, now: OffsetDateTime) -> bool {
    epoch_millis(now) >= judged_from(window)
}

/// Whether the history of an alarm can change the verdict. It cannot if the alarm has neither changed its state nor
/// been edited since the beginning of the window.
pub(crate) fn needs_history(window: &Window, alarm: &Alarm) -> bool {
    [alarm.changed, alarm.edited].iter().any(|time| time.is_none_or(|time| epoch_millis(time) >= window.since))
}

/// The verdict on a bake.
pub(crate) fn judge(bake: &Bake, window: &Window, reading: &Reading, now: OffsetDateTime) -> Verdict {
    let is_over = is_over(window, now);
    // An alarm that rang when a promoted order started is judged at the end.
    let counts = |observed: &ObservedAlarm| is_over || !bake.rang.contains(&observed.name);
    let rings = |observed: &&ObservedAlarm| counts(observed) && observed.rang(bake, window);
    if let Some(observed) = reading.alarms.iter().find(rings) {
        return Verdict::Failed(format!("alarm {} rang during the bake{}", observed.name, observed.time_in(window)));
    }
    if !is_over {
        return Verdict::Open;
    }
    let is_late = window.failing_since.is_some_and(|since| epoch_millis(now) >= since.saturating_add(millis(PATIENCE)));
    match &reading.gap {
        Some(Gap::Passing(_)) if !is_late => return Verdict::Open,
        Some(Gap::Passing(reason)) => {
            return Verdict::Unknown(format!("the alarms could not be read for an hour after the bake: {reason}"));
        }
        Some(Gap::Lasting(reason)) => return Verdict::Unknown(format!("the alarms cannot be read: {reason}")),
        None => {}
    }
    let alarms: Vec<&ObservedAlarm> = reading.alarms.iter().filter(|observed| !observed.is_later(window)).collect();
    if let Some(reason) = cannot_tell(bake, alarms.len()) {
        return Verdict::Unknown(reason);
    }
    for observed in &alarms {
        match observed.doubt(bake, window) {
            Some(Doubt::NotShownYet) if !is_late => return Verdict::Open,
            Some(Doubt::NotShownYet) => {
                let reason = format!("the history of alarm {} does not show its state during the bake", observed.name);
                return Verdict::Unknown(reason);
            }
            Some(Doubt::Lasting(what)) => {
                return Verdict::Unknown(format!("alarm {} {what}", observed.name));
            }
            None => {}
        }
    }
    let count = if alarms.len() == 1 { "1 alarm".to_owned() } else { format!("{} alarms", alarms.len()) };
    Verdict::Healthy(format!("{count} stayed quiet for {}{}", bake.length, too_short(bake, &alarms)))
}

/// Why the alarms cannot tell whether the revision is healthy, whatever they do. `count` is the number of alarms that
/// match.
pub(crate) fn cannot_tell(bake: &Bake, count: usize) -> Option<String> {
    if bake.alarms.is_empty() {
        let reason = "this account's own configuration has no alarms for the bake: give the target's wave `alarms`";
        return Some(reason.to_owned());
    }
    if count == 0 {
        return Some(format!("no alarm matches {}", patterns(bake)));
    }
    (count > MOST_ALARMS).then(|| {
        let patterns = patterns(bake);
        format!(
            "{count} alarms match {patterns}, and a bake can watch {MOST_ALARMS}: narrow the globs, or use a composite \
             alarm"
        )
    })
}

/// Why an alarm leaves the result unknown.
#[derive(Clone, Copy)]
enum Doubt {
    /// The history does not show yet which state the alarm had.
    NotShownYet,
    /// What is wrong with the alarm.
    Lasting(&'static str),
}

impl ObservedAlarm {
    /// Whether the alarm rings now, and not only since the end of the window.
    fn rings(&self, window: &Window) -> bool {
        let is_early = |alarm: &Alarm| alarm.changed.is_none_or(|changed| epoch_millis(changed) <= window.until);
        self.alarm.as_ref().is_some_and(|alarm| alarm.state == AlarmState::Ringing && is_early(alarm))
    }

    /// Whether the alarm counts as having rung in the window.
    fn rang(&self, bake: &Bake, window: &Window) -> bool {
        let ringing = Some(AlarmState::Ringing);
        if bake.rang.contains(&self.name) {
            return self.state_at(window.until) == ringing;
        }
        self.state_at(window.since) == ringing
            || self.state_at(window.until) == ringing
            || self.changes().any(|(at, _, to)| is_in(window, at) && to == AlarmState::Ringing)
    }

    /// When the alarm began to ring in the window, for the reason.
    fn time_in(&self, window: &Window) -> String {
        let began = self.changes().find(|(at, _, to)| is_in(window, *at) && *to == AlarmState::Ringing);
        let now = self.alarm.as_ref().filter(|_| self.rings(window)).and_then(|alarm| alarm.changed).map(epoch_millis);
        let at = began.map(|(at, ..)| at).or(now);
        let text = at.and_then(|at| from_epoch_millis(i64::try_from(at).ok()?)).map(seconds);
        text.map(|text| format!(", since {text}")).unwrap_or_default()
    }

    /// The changes of the state that the history shows: the time in epoch milliseconds, and the states before and
    /// after.
    fn changes(&self) -> impl Iterator<Item = (u64, AlarmState, AlarmState)> {
        self.history.iter().filter_map(|event| match event.what {
            AlarmChange::State { from, to } => Some((epoch_millis(event.at), from, to)),
            AlarmChange::Edited => None,
        })
    }

    /// The state at a time in epoch milliseconds. Returns `None` if the history does not show it.
    fn state_at(&self, time: u64) -> Option<AlarmState> {
        let last = self.changes().filter(|(at, ..)| *at <= time).max_by_key(|(at, ..)| *at);
        let present = self.alarm.as_ref().map(|alarm| (alarm.changed.map(epoch_millis), alarm.state));
        if let Some((Some(changed), state)) = present
            && changed <= time
            && last.is_none_or(|(at, ..)| at <= changed)
        {
            return Some(state);
        }
        if let Some((_, _, to)) = last {
            return Some(to);
        }
        let next = self.changes().filter(|(at, ..)| *at > time).min_by_key(|(at, ..)| *at);
        match (next, present) {
            // The alarm changed before that, and the history does not show how.
            (Some((at, ..)), Some((Some(changed), _))) if changed.saturating_add(millis(SAME_CHANGE)) < at => None,
            (Some((_, from, _)), _) => Some(from),
            (None, Some((None, state))) => Some(state),
            (None, _) => None,
        }
    }

    /// Why the alarm leaves the result unknown.
    fn doubt(&self, bake: &Bake, window: &Window) -> Option<Doubt> {
        let is_of_the_beginning = window.watched.as_ref().is_none_or(|watched| watched.contains(&self.name));
        let deleted = Doubt::Lasting("does not exist any more");
        if self.alarm.is_none() && !self.was_deleted_later(window) {
            return Some(deleted);
        }
        if is_of_the_beginning && self.was_edited(window) {
            return Some(Doubt::Lasting("was edited during the bake"));
        }
        if self.alarm.as_ref().is_some_and(|alarm| !alarm.is_evaluated) {
            return Some(Doubt::Lasting("cannot be evaluated by CloudWatch"));
        }
        let not_shown = if self.alarm.is_some() { Doubt::NotShownYet } else { deleted };
        match self.state_at(window.until) {
            None => Some(not_shown),
            Some(AlarmState::NoData) if bake.missing == Missing::Unknown => {
                Some(Doubt::Lasting("had no data at the end of the bake"))
            }
            // A state at the beginning that is not shown may have been ringing.
            Some(_) if is_of_the_beginning && !bake.rang.contains(&self.name) => {
                self.state_at(settled(window)).is_none().then_some(not_shown)
            }
            Some(_) => None,
        }
    }

    /// Whether somebody edited the alarm in the window. The deployment itself may have edited it just before.
    fn was_edited(&self, window: &Window) -> bool {
        self.edits().any(|at| is_in(window, at) && at > settled(window))
    }

    /// Whether the alarm, which does not exist any more, existed to the end of the window.
    fn was_deleted_later(&self, window: &Window) -> bool {
        !self.was_edited(window) && self.edits().any(|at| at > window.until)
    }

    /// Whether the alarm was created after the window.
    fn is_later(&self, window: &Window) -> bool {
        let is_new = window.watched.as_ref().is_some_and(|watched| !watched.contains(&self.name));
        let first = self.history.iter().map(|event| epoch_millis(event.at)).min();
        is_new && first.is_some_and(|first| first > window.until)
    }

    /// The times at which somebody created, edited or deleted the alarm, in epoch milliseconds.
    fn edits(&self) -> impl Iterator<Item = u64> {
        let edits = self.history.iter().filter(|event| event.what == AlarmChange::Edited).map(|event| event.at);
        edits.chain(self.alarm.as_ref().and_then(|alarm| alarm.edited)).map(epoch_millis)
    }
}

/// A remark if the bake is too short for one of its alarms to ring.
fn too_short(bake: &Bake, alarms: &[&ObservedAlarm]) -> String {
    let alarms = alarms.iter().filter_map(|observed| observed.alarm.as_ref());
    let slowest = alarms.filter_map(|alarm| Some((alarm.takes?, &alarm.name))).max();
    match slowest {
        Some((takes, name)) if takes > bake.length.duration() => {
            let (bake, takes) = (bake.length, takes.as_secs());
            format!("; the bake of {bake} is shorter than the {takes}s that alarm {name} takes to ring")
        }
        _ => String::new(),
    }
}

fn patterns(bake: &Bake) -> String {
    let patterns: Vec<String> = bake.alarms.iter().flat_map(AlarmGlobs::patterns).collect();
    patterns.join(", ")
}

/// When the execution has certainly ended. The time in an event has whole seconds, and another service has another
/// clock.
fn settled(window: &Window) -> u64 {
    window.since.saturating_add(millis(PRECISION))
}

fn is_in(window: &Window, at: u64) -> bool {
    (window.since..=window.until).contains(&at)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
