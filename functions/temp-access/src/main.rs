//! The function's process.

use sekisho_lambda::{Environment, Invocation, log, serve};
use temp_access::error::Error;
use temp_access::handler::TempAccess;

fn main() -> Result<(), lambda_runtime::Error> {
    let environment = Environment::of_process();
    log::start(&environment);
    // What is wrong is said by every invocation: a process that ends at its start says nothing to whoever asks.
    let function = TempAccess::of_process(&environment);
    serve(&async |payload: &str, invocation: &Invocation| match &function {
        // Boxed: as part of the loop's future it is too deep for the compiler.
        Ok(function) => Box::pin(function.handle(payload, invocation)).await,
        Err(misconfigured) => Err(Error::from(misconfigured.clone())),
    })
}
