//! A simulation of sweeps of many objects beside pipelines, on a virtual clock: S3 and KMS answer after 30 ms, S3
//! allows a rate for each partition, and partitions the prefixes of a bucket gradually.
//!
//! The rates and the number of objects are the same fraction of the real ones, so that each time is the real one.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use artifact_checker::{Outcome, Rates};
use tokio::time::Instant;

use crate::ranges::{at_once_with, checker_of_ranges, report_of};
use crate::sweeps::SWEEP;
use crate::world::s3::{Bucket, Sse, Version};
use crate::world::{ACCOUNT, BUCKET, Response, World, under};

const PREFIXES: usize = 20;
/// Pipelines use this part of the rates of S3 and KMS all the time.
const PIPELINES: f64 = 0.4;
/// A partition that gets at least this part of its rate for so long becomes two.
const BUSY: f64 = 0.3;
const BUSY_FOR: Duration = Duration::from_mins(5);

/// What S3 and KMS have counted.
#[derive(Default)]
struct Limits {
    /// The requests a second that S3 allows for a partition, and KMS for the account.
    rate: f64,
    /// The partition of each prefix.
    partitions: [usize; PREFIXES],
    /// The requests of this second to each partition, and since when the partition is busy.
    loads: [(u32, Option<Instant>); PREFIXES],
    second: u64,
    kms: u32,
    /// The number of requests to S3 or KMS that a pipeline or the sweep could not send.
    refused: u32,
    splits: usize,
    heads: usize,
}

impl Limits {
    /// Counts a request to S3. Returns `false` if the partition is over its rate, together with what pipelines send.
    fn allow(&mut self, start: Instant, prefix: usize, kms: u32) -> bool {
        self.next_second(start.elapsed().as_secs());
        let left = self.rate * (1.0 - PIPELINES);
        let (load, _) = &mut self.loads[self.partitions[prefix]];
        *load += 1;
        self.kms += kms;
        let is_allowed = f64::from(*load) <= left && f64::from(self.kms) <= left;
        self.refused += u32::from(!is_allowed);
        is_allowed
    }

    fn next_second(&mut self, second: u64) {
        if second == self.second {
            return;
        }
        self.second = second;
        self.kms = 0;
        for partition in 0..PREFIXES {
            let (load, since) = &mut self.loads[partition];
            let is_busy = *load > 0 && f64::from(*load) + self.rate * PIPELINES >= self.rate * BUSY;
            *load = 0;
            if !is_busy {
                *since = None;
            } else if since.get_or_insert_with(Instant::now).elapsed() >= BUSY_FOR {
                *since = None;
                self.divide(partition);
            }
        }
    }

    /// Moves half of a partition's prefixes to a new partition.
    fn divide(&mut self, partition: usize) {
        let prefixes: Vec<usize> = (0..PREFIXES).filter(|prefix| self.partitions[*prefix] == partition).collect();
        if prefixes.len() > 1 {
            self.splits += 1;
            for prefix in &prefixes[prefixes.len() / 2..] {
                self.partitions[*prefix] = self.splits;
            }
        }
    }
}

fn world_with_objects(objects: usize, page: usize) -> World {
    let world = World::new();
    world.state().buckets.insert(BUCKET.to_owned(), Bucket::new(ACCOUNT).paged(page));
    for n in 0..objects {
        let sse = if n % 5_000 == 17 { Sse::S3 } else { under("right") };
        let key = format!("pipeline-{:02}/SourceArti/{:07x}", n % PREFIXES, n * 2_654_435_761 % 0x1000_0000);
        world.state().put(BUCKET, &key, Version::new("content", sse));
    }
    world.state().latency = Duration::from_millis(30);
    world
}

/// A sweep in the simulation.
struct Case {
    objects: usize,
    /// The requests a second that S3 allows for a partition. The sweep takes half of them.
    of_partition: u32,
    invocations: u32,
    /// The number of objects of a page of the listing. With the real thousand, a page would take as long as the objects
    /// of many pages.
    page: usize,
}

/// Returns the time of the sweep, and what S3 and KMS have counted.
async fn simulate(case: &Case) -> (Duration, Limits) {
    let Case { objects, of_partition, invocations, page } = *case;
    let world = world_with_objects(objects, page);
    world.state().forgets_requests = true;
    let start = Instant::now();
    let limits = Arc::new(Mutex::new(Limits { rate: f64::from(of_partition), ..Limits::default() }));
    let counted = Arc::clone(&limits);
    world.script(move |request| {
        let name = request.path.strip_prefix(&format!("{BUCKET}/pipeline-"))?;
        let prefix: usize = name.get(..2)?.parse().ok()?;
        let mut limits = counted.lock().unwrap();
        let kms = match request.operation.as_str() {
            "HeadObject" => {
                limits.heads += 1;
                0
            }
            "GetObject" => 1,
            _ => 3,
        };
        (!limits.allow(start, prefix, kms)).then(Response::slow_down)
    });
    let mut checker = checker_of_ranges(&world);
    checker.settings.rates = Rates { s3: of_partition / 2, kms: of_partition / 2 };
    checker.settings.concurrency = invocations;
    let answers = at_once_with(&world, &checker, SWEEP, invocations as usize).await;
    let took = start.elapsed();
    let report = report_of(&answers);
    let wrong = (0..objects).filter(|n| n % 5_000 == 17).count() as u64;
    assert_eq!((report.objects, report.unchecked_ranges), (objects as u64, 0));
    assert_eq!(report.outcomes[&Outcome::Repaired], wrong);
    assert_eq!(world.state().bucket(BUCKET).writes, wrong);
    let limits = std::mem::take(&mut *limits.lock().unwrap());
    assert!((objects..=objects * 101 / 100).contains(&limits.heads), "{} for {objects} objects", limits.heads);
    (took, limits)
}

#[tokio::test(start_paused = true)]
async fn a_sweep_leaves_pipelines_what_they_need() {
    let case = Case { objects: 3_000, of_partition: 100, invocations: 5, page: 20 };
    let (took, limits) = simulate(&case).await;
    assert_eq!(limits.refused, 0);
    let fastest = case.objects as f64 / (f64::from(case.of_partition) / 2.0);
    let took = took.as_secs_f64();
    assert!(took > fastest && took < fastest * 1.1 + 60.0, "{took} s, and {fastest} s at half of the rates");
}

/// Run with `cargo test -p artifact-checker --test checker -- --ignored --nocapture hundred_million`.
#[tokio::test(start_paused = true)]
#[ignore = "takes minutes, and prints the figures of docs/performance.md"]
async fn a_hundred_million_objects() {
    // A 550th of all objects and rates.
    let case = Case { objects: 181_818, of_partition: 10, invocations: 5, page: 40 };
    let (took, limits) = simulate(&case).await;
    let (hours, heads) = (took.as_secs_f64() / 3_600.0, limits.heads as f64 / case.objects as f64);
    println!("{hours:.2} hours, {heads:.4} HEAD requests for each object, {} refused requests", limits.refused);
}
