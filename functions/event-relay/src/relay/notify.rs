//! Sends the notices about a train, each of them once.

use std::collections::BTreeMap;

use sekisho_domain::decision::Decision;
use sekisho_domain::route::{Route, TargetId};
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Key, Row, SentNotice, Store};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::code::{self, CodeRow, Event};
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

/// The last notice of a series, that is, about unknown targets of one change in a wave.
#[derive(Debug, Default, Serialize, Deserialize)]
struct LastOfSeries {
    /// When the notice may be sent again, in seconds since 1970. DynamoDB deletes the row some time later.
    expires: i64,
    /// The targets of the notice, each with the number of its order. Its buttons act on all of them, and so people need
    /// no notice about fewer ones.
    #[serde(default)]
    orders: BTreeMap<TargetId, u64>,
}

impl LastOfSeries {
    fn new(event: &Event, now: OffsetDateTime) -> Self {
        let orders = if let Event::Unknown { orders, .. } = event { orders.clone() } else { BTreeMap::new() };
        Self { expires: (now + REMEMBERED).unix_timestamp(), orders }
    }

    fn is_recent(&self, now: OffsetDateTime) -> bool {
        now.unix_timestamp() < self.expires
    }

    fn covers(&self, other: &Self) -> bool {
        other.orders.iter().all(|(target, number)| self.orders.get(target) == Some(number))
    }
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
    let next = LastOfSeries::new(&notice.code.event, run.now());
    let mut series = None;
    if let Some(name) = &notice.series {
        let key = Key::state(format!("notice#train#{name}"));
        let last: Option<Row<LastOfSeries>> = ledger.read(&key).await?;
        let recent = last.as_ref().filter(|last| last.state.is_recent(run.now()));
        if recent.is_some_and(|last| occasion == Occasion::Event || last.state.covers(&next)) {
            return Ok(());
        }
        series = Some((key, last.map(|last| last.revision)));
    }
    let sent = SentNotice::read(ledger, Key::state(format!("notice#train#{code}")), run.now()).await?;
    if sent.is_recent() {
        return Ok(());
    }
    // The code is written first, because people press buttons quickly.
    write_code(run, &notice.code).await?;
    run.world.publish(&notice.notice).await?;
    if let Some((key, revision)) = series {
        match ledger.write(&key, &next, revision, writer).await {
            Ok(_) | Err(sekisho_ledger::Error::Changed(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(sent.record(ledger, run.now() + REMEMBERED, writer).await?)
}

/// Writes the row of a code. If the notice was sent before, the code begins anew, because its time is over.
async fn write_code<W: World>(run: &Run<'_, W>, row: &CodeRow) -> Result<(), Error> {
    let ledger = run.world.ledger();
    let key = code::key(&row.code());
    let mut revision = None;
    for _ in 0..2 {
        match ledger.write(&key, row, revision, &run.invocation.request_id).await {
            Ok(_) => return Ok(()),
            Err(sekisho_ledger::Error::Changed(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let old: Option<Row<CodeRow>> = ledger.read(&key).await?;
        revision = old.map(|old| old.revision);
    }
    // Another invocation has written the same code.
    Ok(())
}
