//! Remembers for each bucket that a first pass was made, and when people were last reminded of the open findings.

use std::time::Duration;

use sekisho_ledger::{Error, Key, Store};
use serde::{Deserialize, Serialize};

use crate::run::Run;

/// The time between two summaries of the open findings.
const WEEK: Duration = Duration::from_hours(24 * 7);

/// The row of a bucket.
#[derive(Debug, Serialize, Deserialize)]
struct PassRow {
    /// When the next summary is due, in seconds since 1970.
    summary_due: i64,
}

/// What the ledger says about the earlier passes over a bucket.
#[derive(Debug)]
pub(crate) struct Passes {
    key: Key,
    revision: Option<u64>,
    is_summary_due: bool,
}

impl Passes {
    pub(crate) async fn read<L: Store>(run: &Run<'_, L>, bucket: &str) -> Result<Self, Error> {
        let key = Key::state(format!("artifact-pass#{bucket}"));
        let row = run.ledger.read::<PassRow>(&key).await?;
        let is_due = |row: &PassRow| row.summary_due <= run.now().unix_timestamp();
        let is_summary_due = row.as_ref().is_some_and(|row| is_due(&row.state));
        Ok(Self { key, revision: row.map(|row| row.revision), is_summary_due })
    }

    /// Whether no pass over the bucket has ended yet.
    pub(crate) fn is_first(&self) -> bool {
        self.revision.is_none()
    }

    pub(crate) fn is_summary_due(&self) -> bool {
        self.is_summary_due
    }

    /// Records that a pass has ended. `was_sent` says whether people got the notice; if they did not, a summary is due.
    pub(crate) async fn end<L: Store>(&self, run: &Run<'_, L>, was_sent: bool) -> Result<(), Error> {
        if was_sent && !self.is_first() && !self.is_summary_due {
            return Ok(());
        }
        let summary_due = if was_sent { (run.now() + WEEK).unix_timestamp() } else { 0 };
        match run.ledger.write(&self.key, &PassRow { summary_due }, self.revision, run.request_id()).await {
            Ok(_) | Err(Error::Changed(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
