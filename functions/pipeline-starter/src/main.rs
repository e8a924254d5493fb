//! The pipeline-starter function. The library's documentation describes what the function does.

#![recursion_limit = "256"]

use futures_util::join;
use pipeline_starter::{Error, Starter};
use sekisho_lambda::{Environment, aws, serve, telemetry};

fn main() -> Result<(), lambda_runtime::Error> {
    let environment = Environment::of_process();
    telemetry::start(&environment);
    let aws = aws::load(&environment);
    // A mistake in the configuration does not end the process here. Every invocation reports the mistake instead,
    // because Lambda does not return an error of the init phase to the caller.
    let starter = Starter::new(&environment, &aws);
    serve(&async |payload, invocation| match &starter {
        Ok(starter) => {
            // The future needs about 20 kB. `Box::pin` puts the future on the heap, so that it is not moved at every
            // await.
            let answer = Box::pin(starter.handle(payload, invocation));
            // `join!` polls `answer` first, so `make_clients` runs while `answer` waits for the ledger.
            join!(answer, async { starter.world.make_clients() }).0
        }
        Err(misconfigured) => Err(Error::from(misconfigured.clone())),
    })
}
