//! The times of a target's reports rise, and so do the numbers of the orders that the reports are about.

use std::collections::BTreeMap;

use sekisho_domain::report::{OrderReport, ReportState, ReportTime};

use super::{Broken, Target};
use crate::cloud::{Cloud, PLACES};

/// The reports of a target, by their times.
pub(crate) type Reports = BTreeMap<ReportTime, OrderReport>;

/// The reports of a target that reached the bus of the repository account. A report that is sent again is the same
/// report, and two reports never have the same time. The reports that refuse an order are left out, because a target
/// keeps no row for an order that it refuses, and may take an older order afterwards.
pub(crate) fn of(cloud: &Cloud, target: &Target) -> Result<Reports, Broken> {
    let mut reports = Reports::new();
    for report in sent(cloud, target)?.into_iter().filter(|report| report.state != ReportState::Refused) {
        let earlier = reports.insert(report.at, report.clone());
        if earlier.as_ref().is_some_and(|earlier| *earlier != report) {
            return Err(Broken(format!("{}: two reports with the time {:?}", target.id(), report.at)));
        }
    }
    Ok(reports)
}

/// The number of orders that the target refused.
pub(crate) fn refusals(cloud: &Cloud, target: &Target) -> usize {
    let sent = sent(cloud, target).unwrap_or_default();
    sent.iter().filter(|report| report.state == ReportState::Refused).count()
}

fn sent(cloud: &Cloud, target: &Target) -> Result<Vec<OrderReport>, Broken> {
    let (account, region) = PLACES[target.place];
    let mut reports = Vec::new();
    for message in cloud.report_bus.accepted().iter().filter(|message| message.sender == account) {
        let report = OrderReport::parse(&message.detail).map_err(|error| Broken::of(&error))?;
        if report.pipeline.as_str() == target.pipeline && report.region.as_str() == region {
            reports.push(report);
        }
    }
    Ok(reports)
}

/// Checks that later reports are never about an older order, and that nothing follows a healthy end.
pub(crate) fn rise(reports: &Reports, target: &Target) -> Result<(), Broken> {
    for (report, next) in reports.values().zip(reports.values().skip(1)) {
        if next.number < report.number {
            let numbers = format!("{} and then {}", report.number, next.number);
            return Err(Broken(format!("{}: reports on order {numbers}", target.id())));
        }
        if next.number == report.number && report.state == ReportState::Healthy {
            let states = format!("{:?} after {:?}", next.state, report.state);
            return Err(Broken(format!("{}: order {} is {states}", target.id(), report.number)));
        }
    }
    Ok(())
}
