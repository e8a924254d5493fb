//! Measures the functions' release binaries, each in processes of its own, against a Lambda Runtime API and an AWS that
//! live in this process and answer over loopback: the first in plain HTTP, as Lambda's does, the second in HTTPS.
//!
//! `bench <plan.json>` writes its figures as one JSON object to standard output. The plan is made by `tools/bench/driver.py`, which
//! also makes the certificates and reads the figures.

#![expect(
    clippy::indexing_slicing,
    clippy::unchecked_time_subtraction,
    reason = "a measurement that meets what it does not expect ends there, and says so"
)]

mod aws;
mod events;
mod measure;
mod process;
mod runtime;
mod throttle;

/// Whatever goes wrong ends the measurement: the text says what.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let path = std::env::args().nth(1).ok_or("bench <plan.json>: tools/bench/driver.py writes the plan")?;
    let plan = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let figures = runtime.block_on(measure::all(&plan))?;
    println!("{}", serde_json::to_string_pretty(&figures)?);
    Ok(())
}
