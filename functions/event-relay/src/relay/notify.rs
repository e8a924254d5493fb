//! Sends the notices about a train, each of them once.

use sekisho_domain::decision::Decision;
use sekisho_domain::route::Route;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Key, SentNotice, Store};
use time::Duration;

use crate::code;
use crate::error::Error;
use crate::notice::TrainNotice;
use crate::outcome::Outcome;
use crate::run::Run;
use crate::world::World;

/// The time for which the ledger remembers that a notice was sent. No notice is due for as long.
const REMEMBERED: Duration = Duration::days(14);

/// Sends those of the notices that people have not got yet. A notice that cannot be sent is a decision, and the next reconcile
/// sends it.
pub(crate) async fn notify<W: World>(
    run: &Run<'_, W>,
    route: &Route,
    notices: Vec<TrainNotice>,
) -> Vec<Decision<Outcome>> {
    let mut decisions = Vec::new();
    for notice in notices {
        if let Err(error) = send(run, &notice).await {
            let reason = format!(
                "the notice `{}` was not sent: {}. The next reconcile sends it",
                notice.notice.title,
                chain(&error)
            );
            decisions.push(Decision::new(Outcome::Failed, reason).about("route", route.name()));
        }
    }
    decisions
}

async fn send<W: World>(run: &Run<'_, W>, notice: &TrainNotice) -> Result<(), Error> {
    let ledger = run.world.ledger();
    let writer = &run.invocation.request_id;
    let code = notice.code.code();
    let sent = SentNotice::read(ledger, Key::state(format!("notice#train#{code}")), run.now()).await?;
    if sent.is_recent() {
        return Ok(());
    }
    // The code is written first, because people press buttons quickly.
    match ledger.write(&code::key(&code), &notice.code, None, writer).await {
        Ok(_) | Err(sekisho_ledger::Error::Changed(_)) => {}
        Err(error) => return Err(error.into()),
    }
    run.world.publish(&notice.notice).await?;
    sent.record(ledger, run.now() + REMEMBERED, writer).await?;
    Ok(())
}
