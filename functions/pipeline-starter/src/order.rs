//! Orders: the row of a pipeline's newest order. The module `attempt` says how the row changes when a start is
//! attempted, and [`crate::end`] how it changes when the execution ends.

mod attempt;
mod sources;

use std::collections::BTreeSet;
use std::time::Duration;

use sekisho_domain::bake::BakeTime;
use sekisho_domain::change::{Change, RepositoryArn, Revision, SourceRef};
use sekisho_domain::order::{Order, OrderKind};
use sekisho_domain::report::{OrderReport, ReportState, ReportTime};
use sekisho_domain::route::PipelineName;
use sekisho_domain::timestamp::{epoch_millis, from_epoch_millis};
use sekisho_ledger::{Key, Lease};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

pub(crate) use self::sources::Agreement;
use crate::bake::{Bake, Window};
use crate::report::{LastReport, Place, bounded, report};
use crate::sources::RowSources;
use crate::way_back::WayBack;

/// The partition key of all rows of orders.
pub const PARTITION: &str = "order";
/// The length of an invocation's lease on a row. It must be longer than the sum of the function's timeout (45 s), the
/// difference between the clocks of two invocations (40 s), the time after which a call may still take effect (60 s),
/// and the lag of CodePipeline's list: when the lease ends by any clock, the invocation has ended too, and the list
/// shows the execution that it may have started.
pub const LEASE_TERM: Duration = Duration::from_mins(3);
/// The pause before the first look at an execution whose end may have been missed.
pub(crate) const FIRST_CHECK: Duration = Duration::from_mins(2);
/// The longest actor and the longest event id that a row stores, in characters. event-relay copies both from an event,
/// and the follow-up reads all rows every minute.
const LONGEST_DETAIL: usize = 300;
/// The precision of the time in an event of CodePipeline.
const EVENT_PRECISION: Duration = Duration::from_secs(1);
/// The number of executions of earlier orders that a row remembers. A search must not take them for its own.
pub(crate) const REMEMBERED: usize = 10;

/// The key of a pipeline's row.
#[must_use]
pub fn key(pipeline: &PipelineName) -> Key {
    Key { pk: PARTITION.to_owned(), sk: pipeline.to_string() }
}

/// The newest order of a pipeline.
#[expect(clippy::struct_excessive_bools, reason = "the ledger stores each of them, and earlier versions read three")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRow {
    /// The order's number.
    pub number: u64,
    /// What the order's execution is for. An order of kind `deploy` becomes `rollback` when the target goes back by
    /// itself.
    pub kind: OrderKind,
    /// Whether the event had no order, so that the number is the change's sequence.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_implicit: bool,
    /// The change to run. When the target goes back by itself, it is the change to go back to.
    pub change: Change,
    /// The progress of the order.
    pub progress: Progress,
    /// The client request token of every attempt to start the execution. Each new start of the order, such as one after
    /// a cancellation, gets another token.
    pub token: String,
    /// The time before the oldest attempt whose result is unknown, in epoch milliseconds. The search for an execution
    /// begins some time before.
    pub since: u64,
    /// Whether an attempt may have started an execution that the row does not name.
    pub may_run: bool,
    /// The id of the order's execution.
    pub execution: Option<String>,
    /// The number of the execution's run. A retried stage begins another run.
    pub run: u32,
    /// The executions of earlier orders, and earlier executions of this order, from the oldest to the newest.
    pub executions: Vec<String>,
    /// The revision that was last healthy.
    pub good: Option<Revision>,
    /// The number of times that the order has begun again with another token.
    pub restarts: u32,
    /// The number of executions that CodePipeline canceled.
    pub cancellations: u32,
    /// The number of executions that failed in a source action.
    pub source_failures: u32,
    /// When an execution failed in a source action for the first time, in epoch milliseconds.
    pub source_failed: Option<u64>,
    /// The number of attempts in a row that CodePipeline rejected.
    pub failures: u32,
    /// Whether people got the notice that CodePipeline rejects the start.
    pub is_announced: bool,
    /// The number of times that CodePipeline refused to return the status of the execution.
    pub refused_checks: u32,
    /// The lease of whatever may still start an older order. Nothing starts before the lease ends.
    pub fence: Lease,
    /// The latest time that a report about the pipeline has or will have: a claim reserves the time of the next report.
    /// Before the first report, the time is 1970.
    pub at: ReportTime,
    /// The last report about this order.
    pub report: Option<LastReport>,
    /// Why the order waits, if the last report says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported_cause: Option<Cause>,
    /// The bake that the order has, if it is an order of a wave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered_bake: Option<BakeTime>,
    /// Whether the order starts although an alarm rings.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub promoted: bool,
    /// The settings with which the order started. `None` if the order neither bakes nor goes back by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake: Option<Bake>,
    /// The way back, if the target goes back by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way_back: Option<Box<WayBack>>,
    /// Whether the order waits for the target's alarms. Its cause is then [`Cause::Busy`], because versions without
    /// bakes could not read the row with another cause.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub awaits_alarms: bool,
    /// The alarms that rang when the wait for them was reported last; empty if the alarms could not be read.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub rings: BTreeSet<String>,
    /// The branch or tag of the revision that was last healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good_ref: Option<SourceRef>,
    /// The repository of the revision that was last healthy. `None` if an earlier version recorded the revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good_repository: Option<RepositoryArn>,
    /// When the revision that was last healthy was deployed, in epoch milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good_since: Option<u64>,
    /// Whether CodePipeline's list was searched for the revision that ran before the first order.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_past_known: bool,
    /// Whether the bake has failed and the topic has not accepted the notice about that yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub owes_notice: bool,
    /// The last execution that no order started and whose end became known after the end of the order's execution.
    /// Reports mention it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign_execution: Option<String>,
    /// What is known about the sources of a pipeline with several of them.
    #[serde(default, skip_serializing_if = "RowSources::is_empty")]
    pub sources: RowSources,
}

/// The progress of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// An invocation starts the execution, and holds the claim until this lease ends.
    Claimed(Lease),
    /// The order waits for its next attempt.
    Waiting(Wait),
    /// The execution runs.
    Running {
        /// When the follow-up looks at the execution, in epoch milliseconds.
        check: u64,
    },
    /// The order has ended in this state. `refused` means that no route leads to the pipeline any more.
    Ended(ReportState),
}

/// Why an order waits, and how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// The cause.
    pub cause: Cause,
    /// The earliest time of the next attempt, in epoch milliseconds.
    pub next: u64,
}

/// Why an order waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The pipeline is busy, CodePipeline throttles, an older order may still be started, or CodePipeline canceled the
    /// execution.
    Busy,
    /// CodePipeline rejects the start, or refuses the search for an execution that may have started.
    Rejected,
    /// A start got no answer, or CodePipeline's list does not show yet which execution is the order's.
    Unanswered,
    /// The execution failed in a source action.
    Source,
}

impl OrderRow {
    /// The row of an order that takes the place of `earlier`. The order waits for its first attempt.
    #[must_use]
    pub fn new(
        order: Order,
        change: &Change,
        pipeline: &PipelineName,
        earlier: Option<&Self>,
        now: OffsetDateTime,
    ) -> Self {
        let (good, good_ref, good_repository) = earlier.map(|earlier| earlier.good_for(change)).unwrap_or_default();
        Self {
            number: order.number,
            kind: order.kind,
            is_implicit: false,
            change: without_long_details(change),
            progress: Progress::Waiting(Wait { cause: Cause::Busy, next: epoch_millis(now) }),
            token: token(change, pipeline, order.number, 0),
            since: epoch_millis(now),
            may_run: false,
            execution: None,
            run: 1,
            executions: earlier.map(Self::all_executions).unwrap_or_default(),
            good,
            restarts: 0,
            cancellations: 0,
            source_failures: 0,
            source_failed: None,
            failures: 0,
            is_announced: false,
            refused_checks: 0,
            fence: earlier.map(|earlier| earlier.blocker(now)).unwrap_or_default(),
            at: earlier.map_or_else(|| ReportTime::next(OffsetDateTime::UNIX_EPOCH, None), |earlier| earlier.at),
            report: None,
            reported_cause: None,
            ordered_bake: order.bake,
            promoted: order.promoted,
            bake: None,
            way_back: None,
            awaits_alarms: false,
            rings: BTreeSet::new(),
            good_ref,
            good_repository,
            good_since: earlier.and_then(Self::sure_good_since),
            is_past_known: earlier.is_some_and(|earlier| earlier.is_past_known),
            owes_notice: false,
            foreign_execution: None,
            sources: earlier.map(Self::sources_of_next).unwrap_or_default(),
        }
    }

    /// The executions that a search of a later start must not find.
    fn all_executions(&self) -> Vec<String> {
        let all: Vec<String> = self.executions.iter().chain(&self.execution).cloned().collect();
        all.into_iter().rev().take(REMEMBERED).rev().collect()
    }

    /// The lease of whatever may still start an execution of this or an older order, or a free lease: an invocation, or
    /// a call that got no answer and may take effect late.
    pub(crate) fn blocker(&self, now: OffsetDateTime) -> Lease {
        let own = match &self.progress {
            Progress::Claimed(lease) => *lease,
            Progress::Waiting(Wait { cause: Cause::Unanswered, next }) => Lease::until(*next),
            _ => Lease::FREE,
        };
        let held = [own, self.fence].into_iter().filter(|lease| lease.is_held(now, LEASE_TERM));
        held.max().unwrap_or(Lease::FREE)
    }

    pub(crate) fn order(&self) -> Order {
        Order { number: self.number, kind: self.kind, bake: self.ordered_bake, promoted: self.promoted }
    }

    /// The change of the order, also while the target goes back to another one.
    pub(crate) fn ordered(&self) -> &Change {
        self.way_back.as_ref().map_or(&self.change, |way_back| &way_back.change)
    }

    /// Whether the target goes back from this execution.
    pub(crate) fn goes_back_from(&self, execution: &str) -> bool {
        self.way_back.as_ref().is_some_and(|way_back| way_back.execution.as_deref() == Some(execution))
    }

    /// Whether the execution has succeeded and the target bakes.
    #[must_use]
    pub fn is_baking(&self) -> bool {
        matches!(self.progress, Progress::Running { .. }) && self.window().is_some()
    }

    /// The time of the bake. `None` until the execution has succeeded.
    pub(crate) fn window(&self) -> Option<&Window> {
        self.bake.as_ref()?.window.as_ref()
    }

    /// When the healthy revision was deployed, if it surely still runs: the order proved healthy, or surely has never had
    /// an execution.
    pub(crate) fn sure_good_since(&self) -> Option<u64> {
        let is_healthy = self.progress == Progress::Ended(ReportState::Healthy);
        let may_have_begun = self.may_run || self.restarts > 0 || matches!(self.progress, Progress::Claimed(_));
        let is_unchanged = self.execution.is_none() && !may_have_begun;
        self.good_since.filter(|_| is_healthy || is_unchanged)
    }

    /// When the revision that runs in this state was deployed, in epoch milliseconds. `None` if the target is not sure
    /// what runs, or if an earlier version recorded the revision.
    pub(crate) fn runs_since(&self, state: ReportState) -> Option<u64> {
        // An execution that no order started may have deployed anything.
        if self.foreign_execution.is_some() {
            return None;
        }
        match state {
            ReportState::Baking => self.window().map(|window| window.since),
            // An execution that failed or was stopped may have deployed a part of its revision.
            ReportState::Failed | ReportState::Unknown | ReportState::RollingBack => None,
            ReportState::Healthy
            | ReportState::RolledBack
            | ReportState::Running
            | ReportState::Waiting
            | ReportState::Refused => self.good_of(&self.change.repository).and(self.good_since),
        }
    }

    /// Whether an attempt to start the execution may begin now. `has_room` says that an execution of the pipeline has
    /// just ended, so that a busy pipeline may have room.
    pub(crate) fn is_startable(&self, has_room: bool, now: OffsetDateTime) -> bool {
        if self.blocker(now) != Lease::FREE {
            return false;
        }
        match &self.progress {
            Progress::Claimed(_) => true,
            Progress::Waiting(wait) => {
                let is_due = wait.next <= epoch_millis(now);
                is_due || (has_room && matches!(wait.cause, Cause::Busy | Cause::Rejected))
            }
            Progress::Running { .. } | Progress::Ended(_) => false,
        }
    }

    /// The row with a claim of this invocation. The claim reserves the time of the report that follows.
    #[must_use]
    pub fn claimed(&self, now: OffsetDateTime) -> Self {
        let may_run = self.may_run || matches!(self.progress, Progress::Claimed(_));
        Self {
            progress: Progress::Claimed(Lease::new(now, LEASE_TERM)),
            since: if may_run { self.since } else { epoch_millis(now) },
            may_run,
            fence: Lease::FREE,
            at: self.next_at(now),
            ..self.clone()
        }
    }

    /// The time for the next report.
    pub(crate) fn next_at(&self, now: OffsetDateTime) -> ReportTime {
        ReportTime::next(now, Some(self.at))
    }

    /// Whether no report waits to be sent.
    pub(crate) fn is_answered(&self) -> bool {
        self.report.as_ref().is_none_or(|last| last.is_sent)
    }

    /// The row with a report at the time that was reserved.
    fn report_now(&self, state: ReportState, reason: &str, place: &Place<'_>) -> Self {
        self.report_at(self.at, state, reason, place)
    }

    /// The row with a report at this time.
    pub(crate) fn report_at(&self, at: ReportTime, state: ReportState, reason: &str, place: &Place<'_>) -> Self {
        let state = match state {
            // A rollback is to follow, whatever it waits for.
            ReportState::Waiting if self.way_back.is_some() => ReportState::RollingBack,
            state => state,
        };
        let mention = self.foreign_execution.as_deref().map(mention).unwrap_or_default();
        let reason = bounded(reason, &mention);
        let mut report = report(self.order(), self.ordered(), place, state, &reason, at);
        report.execution.clone_from(&self.execution);
        report.foreign_execution.clone_from(&self.foreign_execution);
        report.good = self.good_of(&self.change.repository).cloned();
        report.since = self.runs_since(report.state).and_then(report_time);
        report.until = self.window().and_then(|window| report_time(window.until));
        Self { at, report: Some(LastReport::new(report)), reported_cause: None, ..self.clone() }
    }

    /// The row with its last report again, which mentions an execution that ended at this time and that no order is
    /// known to have started. Returns `None` if the report mentions that execution already, if the order's execution
    /// has not ended, or if that execution ended before the order's began.
    pub(crate) fn mentioning(
        &self,
        execution: &str,
        ended_at: Option<OffsetDateTime>,
        now: OffsetDateTime,
    ) -> Option<Self> {
        let has_ended = match &self.progress {
            Progress::Ended(state) => *state != ReportState::Refused,
            _ => self.is_baking(),
        };
        let is_known = self.executions.iter().chain(&self.foreign_execution).any(|known| known == execution);
        // EventBridge may deliver the event about an old execution of an order that the row does not remember.
        let is_old = ended_at.is_some_and(|at| epoch_millis(at + EVENT_PRECISION) <= self.since);
        let last = self.report.as_ref().filter(|_| has_ended && !is_known && !is_old)?;
        let before = self.foreign_execution.as_deref().map(mention).unwrap_or_default();
        let reason = last.report.reason.strip_suffix(&before).unwrap_or(&last.report.reason);
        let reason = bounded(reason, &mention(execution));
        let at = self.next_at(now);
        let foreign_execution = Some(execution.to_owned());
        let report = OrderReport {
            at,
            reason,
            since: None,
            foreign_execution: foreign_execution.clone(),
            ..last.report.clone()
        };
        let report = Some(LastReport::new(report));
        Some(Self { at, report, foreign_execution, good_since: None, ..self.clone() })
    }

    /// The reason that the last report gives, or an empty text.
    pub(crate) fn reason(&self) -> &str {
        self.report.as_ref().map_or("", |last| last.report.reason.as_str())
    }
}

/// What the reason of a report says about an execution that no order is known to have started: a start may have got no
/// answer. The execution may have been superseded or canceled before it ran anything.
fn mention(execution: &str) -> String {
    format!("; execution {execution}, which no order is known to have started, ended later")
}

/// The change without an actor and an event id that are too long to store. Neither belongs to the change's id.
fn without_long_details(change: &Change) -> Change {
    let short = |text: &Option<String>| text.clone().filter(|text| text.chars().count() <= LONGEST_DETAIL);
    Change { actor: short(&change.actor), event: short(&change.event), ..change.clone() }
}

/// A time in epoch milliseconds, as reports have it.
pub(crate) fn report_time(millis: u64) -> Option<ReportTime> {
    let time = i64::try_from(millis).ok().and_then(from_epoch_millis)?;
    Some(ReportTime::next(time, None))
}

/// The reason of an order that is closed.
pub(crate) const NO_LONGER_ROUTED: &str =
    "no route of this account's configuration leads from the reference to this pipeline any more";

/// The reason if a target should go back, and no route leads to its pipeline any more.
pub(crate) const CANNOT_GO_BACK_WITHOUT_ROUTE: &str = "no route of this account's configuration leads from the \
    repository to this pipeline any more: add one, because without a route the source action is not known";

/// The client request token: the SHA-256 digest of the change's id, the pipeline and the number, in hexadecimal, and
/// the number of the restart. CodePipeline accepts up to 128 characters of `[a-zA-Z0-9-]`.
#[must_use]
pub fn token(change: &Change, pipeline: &PipelineName, number: u64, restart: u32) -> String {
    let digest = hex::encode(Sha256::digest(format!("{}\n{pipeline}\n{number}", change.id())));
    if restart == 0 { digest } else { format!("{digest}-{restart}") }
}

#[cfg(test)]
mod tests;
