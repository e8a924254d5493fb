//! The function reads a request and passes it to the right use case. Then it logs and records the decisions about an
//! event.

mod accept;
mod batch;
mod bucket;
mod budget;
mod check;
mod claim;
mod division;
mod foreign_key;
mod inspect;
mod notices;
mod object;
mod passes;
mod range_state;
mod ranges;
mod rate_limit;
mod reader;
mod repair;
mod report;
mod retry;
mod running_checks;
mod schedule;
mod sweep;
mod sweep_check;
mod sweep_end;
mod sweep_state;
mod tracker;
mod turns;
mod upload;
mod walk;
mod widget;

use std::mem;

use sekisho_domain::config::Misconfigured;
use sekisho_domain::decision::Decision;
use sekisho_lambda::aws::{SdkConfig, later};
use sekisho_lambda::board::{READ_ONLY, is_widget};
use sekisho_lambda::environment::{ENDPOINT_URL, LEDGER_TABLE, NOTICE_TOPIC_ARN, S3_ENDPOINT_URL};
use sekisho_lambda::{Environment, Invocation, telemetry};
use sekisho_ledger::{Ledger, Store};
use time::OffsetDateTime;
use tracing::info;

use crate::answer::{Answer, Response};
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
    /// Handles one invocation. The person who looks at a dashboard did not write the fields of its widgets, so a payload
    /// of a widget never does anything else.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn respond(&self, payload: &str, invocation: &Invocation) -> Result<Response, Error> {
        if is_widget(payload) {
            return Box::pin(widget::show(&self.run(invocation), payload)).await.map(Response::Widget);
        }
        Box::pin(self.handle(payload, invocation)).await.map(Response::Answer)
    }

    /// Handles an event or a request, which is no widget.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn handle(&self, payload: &str, invocation: &Invocation) -> Result<Answer, Error> {
        let run = self.run(invocation);
        match request::read(payload, &invocation.account) {
            Request::Invalid(message) => Err(Error::InvalidRequest(message)),
            _ if invocation.is_board() => Err(Error::Refused(READ_ONLY.to_owned())),
            Request::Object(written) => {
                let decisions = Box::pin(object::check(&run, &written)).await?;
                finish(&run, decisions).await
            }
            Request::Sweep(request) => match request.range {
                Some(range) => Box::pin(ranges::check(&run, &request, range)).await,
                None => Box::pin(sweep::requested(&run, &request)).await,
            },
            Request::Repair(request) => Box::pin(batch::requested(&run, &request)).await,
            Request::Accept(request) => {
                let decision = accept::accept(&run, &request).await?;
                finish(&run, vec![decision]).await
            }
            Request::Schedule => Box::pin(schedule::sweep_all(&run)).await,
            Request::Ignored(reason) => finish(&run, vec![Decision::new(Outcome::Ignored, reason)]).await,
            Request::Unreadable(reason) => finish(&run, vec![Decision::new(Outcome::Unknown, reason)]).await,
        }
    }

    fn run<'r>(&'r self, invocation: &'r Invocation) -> Run<'r, L> {
        Run {
            ledger: &self.ledger,
            settings: &self.settings,
            clients: &self.clients,
            cache: &self.cache,
            clock: self.clock,
            invocation,
            keys: Keys::new(&self.clients.kms),
        }
    }
}

/// Logs, counts and records the decisions about an event, and sends a notice about the findings among them.
async fn finish<L: Store>(run: &Run<'_, L>, decisions: Vec<Decision<Outcome>>) -> Result<Answer, Error> {
    let mut news = notices::compared(run, decisions).await;
    telemetry::decisions(FUNCTION, &news.decisions);
    // The alarm for findings counts the lines with the message `decision`, and people know of these findings.
    for known in &news.known {
        info!(known.json = telemetry::json(known), "known finding");
    }
    // A known finding about the bucket or a pipeline would be repeated for each object.
    let about_object = mem::take(&mut news.known).into_iter().filter(|known| known.concerns.contains_key("object"));
    let mut decisions = news.decisions.clone();
    decisions.extend(about_object);
    run.record(&decisions).await?;
    notices::send(run, &run.notice_title("artifacts"), &news).await?;
    Ok(Answer::of(decisions))
}
