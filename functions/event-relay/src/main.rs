//! The event-relay function: see the library for what it does.

#![recursion_limit = "256"]

use event_relay::handler::{Error, Relay};
use futures_util::join;
use sekisho_lambda::{Environment, aws, log, serve};

fn main() -> Result<(), lambda_runtime::Error> {
    let environment = Environment::of_process();
    log::start(&environment);
    let aws = aws::load(&environment);
    // A mistake in the configuration is told by every invocation: Lambda shows an error of init to nobody who asks.
    let relay = Relay::new(&environment, &aws);
    serve(&async |payload, invocation| match &relay {
        Ok(relay) => {
            // On the heap: a handler's state is some 20 kB, and every await would move it.
            let answer = Box::pin(relay.handle(payload, invocation));
            // Begun first, so that these clients are made while the ledger is asked.
            join!(answer, async { relay.world.make_clients() }).0
        }
        Err(misconfigured) => Err(Error::from(misconfigured.clone())),
    })
}
