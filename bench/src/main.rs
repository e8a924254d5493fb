//! Measures the functions' release binaries. Each measured run has its own process. The benchmark's own process serves
//! a Lambda Runtime API over plain HTTP, as Lambda does, and the AWS services over HTTPS. Both servers listen on
//! loopback.
//!
//! `bench <plan.json>` writes its figures as one JSON object to standard output. The plan is made by
//! `tools/bench/driver.py`, which also makes the certificates and reads the figures.

#![expect(
    clippy::indexing_slicing,
    clippy::unchecked_time_subtraction,
    reason = "anything unexpected must end the measurement with a message"
)]

mod aws;
mod events;
mod measure;
mod process;
mod runtime;
mod throttle;

/// Any error ends the measurement. The message says what went wrong.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let path = std::env::args().nth(1).ok_or("bench <plan.json>: tools/bench/driver.py writes the plan")?;
    let plan = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let figures = runtime.block_on(measure::all(&plan))?;
    println!("{}", serde_json::to_string_pretty(&figures)?);
    Ok(())
}
