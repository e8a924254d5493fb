//! What the last reconciles learned about caches of other registries. A glob routes no cache, so a reconcile must know
//! them before it looks at the repositories that globs match.

use std::collections::BTreeSet;
use std::time::Duration;

use sekisho_domain::timestamp::epoch_millis;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::image::ImageRepository;

/// The age at which the rules are read again. ECR creates a cache's repository at its first pull, so a new rule shows
/// in a new repository. Only a rule about a repository that existed before, or the end of a rule, is noticed this late.
const LONGEST_AGE: Duration = Duration::from_hours(1);
/// The largest difference between the clocks of ECR and of this function.
const CLOCK_DIFFERENCE: Duration = Duration::from_mins(1);

/// The rules about caches, as ECR had them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Caches {
    /// When the rules were read, in epoch milliseconds.
    read: u64,
    /// The prefixes of the names of repositories that are caches.
    pub(crate) prefixes: BTreeSet<String>,
}

impl Caches {
    pub(crate) fn new(prefixes: BTreeSet<String>, now: OffsetDateTime) -> Self {
        Self { read: epoch_millis(now), prefixes }
    }

    /// Whether the rules need not be read again to know which of these repositories are caches.
    pub(crate) fn suffice<'r>(
        &self,
        repositories: impl IntoIterator<Item = &'r ImageRepository>,
        now: OffsetDateTime,
    ) -> bool {
        let is_recent = epoch_millis(now) < self.read.saturating_add(millis(LONGEST_AGE));
        let is_older = |one: &ImageRepository| one.created.saturating_add(millis(CLOCK_DIFFERENCE)) < self.read;
        is_recent && repositories.into_iter().all(is_older)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn rules_are_read_again_after_an_hour_and_for_a_new_repository() {
        let read = datetime!(2026-11-29 12:00 UTC);
        let caches = Caches::new(BTreeSet::new(), read);
        let created = |at: OffsetDateTime| [ImageRepository { name: "shop".to_owned(), created: epoch_millis(at) }];
        let old = created(datetime!(2026-11-29 11:58:59 UTC));
        assert!(caches.suffice(&old, datetime!(2026-11-29 12:59:59 UTC)));
        assert!(!caches.suffice(&old, datetime!(2026-11-29 13:00 UTC)));
        assert!(!caches.suffice(&created(datetime!(2026-11-29 11:59 UTC)), read));
        assert!(!caches.suffice(&created(datetime!(2026-11-29 12:03 UTC)), datetime!(2026-11-29 12:05 UTC)));
        assert!(!Caches::default().suffice([], read));
    }
}
