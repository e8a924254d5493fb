//! Reads the facts that a plan depends on, and writes nothing.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use sekisho_domain::change::CommitId;

use crate::error::Error;
use crate::hint::Hint;
use crate::plan::{Facts, Missing, Plan, plan};
use crate::redelivery::{Redelivery, RedeliveryPlan, plan_redelivery};
use crate::route::TouchedRoutes;
use crate::run::{RESERVE, Run};
use crate::world::World;

/// The function reads at most this many pages of changed paths. If there are more pages, the change goes to every
/// route. A page has up to a few hundred paths.
const MAX_PAGES: usize = 100;
/// Reading changed paths ends when only this time and [`RESERVE`] are left, so that the change can still be sent.
const OFFER_TIME: Duration = Duration::from_secs(5);

/// Reads facts about a reference until the plan for the reference is known.
pub(crate) async fn reference<W: World>(run: &Run<'_, W>, mut facts: Facts<'_>) -> Result<Plan, Error> {
    let hint = facts.hint;
    loop {
        match plan(&facts, run.now()) {
            Ok(plan) => return Ok(plan),
            Err(Missing::Row) => facts.row = Some(run.read_row(&hint.repository, &hint.git_ref).await?),
            Err(Missing::Head) => {
                facts.head = Some(run.world.head(hint.repository.name(), &hint.git_ref).await?);
            }
            Err(Missing::Paths { previous, head }) => {
                facts.touched = touched_routes(run, hint, &facts.touched, previous.as_ref(), &head).await?;
            }
        }
    }
}

/// Reads facts about a message of the dead-letter queue until the plan for the message is known.
pub(crate) async fn redelivery<W: World>(run: &Run<'_, W>, redelivery: &Redelivery) -> Result<RedeliveryPlan, Error> {
    let mut row = None;
    loop {
        match plan_redelivery(redelivery, &run.invocation.account, run.routes, row.as_ref()) {
            Some(plan) => return Ok(plan),
            None => row = Some(run.read_row(&redelivery.change.repository, &redelivery.change.git_ref).await?),
        }
    }
}

/// Reads changed paths as long as they can touch another route and time is left to send the change afterwards. If
/// reading the paths takes too long, the change goes to every route. An error would not help, because reading would
/// take as long on every retry and block the branch.
async fn touched_routes<'r, W: World>(
    run: &Run<'_, W>,
    hint: &Hint,
    routes: &TouchedRoutes<'r>,
    previous: Option<&CommitId>,
    head: &CommitId,
) -> Result<TouchedRoutes<'r>, Error> {
    let time = run.time_left().saturating_sub(RESERVE + OFFER_TIME);
    let touched = match previous {
        None => None,
        Some(previous) => {
            let pages = pin!(read_paths(run, hint, routes.clone(), previous, head));
            match select(pages, pin!(run.world.sleep(time))).await {
                Either::Left((touched, _)) => touched?,
                Either::Right(_) => None,
            }
        }
    };
    Ok(touched.unwrap_or_else(|| routes.clone().touch_all()))
}

/// Adds changed paths to the routes, page by page. Returns `None` if the changed paths cannot be known.
async fn read_paths<'r, W: World>(
    run: &Run<'_, W>,
    hint: &Hint,
    mut routes: TouchedRoutes<'r>,
    previous: &CommitId,
    head: &CommitId,
) -> Result<Option<TouchedRoutes<'r>>, Error> {
    let mut page = None;
    for _ in 0..MAX_PAGES {
        // After a force-push, the previous commit may not exist any more.
        let Some(differences) = run.world.differences(hint.repository.name(), previous, head, page).await? else {
            return Ok(None);
        };
        routes.add_paths(&differences.paths);
        page = differences.next;
        if page.is_none() || !routes.wants_paths() {
            return Ok(Some(routes.without_further_paths()));
        }
    }
    Ok(None)
}
