//! What the row of an order knows about the sources of its pipeline, if routes feed several source actions of the
//! pipeline. The row of a pipeline with one source knows nothing here, and looks as earlier versions wrote it.

use std::collections::BTreeSet;

use sekisho_domain::change::Change;
use sekisho_domain::route::ActionName;
use serde::{Deserialize, Serialize};

use crate::pins::{EarlierOrder, Pin, PinSet, Verdict, with_healthy};
use crate::world::{ExecutionStatus, ListedExecution};

/// The sources of a pipeline with several of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowSources {
    /// The pins of the order's execution. Empty until an invocation has claimed the start, and in a pipeline with one
    /// source.
    #[serde(default, skip_serializing_if = "PinSet::is_empty")]
    pub pins: PinSet,
    /// The sets of pins that were healthy, from the oldest to the newest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub good: Vec<PinSet>,
    /// The newest orders of the other sources, from the oldest to the newest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<EarlierOrder>,
    /// Whether an order has started with several pins, so that CodePipeline's list does not show any more what ran
    /// before the first order.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_past_known: bool,
}

impl RowSources {
    /// Whether nothing is known.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The sources after the order has proved healthy. Without pins, nobody knows at which revisions the other source
    /// actions ran, so the sets that were healthy before are forgotten.
    pub(crate) fn after_success(&self) -> Self {
        if self.pins.is_empty() {
            return Self { earlier: self.earlier.clone(), ..Self::default() };
        }
        Self { good: with_healthy(&self.good, &self.pins), ..self.clone() }
    }

    /// The sources after the target has left one set for another: what the other set does not have was taken back.
    pub(crate) fn going_back_to(&self, pins: &PinSet) -> Self {
        let is_at = |set: &PinSet, order: &EarlierOrder| set.values().any(|pin| pin.is_at(&order.pin));
        let mut earlier = self.earlier.clone();
        for order in earlier.iter_mut().filter(|order| is_at(&self.pins, order) && !is_at(pins, order)) {
            *order = EarlierOrder { verdict: Verdict::Failed, execution: None, ..order.clone() };
        }
        Self { pins: pins.clone(), earlier, ..self.clone() }
    }

    /// The sources after the target has gone on with these pins, because a stage was retried before the rollback has
    /// started.
    pub(crate) fn resumed_at(&self, pins: &PinSet) -> Self {
        let is_at = |order: &EarlierOrder| pins.values().any(|pin| pin.is_at(&order.pin));
        let mut earlier = self.earlier.clone();
        for order in earlier.iter_mut().filter(|order| is_at(order)) {
            order.verdict = Verdict::Passed;
        }
        Self { pins: pins.clone(), earlier, ..self.clone() }
    }

    /// The sources after an invocation has started this execution for the change of an earlier order.
    pub(crate) fn started_late(&self, change: &Change, execution: Option<&String>) -> Self {
        let pin = Pin::of(change);
        let started = |order: &EarlierOrder| {
            let is_it = order.pin == pin && order.verdict == Verdict::Open && order.execution.is_none();
            EarlierOrder {
                execution: execution.filter(|_| is_it).or(order.execution.as_ref()).cloned(),
                ..order.clone()
            }
        };
        Self { earlier: self.earlier.iter().map(started).collect(), ..self.clone() }
    }

    /// Learns from CodePipeline's list how the executions of earlier orders ended, whose events may be late or lost. An
    /// execution that failed in a source action lists no revision of that action, and its failure is no verdict.
    pub(crate) fn learn(&mut self, listed: &[ListedExecution], actions: &BTreeSet<ActionName>) {
        for order in self.earlier.iter_mut().filter(|order| order.is_open()) {
            let execution = listed.iter().find(|listed| order.execution.as_ref() == Some(&listed.id));
            let Some(execution) = execution.filter(|execution| execution.status != ExecutionStatus::Running) else {
                continue;
            };
            let has_sources = actions.iter().all(|action| execution.revision_of(action).is_some());
            let has_failed = execution.status == ExecutionStatus::Failed && has_sources;
            order.verdict = if has_failed { Verdict::Failed } else { Verdict::Passed };
        }
    }
}
