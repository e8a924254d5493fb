//! The times of a target's reports rise, and so do the numbers of the orders that the reports are about.

use std::collections::BTreeMap;

use sekisho_domain::report::{OrderReport, ReportState, ReportTime};

use super::traffic::Traffic;
use super::{Broken, Target};
use crate::codepipeline::Execution;
use crate::history::History;

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
/// reported again only to mention another execution that has ended. An order may have started that one with a call that
/// got no answer.
pub(crate) fn rise(history: &History, reports: &Reports, target: &Target) -> Result<(), Broken> {
    let executions = history.cloud.places[target.place].codepipeline.executions(target.pipeline);
    for (report, next) in reports.values().zip(reports.values().skip(1)) {
        if next.number < report.number {
            let numbers = format!("{} and then {}", report.number, next.number);
            return Err(Broken(format!("{}: reports on order {numbers}", target.id())));
        }
        if next.number > report.number || report.state != ReportState::Healthy {
            continue;
        }
        if next.state != ReportState::Healthy {
            let states = format!("{:?} after {:?}", next.state, report.state);
            return Err(Broken(format!("{}: order {} is {states}", target.id(), report.number)));
        }
        let mentioned = mentioned(&next.reason).filter(|id| mentioned(&report.reason) != Some(*id));
        let is_own = |execution: &Execution| report.execution.as_ref() == Some(&execution.id);
        let has_ended = |execution: &&Execution| execution.ended.is_some() && !is_own(execution);
        if !executions.iter().filter(has_ended).any(|execution| mentioned == Some(&execution.id)) {
            let reasons = format!("{:?} and then {:?}", report.reason, next.reason);
            return Err(Broken(format!("{}: order {} is healthy twice: {reasons}", target.id(), report.number)));
        }
    }
    Ok(())
}

/// The execution that a reason mentions at its end.
fn mentioned(reason: &str) -> Option<&str> {
    let mention = reason.strip_suffix(", which no order is known to have started, ended later")?;
    mention.rsplit_once("; execution ").map(|(_, id)| id)
}
