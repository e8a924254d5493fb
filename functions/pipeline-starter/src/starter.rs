//! Dispatches a request to its use case, and records the decisions once.

mod alarms;
mod approval;
mod attempt;
mod bake;
mod entry;
mod execution;
mod explain;
mod facts;
mod follow_up;
mod order;
mod send;
mod sources;
mod watch;
mod way_back;
mod widget;

use sekisho_domain::account::AccountId;
use sekisho_domain::config::Misconfigured;
use sekisho_domain::decision::{self, Decision};
use sekisho_domain::route::Routes;
use sekisho_lambda::aws::SdkConfig;
use sekisho_lambda::board::{READ_ONLY, is_widget};
use sekisho_lambda::environment::REPOSITORY_ACCOUNT_ID;
use sekisho_lambda::{Environment, Invocation, telemetry};
use sekisho_ledger::Store;

use crate::aws::Aws;
use crate::error::Error;
use crate::outcome::{Outcome, about_payload};
use crate::request::{self, Request, Source};
use crate::results::{Recording, Results};
use crate::routing::LocalRoutes;
use crate::run::{AlarmLists, Run};
use crate::world::World;

/// The function's name in the keys of the ledger's decisions.
const FUNCTION: &str = "pipeline-starter";

/// What an invocation returns.
pub type Answer = decision::Answer<Outcome>;

/// The function pipeline-starter.
#[derive(Debug)]
pub struct Starter<W> {
    /// The ledger, the clock and the services that the function calls.
    pub world: W,
    /// The routes of this account's own configuration.
    pub routes: Routes,
    /// The account whose changes are trusted.
    pub repository_account: AccountId,
}

impl Starter<Aws> {
    /// Builds the function from its environment.
    ///
    /// # Errors
    /// The configuration cannot be read, a route in the configuration is wrong, or an environment variable is missing
    /// or wrong.
    pub fn new(environment: &Environment, aws: &SdkConfig) -> Result<Self, Misconfigured> {
        Ok(Self {
            routes: environment.configuration()?.routes()?,
            repository_account: environment.account(REPOSITORY_ACCOUNT_ID)?,
            world: Aws::new(environment, aws)?,
        })
    }
}

impl<W: World> Starter<W> {
    /// Handles one payload.
    ///
    /// # Errors
    /// The function fails with an error after which a retry may succeed, or because a person's request is invalid.
    /// Every other problem is a decision in the answer.
    pub async fn handle(&self, payload: &str, invocation: &Invocation) -> Result<Answer, Error> {
        let source = Source { repository_account: &self.repository_account, own_account: &invocation.account };
        let routes = LocalRoutes { routes: &self.routes, account: &invocation.account, region: &invocation.region };
        let alarms = AlarmLists::new(self.world.now());
        let run = Run { world: &self.world, routes, invocation, alarms };
        if is_widget(payload) {
            return widget::show(&run, payload).await.map(Answer::Text);
        }
        let results = match request::parse(payload, &source) {
            Request::Explain(event) => return Ok(explain::explain(&run, event.get(), &source).await?.into()),
            Request::Invalid(reason) => return Err(Error::InvalidRequest(reason)),
            _ if invocation.is_board() => return Err(Error::Refused(READ_ONLY.to_owned())),
            Request::Refused(reason) => about_payload(payload, Decision::new(Outcome::Refused, reason)).into(),
            Request::Change(event) => order::take_all(&run, &event).await,
            Request::ExecutionEnded(ended) => execution::follow_up(&run, &ended).await,
            Request::FollowUp => follow_up::follow_up(&run).await,
            Request::AlarmChanged(alarm) => Box::pin(bake::alarm_changed(&run, &alarm)).await,
            Request::ActionChanged(action) => approval::notify(&run, &action).await,
        };
        Ok(record(&run, results).await?.into())
    }
}

/// Logs, counts and stores the decisions, even if a part of the invocation failed and must be retried.
async fn record<W: World>(run: &Run<'_, W>, results: Results) -> Result<Vec<Decision<Outcome>>, Error> {
    let Results { decisions, failure, recording } = results;
    let Invocation { request_id, function, .. } = run.invocation;
    if recording == Recording::LogOnly {
        decisions.iter().for_each(telemetry::decision);
        return Ok(decisions);
    }
    telemetry::decisions(function, &decisions);
    if recording == Recording::Ledger && !decisions.is_empty() {
        run.ledger().record(FUNCTION, request_id, run.now(), &decisions).await?;
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(decisions),
    }
}
