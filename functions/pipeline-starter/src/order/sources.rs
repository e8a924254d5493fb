//! How the row of an order uses what it knows about the sources of its pipeline.

use std::collections::{BTreeMap, BTreeSet};

use sekisho_domain::change::{Change, RepositoryArn, Revision, SourceKind, SourceRef};
use sekisho_domain::report::ReportState;
use sekisho_domain::route::ActionName;

use super::{OrderRow, Progress};
use crate::pins::{EarlierOrder, Pin, PinSet, Verdict, named};
use crate::sources::RowSources;
use crate::variables;
use crate::world::ListedExecution;

/// The most earlier orders that a row remembers. A start forgets all but the newest one of each source action.
const MOST_EARLIER: usize = 20;

/// How an execution agrees with the pins of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agreement {
    /// Every source action ran at its pin.
    Whole,
    /// No source action ran at another revision, and some have not run yet.
    Partial,
    /// A source action ran at another revision.
    None,
}

impl OrderRow {
    /// How the execution agrees with the pins of the order. With one source, the name of its action does not matter, so
    /// that an execution is found although somebody has renamed the action. `Partial` then means that no action ran at
    /// the revision.
    pub(crate) fn runs_at(&self, execution: &ListedExecution) -> Agreement {
        if self.sources.pins.is_empty() {
            let has_revision = execution.revisions.iter().any(|one| one.revision == self.change.revision.as_str());
            return if has_revision { Agreement::Whole } else { Agreement::Partial };
        }
        let mut agreement = Agreement::Whole;
        for (action, pin) in &self.sources.pins {
            match execution.revision_of(action) {
                Some(revision) if revision == pin.revision.as_str() => {}
                Some(_) => return Agreement::None,
                None => agreement = Agreement::Partial,
            }
        }
        agreement
    }

    /// What the row of a newer order knows about the sources.
    pub(super) fn sources_of_next(&self) -> RowSources {
        let mut earlier = self.sources.earlier.clone();
        if let Some(order) = self.as_earlier() {
            let is_replaced = |known: &EarlierOrder| {
                known.pin.repository == order.pin.repository && known.pin.source_ref == order.pin.source_ref
            };
            earlier.retain(|known| !is_replaced(known));
            earlier.push(order);
            earlier.drain(..earlier.len().saturating_sub(MOST_EARLIER));
        }
        RowSources { pins: PinSet::new(), earlier, ..self.sources.clone() }
    }

    /// The order as an earlier order. Returns `None` if it was refused, because this account has not run it.
    fn as_earlier(&self) -> Option<EarlierOrder> {
        let (verdict, execution) = match &self.progress {
            Progress::Ended(ReportState::Refused) => return None,
            _ if self.way_back.is_some() => (Verdict::Failed, None),
            // If a stage is retried, the execution may still succeed, unless it has.
            Progress::Ended(ReportState::Failed) if self.window().is_none() => {
                (Verdict::Failed, self.execution.clone())
            }
            Progress::Ended(ReportState::Failed) => (Verdict::Failed, None),
            Progress::Ended(_) => (Verdict::Passed, None),
            Progress::Running { .. } if self.is_baking() => (Verdict::Passed, None),
            // A stage is retried after the execution has failed. Until it succeeds, the revision has failed.
            Progress::Running { .. } if self.run > 1 => (Verdict::Failed, self.execution.clone()),
            Progress::Running { .. } | Progress::Waiting(_) | Progress::Claimed(_) => {
                (Verdict::Open, self.execution.clone())
            }
        };
        Some(EarlierOrder { pin: Pin::of(self.ordered()), execution, verdict })
    }

    /// The revision that was last healthy, its reference and its repository, for the row of an order for this change.
    /// With several sources, it is a revision of the change's own repository, so that an earlier version, which does
    /// not know images, can read the row of an order for a commit.
    pub(super) fn good_for(&self, change: &Change) -> (Option<Revision>, Option<SourceRef>, Option<RepositoryArn>) {
        let Some(set) = self.sources.good.last() else {
            return (self.good.clone(), self.good_ref.clone(), self.good_repository.clone());
        };
        match set.values().find(|pin| pin.repository.as_ref() == Some(&change.repository)) {
            Some(pin) => (Some(pin.revision.clone()), pin.source_ref.clone(), pin.repository.clone()),
            None => (None, None, None),
        }
    }

    /// Whether the end of this execution can change what later orders are pinned to.
    pub(crate) fn pins_depend_on(&self, execution: &str) -> bool {
        self.sources.earlier.iter().any(|order| order.execution.as_deref() == Some(execution))
    }

    /// The revision that was last healthy, if it is one of this repository. A target may get orders from several
    /// repositories, and a revision of one repository means nothing in another.
    pub(crate) fn good_of(&self, repository: &RepositoryArn) -> Option<&Revision> {
        let of_set = self.sources.good.last().and_then(|set| {
            let pin = set.values().find(|pin| pin.repository.as_ref() == Some(repository))?;
            Some(&pin.revision)
        });
        let is_of = |good: &&Revision| match &self.good_repository {
            Some(own) => own == repository,
            // An earlier version has recorded the revision.
            None => good.is_digest() == (repository.kind() == SourceKind::Image),
        };
        of_set.or_else(|| self.good.as_ref().filter(is_of))
    }

    /// The revisions that the execution runs at or is to run at, for people: `commit 0123…` or, with several sources,
    /// `image sha256:… with commit 0123… of Source`.
    pub(crate) fn destination_text(&self) -> String {
        format!("{}{}", named(&self.change.revision), self.others_text())
    }

    /// The revisions of the other sources, for people, after a text about the order's own revision.
    pub(crate) fn others_text(&self) -> String {
        let own = Pin::of(&self.change);
        let others = self.sources.pins.iter().filter(|(_, pin)| !pin.is_at(&own));
        let others: Vec<String> = others.map(|(action, pin)| format!("{} of {action}", named(&pin.revision))).collect();
        if others.is_empty() { String::new() } else { format!(" with {}", others.join(" and ")) }
    }

    /// The revision that each source action is pinned to. `own` are the source actions that get the order's change.
    pub(crate) fn revisions(&self, own: &BTreeSet<ActionName>) -> BTreeMap<ActionName, Revision> {
        let pins = self.sources.pins.iter().map(|(action, pin)| (action.clone(), pin.revision.clone()));
        own.iter().map(|action| (action.clone(), self.change.revision.clone())).chain(pins).collect()
    }

    /// The values of the pipeline's variables.
    pub(crate) fn variables(&self, written: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        variables::resolve(written, &self.change, self.knows_ref(), &self.sources.pins, self.number)
    }

    /// Whether the branch or tag of the change to run is known. A target that goes back by itself may know only the
    /// revision.
    pub(crate) fn knows_ref(&self) -> bool {
        let own = Pin::of(&self.change);
        let is_known = self.sources.pins.values().find(|pin| pin.is_at(&own)).map(|pin| pin.source_ref.is_some());
        self.way_back.is_none() || is_known.unwrap_or_else(|| self.good_ref.is_some())
    }
}
