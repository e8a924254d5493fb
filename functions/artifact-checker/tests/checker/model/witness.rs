//! Records everything that happens in a history, and checks these promises:
//!
//! - no object that existed from the beginning to the end of a pass is left unchecked, unless the pass says so;
//! - the totals of a pass are exact, if nobody writes or deletes objects meanwhile;
//! - after a pass, every wrong object is repaired, unless the pass says so;
//! - if nothing fails, the passes count every repair once;
//! - without a confirmation, no invocation of a sweep makes more repairs than the sweep may, and none makes any that
//!   begins when the ledger has so many;
//! - no object is repaired twice, by the function or by a job, unless somebody else has changed its key back;
//! - no invocation lists far ahead of its checks, so its memory does not grow with the bucket.
//!
//! `rows` has further promises, and the history itself sees whether everything ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sekisho_ledger::Key;
use serde_json::Value;
use time::OffsetDateTime;

use super::Counts;
use super::network::is_right;
use super::rows::{PassEnd, Rows};
use super::said::{NAMED_PARTS, Said};
use crate::world::s3::{Sse, Version};
use crate::world::{BUCKET, World, now};

/// The most pages that one invocation has open.
const MOST_PAGES: usize = 8;
/// Somebody may change a key between the last look at an object and its repair.
const RACE: Duration = Duration::from_mins(2);
/// How long an invocation may still repair in place after another one has left a repair to S3 Batch Operations: it has
/// not read the row of that repair yet. A call takes up to twice the latency.
const LONGEST_UNAWARE: Duration = Duration::from_secs(12);
const MOST_CALLS: u32 = 15;
const REPORTS: &str = "sekisho-reports/";

/// The versions of an object: key and version.
type ObjectVersion = (String, String);

/// An object that S3 showed to the function, or said that it does not exist.
pub(super) struct Looked {
    at: OffsetDateTime,
    by: String,
    key: String,
    version: Option<String>,
}

impl Looked {
    pub(super) fn now(request_id: &str, key: &str, version: Option<String>) -> Self {
        Self { at: now(), by: request_id.to_owned(), key: key.to_owned(), version }
    }
}

/// A request to repair an object, and what it found.
pub(super) struct Write {
    pub(super) key: String,
    pub(super) version: String,
    pub(super) is_copy: bool,
    /// Whether the object was already under the right key.
    pub(super) was_right: bool,
}

/// A task of a job of S3 Batch Operations.
pub(super) struct Task {
    pub(super) key: String,
    /// Whether the object was already under the right key.
    pub(super) was_right: bool,
    /// Whether the object keeps its setting of the S3 Bucket Key, or gets that of its bucket if it was under S3's own key.
    pub(super) keeps_setting: bool,
}

/// A repair that was made.
struct Repaired {
    /// When the job came to the object, or when the function first looked at it, after which it decides.
    at: OffsetDateTime,
    key: String,
    by: Repairer,
}

enum Repairer {
    Event,
    Sweep,
    Job,
}

/// One pass over the bucket.
struct Pass {
    began: OffsetDateTime,
    versions: bool,
    dry_run: bool,
    /// The latest versions at the beginning, or all versions if the pass checks all of them.
    existed: BTreeSet<ObjectVersion>,
    has_ended: bool,
}

#[derive(Default)]
pub(super) struct Witness {
    passes: BTreeMap<String, Pass>,
    looks: Vec<Looked>,
    /// What others have written, deleted or re-keyed.
    touched: Vec<(OffsetDateTime, ObjectVersion)>,
    /// The last repair of each version, and the invocation that made it without getting an answer.
    unanswered: BTreeMap<ObjectVersion, String>,
    repairs: Vec<Repaired>,
    /// How many objects the passes that ended say they have repaired.
    counted_repairs: u64,
    pub(super) rows: Rows,
    /// When each invocation began, and what it has repaired.
    invocations: BTreeMap<String, (OffsetDateTime, BTreeSet<ObjectVersion>)>,
    /// Whether no pass may end without a decision about an object, unless it has set aside a range.
    pub(super) decides_all: bool,
    /// The longest time before a call takes effect, and the longest time after it.
    pub(super) latency: Duration,
    /// The number of objects that a page has.
    pub(super) page: usize,
    /// The first promise that was broken.
    pub(super) broken: Option<String>,
}

impl Pass {
    fn is_ordinary(&self) -> bool {
        !self.versions && !self.dry_run
    }
}

/// Whether an object is not one of the reports that the function writes.
pub(super) fn is_artifact(key: &str) -> bool {
    !key.starts_with(REPORTS)
}

/// The latest versions, or all versions, without delete markers.
fn existing(world: &World, versions: bool) -> BTreeSet<ObjectVersion> {
    let state = world.state();
    let objects = state.bucket(BUCKET).objects.iter().filter(|(key, _)| is_artifact(key));
    let of_object = |(key, all): (&String, &Vec<Version>)| {
        let shown = if versions { all.as_slice() } else { all.last().map(std::slice::from_ref).unwrap_or_default() };
        let shown = shown.iter().filter(|version| !version.delete_marker);
        shown.map(|version| (key.clone(), version.id.clone())).collect::<Vec<_>>()
    };
    objects.flat_map(of_object).collect()
}

impl Witness {
    fn broke(&mut self, promise: String) {
        self.broken.get_or_insert(promise);
    }

    /// Somebody else has written, deleted or re-keyed an object.
    pub(super) fn touched(&mut self, key: &str, version: &str) {
        self.touched.push((now(), (key.to_owned(), version.to_owned())));
    }

    /// An invocation begins, or Lambda repeats it.
    pub(super) fn begins(&mut self, request_id: &str) {
        self.invocations.insert(request_id.to_owned(), (now(), BTreeSet::new()));
    }

    pub(super) fn looked(&mut self, looked: Looked) {
        self.looks.push(looked);
    }

    pub(super) fn listed_ahead(&mut self, objects: usize, request_id: &str) {
        // The page that was just listed is one more, and the last page may have objects after the end of the range.
        let most = (MOST_PAGES + 2) * self.page;
        if objects > most {
            self.broke(format!("{request_id} has listed {objects} objects that it has not looked at"));
        }
    }

    pub(super) fn repaired(&mut self, write: Write, request_id: &str, is_lost: bool) {
        let object = (write.key, write.version);
        // The SDK repeats a request without an answer.
        let is_repetition = self.unanswered.get(&object).is_some_and(|by| by == request_id);
        let since = now() - RACE;
        let is_race = self.touched.iter().any(|(at, (key, _))| *at >= since && *key == object.0);
        let is_event = request_id.starts_with("event-");
        // A job may have repaired the object after the event's invocation looked at it, and before it repaired.
        let is_after_job =
            is_event && self.has_repaired(&object.0, |one| matches!(one.by, Repairer::Job) && one.at >= since);
        if write.was_right && !is_repetition && !is_race && !is_after_job {
            self.broke(format!("{request_id} repaired {} {} once more", object.0, object.1));
        }
        let by = if is_event { Repairer::Event } else { Repairer::Sweep };
        let is_it = |look: &&Looked| {
            look.by == request_id && look.key == object.0 && look.version.as_ref().is_none_or(|id| *id == object.1)
        };
        let at = self.looks.iter().find(is_it).map_or_else(now, |look| look.at);
        if !is_event {
            self.count_repair(&object, request_id);
        }
        self.repairs.push(Repaired { at, key: object.0.clone(), by });
        if is_lost {
            self.unanswered.insert(object, request_id.to_owned());
        } else {
            self.unanswered.remove(&object);
        }
    }

    /// Counts a repair for which a sweep needs no confirmation.
    fn count_repair(&mut self, object: &ObjectVersion, request_id: &str) {
        let (began, repaired) = self.invocations.get_mut(request_id).expect("the invocation has begun");
        repaired.insert(object.clone());
        if repaired.len() as u64 > self.rows.most_repairs || self.rows.was_exhausted(&object.0, *began) {
            self.broke(format!("{request_id} repaired {} without a confirmation", object.0));
        }
    }

    fn has_repaired(&self, key: &str, which: impl Fn(&Repaired) -> bool) -> bool {
        self.repairs.iter().any(|one| one.key == key && which(one))
    }

    /// A job has come to an object. An event may have repaired the object before, and so may an invocation of another
    /// sweep that did not know of the job yet. Another job must not.
    pub(super) fn repaired_by_job(&mut self, task: Task) {
        let Task { key, was_right, keeps_setting } = task;
        let repair = self.rows.repair.as_ref().expect("the ledger has the repair before there is a job");
        let code = repair.code.clone();
        let aware = repair.opened + LONGEST_UNAWARE + self.latency * MOST_CALLS;
        let is_known = |one: &Repaired| match &one.by {
            Repairer::Event => true,
            Repairer::Sweep => one.at < aware,
            Repairer::Job => false,
        };
        let is_touched = self.touched.iter().any(|(_, (touched, _))| *touched == key);
        if was_right && !is_touched && !self.has_repaired(&key, is_known) {
            self.broke(format!("the job of the repair {code} repairs {key} once more"));
        }
        if !keeps_setting && !is_touched {
            self.broke(format!("the job of the repair {code} changes the S3 Bucket Key of {key}"));
        }
        self.repairs.push(Repaired { at: now(), key, by: Repairer::Job });
    }

    /// The ledger has this row now, which several invocations share, after so many hops.
    pub(super) fn saw_shared_row(&mut self, key: &Key, row: &Value, hops: u32, counts: &mut Counts) {
        if let Err(broken) = self.rows.saw(key, row, hops, counts) {
            self.broke(broken);
        }
    }

    /// The ledger has this row of a sweep now. Returns what this means for its pass, if anything.
    pub(super) fn saw_row(&mut self, row: &Value, world: &World, counts: &mut Counts) -> Option<&'static str> {
        let mut news = None;
        let id = row["sweep"].as_str().expect("a sweep has an id").to_owned();
        let is_complete = row["complete"] == true;
        let known = self.passes.get(&id);
        if known.is_none_or(|pass| pass.has_ended && !is_complete) {
            if self.passes.values().any(|pass| !pass.has_ended) {
                *counts.entry("passes beside another pass").or_default() += 1;
            }
            let (versions, dry_run) = (row["versions"] == true, row["dry_run"] == true);
            let pass = Pass { began: now(), versions, dry_run, existed: existing(world, versions), has_ended: false };
            if pass.is_ordinary()
                && let Err(broken) = self.rows.pass_begins(row["since"].is_i64())
            {
                self.broke(format!("pass {id}: {broken}"));
            }
            // An incremental sweep that a person's sweep replaces never ends.
            if let Some(replaced) = row["replaces"].as_str() {
                self.passes.remove(replaced);
            }
            self.passes.insert(id.clone(), pass);
            news = Some("begins");
        }
        if row["ranges"]["next"].as_u64().is_some_and(|next| next > 1) && is_complete {
            *counts.entry("divided ranges").or_default() += 1;
        }
        if is_complete && self.passes.get(&id).is_some_and(|pass| !pass.has_ended) {
            self.end_pass(&id, &Said { row }, world, counts);
            news = Some("ends");
        }
        news
    }

    /// The passes that have begun so long ago and not ended.
    pub(super) fn open_passes(&self, age: Duration) -> Vec<&String> {
        let is_open = |pass: &Pass| !pass.has_ended && now() - pass.began >= age;
        self.passes.iter().filter(|(_, pass)| is_open(pass)).map(|(id, _)| id).collect()
    }

    /// Checks that the passes have counted each repair once. If a process has died, some repairs are forgotten.
    pub(super) fn check_counted_repairs(&self) -> Result<(), String> {
        let made = self.repairs.iter().filter(|one| matches!(one.by, Repairer::Sweep)).count() as u64;
        if made == self.counted_repairs {
            return Ok(());
        }
        Err(format!("the passes count {} repairs, and made {made}", self.counted_repairs))
    }

    fn end_pass(&mut self, id: &str, said: &Said<'_>, world: &World, counts: &mut Counts) {
        let mut pass = self.passes.remove(id).expect("the pass has begun");
        let unchecked = said.count("/ranges/unchecked");
        let mut count = |what: &'static str, happened: bool| *counts.entry(what).or_default() += u64::from(happened);
        count("passes that ended", true);
        count("passes over all versions", pass.versions);
        count("dry runs", pass.dry_run);
        count("incomplete passes", unchecked > 0);
        count("incremental passes that left something out", said.count("/totals/unchanged") > 0);
        pass.has_ended = true;
        let results = [
            self.check_totals(&pass, said, world),
            self.check_looks(&pass, said, world),
            self.check_repairs(&pass, said, world),
        ];
        for wrong in results.into_iter().filter_map(Result::err) {
            self.broke(format!("pass {id}: {wrong}: {}", said.row["totals"]));
        }
        if self.decides_all && unchecked == 0 && said.outcomes(&["unknown"]) > 0 {
            self.broke(format!("pass {id} is undecided about an object: {}", said.row["totals"]));
        }
        self.counted_repairs += said.outcomes(&["repaired"]);
        if !pass.dry_run && said.since().is_none() {
            let end = PassEnd {
                is_ordinary: pass.is_ordinary(),
                is_whole: unchecked + said.outcomes(&["ignored"]) == 0 && !said.is_listing_refused(),
                left: said.count("/totals/left"),
                untracked: said.count("/totals/untracked"),
            };
            self.rows.complete_pass_ends(id, &end);
        }
        self.passes.insert(id.to_owned(), pass);
    }

    /// What existed from the beginning of a pass until now, and nobody else has touched.
    fn stable(&self, pass: &Pass, world: &World) -> BTreeSet<ObjectVersion> {
        let now = existing(world, pass.versions);
        let is_touched = |key: &str| self.touched.iter().any(|(at, touched)| *at >= pass.began && touched.0 == key);
        let keys_now: BTreeSet<&str> = now.iter().map(|(key, _)| key.as_str()).collect();
        // The function's own copy replaces the latest version of an object.
        let exists = |object: &ObjectVersion| {
            if pass.versions { now.contains(object) } else { keys_now.contains(object.0.as_str()) }
        };
        pass.existed.iter().filter(|object| exists(object) && !is_touched(&object.0)).cloned().collect()
    }

    /// What existed at any time of a pass.
    fn ever(&self, pass: &Pass, world: &World) -> BTreeSet<ObjectVersion> {
        let written = self.touched.iter().filter(|(at, _)| *at >= pass.began).map(|(_, object)| object.clone());
        pass.existed.iter().cloned().chain(existing(world, pass.versions)).chain(written).collect()
    }

    fn check_totals(&self, pass: &Pass, said: &Said<'_>, world: &World) -> Result<(), String> {
        let of_outcomes: u64 =
            said.row["totals"]["outcomes"].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum();
        if of_outcomes != said.count("/totals/objects") {
            return Err(format!("the outcomes are of {of_outcomes} objects"));
        }
        let unchecked = said.count("/ranges/unchecked");
        let distinct = |objects: BTreeSet<ObjectVersion>, is_least: bool| {
            let is_unchecked = |key: &str| said.has_unchecked_part(key, is_least && pass.versions);
            let counted = objects.into_iter().filter(|(key, _)| !is_unchecked(key));
            if pass.versions { counted.count() } else { counted.map(|(key, _)| key).collect::<BTreeSet<_>>().len() }
        };
        let least = distinct(self.stable(pass, world), true) as u64;
        let most = distinct(self.ever(pass, world), false) as u64;
        let is_known = !said.is_listing_refused() && unchecked <= NAMED_PARTS;
        if said.objects() > most && unchecked <= NAMED_PARTS {
            return Err(format!("it counts {} objects, and there were at most {most}", said.objects()));
        }
        if said.objects() < least && is_known {
            return Err(format!("it counts {} objects, and there were at least {least}", said.objects()));
        }
        Ok(())
    }

    /// Whether the function has looked at every object that was there, but for those that the pass names.
    fn check_looks(&self, pass: &Pass, said: &Said<'_>, world: &World) -> Result<(), String> {
        if said.is_listing_refused() || said.count("/ranges/unchecked") > NAMED_PARTS {
            return Ok(());
        }
        let looks = self.looks.iter().filter(|look| look.at >= pass.began);
        let looks: BTreeSet<(&str, Option<&str>)> =
            looks.map(|look| (look.key.as_str(), look.version.as_deref().filter(|_| pass.versions))).collect();
        let stable = self.stable(pass, world);
        let missing: Vec<&ObjectVersion> = stable
            .iter()
            .filter(|(key, version)| {
                !looks.contains(&(key.as_str(), Some(version.as_str()).filter(|_| pass.versions)))
                    && !said.names_as_unchecked(key)
                    && !self.is_left_out_rightly(key, said, world)
            })
            .collect();
        // What the function could not decide is among the outcomes.
        if missing.len() as u64 > said.outcomes(&["unknown", "ignored"]) {
            return Err(format!("nobody looked at {missing:?}"));
        }
        Ok(())
    }

    /// Whether an incremental pass leaves out an object at which the function has looked since it was written.
    fn is_left_out_rightly(&self, key: &str, said: &Said<'_>, world: &World) -> bool {
        let written = world.state().bucket(BUCKET).latest(key).and_then(|latest| latest.written);
        let was_looked_at = |written| self.looks.iter().any(|look| look.key == key && look.at >= written);
        is_left_out(key, said, world) && written.is_some_and(was_looked_at)
    }

    /// Whether every object is repaired that the pass says it has checked.
    fn check_repairs(&self, pass: &Pass, said: &Said<'_>, world: &World) -> Result<(), String> {
        if pass.dry_run || said.is_listing_refused() || said.count("/ranges/unchecked") > NAMED_PARTS {
            return Ok(());
        }
        let stable: BTreeSet<String> = self.stable(pass, world).into_iter().map(|(key, _)| key).collect();
        let is_expected = |key: &String| !said.names_as_unchecked(key) && !is_left_out(key, said, world);
        let wrong: Vec<&String> =
            stable.iter().filter(|key| is_expected(key)).filter(|key| is_wrong(world, key)).collect();
        let left = said.count("/totals/left") + said.count("/totals/untracked");
        let undecided = left + said.outcomes(&["unknown", "ignored", "non-converging", "unverifiable"]);
        if wrong.len() as u64 > undecided {
            return Err(format!("{wrong:?} are under wrong keys"));
        }
        Ok(())
    }
}

/// Whether an incremental pass does not have to look at an object.
fn is_left_out(key: &str, said: &Said<'_>, world: &World) -> bool {
    let state = world.state();
    let written = state.bucket(BUCKET).latest(key).and_then(|latest| latest.written);
    said.since().zip(written).is_some_and(|(since, written)| written.unix_timestamp() < since)
}

/// Whether an object is under a key from which the function can repair it.
pub(super) fn is_wrong(world: &World, key: &str) -> bool {
    let state = world.state();
    state.bucket(BUCKET).latest(key).is_some_and(|latest| {
        let is_own = match &latest.sse {
            Sse::S3 => true,
            Sse::Kms(arn) => arn.contains(crate::world::ACCOUNT),
            Sse::Dsse(_) | Sse::Customer => false,
        };
        is_own && !is_right(&latest.sse)
    })
}
