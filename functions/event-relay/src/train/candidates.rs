//! The changes that may enter a wave.

use super::{TrainChange, TrainRow};

impl TrainRow {
    /// The changes that may enter the wave at this place of the train, apart from holds and windows, in the order in
    /// which they were seen.
    pub(crate) fn candidates(&self, index: usize) -> impl DoubleEndedIterator<Item = &TrainChange> {
        let wave = self.waves.get(index);
        let before = index.checked_sub(1).map(|index| self.waves.get(index));
        self.changes.iter().filter(move |one| {
            let was_healthy = before.is_none_or(|before| before.is_some_and(|wave| wave.healthy.contains(&one.seen)));
            let is_newer = wave.is_some_and(|wave| {
                let is_inside = wave.open().is_some_and(|passage| passage.seen == one.seen);
                let is_retry = one.again && one.seen == wave.newest && !wave.healthy.contains(&one.seen);
                one.seen > wave.newest || is_retry && !is_inside
            });
            was_healthy && is_newer && self.condemnation(&one.change).is_none() && !self.is_gone(&one.change)
        })
    }
}
