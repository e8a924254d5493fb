//! The objects of a sweep, or of a range of it, whose checks take long. The row remembers them, while its position moves
//! on.

use serde::{Deserialize, Serialize};

use crate::object::ListedObject;

/// The most objects whose checks take long that a row remembers.
const MOST_SLOW: usize = 100;
/// How many invocations work on one object before the sweep gives it up. 36 invocations of five minutes copy about 8 TB.
const MOST_RUNS: u32 = 36;

/// The objects whose checks take long.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct SlowObjects(Vec<SlowObject>);

/// An object whose check takes long.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SlowObject {
    object: ListedObject,
    /// How many invocations have worked on the object and did not finish.
    runs: u32,
    /// Whether the object comes from a range that was set aside.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    of_set_aside: bool,
}

/// The objects whose checks an invocation did not finish.
#[derive(Debug, Default)]
pub(crate) struct UnfinishedChecks {
    /// Objects that no earlier invocation has worked on.
    pub(crate) new: Vec<ListedObject>,
    /// Objects that too many invocations have worked on.
    pub(crate) given_up: Vec<ListedObject>,
}

impl SlowObjects {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn objects(&self) -> Vec<ListedObject> {
        self.0.iter().map(|slow| slow.object.clone()).collect()
    }

    /// Whether there is room for one more object besides so many others.
    pub(crate) fn has_room(&self, others: usize) -> bool {
        self.0.len() + others < MOST_SLOW
    }

    pub(crate) fn add(&mut self, objects: Vec<ListedObject>) {
        self.0.extend(objects.into_iter().map(|object| SlowObject { object, runs: 0, of_set_aside: false }));
    }

    pub(crate) fn remove(&mut self, object: &ListedObject) {
        self.0.retain(|slow| slow.object != *object);
    }

    /// Counts an invocation for the checks that it did not finish. Returns the objects that no earlier invocation has
    /// worked on, and those that too many invocations have worked on; the latter are removed.
    pub(crate) fn end_run(&mut self) -> UnfinishedChecks {
        let mut unfinished = UnfinishedChecks::default();
        for slow in &mut self.0 {
            slow.runs += 1;
            match slow.runs {
                1 => unfinished.new.push(slow.object.clone()),
                MOST_RUNS => unfinished.given_up.push(slow.object.clone()),
                _ => {}
            }
        }
        self.0.retain(|slow| slow.runs < MOST_RUNS);
        unfinished
    }

    /// Leaves the objects of a range that is set aside to the range of its rest. Returns the keys of those that nobody
    /// will check: all of them without a rest, and those that come from an earlier range that was set aside, because
    /// they may be what ends each attempt.
    pub(crate) fn leave(&self, rest: Option<&mut Self>) -> Vec<String> {
        let (mut unchecked, first): (Vec<_>, Vec<_>) = self.0.iter().cloned().partition(|slow| slow.of_set_aside);
        match rest {
            Some(rest) => rest.0.extend(first.into_iter().map(|slow| SlowObject { of_set_aside: true, ..slow })),
            None => unchecked.extend(first),
        }
        unchecked.into_iter().map(|slow| slow.object.key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slow_objects_of_a_range_that_is_set_aside_are_checked_once_more_or_named() {
        let object = |key: &str| ListedObject { key: key.to_owned(), version: None, is_latest: true, written: None };
        let (mut range, mut rest, mut next) = (SlowObjects::default(), SlowObjects::default(), SlowObjects::default());
        range.add(vec![object("k")]);
        assert_eq!(range.leave(None), ["k"]);
        assert_eq!((range.leave(Some(&mut rest)).len(), rest.objects()), (0, vec![object("k")]));
        rest.add(vec![object("l")]);
        assert_eq!((rest.leave(Some(&mut next)), next.objects()), (vec!["k".to_owned()], vec![object("l")]));
    }

    #[test]
    fn the_rows_of_earlier_versions_can_be_read() {
        let text = r#"[{"object":{"key":"k","version":null,"is_latest":true},"runs":3}]"#;
        let slow: SlowObjects = serde_json::from_str(text).unwrap();
        assert_eq!(slow.objects().len(), 1);
    }
}
