//! Checks one object: reads its metadata, decides, and repairs the object if the plan says so.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use sekisho_domain::decision::Decision;
use sekisho_ledger::Store;
use time::OffsetDateTime;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::aws::s3::S3;
use crate::checker::budget::Budget;
use crate::checker::claim::{Take, take};
use crate::checker::inspect::{Inspector, Look, Proof};
use crate::checker::rate_limit::RateLimits;
use crate::checker::reader::Reader;
use crate::checker::repair::{Progress, Repaired, Repairer};
use crate::checker::turns::Turns;
use crate::error::CheckError;
use crate::key::KeyArn;
use crate::object::{ObjectFacts, ObjectId};
use crate::outcome::Outcome;
use crate::proofs::Reading;
use crate::rate::Rates;
use crate::repair::{RepairPlan, RepairRule, RequestCount, Step};
use crate::request::SweepRequest;
use crate::run::Run;
use crate::sweep_totals::CheckedObject;
use crate::verdict::{self, Verdict};

/// How many times a check reads the metadata of an object that keeps changing.
const MOST_LOOKS: usize = 5;
/// The pause between two reads of the metadata while another invocation is repairing the object.
const PAUSE: Duration = Duration::from_millis(500);

/// For a repair and the read that proves it, S3 sends up to this many requests to KMS. KMS charges fewer
/// ([`RequestCount::kms`]).
const KMS_REQUESTS_OF_A_REPAIR: u32 = 4;
/// No more checks are under way than requests pass at S3's rate within this time. Even if all of them become repairs, with
/// four requests more each, they end within the time that an invocation leaves them.
const LONGEST_QUEUE: Duration = Duration::from_secs(5);

/// What a check is asked to do. An attempt that fails is repeated with the same request.
pub(crate) struct CheckRequest {
    /// The object, and what earlier attempts have written.
    pub(crate) progress: Progress,
    /// `false` if the object is known to be an older version.
    pub(crate) is_latest: bool,
    /// Whether to read a byte of an object under the right key. A sweep reads few objects, because a read needs KMS and a
    /// HEAD does not. If the right key decrypts one object, it also decrypts the other objects under that key.
    pub(crate) reading: Reading,
    /// When the check began. The time for which it waits for the rates is added.
    pub(crate) began: Rc<Cell<Instant>>,
}

/// The differences between the check for an event and the check of a sweep.
pub(crate) struct CheckMode {
    /// Whether to report the plan without executing it.
    pub(crate) dry_run: bool,
    /// Whether to check the latest version in place of a version that is no longer the latest.
    pub(crate) follow_latest: bool,
    /// The holder of claims: the id of this request or of the sweep.
    pub(crate) holder: String,
    /// The time until which a check waits for another invocation that is repairing the object.
    pub(crate) wait_until: OffsetDateTime,
    /// The most requests per second.
    pub(crate) rates: Rates,
    /// How many objects may be repaired.
    pub(crate) budget: Budget,
}

/// Checks objects of one bucket.
pub(crate) struct ObjectChecker<'a, L> {
    repairer: Repairer<'a, L>,
    mode: CheckMode,
    limits: RateLimits,
    turns: Turns,
    /// The number of repairs that are under way.
    repairs: Cell<usize>,
}

/// A repair, or what belongs to it, that is under way.
pub(crate) struct RunningRepair<'a>(&'a Cell<usize>);

impl Drop for RunningRepair<'_> {
    fn drop(&mut self) {
        self.0.update(|repairs| repairs - 1);
    }
}

/// The result of a check, before it becomes a decision.
struct Conclusion {
    object: ObjectId,
    verdict: Verdict,
    /// The object's encryption when its metadata was first read, in words.
    encryption: Option<String>,
    planned_requests: Option<RequestCount>,
    was_read: bool,
    failed_read: Option<Verdict>,
    /// Whether a job of S3 Batch Operations has to enable the S3 Bucket Key. `None` if the object is not left to a job.
    left_to_job: Option<bool>,
}

impl Conclusion {
    fn of(progress: &Progress, encryption: Option<String>, verdict: Verdict, was_read: bool) -> Self {
        Self {
            object: progress.object.clone(),
            verdict,
            encryption,
            planned_requests: progress.spent(),
            was_read,
            failed_read: None,
            left_to_job: None,
        }
    }
}

impl<'a, L: Store> ObjectChecker<'a, L> {
    pub(crate) fn new(
        run: &'a Run<'_, L>,
        s3: &'a S3,
        reader: &'a Reader,
        right_key: &'a KeyArn,
        rule: RepairRule,
        mode: CheckMode,
    ) -> Self {
        let repairer = Repairer {
            inspector: Inspector {
                s3,
                keys: &run.keys,
                reader,
                account: run.account(),
                right_key,
                own_bucket: &run.settings.bucket,
                default_bucket_key: OnceCell::new(),
            },
            ledger: run.ledger,
            rule,
            follow_latest: mode.follow_latest,
            clock: run.clock,
        };
        let limits = RateLimits::new(mode.rates);
        Self { repairer, mode, limits, turns: Turns::default(), repairs: Cell::new(0) }
    }

    /// Sets the highest rates.
    pub(crate) fn set_rates(&self, rates: Rates) {
        self.limits.set(rates);
    }

    /// The number of checks of which none waits long for S3's rate.
    pub(crate) fn most_checks(&self) -> usize {
        self.limits.s3.within(LONGEST_QUEUE).max(1)
    }

    /// Begins no further check or repair. A repair that has begun goes on.
    pub(crate) fn stop(&self) {
        self.limits.stop();
    }

    /// Whether a repair is under way.
    pub(crate) fn is_repairing(&self) -> bool {
        self.repairs.get() > 0
    }

    /// Counts a repair, or what follows it, as under way until the result is dropped.
    pub(crate) fn begin_repair(&self) -> RunningRepair<'_> {
        self.repairs.update(|repairs| repairs + 1);
        RunningRepair(&self.repairs)
    }

    /// Slows down after a throttled request.
    pub(crate) fn slow_down(&self) {
        self.limits.cut();
    }

    /// Checks an object that was just written. Almost every such object is compliant, and a single read of the object
    /// proves this.
    pub(crate) async fn check_written(&self, request: &mut CheckRequest) -> Result<CheckedObject, CheckError> {
        let progress = &request.progress;
        if progress.before().is_none()
            && let Some(encryption) = self.repairer.inspector.read_if_right(&progress.object).await?
        {
            let encryption = Some(encryption.text());
            return Ok(self.checked(Conclusion::of(progress, encryption, verdict::compliant_and_read(), true)));
        }
        self.check(request).await
    }

    /// Checks an object, and repairs it if the plan says so.
    pub(crate) async fn check(&self, request: &mut CheckRequest) -> Result<CheckedObject, CheckError> {
        let CheckRequest { progress, is_latest, reading, began } = request;
        let mut encryption = progress.before().cloned();
        let mut looks = 0;
        while looks < MOST_LOOKS {
            self.limits.s3.pass(1, began).await;
            let look = self.repairer.inspector.look(&progress.object).await?;
            encryption = encryption.or_else(|| look.encryption());
            let conclusion = |verdict, was_read| Conclusion::of(progress, encryption.clone(), verdict, was_read);
            let facts = match look {
                Look::NotShown(verdict) | Look::Settled(_, verdict) => {
                    return Ok(self.checked(conclusion(verdict, false)));
                }
                Look::Right(facts) => match reading {
                    Reading::Skip(verdict) if !facts.is_archived && progress.before().is_none() => {
                        return Ok(self.checked(conclusion(verdict.clone(), false)));
                    }
                    _ => match Box::pin(self.prove(&progress.object, &facts, began)).await? {
                        Proof::Read => return Ok(self.checked(conclusion(progress.verdict(), true))),
                        Proof::Failed(verdict) => {
                            let failed_read = Some(verdict.clone()).filter(is_about_key_or_reader);
                            return Ok(self.checked(Conclusion { failed_read, ..conclusion(verdict, false) }));
                        }
                        Proof::ObjectChanged => {
                            looks += 1;
                            continue;
                        }
                    },
                },
                Look::Wrong(facts) => facts,
            };
            let plan = self.repairer.plan(&facts, *is_latest, false);
            let planned_requests = planned_requests(&plan, &facts);
            let step = match plan {
                RepairPlan::Step(step) if !self.mode.dry_run => step,
                _ => {
                    let verdict = verdict::of_plan(&plan, &facts.encryption.text());
                    return Ok(self.checked(Conclusion { planned_requests, ..conclusion(verdict, false) }));
                }
            };
            // A repair that has written before has its place.
            let is_counted = progress.before().is_some();
            let permit = if is_counted { None } else { self.mode.budget.take(step) };
            if permit.is_none() && !is_counted {
                let (verdict, left_to_job) = self.above_limit(&progress.object, &facts, step).await?;
                return Ok(self.checked(Conclusion { left_to_job, ..conclusion(verdict, false) }));
            }
            progress.requests = planned_requests;
            let key = progress.object.key.clone();
            let repair = self.repair(progress, step.requests(facts.size), began);
            let repaired = Box::pin(self.turns.take(&key, repair)).await;
            // The write counts, whatever follows: the object may be archived, or not readable.
            if progress.before().is_some()
                && let Some(permit) = permit
            {
                permit.used();
            }
            if let Some(Repaired { verdict, was_read }) = repaired? {
                let conclusion = Conclusion::of(progress, encryption, verdict, was_read);
                return Ok(self.checked(Conclusion { planned_requests, ..conclusion }));
            }
        }
        Err(CheckError::ObjectKeepsChanging)
    }

    async fn prove(&self, object: &ObjectId, facts: &ObjectFacts, began: &Cell<Instant>) -> Result<Proof, CheckError> {
        self.limits.s3.pass(1, began).await;
        self.limits.kms.pass(1, began).await;
        Ok(self.repairer.inspector.prove(object, facts).await?)
    }

    /// The verdict on an object that the sweep does not repair, and whether a job has to enable the S3 Bucket Key.
    /// `None` if no job can repair the object: a job copies nothing, and its role may change only the deployed bucket.
    async fn above_limit(
        &self,
        object: &ObjectId,
        facts: &ObjectFacts,
        step: Step,
    ) -> Result<(Verdict, Option<bool>), CheckError> {
        let inspector = &self.repairer.inspector;
        let encryption = facts.encryption.text();
        if step != Step::Update || object.bucket != inspector.own_bucket {
            return Ok((verdict::above_limit(&encryption), None));
        }
        let bucket_key = Box::pin(inspector.bucket_key(object, facts)).await?;
        Ok((verdict::left_to_job(&encryption), Some(bucket_key.unwrap_or(false))))
    }

    /// Repairs an object under a claim with about these requests. If another invocation has the claim, this function
    /// returns `None` after a pause, so that the caller tries again.
    async fn repair(
        &self,
        progress: &mut Progress,
        requests: RequestCount,
        began: &Cell<Instant>,
    ) -> Result<Option<Repaired>, CheckError> {
        self.limits.s3.pass(u32::try_from(requests.reads).unwrap_or(u32::MAX), began).await;
        self.limits.kms.pass(KMS_REQUESTS_OF_A_REPAIR, began).await;
        let _repair = self.begin_repair();
        self.repair_claimed(progress).await
    }

    async fn repair_claimed(&self, progress: &mut Progress) -> Result<Option<Repaired>, CheckError> {
        let Repairer { ledger, clock, .. } = self.repairer;
        match take(ledger, &progress.object, &self.mode.holder, clock()).await? {
            Take::Taken(mut claim) => {
                let repaired = self.repairer.repair(progress, &mut claim).await;
                let released = claim.release(ledger, clock()).await;
                let repaired = repaired?;
                released?;
                Ok(Some(repaired))
            }
            Take::HeldByOther if clock() >= self.mode.wait_until => Err(CheckError::RepairedElsewhere),
            Take::HeldByOther => {
                tokio::time::sleep(PAUSE).await;
                Ok(None)
            }
        }
    }

    fn checked(&self, conclusion: Conclusion) -> CheckedObject {
        let Conclusion { object, verdict, encryption, planned_requests, was_read, failed_read, left_to_job } =
            conclusion;
        let decision = Decision::new(verdict.outcome, verdict.reason)
            .about("right_key", self.repairer.inspector.right_key.as_str())
            .about_some("encryption", encryption);
        CheckedObject {
            decision: about_object(decision, &object),
            planned_requests,
            was_read,
            failed_read,
            left_to_job,
            tracked: None,
        }
    }

    /// Counts the repairs of a sweep together with its other invocations.
    pub(crate) async fn share_budget(&self, run: &Run<'_, L>, request: &SweepRequest, sweep: &str) {
        self.mode.budget.share(run, request, sweep).await;
    }
}

/// Adds the bucket, the key and the version to a decision.
pub(crate) fn about_object(decision: Decision<Outcome>, object: &ObjectId) -> Decision<Outcome> {
    decision
        .about("bucket", &object.bucket)
        .about("object", &object.key)
        .about_some("version", object.version.as_deref())
}

fn is_about_key_or_reader(verdict: &Verdict) -> bool {
    matches!(verdict.outcome, Outcome::Unverifiable | Outcome::KeyUnusable)
}

fn planned_requests(plan: &RepairPlan, facts: &ObjectFacts) -> Option<RequestCount> {
    match plan {
        RepairPlan::Step(step) => Some(step.requests(facts.size)),
        RepairPlan::Restore | RepairPlan::Leave(_) => None,
    }
}
