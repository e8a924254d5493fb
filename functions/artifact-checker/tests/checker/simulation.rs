//! A simulation of sweeps of many objects beside pipelines, on a virtual clock: S3 and KMS answer after 30 ms, S3
//! allows a rate for each partition, and partitions the prefixes of a bucket gradually.
//!
//! The number of objects and all rates are the same fraction of the real ones, so that each time is the real one. The
//! sweep is the real code; only the fraction is not real.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use artifact_checker::{Outcome, Rates, SweepReport};
use futures_util::join;
use sekisho_domain::artifacts::{BucketArtifacts, Repair};
use tokio::time::Instant;

use crate::ranges::{LONG, at_once_with, checker_of_ranges};
use crate::sweeps::{SWEEP, SWEEP_VERSIONS};
use crate::world::s3::{Bucket, Sse, Version};
use crate::world::{ACCOUNT, BUCKET, Response, World, handle, under};

/// The number of prefixes, each of which S3 may divide once more.
const PREFIXES: usize = 20;
const SLOTS: usize = 2 * PREFIXES;
/// A partition that gets at least this part of its rate for some time becomes two.
const BUSY: f64 = 0.3;

/// Requests of the last second.
#[derive(Default)]
struct Window {
    requests: VecDeque<(Instant, u32)>,
    sum: u32,
}

impl Window {
    /// Returns the number of requests in the second that ends now.
    fn add(&mut self, requests: u32) -> u32 {
        let now = Instant::now();
        self.requests.push_back((now, requests));
        self.sum += requests;
        while let Some((_, old)) = self.requests.pop_front_if(|(at, _)| now - *at >= Duration::from_secs(1)) {
            self.sum -= old;
        }
        self.sum
    }
}

/// The load of a partition.
#[derive(Default)]
struct Load {
    /// The GET and HEAD requests of this second by the sweep.
    requests: u32,
    window: Window,
    busy_since: Option<Instant>,
}

/// What S3 and KMS have counted.
#[derive(Default)]
struct Limits {
    /// The requests a second that S3 allows for a partition, and KMS for the account.
    rate: f64,
    /// The part of each rate that pipelines use all the time.
    pipelines: f64,
    /// The partition of each slot.
    partitions: Vec<usize>,
    busy_for: Duration,
    loads: BTreeMap<usize, Load>,
    second: u64,
    kms: u32,
    kms_window: Window,
    /// The most requests of the sweep within one second, whenever it begins, as a part of the rate.
    most: f64,
    /// The requests over a rate. S3 and KMS refuse as many, and do not ask whose they are. If there are none, no request
    /// of a pipeline is refused.
    refused: u32,
    splits: usize,
    heads: usize,
    reads: usize,
}

impl Limits {
    /// Counts a request to S3. Returns `false` if the partition is over its rate, together with what pipelines send.
    fn allow(&mut self, start: Instant, slot: usize, reads: u32, kms: u32) -> bool {
        self.next_second(start.elapsed().as_secs());
        let left = self.rate * (1.0 - self.pipelines);
        let load = self.loads.entry(self.partitions[slot]).or_default();
        load.requests += reads;
        self.kms += kms;
        let most = load.window.add(reads).max(self.kms_window.add(kms));
        self.most = self.most.max(f64::from(most) / self.rate);
        let is_allowed = f64::from(load.requests) <= left && f64::from(self.kms) <= left;
        self.refused += u32::from(!is_allowed);
        is_allowed
    }

    fn next_second(&mut self, second: u64) {
        if second == self.second {
            return;
        }
        self.second = second;
        self.kms = 0;
        let mut busy = Vec::new();
        for (partition, load) in &mut self.loads {
            let is_busy =
                load.requests > 0 && f64::from(load.requests) + self.rate * self.pipelines >= self.rate * BUSY;
            load.requests = 0;
            if !is_busy {
                load.busy_since = None;
            } else if load.busy_since.get_or_insert_with(Instant::now).elapsed() >= self.busy_for {
                load.busy_since = None;
                busy.push(*partition);
            }
        }
        for partition in busy {
            self.divide(partition);
        }
    }

    /// Moves half of a partition's slots to a new partition.
    fn divide(&mut self, partition: usize) {
        let slots: Vec<usize> = (0..SLOTS).filter(|slot| self.partitions[*slot] == partition).collect();
        if slots.len() > 1 {
            self.splits += 1;
            for slot in &slots[slots.len() / 2..] {
                self.partitions[*slot] = SLOTS + self.splits;
            }
        }
    }
}

/// Where the keys of a slot begin.
fn first_key(slot: usize) -> String {
    let prefix = slot / 2;
    if slot.is_multiple_of(2) { format!("pipeline-{prefix:02}/") } else { format!("pipeline-{prefix:02}/SourceArti/8") }
}

/// The slot of an object.
fn slot(path: &str) -> Option<usize> {
    let name = path.strip_prefix(&format!("{BUCKET}/pipeline-"))?;
    let prefix: usize = name.get(..2)?.parse().ok()?;
    let is_upper = name.as_bytes().get("00/SourceArti/".len()).is_some_and(|digit| *digit >= b'8');
    Some(2 * prefix + usize::from(is_upper))
}

fn world_with_objects(case: &Case) -> World {
    let world = World::new();
    world.state().buckets.insert(BUCKET.to_owned(), Bucket::new(ACCOUNT).paged(case.page));
    for n in 0..case.objects {
        let sse = if case.is_wrong(n) { Sse::S3 } else { under("right") };
        let key = format!("pipeline-{:02}/SourceArti/{:07x}", n % PREFIXES, n * 2_654_435_761 % 0x1000_0000);
        world.state().put(BUCKET, &key, Version::new("content", sse));
    }
    world.state().latency = Duration::from_millis(30);
    world
}

/// A sweep in the simulation.
#[derive(Clone, Copy)]
struct Case {
    objects: usize,
    /// One of so many objects is under a wrong key.
    wrong: usize,
    /// The requests a second that S3 allows for a partition, and KMS for the account.
    of_partition: u32,
    /// The rate of the sweep, which is half of that, less 3 % if these are at least a request.
    rate: u32,
    /// The part of each rate that pipelines use all the time.
    pipelines: f64,
    invocations: u32,
    /// The time of an invocation for a range, after which another invocation takes the range over.
    time: Duration,
    /// The number of objects of a page of the listing. With the real thousand, a page would take as long as the objects
    /// of many pages.
    page: usize,
    /// How many partitions of each prefix the configuration names. S3 has them from the beginning. 0 means that S3 begins
    /// with one partition for the bucket, and that the configuration says nothing.
    named: usize,
    /// How long a partition is busy before S3 divides it.
    busy_for: Duration,
    /// When somebody orders a sweep of all versions, too, after the beginning of the first sweep.
    second: Option<Duration>,
    /// Whether a read counts as a request to KMS.
    is_read_under_kms: bool,
}

impl Case {
    const SMALL: Self = Self {
        objects: 3_000,
        wrong: 1_000,
        of_partition: 100,
        rate: 48,
        pipelines: 0.4,
        invocations: 5,
        time: LONG,
        page: 20,
        named: 0,
        // S3 takes minutes or hours, and these sweeps last less than that.
        busy_for: Duration::from_secs(10),
        second: None,
        is_read_under_kms: true,
    };
    /// A 550th of 100 million objects and of all rates. The pages are so small that an invocation finishes them, so the
    /// reads of their first objects are a third of all requests instead of a thousandth, and are not counted for KMS.
    /// Nothing is repaired, because each request stands for 550, and the requests of 550 repairs do not come together.
    const LARGE: Self = Self {
        objects: 181_818,
        wrong: usize::MAX,
        of_partition: 10,
        rate: 5,
        invocations: 1,
        page: 15,
        busy_for: Duration::from_mins(5),
        is_read_under_kms: false,
        ..Self::SMALL
    };

    /// Pipelines need their whole half. The rates are so large that the requests that pass together are few of them.
    /// Invocations begin, divide their ranges, and take over from each other.
    const HALF: Self = Self {
        objects: 12_000,
        wrong: 300,
        of_partition: 1_000,
        rate: 485,
        pipelines: 0.5,
        time: Duration::from_secs(52),
        page: 100,
        ..Self::SMALL
    };

    fn is_wrong(&self, n: usize) -> bool {
        n % self.wrong == self.wrong - 1
    }

    /// The slots at which a partition begins that the configuration names.
    fn begins(&self) -> impl Iterator<Item = usize> {
        (0..SLOTS).filter(move |slot| self.named == 2 || (self.named == 1 && slot.is_multiple_of(2)))
    }

    /// The time in seconds of so many requests for each object at half of a rate.
    fn fastest(&self, requests: f64) -> f64 {
        self.objects as f64 * requests / (f64::from(self.of_partition) / 2.0)
    }
}

/// Returns the time of the sweep in seconds, and what S3 and KMS have counted.
async fn simulate(case: Case) -> (f64, Limits) {
    let world = world_with_objects(&case);
    world.state().forgets_requests = true;
    let start = Instant::now();
    let rate = f64::from(case.of_partition);
    let partition_of = |slot: usize| case.begins().filter(|begin| *begin <= slot).last().unwrap_or(0);
    let partitions = (0..SLOTS).map(partition_of).collect();
    let limits = Limits { rate, pipelines: case.pipelines, partitions, busy_for: case.busy_for, ..Limits::default() };
    let limits = Arc::new(Mutex::new(limits));
    let counted = Arc::clone(&limits);
    world.script(move |request| {
        let slot = slot(&request.path)?;
        let mut limits = counted.lock().unwrap();
        let (reads, kms) = match request.operation.as_str() {
            "HeadObject" => (1, 0),
            "GetObject" => (1, u32::from(case.is_read_under_kms)),
            // S3 allows 3,500 updates a second for a partition, of which a sweep makes at most a fifth.
            _ => (0, 3),
        };
        limits.heads += usize::from(request.method == "HEAD");
        limits.reads += reads as usize;
        (!limits.allow(start, slot, reads, kms)).then(Response::slow_down)
    });
    let mut checker = checker_of_ranges(&world);
    checker.settings.alone = 20_000 * case.of_partition as usize / 5_500;
    checker.settings.rates = Rates { s3: case.rate, kms: case.rate };
    checker.settings.concurrency = case.invocations;
    let partitions = case.begins().skip(1).map(first_key).collect();
    let entry = BucketArtifacts { repair: Repair::Update, consumer_role: None, partitions };
    checker.settings.artifacts.buckets.insert(BUCKET.to_owned(), entry);
    let second = async {
        if let Some(pause) = case.second {
            tokio::time::sleep(pause).await;
            handle(&checker, "second", SWEEP_VERSIONS).await.unwrap();
        }
    };
    let first = at_once_with(&world, &checker, SWEEP, case.invocations as usize, case.time);
    let (answers, ()) = join!(first, second);
    let took = start.elapsed().as_secs_f64();
    let wrong = (0..case.objects).filter(|n| case.is_wrong(*n)).count() as u64;
    let is_whole = |report: &&SweepReport| report.complete && report.range.is_none();
    let reports: Vec<&SweepReport> = answers.iter().flat_map(|answer| &answer.sweeps).filter(is_whole).collect();
    assert_eq!(reports.len(), 1 + usize::from(case.second.is_some()));
    for report in &reports {
        assert_eq!((report.objects, report.unchecked_ranges), (case.objects as u64, 0));
    }
    let repaired: u64 = reports.iter().filter_map(|report| report.outcomes.get(&Outcome::Repaired)).sum();
    assert_eq!((repaired, world.state().bucket(BUCKET).writes), (wrong, wrong));
    let limits = std::mem::take(&mut *limits.lock().unwrap());
    assert!(limits.splits > 0 || case.named > 0, "S3 has divided no partition");
    (took, limits)
}

/// At most one of a hundred HEAD requests is for an object that was looked at before.
fn check_heads(case: &Case, limits: &Limits) {
    let objects = case.objects;
    assert!((objects..=objects * 101 / 100).contains(&limits.heads), "{} for {objects} objects", limits.heads);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_leaves_pipelines_what_they_need() {
    let case = Case::SMALL;
    let (took, limits) = simulate(case).await;
    assert_eq!(limits.refused, 0);
    check_heads(&case, &limits);
    let fastest = case.fastest(1.0);
    assert!(took > fastest && took < fastest * 1.1 + 60.0, "{took} s, and {fastest} s at half of the rates");
}

/// A repair takes four requests to KMS, whose rate the whole account shares.
#[tokio::test(start_paused = true)]
async fn repairs_leave_pipelines_half_of_the_rate_of_kms() {
    let case = Case { objects: 900, wrong: 1, of_partition: 400, rate: 194, pipelines: 0.35, ..Case::SMALL };
    let (took, limits) = simulate(case).await;
    assert_eq!(limits.refused, 0);
    let fastest = case.fastest(4.0);
    assert!(took > fastest * 0.95 && took < fastest * 1.2 + 60.0, "{took} s, and {fastest} s at half of the rates");
}

/// A repair sends three requests to S3 besides the one that finds the wrong key.
#[tokio::test(start_paused = true)]
async fn repairs_leave_pipelines_half_of_the_rate_of_s3() {
    let case = Case { objects: 900, wrong: 4, of_partition: 400, rate: 194, ..Case::SMALL };
    let (_, limits) = simulate(case).await;
    assert_eq!(limits.refused, 0);
}

/// No second has more than half, also when invocations begin, divide their ranges, or take over from each other.
#[tokio::test(start_paused = true)]
async fn no_request_of_pipelines_that_need_their_whole_half_is_refused() {
    let case = Case::HALF;
    let (took, limits) = simulate(case).await;
    assert_eq!(limits.refused, 0);
    assert!(limits.most <= 0.5, "{}", limits.most);
    check_heads(&case, &limits);
    let fastest = case.fastest(1.0);
    assert!(took > fastest && took < fastest * 1.2 + 60.0, "{took} s, and {fastest} s at half of the rates");
}

/// The invocations of the second sweep do not take the rates a second time, even if both begin together.
#[tokio::test(start_paused = true)]
async fn two_sweeps_together_leave_pipelines_their_half() {
    for (pause, objects, named) in [(0, 4_000, 0), (3, 5_000, 0), (9, 8_000, 1)] {
        let second = Some(Duration::from_secs(pause));
        let case = Case { objects, wrong: 1_000, second, named, ..Case::HALF };
        let (_, limits) = simulate(case).await;
        assert_eq!(limits.refused, 0, "{pause}");
        assert!(limits.most <= 0.5, "{pause}: {}", limits.most);
    }
}

/// Pipelines that use more than their half leave the sweep less. It finds out by few refused requests, and makes room.
#[tokio::test(start_paused = true)]
async fn a_sweep_makes_room_for_pipelines_that_need_more_than_half() {
    let case = Case { objects: 6_000, pipelines: 0.7, ..Case::SMALL };
    let (took, limits) = simulate(case).await;
    let refused = f64::from(limits.refused) / case.objects as f64;
    assert!(refused < 0.05, "{refused} of the requests were refused");
    assert!(took < case.fastest(1.0) * 3.0, "{took} s");
}

/// If the configuration names the partitions of S3, a sweep takes half of the rate of each of them.
#[tokio::test(start_paused = true)]
async fn a_sweep_takes_half_of_the_rate_of_each_partition_that_the_configuration_names() {
    let case = Case {
        objects: 4_000,
        wrong: usize::MAX,
        of_partition: 20,
        rate: 9,
        invocations: 20,
        page: 40,
        named: 1,
        ..Case::SMALL
    };
    let (took, limits) = simulate(case).await;
    assert_eq!(limits.refused, 0);
    check_heads(&case, &limits);
    let fastest = case.fastest(1.0) / PREFIXES as f64;
    assert!(took > fastest && took < fastest * 1.3 + 60.0, "{took} s, and {fastest} s at half of the rates");
}

/// Run with `cargo test -p artifact-checker --test checker -- --ignored --nocapture hundred_million`.
#[tokio::test(start_paused = true)]
#[ignore = "takes minutes, and prints which part of its rates a sweep uses"]
async fn a_hundred_million_objects() {
    for (invocations, named) in [(1, 0), (20, 1), (40, 2)] {
        let case = Case { invocations, named, ..Case::LARGE };
        let (took, limits) = simulate(case).await;
        let partitions = (named * PREFIXES).max(1);
        let half = f64::from(case.rate) * partitions as f64;
        // The part of its rates that the sweep used, from its beginning to its end.
        let used = limits.reads as f64 / took / half;
        // One of a thousand objects is read. The rates of the sweep are 3 % less than half.
        let calculated = 1.001 * case.objects as f64 / half / 60.0 / 0.97;
        let minutes = calculated / used;
        let heads = limits.heads as f64 / case.objects as f64;
        println!(
            "{partitions} partitions: {minutes:.1} minutes, calculated {calculated:.1}, {:.1} % of the rates of a sweep, \
             {heads:.4} HEAD requests for each object",
            used * 100.0
        );
        assert_eq!(limits.refused, 0);
        assert!(minutes < calculated * 1.1, "{minutes} minutes, calculated {calculated}");
        check_heads(&case, &limits);
    }
}
