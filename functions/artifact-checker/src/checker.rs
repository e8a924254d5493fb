//! The function reads a request and passes it to the right use case. Then it logs and records the decisions about an
//! event.

mod bucket;
mod check;
mod claim;
mod foreign_key;
mod inspect;
mod notices;
mod object;
mod reader;
mod repair;
mod running_checks;
mod schedule;
mod sweep;
mod sweep_state;
mod turns;
mod upload;
mod walk;

use sekisho_domain::config::Misconfigured;
use sekisho_domain::decision::Decision;
use sekisho_lambda::aws::{SdkConfig, later};
use sekisho_lambda::environment::{ENDPOINT_URL, LEDGER_TABLE, NOTICE_TOPIC_ARN, S3_ENDPOINT_URL};
use sekisho_lambda::{Environment, Invocation, telemetry};
use sekisho_ledger::{Ledger, Store};
use time::OffsetDateTime;

use crate::answer::Answer;
use crate::aws::Clients;
use crate::aws::kms::Keys;
use crate::cache::Cache;
use crate::error::Error;
use crate::outcome::Outcome;
use crate::request::{self, Request};
use crate::run::{FUNCTION, Run};
use crate::settings::Settings;

/// The function and everything that it keeps between invocations.
#[derive(Debug)]
pub struct Checker<L> {
    /// Holds claims, sweeps, sent notices and decisions.
    pub ledger: L,
    /// The values that the environment and the configuration file set.
    pub settings: Settings,
    /// The clients of the AWS services.
    pub clients: Clients,
    /// Returns the current time.
    pub clock: fn() -> OffsetDateTime,
    /// What earlier invocations of this process learned.
    pub cache: Cache,
}

impl Checker<Ledger> {
    /// Builds the function from its environment.
    ///
    /// # Errors
    /// If a variable or the `[artifacts]` section is missing or malformed.
    pub fn new(environment: &Environment, aws: &SdkConfig) -> Result<Self, Misconfigured> {
        // A custom endpoint rarely answers under the host name `<bucket>.<host>`, so the bucket's name goes into the
        // path.
        let path_style = [ENDPOINT_URL, S3_ENDPOINT_URL].iter().any(|name| environment.optional(name).is_some());
        Ok(Self {
            ledger: Ledger::new(later(aws, aws_sdk_dynamodb::Client::new), environment.required(LEDGER_TABLE)?),
            settings: Settings::read(environment)?,
            clients: Clients::new(aws, path_style, environment.required(NOTICE_TOPIC_ARN)?),
            clock: sekisho_lambda::now,
            cache: Cache::default(),
        })
    }
}

impl<L: Store> Checker<L> {
    /// Handles one invocation.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn handle(&self, payload: &str, invocation: &Invocation) -> Result<Answer, Error> {
        let run = Run {
            ledger: &self.ledger,
            settings: &self.settings,
            clients: &self.clients,
            cache: &self.cache,
            clock: self.clock,
            invocation,
            keys: Keys::new(&self.clients.kms),
        };
        match request::read(payload, &invocation.account) {
            Request::Object(written) => {
                let decisions = Box::pin(object::check(&run, &written)).await?;
                finish(&run, decisions).await
            }
            Request::Sweep(request) => Box::pin(sweep::requested(&run, &request)).await,
            Request::Schedule => Box::pin(schedule::sweep_all(&run)).await,
            Request::Ignored(reason) => finish(&run, vec![Decision::new(Outcome::Ignored, reason)]).await,
            Request::Unreadable(reason) => finish(&run, vec![Decision::new(Outcome::Unknown, reason)]).await,
            Request::Invalid(message) => Err(Error::InvalidRequest(message)),
        }
    }
}

/// Logs, counts and records the decisions about an event, and sends a notice about the findings among them.
async fn finish<L: Store>(run: &Run<'_, L>, decisions: Vec<Decision<Outcome>>) -> Result<Answer, Error> {
    let news = notices::without_repeats(run, decisions).await;
    telemetry::decisions(FUNCTION, &news.decisions);
    run.record(&news.decisions).await?;
    notices::send(run, &run.notice_title("artifacts"), &news, 0).await?;
    Ok(Answer::of(news.decisions))
}
