//! Lambda in the model: asynchronous invocations that run step by step, their time limit, their retries, and the
//! invocations that fail permanently.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use sekisho_lambda::Invocation;
use sekisho_testing::invocation::invocation;
use time::{Duration, OffsetDateTime};

use crate::account::{Duty, Shared};
use crate::event::{PIPELINE_ACCOUNT, REPOSITORY_ACCOUNT};

/// The timeout of both functions in the template.
const TIMEOUT: Duration = Duration::seconds(45);
/// Lambda retries a failed asynchronous invocation after one minute, and a second time after two more minutes.
const RETRY_DELAYS: [Duration; 2] = [Duration::minutes(1), Duration::minutes(2)];

/// The answer of an invocation: the number of decisions, or the error.
pub(crate) type Answer = Result<usize, String>;
/// An invocation of one of the functions, as a future.
pub(crate) type AnswerFuture = Pin<Box<dyn Future<Output = Answer>>>;
/// A function that begins an invocation.
type Handler = Box<dyn Fn(Duty, String, Invocation) -> AnswerFuture>;

/// A payload and the number of earlier attempts to handle it.
struct Event {
    payload: String,
    duty: Duty,
    request_id: String,
    attempt: usize,
}

struct Running {
    event: Event,
    deadline: OffsetDateTime,
    future: AnswerFuture,
}

struct Waiting {
    event: Event,
    not_before: OffsetDateTime,
}

/// The invocations of both functions.
pub(crate) struct Lambda {
    shared: Rc<Shared>,
    handler: Handler,
    running: Vec<Running>,
    /// Failed invocations that wait for their retry.
    waiting: Vec<Waiting>,
    requests: u64,
    /// pipeline-starter's events for which every attempt failed.
    pub(crate) starter_failed: Vec<String>,
    /// The request ids of the invocations that succeeded.
    pub(crate) succeeded: Vec<String>,
    pub(crate) crashes: usize,
    pub(crate) retries: usize,
    /// The number of event-relay's events for which every attempt failed.
    pub(crate) relay_dead: usize,
    /// The number of pipeline-starter's events for which every attempt failed.
    pub(crate) starter_dead: usize,
}

impl Lambda {
    pub(crate) fn new(shared: &Rc<Shared>, handler: Handler) -> Self {
        Self {
            shared: shared.clone(),
            handler,
            running: Vec::new(),
            waiting: Vec::new(),
            requests: 0,
            starter_failed: Vec::new(),
            succeeded: Vec::new(),
            crashes: 0,
            retries: 0,
            relay_dead: 0,
            starter_dead: 0,
        }
    }

    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// Whether no invocation runs or waits for its retry.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// Begins an invocation.
    pub(crate) fn invoke(&mut self, payload: String, duty: Duty) {
        self.requests += 1;
        let request_id = format!("request-{}", self.requests);
        self.start(Event { payload, duty, request_id, attempt: 0 });
    }

    fn start(&mut self, event: Event) {
        let deadline = self.shared.now.get() + TIMEOUT;
        let account = if event.duty == Duty::Relay { REPOSITORY_ACCOUNT } else { PIPELINE_ACCOUNT };
        let invocation = Invocation { request_id: event.request_id.clone(), ..invocation("model", account, deadline) };
        let future = (self.handler)(event.duty, event.payload.clone(), invocation);
        self.running.push(Running { event, deadline, future });
    }

    /// Runs one step of a random invocation.
    pub(crate) fn poll(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let index = self.shared.below(self.running.len());
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(answer) = self.running[index].future.as_mut().poll(&mut context) else { return };
        let Running { event, .. } = self.running.swap_remove(index);
        match answer {
            Err(_) => self.retry(event),
            Ok(_) => self.succeeded.push(event.request_id),
        }
    }

    /// Ends a random invocation between two of its calls.
    pub(crate) fn crash(&mut self) {
        if !self.running.is_empty() {
            let index = self.shared.below(self.running.len());
            let Running { event, .. } = self.running.swap_remove(index);
            self.crashes += 1;
            self.retry(event);
        }
    }

    /// Ends the invocations that have run past their time limit. A lease lasts longer than this limit, so no other
    /// invocation can take the lease of a running invocation.
    pub(crate) fn end_late_invocations(&mut self) {
        let now = self.shared.now.get();
        while let Some(index) = self.running.iter().position(|running| running.deadline <= now) {
            let Running { event, .. } = self.running.swap_remove(index);
            self.retry(event);
        }
    }

    /// Plans the retry of a failed invocation. If the last retry failed, the event goes to the function's dead-letter
    /// queue.
    fn retry(&mut self, event: Event) {
        match RETRY_DELAYS.get(event.attempt) {
            Some(delay) => {
                self.retries += 1;
                let not_before = self.shared.now.get() + *delay;
                self.waiting.push(Waiting { event: Event { attempt: event.attempt + 1, ..event }, not_before });
            }
            None => match event.duty {
                Duty::Relay => {
                    self.relay_dead += 1;
                    self.shared.relay_dead.borrow_mut().push_back(event.payload);
                }
                Duty::Starter => {
                    self.starter_dead += 1;
                    self.starter_failed.push(event.payload);
                }
            },
        }
    }

    /// Begins one retry whose delay is over.
    pub(crate) fn start_retry(&mut self) {
        let now = self.shared.now.get();
        if let Some(index) = self.waiting.iter().position(|waiting| waiting.not_before <= now) {
            let Waiting { event, .. } = self.waiting.swap_remove(index);
            self.start(event);
        }
    }
}
