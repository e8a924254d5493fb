//! The artifact-checker function; the library documents what the function does.

use artifact_checker::{Checker, Error};
use futures_util::join;
use sekisho_lambda::{Environment, aws, serve, telemetry};

fn main() -> Result<(), lambda_runtime::Error> {
    let environment = Environment::of_process();
    telemetry::start(&environment);
    let aws = aws::load(&environment);
    // A configuration error does not end the process here. Every invocation returns the error instead, because Lambda
    // does not show an initialization error to the caller.
    let checker = Checker::new(&environment, &aws);
    serve(&async |payload, invocation| match &checker {
        Ok(checker) => {
            let answer = Box::pin(checker.respond(payload, invocation));
            // `join!` polls `answer` first, so that the ledger's client is built while the function waits for S3.
            join!(answer, async { checker.ledger.make_client() }).0
        }
        Err(misconfigured) => Err(Error::from(misconfigured.clone())),
    })
}
