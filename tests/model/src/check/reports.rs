//! The times of a target's reports rise, and so do the numbers of the orders that the reports are about.

use std::collections::BTreeMap;

use sekisho_domain::report::{OrderReport, ReportState, ReportTime};

use super::traffic::Traffic;
use super::{Broken, Target};

/// The reports of a target, by their times.
pub(crate) type Reports = BTreeMap<ReportTime, OrderReport>;

/// The reports of a target that reached the bus of the repository account. A report that is sent again is the same
/// report, and two reports never have the same time. The reports that refuse an order are left out, because a target
/// keeps no row for an order that it refuses, and may take an older order afterwards.
pub(crate) fn of(traffic: &Traffic, target: &Target) -> Result<Reports, Broken> {
    let mut reports = Reports::new();
    for report in traffic.reports(target).filter(|report| report.state != ReportState::Refused) {
        let earlier = reports.insert(report.at, report.clone());
        if earlier.as_ref().is_some_and(|earlier| earlier != report) {
            return Err(Broken(format!("{}: two reports with the time {:?}", target.id(), report.at)));
        }
    }
    Ok(reports)
}

/// Checks that later reports are never about an older order, and that no other state follows a healthy end. The end is
/// reported again if an execution that no order started has run since.
pub(crate) fn rise(reports: &Reports, target: &Target) -> Result<(), Broken> {
    for (report, next) in reports.values().zip(reports.values().skip(1)) {
        if next.number < report.number {
            let numbers = format!("{} and then {}", report.number, next.number);
            return Err(Broken(format!("{}: reports on order {numbers}", target.id())));
        }
        let is_reopened = report.state == ReportState::Healthy && next.state != ReportState::Healthy;
        if next.number == report.number && is_reopened {
            let states = format!("{:?} after {:?}", next.state, report.state);
            return Err(Broken(format!("{}: order {} is {states}", target.id(), report.number)));
        }
    }
    Ok(())
}
