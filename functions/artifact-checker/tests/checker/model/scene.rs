//! The bucket with which a history begins, the settings of the function, and the faults.

use std::time::Duration;

use artifact_checker::{Rates, Settings};
use sekisho_domain::artifacts::Repair;

use super::cloud::{Cloud, Faults, State};
use super::jobs;
use super::network::is_right;
use crate::world::s3::{Bucket, Sse, Version};
use crate::world::{ACCOUNT, BUCKET, World, foreign, key, now, under};

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
    pub(super) special: Special,
    pub(super) settings: Settings,
    pub(super) keys: Vec<String>,
    /// The time limit of an invocation for a range.
    pub(super) time_of_ranges: Duration,
    /// Whether messages whose ranges failed too often are delivered again by a person.
    pub(super) has_redrive: bool,
}

/// What a history has because of its seed, besides its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Special {
    Nothing,
    /// The ledger takes long to answer that a range is divided, so that the time of an invocation ends meanwhile.
    LateDivisions,
    /// The check of one object takes so long that it ends only if an invocation begins with it.
    LongCheck,
    /// While a sweep leaves objects to a job, a longer one is under way, over many versions.
    TwoSweeps,
    /// An incremental sweep is under way while a job ends halfway.
    JobBesideSweep,
}

impl Special {
    fn of(kind: Kind, seed: u64) -> Self {
        match (kind, seed % 40) {
            (Kind::Calm, 0) => Self::JobBesideSweep,
            (Kind::Calm, 10) => Self::LateDivisions,
            (Kind::Calm, 20) => Self::TwoSweeps,
            (Kind::Poison, 13) => Self::LongCheck,
            _ => Self::Nothing,
        }
    }

    /// Whether the scene is about jobs of S3 Batch Operations.
    fn has_jobs(self) -> bool {
        matches!(self, Self::TwoSweeps | Self::JobBesideSweep)
    }
}

impl Scene {
    pub(super) fn new(cloud: &Cloud, seed: u64) -> Self {
        let kind = KINDS[usize::try_from(seed).unwrap_or(0) % KINDS.len()];
        let special = Special::of(kind, seed);
        let mut state = cloud.state();
        let state = &mut *state;
        let is_deep = kind == Kind::Deep;
        let (count, page) = match (kind, special) {
            (Kind::Deep, _) => (165, 1),
            (_, Special::LateDivisions) => (24 + state.below(6), 1),
            _ if special.has_jobs() => (24 + state.below(6), 4),
            _ => (8 + state.below(22), 1 + state.below(4)),
        };
        state.witness.page = usize::try_from(page).unwrap_or(1);
        // If listings take long, few objects are listed between two divisions.
        state.latency = match special {
            _ if is_deep => 1_500,
            Special::Nothing => state.one_of(&[3, 30, 200, 900]),
            _ => state.one_of(&[3, 30]),
        };
        state.witness.latency = Duration::from_millis(state.latency);
        // The deployed bucket has the S3 Bucket Key. Then there are two manifests.
        let has_bucket_key = matches!(seed % 4, 1 | 2);
        let keys = fill(state, &cloud.world, kind, special, count, has_bucket_key);
        state.faults = faults(state, &cloud.world, kind, special, &keys, seed);
        state.witness.decides_all = kind == Kind::Calm || special == Special::LongCheck;
        let is_copy = state.below(4) == 0 && !special.has_jobs();
        let repair = if is_copy { Repair::Copy } else { Repair::Update };
        let mut settings = cloud.world.checker(repair).settings;
        settings.concurrency = if is_deep { 40 } else { 2 + u32::try_from(state.below(4)).unwrap_or(0) };
        settings.alone = state.one_of(&[1, 1, 60, 20_000]);
        // Slow enough that a range is divided, which happens every five seconds.
        let mut of_one = state.one_of(&[1, 2, 2_750]);
        if is_deep || matches!(special, Special::LateDivisions | Special::JobBesideSweep) {
            (settings.alone, of_one) = (1, 1);
        }
        if special == Special::TwoSweeps {
            (settings.alone, settings.concurrency, of_one) = (20_000, 2, 1);
        }
        settings.rates = Rates { s3: of_one * settings.concurrency, kms: 2_750 };
        if repair == Repair::Update && !is_deep {
            let above = if special.has_jobs() { &[2] } else { [0, 2, 4, 100_000].as_slice() };
            settings.artifacts.confirm_above = state.one_of(above);
            cloud.world.state().job_rules = jobs::rules(state, special);
        }
        state.witness.rows.most_repairs = settings.artifacts.confirm_above;
        // An invocation lists no page in its last 45 seconds, and needs some calls before it lists one.
        let is_slow = state.latency > 100;
        let time_of_ranges = Duration::from_secs(match special {
            Special::LateDivisions => 55,
            Special::LongCheck => 110,
            _ => state.one_of(if is_slow { &[300] } else { &[50, 75, 300] }),
        });
        let (faults, above) = (format!("{:?}", state.faults), settings.artifacts.confirm_above);
        state.log(&format!("{kind:?}: {count} objects, pages of {page}, {repair:?} up to {above}, {faults}"));
        Self { kind, special, settings, keys, time_of_ranges, has_redrive: seed % 2 == 1 }
    }
}

/// Makes the bucket with its objects. Returns their keys.
fn fill(
    state: &mut State,
    world: &World,
    kind: Kind,
    special: Special,
    count: u64,
    has_bucket_key: bool,
) -> Vec<String> {
    let shape = if kind == Kind::Deep { 0 } else { 1 + state.below(4) };
    let mut keys: Vec<String> = (0..count).map(|n| name(shape, n, state.below(0x10_0000))).collect();
    keys.sort();
    keys.dedup();
    let is_versioned = state.below(5) > 0 || special == Special::TwoSweeps;
    // A listing of an old bucket says when objects were written, and an incremental sweep leaves them out.
    let has_times = state.below(2) == 0 && special != Special::JobBesideSweep;
    let written = has_times.then(|| now() - Duration::from_hours(72));
    let mut bucket = Bucket::new(ACCOUNT).paged(state.witness.page);
    bucket.versioned = is_versioned;
    bucket.defaults_to_bucket_key = has_bucket_key;
    world.state().buckets.insert(BUCKET.to_owned(), bucket);
    for (n, key) in keys.iter().enumerate() {
        let sse = sse(state.below(100));
        let older = match special {
            Special::TwoSweeps => vec![under("right"); 2],
            _ if is_versioned && state.below(6) == 0 => vec![sse.clone()],
            _ => Vec::new(),
        };
        for sse in older.into_iter().chain([sse]) {
            let bucket_key = has_bucket_key && n % 2 == 0 && matches!(sse, Sse::Kms(_));
            let version = Version { bucket_key, written, ..Version::new("content", sse) };
            world.state().put(BUCKET, key, version);
        }
    }
    keys
}

fn faults(state: &mut State, world: &World, kind: Kind, special: Special, keys: &[String], seed: u64) -> Faults {
    match kind {
        // The division begins up to 45 seconds before the time of its invocation is up.
        Kind::Calm if special == Special::LateDivisions => {
            Faults { late_transactions: Duration::from_secs(38), ..Faults::default() }
        }
        Kind::Calm => Faults::default(),
        Kind::Deep => Faults { deaths: 3, throttled: 10, ..Faults::default() },
        Kind::Deaths | Kind::Changes => Faults {
            throttled: state.one_of(&[0, 30, 200]),
            failed: state.one_of(&[0, 5, 40]),
            lost: state.one_of(&[0, 5, 30]),
            ledger: state.one_of(&[0, 3, 15]),
            deaths: state.one_of(&[10, 25, 110]),
            ..Faults::default()
        },
        Kind::Poison if seed % 20 == 3 => Faults { killer: Some(state.one_of(keys)), ..Faults::default() },
        Kind::Poison if special == Special::LongCheck => {
            // A repair would look at the object several times.
            let is_right =
                |key: &&String| world.state().bucket(BUCKET).latest(key).is_some_and(|latest| is_right(&latest.sse));
            let right: Vec<&String> = keys.iter().filter(is_right).collect();
            let slow = state.one_of(&right).clone();
            Faults { slow: Some((slow, Duration::from_secs(75))), ..Faults::default() }
        }
        Kind::Poison => Faults { slow: Some((state.one_of(keys), Duration::from_secs(100))), ..Faults::default() },
        Kind::Unlisted if seed % 40 == 7 => Faults { unlisted_after: Some(String::new()), ..Faults::default() },
        Kind::Unlisted => Faults { unlisted_after: Some(state.one_of(keys)), ..Faults::default() },
    }
}

/// The key of object `n`.
fn name(shape: u64, n: u64, random: u64) -> String {
    match shape {
        // After each division, the first range has few keys, and the second one all others.
        0 => format!("{}a", "z".repeat(usize::try_from(n).unwrap_or(0))),
        1 => format!("pipeline-{:02}/SourceArti/{random:05x}", n % 7),
        2 => format!("{random:05x}"),
        // A range that is divided ends at a key.
        3 => format!("p/{}", char::from(b'a' + u8::try_from(n).unwrap_or(0))),
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
