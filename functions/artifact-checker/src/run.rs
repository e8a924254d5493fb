//! The context of one invocation.

use std::time::Duration;

use sekisho_domain::decision::Decision;
use sekisho_lambda::Invocation;
use sekisho_ledger::Store;
use time::OffsetDateTime;

use crate::aws::Clients;
use crate::aws::kms::Keys;
use crate::aws::s3::S3;
use crate::cache::Cache;
use crate::outcome::Outcome;
use crate::settings::Settings;

/// The function's name in the ledger's decisions and in metrics.
pub(crate) const FUNCTION: &str = "artifact-checker";

/// The values that every use case needs: the function's settings, its services, and the invocation.
pub(crate) struct Run<'a, L> {
    pub(crate) ledger: &'a L,
    pub(crate) settings: &'a Settings,
    pub(crate) clients: &'a Clients,
    pub(crate) cache: &'a Cache,
    pub(crate) clock: fn() -> OffsetDateTime,
    pub(crate) invocation: &'a Invocation,
    pub(crate) keys: Keys<'a>,
}

impl<L: Store> Run<'_, L> {
    pub(crate) fn now(&self) -> OffsetDateTime {
        (self.clock)()
    }

    /// The time until Lambda ends the invocation.
    pub(crate) fn time_left(&self) -> Duration {
        self.invocation.time_left(self.now())
    }

    /// The account of this function and of every bucket that it checks.
    pub(crate) fn account(&self) -> &str {
        self.invocation.account.as_str()
    }

    pub(crate) fn request_id(&self) -> &str {
        &self.invocation.request_id
    }

    /// Returns S3 with the SDK's retries.
    pub(crate) fn s3(&self) -> S3 {
        S3::new(self.clients.s3.clone(), self.account())
    }

    /// Returns S3 without the SDK's retries, so that a sweep sees each throttled request and slows down.
    pub(crate) fn s3_without_retries(&self) -> S3 {
        let s3 = S3::new(self.clients.s3_without_retries.clone(), self.account());
        s3.with_heads(self.clients.head_client.as_ref(), &self.clients.s3_endpoint)
    }

    pub(crate) async fn record(&self, decisions: &[Decision<Outcome>]) -> Result<(), sekisho_ledger::Error> {
        self.ledger.record(FUNCTION, self.request_id(), self.now(), decisions).await
    }

    /// The title of a notice about `subject`.
    pub(crate) fn notice_title(&self, subject: &str) -> String {
        format!("Sekisho: {subject} in account {}, {}", self.invocation.account, self.invocation.region)
    }
}
