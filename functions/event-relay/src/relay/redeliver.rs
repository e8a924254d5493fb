//! The use case of a message from the dead-letter queue: sends the same change to the same target, with the same
//! sequence.

use sekisho_domain::decision::Decision;

use crate::decision_log::Report;
use crate::outcome::{Outcome, about_change};
use crate::redelivery::{Redelivery, RedeliveryPlan};
use crate::relay::deliver;
use crate::relay::examine;
use crate::run::Run;
use crate::world::World;

pub(crate) async fn redeliver<W: World>(run: &Run<'_, W>, redelivery: &Redelivery) -> Report {
    match examine::redelivery(run, redelivery).await {
        Err(error) => error.into(),
        Ok(RedeliveryPlan::Decide(decision)) => decision.into(),
        Ok(RedeliveryPlan::Deliver) => match deliver::redeliver(run, redelivery).await {
            Err(error) => error.into(),
            Ok(()) => about_change(&redelivery.change, Decision::new(Outcome::Relayed, "delivered again"))
                .about("account", redelivery.delivery.account.as_str())
                .into(),
        },
    }
}
