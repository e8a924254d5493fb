//! What a pass says about itself at its end.

use serde_json::Value;

/// The row of a sweep names so many of the parts that were not checked.
pub(super) const NAMED_PARTS: u64 = 10;

/// What a pass says about itself in its row.
pub(super) struct Said<'r> {
    pub(super) row: &'r Value,
}

impl Said<'_> {
    pub(super) fn count(&self, pointer: &str) -> u64 {
        self.row.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
    }

    /// The number of objects with one of these outcomes.
    pub(super) fn outcomes(&self, names: &[&str]) -> u64 {
        names.iter().map(|name| self.count(&format!("/totals/outcomes/{name}"))).sum()
    }

    /// The number of checked objects and of those that an incremental pass did not have to check.
    pub(super) fn objects(&self) -> u64 {
        self.count("/totals/objects") + self.count("/totals/unchanged")
    }

    pub(super) fn is_listing_refused(&self) -> bool {
        self.row["listing_refused"] == true
    }

    pub(super) fn since(&self) -> Option<i64> {
        self.row["since"].as_i64()
    }

    /// Whether the pass says that the object with this key is in a part that was not checked. The part may begin with
    /// further versions of the object at its start.
    pub(super) fn names_as_unchecked(&self, key: &str) -> bool {
        self.has_unchecked_part(key, self.row["versions"] == true)
    }

    pub(super) fn has_unchecked_part(&self, key: &str, includes_start: bool) -> bool {
        let parts = self.row["ranges"]["named_unchecked"].as_array().into_iter().flatten();
        parts.filter_map(Value::as_str).any(|part| {
            let quoted = |text: &str| text.strip_prefix('"').and_then(|rest| rest.split('"').next().map(str::to_owned));
            let objects = part.strip_prefix("the object ");
            if let Some(objects) = objects.or_else(|| part.strip_prefix("objects whose checks take long: ")) {
                // Other versions of the object may be checked.
                let is_whole = includes_start || self.row["versions"] != true;
                return is_whole && objects.split('"').skip(1).step_by(2).any(|object| object == key);
            }
            let (_, rest) = part.split_once("the objects after ").expect("a part begins with its first key");
            let (after, end) = rest.split_once(" up to ").expect("a part has an end");
            let is_after = |after: String| *key > *after || (includes_start && *key == *after);
            quoted(after).is_none_or(is_after) && quoted(end).is_none_or(|end| *key <= *end)
        })
    }
}
