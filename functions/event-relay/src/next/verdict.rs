//! The verdict of a wave on its change.

use sekisho_domain::route::{Retreat, TargetId};

use super::{At, Step};
use crate::outcome::Outcome;
use crate::status::shortened;
use crate::target::{Progress, TargetRow};
use crate::train::{Judge, Passage, Verdict, WaveRow};
use crate::wave::{Judgment, Standing, WaveState};

/// The most targets that a reason names.
const MOST_NAMED: usize = 3;

impl<'a> Step<'a> {
    /// Judges the change in a wave by the reports of its targets.
    pub(super) fn judge(&mut self, at: At<'a>) {
        let Some(passage) = self.wave(at).and_then(|wave| wave.passage.clone()) else { return };
        let accepted = self.accepted_failures(at, &passage);
        self.judge_accepted(at, &passage, &accepted);
        let state = self.state(at);
        match passage.verdict {
            Verdict::Failed => self.judge_failed(at, &passage, &state),
            // A person said that these targets are healthy, so no failure of theirs is tolerated.
            _ if accepted.iter().any(|(seen, _)| *seen == passage.seen) => self.fail(at, &passage, &state),
            Verdict::Open | Verdict::Passed => {
                let is_gone = self.row.change(passage.seen).is_some_and(|one| self.row.is_gone(&one.change));
                let is_ended = self.is_condemned(passage.seen) || is_gone;
                match state.judge(at.wave.tolerate, is_ended) {
                    // An unknown target that was accepted may fail later.
                    Judgment::Failed if passage.verdict == Verdict::Open || has_too_many(at, &state) => {
                        self.fail(at, &passage, &state);
                    }
                    Judgment::Passed if passage.verdict == Verdict::Open => self.pass(at, &passage),
                    Judgment::Abandoned if passage.verdict == Verdict::Open => self.set_verdict(at, Verdict::Failed),
                    _ => {}
                }
            }
        }
    }

    /// The changes that failed in targets of the wave that a person had taken for healthy, and these targets.
    fn accepted_failures(&self, at: At<'a>, passage: &Passage) -> Vec<(u64, TargetId)> {
        let failures = self.targets_of(at).filter_map(|(target, row)| {
            let (order, of) = self.observer.own(row?)?;
            let has_failed = row?.progress(self.now) == Some(Progress::Failed);
            // A person who pardoned the change knew the report.
            let is_news = if of.seen == passage.seen {
                order.change.sequence >= passage.sequence
            } else {
                self.row.change(of.seen).is_some_and(|one| !one.again)
            };
            (of.accepted && !of.joined && has_failed && is_news).then(|| (of.seen, target.clone()))
        });
        failures.collect()
    }

    /// Condemns earlier changes of the wave that failed in a target which a person had taken for healthy.
    fn judge_accepted(&mut self, at: At<'a>, passage: &Passage, failures: &[(u64, TargetId)]) {
        for (seen, target) in failures.iter().filter(|(seen, _)| *seen != passage.seen) {
            let seen = *seen;
            let Some(change) = self.row.change(seen).map(|one| one.change.clone()) else { continue };
            if self.is_condemned(seen) {
                continue;
            }
            let reason = self.reason(std::slice::from_ref(target));
            self.forget_healthy(at, seen);
            self.row.condemn(seen, Judge::Wave(at.wave.name.clone()), &reason, self.now);
            self.examine_condemned();
            self.decide_about(at, &change, Outcome::Condemned, reason);
        }
    }

    /// Selects the waves that work on a condemned change: a target that waits there must not start it.
    fn examine_condemned(&mut self) {
        let works = |at: &At<'a>| self.wave(*at).and_then(WaveRow::open).is_some_and(|of| self.is_condemned(of.seen));
        let waves: Vec<usize> = self.waves().filter(works).map(|at| at.index).collect();
        self.examined.extend(waves);
    }

    pub(super) fn is_condemned(&self, seen: u64) -> bool {
        self.row.change(seen).is_some_and(|one| self.row.condemnation(&one.change).is_some())
    }

    fn set_verdict(&mut self, at: At<'a>, verdict: Verdict) {
        if let Some(passage) = self.wave_mut(at).and_then(|wave| wave.passage.as_mut()) {
            passage.verdict = verdict;
        }
    }

    fn pass(&mut self, at: At<'a>, passage: &Passage) {
        self.set_verdict(at, Verdict::Passed);
        if let Some(wave) = self.wave_mut(at) {
            wave.add_healthy(passage.seen);
        }
        // The next wave may have a change that no target has started yet.
        self.examined.extend(self.waves().nth(at.index + 1).map(|next| next.index));
    }

    /// Fails a wave: its change is condemned.
    fn fail(&mut self, at: At<'a>, passage: &Passage, state: &WaveState) {
        let failed = self.failed_targets(at, state);
        let failed_newcomers = self.failed_newcomers(at, state, &failed);
        let reason = self.reason(&failed);
        self.forget_healthy(at, passage.seen);
        if let Some(passage) = self.wave_mut(at).and_then(|wave| wave.passage.as_mut()) {
            passage.verdict = Verdict::Failed;
            (passage.failed, passage.failed_newcomers) = (failed, failed_newcomers);
        }
        if at.wave.retreat == Retreat::Train {
            self.fail_earlier(at, passage.seen);
        }
        let is_condemned = self.is_condemned(passage.seen);
        self.row.condemn(passage.seen, Judge::Wave(at.wave.name.clone()), &reason, self.now);
        self.examine_condemned();
        if let Some(change) = self.row.change(passage.seen).map(|one| one.change.clone()).filter(|_| !is_condemned) {
            self.decide_about(at, &change, Outcome::Condemned, reason);
        }
    }

    /// The waves before this one take back what they said about the change.
    fn fail_earlier(&mut self, at: At<'a>, seen: u64) {
        for earlier in self.waves().take(at.index) {
            self.forget_healthy(earlier, seen);
            let passage = self.wave_mut(earlier).and_then(|wave| wave.passage.as_mut());
            if let Some(passage) = passage.filter(|passage| passage.seen == seen) {
                passage.verdict = Verdict::Failed;
            }
            self.examined.insert(earlier.index);
        }
    }

    fn forget_healthy(&mut self, at: At<'a>, seen: u64) {
        if let Some(wave) = self.wave_mut(at) {
            wave.healthy.retain(|healthy| *healthy != seen);
        }
    }

    /// The targets that failed, of those that decide about the change.
    fn failed_targets(&self, at: At<'a>, state: &WaveState) -> Vec<TargetId> {
        let targets: &[TargetId] = self.targets.get(at.index).map(Vec::as_slice).unwrap_or_default();
        let failed = state.counted().filter(|(_, standing)| *standing == Standing::Failed);
        failed.filter_map(|(index, _)| targets.get(index).cloned()).collect()
    }

    /// The newcomers that failed. `failed` has the other targets.
    fn failed_newcomers(&self, at: At<'a>, state: &WaveState, failed: &[TargetId]) -> Vec<TargetId> {
        let targets = self.targets.get(at.index).into_iter().flatten().zip(&state.places);
        let others = targets.filter(|(target, place)| place.standing == Standing::Failed && !failed.contains(target));
        others.map(|(target, _)| target.clone()).collect()
    }

    fn reason(&self, failed: &[TargetId]) -> String {
        let named: Vec<String> = failed.iter().take(MOST_NAMED).map(|target| self.named(target)).collect();
        let more = failed.len().saturating_sub(MOST_NAMED);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        format!("{}{more}", named.join("; "))
    }

    fn named(&self, target: &TargetId) -> String {
        let report = self.target(target).and_then(TargetRow::current_report);
        match report {
            Some(report) => format!("{target} reported {}: {}", report.state.as_str(), shortened(&report.reason)),
            None => format!("{target} failed"),
        }
    }

    /// A failed wave: notes further failures, and lifts the condemnation if a stage was retried and ended healthy.
    fn judge_failed(&mut self, at: At<'a>, passage: &Passage, state: &WaveState) {
        if passage.failed.is_empty() {
            return;
        }
        let mut failed = passage.failed.clone();
        failed.extend(self.failed_targets(at, state).into_iter().filter(|target| !passage.failed.contains(target)));
        let mut failed_newcomers = passage.failed_newcomers.clone();
        let others = self.failed_newcomers(at, state, &failed).into_iter();
        failed_newcomers.extend(others.filter(|target| !passage.failed_newcomers.contains(target)));
        let is_healed = |target: &&TargetId| self.standing_of(at, state, target) == Some(Standing::Healthy);
        let healed = failed.iter().filter(is_healed).count();
        let tolerated = usize::try_from(at.wave.tolerate).unwrap_or(usize::MAX);
        let by_wave = Judge::Wave(at.wave.name.clone());
        let is_liftable = !passage.recalled && healed > 0 && failed.len() - healed <= tolerated;
        if !is_liftable {
            if (&failed, &failed_newcomers) != (&passage.failed, &passage.failed_newcomers)
                && let Some(passage) = self.wave_mut(at).and_then(|wave| wave.passage.as_mut())
            {
                (passage.failed, passage.failed_newcomers) = (failed, failed_newcomers);
            }
            return;
        }
        self.row.condemned.retain(|one| one.seen != passage.seen || one.by != by_wave);
        self.row.order_again(passage.seen, self.now);
        if at.wave.retreat == Retreat::Train {
            self.row.try_again(passage.seen);
        }
        if let Some(passage) = self.wave_mut(at).and_then(|wave| wave.passage.as_mut()) {
            passage.verdict = Verdict::Open;
            passage.failed.clear();
            passage.failed_newcomers.clear();
        }
        if let Some(change) = self.row.change(passage.seen).map(|one| one.change.clone()) {
            let reason = "a stage was retried and ended healthy: the change is not condemned any more";
            self.decide_about(at, &change, Outcome::Pardoned, reason);
        }
    }

    fn standing_of(&self, at: At<'a>, state: &WaveState, target: &TargetId) -> Option<Standing> {
        let index = self.targets.get(at.index)?.iter().position(|one| one == target)?;
        state.places.get(index).map(|place| place.standing)
    }
}

/// Whether more targets failed than the wave tolerates.
fn has_too_many(at: At<'_>, state: &WaveState) -> bool {
    state.failures() > usize::try_from(at.wave.tolerate).unwrap_or(usize::MAX)
}
