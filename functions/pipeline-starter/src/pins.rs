//! Pins: the revision of each source action of an execution, for a pipeline whose source actions get their revisions
//! from several routes, such as code and an image. This module chooses the pins of an order.

use std::collections::{BTreeMap, BTreeSet};

use sekisho_domain::change::{Change, RepositoryArn, Revision, SourceRef};
use sekisho_domain::route::ActionName;
use serde::{Deserialize, Serialize};

/// For each source action, how many of its revisions the healthy sets hold. A rollback to an older revision takes the
/// pins that a new order would take.
const MOST_REVISIONS: usize = 5;

/// The revision that a source action is pinned to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The commit or the image.
    pub revision: Revision,
    /// The repository. `None` if only an execution shows the revision, and the route has a glob for its repositories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryArn>,
    /// The branch, git tag or image tag. `None` if only an execution shows the revision.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub source_ref: Option<SourceRef>,
}

impl Pin {
    /// The pin of a source action that gets this change.
    pub(crate) fn of(change: &Change) -> Self {
        Self {
            revision: change.revision.clone(),
            repository: Some(change.repository.clone()),
            source_ref: Some(change.source_ref.clone()),
        }
    }

    /// Whether both pins are at the same revision of the same repository. The branch or tag does not matter.
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        self.revision == other.revision && self.repository == other.repository
    }
}

/// What people call such a revision.
pub(crate) fn noun(revision: &Revision) -> &'static str {
    if revision.is_digest() { "image" } else { "commit" }
}

/// A revision in a text for people.
pub(crate) fn named(revision: &Revision) -> String {
    format!("{} {revision}", noun(revision))
}

/// The pins of the source actions of one execution.
pub type PinSet = BTreeMap<ActionName, Pin>;

/// Whether the sets pin the same source actions at the same revisions.
pub(crate) fn is_same(one: &PinSet, other: &PinSet) -> bool {
    one.len() == other.len() && one.iter().all(|(action, pin)| has(other, action, pin))
}

/// Whether the set has the action at the revision of this pin.
pub(crate) fn has(set: &PinSet, action: &ActionName, pin: &Pin) -> bool {
    set.get(action).is_some_and(|own| own.revision == pin.revision)
}

/// The healthy sets, from the oldest to the newest, after this set has proved healthy. For each source action, the
/// newest set with each of its last revisions stays, so that many new images do not push out
/// the set with the last commit.
pub(crate) fn with_healthy(sets: &[PinSet], newest: &PinSet) -> Vec<PinSet> {
    let mut seen: BTreeMap<&ActionName, BTreeSet<&Revision>> = BTreeMap::new();
    let mut kept = Vec::new();
    for set in std::iter::once(newest).chain(sets.iter().rev()) {
        let mut is_needed = false;
        for (action, pin) in set {
            let revisions = seen.entry(action).or_default();
            is_needed |= revisions.len() < MOST_REVISIONS && revisions.insert(&pin.revision);
        }
        if is_needed {
            kept.push(set.clone());
        }
    }
    kept.reverse();
    kept
}

/// An order that a newer one has replaced, as the newest order of its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierOrder {
    /// The revision, the repository and the reference of the order's change.
    pub pin: Pin,
    /// The execution of the order, as long as its end can change the verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<String>,
    /// What is known about the revision.
    pub verdict: Verdict,
}

impl EarlierOrder {
    /// Whether an execution of the order ran when it was last heard of.
    pub(crate) fn is_open(&self) -> bool {
        self.verdict == Verdict::Open && self.execution.is_some()
    }
}

/// What is known about the revision of an order that a newer one has replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The execution had not ended when the newer order came, or nothing had started.
    Open,
    /// The execution has succeeded, or nobody can tell.
    Passed,
    /// The order failed, or was taken back.
    Failed,
}

/// What the pins of an order depend on.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    /// The source actions that get the order's change, with the pin of each.
    pub(crate) own: PinSet,
    /// All source actions of the pipeline that routes lead to.
    pub(crate) all: &'a BTreeSet<ActionName>,
    /// The newest order of each source action that has had one.
    pub(crate) newest: BTreeMap<ActionName, &'a EarlierOrder>,
    /// The healthy sets, from the oldest to the newest. A set may lack a source action that was added later.
    pub(crate) good: &'a [PinSet],
    /// The set that the target goes back to. Empty for an order of kind `deploy`.
    pub(crate) restored: &'a PinSet,
}

impl Sources<'_> {
    /// The pins of the order. Returns the source actions without a revision if there are any, because no execution
    /// starts with an unpinned source.
    pub(crate) fn choose(&self) -> Result<PinSet, BTreeSet<ActionName>> {
        let mut set = PinSet::new();
        let mut missing = BTreeSet::new();
        for action in self.all.iter().chain(self.own.keys()) {
            match self.own.get(action).or_else(|| self.restored.get(action)).or_else(|| self.of_other(action)) {
                Some(pin) => drop(set.insert(action.clone(), pin.clone())),
                None => drop(missing.insert(action.clone())),
            }
        }
        if missing.is_empty() { Ok(set) } else { Err(missing) }
    }

    /// The pin of a source action that another source feeds: that of its newest order or, if this order failed, the
    /// last healthy one.
    fn of_other(&self, action: &ActionName) -> Option<&Pin> {
        match self.newest.get(action) {
            Some(order) if order.verdict != Verdict::Failed => Some(&order.pin),
            _ => self.good.iter().rev().find_map(|set| set.get(action)),
        }
    }
}

/// The newest healthy set that has one of these source actions at its pin, or an empty set.
pub(crate) fn newest_with(good: &[PinSet], own: &PinSet) -> PinSet {
    let contains = |set: &&PinSet| own.iter().any(|(action, pin)| has(set, action, pin));
    good.iter().rev().find(contains).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests;
