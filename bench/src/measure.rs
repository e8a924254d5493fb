//! The measurements. The programs take turns, so that other work on the machine affects all of them alike.

mod cold;
mod sweep;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::Failure;
use crate::aws::{Aws, State, Units};
use crate::events::Program;
use crate::process::{Process, Start};
use crate::runtime::{Event, Runtime};
use crate::throttle::Throttle;

/// What the growth of event-relay counts if the change is an image.
const IMAGE_TARGETS: &str = "targets of an image";
/// What it counts if the targets are shown by the widget.
const WIDGET_TARGETS: &str = "targets in the widget";

/// The plan of what to measure, which `tools/bench/driver.py` writes.
#[derive(Debug, Deserialize)]
pub(crate) struct Plan {
    /// The command that starts each program, by the program's name.
    commands: BTreeMap<String, Vec<String>>,
    /// Environment variables of all programs.
    environment: BTreeMap<String, String>,
    /// Path of the certificate of the AWS services that the benchmark serves.
    certificate: String,
    /// Path of the certificate's private key.
    key: String,
    /// Host name in the certificate.
    host: String,
    /// Path of the folder `events`.
    events: String,
    /// Paths of configurations, by name: `everyday`, `targets-<count>`, `images-<count>`, `widget-<count>` and
    /// `repositories-<count>` for event-relay, `pipelines-<count>` for pipeline-starter.
    configurations: BTreeMap<String, String>,
    /// Number of cold runs of each program.
    runs: usize,
    /// Number of cold runs of each program with 7 % of a core.
    throttled_runs: usize,
    /// Number of warm invocations of each program.
    warm: usize,
    /// The time that an answer of AWS takes while a reconcile is measured, in milliseconds.
    latency: u64,
    /// The numbers of objects with which a sweep of artifact-checker is measured.
    objects: Vec<usize>,
}

/// One cold run. Times are in microseconds, memory is in bytes.
#[derive(Debug, Clone, Copy, Serialize)]
struct Cold {
    /// Time from the start of the process until the process requests its first event.
    init: f64,
    /// CPU time until the process requests its first event.
    init_cpu: f64,
    /// Time from handing over the event to the answer.
    invocation: f64,
    /// Time from the start of the process to the answer.
    wall: f64,
    /// CPU time until the process requests its second event.
    cpu: f64,
    /// Peak resident memory.
    peak: f64,
}

/// The requests, the charged units and the connections of one cold run.
#[derive(Debug, Default, Serialize)]
struct Counted {
    calls: BTreeMap<String, u64>,
    units: Units,
    connections: u64,
}

/// The warm invocations of one program. Times are in microseconds, memory is in bytes.
#[derive(Debug, Serialize)]
struct Warm {
    median: f64,
    p99: f64,
    per_second: f64,
    /// CPU time of each invocation.
    cpu: f64,
    peak: f64,
    /// Calls of the last invocation.
    calls: BTreeMap<String, u64>,
    units: Units,
}

/// The cost of one event that concerns `count` targets, pipelines or objects. Times are in microseconds, memory is in
/// bytes.
#[derive(Debug, Serialize)]
struct Growth {
    program: &'static str,
    /// The kind of things that `count` counts: `targets`, `targets of an image`, `targets in the widget`,
    /// `repositories`, `pipelines` or `objects`.
    what: &'static str,
    count: usize,
    wall: f64,
    cpu: f64,
    peak: f64,
    calls: BTreeMap<String, u64>,
}

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Figures {
    cold: BTreeMap<&'static str, Vec<Cold>>,
    throttled: BTreeMap<&'static str, Vec<Cold>>,
    /// The reason why there are no throttled runs; `None` if there are throttled runs.
    unthrottled: Option<String>,
    calls: BTreeMap<&'static str, Counted>,
    warm: BTreeMap<&'static str, Warm>,
    growth: Vec<Growth>,
    /// Cold starts of the two functions of a grant in another account: of the `hub`, and of the `other` account's.
    handed_on: BTreeMap<&'static str, Vec<Cold>>,
}

/// Runs all measurements of the plan.
pub(crate) async fn all(plan: &Plan) -> Result<Figures, Failure> {
    let aws = Aws::start(&plan.certificate, &plan.key, &plan.host).await?;
    let bench = Bench { plan, aws };
    let mut figures = Figures::default();
    let programs: Vec<Program> = Program::ALL.into_iter().filter(|p| plan.commands.contains_key(p.name())).collect();
    let mut before = BTreeMap::new();
    for &program in &programs {
        before.insert(program, bench.settled(program).await?);
    }

    for _ in 0..plan.runs {
        for &program in &programs {
            let cold = bench.cold(program, &before[&program], None).await?;
            figures.cold.entry(program.name()).or_default().push(cold);
            figures.calls.insert(program.name(), bench.counted());
        }
    }
    bench.handed_on(&mut figures).await?;
    match if plan.throttled_runs > 0 { Throttle::make() } else { Err("not asked for".to_owned()) } {
        Err(why) => figures.unthrottled = Some(why),
        Ok(throttle) => {
            for _ in 0..plan.throttled_runs {
                for &program in &programs {
                    let cold = bench.cold(program, &before[&program], Some(&throttle)).await?;
                    figures.throttled.entry(program.name()).or_default().push(cold);
                }
            }
        }
    }
    if plan.warm > 0 {
        for &program in &programs {
            figures.warm.insert(program.name(), bench.warm(program, &before[&program]).await?);
        }
    }
    for name in plan.configurations.keys() {
        if let Some((what, count)) = name.split_once('-') {
            if what == "repositories" {
                figures.growth.push(bench.reconcile(count.parse()?, name).await?);
                continue;
            }
            if what == "widget" {
                figures.growth.push(bench.widget(count.parse()?, name).await?);
                continue;
            }
            let (program, what) = match what {
                "targets" => (Program::EventRelay, "targets"),
                "images" => (Program::EventRelay, IMAGE_TARGETS),
                _ => (Program::PipelineStarter, "pipelines"),
            };
            figures.growth.push(bench.grown(program, what, count.parse()?, name).await?);
        }
    }
    for &objects in &plan.objects {
        figures.growth.push(bench.sweep(objects).await?);
    }
    figures.growth.sort_by_key(|growth| (growth.program, growth.count));
    Ok(figures)
}

struct Bench<'p> {
    plan: &'p Plan,
    aws: Aws,
}

/// A process and its Runtime API.
struct Running {
    process: Process,
    runtime: Runtime,
    spawned: Instant,
    /// Passes the next event to the process. `None` until the process has requested an event.
    next: Option<oneshot::Sender<Event>>,
}

impl Bench<'_> {
    async fn start(&self, program: Program, configuration: &str) -> Result<Running, Failure> {
        let runtime = Runtime::start().await?;
        let mut environment = self.plan.environment.clone();
        environment.extend(self.aws.endpoints.clone());
        let configuration = self
            .plan
            .configurations
            .get(configuration)
            .ok_or_else(|| format!("the plan has no configuration `{configuration}`"))?;
        environment.insert("SEKISHO_CONFIG".to_owned(), configuration.clone());
        environment.insert("AWS_LAMBDA_RUNTIME_API".to_owned(), runtime.address.to_string());
        environment.insert("AWS_LAMBDA_FUNCTION_NAME".to_owned(), program.name().to_owned());
        let command = self
            .plan
            .commands
            .get(program.name())
            .ok_or_else(|| format!("the plan has no command for {}", program.name()))?
            .clone();
        let spawned = Instant::now();
        let process = Process::start(&Start { command, environment })?;
        Ok(Running { process, runtime, spawned, next: None })
    }

    fn event(&self, program: Program, number: u64) -> Result<Event, Failure> {
        Ok(self.event_about(program, program.event(number, &self.plan.events)?, number))
    }

    /// The event, after its branch or tag has moved to `head`.
    fn event_about(&self, program: Program, (event, head): (Value, String), number: u64) -> Event {
        self.aws.state().head = head;
        request(program, event.to_string(), number)
    }

    /// The state of AWS before an everyday event. For event-relay and pipeline-starter, a first change has already been
    /// processed.
    async fn settled(&self, program: Program) -> Result<State, Failure> {
        *self.aws.state() = State::default();
        if matches!(program, Program::EventRelay | Program::PipelineStarter) {
            let mut running = self.start(program, "everyday").await?;
            running.invoke(self.event(program, 1)?).await?;
            running.process.end().await?;
        }
        let state = self.aws.state().clone();
        Ok(State { calls: BTreeMap::new(), connections: BTreeMap::new(), units: Units::default(), ..state })
    }

    async fn warm(&self, program: Program, before: &State) -> Result<Warm, Failure> {
        *self.aws.state() = before.clone();
        let mut running = self.start(program, "everyday").await?;
        running.invoke(self.event(program, 2)?).await?;
        running.settle().await?;
        let cpu = running.process.cpu()?;
        let mut times = Vec::new();
        for number in 0..self.plan.warm {
            {
                let mut state = self.aws.state();
                *state = State { connections: state.connections.clone(), ..before.clone() };
            }
            times.push(running.invoke(self.event(program, 3 + number as u64)?).await?.took);
        }
        running.settle().await?;
        let used = running.process.cpu()? - cpu;
        let total: Duration = times.iter().sum();
        times.sort();
        let at = |part: usize| times.get((times.len() * part / 100).min(times.len() - 1)).copied().unwrap_or_default();
        let (calls, units) = {
            let state = self.aws.state();
            (state.calls.clone(), state.units)
        };
        let warm = Warm {
            median: micros(at(50)),
            p99: micros(at(99)),
            per_second: count(self.plan.warm as u64) / total.as_secs_f64(),
            cpu: micros(used) / count(self.plan.warm as u64),
            peak: count(running.process.peak()?),
            calls,
            units,
        };
        running.process.end().await?;
        Ok(warm)
    }

    /// Sends nine changes to one process with the given configuration. Returns the medians of all changes but the
    /// first.
    async fn grown(&self, program: Program, what: &'static str, size: usize, name: &str) -> Result<Growth, Failure> {
        *self.aws.state() = State::default();
        let mut running = self.start(program, name).await?;
        let mut runs = Vec::new();
        for number in 1..=9 {
            let mut event = match what {
                IMAGE_TARGETS => self.event_about(program, crate::events::image(number, &self.plan.events)?, number),
                _ => self.event(program, number)?,
            };
            if program == Program::PipelineStarter {
                let mut payload: serde_json::Value = serde_json::from_str(&event.payload)?;
                payload["detail"]["pipelines"] = (0..size).map(|index| format!("shop-{index}")).collect();
                event.payload = payload.to_string();
            }
            running.settle().await?;
            let cpu = running.process.cpu()?;
            self.aws.state().calls.clear();
            let wall = running.invoke(event).await?.took;
            running.settle().await?;
            runs.push((wall, running.process.cpu()? - cpu));
        }
        let later = runs.get(1..).unwrap_or_default();
        let growth = Growth {
            program: program.name(),
            what,
            count: size,
            wall: micros(median(later.iter().map(|run| run.0).collect())),
            cpu: micros(median(later.iter().map(|run| run.1).collect())),
            peak: count(running.process.peak()?),
            calls: self.aws.state().calls.clone(),
        };
        running.process.end().await?;
        Ok(growth)
    }

    /// Takes one change through a whole train and another one through half of it, and then asks for the widget nine
    /// times. So the rows of the targets have everything that such rows have. Returns the medians of all answers but
    /// the first.
    async fn widget(&self, targets: usize, name: &str) -> Result<Growth, Failure> {
        let program = Program::EventRelay;
        *self.aws.state() = State::default();
        let mut running = self.start(program, name).await?;
        let mut number = 0;
        for (change, mut reports) in [(1, targets), (2, targets / 2)] {
            running.invoke(self.event(program, change)?).await?;
            while reports > 0 {
                let open = crate::events::reports(&self.aws.state().ledger, &self.plan.events)?;
                if open.is_empty() {
                    return Err("the train has stopped: no target has an order without a report".into());
                }
                for report in open.into_iter().take(reports) {
                    number += 1;
                    reports -= 1;
                    running.invoke(request(program, report.to_string(), number)).await?;
                }
            }
        }
        let mut runs = Vec::new();
        for _ in 0..9 {
            number += 1;
            running.settle().await?;
            let cpu = running.process.cpu()?;
            self.aws.state().calls.clear();
            let wall = running.invoke(request(program, r#"{"widgetContext":{}}"#.to_owned(), number)).await?.took;
            running.settle().await?;
            runs.push((wall, running.process.cpu()? - cpu));
        }
        let later = runs.get(1..).unwrap_or_default();
        let growth = Growth {
            program: program.name(),
            what: WIDGET_TARGETS,
            count: targets,
            wall: micros(median(later.iter().map(|run| run.0).collect())),
            cpu: micros(median(later.iter().map(|run| run.1).collect())),
            peak: count(running.process.peak()?),
            calls: self.aws.state().calls.clone(),
        };
        running.process.end().await?;
        Ok(growth)
    }

    /// Measures one reconcile of repositories that have three routed branches each. The first reconcile, which is not
    /// measured, writes the rows of the ledger. Each answer takes as long as in the plan, so the wall time shows how
    /// many calls are in flight.
    async fn reconcile(&self, repositories: usize, name: &str) -> Result<Growth, Failure> {
        let program = Program::EventRelay;
        *self.aws.state() = State { repositories, head: format!("{:040x}", 1), ..State::default() };
        let mut running = self.start(program, name).await?;
        let schedule = std::fs::read_to_string(format!("{}/event-relay/schedule.json", self.plan.events))?;
        running.invoke(request(program, schedule.clone(), 1)).await?;
        running.settle().await?;
        let cpu = running.process.cpu()?;
        {
            let mut state = self.aws.state();
            state.calls.clear();
            state.latency = Duration::from_millis(self.plan.latency);
        }
        let wall = running.invoke(request(program, schedule, 2)).await?.took;
        running.settle().await?;
        let growth = Growth {
            program: program.name(),
            what: "repositories",
            count: repositories,
            wall: micros(wall),
            cpu: micros(running.process.cpu()? - cpu),
            peak: count(running.process.peak()?),
            calls: self.aws.state().calls.clone(),
        };
        running.process.end().await?;
        Ok(growth)
    }
}

/// The time of an answer, and how long the answer took.
struct Invoked {
    answered: Instant,
    took: Duration,
}

impl Running {
    /// Hands an event to the process and waits for the answer.
    async fn invoke(&mut self, event: Event) -> Result<Invoked, Failure> {
        self.settle().await?;
        let give = self.next.take().ok_or("the function has not asked for an event")?;
        let given = Instant::now();
        give.send(event).map_err(|_| "the function closed its connection to the Runtime API")?;
        let (answered, _) = tokio::select! {
            answered = self.runtime.answered() => answered?,
            failure = self.process.ended() => return Err(failure),
        };
        Ok(Invoked { answered, took: answered - given })
    }

    /// Waits until the process is idle. A process that has requested an event is idle, so its CPU time no longer grows.
    async fn settle(&mut self) -> Result<Instant, Failure> {
        if self.next.is_some() {
            return Ok(Instant::now());
        }
        let (at, give) = tokio::select! {
            idle = self.runtime.idle() => idle?,
            failure = self.process.ended() => return Err(failure),
        };
        self.next = Some(give);
        Ok(at)
    }
}

fn request(program: Program, payload: String, number: u64) -> Event {
    let (account, region, name) = (program.account(), crate::events::REGION, program.name());
    Event {
        payload,
        request: format!("8476a536-e9f4-11e8-9739-{number:012}"),
        function: format!("arn:aws:lambda:{region}:{account}:function:{name}"),
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[expect(clippy::cast_precision_loss, reason = "no figure here comes near 2^53")]
fn count(number: u64) -> f64 {
    number as f64
}
