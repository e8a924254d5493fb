//! The pipeline-starter function: see the library for what it does.

#![recursion_limit = "256"]

use futures_util::join;
use pipeline_starter::handler::{Error, Starter};
use sekisho_lambda::{Environment, aws, log, serve};

fn main() -> Result<(), lambda_runtime::Error> {
    let environment = Environment::of_process();
    log::start(&environment);
    let aws = aws::load(&environment);
    // A mistake in the configuration is told by every invocation: Lambda shows an error of init to nobody who asks.
    let starter = Starter::new(&environment, &aws);
    serve(&async |payload, invocation| match &starter {
        Ok(starter) => {
            // On the heap: a handler's state is some 20 kB, and every await would move it.
            let answer = Box::pin(starter.handle(payload, invocation));
            // Begun first, so that this client is made while the ledger is asked.
            join!(answer, async { starter.world.make_client() }).0
        }
        Err(misconfigured) => Err(Error::from(misconfigured.clone())),
    })
}
