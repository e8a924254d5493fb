//! The widget of the dashboard: reads the orders of all pipelines with one query.

use std::collections::BTreeMap;

use sekisho_board::{Question, read};
use sekisho_ledger::{Error as LedgerError, Store};

use crate::error::Error;
use crate::order::{self, OrderRow};
use crate::run::Run;
use crate::widget::{self, Order, Pipeline};
use crate::world::World;

/// The documentation or the HTML.
pub(crate) async fn show<W: World>(run: &Run<'_, W>, payload: &str) -> Result<String, Error> {
    let viewer = match read(payload, "pipelines", run.now()).map_err(Error::InvalidRequest)? {
        Question::Describe => return Ok(widget::DOCUMENTATION.to_owned()),
        Question::Show(viewer) => viewer,
    };
    let here = run.routes.names().map(|name| (name.to_string(), Order::None));
    let mut orders: BTreeMap<String, Order> = here.collect();
    for row in run.ledger().each::<OrderRow>(order::PARTITION, "").await? {
        match row {
            Ok(row) => orders.insert(row.sk, Order::Row(Box::new(row.state))),
            Err(LedgerError::Unreadable { key, .. }) => orders.insert(key.sk, Order::Unreadable),
            Err(error) => return Err(error.into()),
        };
    }
    let pipelines: Vec<Pipeline> = orders.into_iter().map(|(name, order)| Pipeline { name, order }).collect();
    Ok(widget::pipelines(&viewer, &run.invocation.partition, &run.invocation.region, &pipelines))
}
