//! The context of one invocation.

mod alarm_lists;

use std::time::Duration;

use sekisho_domain::route::PipelineName;
use sekisho_lambda::Invocation;
use sekisho_ledger::{Key, Store, Write};
use serde::Serialize;
use time::OffsetDateTime;

use crate::error::Error;
use crate::report::Place;
use crate::routing::LocalRoutes;
pub(crate) use crate::run::alarm_lists::AlarmLists;
use crate::world::World;

/// The time that is reserved at the end of an invocation. A call that has begun (three attempts of 5 s), the write that
/// gives a claim back, and the answer need this time.
const RESERVE: Duration = Duration::from_secs(18);

/// The context of one invocation, which every step of the invocation needs.
#[derive(Debug)]
pub(crate) struct Run<'a, W> {
    pub(crate) world: &'a W,
    pub(crate) routes: LocalRoutes<'a>,
    pub(crate) invocation: &'a Invocation,
    pub(crate) alarms: AlarmLists,
}

impl<'a, W: World> Run<'a, W> {
    pub(crate) fn ledger(&self) -> &'a W::Ledger {
        self.world.ledger()
    }

    pub(crate) fn now(&self) -> OffsetDateTime {
        self.world.now()
    }

    /// The pipeline and the region that reports about the pipeline name.
    pub(crate) fn place<'p>(&self, pipeline: &'p PipelineName) -> Place<'p>
    where
        'a: 'p,
    {
        Place { pipeline, region: self.routes.region }
    }

    /// Whether enough time is left before the deadline for this pause and one more call.
    pub(crate) fn has_time_after(&self, pause: Duration) -> bool {
        self.invocation.time_left(self.now()) >= pause + RESERVE
    }

    /// Writes a row together with others, if all rows in the ledger still have the revisions that were read.
    pub(crate) async fn write_with<T: Serialize>(
        &self,
        key: &Key,
        row: &T,
        revision: Option<u64>,
        others: Vec<Write>,
    ) -> Result<Written, Error> {
        if others.is_empty() {
            return self.write(key, row, revision).await;
        }
        let mut writes = vec![Write::new(key.clone(), row, revision)?];
        writes.extend(others);
        match self.ledger().write_all(&writes, &self.invocation.request_id).await {
            Ok(()) => Ok(Written::Revision(revision.unwrap_or(0) + 1)),
            Err(sekisho_ledger::Error::Changed(_)) => Ok(Written::ChangedByAnother),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a row if the row in the ledger still has the revision that was read.
    pub(crate) async fn write<T: Serialize>(
        &self,
        key: &Key,
        row: &T,
        revision: Option<u64>,
    ) -> Result<Written, Error> {
        match self.ledger().write(key, row, revision, &self.invocation.request_id).await {
            Ok(revision) => Ok(Written::Revision(revision)),
            Err(sekisho_ledger::Error::Changed(_)) => Ok(Written::ChangedByAnother),
            Err(error) => Err(error.into()),
        }
    }
}

/// The result of a conditional write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// The row's new revision.
    Revision(u64),
    /// Another invocation has written the row since it was read.
    ChangedByAnother,
}
