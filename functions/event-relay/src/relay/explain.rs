//! `explain`: describes the plan for an event. It reads the same facts as the real path, and writes and sends nothing.

use std::collections::BTreeSet;

use sekisho_domain::change::SourceKind;
use sekisho_domain::decision::Decision;
use sekisho_domain::route::{PipelineName, Route};
use sekisho_lambda::event::EXPLAIN_OF_EXPLAIN;

use crate::delivery::{Delivery, deliveries};
use crate::error::Error;
use crate::hint::{Hint, Trigger};
use crate::ordering::Ordering;
use crate::outcome::{Answer, Outcome, about_change, about_hint, about_payload};
use crate::plan::{Facts, Plan};
use crate::redelivery::{Redelivery, RedeliveryPlan};
use crate::relay::source;
use crate::relay::{examine, redeliver, report};
use crate::request::{self, Request};
use crate::run::Run;
use crate::world::World;

pub(crate) async fn explain<W: World>(run: &Run<'_, W>, payload: &str) -> Result<Answer, Error> {
    let decision = match request::read(payload, run.invocation, run.routes) {
        Request::Change(hint) => explain_change(run, &hint).await?,
        Request::Reconcile => about_payload(payload, Decision::new(Outcome::Ignored, reconcile_reason(run))),
        Request::Redeliver(redelivery) => explain_redelivery(run, &redelivery).await?,
        Request::Report(report) => report::examine_report(run, &report).await?.0.decision,
        Request::Where(_) | Request::Resend(_) | Request::Train(_) => {
            return Err(Error::InvalidRequest("`event` is a person's request: explain an event".to_owned()));
        }
        Request::Ignored(reason) => about_payload(payload, Decision::new(Outcome::Ignored, reason)),
        Request::Refused(reason) => about_payload(payload, Decision::new(Outcome::Refused, reason)),
        Request::Invalid(reason) => return Err(Error::InvalidRequest(reason)),
        Request::Explain(_) => return Err(Error::InvalidRequest(EXPLAIN_OF_EXPLAIN.to_owned())),
    };
    Ok(vec![decision].into())
}

/// Describes the plan for a reference. `pending` is the sequence of a change that is not finished yet.
async fn explain_change<W: World>(run: &Run<'_, W>, hint: &Hint) -> Result<Decision<Outcome>, Error> {
    let is_concerned = |route: &Route| route.covers_repository(&hint.repository);
    let routes = source::without_caches(run.world, run.routes, is_concerned).await?;
    let run = &run.with_routes(&routes);
    let mut facts = Facts::new(run.routes, hint, Trigger::Event, None);
    let (plan, _locks) = examine::reference(run, &mut facts).await?;
    if let Some(error) = facts.paths_error {
        return Err(error);
    }
    let decision = match plan {
        Plan::Decide(verdict) => verdict.decisions.into_iter().next(),
        Plan::Order(ordering) => Some(explain_ordering(&ordering)),
        Plan::Nothing => None,
    };
    let decision =
        decision.unwrap_or_else(|| about_hint(hint, Decision::new(Outcome::Filtered, "nothing is left to relay")));
    let pending = facts.row.and_then(|snapshot| snapshot.row.pending);
    Ok(decision.about_some("pending", pending.map(|pending| pending.change.sequence.to_string())))
}

fn explain_ordering(ordering: &Ordering) -> Decision<Outcome> {
    let place = |delivery: &Delivery| {
        let pipelines: Vec<&str> = delivery.pipelines.iter().map(PipelineName::as_str).collect();
        format!("{}/{}: {}", delivery.account, delivery.region, pipelines.join(", "))
    };
    let deliveries = deliveries(ordering.part.placed.iter().map(|placed| &placed.target));
    if let Some(train) = ordering.trains.first().filter(|_| !ordering.concerns_targets()) {
        return train.decision(&ordering.change);
    }
    let (outcome, reason) = match ordering.unplaced() {
        Some((outcome, reason)) => (outcome, reason.to_owned()),
        None => (Outcome::Relayed, format!("would be relayed to {} buses", deliveries.len())),
    };
    let targets: Vec<String> = deliveries.iter().map(place).collect();
    let targets = (!targets.is_empty()).then(|| targets.join("; "));
    let decision = about_change(&ordering.change, Decision::new(outcome, reason)).about_some("targets", targets);
    let trains: Vec<&str> = ordering.trains.iter().map(|train| train.route.as_str()).collect();
    decision.about_some("trains", (!trains.is_empty()).then(|| trains.join(", ")))
}

async fn explain_redelivery<W: World>(run: &Run<'_, W>, redelivery: &Redelivery) -> Result<Decision<Outcome>, Error> {
    Ok(match redeliver::examine_redelivery(run, redelivery).await? {
        RedeliveryPlan::Decide(decision) => decision,
        RedeliveryPlan::Order(_) => {
            let reason =
                "the target would be offered its current order, or get an order for the newest change if it has none";
            about_change(&redelivery.change, Decision::new(Outcome::Ordered, reason))
                .about("account", redelivery.delivery.account.as_str())
        }
    })
}

/// The reason for the event of the schedule. A reconcile makes one plan for each reference, so this text describes no
/// plan. To see the plan for a reference, a person explains an event about the reference.
fn reconcile_reason<W>(run: &Run<'_, W>) -> String {
    let examined = [(SourceKind::Git, "branch", " and its known tags"), (SourceKind::Image, "image tag", "")];
    let examined = examined.into_iter().filter_map(|(kind, what, more)| {
        let routes = run.routes.iter().filter(|route| route.source() == kind);
        let globs: BTreeSet<&str> = routes.map(|route| route.repository().pattern()).collect();
        let globs: Vec<&str> = globs.into_iter().collect();
        (!globs.is_empty()).then(|| format!("every routed {what} of {}{more}", globs.join(", ")))
    });
    format!(
        "a schedule's event: the reconcile would examine {}, and offer open orders again; explain an event of a \
         reference to see the plan for it",
        examined.collect::<Vec<String>>().join(" and ")
    )
}
