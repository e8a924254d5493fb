//! The ledger's row of a train: the changes that a route has seen, and how far each wave of the route is.

mod candidates;
mod gone;
mod layout;
mod plain;

use sekisho_domain::change::{Change, RepositoryArn, Revision, SourceRef};
use sekisho_domain::route::TargetId;
use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::Key;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

pub(crate) use self::plain::held_targets;

/// The number of changes that a row keeps, besides those to which a wave refers.
const CHANGES_KEPT: usize = 50;
/// The number of condemnations that a row keeps. A row of the ledger holds 400 KB.
const CONDEMNED_KEPT: usize = 150;
/// The longest reason that a row keeps, in characters. Every transaction of a train writes the whole row.
const LONGEST_REASON: usize = 300;

/// The key of a train's row.
#[must_use]
pub fn key(route: &str) -> Key {
    Key::state(format!("train#{route}"))
}

/// The row of a train. A route without waves has a row only if a person held the route, or if it had waves before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainRow {
    /// The largest sequence that the train gave to a change.
    #[serde(default)]
    pub sequence: u64,
    /// The changes, in the order in which the relay saw them.
    #[serde(default)]
    pub changes: Vec<TrainChange>,
    /// The waves, in the order of the configuration.
    #[serde(default)]
    pub waves: Vec<WaveRow>,
    /// The revisions that enter no wave, oldest first.
    #[serde(default)]
    pub condemned: Vec<Condemned>,
    /// The holds, oldest first. A hold whose wave is gone applies to the whole train.
    #[serde(default)]
    pub holds: Vec<Hold>,
    /// The images that are not ordered any more, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<Gone>,
}

/// A change that the train saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainChange {
    /// Identifies the change within the train for ever: the sequence with which it arrived. A change that was seen
    /// later has a larger value.
    pub seen: u64,
    /// The change. If it is ordered again, it gets a new sequence.
    pub change: Change,
    /// Whether each wave that has not found the change healthy may take it once more, because its condemnation ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
}

/// The state of a wave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaveRow {
    /// The wave's name.
    pub name: String,
    /// The targets of the wave. A target that joins the wave becomes a member when it is ordered to run what was
    /// healthy last in the wave, or at once if it needs no order.
    #[serde(default)]
    pub members: Vec<TargetId>,
    /// The change that entered the wave last.
    #[serde(default)]
    pub passage: Option<Passage>,
    /// The largest `seen` of the changes that entered the wave, or 0.
    #[serde(default)]
    pub newest: u64,
    /// The `seen` of the changes that were healthy in the wave, sorted.
    #[serde(default)]
    pub healthy: Vec<u64>,
    /// The `seen` of the change that a person lets enter the wave next, ahead of the train.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotion: Option<u64>,
}

/// A change's stay in a wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// Which change entered.
    pub seen: u64,
    /// The sequence that the change had when it entered. An order with a smaller one is from an earlier stay.
    pub sequence: u64,
    /// Whether a person promoted the change, so that holds, windows and ringing alarms do not stop it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub promoted: bool,
    /// What the wave says about the change.
    pub verdict: Verdict,
    /// The targets that failed, once the wave has failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<TargetId>,
    /// The newcomers that failed, too. They are no reason for the verdict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_newcomers: Vec<TargetId>,
    /// Whether a person sends all targets of the wave back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recalled: bool,
}

/// What a wave says about a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The wave works on the change.
    Open,
    /// The change was healthy.
    Passed,
    /// The change failed, or was sent back.
    Failed,
}

/// A revision that enters no wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condemned {
    /// The repository.
    pub repository: RepositoryArn,
    /// The revision.
    pub revision: Revision,
    /// The change that failed.
    pub seen: u64,
    /// When the revision was condemned, in epoch milliseconds.
    pub at: u64,
    /// Why.
    pub reason: String,
    /// The wave or the person that condemned it.
    pub by: Judge,
}

/// An image that was deleted or archived after the train saw it, or after it was healthy in a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// The repository.
    pub repository: RepositoryArn,
    /// The digest.
    pub revision: Revision,
}

/// Who condemned a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Judge {
    /// The wave of this name.
    Wave(String),
    /// A person, with the name as far as that is known.
    Person(Option<String>),
}

/// A person's request that nothing enters a wave or the train.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The wave; `None` holds the whole train.
    pub wave: Option<String>,
    /// The only reference whose changes are held; `None` holds all changes.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub source_ref: Option<SourceRef>,
    /// The reason that the person gave.
    pub reason: String,
    /// When the hold ends by itself, in epoch milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Who asked, as far as that is known.
    pub by: Option<String>,
    /// When the hold began, in epoch milliseconds.
    pub since: u64,
}

/// What a new head means for a train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The head is a new change.
    Joined,
    /// The head is a new change that enters no wave, because its revision is condemned.
    Condemned,
    /// The train's newest change has this revision.
    Duplicate,
}

impl TrainRow {
    /// The change with this `seen`.
    #[must_use]
    pub fn change(&self, seen: u64) -> Option<&TrainChange> {
        self.changes.iter().find(|one| one.seen == seen)
    }

    fn change_mut(&mut self, seen: u64) -> Option<&mut TrainChange> {
        self.changes.iter_mut().find(|one| one.seen == seen)
    }

    /// The change that was seen last.
    #[must_use]
    pub fn newest(&self) -> Option<&TrainChange> {
        self.changes.last()
    }

    /// The wave of this name.
    #[must_use]
    pub fn wave(&self, name: &str) -> Option<&WaveRow> {
        self.waves.iter().find(|wave| wave.name == name)
    }

    fn wave_mut(&mut self, name: &str) -> Option<&mut WaveRow> {
        self.waves.iter_mut().find(|wave| wave.name == name)
    }

    /// The condemnation of a change's revision, from whichever reference the revision comes.
    #[must_use]
    pub fn condemnation(&self, change: &Change) -> Option<&Condemned> {
        self.condemned.iter().rfind(|one| one.repository == change.repository && one.revision == change.revision)
    }

    /// A sequence that is larger than every sequence of the train.
    pub fn next_sequence(&mut self, now: OffsetDateTime) -> u64 {
        self.sequence = epoch_millis(now).max(self.sequence + 1);
        self.sequence
    }

    /// Adds a new head, unless the newest change has this revision. The sequence of `change` must be larger than
    /// `sequence` of this row.
    pub fn arrive(&mut self, change: &Change) -> Arrival {
        let is_condemned = self.condemnation(change).is_some();
        let is_newest =
            |one: &TrainChange| one.change.repository == change.repository && one.change.revision == change.revision;
        if self.newest().is_some_and(is_newest) && !self.is_gone(change) {
            return if is_condemned { Arrival::Condemned } else { Arrival::Duplicate };
        }
        self.forget_gone(change);
        let seen = change.sequence.max(self.sequence + 1);
        self.sequence = seen;
        let change = Change { sequence: seen, ..change.clone() };
        self.changes.push(TrainChange { seen, change, again: false });
        self.prune();
        if is_condemned { Arrival::Condemned } else { Arrival::Joined }
    }

    /// Forgets old changes to which no wave refers.
    fn prune(&mut self) {
        let referred: Vec<u64> = self.waves.iter().flat_map(WaveRow::referred).collect();
        let old = self.changes.len().saturating_sub(CHANGES_KEPT);
        let mut index = 0;
        self.changes.retain(|one| {
            index += 1;
            index > old || referred.contains(&one.seen)
        });
        for wave in &mut self.waves {
            wave.healthy.retain(|seen| self.changes.iter().any(|one| one.seen == *seen));
        }
    }

    /// Gives a change a new sequence, because it is ordered again.
    pub fn order_again(&mut self, seen: u64, now: OffsetDateTime) {
        let sequence = self.next_sequence(now);
        if let Some(one) = self.change_mut(seen) {
            one.change.sequence = sequence;
        }
    }

    /// Condemns the revision of a change. Several waves and persons may condemn one revision.
    pub fn condemn(&mut self, seen: u64, by: Judge, reason: &str, now: OffsetDateTime) {
        let Some(one) = self.change_mut(seen) else { return };
        one.again = false;
        let Change { repository, revision, .. } = one.change.clone();
        self.condemned.retain(|one| one.seen != seen || one.by != by);
        let reason = bounded(reason);
        self.condemned.push(Condemned { repository, revision, seen, at: epoch_millis(now), reason, by });
        let old = self.condemned.len().saturating_sub(CONDEMNED_KEPT);
        self.condemned.drain(..old);
    }

    /// Lets a condemned revision be tried again. The change is the newest one with this revision; it gets a new
    /// sequence. Returns the change, or `None` if the revision is not condemned or the train forgot its changes.
    pub fn pardon(&mut self, repository: &RepositoryArn, revision: &Revision, now: OffsetDateTime) -> Option<u64> {
        let is_same = |of: &RepositoryArn, one: &Revision| of == repository && one == revision;
        let count = self.condemned.len();
        self.condemned.retain(|one| !is_same(&one.repository, &one.revision));
        if self.condemned.len() == count {
            return None;
        }
        let one = self.changes.iter_mut().rfind(|one| is_same(&one.change.repository, &one.change.revision))?;
        one.again = true;
        let (seen, change) = (one.seen, one.change.clone());
        self.forget_gone(&change);
        self.order_again(seen, now);
        Some(seen)
    }

    /// Lets each wave that has not found a change healthy take it once more.
    pub(crate) fn try_again(&mut self, seen: u64) {
        if let Some(one) = self.change_mut(seen) {
            one.again = true;
        }
    }

    /// Lets a change enter a wave as soon as the wave is free, or starts it at once where it waits in the wave already.
    /// The change gets a new sequence. Returns false if there is no such wave or change.
    pub fn promote(&mut self, wave: &str, seen: u64, now: OffsetDateTime) -> bool {
        let Some(change) = self.change(seen).map(|one| one.change.clone()) else { return false };
        let Some(wave) = self.wave_mut(wave) else { return false };
        wave.promotion = Some(seen);
        self.forget_gone(&change);
        self.order_again(seen, now);
        true
    }

    /// Condemns the last change of a wave and sends all targets of the wave back that have it. Returns the change, or
    /// `None` if no change entered the wave yet.
    pub fn recall(&mut self, wave: &str, by: Option<String>, reason: &str, now: OffsetDateTime) -> Option<u64> {
        let wave = self.wave_mut(wave)?;
        let passage = wave.passage.as_mut()?;
        (passage.verdict, passage.recalled) = (Verdict::Failed, true);
        let seen = passage.seen;
        wave.healthy.retain(|healthy| *healthy != seen);
        if wave.promotion == Some(seen) {
            wave.promotion = None;
        }
        // A person may have restored an image.
        self.gone.clear();
        self.condemn(seen, Judge::Person(by), reason, now);
        Some(seen)
    }

    /// Adds a hold. If the same wave and reference are held already, the later end counts and both reasons are kept, so
    /// that a short hold never ends a long one. Returns the earlier hold.
    pub fn hold(&mut self, hold: Hold) -> Option<Hold> {
        let is_same = |one: &mut Hold| one.wave == hold.wave && one.source_ref == hold.source_ref;
        let earlier = self.holds.extract_if(.., is_same).last();
        let earlier = earlier.filter(|one| one.until.is_none_or(|until| hold.since < until));
        let merged = match &earlier {
            None => hold,
            Some(earlier) => Hold {
                until: earlier.until.zip(hold.until).map(|(one, other)| one.max(other)),
                reason: joined(&hold.reason, &earlier.reason),
                ..hold
            },
        };
        self.holds.push(merged);
        earlier
    }

    /// Ends the holds of a wave, with every reference, or those of the train if `wave` is `None`. Holds of waves that
    /// are gone count as holds of the train, too. Returns the holds that ended.
    pub fn resume(&mut self, wave: Option<&str>) -> Vec<Hold> {
        let holds = std::mem::take(&mut self.holds);
        let is_named = |hold: &Hold| match wave {
            Some(_) => hold.wave.as_deref() == wave,
            None => self.holds_train(hold),
        };
        let (ended, kept) = holds.into_iter().partition(is_named);
        self.holds = kept;
        ended
    }

    /// Whether a hold applies to the whole train.
    #[must_use]
    pub fn holds_train(&self, hold: &Hold) -> bool {
        hold.wave.as_deref().is_none_or(|name| self.wave(name).is_none())
    }

    /// The hold that keeps a reference's changes out of a wave, if there is one.
    #[must_use]
    pub fn hold_on(&self, wave: &str, source_ref: &SourceRef, now: OffsetDateTime) -> Option<&Hold> {
        self.holds.iter().find(|hold| {
            hold.is_active(now)
                && hold.source_ref.as_ref().is_none_or(|held| held == source_ref)
                && (hold.wave.as_deref() == Some(wave) || self.holds_train(hold))
        })
    }
}

impl WaveRow {
    /// The changes to which the wave refers.
    fn referred(&self) -> impl Iterator<Item = u64> {
        let passage = self.passage.as_ref().map(|passage| passage.seen);
        passage.into_iter().chain(self.promotion).chain(self.healthy.last().copied())
    }

    /// Notes that a change was healthy in the wave.
    pub(crate) fn add_healthy(&mut self, seen: u64) {
        if let Err(place) = self.healthy.binary_search(&seen) {
            self.healthy.insert(place, seen);
        }
    }

    /// The change in the wave, as long as the wave works on it.
    #[must_use]
    pub fn open(&self) -> Option<&Passage> {
        self.passage.as_ref().filter(|passage| passage.verdict == Verdict::Open)
    }
}

/// A reason, cut to the longest one that a row keeps.
fn bounded(reason: &str) -> String {
    match reason.char_indices().nth(LONGEST_REASON) {
        Some((end, _)) => format!("{}…", reason.get(..end).unwrap_or_default()),
        None => reason.to_owned(),
    }
}

/// The reasons of two holds, the newer one first.
fn joined(newer: &str, earlier: &str) -> String {
    if earlier.contains(newer) { earlier.to_owned() } else { bounded(&format!("{newer}; before: {earlier}")) }
}

impl Hold {
    /// Whether the hold has not ended by itself.
    #[must_use]
    pub fn is_active(&self, now: OffsetDateTime) -> bool {
        self.until.is_none_or(|until| epoch_millis(now) < until)
    }
}

#[cfg(test)]
mod tests;
