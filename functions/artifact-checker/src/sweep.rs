//! A whole bucket: every object checked, many at once, in an order that lets another invocation go on.
//!
//! Objects are checked in pages, as S3 lists them. A page counts when all of it is done, and the position in the ledger
//! is the end of the last page that counts: whoever goes on there repeats what was in flight, and nothing is left out.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::OptionFuture;
use futures_util::stream::FuturesUnordered;
use sekisho_domain::decision::Decision;
use sekisho_domain::timestamp::{epoch_millis, seconds};
use sekisho_lambda::failure::chain;
use sekisho_lambda::log::{self, Level};
use sekisho_ledger::{Key, Store};
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::answer::{Refusal, Unanswered};
use crate::check::{self, Asked, Check, Checked};
use crate::event::Order;
use crate::key::KeyArn;
use crate::limit::Limit;
use crate::object::{Listed, Page, Position, Target};
use crate::pipelines::Origins;
use crate::repair::Requests;
use crate::verdict::{Outcome, unseen};

/// Findings that a report names; the log has all.
pub const NAMED: usize = 100;
/// How often the position is written down, so that little is repeated after a crash.
const CHECKPOINT: Duration = Duration::from_secs(5);
/// How long a sweep is its invocation's after the last checkpoint.
const LEASE: Duration = Duration::from_mins(1);
/// How long a finished or forgotten sweep is kept.
const KEPT: Duration = Duration::from_hours(24 * 30);
/// Pages that are not done yet: what keeps memory flat while one object takes long.
const PAGES: usize = 8;
/// How often an object is tried that S3 does not answer about, with pauses that double.
const TRIES: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Between looks at an object that another invocation repairs.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Time that is kept to finish pages, and then to write down what was found.
const NO_NEW_PAGE: Duration = Duration::from_secs(45);
const STOP: Duration = Duration::from_secs(15);

/// What a sweep has found so far. Kept in the ledger between invocations.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Objects, or versions, that were checked.
    pub objects: u64,
    /// Of which a byte was read.
    pub proven: u64,
    /// By outcome.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Requests of the listing, the looks and the proofs.
    pub checks: Requests,
    /// Requests that the repairs would be, in a dry run.
    pub repairs: Requests,
    /// Findings beyond those that are named.
    pub more_findings: u64,
    /// The first findings.
    findings: Vec<Kept>,
}

/// A decision as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    outcome: Outcome,
    reason: String,
    concerns: BTreeMap<String, String>,
}

/// What a finding can concern.
const CONCERNS: [&str; 10] = [
    "bucket",
    "object",
    "version",
    "encryption",
    "right_key",
    "writer",
    "pipeline",
    "execution",
    "action",
    "likely_cause",
];

impl Totals {
    fn add(&mut self, done: Done) {
        self.objects += 1;
        self.proven += u64::from(done.proven);
        *self.outcomes.entry(done.decision.outcome).or_default() += 1;
        if let Some(would) = done.would {
            self.repairs += would;
        }
        if done.decision.outcome.is_finding() {
            self.name(done.decision);
        }
    }

    fn name(&mut self, finding: Decision<Outcome>) {
        if self.findings.len() < NAMED {
            let concerns = finding.concerns.into_iter().map(|(what, value)| (what.to_owned(), value)).collect();
            self.findings.push(Kept { outcome: finding.outcome, reason: finding.reason, concerns });
        } else {
            self.more_findings += 1;
        }
    }

    fn fold(&mut self, page: Self) {
        self.objects += page.objects;
        self.proven += page.proven;
        for (outcome, count) in page.outcomes {
            *self.outcomes.entry(outcome).or_default() += count;
        }
        self.checks += page.checks;
        self.repairs += page.repairs;
        self.more_findings += page.more_findings;
        let room = NAMED - self.findings.len();
        self.more_findings += u64::try_from(page.findings.len().saturating_sub(room)).unwrap_or(u64::MAX);
        self.findings.extend(page.findings.into_iter().take(room));
    }

    /// The first findings.
    #[must_use]
    pub fn findings(&self) -> Vec<Decision<Outcome>> {
        let decision = |kept: &Kept| {
            CONCERNS.iter().fold(Decision::new(kept.outcome, kept.reason.clone()), |decision, what| {
                decision.about_some(what, kept.concerns.get(*what).cloned())
            })
        };
        self.findings.iter().map(decision).collect()
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    sweep: String,
    versions: bool,
    dry_run: bool,
    started: String,
    position: Option<Position>,
    complete: bool,
    totals: Totals,
    holder: String,
    /// Nobody else goes on before.
    until: u64,
    expires: u64,
}

/// What a sweep tells.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The sweep's id: the request that began it.
    pub sweep: String,
    /// The bucket.
    pub bucket: String,
    /// Whether all versions are looked at.
    pub versions: bool,
    /// Whether nothing is changed.
    pub dry_run: bool,
    /// When it began.
    pub started: String,
    /// Whether it is done; if not, another invocation goes on.
    pub complete: bool,
    /// Objects, or versions, that were checked.
    pub objects: u64,
    /// Of which a byte was read.
    pub proven: u64,
    /// Counts by outcome.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Findings beyond those in `decisions`.
    pub more_findings: u64,
    /// What the sweep with its repairs would ask of S3, in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimate: Option<Estimate>,
}

impl Report {
    /// The sweep's own decision; `findings` says whether there are any, about objects or the bucket.
    #[must_use]
    pub fn sum(&self, findings: bool) -> Decision<Outcome> {
        let outcome = if findings { Outcome::Reported } else { Outcome::Compliant };
        let state = match (self.complete, self.dry_run) {
            (true, false) => "swept",
            (true, true) => "looked through, nothing changed",
            (false, _) => "swept in part, another invocation goes on",
        };
        Decision::new(outcome, format!("{state}: {}", summary(self.objects, &self.outcomes)))
            .about("bucket", &self.bucket)
            .about("sweep", &self.sweep)
    }
}

/// `10 objects: 8 compliant, 2 repaired`.
fn summary(objects: u64, outcomes: &BTreeMap<Outcome, u64>) -> String {
    let counts: Vec<String> = outcomes.iter().map(|(outcome, count)| format!("{count} {}", outcome.name())).collect();
    match objects {
        0 => "no objects".to_owned(),
        1 => format!("1 object: {}", counts.join(", ")),
        many => format!("{many} objects: {}", counts.join(", ")),
    }
}

/// What a sweep with repairs would ask of S3.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Estimate {
    /// PUT, COPY, LIST and their like.
    pub writes_and_lists: u64,
    /// GET and HEAD.
    pub reads: u64,
    /// In US dollars, without KMS.
    pub usd: f64,
}

/// What became of a sweep in this invocation.
#[derive(Debug)]
pub enum Swept {
    /// All or part of it was done.
    Report(Box<Report>, Vec<Decision<Outcome>>),
    /// There was nothing to do, for this reason.
    Ignored(String),
}

/// Why a sweep could not go on. Its position is in the ledger.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ledger.
    #[error("{0}")]
    Ledger(#[from] sekisho_ledger::Error),
    /// S3 did not list the bucket.
    #[error("{0}")]
    Unanswered(#[from] Unanswered),
    /// Not one page was done.
    #[error("no page of bucket {0} could be finished in the time of an invocation")]
    NoProgress(String),
}

/// A sweep that this invocation holds.
struct Held {
    key: Key,
    state: State,
    revision: Option<u64>,
}

impl Held {
    async fn save(&mut self, ledger: &impl Store, now: OffsetDateTime, lease: Duration) -> Result<(), Error> {
        self.state.until = epoch_millis(now + lease);
        self.state.expires = epoch_millis(now + KEPT) / 1000;
        self.revision = Some(ledger.write(&self.key, &self.state, self.revision, &self.state.holder).await?);
        Ok(())
    }
}

/// A page that is being done.
struct Open {
    left: usize,
    totals: Totals,
    end: Option<Position>,
}

struct Done {
    page: u64,
    decision: Decision<Outcome>,
    would: Option<Requests>,
    proven: bool,
}

/// A sweep's means.
#[derive(Debug)]
pub struct Sweep<'a, L> {
    /// Checks each object. Its S3 tries once: the sweep slows down and tries again by itself.
    pub check: Check<'a, L>,
    /// Where foreign objects come from.
    pub origins: &'a Origins<'a>,
    /// The right key.
    pub right: &'a KeyArn,
    /// What is asked for.
    pub order: &'a Order,
    /// This invocation.
    pub request_id: &'a str,
    /// When Lambda ends it.
    pub deadline: OffsetDateTime,
}

impl<L: Store> Sweep<'_, L> {
    /// Begins, or goes on where the last invocation stopped; until all is done or time is short.
    ///
    /// # Errors
    /// Where it can't go on.
    pub async fn run(mut self) -> Result<Swept, Error> {
        let mut held = match self.take().await? {
            Ok(held) => held,
            Err(why) => return Ok(Swept::Ignored(why)),
        };
        // The claims of an invocation that died are the sweep's, whoever goes on with it.
        self.check.holder.clone_from(&held.state.sweep);
        let began_at = held.state.position.clone();
        match self.pages(&mut held).await {
            Ok(()) => {}
            Err(Error::Ledger(sekisho_ledger::Error::Changed(_))) => {
                return Ok(Swept::Ignored("another invocation has taken the sweep over".to_owned()));
            }
            Err(error) => {
                // Whoever tries again need not wait for the lease to run out.
                let _ = held.save(self.check.ledger, self.now(), Duration::ZERO).await;
                return Err(error);
            }
        }
        if !held.state.complete && held.state.position == began_at {
            return Err(Error::NoProgress(self.order.bucket.clone()));
        }
        let totals = &held.state.totals;
        let estimate = self.order.dry_run.then(|| {
            let mut all = totals.checks;
            all += totals.repairs;
            Estimate { writes_and_lists: all.writes_and_lists, reads: all.reads, usd: all.usd() }
        });
        let report = Report {
            sweep: held.state.sweep.clone(),
            bucket: self.order.bucket.clone(),
            versions: held.state.versions,
            dry_run: held.state.dry_run,
            started: held.state.started.clone(),
            complete: held.state.complete,
            objects: totals.objects,
            proven: totals.proven,
            outcomes: totals.outcomes.clone(),
            more_findings: totals.more_findings,
            estimate,
        };
        Ok(Swept::Report(Box::new(report), totals.findings()))
    }

    fn now(&self) -> OffsetDateTime {
        (self.check.now)()
    }

    fn left(&self) -> Duration {
        Duration::try_from(self.deadline - self.now()).unwrap_or(Duration::ZERO)
    }

    /// Takes the bucket's sweep; or says why not.
    async fn take(&self) -> Result<Result<Held, String>, Error> {
        let key = Key::state(format!("sweep#{}", self.order.bucket));
        let row = self.check.ledger.read::<State>(&key).await?;
        let revision = row.as_ref().map(|row| row.revision);
        let unfinished = row.map(|row| row.state).filter(|state| !state.complete);
        let now = self.now();
        if let Some(state) = &unfinished
            && state.until > epoch_millis(now)
            && state.holder != self.request_id
        {
            return Ok(Err(format!(
                "a sweep of the bucket is under way since {}: {}",
                state.started,
                summary(state.totals.objects, &state.totals.outcomes)
            )));
        }
        let same = |state: &State| match &self.order.sweep {
            Some(sweep) => state.sweep == *sweep,
            None => (state.versions, state.dry_run) == (self.order.versions, self.order.dry_run),
        };
        let state = match unfinished.filter(same) {
            Some(state) => State { holder: self.request_id.to_owned(), ..state },
            None if self.order.sweep.is_some() => {
                return Ok(Err("the sweep to go on with is done or replaced".to_owned()));
            }
            None => State {
                sweep: self.request_id.to_owned(),
                versions: self.order.versions,
                dry_run: self.order.dry_run,
                started: seconds(now),
                position: None,
                complete: false,
                totals: Totals::default(),
                holder: self.request_id.to_owned(),
                until: 0,
                expires: 0,
            },
        };
        let mut held = Held { key, state, revision };
        match held.save(self.check.ledger, now, LEASE).await {
            Ok(()) => Ok(Ok(held)),
            Err(Error::Ledger(sekisho_ledger::Error::Changed(_))) => {
                Ok(Err("another invocation has begun a sweep of the bucket".to_owned()))
            }
            Err(error) => Err(error),
        }
    }

    async fn pages(&self, held: &mut Held) -> Result<(), Error> {
        let limit = RefCell::new(Limit::default());
        // After a proof has failed, every object is read.
        let doubtful = Cell::new(false);
        let mut queue: VecDeque<(u64, bool, Listed)> = VecDeque::new();
        let mut open: VecDeque<Open> = VecDeque::new();
        // The number of the first open page.
        let mut first = 0_u64;
        let mut in_flight = FuturesUnordered::new();
        let mut next = Some(held.state.position.clone());
        let mut listing = OptionFuture::from(None);
        let mut listing_now = false;
        let mut saved = Instant::now();
        let mut tick = tokio::time::interval(CHECKPOINT);
        loop {
            while in_flight.len() < limit.borrow().allowed()
                && let Some((page, sample, listed)) = queue.pop_front()
            {
                in_flight.push(self.one(page, sample, listed, &limit, &doubtful));
            }
            let left = self.left();
            if left < STOP {
                break;
            }
            if !listing_now
                && queue.len() < 1000
                && open.len() < PAGES
                && left > NO_NEW_PAGE
                && let Some(after) = next.take()
            {
                listing = Some(Box::pin(self.page(after))).into();
                listing_now = true;
            }
            if in_flight.is_empty() && queue.is_empty() && !listing_now {
                break;
            }
            tokio::select! {
                Some(done) = in_flight.next() => {
                    let done: Done = done;
                    let place = usize::try_from(done.page - first).unwrap_or(usize::MAX);
                    if let Some(page) = open.get_mut(place) {
                        page.left -= 1;
                        page.totals.checks.reads += 1 + u64::from(done.proven);
                        page.totals.add(done);
                    }
                }
                Some(page) = &mut listing, if listing_now => {
                    listing = None.into();
                    listing_now = false;
                    let page: Page = match page? {
                        Ok(page) => page,
                        Err(finding) => {
                            held.state.totals.name(finding);
                            Page { objects: Vec::new(), end: None }
                        }
                    };
                    let number = first + u64::try_from(open.len()).unwrap_or(u64::MAX);
                    let mut totals = Totals::default();
                    totals.checks.writes_and_lists = 1;
                    next = page.end.clone().map(Some);
                    open.push_back(Open { left: page.objects.len(), totals, end: page.end });
                    queue.extend(page.objects.into_iter().enumerate().map(|(n, listed)| (number, n == 0, listed)));
                }
                _ = tick.tick() => {}
            }
            while let Some(page) = open.pop_front_if(|page| page.left == 0) {
                first += 1;
                held.state.complete = page.end.is_none();
                held.state.position = page.end;
                held.state.totals.fold(page.totals);
            }
            if saved.elapsed() >= CHECKPOINT && !held.state.complete {
                held.save(self.check.ledger, self.now(), LEASE).await?;
                saved = Instant::now();
            }
        }
        held.save(self.check.ledger, self.now(), Duration::ZERO).await
    }

    /// A page of the listing; or the finding that the bucket can't be listed.
    async fn page(&self, after: Option<Position>) -> Result<Result<Page, Decision<Outcome>>, Error> {
        let mut pause = FIRST_PAUSE;
        for tried in 1.. {
            match self.check.s3.list(&self.order.bucket, self.order.versions, after.as_ref()).await {
                Ok(page) => return Ok(Ok(page)),
                Err(Refusal::Said(said)) => {
                    let (outcome, _) = unseen(&said);
                    let finding = Decision::new(outcome, format!("the bucket can't be listed: {said}"));
                    return Ok(Err(finding.about("bucket", &self.order.bucket)));
                }
                Err(Refusal::Later(unanswered)) if tried == TRIES => return Err(unanswered.into()),
                Err(Refusal::Later(_)) => tokio::time::sleep(pause).await,
            }
            pause *= 2;
        }
        Ok(Err(Decision::new(Outcome::Unknown, "the bucket was not listed")))
    }

    /// Checks an object, again and later where S3 does not answer. The pauses keep its place among those in flight, so
    /// that fewer others are.
    async fn one(
        &self,
        page: u64,
        sample: bool,
        listed: Listed,
        limit: &RefCell<Limit>,
        doubtful: &Cell<bool>,
    ) -> Done {
        let target = Target { bucket: self.order.bucket.clone(), key: listed.key, version: listed.version };
        let asked = Asked { target, latest: listed.latest, prove: sample || doubtful.get() };
        let mut pause = FIRST_PAUSE;
        let mut tried = 1;
        let Checked { decision, would, read } = loop {
            match self.check.check(&asked, self.right).await {
                Ok(checked) => {
                    limit.borrow_mut().answered();
                    break checked;
                }
                Err(error) => {
                    if matches!(&error, check::Error::Unanswered(unanswered) if unanswered.throttled) {
                        limit.borrow_mut().slow_down(Instant::now());
                    }
                    // Whoever holds it decides about it: there is nothing to find here where that takes too long.
                    if matches!(error, check::Error::Held) {
                        if self.left() > NO_NEW_PAGE {
                            tokio::time::sleep(pause).await;
                            pause = (pause * 2).min(LONGEST_PAUSE);
                            continue;
                        }
                        let decision = Decision::new(Outcome::Ignored, chain(&error))
                            .about("bucket", &asked.target.bucket)
                            .about("object", &asked.target.key)
                            .about_some("version", asked.target.version.as_deref());
                        break Checked { decision, would: None, read: false };
                    }
                    if tried == TRIES {
                        let reason = format!("it could not be checked, {TRIES} times: {}", chain(&error));
                        let decision = Decision::new(Outcome::Unknown, reason)
                            .about("bucket", &asked.target.bucket)
                            .about("object", &asked.target.key)
                            .about_some("version", asked.target.version.as_deref());
                        break Checked { decision, would: None, read: false };
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
            tried += 1;
        };
        if asked.prove && matches!(decision.outcome, Outcome::Unverifiable | Outcome::KeyUnusable) {
            doubtful.set(true);
        }
        let decision = if decision.outcome == Outcome::ForeignKey {
            self.origins.explain(decision, self.right).await
        } else {
            decision
        };
        if decision.outcome.is_finding() || decision.outcome == Outcome::Repaired {
            if self.order.dry_run {
                // Not as a decision, of which the alarm for findings counts the lines.
                let fields = json!({"requestId": self.request_id, "would": decision});
                log::line(Level::Info, "dry run", &fields);
            } else {
                log::decisions(self.request_id, std::slice::from_ref(&decision));
            }
        }
        Done { page, decision, would, proven: read }
    }
}
