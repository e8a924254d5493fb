//! One invocation: reads the facts, plans, carries the plan out, and tells.

mod end;
mod grant;
mod list;
mod sweep;

use std::cell::{Cell, LazyCell};

use aws_sdk_iam::config::timeout::TimeoutConfig;
use futures_util::future::join_all;
use futures_util::join;
use sekisho_domain::access::Access;
use sekisho_domain::config::Misconfigured;
use sekisho_domain::decision::Decision;
use sekisho_lambda::aws::later;
use sekisho_lambda::environment::{CONFIG_FILE, LEDGER_TABLE, SEKISHO_CONFIG};
use sekisho_lambda::failure::chain;
use sekisho_lambda::log::{self, Level};
use sekisho_lambda::{Environment, ErrorType, Failure, Invocation, metrics};
use sekisho_ledger::{Error as LedgerError, Key, Ledger, Store};
use serde_json::json;
use time::OffsetDateTime;
use tokio::time::{Duration, Instant, sleep, timeout_at};

use crate::answer::{self, Answer, Outcome};
use crate::error::Error;
use crate::event::{self, Event, Grant, Revoke};
use crate::iam::{Iam, Person};
use crate::notice::Topic;
use crate::policy;
use crate::principal::Principal;
use crate::row::Row;
use sekisho_domain::notice::Notice;

/// ARN of the boundary that who is let in must have.
pub const ACCESS_BOUNDARY_ARN: &str = "ACCESS_BOUNDARY_ARN";
/// ARN of the topic for notices.
pub const NOTICE_TOPIC_ARN: &str = "NOTICE_TOPIC_ARN";

// Chatbot waits 15 s for an answer; a request bounds itself to 12 s, in these steps from its start.
/// Until then IAM is asked again where it shows less than the ledger knows.
const LOOKED: Duration = Duration::from_secs(5);
/// By then the plan is in the ledger, or nothing is granted.
const DECIDED: Duration = Duration::from_secs(7);
/// By then IAM has done it, or it is not known whether it has.
const WRITTEN: Duration = Duration::from_millis(9_500);
/// By then IAM has shown it.
const SHOWN: Duration = Duration::from_millis(10_500);
/// By then the ledger and the topic know.
const TOLD: Duration = Duration::from_secs(12);
/// One try of a call; a call is tried three times.
const ATTEMPT: Duration = Duration::from_millis(2_500);
/// What one step of the ledger may take of a revoke's time, which needs none of them.
const LEDGER_STEP: Duration = Duration::from_millis(1_500);
/// How often to look again at what takes its time.
const PAUSE: Duration = Duration::from_millis(250);
/// A sweep stops so long before Lambda would stop it.
const SWEEP_MARGIN: Duration = Duration::from_secs(10);

/// The function, with all that lasts longer than one invocation. No window does.
pub struct TempAccess<S> {
    /// The configuration, or what is wrong with it: each invocation says it.
    pub access: Result<Access, Misconfigured>,
    /// Value of [`ACCESS_BOUNDARY_ARN`].
    pub boundary: String,
    /// The ledger.
    pub ledger: S,
    /// IAM.
    pub iam: Iam,
    /// Where notices go.
    pub topic: Topic,
    /// The clock.
    pub clock: Box<dyn Fn() -> OffsetDateTime>,
}

impl TempAccess<Ledger> {
    /// As the environment says.
    ///
    /// # Errors
    /// Where a variable is missing.
    pub fn of_process(environment: &Environment) -> Result<Self, Misconfigured> {
        let table = environment.required(LEDGER_TABLE)?;
        let boundary = environment.required(ACCESS_BOUNDARY_ARN)?;
        let topic = environment.required(NOTICE_TOPIC_ARN)?;
        let shared = sekisho_lambda::aws::load(environment);
        // All the others stay as they are for every function.
        let timeouts = shared.timeout_config().map_or_else(TimeoutConfig::builder, TimeoutConfig::to_builder);
        let timeouts = timeouts.operation_attempt_timeout(ATTEMPT).build();
        let shared = shared.into_builder().timeout_config(timeouts).build();
        // Asked first: the others' clients are made when it has been.
        let iam = later(&shared, aws_sdk_iam::Client::new);
        LazyCell::force(&iam);
        Ok(Self {
            access: access(environment),
            boundary: boundary.to_owned(),
            ledger: Ledger::new(later(&shared, aws_sdk_dynamodb::Client::new), table),
            iam: Iam::new(iam),
            topic: Topic::new(later(&shared, aws_sdk_sns::Client::new), topic),
            clock: Box::new(sekisho_lambda::now),
        })
    }
}

/// The `[access]` section, of which every profile fits at least a role.
///
/// # Errors
/// Where it is missing or wrong.
pub fn access(environment: &Environment) -> Result<Access, Misconfigured> {
    let access = environment.configuration()?.access()?;
    policy::check(&access).map_err(|(key, reason)| {
        let file = environment.optional(SEKISHO_CONFIG).unwrap_or(CONFIG_FILE).to_owned();
        Misconfigured { file, key, reason }
    })?;
    Ok(access)
}

/// What an action came to.
struct Done {
    answer: Result<Answer, Error>,
    decisions: Vec<Decision<Outcome>>,
    notices: Vec<Notice>,
    settle: Option<Settle>,
}

/// The row of something carried out, which says only that it was intended yet.
struct Settle {
    key: Key,
    row: Row,
    revision: u64,
}

impl Done {
    fn text(text: String, decision: Decision<Outcome>) -> Self {
        Self { answer: Ok(Answer::Text(text)), decisions: vec![decision], notices: Vec::new(), settle: None }
    }
}

/// One invocation's view of the function.
struct Turn<'a> {
    request: &'a str,
    invocation: &'a Invocation,
    start: Instant,
    /// Whether the ledger has failed already: it is not waited for again.
    ledger_lost: Cell<bool>,
}

impl Turn<'_> {
    fn until(&self, step: Duration) -> Instant {
        self.start + step
    }
}

impl<S: Store> TempAccess<S> {
    /// Answers an invocation.
    ///
    /// # Errors
    /// [`Error`], of which each says what to type instead, or what is known.
    pub async fn handle(&self, payload: &str, invocation: &Invocation) -> Result<Answer, Error> {
        let turn =
            Turn { request: &invocation.request_id, invocation, start: Instant::now(), ledger_lost: Cell::new(false) };
        let event = event::parse(payload);
        let writes = !matches!(
            &event,
            Ok(Event::Grant(Grant { dry_run: true, .. }) | Event::Revoke(Revoke { dry_run: true, .. }))
        );
        let principal = match &event {
            Ok(Event::Grant(grant)) => Some(grant.principal.clone()),
            Ok(Event::Revoke(revoke)) => Some(revoke.principal.clone()),
            _ => None,
        };
        let sweeps = matches!(&event, Ok(Event::Sweep));
        let is_short = matches!(&event, Ok(Event::Grant(Grant { dry_run: false, .. }) | Event::Revoke(_)));
        let done = match event {
            Ok(event) => self.act(&event, &turn).await,
            Err(error) => Err(error),
        };
        let mut done = done.unwrap_or_else(|error| {
            let decisions = vec![failure(&error, principal.as_ref())];
            Done { answer: Err(error), decisions, notices: Vec::new(), settle: None }
        });
        log::decisions(turn.request, &done.decisions);
        metrics::count_outcomes(&invocation.function, &done.decisions);
        if writes {
            let limit = if sweeps { self.sweep_limit(&turn) + SWEEP_MARGIN / 2 } else { turn.until(TOLD) };
            let untold = self.tell(&done, &turn, limit).await;
            if let Ok(Answer::Text(text)) = &mut done.answer {
                for line in untold {
                    text.push('\n');
                    text.push_str(line);
                }
            }
        }
        if is_short && let Ok(Answer::Text(text)) = &mut done.answer {
            answer::cut(text);
        }
        done.answer
    }

    async fn act(&self, event: &Event, turn: &Turn<'_>) -> Result<Done, Error> {
        match event {
            // Boxed: one future that holds them all is too deep for the compiler, and as large as their sum.
            Event::Grant(grant) => Box::pin(self.grant(grant, turn)).await,
            Event::Revoke(revoke) => Box::pin(self.revoke(revoke, turn)).await,
            Event::List => Box::pin(self.list(turn)).await,
            Event::Help => {
                let decision = Decision::new(Outcome::Helped, "asked what to type");
                Ok(Done::text(answer::help(self.access()?), decision))
            }
            Event::Sweep => Box::pin(self.sweep(turn)).await,
        }
    }

    fn access(&self) -> Result<&Access, Error> {
        self.access.as_ref().map_err(|misconfigured| Error::Misconfigured(misconfigured.clone()))
    }

    /// Settles, records and publishes; says what could not be, since what has been done stays done.
    async fn tell(&self, done: &Done, turn: &Turn<'_>, limit: Instant) -> Vec<&'static str> {
        let now = (self.clock)();
        let limit_of_writes = if turn.ledger_lost.get() { limit.min(Instant::now() + LEDGER_STEP) } else { limit };
        // One after the other: a second connection to the same service takes longer to open than a call takes.
        let write = async {
            let settled = timeout_at(limit_of_writes, self.settle(done, turn)).await;
            let record = self.ledger.record(&turn.invocation.function, turn.request, now, &done.decisions);
            (settled, timeout_at(limit_of_writes, record).await)
        };
        let publish = join_all(done.notices.iter().map(|notice| self.topic.publish(notice)));
        let ((settled, recorded), published) = join!(write, timeout_at(limit, publish));
        let mut untold = Vec::new();
        let unsettled = match &settled {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(chain(error)),
            Err(_) => Some("no answer in time".to_owned()),
        };
        if let Some(error) = unsettled {
            let fields = json!({"requestId": turn.request, "error": error});
            log::line(Level::Error, "a grant was not settled in the ledger", &fields);
            untold.push("The ledger has the intent, but not that it was carried out.");
        }
        let unrecorded = match &recorded {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(chain(error)),
            Err(_) => Some("no answer in time".to_owned()),
        };
        if let Some(error) = unrecorded {
            log::line(Level::Error, "decisions were not recorded", &json!({"requestId": turn.request, "error": error}));
            untold.push("The ledger did not take the record of this; the function's log has it.");
        }
        let unpublished = match &published {
            Ok(results) => results.iter().find_map(|result| result.as_ref().err()).map(|error| chain(error)),
            Err(_) => Some("no answer in time".to_owned()),
        };
        if let Some(error) = unpublished {
            log::line(Level::Error, "a notice was not sent", &json!({"requestId": turn.request, "error": error}));
            untold.push("The notice about this could not be sent: tell the others.");
        }
        untold
    }

    async fn settle(&self, done: &Done, turn: &Turn<'_>) -> Result<(), LedgerError> {
        let Some(Settle { key, row, revision }) = &done.settle else { return Ok(()) };
        match self.ledger.write(key, row, Some(*revision), turn.request).await {
            // Changed: somebody took over a lease that had lapsed, and the row is theirs.
            Ok(_) | Err(LedgerError::Changed(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Waits a moment for another invocation, while there is time.
    async fn pause(&self, principal: &Principal, limit: Instant) -> Result<(), Error> {
        if Instant::now() + PAUSE >= limit {
            return Err(Error::Busy(principal.clone()));
        }
        sleep(PAUSE).await;
        Ok(())
    }

    async fn known(&self, principal: &Principal) -> Result<Person, Error> {
        let person = self.iam.person(principal).await;
        let person = person.map_err(|source| Error::Iam { outcome: "Nothing was changed".to_owned(), source })?;
        let person = person.ok_or_else(|| Error::NotFound(principal.clone()))?;
        if person.name != principal.name() {
            return Err(Error::Refused(format!(
                "there is no {principal}, but a {} {}: type the name as IAM spells it",
                principal.kind().as_str(),
                person.name
            )));
        }
        Ok(person)
    }

    /// Undoes a claim of which nothing came, so that nobody waits for it. A failure to do so costs the wait for the lease.
    async fn give_back(&self, key: &Key, revision: u64, before: Option<Row>, turn: &Turn<'_>) {
        let undone = timeout_at(turn.until(SHOWN), async {
            match before {
                Some(before) => self.ledger.write(key, &before.free(), Some(revision), turn.request).await.map(drop),
                None => self.ledger.delete(key, revision).await,
            }
        });
        if let Ok(Err(error)) = undone.await {
            log::line(
                Level::Warn,
                "a claim was not given back",
                &json!({"requestId": turn.request, "error": chain(&error)}),
            );
        }
    }
}

fn whom(decision: Decision<Outcome>, principal: &Principal) -> Decision<Outcome> {
    decision.about(principal.kind().as_str(), principal.name())
}

fn failure(error: &Error, principal: Option<&Principal>) -> Decision<Outcome> {
    let outcome = match error.error_type() {
        ErrorType::InvalidRequest | ErrorType::Refused | ErrorType::NotFound | ErrorType::LimitExceeded => {
            Outcome::Refused
        }
        ErrorType::Throttled | ErrorType::Misconfigured | ErrorType::Internal => Outcome::Failed,
    };
    let decision = Decision::new(outcome, error.to_string()).about("error", error.error_type().name());
    match principal {
        Some(principal) => whom(decision, principal),
        None => decision,
    }
}
