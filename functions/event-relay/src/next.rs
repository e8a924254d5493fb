//! The central decision of a train: what its waves do next. [`next`] is a pure function of the configuration, the
//! train's row, the rows of targets and the time. Whoever changes the row of the train or of a target calls it
//! afterwards, and so does every reconcile.

use std::collections::BTreeSet;

use sekisho_domain::decision::Decision;
use sekisho_domain::route::{Route, Routes, TargetId};
use time::OffsetDateTime;

use crate::ordering::Placed;
use crate::outcome::Outcome;
use crate::snapshot::TargetRows;
use crate::train::TrainRow;

/// The facts about a train.
#[derive(Debug)]
pub(crate) struct TrainFacts<'a> {
    /// All routes, because other trains may lead to the same targets.
    pub(crate) routes: &'a Routes,
    pub(crate) route: &'a Route,
    pub(crate) row: TrainRow,
    /// The rows of targets that were read so far.
    pub(crate) targets: TargetRows,
    pub(crate) scope: Scope,
}

/// What may have changed since the train was looked at last. The other waves need not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Anything, also by the passing of time.
    All,
    /// A new change arrived.
    Arrival,
    /// This target reported.
    Target(TargetId),
}

/// The targets whose rows must be read before the decision is known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Missing(pub(crate) BTreeSet<TargetId>);

/// What a train does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Next {
    /// The train's row afterwards.
    pub(crate) row: TrainRow,
    /// The rows of targets with new orders, the most urgent ones first.
    pub(crate) orders: Vec<Placed>,
    pub(crate) decisions: Vec<Decision<Outcome>>,
}

/// Decides what a train does next. A second call with the result does nothing more.
///
/// # Errors
/// A row on which the decision depends has not been read. The caller reads it and asks again.
pub(crate) fn next(facts: &TrainFacts<'_>, _now: OffsetDateTime) -> Result<Next, Missing> {
    Ok(Next { row: facts.row.clone(), orders: vec![], decisions: vec![] })
}
