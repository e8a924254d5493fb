//! CodePipeline in one account and region: its pipelines, and the ways in which an execution ends.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use pipeline_starter::world::{
    ActionCategory, BegunAction, ExecutionPage, ExecutionStatus, ListedExecution, ListedRevision, PipelineStart,
    StartAnswer,
};
use sekisho_domain::change::Revision;
use time::{Duration, OffsetDateTime};

use crate::cloud::Chance;

/// The times for which a CodePipeline recognizes a client request token. AWS does not document the time.
const TOKEN_KNOWN: [Duration; 2] = [Duration::seconds(20), Duration::minutes(3)];

/// The delays after which a CodePipeline lists an execution.
const LAG: [Duration; 2] = [Duration::seconds(5), Duration::seconds(30)];

/// A start without an answer takes effect before this many seconds have passed.
const LATEST_EFFECT: usize = 60;

/// The most seconds until the source action of an execution has run. Until then, the execution shows no revision. One
/// source action in five is slow.
const SOURCE_SECONDS: [usize; 5] = [30, 30, 60, 60, 400];

/// The number of executions on a page of the list.
const PAGE: usize = 3;

/// The names of the source actions.
pub(crate) const SOURCE: &str = "Source";
pub(crate) const IMAGE: &str = "Image";

/// The revision of each source action of an execution.
pub(crate) type Pins = BTreeMap<String, Revision>;

/// The pipelines of an account and region.
#[derive(Debug)]
pub(crate) struct CodePipeline {
    /// The executions of each pipeline, in the order of their starts.
    executions: RefCell<BTreeMap<String, Vec<Execution>>>,
    /// Pipelines that do not exist at the moment.
    missing: RefCell<Vec<String>>,
    /// The percentage of starts that CodePipeline defers.
    pub(crate) busy: Cell<u32>,
    /// The most executions of one pipeline that may run at the same time.
    pub(crate) room: Cell<usize>,
    /// The difference of CodePipeline's clock from the true time.
    skew: Duration,
    token_known: Duration,
    lag: Duration,
    /// The number of starts whose answer was lost.
    pub(crate) lost_answers: Cell<usize>,
    /// Starts whose callers did not wait for the answer, and the times at which the starts take effect.
    late: RefCell<Vec<(OffsetDateTime, PipelineStart)>>,
    /// The number of such starts.
    pub(crate) late_count: Cell<usize>,
    /// When each client request token was sent first with a start that may have taken effect.
    first_sent: RefCell<BTreeMap<String, OffsetDateTime>>,
    /// The images that were deleted. A source action cannot fetch them.
    lost_images: RefCell<BTreeSet<Revision>>,
}

/// An execution of a pipeline. The times are true times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Execution {
    pub(crate) id: String,
    pub(crate) pins: Pins,
    /// The client request token. `None` if a person or a rule of the account started the execution.
    pub(crate) token: Option<String>,
    pub(crate) status: ExecutionStatus,
    pub(crate) started: OffsetDateTime,
    pub(crate) ended: Option<OffsetDateTime>,
    /// When the source action has run, or `None` if it failed or was stopped before.
    source_ran: Option<OffsetDateTime>,
    /// Whether the deploy action has begun.
    pub(crate) has_deployed: bool,
    /// Whether the execution waits for an approval.
    pub(crate) awaits_approval: bool,
    /// How often a stage was retried.
    pub(crate) retries: usize,
}

impl Execution {
    pub(crate) fn is_running(&self) -> bool {
        self.status == ExecutionStatus::Running
    }

    /// Whether the same order may start once more after this execution: CodePipeline canceled the execution, or the
    /// execution ended before its source action had run.
    pub(crate) fn may_be_repeated(&self) -> bool {
        !self.is_running() && (self.status == ExecutionStatus::Canceled || self.source_ran.is_none())
    }

    /// Whether a source action runs at this revision.
    pub(crate) fn runs(&self, revision: &Revision) -> bool {
        self.pins.values().any(|pin| pin == revision)
    }

    /// Whether a source action cannot fetch its revision. The execution can only fail.
    pub(crate) fn lacks_source(&self) -> bool {
        self.is_running() && self.source_ran.is_none()
    }

    /// Whether the execution failed in its source action.
    pub(crate) fn failed_in_source(&self) -> bool {
        self.status == ExecutionStatus::Failed && self.source_ran.is_none()
    }
}

impl CodePipeline {
    pub(crate) fn new(chance: &Chance) -> Self {
        Self {
            executions: RefCell::default(),
            missing: RefCell::default(),
            busy: Cell::new(10),
            room: Cell::new(3),
            skew: chance.skew(),
            token_known: TOKEN_KNOWN[chance.below(TOKEN_KNOWN.len())],
            lag: LAG[chance.below(LAG.len())],
            lost_answers: Cell::new(0),
            late: RefCell::default(),
            late_count: Cell::new(0),
            first_sent: RefCell::default(),
            lost_images: RefCell::default(),
        }
    }

    /// A time by CodePipeline's clock.
    pub(crate) fn seen(&self, time: OffsetDateTime) -> OffsetDateTime {
        time + self.skew
    }

    /// Ends everything that keeps a start from succeeding.
    pub(crate) fn repair(&self) {
        self.missing.borrow_mut().clear();
        self.room.set(usize::MAX);
    }

    /// Deletes a pipeline, or creates it again. Its executions stay.
    pub(crate) fn toggle(&self, pipeline: &str) {
        let mut missing = self.missing.borrow_mut();
        match missing.iter().position(|name| name == pipeline) {
            Some(index) => drop(missing.swap_remove(index)),
            None => missing.push(pipeline.to_owned()),
        }
    }

    /// Deletes an image. The executions that have not fetched it yet cannot fetch it any more.
    pub(crate) fn lose(&self, image: &Revision, now: OffsetDateTime) {
        self.lost_images.borrow_mut().insert(image.clone());
        for execution in self.executions.borrow_mut().values_mut().flatten() {
            if execution.is_running() && execution.runs(image) {
                execution.source_ran = execution.source_ran.filter(|ran| *ran <= now);
            }
        }
    }

    /// Notes that a start was sent which may have taken effect.
    fn note_sent(&self, start: &PipelineStart, now: OffsetDateTime) {
        self.first_sent.borrow_mut().entry(start.token.clone()).or_insert(now);
    }

    /// When a start of this execution was sent first.
    pub(crate) fn first_sent(&self, execution: &Execution) -> OffsetDateTime {
        let sent = execution.token.as_ref().and_then(|token| self.first_sent.borrow().get(token).copied());
        sent.unwrap_or(execution.started)
    }

    /// Accepts a start that takes effect only after its caller has seen a timeout.
    pub(crate) fn start_late(&self, start: &PipelineStart, now: OffsetDateTime, chance: &Chance) {
        let seconds = i64::try_from(chance.below(LATEST_EFFECT)).unwrap_or_default();
        self.note_sent(start, now);
        self.late.borrow_mut().push((now + Duration::seconds(seconds), start.clone()));
        self.late_count.set(self.late_count.get() + 1);
    }

    /// Lets the late starts take effect whose times have come.
    pub(crate) fn run_late_starts(&self, now: OffsetDateTime, chance: &Chance) {
        let mut due: Vec<_> = self.late.borrow_mut().extract_if(.., |(at, _)| *at <= now).collect();
        due.sort_by_key(|(at, _)| *at);
        for (at, start) in due {
            // Nobody waits for the answer.
            let _ = self.take_effect(&start, at, chance);
        }
    }

    /// The answer to StartPipelineExecution, and its effect. The answer may still be lost.
    pub(crate) fn start(&self, start: &PipelineStart, now: OffsetDateTime, chance: &Chance) -> StartAnswer {
        if chance.fails(self.busy.get()) {
            return StartAnswer::Deferred("ThrottlingException".to_owned());
        }
        if chance.fails(2) {
            self.note_sent(start, now);
            return StartAnswer::Unanswered("connection refused".to_owned());
        }
        let answer = self.take_effect(start, now, chance);
        if matches!(answer, StartAnswer::Started(_)) {
            self.note_sent(start, now);
        }
        answer
    }

    fn take_effect(&self, start: &PipelineStart, now: OffsetDateTime, chance: &Chance) -> StartAnswer {
        if self.missing.borrow().iter().any(|name| name == start.pipeline.as_str()) {
            return StartAnswer::Rejected("PipelineNotFoundException".to_owned());
        }
        let mut pipelines = self.executions.borrow_mut();
        let executions = pipelines.entry(start.pipeline.to_string()).or_default();
        let is_repeated =
            |known: &&Execution| known.token.as_ref() == Some(&start.token) && known.started + self.token_known > now;
        if let Some(known) = executions.iter().find(is_repeated) {
            return StartAnswer::Started(known.id.clone());
        }
        if executions.iter().filter(|execution| execution.is_running()).count() >= self.room.get() {
            return StartAnswer::Deferred("ConcurrentPipelineExecutionsLimitExceededException".to_owned());
        }
        let token = Some(start.token.clone());
        let pins: Pins = start.pins.iter().map(|(action, pin)| (action.to_string(), pin.clone())).collect();
        let execution = self.new_execution((start.pipeline.as_str(), executions.len()), pins, token, now, chance);
        let id = execution.id.clone();
        executions.push(execution);
        StartAnswer::Started(id)
    }

    /// Starts an execution that no order asked for: a person pressed the button, or a rule of the account matched.
    pub(crate) fn start_by_other(&self, pipeline: &str, pins: Pins, now: OffsetDateTime, chance: &Chance) {
        let mut pipelines = self.executions.borrow_mut();
        let executions = pipelines.entry(pipeline.to_owned()).or_default();
        let execution = self.new_execution((pipeline, executions.len()), pins, None, now, chance);
        executions.push(execution);
    }

    fn new_execution(
        &self,
        (pipeline, number): (&str, usize),
        pins: Pins,
        token: Option<String>,
        now: OffsetDateTime,
        chance: &Chance,
    ) -> Execution {
        let most = SOURCE_SECONDS[chance.below(SOURCE_SECONDS.len())];
        let seconds = i64::try_from(chance.below(most)).unwrap_or_default();
        let lost = self.lost_images.borrow();
        let is_fetchable = pins.values().all(|pin| !lost.contains(pin));
        Execution {
            id: format!("{pipeline}-{number}"),
            pins,
            token,
            status: ExecutionStatus::Running,
            started: now,
            ended: None,
            source_ran: Some(now + Duration::seconds(seconds)).filter(|_| is_fetchable),
            has_deployed: false,
            awaits_approval: false,
            retries: 0,
        }
    }

    /// Adds an execution that ended before the history began.
    pub(crate) fn add_ended(
        &self,
        pipeline: &str,
        pins: Pins,
        token: Option<String>,
        started: OffsetDateTime,
    ) -> String {
        let mut pipelines = self.executions.borrow_mut();
        let executions = pipelines.entry(pipeline.to_owned()).or_default();
        let id = format!("{pipeline}-{}", executions.len());
        executions.push(Execution {
            id: id.clone(),
            pins,
            token,
            status: ExecutionStatus::Succeeded,
            started,
            ended: Some(started + Duration::minutes(5)),
            source_ran: Some(started),
            has_deployed: true,
            awaits_approval: false,
            retries: 0,
        });
        id
    }

    /// Reads a page of the list of executions. The token of a page is the number of older executions.
    pub(crate) fn list(
        &self,
        pipeline: &str,
        page: Option<String>,
        now: OffsetDateTime,
        chance: &Chance,
    ) -> ExecutionPage {
        let pipelines = self.executions.borrow();
        let executions = pipelines.get(pipeline).map(Vec::as_slice).unwrap_or_default();
        let lag = if chance.faults.get() { self.lag } else { Duration::ZERO };
        let listed = executions.iter().filter(|execution| execution.started + lag <= now).count();
        let end = page.and_then(|page| page.parse().ok()).unwrap_or(listed).min(listed);
        let begin = end.saturating_sub(PAGE);
        let page = executions[begin..end].iter().rev().map(|execution| self.listed(execution, now));
        ExecutionPage { executions: page.collect(), next: (begin > 0).then(|| begin.to_string()) }
    }

    fn listed(&self, execution: &Execution, now: OffsetDateTime) -> ListedExecution {
        let has_source = execution.source_ran.is_some_and(|ran| ran <= now);
        ListedExecution {
            id: execution.id.clone(),
            status: execution.status,
            started: Some(execution.started + self.skew),
            updated: execution.ended.map(|ended| ended + self.skew),
            revisions: if has_source { revisions(execution) } else { Vec::new() },
            is_by_call: execution.token.is_some(),
        }
    }

    pub(crate) fn execution(&self, pipeline: &str, id: &str) -> Option<Execution> {
        let pipelines = self.executions.borrow();
        pipelines.get(pipeline)?.iter().find(|execution| execution.id == id).cloned()
    }

    /// The executions of a pipeline, in the order of their starts.
    pub(crate) fn executions(&self, pipeline: &str) -> Vec<Execution> {
        self.executions.borrow().get(pipeline).cloned().unwrap_or_default()
    }

    /// The number of executions that orders started.
    pub(crate) fn ordered_count(&self) -> usize {
        self.executions.borrow().values().flatten().filter(|execution| execution.token.is_some()).count()
    }

    /// The names of the pipelines and the ids of their executions that have this status.
    pub(crate) fn with_status(&self, status: ExecutionStatus) -> Vec<(String, String)> {
        let pipelines = self.executions.borrow();
        let all = pipelines.iter().flat_map(|(name, list)| list.iter().map(move |execution| (name, execution)));
        let found = all.filter(|(_, execution)| execution.status == status);
        found.map(|(name, execution)| (name.clone(), execution.id.clone())).collect()
    }

    /// Lets an execution begin its deploy action, or wait for an approval. Returns whether its state allows that.
    pub(crate) fn advance(&self, pipeline: &str, id: &str, is_approval: bool, now: OffsetDateTime) -> bool {
        let mut pipelines = self.executions.borrow_mut();
        let mut executions = pipelines.get_mut(pipeline).into_iter().flatten();
        let Some(execution) = executions.find(|execution| execution.id == id) else { return false };
        if !execution.is_running() || execution.has_deployed || execution.source_ran.is_none_or(|ran| ran > now) {
            return false;
        }
        (execution.awaits_approval, execution.has_deployed) = (is_approval, !is_approval);
        true
    }

    /// The actions that an execution has begun.
    pub(crate) fn begun_actions(&self, pipeline: &str, id: &str, now: OffsetDateTime) -> Vec<BegunAction> {
        let Some(execution) = self.execution(pipeline, id) else { return Vec::new() };
        let is_running = execution.is_running();
        let is_in_source = is_running && execution.source_ran.is_none_or(|ran| ran > now);
        let mut actions = vec![BegunAction { category: ActionCategory::Source, is_in_progress: is_in_source }];
        if execution.awaits_approval {
            actions.push(BegunAction { category: ActionCategory::Approval, is_in_progress: is_running });
        }
        if execution.has_deployed {
            actions.push(BegunAction { category: ActionCategory::Deploy, is_in_progress: is_running });
        }
        actions
    }

    /// Ends an execution, or continues it if the new status is `Running`. A person has then retried the failed stage.
    pub(crate) fn set_status(&self, pipeline: &str, id: &str, status: ExecutionStatus, now: OffsetDateTime) {
        let mut pipelines = self.executions.borrow_mut();
        let executions = pipelines.get_mut(pipeline).into_iter().flatten();
        for execution in executions.filter(|execution| execution.id == id) {
            execution.status = status;
            if status == ExecutionStatus::Running {
                execution.ended = None;
                execution.retries += 1;
                // The retried stage fetches the source, if the source action was what failed.
                execution.source_ran = execution.source_ran.or(Some(now));
            } else {
                execution.ended = Some(now);
                if status == ExecutionStatus::Succeeded {
                    execution.source_ran = execution.source_ran.map(|ran| ran.min(now));
                }
                execution.source_ran = execution.source_ran.filter(|ran| *ran <= now);
            }
        }
    }
}

fn revisions(execution: &Execution) -> Vec<ListedRevision> {
    let listed =
        |(action, pin): (&String, &Revision)| ListedRevision { action: action.clone(), revision: pin.to_string() };
    execution.pins.iter().map(listed).collect()
}

/// The pins of a pipeline whose only source is a repository of commits.
pub(crate) fn at_commit(commit: &Revision) -> Pins {
    Pins::from([(SOURCE.to_owned(), commit.clone())])
}

/// The name of a status in CodePipeline's events.
pub(crate) fn event_state(status: ExecutionStatus) -> &'static str {
    match status {
        ExecutionStatus::Running => "RESUMED",
        ExecutionStatus::Succeeded => "SUCCEEDED",
        ExecutionStatus::Failed => "FAILED",
        ExecutionStatus::Stopped => "STOPPED",
        ExecutionStatus::Superseded => "SUPERSEDED",
        ExecutionStatus::Canceled => "CANCELED",
    }
}
