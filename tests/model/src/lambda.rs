//! Lambda in the model: asynchronous invocations that run step by step, their time limit, their retries, and the
//! invocations that fail permanently.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use sekisho_lambda::Invocation;
use sekisho_testing::invocation::invocation;
use time::{Duration, OffsetDateTime};

use crate::cloud::{Cloud, PLACES, REPOSITORY_ACCOUNT, REPOSITORY_REGION};

/// The timeout of both functions in the template.
const TIMEOUT: Duration = Duration::seconds(45);
/// Lambda retries a failed asynchronous invocation after one minute, and a second time after two more minutes.
const RETRY_DELAYS: [Duration; 2] = [Duration::minutes(1), Duration::minutes(2)];

/// A deployed function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    /// event-relay in the repository account.
    Relay,
    /// pipeline-starter in the place with this index.
    Starter(usize),
}

/// The answer of an invocation: nothing, or the error.
pub(crate) type Answer = Result<(), String>;
/// An invocation of one of the functions, as a future.
pub(crate) type AnswerFuture = Pin<Box<dyn Future<Output = Answer>>>;

/// An event for a function, and the number of earlier attempts to handle it.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) function: Function,
    pub(crate) payload: String,
    request_id: String,
    attempt: usize,
    /// Whether a person sent the event and waits for the answer. Lambda does not retry such an invocation.
    is_request: bool,
}

struct Running {
    event: Event,
    deadline: OffsetDateTime,
    /// The difference of the invocation's clock from the true time.
    skew: Duration,
    future: AnswerFuture,
}

struct Waiting {
    event: Event,
    not_before: OffsetDateTime,
}

/// The invocations of all functions.
pub(crate) struct Lambda {
    cloud: Rc<Cloud>,
    running: Vec<Running>,
    /// Failed invocations that wait for their retry.
    waiting: Vec<Waiting>,
    requests: u64,
    /// The ids of the requests of people.
    pub(crate) by_people: BTreeSet<String>,
    /// The events for which every attempt failed.
    pub(crate) dead: Vec<Event>,
    /// The payloads and the request ids of the invocations that succeeded.
    pub(crate) succeeded: Vec<(Function, String, String)>,
    pub(crate) crashes: usize,
    pub(crate) retries: usize,
}

impl Lambda {
    pub(crate) fn new(cloud: &Rc<Cloud>) -> Self {
        Self {
            cloud: cloud.clone(),
            running: Vec::new(),
            waiting: Vec::new(),
            requests: 0,
            by_people: BTreeSet::new(),
            dead: Vec::new(),
            succeeded: Vec::new(),
            crashes: 0,
            retries: 0,
        }
    }

    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// Whether no invocation runs or waits for its retry.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// Whether an event with this text is being handled, or waits for its retry.
    pub(crate) fn mentions(&self, text: &str) -> bool {
        let running = self.running.iter().map(|running| &running.event);
        let waiting = self.waiting.iter().map(|waiting| &waiting.event);
        running.chain(waiting).chain(&self.dead).any(|event| event.payload.contains(text))
    }

    /// A new event, with a request id of its own.
    pub(crate) fn event(&mut self, function: Function, payload: String) -> Event {
        self.requests += 1;
        Event { function, payload, request_id: format!("request-{}", self.requests), attempt: 0, is_request: false }
    }

    /// The request of a person.
    pub(crate) fn request(&mut self, function: Function, payload: String) -> Event {
        let event = Event { is_request: true, ..self.event(function, payload) };
        self.by_people.insert(event.request_id.clone());
        event
    }

    /// Begins an invocation. `handle` makes its future. Lambda's clock is the true time.
    pub(crate) fn start(&mut self, event: Event, handle: impl FnOnce(&Event, Invocation) -> AnswerFuture) {
        let deadline = self.cloud.clock.now.get() + TIMEOUT;
        let (account, region) = match event.function {
            Function::Relay => (REPOSITORY_ACCOUNT, REPOSITORY_REGION),
            Function::Starter(place) => PLACES[place],
        };
        let invocation = Invocation {
            request_id: event.request_id.clone(),
            region: region.parse().unwrap_or_else(|error| unreachable!("{error}")),
            ..invocation("model", account, deadline)
        };
        let skew = self.cloud.chance.skew();
        let future = handle(&event, invocation);
        self.running.push(Running { event, deadline, skew, future });
    }

    /// Runs one step of a random invocation. Returns whether an invocation ended.
    pub(crate) fn poll(&mut self) -> bool {
        if self.running.is_empty() {
            return false;
        }
        let index = self.cloud.chance.below(self.running.len());
        self.cloud.clock.skew.set(self.running[index].skew);
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(answer) = self.running[index].future.as_mut().poll(&mut context) else { return false };
        let Running { event, .. } = self.running.swap_remove(index);
        match answer {
            Err(_) => self.retry(event),
            Ok(()) => self.succeeded.push((event.function, event.request_id, event.payload)),
        }
        true
    }

    /// Ends a random invocation between two of its calls.
    pub(crate) fn crash(&mut self) {
        if !self.running.is_empty() {
            let index = self.cloud.chance.below(self.running.len());
            let Running { event, .. } = self.running.swap_remove(index);
            self.crashes += 1;
            self.retry(event);
        }
    }

    /// Ends all invocations of a function.
    pub(crate) fn crash_all(&mut self, function: Function) {
        while let Some(index) = self.running.iter().position(|running| running.event.function == function) {
            let Running { event, .. } = self.running.swap_remove(index);
            self.crashes += 1;
            self.retry(event);
        }
    }

    /// Fails an event for a function that cannot run at the moment.
    pub(crate) fn fail(&mut self, event: Event) {
        self.retry(event);
    }

    /// Ends the invocations that have run past their time limit. A lease lasts longer than this limit, so no other
    /// invocation can take the lease of a running invocation.
    pub(crate) fn end_late_invocations(&mut self) {
        let now = self.cloud.clock.now.get();
        while let Some(index) = self.running.iter().position(|running| running.deadline <= now) {
            let Running { event, .. } = self.running.swap_remove(index);
            self.retry(event);
        }
    }

    /// Plans the retry of a failed invocation. If the last retry failed, the event goes to the function's dead-letter
    /// queue.
    fn retry(&mut self, event: Event) {
        match RETRY_DELAYS.get(event.attempt) {
            _ if event.is_request => {}
            Some(delay) => {
                self.retries += 1;
                let not_before = self.cloud.clock.now.get() + *delay;
                self.waiting.push(Waiting { event: Event { attempt: event.attempt + 1, ..event }, not_before });
            }
            None => self.dead.push(event),
        }
    }

    /// Takes one event whose retry is due.
    pub(crate) fn due_retry(&mut self) -> Option<Event> {
        let now = self.cloud.clock.now.get();
        let index = self.waiting.iter().position(|waiting| waiting.not_before <= now)?;
        Some(self.waiting.swap_remove(index).event)
    }
}
