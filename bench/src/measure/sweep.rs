//! Sweeps of artifact-checker.

use std::cell::Cell;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use serde_json::json;

use crate::Failure;
use crate::aws::State;
use crate::events::Program;
use crate::measure::{Bench, Growth, Running, count, micros, request};

/// The pause of a process that gets no message, before it looks for one again.
const PAUSE: Duration = Duration::from_millis(2);

const PROGRAM: Program = Program::ArtifactChecker;

/// What a process used.
#[derive(Default)]
struct Used {
    cpu: Duration,
    peak: u64,
}

impl Bench<'_> {
    /// Measures one sweep of a whole bucket. The first process gets the order, and leaves the ranges of a large bucket to
    /// other processes. As on Lambda, as many of them work at the same time as the environment allows.
    pub(super) async fn sweep(&self, objects: usize) -> Result<Growth, Failure> {
        *self.aws.state() = State { objects, ..State::default() };
        let order = json!({"action": "sweep", "bucket": crate::events::ARTIFACTS});
        let mut first = self.start(PROGRAM, "everyday").await?;
        first.settle().await?;
        let begun = Instant::now();
        first.invoke(request(PROGRAM, order.to_string(), 1)).await?;
        let concurrency = self.plan.environment.get("SWEEP_CONCURRENCY").ok_or("the plan has no SWEEP_CONCURRENCY")?;
        let busy = Cell::new(0);
        let processes = (1..=concurrency.parse()?).map(|number| self.check_ranges(number, &busy));
        let mut used = try_join_all(processes).await?;
        let wall = begun.elapsed();
        used.push(end(first).await?);
        let calls = self.aws.state().calls.clone();
        Ok(Growth {
            program: PROGRAM.name(),
            what: "objects",
            count: objects,
            wall: micros(wall),
            cpu: micros(used.iter().map(|used| used.cpu).sum()),
            peak: count(used.iter().map(|used| used.peak).max().unwrap_or_default()),
            calls,
        })
    }

    /// Hands messages of the queue to one process, until the queue is empty and no process works. `busy` counts the
    /// processes that work. The process starts with its first message.
    async fn check_ranges(&self, number: u64, busy: &Cell<usize>) -> Result<Used, Failure> {
        let mut process: Option<Running> = None;
        let mut messages = 0;
        loop {
            let Some(message) = self.next_message() else {
                if busy.get() == 0 {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            busy.set(busy.get() + 1);
            messages += 1;
            let running = match &mut process {
                Some(running) => running,
                None => process.insert(self.start(PROGRAM, "everyday").await?),
            };
            running.invoke(request(PROGRAM, message, number * 1_000 + messages)).await?;
            busy.set(busy.get() - 1);
        }
        match process {
            Some(running) => end(running).await,
            None => Ok(Used::default()),
        }
    }

    /// The event with the next message of the queue; `None` if the queue is empty.
    fn next_message(&self) -> Option<String> {
        let body = self.aws.state().queue.pop_front()?;
        let attributes = json!({"ApproximateReceiveCount": "1"});
        let record = json!({"eventSource": "aws:sqs", "messageId": "1", "attributes": attributes, "body": body});
        Some(json!({"Records": [record]}).to_string())
    }
}

/// Waits until the process is idle, and ends it.
async fn end(mut running: Running) -> Result<Used, Failure> {
    running.settle().await?;
    let used = Used { cpu: running.process.cpu()?, peak: running.process.peak()? };
    running.process.end().await?;
    Ok(used)
}
