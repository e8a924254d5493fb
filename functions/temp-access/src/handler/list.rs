//! Who is in.

use futures_util::future::join_all;
use sekisho_domain::decision::Decision;
use sekisho_ledger::Store;
use tokio::time::timeout_at;

use super::{Done, SHOWN, TempAccess, Turn};
use crate::answer::{self, Outcome};
use crate::error::Error;
use crate::policy::{self, Reading};
use crate::row::{self, Row};

impl<S: Store> TempAccess<S> {
    pub(super) async fn list(&self, turn: &Turn<'_>) -> Result<Done, Error> {
        let listing = timeout_at(turn.until(SHOWN), self.live_grants()).await;
        let mut lines = listing.unwrap_or(Err(Error::TooSlow("The list could not be made")))?;
        let decision = Decision::new(Outcome::Listed, "asked who has access").about("live", lines.len().to_string());
        if lines.is_empty() {
            lines.push("Nobody has access now.".to_owned());
        }
        Ok(Done::text(lines.join("\n"), decision))
    }

    async fn live_grants(&self) -> Result<Vec<String>, Error> {
        let rows = self.ledger.list::<Row>(row::PARTITION, "").await;
        let rows = rows.map_err(|source| Error::Ledger { outcome: "The list could not be made", source })?;
        let now = (self.clock)();
        let lines = join_all(rows.iter().filter(|row| row.state.window().is_live(now)).map(async |row| {
            let (principal, profile) = row::subject(&row.sk)?;
            let reason = row.state.reason.as_deref();
            let policy = format!("{}{profile}", policy::PREFIX);
            // The policy tells whether and until when; the row may only have meant to.
            match self.iam.policy(&principal, &policy).await {
                Ok(document) => match policy::read(&document?) {
                    Reading::Grant(window) if window.is_live(now) => {
                        Some(answer::listed(&principal.to_string(), profile, window.end, reason, now))
                    }
                    Reading::Grant(_) => None,
                    Reading::Foreign(why) => Some(format!("{principal}: {policy} is not Sekisho's any more: {why}")),
                },
                Err(failed) => {
                    let line = answer::listed(&principal.to_string(), profile, row.state.end, reason, now);
                    Some(format!("{line} (as the ledger has it: {failed})"))
                }
            }
        }));
        Ok(lines.await.into_iter().flatten().collect())
    }
}
