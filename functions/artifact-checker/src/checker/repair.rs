//! Repairs an object under a wrong key. The invocation must have the claim on the object's repair.

use std::borrow::Cow;

use sekisho_ledger::Store;
use time::OffsetDateTime;

use crate::aws::s3::copy::SelfCopy;
use crate::aws::s3::{Head, WriteResult};
use crate::checker::claim::Claim;
use crate::checker::inspect::{Inspector, Latest, Look, Proof};
use crate::checker::upload::Upload;
use crate::claim::RepairWrite;
use crate::error::CheckError;
use crate::object::{Encryption, ObjectFacts, ObjectId};
use crate::repair::{self, RepairConditions, RepairPlan, RepairRule, RequestCount, Step};
use crate::verdict::{self, Verdict};

/// The most times that a repair reads the object's metadata. Three updates and three copies need six reads, and six
/// more reads allow for other writers.
const ROUNDS: usize = 12;

/// Repairs objects of one bucket.
pub(crate) struct Repairer<'a, L> {
    pub(crate) inspector: Inspector<'a>,
    pub(crate) ledger: &'a L,
    pub(crate) rule: RepairRule,
    /// Whether to check the latest version in place of a version that is no longer the latest. The value is `true` in
    /// the check for an event, and `false` in a sweep, because a sweep checks each version.
    pub(crate) follow_latest: bool,
    pub(crate) clock: fn() -> OffsetDateTime,
}

/// The repair of one object, as far as it has come. It outlives an attempt that fails after a write, so that the next
/// attempt does not take the repaired object for one that was always compliant.
pub(crate) struct Progress {
    /// The version whose metadata is read next.
    pub(crate) object: ObjectId,
    /// The object's encryption before the first write, in words. `None` if nothing was written.
    before: Option<String>,
    /// The encryption of the version that was copied.
    copied: Option<Encryption>,
    /// The requests of the repair.
    pub(crate) requests: Option<RequestCount>,
}

impl Progress {
    pub(crate) fn of(object: &ObjectId) -> Self {
        Self { object: object.clone(), before: None, copied: None, requests: None }
    }

    /// The object's encryption before the first write, in words.
    pub(crate) fn before(&self) -> Option<&String> {
        self.before.as_ref()
    }

    /// The requests of the repair, if S3 has written the object or may have written it.
    pub(crate) fn spent(&self) -> Option<RequestCount> {
        self.requests.filter(|_| self.before.is_some())
    }

    /// The verdict on the object after a byte of it was read under the right key.
    pub(crate) fn verdict(&self) -> Verdict {
        match &self.before {
            Some(before) => verdict::repaired(before, self.copied.as_ref()),
            None => verdict::compliant_and_read(),
        }
    }

    fn written(&mut self, before: &Encryption, is_copy: bool) {
        self.before.get_or_insert_with(|| before.text());
        if is_copy {
            self.copied.get_or_insert_with(|| before.clone());
        }
    }
}

/// The result of a repair.
pub(crate) struct Repaired {
    pub(crate) verdict: Verdict,
    /// Whether a byte of the object was read.
    pub(crate) was_read: bool,
}

/// What to do next about an object under a wrong key.
enum Next {
    Write(Write),
    /// Read the metadata of the latest version, because a newer version was written.
    FollowLatest,
    Stop(Verdict),
}

enum Write {
    Update,
    /// Copy this latest version.
    Copy(Box<Head>),
    /// Copy this latest version in parts of this many bytes.
    CopyInParts(Box<Head>, u64),
}

impl<L: Store> Repairer<'_, L> {
    /// The plan for an object under a wrong key.
    pub(crate) fn plan(&self, facts: &ObjectFacts, is_latest: bool, update_refused: bool) -> RepairPlan {
        let key_is_own = self.inspector.right_key.account() == self.inspector.account;
        repair::plan(facts, RepairConditions { rule: &self.rule, key_is_own, is_latest, update_refused })
    }

    /// Repairs an object. Every round begins with a HEAD request, because another invocation may have repaired the
    /// object before this invocation got the claim.
    pub(crate) async fn repair(&self, progress: &mut Progress, claim: &mut Claim) -> Result<Repaired, CheckError> {
        let mut update_refused = false;
        for _ in 0..ROUNDS {
            let object = &progress.object;
            let facts = match self.inspector.look(object).await? {
                Look::NotShown(verdict) | Look::Settled(_, verdict) => return Ok(unread(verdict)),
                Look::Right(facts) => match self.inspector.prove(object, &facts).await? {
                    Proof::Read => return Ok(Repaired { verdict: progress.verdict(), was_read: true }),
                    Proof::Failed(verdict) => return Ok(unread(verdict)),
                    Proof::ObjectChanged => continue,
                },
                Look::Wrong(facts) => facts,
            };
            let encryption = facts.encryption.text();
            let write = match self.next(object, &facts, update_refused).await? {
                Next::Stop(verdict) => return Ok(unread(verdict)),
                Next::FollowLatest => {
                    progress.object.version = None;
                    continue;
                }
                Next::Write(write) => write,
            };
            let is_update = matches!(write, Write::Update);
            let result = self.write(object, &facts, write, claim).await;
            let may_have_written = match &result {
                Ok(result) => matches!(result, Some(WriteResult::Written(_))),
                // S3 may have done what it did not answer.
                Err(CheckError::Service(error)) => !error.is_throttled(),
                Err(_) => false,
            };
            if may_have_written {
                progress.written(&facts.encryption, !is_update);
            }
            match result? {
                None => return Ok(unread(verdict::not_converging(&encryption))),
                Some(WriteResult::Written(version)) => progress.object.version = version,
                Some(WriteResult::ObjectChanged) if is_update => {}
                // The version is no longer the latest, so the next round reads the metadata of the latest.
                Some(WriteResult::ObjectChanged) => progress.object.version = None,
                Some(WriteResult::Refused(_)) if is_update => update_refused = true,
                Some(WriteResult::Refused(error)) => {
                    return Ok(unread(verdict::not_repaired(&error, &encryption)));
                }
            }
        }
        Err(CheckError::ObjectKeepsChanging)
    }

    /// Decides what to do next. Only the latest version may be copied, so a copy first needs the metadata of the latest
    /// version.
    async fn next(&self, object: &ObjectId, facts: &ObjectFacts, update_refused: bool) -> Result<Next, CheckError> {
        let leave = |plan| Next::Stop(verdict::of_plan(plan, &facts.encryption.text()));
        let step = match self.plan(facts, true, update_refused) {
            RepairPlan::Step(Step::Update) => return Ok(Next::Write(Write::Update)),
            RepairPlan::Step(step) => step,
            plan => return Ok(leave(&plan)),
        };
        let latest = match self.inspector.latest(object).await? {
            Latest::Found(latest) => latest,
            Latest::NotShown(verdict) => return Ok(Next::Stop(verdict)),
        };
        if latest.facts.is_same_version(facts)
            && let Some(loss) = self.inspector.loss(object, &latest, matches!(step, Step::CopyInParts(_))).await?
        {
            return Ok(leave(&RepairPlan::Leave(Cow::Owned(loss))));
        }
        Ok(match step {
            _ if !latest.facts.is_same_version(facts) && self.follow_latest => Next::FollowLatest,
            _ if !latest.facts.is_same_version(facts) => leave(&self.plan(facts, false, update_refused)),
            Step::CopyInParts(part) => Next::Write(Write::CopyInParts(latest, part)),
            Step::Copy | Step::Update => Next::Write(Write::Copy(latest)),
        })
    }

    /// Counts a write and makes it. Returns `None`, without a write, if the object was repaired too often.
    async fn write(
        &self,
        object: &ObjectId,
        facts: &ObjectFacts,
        write: Write,
        claim: &mut Claim,
    ) -> Result<Option<WriteResult>, CheckError> {
        let Inspector { s3, right_key: key, .. } = self.inspector;
        let version = facts.version.clone().unwrap_or_default();
        let (counted, bucket_key) = match write {
            Write::Update => (RepairWrite::Update(&version), self.inspector.bucket_key(object, facts).await?),
            Write::Copy(_) | Write::CopyInParts(..) => (RepairWrite::Copy, None),
        };
        if let Write::CopyInParts(head, part) = &write {
            let copy = SelfCopy { s3, object, head, key };
            let upload = Upload { copy, part: *part, ledger: self.ledger, clock: self.clock };
            // An upload that another invocation has begun was counted there.
            if upload.continues(claim) {
                return upload.run(claim).await.map(Some);
            }
            return self.count_and(counted, claim, async |claim: &mut Claim| upload.run(claim).await).await;
        }
        self.count_and(counted, claim, async |_: &mut Claim| {
            Ok(match &write {
                Write::Update => s3.update(object, facts, key, bucket_key).await?,
                Write::Copy(head) | Write::CopyInParts(head, _) => SelfCopy { s3, object, head, key }.whole().await?,
            })
        })
        .await
    }

    /// Counts a write before it is made, and subtracts it again if S3 refused it or did not answer.
    async fn count_and(
        &self,
        counted: RepairWrite<'_>,
        claim: &mut Claim,
        write: impl AsyncFnOnce(&mut Claim) -> Result<WriteResult, CheckError>,
    ) -> Result<Option<WriteResult>, CheckError> {
        if !claim.count(self.ledger, counted, (self.clock)()).await? {
            return Ok(None);
        }
        let result = write(claim).await;
        if !matches!(result, Ok(WriteResult::Written(_) | WriteResult::ObjectChanged)) {
            claim.discount(counted);
        }
        result.map(Some)
    }
}

fn unread(verdict: Verdict) -> Repaired {
    Repaired { verdict, was_read: false }
}
