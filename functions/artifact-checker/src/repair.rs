//! Decides how to repair an object that is under a wrong key of this account, or why to leave the object unchanged.

use std::borrow::Cow;
use std::ops::AddAssign;

use sekisho_domain::artifacts::Repair;
use serde::{Deserialize, Serialize};

use crate::object::{Encryption, ObjectFacts};

/// The largest object that CopyObject accepts: S3's documentation says 5 GB, but S3 accepts 5 GiB.
const LARGEST_COPY: u64 = 5 * 1024 * 1024 * 1024;
/// The usual size of a part, in bytes. S3 accepts 10,000 parts, so parts of half a GiB are enough for objects of 5 TB.
/// Larger objects need larger parts.
const PART: u64 = 512 * 1024 * 1024;
const MOST_PARTS: u64 = 10_000;

/// One write that puts an object under the right key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Call `UpdateObjectEncryption`, which changes the key of the version in place.
    Update,
    /// Copy the object onto itself with `CopyObject`, which makes a new version.
    Copy,
    /// Copy the object onto itself in parts of this many bytes, which makes a new version.
    CopyInParts(u64),
}

/// The decision about one object under a wrong key. A dry run reports it; a repair executes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RepairPlan {
    /// Execute this step.
    Step(Step),
    /// Ask people to restore the object, because S3 does not copy an object from the archive.
    Restore,
    /// Leave the object, for this reason.
    Leave(Cow<'static, str>),
}

/// How the objects of a bucket may be repaired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RepairRule {
    /// Change the key in place.
    Update {
        /// Whether to copy an object if S3 cannot change its key in place.
        or_copy: bool,
    },
    /// Copy the object.
    Copy,
    /// Change nothing, for this reason.
    Report(Cow<'static, str>),
}

impl RepairRule {
    /// The rule of a bucket for which this repair is configured.
    pub(crate) fn of(repair: Repair) -> Self {
        match repair {
            Repair::Update => Self::Update { or_copy: true },
            Repair::UpdateOnly => Self::Update { or_copy: false },
            Repair::Copy => Self::Copy,
            Repair::Report => Self::Report(Cow::Borrowed("the configuration says `repair = \"report\"`")),
        }
    }
}

/// The conditions of a plan that are not facts about the object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RepairConditions<'a> {
    pub(crate) rule: &'a RepairRule,
    /// Whether the right key belongs to the bucket's account, as `UpdateObjectEncryption` requires.
    pub(crate) key_is_own: bool,
    /// `false` if the object is known to be an older version.
    pub(crate) is_latest: bool,
    /// Whether S3 has refused an update of this object.
    pub(crate) update_refused: bool,
}

/// Decides what to do with an object under a wrong encryption of this account.
pub(crate) fn plan(facts: &ObjectFacts, conditions: RepairConditions<'_>) -> RepairPlan {
    let RepairConditions { rule, key_is_own, is_latest, update_refused } = conditions;
    let leave = |reason: &'static str| RepairPlan::Leave(Cow::Borrowed(reason));
    if let RepairRule::Report(reason) = rule {
        return RepairPlan::Leave(reason.clone());
    }
    // S3 refuses an update of a locked object. A copy would look like a repair, but the locked version would stay under
    // the wrong key.
    if facts.is_locked {
        return leave("it has an object lock");
    }
    if let RepairRule::Update { or_copy } = rule {
        let can_update = key_is_own && !matches!(facts.encryption, Encryption::DualLayer(_));
        if can_update && !update_refused {
            return RepairPlan::Step(Step::Update);
        }
        if !or_copy {
            return leave("S3 cannot change its key in place, and the configuration says `repair = \"update-only\"`");
        }
    }
    if !is_latest {
        return leave("it is not the latest version, and a copy would make it the latest");
    }
    if facts.is_archived {
        return RepairPlan::Restore;
    }
    if facts.size > LARGEST_COPY {
        return RepairPlan::Step(Step::CopyInParts(PART.max(facts.size.div_ceil(MOST_PARTS))));
    }
    RepairPlan::Step(Step::Copy)
}

/// KMS charges about this many requests for one repair: S3 puts the data key under another key, and decrypts it for the
/// read that proves the repair. With the S3 Bucket Key, there are fewer.
const KMS_REQUESTS: u64 = 3;

/// A number of requests, in groups that AWS charges differently.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RequestCount {
    /// PUT, COPY, POST and LIST requests.
    pub(crate) writes_and_lists: u64,
    /// GET and HEAD requests.
    pub(crate) reads: u64,
    /// Requests that S3 sends to KMS for repairs.
    #[serde(default)]
    pub(crate) kms: u64,
}

impl RequestCount {
    /// The cost in US dollars: $5 per million writes and lists, $0.40 per million reads, $3 per million requests to KMS.
    /// Storage class transitions are not included.
    #[expect(clippy::cast_precision_loss, reason = "the result is an estimate")]
    pub(crate) fn usd(self) -> f64 {
        (self.writes_and_lists as f64 * 5.0 + self.reads as f64 * 0.4 + self.kms as f64 * 3.0) / 1e6
    }
}

impl AddAssign for RequestCount {
    fn add_assign(&mut self, more: Self) {
        self.writes_and_lists += more.writes_and_lists;
        self.reads += more.reads;
        self.kms += more.kms;
    }
}

impl Step {
    /// The requests of a repair, without those of the check that found the wrong key. A repair sends a HEAD when it has
    /// the claim, then the write, and then a HEAD and a GET of the result. Before a copy, it also sends a HEAD for the
    /// latest version.
    pub(crate) fn requests(self, size: u64) -> RequestCount {
        match self {
            Self::Update => RequestCount { writes_and_lists: 1, reads: 3, kms: KMS_REQUESTS },
            Self::Copy => RequestCount { writes_and_lists: 1, reads: 4, kms: KMS_REQUESTS },
            Self::CopyInParts(part) => {
                let parts = size.div_ceil(part);
                RequestCount { writes_and_lists: 2 + parts, reads: 4, kms: KMS_REQUESTS + parts }
            }
        }
    }
}

/// The byte ranges of an object's parts for `x-amz-copy-source-range`, with both ends included.
pub(crate) fn part_ranges(size: u64, part: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..size.div_ceil(part)).map(move |n| (n * part, (size - 1).min((n + 1) * part - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn facts() -> ObjectFacts {
        ObjectFacts {
            encryption: Encryption::S3Managed,
            etag: "\"e\"".into(),
            version: Some("v".into()),
            size: 3,
            is_archived: false,
            is_locked: false,
            has_bucket_key: false,
        }
    }

    fn dual_layer() -> ObjectFacts {
        ObjectFacts { encryption: Encryption::DualLayer("k".into()), ..facts() }
    }

    fn locked() -> ObjectFacts {
        ObjectFacts { is_locked: true, ..facts() }
    }

    fn archived() -> ObjectFacts {
        ObjectFacts { is_archived: true, ..facts() }
    }

    fn large() -> ObjectFacts {
        ObjectFacts { size: LARGEST_COPY + 1, ..facts() }
    }

    /// Conditions for the latest version and a key of the bucket's account.
    fn conditions(rule: &RepairRule) -> RepairConditions<'_> {
        RepairConditions { rule, key_is_own: true, is_latest: true, update_refused: false }
    }

    const UPDATE: RepairRule = RepairRule::Update { or_copy: true };
    const UPDATE_ONLY: RepairRule = RepairRule::Update { or_copy: false };

    #[test]
    fn an_object_is_updated_if_s3_can_do_so_and_copied_if_that_is_safe() {
        let update = conditions(&UPDATE);
        let refused = RepairConditions { update_refused: true, ..update };
        let copy = conditions(&RepairRule::Copy);
        let update_only = conditions(&UPDATE_ONLY);
        let cases = [
            (facts(), update, RepairPlan::Step(Step::Update)),
            (facts(), RepairConditions { is_latest: false, ..update }, RepairPlan::Step(Step::Update)),
            (facts(), refused, RepairPlan::Step(Step::Copy)),
            (facts(), RepairConditions { key_is_own: false, ..update }, RepairPlan::Step(Step::Copy)),
            (facts(), copy, RepairPlan::Step(Step::Copy)),
            (dual_layer(), update, RepairPlan::Step(Step::Copy)),
            (archived(), update, RepairPlan::Step(Step::Update)),
            (archived(), refused, RepairPlan::Restore),
            (archived(), copy, RepairPlan::Restore),
            (large(), update, RepairPlan::Step(Step::Update)),
            (large(), copy, RepairPlan::Step(Step::CopyInParts(PART))),
            (facts(), update_only, RepairPlan::Step(Step::Update)),
        ];
        for (facts, conditions, expected) in cases {
            assert_eq!(plan(&facts, conditions), expected, "{facts:?} {conditions:?}");
        }
    }

    #[test]
    fn an_object_is_left_unchanged_if_every_repair_is_unsafe() {
        let update = conditions(&UPDATE);
        let refused = RepairConditions { update_refused: true, ..update };
        let copy = conditions(&RepairRule::Copy);
        let update_only = conditions(&UPDATE_ONLY);
        let report = RepairRule::of(Repair::Report);
        let older = |conditions| RepairConditions { is_latest: false, ..conditions };
        let cases = [
            (facts(), conditions(&report)),
            (facts(), RepairConditions { update_refused: true, ..update_only }),
            (facts(), RepairConditions { key_is_own: false, ..update_only }),
            (dual_layer(), update_only),
            (facts(), older(copy)),
            (facts(), older(refused)),
            (dual_layer(), older(update)),
            (locked(), update),
            (locked(), refused),
            (locked(), copy),
        ];
        for (facts, conditions) in cases {
            let plan = plan(&facts, conditions);
            assert!(matches!(plan, RepairPlan::Leave(_)), "{facts:?} {conditions:?} {plan:?}");
        }
    }

    proptest! {
        #[test]
        fn parts_cover_every_byte_once_within_s3s_limits(size in LARGEST_COPY + 1..50_000_000_000_000u64) {
            let large = ObjectFacts { size, ..facts() };
            let RepairPlan::Step(Step::CopyInParts(part)) = plan(&large, conditions(&RepairRule::Copy)) else {
                panic!("the plan is not a multipart copy")
            };
            prop_assert!(part <= 5 * 1024 * 1024 * 1024);
            let mut next = 0;
            let mut count = 0;
            for (first, last) in part_ranges(size, part) {
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
