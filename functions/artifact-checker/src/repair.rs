//! How an object under a wrong key of this account is mended, or why not.

use std::ops::AddAssign;

use sekisho_domain::artifacts::Repair;
use serde::{Deserialize, Serialize};

use crate::answer::Said;
use crate::verdict::{Encryption, Facts};

/// CopyObject takes up to 5 GB, by which S3 means 5 GiB.
pub const LARGEST_COPY: u64 = 5 * 1024 * 1024 * 1024;
/// An upload has up to 10,000 parts, so that parts of half a gigabyte do for 5 TB; beyond, parts grow.
const PART: u64 = 512 * 1024 * 1024;
const MOST_PARTS: u64 = 10_000;
/// How often a repair is tried before it is said not to converge.
pub const TRIES: u32 = 3;

/// What to do to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `UpdateObjectEncryption`: the same version under another key.
    Update,
    /// `CopyObject` onto itself: a new version.
    Copy,
    /// The same in parts of so many bytes.
    CopyInParts(u64),
}

/// A decision about one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Do this.
    Do(Step),
    /// A copy would have to read what is archived.
    Restore,
    /// Leave it, for this reason.
    Leave(&'static str),
}

/// Decides about an object that is under a wrong encryption of this account's. `updatable` says whether the right key is
/// of the bucket's account, as `UpdateObjectEncryption` asks; `refused` is what S3 said to an update before.
#[must_use]
pub fn plan(facts: &Facts, latest: bool, repair: Repair, updatable: bool, refused: Option<&Said>) -> Plan {
    if repair == Repair::Report {
        return Plan::Leave("the configuration says `repair = \"report\"`");
    }
    // S3 refuses an update under a lock, and a copy would leave the locked version behind and pass for a repair.
    if facts.locked {
        return Plan::Leave("an object lock is on it");
    }
    let update = repair == Repair::Update && updatable && !matches!(facts.encryption, Encryption::Dual(_));
    if update && refused.is_none() {
        return Plan::Do(Step::Update);
    }
    if !latest {
        return Plan::Leave("it isn't the latest version, and a copy would make it the latest");
    }
    if facts.archived {
        return Plan::Restore;
    }
    if facts.size > LARGEST_COPY {
        return Plan::Do(Step::CopyInParts(PART.max(facts.size.div_ceil(MOST_PARTS))));
    }
    Plan::Do(Step::Copy)
}

/// Requests to S3, by what they cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// PUT, COPY, LIST and their like.
    pub writes_and_lists: u64,
    /// GET and HEAD.
    pub reads: u64,
}

impl Requests {
    /// In US dollars: $5 for a million of the one, $0.40 for a million of the other. KMS and transitions are not in it.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn usd(self) -> f64 {
        (self.writes_and_lists as f64 * 5.0 + self.reads as f64 * 0.4) / 1e6
    }
}

impl AddAssign for Requests {
    fn add_assign(&mut self, more: Self) {
        self.writes_and_lists += more.writes_and_lists;
        self.reads += more.reads;
    }
}

impl Step {
    /// What a repair asks of S3 after the look that found it needed: it looks again under its claim and at the result,
    /// and reads a byte; before a copy it looks whether that is the latest.
    #[must_use]
    pub fn requests(self, size: u64) -> Requests {
        match self {
            Self::Update => Requests { writes_and_lists: 1, reads: 3 },
            Self::Copy => Requests { writes_and_lists: 1, reads: 4 },
            Self::CopyInParts(part) => Requests { writes_and_lists: 2 + size.div_ceil(part), reads: 4 },
        }
    }
}

/// The byte ranges of an object's parts, as `x-amz-copy-source-range` has them: both ends included.
pub fn ranges(size: u64, part: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..size.div_ceil(part)).map(move |n| (n * part, (size - 1).min((n + 1) * part - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn facts() -> Facts {
        Facts {
            encryption: Encryption::OfS3,
            etag: "\"e\"".into(),
            version: Some("v".into()),
            size: 3,
            archived: false,
            locked: false,
        }
    }

    #[test]
    fn updates_where_s3_can_and_copies_where_that_is_safe() {
        let refused = Said { status: 403, code: Some("AccessDenied".into()), message: None };
        let dual = Facts { encryption: Encryption::Dual("k".into()), ..facts() };
        let locked = Facts { locked: true, ..facts() };
        let archived = Facts { archived: true, ..facts() };
        let large = Facts { size: LARGEST_COPY + 1, ..facts() };
        let no = None::<&Said>;
        let said = Some(&refused);
        let cases = [
            (facts(), true, Repair::Update, true, no, Plan::Do(Step::Update)),
            (facts(), false, Repair::Update, true, no, Plan::Do(Step::Update)),
            (facts(), true, Repair::Update, true, said, Plan::Do(Step::Copy)),
            (facts(), true, Repair::Update, false, no, Plan::Do(Step::Copy)),
            (facts(), true, Repair::Copy, true, no, Plan::Do(Step::Copy)),
            (dual.clone(), true, Repair::Update, true, no, Plan::Do(Step::Copy)),
            (archived.clone(), true, Repair::Update, true, no, Plan::Do(Step::Update)),
            (archived.clone(), true, Repair::Update, true, said, Plan::Restore),
            (archived, true, Repair::Copy, true, no, Plan::Restore),
            (large.clone(), true, Repair::Update, true, no, Plan::Do(Step::Update)),
            (large, true, Repair::Copy, true, no, Plan::Do(Step::CopyInParts(PART))),
        ];
        for (facts, latest, repair, updatable, refused, expected) in cases {
            assert_eq!(plan(&facts, latest, repair, updatable, refused), expected, "{facts:?} {latest} {repair:?}");
        }
        let left = [
            (facts(), true, Repair::Report, no),
            (facts(), false, Repair::Copy, no),
            (facts(), false, Repair::Update, said),
            (dual, false, Repair::Update, no),
            (locked.clone(), true, Repair::Update, no),
            (locked.clone(), true, Repair::Update, said),
            (locked, true, Repair::Copy, no),
        ];
        for (facts, latest, repair, refused) in left {
            let plan = plan(&facts, latest, repair, true, refused);
            assert!(matches!(plan, Plan::Leave(_)), "{facts:?} {latest} {repair:?} {plan:?}");
        }
    }

    proptest! {
        #[test]
        fn parts_cover_every_byte_once_within_s3s_limits(size in LARGEST_COPY + 1..50_000_000_000_000u64) {
            let large = Facts { size, ..facts() };
            let Plan::Do(Step::CopyInParts(part)) = plan(&large, true, Repair::Copy, true, None) else {
                panic!("not in parts")
            };
            prop_assert!(part <= 5 * 1024 * 1024 * 1024);
            let mut next = 0;
            let mut count = 0;
            for (first, last) in ranges(size, part) {
                prop_assert_eq!(first, next);
                prop_assert!(last >= first && last - first < part);
                next = last + 1;
                count += 1;
            }
            prop_assert_eq!(next, size);
            prop_assert!(count <= MOST_PARTS);
        }
    }
}
