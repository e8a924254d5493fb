//! Inspects one object without changing it: its encryption, its key, and whether a byte of it can be read.

use futures_util::join;
use sekisho_lambda::ServiceError;
use tokio::sync::OnceCell;

use crate::aws::kms::Keys;
use crate::aws::s3::{Head, S3, bucket_key, copy};
use crate::checker::reader::Reader;
use crate::key::{KeyArn, account_in_name};
use crate::object::{Encryption, ObjectFacts, ObjectId};
use crate::verdict::{self, Standing, Verdict, in_words, standing};

/// Inspects objects of one bucket.
pub(crate) struct Inspector<'a> {
    pub(crate) s3: &'a S3,
    pub(crate) keys: &'a Keys<'a>,
    pub(crate) reader: &'a Reader,
    /// The account of the bucket and of this function.
    pub(crate) account: &'a str,
    /// The right key of the bucket.
    pub(crate) right_key: &'a KeyArn,
    /// The bucket that was deployed with this function.
    pub(crate) own_bucket: &'a str,
    /// Whether the bucket uses the S3 Bucket Key by default, once it was read.
    pub(crate) default_bucket_key: OnceCell<bool>,
}

/// What an object's metadata shows.
pub(crate) enum Look {
    /// S3 does not show the object.
    NotShown(Verdict),
    /// No repair is possible, and the verdict gives the reason.
    Settled(ObjectFacts, Verdict),
    /// The object is under the right key.
    Right(ObjectFacts),
    /// The object is under a wrong key of this account, or under S3's own key.
    Wrong(ObjectFacts),
}

impl Look {
    /// The object's encryption, in words. `None` if S3 does not show the object.
    pub(crate) fn encryption(&self) -> Option<String> {
        match self {
            Self::NotShown(_) => None,
            Self::Settled(facts, _) | Self::Right(facts) | Self::Wrong(facts) => Some(facts.encryption.text()),
        }
    }
}

/// The result of reading an object.
pub(crate) enum Proof {
    Read,
    Failed(Verdict),
    /// The object changed after its metadata was read.
    ObjectChanged,
}

/// The result of reading the metadata of an object's latest version.
pub(crate) enum Latest {
    Found(Box<Head>),
    NotShown(Verdict),
}

impl Inspector<'_> {
    /// Reads the facts about an object with a HEAD request.
    pub(crate) async fn look(&self, object: &ObjectId) -> Result<Look, ServiceError> {
        let facts = match self.s3.facts(object).await {
            Ok(facts) => facts,
            Err(error) if !error.is_refused() => return Err(error),
            // The answer to a HEAD has no body, so only a GET shows the reason for a 400.
            Err(error) if error.status == Some(400) && error.code.is_none() => {
                return match Box::pin(self.s3.read(object, None)).await {
                    Ok(_) => Ok(Look::NotShown(verdict::not_shown(&error))),
                    Err(error) if error.is_refused() => Ok(Look::NotShown(verdict::not_shown(&error))),
                    Err(error) => Err(error),
                };
            }
            Err(error) => return Ok(Look::NotShown(verdict::not_shown(&error))),
        };
        Ok(match self.standing(&facts.encryption).await? {
            Standing::Right => Look::Right(facts),
            Standing::Wrong => Look::Wrong(facts),
            Standing::Settled(verdict) => Look::Settled(facts, verdict),
        })
    }

    async fn standing(&self, encryption: &Encryption) -> Result<Standing, ServiceError> {
        let right_status = self.keys.status(self.right_key.as_str()).await?;
        let status = match encryption.key() {
            // The key of another account is not looked up, because KMS does not show such a key to this function.
            Some(name) if account_in_name(name).is_none_or(|owner| owner == self.account) => {
                Some(self.keys.status(name).await?)
            }
            _ => None,
        };
        Ok(standing(encryption, status.as_ref(), self.right_key, &right_status, self.account))
    }

    /// Reads a byte of an object that is under the right key.
    pub(crate) async fn prove(&self, object: &ObjectId, facts: &ObjectFacts) -> Result<Proof, ServiceError> {
        if facts.is_archived {
            return Ok(Proof::Failed(verdict::archived()));
        }
        let (s3, name) = match self.reader {
            Reader::Client { s3, name } => (s3, name),
            Reader::Unavailable(why) => return Ok(Proof::Failed(verdict::no_reader(why))),
        };
        match s3.read(object, Some(facts)).await {
            Ok(_) => Ok(Proof::Read),
            Err(error) if !error.is_refused() => Err(error),
            Err(error) if error.status == Some(412) => Ok(Proof::ObjectChanged),
            Err(error) => Ok(Proof::Failed(verdict::not_readable(&error, name))),
        }
    }

    /// Reads a byte of an object together with its encryption, and returns the encryption if it is right. `None` means
    /// that the read failed or the encryption is wrong. In both cases, the caller reads the object's metadata to find
    /// the reason.
    pub(crate) async fn read_if_right(&self, object: &ObjectId) -> Result<Option<Encryption>, ServiceError> {
        let Reader::Client { s3, .. } = self.reader else { return Ok(None) };
        // The two calls do not depend on each other, so they run at the same time.
        let (read, right_status) = join!(s3.read(object, None), self.keys.status(self.right_key.as_str()));
        let (Ok(encryption), right_status) = (read, right_status?) else { return Ok(None) };
        let standing = standing(&encryption, None, self.right_key, &right_status, self.account);
        Ok((standing == Standing::Right).then_some(encryption))
    }

    /// Whether an update in place enables the S3 Bucket Key. Without a value, `UpdateObjectEncryption` disables it.
    pub(crate) async fn bucket_key(
        &self,
        object: &ObjectId,
        facts: &ObjectFacts,
    ) -> Result<Option<bool>, ServiceError> {
        if let Some(of_object) = bucket_key(facts) {
            return Ok(Some(of_object));
        }
        let of_bucket = self.default_bucket_key.get_or_try_init(|| self.s3.default_bucket_key(&object.bucket)).await;
        match of_bucket {
            Ok(of_bucket) => Ok(Some(*of_bucket)),
            Err(error) if error.is_refused() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The property that a copy of the object would lose, or that S3 does not show. `None` if a copy loses nothing.
    pub(crate) async fn loss(
        &self,
        object: &ObjectId,
        head: &Head,
        in_parts: bool,
    ) -> Result<Option<String>, ServiceError> {
        // The stack's own bucket has no ACLs.
        if object.bucket != self.own_bucket
            && let Some(loss) = answer("an ACL", self.s3.has_grants(object, &head.facts).await)?
        {
            return Ok(Some(loss));
        }
        if !in_parts {
            return Ok(None);
        }
        match copy::loss_in_parts(head) {
            Some(loss) => Ok(Some(loss.to_owned())),
            None => answer("annotations", self.s3.has_annotations(object, &head.facts).await),
        }
    }

    /// Reads the metadata of the object's latest version, with the checksum if S3 shows the checksum.
    pub(crate) async fn latest(&self, object: &ObjectId) -> Result<Latest, ServiceError> {
        let latest = ObjectId { version: None, ..object.clone() };
        let head = match self.s3.head(&latest, true).await {
            // S3 requires permission to decrypt if a HEAD requests the checksum. Without the permission, the later copy
            // fails and reports the reason, so the checksum is left out here.
            Err(error) if error.is_refused() && matches!(error.status, Some(400 | 403)) => {
                self.s3.head(&latest, false).await
            }
            other => other,
        };
        match head {
            Ok(head) => Ok(Latest::Found(Box::new(head))),
            Err(error) if error.is_refused() => Ok(Latest::NotShown(verdict::not_shown(&error))),
            Err(error) => Err(error),
        }
    }
}

/// The loss if a copy drops `what`. S3's answer says whether the object has it.
fn answer(what: &str, has: Result<bool, ServiceError>) -> Result<Option<String>, ServiceError> {
    match has {
        Ok(false) => Ok(None),
        Ok(true) => Ok(Some(format!("it has {what}, and a copy would lose this"))),
        Err(error) if error.is_refused() => {
            Ok(Some(format!("S3 does not show whether it has {what}, which a copy would lose ({})", in_words(&error))))
        }
        Err(error) => Err(error),
    }
}
