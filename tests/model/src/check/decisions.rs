//! Each event and each report has its decision.

use std::collections::BTreeSet;

use super::Broken;
use crate::history::History;
use crate::lambda::Function;

/// Checks that each invocation that succeeded left its decision in the ledger. A follow-up of pipeline-starter that
/// found nothing to do leaves none. A request of a person may leave none, because its answer says so.
pub(crate) fn are_recorded(history: &History) -> Result<(), Broken> {
    let ledgers = history.cloud.places.iter().map(|place| &place.ledger).chain([&history.cloud.relay_ledger]);
    let recorded: BTreeSet<String> = ledgers
        .flat_map(sekisho_ledger::Memory::rows)
        .filter(|(key, _)| key.pk.starts_with("decision#"))
        .filter_map(|(key, _)| key.sk.split('#').nth(1).map(ToOwned::to_owned))
        .collect();
    for (function, request, payload) in &history.lambda.succeeded {
        let is_follow_up = matches!(function, Function::Starter(_)) && payload.contains("\"aws.events\"");
        // The event about an alarm that no order watches leaves none either.
        let is_alarm = payload.contains("\"aws.cloudwatch\"");
        let may_be_silent = is_follow_up || is_alarm || history.lambda.by_people.contains(request);
        if !may_be_silent && !recorded.contains(request) {
            return Err(Broken(format!(
                "{function:?}: {request} succeeded without a decision in the ledger: {payload}"
            )));
        }
    }
    Ok(())
}
