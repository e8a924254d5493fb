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
    /// When a reconcile last found that a prefix was gone, in epoch milliseconds. What was pulled into a cache until
    /// then is no change.
    #[serde(default)]
    pub(crate) ended: u64,
}

impl Caches {
    /// The rules with these prefixes, which were read now. `before` has the rules that were known before.
    pub(crate) fn new(before: Option<&Self>, prefixes: BTreeSet<String>, now: OffsetDateTime) -> Self {
        let read = epoch_millis(now);
        let is_gone = |before: &Self| !before.prefixes.is_subset(&prefixes);
        let ended = before.map_or(0, |before| if is_gone(before) { read } else { before.ended });
        Self { read, prefixes, ended }
    }

    /// Whether the rules need not be read again.
    pub(crate) fn are_recent(&self, now: OffsetDateTime) -> bool {
        epoch_millis(now) < self.read.saturating_add(millis(LONGEST_AGE))
    }

    /// Whether the rules tell if this repository is a cache. They do not if it was created after they were read.
    pub(crate) fn cover(&self, repository: &ImageRepository) -> bool {
        repository.created.saturating_add(millis(CLOCK_DIFFERENCE)) < self.read
    }

    /// A copy that counts as too old, so that the next reconcile reads the rules again.
    pub(crate) fn outdated(&self) -> Self {
        Self { read: 0, ..self.clone() }
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
    fn rules_are_recent_for_an_hour_and_say_nothing_about_a_new_repository() {
        let read = datetime!(2026-11-29 12:00 UTC);
        let caches = Caches::new(None, ["hub".to_owned()].into(), read);
        assert!(caches.are_recent(read) && caches.are_recent(datetime!(2026-11-29 12:59:59 UTC)));
        assert!(!caches.are_recent(datetime!(2026-11-29 13:00 UTC)));
        assert!(!Caches::default().are_recent(read) && !caches.outdated().are_recent(read));
        assert_eq!(caches.outdated().prefixes, caches.prefixes);
        let later = read + Duration::from_hours(2);
        let more = Caches::new(Some(&caches), ["hub".to_owned(), "quay".to_owned()].into(), later);
        let fewer = Caches::new(Some(&more.outdated()), ["quay".to_owned()].into(), later);
        assert_eq!([caches.ended, more.ended, fewer.ended], [0, 0, epoch_millis(later)]);
        let covers = |created: OffsetDateTime| {
            caches.cover(&ImageRepository { name: "shop".to_owned(), created: epoch_millis(created) })
        };
        assert!(covers(datetime!(2026-11-29 11:58:59 UTC)));
        assert!(!covers(datetime!(2026-11-29 11:59 UTC)) && !covers(datetime!(2026-11-29 12:03 UTC)));
    }
}
