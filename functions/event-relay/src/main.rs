//! The event-relay function. The library's documentation describes what the function does.

#![recursion_limit = "256"]

use event_relay::{Error, Relay};
use futures_util::join;
use sekisho_lambda::{Environment, aws, serve, telemetry};

fn main() -> Result<(), lambda_runtime::Error> {
    let environment = Environment::of_process();
    telemetry::start(&environment);
    let aws = aws::load(&environment);
    // A mistake in the configuration does not end the process here. Every invocation reports the mistake instead,
    // because Lambda hides errors of the init phase from the caller.
    let relay = Relay::new(&environment, &aws);
    serve(&async |payload, invocation| match &relay {
        Ok(relay) => {
            // The future needs about 20 kB. `Box::pin` puts the future on the heap, so that it is not copied at every
            // await.
            let answer = Box::pin(relay.handle(payload, invocation));
            // `join!` polls `answer` first, so `make_clients` runs while `answer` waits for the ledger.
            join!(answer, async { relay.world.make_clients() }).0
        }
        Err(misconfigured) => Err(Error::from(misconfigured.clone())),
    })
}
