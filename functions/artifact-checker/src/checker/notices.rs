//! Sends notices about findings, and leaves out findings about which a notice was sent recently.

use sekisho_domain::decision::Decision;
use sekisho_lambda::ServiceError;
use sekisho_lambda::failure::chain;
use sekisho_ledger::{SentNotice, Store};
use time::OffsetDateTime;
use tracing::warn;

use crate::bucket_finding::{already_sent, notice_interval, notice_key};
use crate::notice;
use crate::outcome::Outcome;
use crate::run::Run;

/// Decisions without the findings about which a notice was sent recently.
pub(crate) struct News {
    pub(crate) decisions: Vec<Decision<Outcome>>,
    /// The rows to record after the notice was sent.
    unsent: Vec<UnsentNotice>,
}

struct UnsentNotice {
    row: SentNotice,
    /// The time after which another notice about the same finding may be sent.
    expires: OffsetDateTime,
}

impl News {
    /// Keeps all decisions, without a comparison with earlier notices.
    pub(crate) fn unfiltered(decisions: Vec<Decision<Outcome>>) -> Self {
        Self { decisions, unsent: Vec::new() }
    }
}

/// Leaves out the findings about which a notice was sent recently. If no decision is left, the result contains one
/// decision that says that a notice was sent recently.
pub(crate) async fn without_repeats<L: Store>(run: &Run<'_, L>, decisions: Vec<Decision<Outcome>>) -> News {
    let mut news = News::unfiltered(Vec::new());
    let mut first_repeat = None;
    for decision in decisions {
        let Some(key) = notice_key(&decision) else {
            news.decisions.push(decision);
            continue;
        };
        let row = SentNotice::read(run.ledger, key.clone(), run.now()).await.unwrap_or_else(|error| {
            warn!(error = chain(&error), "a notice may be sent twice, because the ledger could not be read");
            SentNotice::unknown(key)
        });
        if row.is_recent() {
            first_repeat.get_or_insert(decision);
            continue;
        }
        let expires = run.now() + notice_interval(&decision, &run.settings.bucket);
        news.unsent.push(UnsentNotice { row, expires });
        news.decisions.push(decision);
    }
    if news.decisions.is_empty() {
        news.decisions.extend(first_repeat.as_ref().map(already_sent));
    }
    news
}

/// Sends a notice about the findings in `news`, and records that the notice was sent. `more` is the number of further
/// findings that are not in `news`.
pub(crate) async fn send<L: Store>(run: &Run<'_, L>, title: &str, news: &News, more: u64) -> Result<(), ServiceError> {
    if let Some(notice) = notice::of_findings(title, &news.decisions, more) {
        run.clients.topic.publish(&notice).await?;
    }
    for UnsentNotice { row, expires } in &news.unsent {
        if let Err(error) = row.record(run.ledger, *expires, run.request_id()).await {
            warn!(error = chain(&error), "a notice may be sent twice, because the ledger could not be written");
        }
    }
    Ok(())
}
