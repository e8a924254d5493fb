//! The artifact-checker function: see the library for what it does.

use artifact_checker::handler::{Checker, Error};
use sekisho_lambda::{Environment, aws, log, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let environment = Environment::of_process();
    log::start(&environment);
    let aws = aws::load(&environment);
    // A mistake in the configuration is told by every invocation: Lambda shows an error of init to nobody who asks.
    let checker = Checker::new(&environment, &aws);
    serve(async |payload, invocation| match &checker {
        Ok(checker) => Box::pin(checker.handle(payload, invocation)).await,
        Err(misconfigured) => Err(Error::from(misconfigured.clone())),
    })
    .await
}
