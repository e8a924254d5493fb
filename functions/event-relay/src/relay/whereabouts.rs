//! `where`: shows which revision runs in each target, from the targets' reports.

use sekisho_domain::route::{Target, TargetId};
use sekisho_ledger::{Key, Store};

use crate::error::Error;
use crate::run::Run;
use crate::selection::{all_targets, route};
use crate::status::{TargetState, table};
use crate::target::{self, TargetRow};
use crate::target_request::WhereRequest;
use crate::world::World;

pub(crate) async fn show<W: World>(run: &Run<'_, W>, request: &WhereRequest) -> Result<String, Error> {
    let here = &run.invocation.region;
    let ids = match &request.route {
        Some(name) => route(run.routes, here, name)?.targets().iter().map(Target::id).collect(),
        None => all_targets(run.routes, here),
    };
    let ids: Vec<TargetId> = ids.into_iter().collect();
    let keys: Vec<Key> = ids.iter().map(target::key).collect();
    let rows = run.world.ledger().read_many::<TargetRow>(&keys).await?;
    // A row that does not exist is a target that never got an order. An unreadable row gets a line of its own.
    let state = |row: Result<Option<_>, _>| {
        row.ok().map(|row: Option<sekisho_ledger::Row<_>>| row.map_or_else(TargetRow::default, |row| row.state))
    };
    let targets: Vec<TargetState> = ids.into_iter().zip(rows.into_iter().map(state)).collect();
    if targets.is_empty() {
        return Ok("No route leads to a target from this region.".to_owned());
    }
    Ok(table(&targets, run.now()))
}
