//! The images that a train does not order any more, because they were deleted or archived.

use sekisho_domain::change::Change;

use super::{Gone, TrainRow};

/// The number of images that a row keeps.
const KEPT: usize = 50;

impl Gone {
    fn is(&self, change: &Change) -> bool {
        self.repository == change.repository && self.revision == change.revision
    }
}

impl TrainRow {
    /// Whether the image of a change is gone.
    #[must_use]
    pub fn is_gone(&self, change: &Change) -> bool {
        self.gone.iter().any(|gone| gone.is(change))
    }

    /// Notes that the image of a change is gone.
    pub(crate) fn add_gone(&mut self, change: &Change) {
        self.forget_gone(change);
        self.gone.push(Gone { repository: change.repository.clone(), revision: change.revision.clone() });
        let old = self.gone.len().saturating_sub(KEPT);
        self.gone.drain(..old);
    }

    /// Lets the image of a change be read again before it is ordered.
    pub(crate) fn forget_gone(&mut self, change: &Change) {
        self.gone.retain(|gone| !gone.is(change));
    }
}
