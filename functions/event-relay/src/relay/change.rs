//! The use case of an event about a reference: relays the head.

use sekisho_domain::route::Route;

use crate::decision_log::Report;
use crate::error::Error;
use crate::hint::{Hint, Trigger};
use crate::next::Scope;
use crate::outcome::{about_hint, needs_repair};
use crate::relay::settle::{Settled, settle};
use crate::relay::source;
use crate::relay::train::advance;
use crate::run::Run;
use crate::world::World;

pub(crate) async fn relay_change<W: World>(run: &Run<'_, W>, hint: &Hint) -> Report {
    let is_concerned = |route: &Route| route.covers_repository(&hint.repository);
    let report = match source::without_caches(run.world, run.routes, is_concerned).await {
        Ok(routes) => relay_head(&run.with_routes(&routes), hint).await,
        Err(error) => Error::from(error).into(),
    };
    match report.failure {
        // The next reconcile reads the head again: the ledger has a row of every reference that it must examine.
        Some(error) if error.is_final() => {
            Report { failure: None, ..report }.with(about_hint(hint, needs_repair(&error)))
        }
        failure => Report { failure, ..report },
    }
}

async fn relay_head<W: World>(run: &Run<'_, W>, hint: &Hint) -> Report {
    let Settled { mut report, trains, .. } = settle(run, hint, Trigger::Event, None, None).await;
    for route in run.routes.iter().filter(|route| trains.iter().any(|name| name == route.name())) {
        // The change is in the ledger. If this fails, the next reconcile lets it enter.
        match advance(run, route, Scope::Arrival).await {
            Ok(log) => report.log.extend(log.into_decisions()),
            Err(error) => drop(report.failure.get_or_insert(error)),
        }
    }
    report
}
