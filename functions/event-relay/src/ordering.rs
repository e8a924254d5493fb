//! An order to several targets to run one change, with everything that must be written.

use std::collections::{BTreeMap, BTreeSet};

use sekisho_domain::change::Change;
use sekisho_domain::decision::Decision;
use sekisho_domain::route::{Routes, TargetId};
use sekisho_ledger::{MAX_TRANSACTION, Write};
use time::OffsetDateTime;

use crate::branch::BranchRow;
use crate::outcome::{Outcome, about_change};
use crate::snapshot::{Snapshot, TargetRows};
use crate::sources::Sources;
use crate::target::{self, PlacedOrder, Placement, TargetRow};
use crate::train::{self, Arrival, TrainRow};

/// An order to several targets to run one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ordering {
    pub(crate) change: Change,
    /// The row of the reference after all targets have the order, and the revision that the row replaces.
    pub(crate) finished: Snapshot<BranchRow>,
    /// The row to write before the first target gets the order. It is necessary only if one transaction cannot write
    /// all rows.
    pub(crate) pending: Option<BranchRow>,
    pub(crate) part: Part,
    /// The decisions about targets that get no order because no route leads to them any more.
    pub(crate) notes: Vec<Decision<Outcome>>,
    /// The trains that the change arrives at.
    pub(crate) trains: Vec<TrainArrival>,
}

/// The arrival of a change at a train.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrainArrival {
    /// The name of the train's route.
    pub(crate) route: String,
    pub(crate) arrival: Arrival,
    /// The train's row with the change, and the revision that the row replaces.
    pub(crate) row: Snapshot<TrainRow>,
}

impl TrainArrival {
    /// Lets a change arrive at a train with this row.
    pub(crate) fn new(route: &str, stored: &Snapshot<TrainRow>, change: &Change) -> Self {
        let mut row = stored.clone();
        let arrival = row.row.arrive(change);
        Self { route: route.to_owned(), arrival, row }
    }

    /// The write of the row.
    pub(crate) fn write(&self) -> Result<Write, sekisho_ledger::Error> {
        Write::new(train::key(&self.route), &self.row.row, self.row.revision)
    }

    /// The decision about the change.
    pub(crate) fn decision(&self, change: &Change) -> Decision<Outcome> {
        let (outcome, reason) = match self.arrival {
            Arrival::Joined => (Outcome::Relayed, "the change joined the train of its route"),
            Arrival::Condemned => (Outcome::Condemned, "this revision is condemned: it enters no wave of the route"),
            Arrival::Duplicate => (Outcome::Duplicate, "the train's newest change has this revision"),
        };
        about_change(change, Decision::new(outcome, reason)).about("route", self.route.as_str())
    }
}

/// The targets that may get a change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recipients<'a> {
    /// All routes, because other routes may lead to the same targets.
    pub(crate) routes: &'a Routes,
    pub(crate) targets: &'a BTreeSet<TargetId>,
    /// The targets that get nothing now, because a person holds their route.
    pub(crate) held: &'a BTreeSet<TargetId>,
    /// The rows of the targets.
    pub(crate) rows: &'a TargetRows,
}

/// What a change means for some targets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// The rows of the targets with the order, and the revision that each row replaces.
    pub(crate) placed: Vec<Placed>,
    /// The number of targets that should already run the revision.
    pub(crate) duplicates: usize,
    /// The number of targets that should run a change that was seen later.
    pub(crate) superseded: usize,
    /// The targets that do not get the change now, because a person holds their route.
    pub(crate) held: BTreeSet<TargetId>,
    /// The decisions about targets whose rows cannot be read.
    pub(crate) unreadable: BTreeMap<TargetId, Decision<Outcome>>,
}

/// The row of a target with a new order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) target: TargetId,
    pub(crate) row: TargetRow,
    /// The revision that the write replaces; `None` if the ledger has no row.
    pub(crate) replaces: Option<u64>,
}

impl Placed {
    /// The write of the row.
    pub(crate) fn write(&self) -> Result<Write, sekisho_ledger::Error> {
        Write::new(target::key(&self.target), &self.row, self.replaces)
    }
}

/// The orders in the rows that are to be offered.
pub(crate) fn orders(placed: &[Placed]) -> Vec<(TargetId, PlacedOrder)> {
    let order = |one: &Placed| one.row.order.clone().filter(|order| !order.withdrawn);
    placed.iter().filter_map(|one| Some((one.target.clone(), order(one)?))).collect()
}

impl Ordering {
    /// Orders the targets to run `change`, except those that are held. `finished` is the row of the reference to write
    /// afterwards. Targets that are held or whose rows cannot be read are removed from it, so that they join as
    /// soon as the hold ends or their rows can be read.
    pub(crate) fn new(
        change: Change,
        finished: Snapshot<BranchRow>,
        recipients: &Recipients<'_>,
        now: OffsetDateTime,
    ) -> Self {
        let part = Part::new(&change, recipients, now);
        let finished = without(finished, part.left_out());
        Self { change, finished, pending: None, part, notes: vec![], trains: vec![] }
    }

    /// The outcome and the reason if no target gets an order.
    pub(crate) fn unplaced(&self) -> Option<(Outcome, &'static str)> {
        self.part.unplaced()
    }

    /// Whether nothing is ordered and no train gets the change.
    pub(crate) fn is_empty(&self) -> bool {
        self.part.placed.is_empty() && self.trains.iter().all(|train| train.arrival == Arrival::Duplicate)
    }

    /// Whether the decision about the targets says anything: an arrival at trains alone concerns no target yet.
    pub(crate) fn concerns_targets(&self) -> bool {
        self.trains.is_empty() || self.part != Part::default()
    }

    /// Whether one transaction can write the rows of the targets and trains and the row of the reference.
    pub(crate) fn fits_transaction(&self) -> bool {
        self.part.placed.len() + self.trains.len() < MAX_TRANSACTION
    }
}

/// The row of a reference without some of its targets.
pub(crate) fn without<'t>(
    mut finished: Snapshot<BranchRow>,
    left_out: impl IntoIterator<Item = &'t TargetId>,
) -> Snapshot<BranchRow> {
    let left_out: BTreeSet<&TargetId> = left_out.into_iter().collect();
    if let Some(covered) = &mut finished.row.targets {
        covered.retain(|target| !left_out.contains(target));
    }
    finished
}

impl Part {
    /// Places an order to run `change` in the rows of the targets, except those of them that are held.
    pub(crate) fn new(change: &Change, recipients: &Recipients<'_>, now: OffsetDateTime) -> Self {
        let Recipients { routes, targets, held, rows } = *recipients;
        let mut part = Self::default();
        for target in targets {
            if let Some(unreadable) = rows.unreadable.get(target) {
                part.unreadable.insert(target.clone(), unreadable.clone());
            } else if let Some(Snapshot { row, revision }) = rows.read.get(target) {
                match row.place(change, Sources::new(routes, target), now) {
                    Placement::Placed(_) if held.contains(target) => drop(part.held.insert(target.clone())),
                    Placement::Placed(row) => {
                        part.placed.push(Placed { target: target.clone(), row: *row, replaces: *revision });
                    }
                    Placement::Duplicate => part.duplicates += 1,
                    Placement::Superseded => part.superseded += 1,
                }
            }
        }
        part
    }

    /// Adds the targets of another part.
    pub(crate) fn add(&mut self, part: Self) {
        self.placed.extend(part.placed);
        self.duplicates += part.duplicates;
        self.superseded += part.superseded;
        self.held.extend(part.held);
        self.unreadable.extend(part.unreadable);
    }

    /// The targets for which the change is not decided yet.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = &TargetId> {
        self.unreadable.keys().chain(&self.held)
    }

    /// The outcome and the reason if no target gets an order.
    pub(crate) fn unplaced(&self) -> Option<(Outcome, &'static str)> {
        match (self.placed.is_empty(), self.superseded) {
            (false, _) => None,
            (true, _) if !self.held.is_empty() => {
                Some((Outcome::Held, "a person holds the route: its targets get the newest head after the hold"))
            }
            (true, 0) => Some((Outcome::Duplicate, "every target should already run this revision")),
            (true, _) => Some((Outcome::Superseded, "every target should run a change that was seen later")),
        }
    }
}
