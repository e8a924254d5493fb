//! The function's process.

use sekisho_lambda::{Environment, Invocation, serve, telemetry};
use temp_access::access::TempAccess;
use temp_access::error::Error;

fn main() -> Result<(), lambda_runtime::Error> {
    let environment = Environment::of_process();
    telemetry::start(&environment);
    // If the environment is wrong, every invocation reports this. If the process ended at its start instead, the caller
    // would not see the reason.
    let function = TempAccess::of_process(&environment);
    serve(&async |payload: &str, invocation: &Invocation| match &function {
        // The future is boxed, because as a part of the loop's future it would be nested too deeply for the compiler.
        Ok(function) => Box::pin(function.handle(payload, invocation)).await,
        Err(misconfigured) => Err(Error::from(misconfigured.clone())),
    })
}
