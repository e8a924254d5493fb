//! The function dispatches each invocation to a use case, and then records the decisions.

mod approve;
mod basis;
mod break_glass;
mod confirmation;
mod decline;
mod entry;
mod facts;
mod first_deletes;
mod follow_up;
mod grant;
mod hand_on;
mod help;
mod list;
mod owed;
mod pending;
mod person;
mod policies;
mod reminder;
mod removal;
mod request_approval;
mod requests;
mod revoke;
mod revoke_preview;
mod scheduled;
mod summary;
mod sweep;
mod tend;
mod widget;
mod window;

use std::cell::{Cell, LazyCell};

use aws_sdk_iam::config::timeout::TimeoutConfig;
use futures_util::future::join_all;
use futures_util::join;
use sekisho_domain::access::Access;
use sekisho_domain::config::Misconfigured;
use sekisho_lambda::aws::later;
use sekisho_lambda::board::is_widget;
use sekisho_lambda::environment::{
    ACCESS_BOUNDARY_ARN, CONFIG_FILE, HUB_ACCOUNT_ID, LEDGER_TABLE, NOTICE_TOPIC_ARN, SEKISHO_CONFIG,
};
use sekisho_lambda::failure::chain;
use sekisho_lambda::signed::Signed;
use sekisho_lambda::{Environment, Invocation, Topic, telemetry};
use sekisho_ledger::{Error as LedgerError, Ledger, Store};
use time::OffsetDateTime;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};
use tracing::error;

use crate::access::entry::{Entry, Task};
use crate::answer::{self, Answer};
use crate::aws::iam::Iam;
use crate::aws::identity_center::IdentityCenter;
use crate::aws::lambda::Hubs;
use crate::aws::ssm::{SSM, Sessions};
use crate::aws::trail::{CLOUDTRAIL, Trail};
use crate::door::Door;
use crate::error::Error;
use crate::policy;
use crate::report::{Report, Settlement};
use crate::request::{Grant, Request, Revoke};
use crate::run::{ATTEMPT_TIMEOUT, LEDGER_TIMEOUT, RECORD_LIMIT, Run, SETTLE_LIMIT, SWEEP_MARGIN};

/// The function and everything that it keeps between invocations.
pub struct TempAccess<S> {
    /// The `[access]` section of the configuration, or the error in it, which each invocation reports.
    pub access: Result<Access, Misconfigured>,
    /// ARN of the access boundary.
    pub boundary: String,
    /// The ledger.
    pub ledger: S,
    /// IAM of this account.
    pub iam: Iam,
    /// Session Manager of this account and region.
    pub sessions: Sessions,
    /// CloudTrail of this account and region.
    pub trail: Trail,
    /// The temp-access functions of other accounts.
    pub hubs: Hubs,
    /// The account whose temp-access may hand requests on to this one.
    pub hub: Option<String>,
    /// Identity Center, if its people get access in this account.
    pub identity_center: Option<IdentityCenter>,
    /// The topic for notices.
    pub topic: Topic,
    /// Returns the current time.
    pub clock: Box<dyn Fn() -> OffsetDateTime>,
}

impl TempAccess<Ledger> {
    /// The function as the process's environment configures it.
    ///
    /// # Errors
    /// If a variable is missing.
    pub fn of_process(environment: &Environment) -> Result<Self, Misconfigured> {
        let table = environment.required(LEDGER_TABLE)?;
        let boundary = environment.required(ACCESS_BOUNDARY_ARN)?;
        let topic = environment.required(NOTICE_TOPIC_ARN)?;
        let shared = sekisho_lambda::aws::load(environment);
        // Only the timeout of one attempt differs from the timeouts of the other functions.
        let timeouts = shared.timeout_config().map_or_else(TimeoutConfig::builder, TimeoutConfig::to_builder);
        let timeouts = timeouts.operation_attempt_timeout(ATTEMPT_TIMEOUT).build();
        let shared = shared.into_builder().timeout_config(timeouts).build();
        // IAM's client is made now, because a grant calls IAM first. The other clients are made later, while the calls
        // to IAM are in flight.
        let iam = later(&shared, aws_sdk_iam::Client::new);
        LazyCell::force(&iam);
        Ok(Self {
            access: access(environment),
            boundary: boundary.to_owned(),
            ledger: Ledger::new(later(&shared, aws_sdk_dynamodb::Client::new), table),
            iam: Iam::new(iam),
            sessions: Sessions::new(later(&shared, |aws| Signed::new(aws, &SSM, None))),
            trail: Trail::new(later(&shared, |aws| Signed::new(aws, &CLOUDTRAIL, None))),
            hubs: Hubs::new(&shared),
            hub: environment.optional(HUB_ACCOUNT_ID).map(str::to_owned),
            identity_center: IdentityCenter::of_process(environment, &shared),
            topic: Topic::new(later(&shared, aws_sdk_sns::Client::new), topic),
            clock: Box::new(sekisho_lambda::now),
        })
    }
}

/// Reads the `[access]` section, and checks that the policy of each profile is small enough for a role.
fn access(environment: &Environment) -> Result<Access, Misconfigured> {
    let access = environment.configuration()?.access()?;
    policy::check(&access).map_err(|(key, reason)| {
        let file = environment.optional(SEKISHO_CONFIG).unwrap_or(CONFIG_FILE).to_owned();
        Misconfigured { file, key, reason }
    })?;
    Ok(access)
}

impl<S: Store> TempAccess<S> {
    /// Handles an invocation.
    ///
    /// # Errors
    /// Returns an [`Error`], whose text says what the error means for access and what to do.
    pub async fn handle(&self, payload: &str, invocation: &Invocation) -> Result<Answer, Error> {
        let entry = Entry::of(payload, invocation, &self.access, self.hub.as_deref(), (self.clock)());
        let Entry { door, sender, invocation, start, task } = entry;
        let run = self.run(&invocation, door, start);
        let request = match &task {
            Ok(Task::CarryOut(request)) => Some(request),
            Ok(Task::HandOn(..)) | Err(_) => None,
        };
        let principal = request.and_then(Request::principal).cloned();
        let is_dry_run = task.as_ref().is_ok_and(Task::is_dry_run);
        let is_sweep = request.is_some_and(Request::is_of_schedule);
        let is_handed_on = matches!(task, Ok(Task::HandOn(..)));
        // At the board, and for a widget, nothing is ever written.
        let is_recorded = !is_dry_run && run.door != Door::Board && !is_widget(payload);
        // The answers to a revoke and to a real grant are cut to the length that Slack shows completely. A list or the
        // dry run of a grant may be longer.
        let is_cut = matches!(request, Some(Request::Revoke(_) | Request::Approve(_) | Request::Decline(_)))
            || matches!(request, Some(Request::Grant(_)) if !is_dry_run);
        let report = match task {
            Ok(Task::CarryOut(request)) => dispatch(&request, &run).await,
            Ok(Task::HandOn(hub, request)) => hand_on::hand_on(&hub, &request, &run).await,
            Err(error) => Err(error),
        };
        let mut report = report.unwrap_or_else(|error| Report::failed(error, principal.as_ref()));
        if !is_sweep {
            for decision in &mut report.decisions {
                decision.concerns.entry("door").or_insert_with(|| sender.clone());
            }
        }
        telemetry::decisions(&invocation.function, &report.decisions);
        let mut warnings = Vec::new();
        if is_recorded {
            let deadline = match (is_sweep, is_handed_on) {
                (true, _) => run.sweep_deadline() + SWEEP_MARGIN / 2,
                // The hub has no row to settle.
                (false, true) => run.deadline(SETTLE_LIMIT),
                (false, false) => run.deadline(RECORD_LIMIT),
            };
            warnings = record(&mut report, &run, deadline).await;
        }
        for warning in warnings {
            warn(&mut report.answer, warning, is_cut);
        }
        if is_cut && let Ok(Answer::Text(text)) = &mut report.answer {
            answer::cut(text);
        }
        report.answer
    }

    fn run<'a>(&'a self, invocation: &'a Invocation, door: Door, start: Instant) -> Run<'a, S> {
        Run {
            access: &self.access,
            boundary: &self.boundary,
            ledger: &self.ledger,
            iam: &self.iam,
            sessions: &self.sessions,
            trail: &self.trail,
            identity_center: self.identity_center.as_ref(),
            topic: &self.topic,
            clock: &*self.clock,
            hubs: &self.hubs,
            invocation,
            door,
            start,
            is_ledger_lost: Cell::new(false),
        }
    }
}

/// Adds a line that people have to read to an answer or an error.
fn warn(answer: &mut Result<Answer, Error>, line: &str, is_cut: bool) {
    match answer {
        Ok(Answer::Text(text)) if is_cut => answer::warn(text, line),
        Ok(Answer::Text(text)) => text.extend(["\n", line]),
        Ok(Answer::Decisions(_)) => {}
        Err(error) => {
            if let Some(besides) = error.besides_mut() {
                besides.extend(["\n", line]);
            }
        }
    }
}

async fn dispatch<S: Store>(request: &Request, run: &Run<'_, S>) -> Result<Report, Error> {
    match request {
        // The futures are boxed. Otherwise one future would contain all of them: it would be nested too deeply for the
        // compiler, and it would be as large as all of them together.
        Request::Grant(grant) => {
            let grant = Grant { principal: person::resolve(&grant.principal, run).await?, ..grant.clone() };
            Box::pin(grant::grant(&grant, run)).await
        }
        Request::Revoke(revoke) => {
            let (principal, has_others) = person::resolve_for_revoke(&revoke.principal, run).await?;
            let revoke = Revoke { principal, ..revoke.clone() };
            let mut report = Box::pin(revoke::revoke(&revoke, run)).await?;
            if has_others {
                let line = "Another user of Identity Center has access under this address: send the request again.";
                warn(&mut report.answer, line, true);
            }
            Ok(report)
        }
        Request::Approve(code) => Ok(Box::pin(approve::approve(code, run)).await),
        Request::Decline(code) => Ok(Box::pin(decline::decline(code, run)).await),
        Request::Pending => Box::pin(pending::pending(run)).await,
        Request::List => Box::pin(list::list(run)).await,
        Request::Help => help::help(run),
        Request::Widget(payload) => Box::pin(widget::show(payload, run)).await,
        Request::Sweep => Box::pin(sweep::sweep(run)).await,
        Request::FollowUp => Box::pin(follow_up::report(run)).await,
    }
}

/// Records the decisions, sends the notices, and then settles the grant's row, which says whether both succeeded.
/// Returns a warning for the caller about each step that failed. None of these failures is an error, because the access
/// itself is already changed.
async fn record<S: Store>(report: &mut Report, run: &Run<'_, S>, deadline: Instant) -> Vec<&'static str> {
    let now = run.now();
    let ledger_deadline =
        if run.is_ledger_lost.get() { deadline.min(Instant::now() + LEDGER_TIMEOUT) } else { deadline };
    let write = async {
        // A follow-up that had nothing to do leaves no trace.
        if report.decisions.is_empty() {
            return Ok(());
        }
        run.ledger.record(&run.invocation.function, run.request_id(), now, &report.decisions).await
    };
    let publish = async {
        let published = join_all(report.notices.iter().map(|notice| run.topic.publish(notice))).await;
        published.into_iter().collect::<Result<(), _>>()
    };
    let (recorded, published) = join!(timeout_at(ledger_deadline, write), timeout_at(deadline, publish));
    let (recorded, published) = (failure(recorded), failure(published));
    if let Some(settlement) = &mut report.settlement
        && !report.notices.is_empty()
    {
        // With the notice, a follow-up also records a decision.
        let owes_notice = published.is_some() || recorded.is_some();
        settlement.row.owes_notice = owes_notice;
        settlement.row.is_wider &= owes_notice;
    }
    // If the invocation dies before this write, the row keeps the intent, and a follow-up sends the notice again.
    let settled = timeout_at(run.deadline(SETTLE_LIMIT), settle(report.settlement.as_ref(), run)).await;
    let mut warnings = Vec::new();
    if let Some(error) = failure(settled) {
        error!(error, "a grant was not settled in the ledger");
        warnings.push("The ledger records the intent, but not that the grant was carried out.");
    }
    if let Some(error) = recorded {
        error!(error, "decisions were not recorded");
        warnings.push("The ledger did not record this request; the function's log did.");
    }
    if let Some(error) = published {
        error!(error, "a notice was not sent");
        warnings.push("The notice about this request could not be sent: tell your colleagues.");
    }
    warnings
}

async fn settle<S: Store>(settlement: Option<&Settlement>, run: &Run<'_, S>) -> Result<(), LedgerError> {
    let Some(Settlement { key, row, revision }) = settlement else { return Ok(()) };
    match run.ledger.write(key, row, Some(*revision), run.request_id()).await {
        // A changed row is no failure: another request has claimed the row after the lease of this request ended.
        Ok(_) | Err(LedgerError::Changed(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The reason why a step with a deadline failed; `None` if the step succeeded.
fn failure<E: std::error::Error + 'static>(step: Result<Result<(), E>, Elapsed>) -> Option<String> {
    match step {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(chain(&error)),
        Err(_) => Some("no answer in time".to_owned()),
    }
}
