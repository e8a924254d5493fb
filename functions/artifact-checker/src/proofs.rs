//! Decides of which objects a sweep reads a byte.
//!
//! Every read needs KMS, whose request rate the whole account shares. All objects under the right key have the same key
//! and the same reader in a sweep, so a few reads show whether the reader can use the key. The sweep's row keeps the
//! result for the invocations that continue the sweep.

use serde::{Deserialize, Serialize};

use crate::verdict::{Verdict, compliant_and_not_read, not_read_like_others};

/// After this many failed reads in a row, the other objects get the result of the last read.
const STREAK: u32 = 20;
/// While the other objects get the result of the last read, one of this many objects is read all the same, to find out
/// whether the result still holds.
const RECHECK: u32 = 50;

/// Whether a check reads a byte of an object that is under the right key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reading {
    Read,
    /// Do not read the object. This is the verdict on it.
    Skip(Verdict),
}

/// The results of a sweep's reads.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Proofs {
    /// The number of failed reads since the last successful one.
    failed: u32,
    /// The verdict of the last failed read since then.
    verdict: Option<Verdict>,
    /// The number of reads that have not ended.
    #[serde(skip)]
    running: u32,
    /// The number of objects that were not read since the streak.
    #[serde(skip)]
    skipped: u32,
}

impl Proofs {
    /// Whether to read the next object. A sample is the first object of its page.
    pub(crate) fn begin(&mut self, is_sample: bool) -> Reading {
        let shared = self.verdict.as_ref().filter(|_| self.failed >= STREAK);
        let is_due = if shared.is_some() {
            self.skipped += 1;
            self.skipped.is_multiple_of(RECHECK)
        } else {
            self.failed > 0 && self.failed + self.running < STREAK
        };
        if is_sample || is_due {
            self.running += 1;
            return Reading::Read;
        }
        Reading::Skip(shared.map_or_else(compliant_and_not_read, |verdict| not_read_like_others(verdict, STREAK)))
    }

    /// Records the end of a check. `was_read` says that the check read its object. `failed` is the verdict of a read that
    /// failed because of the key or the reader.
    pub(crate) fn end(&mut self, was_read: bool, failed: Option<&Verdict>) {
        self.running = self.running.saturating_sub(1);
        if was_read {
            (self.failed, self.verdict, self.skipped) = (0, None, 0);
        } else if let Some(verdict) = failed {
            self.failed = self.failed.saturating_add(1);
            self.verdict = Some(verdict.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;

    fn denied() -> Verdict {
        Verdict { outcome: Outcome::Unverifiable, reason: "denied".to_owned() }
    }

    /// Checks objects one after the other. Returns the numbers of reads and of objects that got the result of others.
    fn check(proofs: &mut Proofs, objects: u32, can_read: impl Fn(u32) -> bool) -> (u32, u32) {
        let (mut reads, mut shared) = (0, 0);
        for n in 0..objects {
            match proofs.begin(n % 1_000 == 0) {
                Reading::Read => {
                    reads += 1;
                    if can_read(n) { proofs.end(true, None) } else { proofs.end(false, Some(&denied())) }
                }
                Reading::Skip(verdict) => shared += u32::from(verdict.outcome == Outcome::Unverifiable),
            }
        }
        (reads, shared)
    }

    #[test]
    fn one_object_of_each_page_is_read_while_reads_succeed() {
        assert_eq!(check(&mut Proofs::default(), 10_000, |_| true), (10, 0));
    }

    #[test]
    fn a_streak_of_failed_reads_decides_about_the_other_objects() {
        let (reads, shared) = check(&mut Proofs::default(), 10_000, |_| false);
        assert!((20..300).contains(&reads), "{reads}");
        assert_eq!(reads + shared, 10_000);
    }

    #[test]
    fn one_unreadable_object_costs_one_more_read() {
        assert_eq!(check(&mut Proofs::default(), 10_000, |n| n != 3_000), (11, 0));
    }

    #[test]
    fn a_readable_object_ends_the_streak_within_fifty_objects() {
        let mut proofs = Proofs::default();
        let (_, shared) = check(&mut proofs, 1_000, |n| n >= 500);
        assert!((480..530).contains(&shared), "{shared}");
        assert_eq!(proofs.begin(false), Reading::Skip(compliant_and_not_read()));
    }

    #[test]
    fn checks_at_the_same_time_begin_no_more_reads_than_a_streak_needs() {
        let mut proofs = Proofs::default();
        assert_eq!(proofs.begin(true), Reading::Read);
        proofs.end(false, Some(&denied()));
        let reads = (0..1_000).filter(|_| proofs.begin(false) == Reading::Read).count();
        assert_eq!(reads, 19);
    }

    #[test]
    fn an_invocation_that_continues_the_sweep_inherits_the_result() {
        let mut proofs = Proofs::default();
        check(&mut proofs, 100, |_| false);
        let stored = serde_json::to_string(&proofs).unwrap();
        let mut inherited: Proofs = serde_json::from_str(&stored).unwrap();
        assert!(matches!(inherited.begin(false), Reading::Skip(verdict) if verdict.outcome == Outcome::Unverifiable));
    }
}
