//! CloudWatch in one account and region: the alarms, and the truth about when they rang.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use pipeline_starter::world::{Alarm, AlarmChange, AlarmEvent, AlarmState, Extent};
use time::{Duration, OffsetDateTime};

/// The time that an alarm needs to ring.
const TAKES: std::time::Duration = std::time::Duration::from_mins(1);

/// The alarms of an account and region.
#[derive(Debug, Default)]
pub(crate) struct CloudWatch {
    alarms: RefCell<BTreeMap<String, Truth>>,
    /// The difference of CloudWatch's clock from the true time.
    pub(crate) skew: Cell<Duration>,
    /// The delay after which CloudWatch shows a change in the history of an alarm.
    pub(crate) lag: Cell<Duration>,
}

/// An alarm. The times are true times.
#[derive(Debug)]
struct Truth {
    state: AlarmState,
    changed: OffsetDateTime,
    edited: OffsetDateTime,
    is_deleted: bool,
    causes: Vec<Cause>,
    history: Vec<AlarmEvent>,
}

/// Why an alarm is not quiet for some time.
#[derive(Debug)]
struct Cause {
    from: OffsetDateTime,
    until: OffsetDateTime,
    state: AlarmState,
    /// Whether the commit that the pipeline deployed is the cause.
    is_commit: bool,
}

impl Truth {
    fn new(now: OffsetDateTime) -> Self {
        let history = vec![AlarmEvent { at: now, what: AlarmChange::Edited }];
        let state = AlarmState::Quiet;
        Self { state, changed: now, edited: now, is_deleted: false, causes: Vec::new(), history }
    }

    /// The state that the causes lead to at a time.
    fn caused(&self, at: OffsetDateTime) -> AlarmState {
        let mut active = self.causes.iter().filter(|cause| cause.from <= at && at < cause.until);
        let has = |state| move |cause: &Cause| cause.state == state;
        if active.clone().any(has(AlarmState::Ringing)) {
            return AlarmState::Ringing;
        }
        if active.any(has(AlarmState::NoData)) { AlarmState::NoData } else { AlarmState::Quiet }
    }

    /// Enters the changes up to now into the history. Returns whether there are any.
    fn advance(&mut self, now: OffsetDateTime) -> bool {
        let mut times: Vec<OffsetDateTime> = self.causes.iter().flat_map(|cause| [cause.from, cause.until]).collect();
        times.push(now);
        times.retain(|at| *at > self.changed && *at <= now);
        times.sort();
        let before = self.history.len();
        for at in times.into_iter().filter(|_| !self.is_deleted) {
            let to = self.caused(at);
            if to != self.state {
                let what = AlarmChange::State { from: self.state, to };
                self.history.push(AlarmEvent { at, what });
                (self.state, self.changed) = (to, at);
            }
        }
        self.causes.retain(|cause| cause.until > now);
        self.history.len() > before
    }

    fn edit(&mut self, now: OffsetDateTime) {
        self.edited = now;
        self.history.push(AlarmEvent { at: now, what: AlarmChange::Edited });
    }
}

impl CloudWatch {
    pub(crate) fn create(&self, name: &str, now: OffsetDateTime) {
        self.alarms.borrow_mut().insert(name.to_owned(), Truth::new(now));
    }

    fn with<T>(&self, name: &str, act: impl FnOnce(&mut Truth) -> T) -> Option<T> {
        self.alarms.borrow_mut().get_mut(name).map(act)
    }

    /// Lets time pass. Returns the names of the alarms whose state changed.
    pub(crate) fn advance(&self, now: OffsetDateTime) -> Vec<String> {
        let mut alarms = self.alarms.borrow_mut();
        let changed = alarms.iter_mut().filter_map(|(name, alarm)| alarm.advance(now).then(|| name.clone()));
        changed.collect()
    }

    /// The pipeline of an alarm has deployed a commit. What earlier commits caused ends after `rest`, and the new one
    /// makes the alarm ring after `rings`.
    pub(crate) fn deployed(&self, name: &str, now: OffsetDateTime, rest: Duration, rings: Option<Duration>) {
        self.with(name, |alarm| {
            for cause in alarm.causes.iter_mut().filter(|cause| cause.is_commit) {
                cause.until = cause.until.min(now + rest);
            }
            alarm.causes.retain(|cause| cause.from < cause.until);
            alarm.causes.extend(rings.map(|rings| Cause {
                from: now + rings,
                until: now + Duration::days(365),
                state: AlarmState::Ringing,
                is_commit: true,
            }));
        });
    }

    /// Makes an alarm ring, or have no data, for no reason that lies in a commit.
    pub(crate) fn disturb(&self, name: &str, state: AlarmState, now: OffsetDateTime, time: Duration) {
        self.with(name, |alarm| {
            alarm.causes.push(Cause { from: now, until: now + time, state, is_commit: false });
        });
    }

    pub(crate) fn edit(&self, name: &str, now: OffsetDateTime) {
        self.with(name, |alarm| alarm.edit(now));
    }

    /// Deletes an alarm, or creates it again.
    pub(crate) fn toggle(&self, name: &str, now: OffsetDateTime) {
        self.with(name, |alarm| {
            alarm.is_deleted = !alarm.is_deleted;
            alarm.edit(now);
        });
    }

    /// Ends everything that does not lie in a commit.
    pub(crate) fn repair(&self, now: OffsetDateTime) {
        for alarm in self.alarms.borrow_mut().values_mut() {
            if alarm.is_deleted {
                alarm.is_deleted = false;
                alarm.edit(now);
            }
            for cause in alarm.causes.iter_mut().filter(|cause| !cause.is_commit) {
                cause.until = cause.until.min(now);
            }
        }
        self.lag.set(Duration::ZERO);
    }

    /// The answer to `DescribeAlarms`.
    pub(crate) fn alarms(&self, prefix: &str, extent: Extent) -> Vec<Alarm> {
        let alarms = self.alarms.borrow();
        let listed = alarms.iter().filter(|(name, alarm)| {
            let is_listed = extent == Extent::All || alarm.state == AlarmState::Ringing;
            name.starts_with(prefix) && !alarm.is_deleted && is_listed
        });
        listed
            .map(|(name, alarm)| Alarm {
                name: name.clone(),
                state: alarm.state,
                changed: Some(alarm.changed + self.skew.get()),
                edited: Some(alarm.edited + self.skew.get()),
                is_evaluated: true,
                takes: Some(TAKES),
            })
            .collect()
    }

    /// The answer to `DescribeAlarmHistory`.
    pub(crate) fn history(
        &self,
        name: &str,
        (since, until): (OffsetDateTime, OffsetDateTime),
        now: OffsetDateTime,
    ) -> Vec<AlarmEvent> {
        let alarms = self.alarms.borrow();
        let events = alarms.get(name).map(|alarm| alarm.history.as_slice()).unwrap_or_default();
        let shown = events.iter().filter(|event| event.at + self.lag.get() <= now);
        let shown = shown.map(|event| AlarmEvent { at: event.at + self.skew.get(), ..*event });
        shown.filter(|event| since <= event.at && event.at <= until).collect()
    }

    /// Whether an alarm rang at any moment between two times.
    pub(crate) fn rang(&self, name: &str, from: OffsetDateTime, until: OffsetDateTime) -> bool {
        let alarms = self.alarms.borrow();
        let Some(alarm) = alarms.get(name) else { return false };
        let states = alarm.history.iter().filter_map(|event| match event.what {
            AlarmChange::State { to, .. } => Some((event.at, to)),
            AlarmChange::Edited => None,
        });
        let at_first = states.clone().take_while(|(at, _)| *at <= from).last();
        let mut later = states.filter(|(at, _)| from < *at && *at <= until);
        from <= until
            && (at_first.is_some_and(|(_, state)| state == AlarmState::Ringing)
                || later.any(|(_, state)| state == AlarmState::Ringing))
    }
}
