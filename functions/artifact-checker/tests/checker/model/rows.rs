//! Watches the rows of the ledger that several invocations share, and checks these promises:
//!
//! - while an invocation holds a range or the claim of a repair, no other one takes it;
//! - a range is set aside only after three attempts;
//! - after a repair or a complete pass that left objects behind, the next sweep of the schedule is complete.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sekisho_domain::timestamp::epoch_millis;
use sekisho_ledger::Key;
use serde_json::Value;
use time::OffsetDateTime;

use super::Counts;
use crate::world::{BUCKET, now};

/// The attempts to check a range before it is set aside.
const MOST_ATTEMPTS: u64 = 3;
/// A sweep may begin at the same time as a repair ends, and may not know of its end.
const RACE: Duration = Duration::from_mins(1);

/// The repair that is left to S3 Batch Operations.
pub(super) struct BatchRepair {
    pub(super) code: String,
    /// The id of the sweep that left the objects.
    pub(super) sweep: String,
    /// When the ledger first had the repair.
    pub(super) opened: OffsetDateTime,
    has_ended: bool,
}

/// What a pass says about itself at its end.
pub(super) struct PassEnd {
    /// Whether it was over the latest versions.
    pub(super) is_ordinary: bool,
    /// Whether it has decided about every object.
    pub(super) is_whole: bool,
    /// The number of objects that it has left to S3 Batch Operations.
    pub(super) left: u64,
    /// The number of findings without rows.
    pub(super) untracked: u64,
}

#[derive(Default)]
pub(super) struct Rows {
    /// The last state of each row of a sweep, a range or a claim, by the key of the row.
    last: BTreeMap<(String, String), Value>,
    /// The last repair that was left to S3 Batch Operations.
    pub(super) repair: Option<BatchRepair>,
    /// The time of something that lets the next sweep of the schedule be complete. `None` after a complete sweep.
    complete_required: Option<OffsetDateTime>,
    /// How many objects a sweep may repair without a confirmation.
    pub(super) most_repairs: u64,
    /// For each sweep that has repaired so many, by its id: when the ledger first said so.
    exhausted: BTreeMap<String, OffsetDateTime>,
}

impl Rows {
    /// The ledger has this row now. `hops` is the number of invocations in the chain that has led to the write.
    pub(super) fn saw(&mut self, key: &Key, row: &Value, hops: u32, counts: &mut Counts) -> Result<(), String> {
        if key.pk == "artifact-repair" {
            self.saw_repair(row, counts);
            return Ok(());
        }
        let is_sweep = key.pk.starts_with("sweep#");
        let is_lease = key.pk.starts_with("repair#") || (is_sweep && key.sk.starts_with("range#"));
        let before = self.last.insert((key.pk.clone(), key.sk.clone()), row.clone());
        if let Some(sweep) = key.sk.strip_prefix("repairs#") {
            if row["repaired"].as_u64().is_some_and(|repaired| repaired >= self.most_repairs) {
                self.exhausted.entry(sweep.to_owned()).or_insert_with(now);
            }
            return Ok(());
        }
        match before.filter(|before| before["sweep"] == row["sweep"]) {
            Some(before) if is_lease => check_lease(key, &before, row),
            Some(before) if is_sweep && key.sk == "state" => {
                if hops > 16 && is_division(&before, row) {
                    *counts.entry("divisions after more than 16 hops").or_default() += 1;
                }
                self.check_attempts(key, &before, row)
            }
            _ => Ok(()),
        }
    }

    /// Whether the sweep that has the claim on an object had made all its repairs before this time.
    pub(super) fn was_exhausted(&self, object: &str, at: OffsetDateTime) -> bool {
        let claim = self.last.get(&(format!("repair#{BUCKET}#{object}"), "state".to_owned()));
        let sweep = claim.and_then(|claim| claim["holder"].as_str()).unwrap_or_default();
        self.exhausted.get(sweep).is_some_and(|since| *since < at)
    }

    fn saw_repair(&mut self, row: &Value, counts: &mut Counts) {
        let code = row["code"].as_str().expect("a repair has a code");
        let has_ended = row["step"] == "ended";
        let known = self.repair.take().filter(|known| known.code == code);
        let was_open = known.as_ref().is_none_or(|known| !known.has_ended);
        let sweep = row["sweep"].as_str().expect("a repair has a sweep").to_owned();
        let opened = known.map_or_else(now, |known| known.opened);
        self.repair = Some(BatchRepair { code: code.to_owned(), sweep, opened, has_ended });
        let manifests = row["manifests"].as_array().into_iter().flatten();
        let failed: u64 = manifests.filter_map(|manifest| manifest.pointer("/end/failed")?.as_u64()).sum();
        let is_incomplete = row["incomplete"].as_array().is_some_and(|why| !why.is_empty());
        if has_ended && was_open && (is_incomplete || failed > 0) {
            *counts.entry("repairs that left objects behind").or_default() += 1;
            self.complete_required = Some(now());
        }
    }

    /// Checks that each range that the row of a sweep has newly set aside was tried often enough.
    fn check_attempts(&self, key: &Key, before: &Value, row: &Value) -> Result<(), String> {
        let unchecked = |row: &Value| row["ranges"]["unchecked"].as_u64().unwrap_or(0);
        if unchecked(row) == unchecked(before) {
            return Ok(());
        }
        let open = |row: &Value| -> BTreeSet<u64> {
            let open = row["ranges"]["open"].as_array().into_iter().flatten();
            open.filter_map(|range| range["number"].as_u64()).collect()
        };
        for number in open(before).difference(&open(row)) {
            let range = self.last.get(&(key.pk.clone(), format!("range#{number:05}")));
            let attempts = range.and_then(|range| range["attempts"].as_u64()).unwrap_or(0);
            if attempts < MOST_ATTEMPTS {
                return Err(format!("range {number} of {} is set aside after {attempts} attempts", key.pk));
            }
        }
        Ok(())
    }

    /// A pass over the latest versions begins.
    pub(super) fn pass_begins(&self, is_incremental: bool) -> Result<(), String> {
        match self.complete_required {
            Some(at) if is_incremental && now() - at > RACE => {
                Err("it is incremental, although a repair or a complete pass has left objects behind".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// A pass that was not incremental has ended.
    pub(super) fn complete_pass_ends(&mut self, id: &str, end: &PassEnd) {
        let is_adopted = self.repair.as_ref().is_some_and(|repair| repair.sweep == id);
        let is_recorded = end.untracked == 0 && (end.left == 0 || is_adopted);
        if !is_recorded || (end.is_ordinary && !end.is_whole) {
            self.complete_required = Some(now());
        } else if end.is_ordinary {
            self.complete_required = None;
        }
    }
}

/// Whether the row of a sweep has a range more, and no range was set aside for it.
fn is_division(before: &Value, row: &Value) -> bool {
    let ranges = |row: &Value, name: &str| row["ranges"][name].as_u64().unwrap_or(0);
    ranges(row, "next") > ranges(before, "next") && ranges(row, "unchecked") == ranges(before, "unchecked")
}

/// Checks that nobody takes a row while another invocation or sweep holds it.
fn check_lease(key: &Key, before: &Value, row: &Value) -> Result<(), String> {
    let is_held = before["until"].as_u64().is_some_and(|until| until > epoch_millis(now()));
    if is_held && before["holder"] != row["holder"] {
        let (from, by) = (&before["holder"], &row["holder"]);
        return Err(format!("{} {} is taken from {from} by {by}", key.pk, key.sk));
    }
    Ok(())
}
