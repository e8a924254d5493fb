//! The events that the buses accepted in a history.

use sekisho_domain::change::{Change, SourceChange};
use sekisho_domain::order::Order;
use sekisho_domain::report::OrderReport;

use super::{Broken, Target};
use crate::cloud::{Cloud, PLACES};

/// All orders and reports that the buses accepted.
#[derive(Debug)]
pub(crate) struct Traffic {
    /// The events with orders, each with the index of its place.
    orders: Vec<(usize, SourceChange)>,
    /// The reports, each with the account that sent it.
    reports: Vec<(&'static str, OrderReport)>,
}

impl Traffic {
    /// Parses the events. Each event must be readable.
    pub(crate) fn read(cloud: &Cloud) -> Result<Self, Broken> {
        let mut orders = Vec::new();
        for (index, place) in cloud.places.iter().enumerate() {
            for message in place.bus.accepted() {
                orders.push((index, SourceChange::parse(&message.detail).map_err(|error| Broken::of(&error))?));
            }
        }
        let mut reports = Vec::new();
        for message in cloud.report_bus.accepted() {
            let report = OrderReport::parse(&message.detail).map_err(|error| Broken::of(&error))?;
            reports.push((message.sender, report));
        }
        Ok(Self { orders, reports })
    }

    /// All orders to a target, in the order of the events. An order is offered several times.
    pub(crate) fn offers(&self, target: &Target) -> Result<Vec<(Order, &Change)>, Broken> {
        let mut offers = Vec::new();
        for (_, event) in self.orders.iter().filter(|(place, _)| *place == target.place) {
            if event.pipelines.iter().any(|pipeline| pipeline == target.pipeline) {
                offers.push((event.order(&target.id().pipeline).map_err(Broken)?, &event.change));
            }
        }
        Ok(offers)
    }

    /// The reports of a target, in the order of the events.
    pub(crate) fn reports(&self, target: &Target) -> impl Iterator<Item = &OrderReport> {
        let (account, region) = PLACES[target.place];
        let reports = self.reports.iter().filter(move |(sender, _)| *sender == account).map(|(_, report)| report);
        reports.filter(move |report| report.pipeline.as_str() == target.pipeline && report.region.as_str() == region)
    }

    /// The number of reports of all targets.
    pub(crate) fn report_count(&self) -> usize {
        self.reports.len()
    }
}
