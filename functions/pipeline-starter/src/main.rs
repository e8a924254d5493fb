//! The pipeline-starter function. The library's documentation describes what it does.

#![recursion_limit = "256"]

use futures_util::join;
use pipeline_starter::{Error, Starter};
use sekisho_lambda::{Environment, aws, serve, telemetry};

fn main() -> Result<(), lambda_runtime::Error> {
    let environment = Environment::of_process();
    telemetry::start(&environment);
    let aws = aws::load(&environment);
    // Every invocation reports a mistake in the configuration, because Lambda does not return an error of the init
    // phase to the caller.
    let starter = Starter::new(&environment, &aws);
    serve(&async |payload, invocation| match &starter {
        Ok(starter) => {
            // The future is on the heap because it has about 20 kB, which every await would otherwise move.
            let answer = Box::pin(starter.handle(payload, invocation));
            // The handler is polled first, so that the second client is made while the ledger's answer is on its way.
            join!(answer, async { starter.world.make_client() }).0
        }
        Err(misconfigured) => Err(Error::from(misconfigured.clone())),
    })
}
