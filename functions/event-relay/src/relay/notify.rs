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

/// The time for which the ledger remembers that a notice was sent. If a target is unknown for longer, people get the
/// notice again.
const REMEMBERED: Duration = Duration::days(14);

/// What makes the function look for notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// A report or a new head.
    Event,
    /// A reconcile, or a person's request.
    Pass,
}

/// Sends those of the notices that people have not got yet. If many targets become unknown one after the other, only
/// the first report sends a notice: the next reconcile sends one about all others. A notice that cannot be sent is a
/// decision, and the next reconcile sends it.
pub(crate) async fn notify<W: World>(
    run: &Run<'_, W>,
    route: &Route,
    notices: Vec<TrainNotice>,
    occasion: Occasion,
) -> Vec<Decision<Outcome>> {
    let later = if route.waves().is_empty() { "" } else { ". The next reconcile sends it" };
    let mut decisions = Vec::new();
    for notice in notices {
        if let Err(error) = send(run, &notice, occasion).await {
            let reason = format!("the notice `{}` was not sent: {}{later}", notice.notice.title, chain(&error));
            decisions.push(Decision::new(Outcome::Failed, reason).about("route", route.name()));
        }
    }
    decisions
}

async fn send<W: World>(run: &Run<'_, W>, notice: &TrainNotice, occasion: Occasion) -> Result<(), Error> {
    let ledger = run.world.ledger();
    let writer = &run.invocation.request_id;
    let code = notice.code.code();
    let series = notice.series.as_ref().map(|series| Key::state(format!("notice#train#{series}")));
    let series = match series {
        Some(key) if occasion == Occasion::Event => Some(SentNotice::read(ledger, key, run.now()).await?),
        series => series.map(SentNotice::unknown),
    };
    if series.as_ref().is_some_and(SentNotice::is_recent) {
        return Ok(());
    }
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
    for sent in series.into_iter().chain([sent]) {
        sent.record(ledger, run.now() + REMEMBERED, writer).await?;
    }
    Ok(())
}
