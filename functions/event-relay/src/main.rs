//! The event-relay function. The library describes what it does.

#![recursion_limit = "256"]

use event_relay::{Error, Relay};
use futures_util::join;
use sekisho_lambda::{Environment, aws, serve, telemetry};

fn main() -> Result<(), lambda_runtime::Error> {
    let environment = Environment::of_process();
    telemetry::start(&environment);
    let aws = aws::load(&environment);
    // Every invocation reports a mistake in the configuration, because Lambda hides errors of the init phase from the
    // caller.
    let relay = Relay::new(&environment, &aws);
    serve(&async |payload, invocation| match &relay {
        Ok(relay) => {
            // The future has about 20 kB. It is on the heap so that it is not copied at every await.
            let answer = Box::pin(relay.handle(payload, invocation));
            // `answer` is polled first, so these clients are made while the ledger is being read.
            join!(answer, async { relay.world.make_clients() }).0
        }
        Err(misconfigured) => Err(Error::from(misconfigured.clone())),
    })
}
