//! The hub hands a request on to the temp-access of the account that the request names, and passes the answer on.

use sekisho_lambda::ErrorType;
use sekisho_ledger::Store;
use tokio::time::{Instant, timeout_at};
use tracing::info;

use crate::answer::Answer;
use crate::aws::lambda::{FunctionError, Hub, HubError, Reply};
use crate::error::Error;
use crate::hub::Envelope;
use crate::report::Report;
use crate::run::{HUB_LIMIT, Run};

/// Hands a request on, and returns what the other account answers. That account decides, records and notifies, so this
/// one records nothing unless the request could not be handed on.
pub(crate) async fn hand_on<S: Store>(hub: &Hub, request: &str, run: &Run<'_, S>) -> Result<Report, Error> {
    let deadline = run.deadline(HUB_LIMIT);
    let until = run.now() + deadline.saturating_duration_since(Instant::now());
    let envelope = Envelope::of(run.request_id(), until, &run.door, request.to_owned());
    info!(account = hub.account.as_str(), region = hub.region.as_str(), "the request is handed on");
    let reply = timeout_at(deadline, run.hubs.invoke(hub, envelope.payload())).await;
    let answer = match reply.unwrap_or_else(|_| Err(HubError::unanswered())) {
        Ok(Reply::Answer(json)) => match serde_json::from_str(&json) {
            Ok(text) => Ok(Answer::Text(text)),
            Err(_) => return Err(Error::Died { account: hub.account.clone(), error_type: "no text".to_owned() }),
        },
        Ok(Reply::Failed(error)) => Err(passed_on(error, hub)),
        Err(source) => return Err(Error::Hub { account: hub.account.clone(), source }),
    };
    Ok(Report { answer, decisions: Vec::new(), notices: Vec::new(), settlement: None })
}

/// The error of the other function. A type that is not ours is Lambda's, and then nothing is known about the request.
fn passed_on(error: FunctionError, hub: &Hub) -> Error {
    match ErrorType::named(&error.error_type) {
        Some(error_type) => Error::PassedOn { error_type, message: error.error_message },
        None => Error::Died { account: hub.account.clone(), error_type: error.error_type },
    }
}
