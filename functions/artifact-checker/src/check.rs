//! One object: look, judge, mend, look again.

use std::time::Duration;

use futures_util::join;
use sekisho_domain::artifacts::Repair;
use sekisho_domain::decision::Decision;
use sekisho_ledger::Store;
use time::OffsetDateTime;

use crate::answer::{Refusal, Said, Unanswered};
use crate::claim::{self, Claim, Write};
use crate::consumer::Reader;
use crate::key::{KeyArn, named_account};
use crate::kms::Keys;
use crate::object::Target;
use crate::repair::{Plan, Requests, Step, plan};
use crate::s3::{Head, S3, Wrote};
use crate::verdict::{Because, Encryption, Outcome, Standing, standing, unread, unseen};

/// How often an object that changes while it is looked at is looked at again.
const LOOKS: usize = 5;
/// How often a repair looks: three tries of an update and of a copy, and as often for what others write meanwhile.
const ROUNDS: usize = 12;
/// How long to wait for another invocation that repairs the same object before looking again.
const GLANCE: Duration = Duration::from_millis(500);

/// Why an object could not be checked now. All of it may go better later.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// S3 or KMS.
    #[error("{0}")]
    Unanswered(#[from] Unanswered),
    /// The ledger.
    #[error("{0}")]
    Ledger(#[from] sekisho_ledger::Error),
    /// It was another one every time it was looked at.
    #[error("the object changes faster than it can be looked at")]
    Restless,
    /// Another invocation is repairing it.
    #[error("another invocation is repairing the object")]
    Held,
}

/// An object to be checked, and what its listing said of it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Which.
    pub target: Target,
    /// False where it is known not to be the latest version.
    pub latest: bool,
    /// Whether to read it, too. A sweep reads some of each page: reading asks KMS, a HEAD doesn't, and what lets one be
    /// read under a key lets its neighbours.
    pub prove: bool,
}

/// What a check needs beside the object.
#[derive(Debug)]
pub struct Check<'a, L> {
    /// S3, as this function.
    pub s3: &'a S3,
    /// What keys are.
    pub keys: &'a Keys<'a>,
    /// Proves what is to be proven.
    pub reader: &'a Reader,
    /// Claims.
    pub ledger: &'a L,
    /// The bucket's account, and the function's.
    pub account: &'a str,
    /// What to do with what is wrong.
    pub repair: Repair,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// Whether a version that was passed over may be left for the one that is latest, as an event's may.
    pub follow_latest: bool,
    /// This invocation, as the holder of claims.
    pub holder: String,
    /// The clock.
    pub now: fn() -> OffsetDateTime,
    /// When waiting for another invocation ends.
    pub patience: OffsetDateTime,
}

/// An object's decision, and what a dry run would have done.
#[derive(Debug)]
pub struct Checked {
    /// What became of it.
    pub decision: Decision<Outcome>,
    /// What a dry run leaves undone.
    pub would: Option<Requests>,
    /// Whether a byte of it was read.
    pub read: bool,
}

/// What comes to light on the way.
#[derive(Default)]
struct Trace {
    would: Option<Requests>,
    /// What the object was under when it was looked at first.
    under: Option<String>,
    read: bool,
}

/// An object under a wrong encryption, as it was looked at.
struct Wrong {
    head: Head,
    under: String,
}

/// What reading came to.
enum Proof {
    Read,
    NotAsked,
    /// It is not what was looked at any more.
    Changed,
    Not(Because),
}

/// What a look came to.
enum Look {
    Settled(Because),
    Right(Head),
    Wrong(Wrong),
}

impl<L: Store> Check<'_, L> {
    /// Checks an object, and mends it where the configuration says so.
    ///
    /// # Errors
    /// Where something did not answer, or is being changed by somebody else: later may do.
    pub async fn check(&self, asked: &Asked, right: &KeyArn) -> Result<Checked, Error> {
        let mut target = asked.target.clone();
        let mut trace = Trace::default();
        let because = self.settle(asked, &mut target, right, &mut trace).await?;
        Ok(checked(target, right, because, trace))
    }

    /// [`Check::check`] of what was just written, which is as it should be every day: one look then tells.
    ///
    /// # Errors
    /// As those of [`Check::check`].
    pub async fn check_written(&self, asked: &Asked, right: &KeyArn) -> Result<Checked, Error> {
        let mut trace = Trace::default();
        if self.at_once(&asked.target, right, &mut trace).await? {
            return Ok(checked(asked.target.clone(), right, compliant(), trace));
        }
        self.check(asked, right).await
    }

    /// `target` becomes the version that was checked last.
    async fn settle(
        &self,
        asked: &Asked,
        target: &mut Target,
        right: &KeyArn,
        trace: &mut Trace,
    ) -> Result<Because, Error> {
        let mut looks = 0;
        while looks < LOOKS {
            let wrong = match self.look(target, right, trace).await? {
                Look::Settled(because) => return Ok(because),
                Look::Right(head) => match self.prove(target, &head, asked.prove).await? {
                    Proof::Read => {
                        trace.read = true;
                        return Ok(compliant());
                    }
                    Proof::NotAsked => return Ok((Outcome::Compliant, "it is under the right key".to_owned())),
                    Proof::Not(because) => return Ok(because),
                    Proof::Changed => {
                        looks += 1;
                        continue;
                    }
                },
                Look::Wrong(wrong) => wrong,
            };
            let updatable = right.account() == self.account;
            match plan(&wrong.head.facts, asked.latest, self.repair, updatable, None) {
                Plan::Do(step) if self.dry_run => {
                    trace.would = Some(step.requests(wrong.head.facts.size));
                    return Ok((
                        Outcome::Reported,
                        format!("it is under {}: a repair would {}", wrong.under, verb(step)),
                    ));
                }
                Plan::Do(_) => {}
                other => return Ok(left(&wrong, &other)),
            }
            match claim::ask(self.ledger, target, &self.holder, (self.now)()).await? {
                claim::Asked::Held if (self.now)() >= self.patience => return Err(Error::Held),
                claim::Asked::Held => tokio::time::sleep(GLANCE).await,
                claim::Asked::Claimed(mut claim) => {
                    let mended = self.mend(target, right, &mut claim, trace).await;
                    let released = claim.release(self.ledger, (self.now)()).await;
                    let because = mended?;
                    released?;
                    return Ok(because);
                }
            }
        }
        Err(Error::Restless)
    }

    /// Whether it is as it should be, at one look: a byte that can be read comes with what it was encrypted by. Whatever
    /// else it is, the long way tells.
    async fn at_once(&self, target: &Target, right: &KeyArn, trace: &mut Trace) -> Result<bool, Unanswered> {
        let Reader::As(s3, _) = self.reader else { return Ok(false) };
        // Together, since they don't need each other.
        let (read, right_is) = join!(s3.read(target, None), self.keys.describe(right.as_str()));
        let (Ok(encryption), right_is) = (read, right_is?) else { return Ok(false) };
        if standing(&encryption, None, right, &right_is, self.account) != Standing::Right {
            return Ok(false);
        }
        trace.under = Some(encryption.text());
        trace.read = true;
        Ok(true)
    }

    async fn look(&self, target: &Target, right: &KeyArn, trace: &mut Trace) -> Result<Look, Error> {
        let head = match self.s3.head(target, false).await {
            Ok(head) => head,
            // A HEAD has no body: what a 400 is about, a GET says.
            Err(Refusal::Said(said)) if said.status == 400 && said.code.is_none() => {
                return match self.s3.read(target, None).await {
                    Ok(_) => Ok(Look::Settled(unseen(&said))),
                    Err(Refusal::Said(said)) => Ok(Look::Settled(unseen(&said))),
                    Err(Refusal::Later(unanswered)) => Err(unanswered.into()),
                };
            }
            Err(Refusal::Said(said)) => return Ok(Look::Settled(unseen(&said))),
            Err(Refusal::Later(unanswered)) => return Err(unanswered.into()),
        };
        trace.under.get_or_insert_with(|| head.facts.encryption.text());
        Ok(match self.judge(&head.facts.encryption, right).await? {
            Standing::Right => Look::Right(head),
            Standing::Wrong => Look::Wrong(Wrong { under: head.facts.encryption.text(), head }),
            Standing::Settled(because) => Look::Settled(because),
        })
    }

    async fn judge(&self, encryption: &Encryption, right: &KeyArn) -> Result<Standing, Unanswered> {
        let right_is = self.keys.describe(right.as_str()).await?;
        let under = match encryption.key() {
            // Another account's key is not ours to ask about.
            Some(name) if named_account(name).is_none_or(|owner| owner == self.account) => {
                Some(self.keys.describe(name).await?)
            }
            _ => None,
        };
        Ok(standing(encryption, under.as_ref(), right, &right_is, self.account))
    }

    async fn prove(&self, target: &Target, head: &Head, asked: bool) -> Result<Proof, Unanswered> {
        if head.facts.archived {
            let reason = "it is under the right key, and archived: restore it to read it";
            return Ok(Proof::Not((Outcome::NeedsRestore, reason.to_owned())));
        }
        if !asked {
            return Ok(Proof::NotAsked);
        }
        let (s3, name) = match self.reader {
            Reader::As(s3, name) => (s3, name),
            Reader::Nobody(why) => return Ok(Proof::Not((Outcome::Unverifiable, why.clone()))),
        };
        match s3.read(target, Some(&head.facts)).await {
            Ok(_) => Ok(Proof::Read),
            Err(Refusal::Said(said)) if said.status == 412 => Ok(Proof::Changed),
            Err(Refusal::Said(said)) => Ok(Proof::Not(unread(&said, name))),
            Err(Refusal::Later(unanswered)) => Err(unanswered),
        }
    }

    /// Mends under a claim: what was seen before it may have been mended by whoever had it last, so it looks first.
    async fn mend(
        &self,
        target: &mut Target,
        right: &KeyArn,
        claim: &mut Claim,
        trace: &mut Trace,
    ) -> Result<Because, Error> {
        let updatable = right.account() == self.account;
        let mut refused: Option<Said> = None;
        let mut was: Option<String> = None;
        for _ in 0..ROUNDS {
            let wrong = match self.look(target, right, trace).await? {
                Look::Settled(because) => return Ok(because),
                Look::Right(head) => match self.prove(target, &head, true).await? {
                    Proof::Read | Proof::NotAsked => {
                        trace.read = true;
                        return Ok(was.map_or_else(compliant, |was| repaired(&was)));
                    }
                    Proof::Not(because) => return Ok(because),
                    Proof::Changed => continue,
                },
                Look::Wrong(wrong) => wrong,
            };
            let mut latest = None;
            let step = match plan(&wrong.head.facts, true, self.repair, updatable, refused.as_ref()) {
                Plan::Do(Step::Update) => Step::Update,
                Plan::Do(step) => match self.latest(target).await? {
                    Err(because) => return Ok(because),
                    Ok(head) if same(&head, &wrong.head) => {
                        latest = Some(head);
                        step
                    }
                    Ok(_) if self.follow_latest => {
                        target.version = None;
                        continue;
                    }
                    Ok(_) => {
                        let left_be = plan(&wrong.head.facts, false, self.repair, updatable, refused.as_ref());
                        return Ok(left(&wrong, &left_be));
                    }
                },
                other => return Ok(left(&wrong, &other)),
            };
            let version = wrong.head.facts.version.clone().unwrap_or_default();
            let attempt = if step == Step::Update { Write::Update(&version) } else { Write::Copy };
            if !claim.try_once(self.ledger, attempt, (self.now)()).await? {
                return Ok(exhausted(&wrong));
            }
            let wrote = match (step, &latest) {
                (Step::Copy, Some(head)) => self.s3.copy(target, head, right).await,
                (Step::CopyInParts(part), Some(head)) => self.s3.copy_in_parts(target, head, right, part).await,
                _ => self.s3.update(target, &wrong.head, right).await,
            };
            if !matches!(wrote, Ok(Wrote::Version(_) | Wrote::Changed)) {
                claim.was_none(attempt);
            }
            match wrote? {
                Wrote::Version(version) => {
                    was.get_or_insert(wrong.under);
                    target.version = version;
                }
                Wrote::Changed if step == Step::Update => {}
                // What was the latest is not any more: what is counts.
                Wrote::Changed => target.version = None,
                Wrote::Refused(said) if step == Step::Update => refused = Some(said),
                Wrote::Refused(said) => return Ok(not_mended(&wrong, &said)),
            }
        }
        Err(Error::Restless)
    }

    /// The latest version, with its checksum where S3 shows it.
    async fn latest(&self, target: &Target) -> Result<Result<Head, Because>, Error> {
        let latest = Target { version: None, ..target.clone() };
        let head = match self.s3.head(&latest, true).await {
            // The checksum takes the key's leave; without it the copy will say more than a HEAD can.
            Err(Refusal::Said(Said { status: 400 | 403, .. })) => self.s3.head(&latest, false).await,
            other => other,
        };
        match head {
            Ok(head) => Ok(Ok(head)),
            Err(Refusal::Said(said)) => Ok(Err(unseen(&said))),
            Err(Refusal::Later(unanswered)) => Err(unanswered.into()),
        }
    }
}

fn checked(target: Target, right: &KeyArn, because: Because, trace: Trace) -> Checked {
    let decision = Decision::new(because.0, because.1)
        .about("bucket", target.bucket)
        .about("object", target.key)
        .about("right_key", right.as_str())
        .about_some("version", target.version)
        .about_some("encryption", trace.under);
    Checked { decision, would: trace.would, read: trace.read }
}

fn same(one: &Head, other: &Head) -> bool {
    one.facts.version == other.facts.version && one.facts.etag == other.facts.etag
}

fn compliant() -> Because {
    (Outcome::Compliant, "it is under the right key, and it can be read".to_owned())
}

fn repaired(was: &str) -> Because {
    (Outcome::Repaired, format!("it was under {was}; now it is under the right key, and it can be read"))
}

fn verb(step: Step) -> &'static str {
    match step {
        Step::Update => "put it under the right key in place",
        Step::Copy => "copy it onto itself under the right key",
        Step::CopyInParts(_) => "copy it onto itself in parts under the right key",
    }
}

fn left(wrong: &Wrong, plan: &Plan) -> Because {
    let under = &wrong.under;
    match plan {
        Plan::Leave(why) => (Outcome::Reported, format!("it is under {under}, and left there: {why}")),
        Plan::Restore | Plan::Do(_) => {
            (Outcome::NeedsRestore, format!("it is under {under}, and archived: restore it, so that it can be copied"))
        }
    }
}

fn not_mended(wrong: &Wrong, said: &Said) -> Because {
    let under = &wrong.under;
    match said.code.as_deref() {
        Some("InvalidObjectState") => left(wrong, &Plan::Restore),
        Some(code) if code.starts_with("KMS.") => {
            (Outcome::KeyUnusable, format!("it is under {under}, and a key does not work: {said}"))
        }
        _ => (Outcome::Reported, format!("it is under {under}, and S3 refuses to mend it: {said}")),
    }
}

fn exhausted(wrong: &Wrong) -> Because {
    let under = &wrong.under;
    let reason = format!("it is under {under} again after three repairs within minutes: find who writes it");
    (Outcome::NonConverging, reason)
}
