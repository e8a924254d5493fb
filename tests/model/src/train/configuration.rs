//! The configurations of the train: three waves over six targets.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use sekisho_domain::route::Routes;
use time::{Duration, OffsetDateTime};

use crate::cloud::PLACES;
use crate::configuration::{Features, parse};
use crate::train::pair;

/// The name of the route.
pub(crate) const ROUTE: &str = "shop";
/// All targets of the train: the index of the place, and the pipeline.
pub(crate) const TARGETS: [(usize, &str); 6] =
    [(0, "one"), (1, "one"), (0, "two"), (1, "two"), (0, "three"), (1, "three")];

/// The number of features that may change while a history runs.
pub(crate) const EDITS: usize = 5;
/// The second wave has another name.
const RENAMED: u16 = 1;
/// A target of the second wave is in the third one.
const MOVED: u16 = 2;
/// The first wave lacks a target.
const ONE_BOX: u16 = 4;
/// The third wave lacks a target.
const SMALLER: u16 = 8;
/// The third wave does not bake.
const QUICK: u16 = 16;
/// The other features stay as they are. What goes back if a wave fails: the index of [`RETREATS`].
const RETREAT: u16 = 32 + 64;
/// One target of a wave at a time.
const AT_ONCE: u16 = 128;
/// The third wave tolerates a failure.
pub(crate) const TOLERANT: u16 = 256;
/// The third wave has windows.
const WINDOW: u16 = 512;
/// An alarm without data is no reason to hold the third wave.
const MISSING: u16 = 1024;
/// The number of configurations without images.
pub(crate) const CONFIGURATIONS: usize = 2048;
/// Two more routes lead to a pipeline with two sources.
pub(crate) const PAIR: usize = 2048;

/// The index of the third wave.
const LAST: usize = 2;
/// When the windows open and close: hours of the local day in Tokyo. A history begins at 9:00 and lasts some hours.
const WINDOWS: [(u8, u8); 3] = [(10, 11), (13, 14), (16, 9)];

/// The factor of the index.
const RETREAT_UNIT: usize = 32;
const RETREATS: [&str; 4] = ["wave", "train", "target", "wave"];

/// The names of the waves.
pub(crate) fn wave_names(features: Features) -> [&'static str; 3] {
    ["one", if features.has(RENAMED) { "asia" } else { "two" }, "three"]
}

/// The targets of the waves.
pub(crate) fn waves(features: Features) -> [Vec<(usize, &'static str)>; 3] {
    let mut waves = [vec![(0, "one")], vec![(0, "two")], vec![(0, "three")]];
    if !features.has(ONE_BOX) {
        waves[0].push((1, "one"));
    }
    waves[if features.has(MOVED) { 2 } else { 1 }].push((1, "two"));
    if !features.has(SMALLER) {
        waves[2].push((1, "three"));
    }
    waves
}

/// How many targets of the wave with this index may deploy at the same time. `None` means all.
pub(crate) fn at_once(features: Features, index: usize) -> Option<usize> {
    // Pipelines of one account share the wave's alarms. They must be able to start together.
    let must_start_together = index == LAST && features.has(MOVED);
    (features.has(AT_ONCE) && !must_start_together).then_some(1)
}

/// How many targets of the wave with this index may fail without failing the wave.
pub(crate) fn tolerated(features: Features, index: usize) -> usize {
    usize::from(index == LAST && features.has(TOLERANT))
}

/// Whether the windows of the wave with this index let a change enter at this time.
pub(crate) fn is_open(features: Features, index: usize, at: OffsetDateTime) -> bool {
    // Tokyo has no daylight saving time.
    let hour = (at + Duration::hours(9)).hour();
    let is_in = |(begin, end): (u8, u8)| {
        if begin < end { (begin..end).contains(&hour) } else { !(end..begin).contains(&hour) }
    };
    index != LAST || !features.has(WINDOW) || WINDOWS.into_iter().any(is_in)
}

/// The routes. They are parsed once in each thread.
pub(crate) fn routes(features: Features) -> Routes {
    thread_local! {
        static ROUTES: RefCell<BTreeMap<String, Routes>> = RefCell::default();
    }
    let text = text(features);
    ROUTES.with_borrow_mut(|parsed| parsed.entry(text.clone()).or_insert_with(|| parse(&text)).clone())
}

fn text(features: Features) -> String {
    let mut text = format!(
        "[[route]]\nname = \"{ROUTE}\"\nrepository = \"shop\"\nbranches = [\"main\", \"release/*\"]\n\
         existing = \"relay\"\n"
    );
    for (index, (name, targets)) in wave_names(features).into_iter().zip(waves(features)).enumerate() {
        let _ = write!(text, "[[route.wave]]\nname = \"{name}\"\n{}", keys(features, index, &targets));
        for (place, pipeline) in targets {
            let (account, region) = PLACES[place];
            let _ = write!(
                text,
                "[[route.wave.target]]\naccount = \"{account}\"\nregion = \"{region}\"\npipeline = \"{pipeline}\"\n\
                 action = \"Source\"\n"
            );
        }
    }
    if usize::from(features.bits()) >= PAIR {
        pair::write_routes(&mut text);
    }
    text
}

/// The keys of a wave.
fn keys(features: Features, index: usize, targets: &[(usize, &str)]) -> String {
    let mut keys = String::new();
    let retreat = RETREATS[usize::from(features.bits() & RETREAT) / RETREAT_UNIT];
    let is_last = index == LAST;
    if index > 0 {
        let _ = writeln!(keys, "retreat = \"{retreat}\"");
    }
    if let Some(limit) = at_once(features, index) {
        let _ = writeln!(keys, "at_once = {limit}");
    }
    if tolerated(features, index) > 0 {
        let _ = writeln!(keys, "tolerate = {}", tolerated(features, index));
    }
    if is_last && features.has(WINDOW) {
        let windows = WINDOWS.map(|(begin, end)| format!("\"Mon-Sun {begin:02}:00-{end:02}:00 Asia/Tokyo\""));
        let _ = writeln!(keys, "windows = [{}]", windows.join(", "));
    }
    if is_last && features.has(MISSING) {
        keys.push_str("missing = \"healthy\"\n");
    }
    if !is_last || !features.has(QUICK) {
        let bake = ["5m", "10m", "5m"][index];
        let globs: Vec<String> = targets.iter().map(|(_, pipeline)| format!("\"{pipeline}-*\"")).collect();
        let mut globs = globs;
        globs.dedup();
        let _ = writeln!(keys, "bake = \"{bake}\"\nalarms = [{}]", globs.join(", "));
    }
    keys
}

/// The name of the alarm of a pipeline.
pub(crate) fn alarm(pipeline: &str) -> String {
    format!("{pipeline}-errors")
}
