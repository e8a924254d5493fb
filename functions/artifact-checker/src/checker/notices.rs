//! Compares the findings of an event with the ledger, and sends notices.

use sekisho_domain::code::Code;
use sekisho_domain::decision::Decision;
use sekisho_lambda::ServiceError;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{Error, Store};
use tracing::warn;

use crate::aws::events;
use crate::finding::{self, FindingEvent, FindingRow, FindingState, row_key, with_state};
use crate::notice::{self, Changes};
use crate::outcome::Outcome;
use crate::run::Run;

/// The decisions of an invocation, by whether people know of them.
#[derive(Default)]
pub(crate) struct News {
    /// Decisions that are not findings, and findings of which people do not know.
    pub(crate) decisions: Vec<Decision<Outcome>>,
    /// Findings of which people know.
    pub(crate) known: Vec<Decision<Outcome>>,
    /// The rows to write after the notice was sent.
    unsent: Vec<Unsent>,
}

struct Unsent {
    id: Code,
    row: FindingRow,
    revision: Option<u64>,
}

/// Compares findings with the ledger. A finding whose row cannot be read is treated as new, because a second notice is
/// better than none.
pub(crate) async fn compared<L: Store>(run: &Run<'_, L>, decisions: Vec<Decision<Outcome>>) -> News {
    let mut news = News::default();
    for decision in decisions {
        let Some(id) = finding::id(&decision) else {
            news.decisions.push(decision);
            continue;
        };
        let known = run.ledger.read::<FindingRow>(&row_key(&id)).await.unwrap_or_else(|error| {
            warn!(error = chain(&error), "a finding may be reported twice, because the ledger could not be read");
            None
        });
        let state = FindingRow::state_for(known.as_ref().map(|known| &known.state), run.request_id());
        if state != FindingState::New {
            news.known.push(with_state(decision, &id, state));
            continue;
        }
        let row = FindingRow::new(&decision, run.request_id(), run.now());
        news.unsent.push(Unsent { id: id.clone(), row, revision: known.map(|known| known.revision) });
        news.decisions.push(with_state(decision, &id, state));
    }
    news
}

/// Sends a notice and events about the new findings, and records that people know of them.
pub(crate) async fn send<L: Store>(run: &Run<'_, L>, title: &str, news: &News) -> Result<(), ServiceError> {
    send_changes(run, title, news, &Changes { found: news.decisions.clone(), ..Changes::default() }).await
}

/// Sends a notice about changes, and events about the new findings among them, and records that people know of these.
pub(crate) async fn send_changes<L: Store>(
    run: &Run<'_, L>,
    title: &str,
    news: &News,
    changes: &Changes,
) -> Result<(), ServiceError> {
    publish(run, title, changes).await?;
    let event = |unsent: &Unsent| FindingEvent::new(&unsent.id, &unsent.row, FindingState::New);
    events::put(run, &news.unsent.iter().map(event).collect::<Vec<_>>()).await;
    for Unsent { id, row, revision } in &news.unsent {
        match run.ledger.write(&row_key(id), row, *revision, run.request_id()).await {
            Ok(_) | Err(Error::Changed(_)) => {}
            Err(error) => {
                warn!(
                    error = chain(&error),
                    "a finding may be reported twice, because the ledger could not be written"
                );
            }
        }
    }
    Ok(())
}

/// Sends a notice about changes, if there are any.
pub(crate) async fn publish<L>(run: &Run<'_, L>, title: &str, changes: &Changes) -> Result<(), ServiceError> {
    match notice::of_changes(title, changes) {
        Some(notice) => run.clients.topic.publish(&notice).await,
        None => Ok(()),
    }
}
