//! The widget of the dashboard: reads the rows of the routes that it shows.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join;
use sekisho_board::{Question, read};
use sekisho_domain::route::{Route, Target, TargetId};
use sekisho_ledger::{Key, Store};
use serde::Deserialize;

use crate::error::Error;
use crate::relay::examine::target_rows;
use crate::run::Run;
use crate::selection::{route, routes_here};
use crate::snapshot::Snapshot;
use crate::train::{self, TrainRow};
use crate::train_text::TrainView;
use crate::widget;
use crate::world::World;

/// The parameter of the widget, besides those that every widget has.
#[derive(Deserialize)]
struct Parameters {
    /// The name of the only route to show.
    route: Option<String>,
}

/// The documentation, or the HTML of all routes or of one.
pub(crate) async fn show<W: World>(run: &Run<'_, W>, payload: &str) -> Result<String, Error> {
    let viewer = match read(payload, "trains", run.now()).map_err(Error::InvalidRequest)? {
        Question::Describe => return Ok(widget::DOCUMENTATION.to_owned()),
        Question::Show(viewer) => viewer,
    };
    let parameters: Parameters = serde_json::from_str(payload)
        .map_err(|_| Error::InvalidRequest("`route` is not text: write a route's name, or leave it out".to_owned()))?;
    let here = &run.invocation.region;
    let routes: Vec<&Route> = match &parameters.route {
        Some(name) => vec![route(run.routes, here, name)?],
        None => routes_here(run.routes, here).collect(),
    };
    let ids: BTreeSet<TargetId> = routes.iter().flat_map(|route| route.targets()).map(Target::id).collect();
    // Several routes may go by one name.
    let names: BTreeSet<&str> = routes.iter().map(|route| route.name()).collect();
    let keys: Vec<Key> = names.iter().map(|name| train::key(name)).collect();
    let trains = run.world.ledger().read_many::<TrainRow>(&keys);
    let (targets, trains) = try_join(target_rows(run, &ids), trains).await?;
    let trains: BTreeMap<&str, Option<TrainRow>> =
        names.into_iter().zip(trains.into_iter().map(|row| Some(Snapshot::from(row.ok()?).row))).collect();
    let read = routes.iter().filter_map(|route| Some((*route, trains.get(route.name())?.as_ref()?)));
    let rows: Vec<(&Route, TrainRow)> = read.map(|(route, row)| (route, row.configured(route).0)).collect();
    let views: Vec<TrainView<'_>> = rows
        .iter()
        .map(|(route, row)| TrainView { routes: run.routes, route, row, targets: &targets, now: run.now() })
        .collect();
    let unreadable: Vec<&str> = trains.iter().filter(|(_, row)| row.is_none()).map(|(name, _)| *name).collect();
    Ok(widget::trains(&viewer, &run.invocation.partition, &views, &unreadable))
}
