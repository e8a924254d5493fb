//! What a target goes back to by itself: the revision that was last healthy or, with several sources, the whole set of
//! revisions.

use sekisho_domain::change::{RepositoryArn, Revision, SourceRef};

use crate::order::OrderRow;
use crate::pins::{Pin, PinSet, is_same, named, noun};

/// What a target goes back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    /// The revision of the order's own source.
    pub(crate) revision: Revision,
    /// The branch or tag of this revision, if it is known.
    pub(crate) source_ref: Option<SourceRef>,
    /// The whole set of pins, if the pipeline has several sources.
    pub(crate) pins: PinSet,
}

impl Destination {
    /// What the target of the row goes back to.
    ///
    /// # Errors
    /// The target cannot go back, or stays as it is. The text says why.
    pub(crate) fn of(row: &OrderRow) -> Result<Self, String> {
        if row.sources.pins.is_empty() { Self::of_one_source(row) } else { Self::of_several_sources(row) }
    }

    fn of_one_source(row: &OrderRow) -> Result<Self, String> {
        let Some(good) = row.good_of(&row.change.repository) else {
            return Err(match row.good.as_ref().zip(row.good_repository.as_ref()) {
                Some((good, repository)) => of_another(good, repository),
                None => NOTHING_HEALTHY.to_owned(),
            });
        };
        if *good == row.change.revision {
            let noun = noun(good);
            return Err(format!(
                "the target stays as it is, because this {noun} is the one that was last healthy here"
            ));
        }
        Ok(Self { revision: good.clone(), source_ref: row.good_ref.clone(), pins: PinSet::new() })
    }

    /// The newest healthy set that has a pin for every source action of the execution.
    fn of_several_sources(row: &OrderRow) -> Result<Self, String> {
        let pins = &row.sources.pins;
        let is_complete = |set: &&PinSet| pins.keys().all(|action| set.contains_key(action));
        let Some(set) = row.sources.good.iter().rev().find(is_complete) else {
            return Err(NOTHING_HEALTHY.to_owned());
        };
        if is_same(set, pins) {
            return Err("the target stays as it is, because these revisions were last healthy here".to_owned());
        }
        let own = Pin::of(&row.change);
        let good = pins.iter().find(|(_, pin)| pin.is_at(&own)).and_then(|(action, _)| set.get(action));
        let Some(good) = good else { return Err(NOTHING_HEALTHY.to_owned()) };
        match &good.repository {
            Some(repository) if *repository != row.change.repository => Err(of_another(&good.revision, repository)),
            _ => Ok(Self { revision: good.revision.clone(), source_ref: good.source_ref.clone(), pins: set.clone() }),
        }
    }
}

const NOTHING_HEALTHY: &str = "the target cannot go back, because nothing was healthy here before, and stays as it is";

fn of_another(good: &Revision, repository: &RepositoryArn) -> String {
    let good = named(good);
    format!(
        "the target cannot go back, because the {good}, which was last healthy here, is one of {repository}, and stays \
         as it is"
    )
}
