//! The bucket with which a history begins, the settings of the function, and the faults.

use std::time::Duration;

use artifact_checker::{Rates, Settings};
use sekisho_domain::artifacts::Repair;

use super::cloud::{Cloud, Faults};
use crate::world::s3::{Bucket, Sse, Version};
use crate::world::{ACCOUNT, BUCKET, foreign, key, now, under};

/// What a history is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing fails, and nobody else changes objects, so that everything must be exact.
    Calm,
    /// Processes die and calls fail.
    Deaths,
    /// Others write, delete and re-key objects meanwhile; processes die and calls fail.
    Changes,
    /// A process dies whenever it looks at a certain object, or S3 takes long to answer about one.
    Poison,
    /// S3 does not list a part of the bucket.
    Unlisted,
    /// Each division of a range leaves most of it to the next one.
    Deep,
}

const KINDS: [Kind; 20] = [
    Kind::Calm,
    Kind::Deaths,
    Kind::Changes,
    Kind::Poison,
    Kind::Deep,
    Kind::Changes,
    Kind::Deaths,
    Kind::Unlisted,
    Kind::Changes,
    Kind::Deaths,
    Kind::Calm,
    Kind::Changes,
    Kind::Deaths,
    Kind::Poison,
    Kind::Changes,
    Kind::Deaths,
    Kind::Unlisted,
    Kind::Changes,
    Kind::Deaths,
    Kind::Changes,
];

pub(super) struct Scene {
    pub(super) kind: Kind,
    pub(super) settings: Settings,
    pub(super) keys: Vec<String>,
    /// The time limit of an invocation for a range.
    pub(super) time_of_ranges: Duration,
    /// Whether messages whose ranges failed too often are delivered again by a person.
    pub(super) has_redrive: bool,
}

impl Scene {
    pub(super) fn new(cloud: &Cloud, seed: u64) -> Self {
        let kind = KINDS[usize::try_from(seed).unwrap_or(0) % KINDS.len()];
        let mut state = cloud.state();
        let is_deep = kind == Kind::Deep;
        let count = if is_deep { 165 } else { 8 + state.below(22) };
        let page = if is_deep { 1 } else { 1 + state.below(4) };
        state.witness.page = usize::try_from(page).unwrap_or(1);
        // If listings take long, few objects are listed between two divisions.
        state.latency = if is_deep { 1_500 } else { state.one_of(&[3, 30, 200, 900]) };
        let shape = if is_deep { 0 } else { 1 + state.below(3) };
        let mut keys: Vec<String> = (0..count).map(|n| name(shape, n, state.below(0x10_0000))).collect();
        keys.sort();
        keys.dedup();
        let is_versioned = state.below(5) > 0;
        // A listing of an old bucket says when objects were written, and an incremental sweep leaves them out.
        let written = (state.below(2) == 0).then(|| now() - Duration::from_hours(72));
        let mut bucket = Bucket::new(ACCOUNT).paged(state.witness.page);
        bucket.versioned = is_versioned;
        cloud.world.state().buckets.insert(BUCKET.to_owned(), bucket);
        for key in &keys {
            let sse = sse(state.below(100));
            let versions = if is_versioned && state.below(6) == 0 { 2 } else { 1 };
            for _ in 0..versions {
                let version = Version { written, ..Version::new("content", sse.clone()) };
                cloud.world.state().put(BUCKET, key, version);
            }
        }
        state.faults = match kind {
            Kind::Calm => Faults::default(),
            Kind::Deep => Faults { deaths: 3, throttled: 10, ..Faults::default() },
            Kind::Deaths | Kind::Changes => Faults {
                throttled: state.one_of(&[0, 30, 200]),
                failed: state.one_of(&[0, 5, 40]),
                lost: state.one_of(&[0, 5, 30]),
                ledger: state.one_of(&[0, 3, 15]),
                deaths: state.one_of(&[10, 25, 50]),
                ..Faults::default()
            },
            Kind::Poison if seed % 20 == 3 => Faults { killer: Some(state.one_of(&keys)), ..Faults::default() },
            Kind::Poison => Faults { slow: Some((state.one_of(&keys), Duration::from_secs(100))), ..Faults::default() },
            Kind::Unlisted if seed % 40 == 7 => Faults { unlisted_after: Some(String::new()), ..Faults::default() },
            Kind::Unlisted => Faults { unlisted_after: Some(state.one_of(&keys)), ..Faults::default() },
        };
        let repair = if state.below(4) == 0 { Repair::Copy } else { Repair::Update };
        let mut settings = cloud.world.checker(repair).settings;
        settings.concurrency = if is_deep { 40 } else { 2 + u32::try_from(state.below(4)).unwrap_or(0) };
        settings.alone = state.one_of(&[1, 1, 60, 20_000]);
        if is_deep {
            settings.alone = 1;
        }
        // Slow enough that a range is divided, which happens every five seconds.
        let of_one = state.one_of(&[1, 2, 2_750]);
        let of_one = if is_deep { 1 } else { of_one };
        settings.rates = Rates { s3: of_one * settings.concurrency, kms: 2_750 };
        // An invocation lists no page in its last 45 seconds, and needs some calls before it lists one.
        let is_slow = state.latency > 100;
        let time_of_ranges = Duration::from_secs(state.one_of(if is_slow { &[300] } else { &[50, 75, 300] }));
        let faults = format!("{:?}", state.faults);
        state.log(&format!("{kind:?}: {count} objects, pages of {page}, {repair:?}, {faults}"));
        drop(state);
        Self { kind, settings, keys, time_of_ranges, has_redrive: seed % 2 == 1 }
    }
}

/// The key of object `n`.
fn name(shape: u64, n: u64, random: u64) -> String {
    match shape {
        // After each division, the first range has few keys, and the second one all others.
        0 => format!("{}a", "z".repeat(usize::try_from(n).unwrap_or(0))),
        1 => format!("pipeline-{:02}/SourceArti/{random:05x}", n % 7),
        2 => format!("{random:05x}"),
        _ => format!("a/b c+é/{}/{n}", ["x", "関", "z"][usize::try_from(n % 3).unwrap_or(0)]),
    }
}

/// An encryption: right in most cases.
pub(super) fn sse(of_hundred: u64) -> Sse {
    match of_hundred {
        0..=64 => under("right"),
        65..=77 => Sse::S3,
        78..=88 => under("other"),
        89..=95 => foreign(),
        _ => Sse::Dsse(key("other")),
    }
}
