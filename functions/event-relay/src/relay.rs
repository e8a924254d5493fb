//! Dispatches a request to its use case and records the decisions.

mod change;
mod examine;
mod explain;
mod images;
mod join;
mod look;
mod notify;
pub(crate) mod offer;
mod order;
mod reconcile;
mod redeliver;
mod reoffer;
mod report;
mod resend;
mod settle;
mod source;
pub(crate) mod train;
mod train_request;
mod whereabouts;
mod widget;

use sekisho_domain::config::Misconfigured;
use sekisho_domain::decision::Decision;
use sekisho_domain::route::Routes;
use sekisho_lambda::aws::SdkConfig;
use sekisho_lambda::board::{READ_ONLY, is_widget};
use sekisho_lambda::{Environment, Invocation};

use crate::aws::Aws;
use crate::decision_log::Report;
use crate::error::Error;
use crate::outcome::{Answer, Outcome, about_payload};
use crate::request::{self, Request};
use crate::run::Run;
use crate::world::World;

/// The function event-relay.
#[derive(Debug)]
pub struct Relay<W> {
    /// The ledger, the clock and the services that the function calls.
    pub world: W,
    /// The routes of the configuration file.
    pub routes: Routes,
}

impl Relay<Aws> {
    /// Builds the function from its environment and the configuration file.
    ///
    /// # Errors
    /// The configuration cannot be read, a route in the configuration is wrong, or an environment variable is missing.
    pub fn new(environment: &Environment, aws: &SdkConfig) -> Result<Self, Misconfigured> {
        Ok(Self { routes: environment.configuration()?.routes_and_windows()?, world: Aws::new(environment, aws)? })
    }
}

impl<W: World> Relay<W> {
    /// Handles one payload.
    ///
    /// # Errors
    /// The function fails with an error that a retry may cure, or because a person's request cannot be understood.
    /// Every other problem is a decision in the answer.
    pub async fn handle(&self, payload: &str, invocation: &Invocation) -> Result<Answer, Error> {
        let run = &Run::new(&self.world, &self.routes, invocation);
        if is_widget(payload) {
            return widget::show(run, payload).await.map(Answer::Text);
        }
        let request = request::read(payload, invocation, &self.routes);
        if invocation.is_board() && !request.is_read_only() {
            return Err(Error::Refused(READ_ONLY.to_owned()));
        }
        let Report { mut log, failure } = match request {
            Request::Change(hint) => change::relay_change(run, &hint).await,
            Request::Reconcile => reconcile::reconcile(run).await,
            Request::Redeliver(redelivery) => redeliver::redeliver(run, &redelivery).await,
            Request::Report(report) => report::receive_report(run, &report).await,
            Request::Explain(event) => return explain::explain(run, event.get()).await,
            Request::Where(request) => return whereabouts::show(run, &request).await.map(Answer::Text),
            Request::Resend(request) => return resend::resend(run, &request).await.map(Answer::Text),
            Request::Train(request) => return train_request::answer(run, &request).await.map(Answer::Text),
            Request::Ignored(reason) => about_payload(payload, Decision::new(Outcome::Ignored, reason)).into(),
            Request::Refused(reason) => about_payload(payload, Decision::new(Outcome::Refused, reason)).into(),
            Request::Invalid(reason) => return Err(Error::InvalidRequest(reason)),
        };
        // The decisions that were made are logged and stored even if a retry must do the rest of the work.
        run.record(&mut log).await?;
        match failure {
            Some(error) => Err(error),
            None => Ok(log.into_decisions().into()),
        }
    }
}
