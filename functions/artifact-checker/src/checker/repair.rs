//! Executes the plan for an object under a wrong key, while this invocation has the claim on the object's repair.

use sekisho_domain::artifacts::Repair;
use sekisho_ledger::Store;
use time::OffsetDateTime;

use crate::aws::s3::copy::SelfCopy;
use crate::aws::s3::{Head, WriteResult};
use crate::checker::claim::Claim;
use crate::checker::inspect::{Inspector, Latest, Look, Proof};
use crate::claim::RepairWrite;
use crate::error::CheckError;
use crate::object::{ObjectFacts, ObjectId};
use crate::repair::{self, RepairConditions, RepairPlan, Step};
use crate::verdict::{self, Verdict};

/// How often a repair looks at the object: for three updates and three copies, and as often again for the writes of
/// others.
const ROUNDS: usize = 12;

/// What repairs objects of one bucket.
pub(crate) struct Repairer<'a, L> {
    pub(crate) inspector: Inspector<'a>,
    pub(crate) ledger: &'a L,
    /// The configured repair.
    pub(crate) repair: Repair,
    /// Whether to check the latest version in place of a version that is no longer the latest. An event concerns
    /// whatever is the latest; a sweep concerns each version.
    pub(crate) follow_latest: bool,
    pub(crate) clock: fn() -> OffsetDateTime,
}

/// The result of a repair.
pub(crate) struct Repaired {
    /// The version that the verdict is about.
    pub(crate) object: ObjectId,
    pub(crate) verdict: Verdict,
    /// Whether a byte of the object was read.
    pub(crate) was_read: bool,
}

/// What to do next about an object under a wrong key.
enum Next {
    Update,
    /// Copy this latest version.
    Copy(Box<Head>),
    /// Copy this latest version in parts of this many bytes.
    CopyInParts(Box<Head>, u64),
    /// Look at the latest version, which is not the version that was looked at.
    FollowLatest,
    Stop(Verdict),
}

impl<L: Store> Repairer<'_, L> {
    /// The plan for an object under a wrong key.
    pub(crate) fn plan(&self, facts: &ObjectFacts, is_latest: bool, update_refused: bool) -> RepairPlan {
        let key_is_own = self.inspector.right_key.account() == self.inspector.account;
        repair::plan(facts, RepairConditions { repair: self.repair, key_is_own, is_latest, update_refused })
    }

    /// Repairs an object. Another invocation may have repaired it before this one got the claim, so every round begins
    /// with a look.
    pub(crate) async fn repair(&self, object: &ObjectId, claim: &mut Claim) -> Result<Repaired, CheckError> {
        let mut object = object.clone();
        let mut update_refused = false;
        // What the object was under before this repair wrote.
        let mut encryption_before: Option<String> = None;
        for _ in 0..ROUNDS {
            let head = match self.inspector.look(&object).await? {
                Look::NotShown(verdict) | Look::Settled(_, verdict) => return Ok(unread(object, verdict)),
                Look::Right(head) => match self.inspector.prove(&object, &head).await? {
                    Proof::Read => {
                        let compliant = verdict::compliant_and_read;
                        let verdict = encryption_before.map_or_else(compliant, |before| verdict::repaired(&before));
                        return Ok(Repaired { object, verdict, was_read: true });
                    }
                    Proof::Failed(verdict) => return Ok(unread(object, verdict)),
                    Proof::ObjectChanged => continue,
                },
                Look::Wrong(head) => head,
            };
            let encryption = head.facts.encryption.text();
            let next = match self.next(&object, &head, update_refused).await? {
                Next::Stop(verdict) => return Ok(unread(object, verdict)),
                Next::FollowLatest => {
                    object.version = None;
                    continue;
                }
                next => next,
            };
            let is_update = matches!(next, Next::Update);
            match self.write(&object, &head, next, claim).await? {
                None => return Ok(unread(object, verdict::not_converging(&encryption))),
                Some(WriteResult::Written(version)) => {
                    encryption_before.get_or_insert(encryption);
                    object.version = version;
                }
                Some(WriteResult::ObjectChanged) if is_update => {}
                // The version is no longer the latest, so look at the latest.
                Some(WriteResult::ObjectChanged) => object.version = None,
                Some(WriteResult::Refused(_)) if is_update => update_refused = true,
                Some(WriteResult::Refused(error)) => {
                    return Ok(unread(object, verdict::not_repaired(&error, &encryption)));
                }
            }
        }
        Err(CheckError::ObjectKeepsChanging)
    }

    /// Decides the next write. A copy is made of the latest version only.
    async fn next(&self, object: &ObjectId, head: &Head, update_refused: bool) -> Result<Next, CheckError> {
        let leave = |plan| Next::Stop(verdict::of_plan(plan, &head.facts.encryption.text()));
        let step = match self.plan(&head.facts, true, update_refused) {
            RepairPlan::Step(Step::Update) => return Ok(Next::Update),
            RepairPlan::Step(step) => step,
            plan => return Ok(leave(&plan)),
        };
        let latest = match self.inspector.latest(object).await? {
            Latest::Found(latest) => latest,
            Latest::NotShown(verdict) => return Ok(Next::Stop(verdict)),
        };
        Ok(match step {
            _ if !latest.facts.is_same_version(&head.facts) && self.follow_latest => Next::FollowLatest,
            _ if !latest.facts.is_same_version(&head.facts) => leave(&self.plan(&head.facts, false, update_refused)),
            Step::CopyInParts(part) => Next::CopyInParts(latest, part),
            Step::Copy | Step::Update => Next::Copy(latest),
        })
    }

    /// Counts a write and makes it; `None` if the object was repaired too often.
    async fn write(
        &self,
        object: &ObjectId,
        head: &Head,
        next: Next,
        claim: &mut Claim,
    ) -> Result<Option<WriteResult>, CheckError> {
        let version = head.facts.version.clone().unwrap_or_default();
        let counted = if matches!(next, Next::Update) { RepairWrite::Update(&version) } else { RepairWrite::Copy };
        if !claim.count(self.ledger, counted, (self.clock)()).await? {
            return Ok(None);
        }
        let Inspector { s3, right_key: key, .. } = self.inspector;
        let result = match &next {
            Next::Copy(head) => SelfCopy { s3, object, head, key }.whole().await,
            Next::CopyInParts(head, part) => SelfCopy { s3, object, head, key }.in_parts(*part).await,
            Next::Update | Next::FollowLatest | Next::Stop(_) => s3.update(object, head, key).await,
        };
        if !matches!(result, Ok(WriteResult::Written(_) | WriteResult::ObjectChanged)) {
            claim.discount(counted);
        }
        Ok(Some(result?))
    }
}

fn unread(object: ObjectId, verdict: Verdict) -> Repaired {
    Repaired { object, verdict, was_read: false }
}
