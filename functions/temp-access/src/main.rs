//! The function's process.

use sekisho_lambda::{Environment, Invocation, serve, telemetry};
use temp_access::access::TempAccess;
use temp_access::error::Error;

fn main() -> Result<(), lambda_runtime::Error> {
    let environment = Environment::of_process();
    telemetry::start(&environment);
    // Every invocation reports a wrong environment: if the process ended at its start, its caller would not see why.
    let function = TempAccess::of_process(&environment);
    serve(&async |payload: &str, invocation: &Invocation| match &function {
        // Boxed: as a part of the loop's future, this future is nested too deeply for the compiler.
        Ok(function) => Box::pin(function.handle(payload, invocation)).await,
        Err(misconfigured) => Err(Error::from(misconfigured.clone())),
    })
}
