//! Brings a train's row in step with the waves of the configuration.

use std::collections::BTreeSet;

use sekisho_domain::route::{Route, Target, TargetId};

use super::{Judge, TrainRow, WaveRow};

impl TrainRow {
    /// The row with the waves of the configuration, and the targets that left the route. A wave keeps its state under
    /// its name or, if it was renamed, by its members. A target that is not a member of its wave yet has joined it.
    pub(crate) fn configured(&self, route: &Route) -> (Self, Vec<TargetId>) {
        let configured: Vec<BTreeSet<TargetId>> =
            route.waves().iter().map(|wave| wave.targets.iter().map(Target::id).collect()).collect();
        let mut old: Vec<WaveRow> = self.waves.clone();
        let mut waves: Vec<Option<WaveRow>> = route
            .waves()
            .iter()
            .map(|wave| old.iter().position(|one| one.name == wave.name).map(|place| old.remove(place)))
            .collect();
        while let Some((place, from)) = best_match(&configured, &waves, &old) {
            if let Some(wave) = waves.get_mut(place) {
                *wave = Some(old.remove(from));
            }
        }
        let mut row = Self { waves: Vec::with_capacity(waves.len()), ..self.clone() };
        for ((wave, targets), found) in route.waves().iter().zip(&configured).zip(waves) {
            let mut found = found.unwrap_or_default();
            if self.waves.is_empty() {
                // The route got waves. `next` removes the targets that came together with them.
                found.members = wave.targets.iter().map(Target::id).collect();
            }
            found.members.retain(|target| targets.contains(target));
            for hold in row.holds.iter_mut().filter(|hold| hold.wave.as_ref() == Some(&found.name)) {
                hold.wave = Some(wave.name.clone());
            }
            let old = Judge::Wave(found.name.clone());
            for condemned in row.condemned.iter_mut().filter(|one| one.by == old) {
                condemned.by = Judge::Wave(wave.name.clone());
            }
            found.name.clone_from(&wave.name);
            row.waves.push(found);
        }
        let members = self.waves.iter().flat_map(|wave| &wave.members);
        let left = members.filter(|target| !configured.iter().any(|targets| targets.contains(*target))).cloned();
        (row, left.collect())
    }
}

/// The wave of the configuration without a row, and the row without a wave, that have the most targets in common.
fn best_match(configured: &[BTreeSet<TargetId>], waves: &[Option<WaveRow>], old: &[WaveRow]) -> Option<(usize, usize)> {
    let mut best = None;
    for (place, targets) in configured.iter().enumerate().filter(|(place, _)| waves.get(*place) == Some(&None)) {
        for (from, wave) in old.iter().enumerate() {
            let common = wave.members.iter().filter(|target| targets.contains(target)).count();
            if common > best.map_or(0, |(most, _, _)| most) {
                best = Some((common, place, from));
            }
        }
    }
    best.map(|(_, place, from)| (place, from))
}
