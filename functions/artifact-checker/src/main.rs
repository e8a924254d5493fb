//! The artifact-checker function: see the library for what it does.

use artifact_checker::handler::{Checker, Error};
use futures_util::join;
use sekisho_lambda::{Environment, aws, log, serve};

fn main() -> Result<(), lambda_runtime::Error> {
    let environment = Environment::of_process();
    log::start(&environment);
    let aws = aws::load(&environment);
    // A mistake in the configuration is told by every invocation: Lambda shows an error of init to nobody who asks.
    let checker = Checker::new(&environment, &aws);
    serve(&async |payload, invocation| match &checker {
        Ok(checker) => {
            let answer = Box::pin(checker.handle(payload, invocation));
            // Begun first, so that this client is made while S3 is asked.
            join!(answer, async { checker.ledger.make_client() }).0
        }
        Err(misconfigured) => Err(Error::from(misconfigured.clone())),
    })
}
