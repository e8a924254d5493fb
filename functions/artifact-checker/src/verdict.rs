//! What is found out about an object, and what that means.

use serde::Serialize;

use crate::answer::Said;
use crate::key::{Described, KeyArn, named_account};

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Under the right key, which works, and it can be read.
    Compliant,
    /// It was not, and now it is.
    Repaired,
    /// Under a wrong key of this account, and left there.
    Reported,
    /// There is no such object any more.
    Gone,
    /// Under another account's key: it can't be repaired from here.
    ForeignKey,
    /// Under a key that does not work, or the right key does not.
    KeyUnusable,
    /// In an archive: nobody can read it before it is restored.
    NeedsRestore,
    /// It could not be found out: S3 or KMS does not let this function see.
    Unverifiable,
    /// Repaired again and again, and not under the right key yet.
    NonConverging,
    /// None of what is known.
    Unknown,
    /// Of no concern.
    Ignored,
}

impl Outcome {
    /// Whether somebody should look at it.
    #[must_use]
    pub fn is_finding(self) -> bool {
        !matches!(self, Self::Compliant | Self::Repaired | Self::Gone | Self::Ignored)
    }

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Compliant => "compliant",
            Self::Repaired => "repaired",
            Self::Reported => "reported",
            Self::Gone => "gone",
            Self::ForeignKey => "foreign-key",
            Self::KeyUnusable => "key-unusable",
            Self::NeedsRestore => "needs-restore",
            Self::Unverifiable => "unverifiable",
            Self::NonConverging => "non-converging",
            Self::Unknown => "unknown",
            Self::Ignored => "ignored",
        }
    }
}

/// An outcome and the sentence that gives its reason.
pub type Because = (Outcome, String);

/// How an object is encrypted, as S3 says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// By S3's own keys (`AES256`), or not at all: objects from before 2023.
    OfS3,
    /// `aws:kms`, under the key of this name.
    Kms(String),
    /// `aws:kms:dsse`, under the key of this name.
    Dual(String),
    /// Something else.
    Other(String),
}

impl Encryption {
    /// The KMS key's name, as S3 says it.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Kms(key) | Self::Dual(key) => Some(key),
            Self::OfS3 | Self::Other(_) => None,
        }
    }

    /// For people: what it is under.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::OfS3 => "S3's own key".to_owned(),
            Self::Kms(key) => key.clone(),
            Self::Dual(key) => format!("{key} (DSSE)"),
            Self::Other(name) => name.clone(),
        }
    }
}

/// What a HEAD tells of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// How it is encrypted.
    pub encryption: Encryption,
    /// Its entity tag.
    pub etag: String,
    /// Its version; none in a bucket without versions.
    pub version: Option<String>,
    /// In bytes.
    pub size: u64,
    /// Whether it is archived and not restored.
    pub archived: bool,
    /// Whether a retention or a legal hold is on it.
    pub locked: bool,
}

/// How an object's encryption stands to the right key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Under the right key.
    Right,
    /// Under another encryption of this account's, which works: it can be mended.
    Wrong,
    /// Settled: nothing that can be done here changes it.
    Settled(Because),
}

/// Judges an object's encryption. `under` is what KMS says of the key that it is under, where it is one of `account`;
/// `right_is` what KMS says of the right key.
#[must_use]
pub fn standing(
    encryption: &Encryption,
    under: Option<&Described>,
    right: &KeyArn,
    right_is: &Described,
    account: &str,
) -> Standing {
    if let Encryption::Other(name) = encryption {
        return settled(Outcome::Unknown, format!("its encryption is `{name}`, which this version does not know"));
    }
    let key = match (encryption.key(), under) {
        (None, _) => None,
        (Some(name), _) if name == right.as_str() => Some(right),
        (Some(name), _) if named_account(name).is_some_and(|owner| owner != account) => {
            let owner = named_account(name).unwrap_or_default();
            return settled(
                Outcome::ForeignKey,
                format!("it is under {name}, a key of account {owner}, which can't be replaced from here"),
            );
        }
        (Some(_), Some(Described::Usable(arn) | Described::Unusable(arn, _))) if arn == right => Some(right),
        (Some(_), Some(Described::Usable(arn))) => Some(arn),
        (Some(_), Some(Described::Unusable(arn, state))) => {
            return settled(Outcome::KeyUnusable, format!("it is under {arn}, which is {state}: nobody can read it"));
        }
        (Some(name), Some(Described::Missing)) => {
            return settled(
                Outcome::KeyUnusable,
                format!("it is under {name}, which does not exist: nobody can read it"),
            );
        }
        // A full ARN is no guess: S3 will say whether it can be used.
        (Some(name), Some(Described::Hidden(_)) | None) if KeyArn::parse(name).is_some() => None,
        (Some(name), Some(Described::Hidden(why))) => {
            return settled(Outcome::Unverifiable, format!("which key `{name}` is can't be found out: {why}"));
        }
        (Some(name), None) => return settled(Outcome::Unknown, format!("the key `{name}` was not looked up")),
    };
    match right_is {
        Described::Usable(_) if key == Some(right) => Standing::Right,
        Described::Usable(_) => Standing::Wrong,
        Described::Unusable(_, state) => {
            settled(Outcome::KeyUnusable, format!("the right key {right} is {state}: enable it"))
        }
        Described::Missing => settled(Outcome::KeyUnusable, format!("the right key {right} does not exist")),
        Described::Hidden(why) => {
            settled(Outcome::Unverifiable, format!("the state of the right key {right} can't be read: {why}"))
        }
    }
}

fn settled(outcome: Outcome, reason: String) -> Standing {
    Standing::Settled((outcome, reason))
}

/// What it means that S3 does not show an object. 403 is never taken for gone: S3 says it of missing objects too, where
/// the caller may not list the bucket.
#[must_use]
pub fn unseen(said: &Said) -> Because {
    match said.status {
        404 => (Outcome::Gone, "it does not exist any more".to_owned()),
        405 => (Outcome::Gone, "the version is a delete marker".to_owned()),
        403 => (Outcome::Unverifiable, format!("S3 does not let this function look at it ({said})")),
        // S3 has no code of its own for it.
        400 if said.code.as_deref() == Some("InvalidRequest") => (
            Outcome::Unverifiable,
            format!("S3 asks for the key that its writer keeps: SSE-C, which nobody else can read ({said})"),
        ),
        400 => (Outcome::Unverifiable, format!("S3 does not show it to this function ({said})")),
        _ => (Outcome::Unknown, format!("looking at it came to: {said}")),
    }
}

/// What it means that an object under the right key could not be read.
#[must_use]
pub fn unread(said: &Said, reader: &str) -> Because {
    match said.code.as_deref() {
        Some("NoSuchKey" | "NoSuchVersion" | "MethodNotAllowed") => {
            (Outcome::Gone, "it was deleted meanwhile".to_owned())
        }
        Some("InvalidObjectState") => (Outcome::NeedsRestore, "it is archived: restore it to read it".to_owned()),
        Some(code) if code.starts_with("KMS.") => {
            (Outcome::KeyUnusable, format!("it is under the right key, which does not decrypt it: {said}"))
        }
        _ => (Outcome::Unverifiable, format!("it is under the right key, and {reader} can't read it: {said}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: &str = "222222222222";

    fn key(id: &str) -> KeyArn {
        KeyArn::parse(&format!("arn:aws:kms:ap-northeast-1:{ACCOUNT}:key/{id}")).unwrap()
    }

    fn kms(id: &str) -> Encryption {
        Encryption::Kms(key(id).to_string())
    }

    fn outcome(standing: &Standing) -> Result<bool, Outcome> {
        match standing {
            Standing::Right => Ok(true),
            Standing::Wrong => Ok(false),
            Standing::Settled((outcome, _)) => Err(*outcome),
        }
    }

    #[test]
    fn an_encryption_is_judged_by_its_key() {
        let right = key("right");
        let fine = Described::Usable(right.clone());
        let usable = |id: &str| Some(Described::Usable(key(id)));
        let foreign = |name: &str| Encryption::Kms(format!("arn:aws:kms:ap-northeast-1:111111111111:{name}"));
        let cases = [
            (kms("right"), usable("right"), Ok(true)),
            (Encryption::Dual(right.to_string()), usable("right"), Ok(true)),
            (Encryption::OfS3, None, Ok(false)),
            (kms("other"), usable("other"), Ok(false)),
            (Encryption::Dual(key("other").to_string()), usable("other"), Ok(false)),
            // A replica of the right key in another region is another key.
            (Encryption::Kms(right.as_str().replace("ap-northeast-1", "us-east-1")), usable("other"), Ok(false)),
            (Encryption::Kms("alias/artifacts".into()), usable("right"), Ok(true)),
            (Encryption::Kms("alias/aws/s3".into()), usable("managed"), Ok(false)),
            (kms("other"), Some(Described::Hidden("AccessDenied".into())), Ok(false)),
            (Encryption::Kms("alias/x".into()), Some(Described::Hidden("no".into())), Err(Outcome::Unverifiable)),
            (kms("other"), Some(Described::Unusable(key("other"), "Disabled".into())), Err(Outcome::KeyUnusable)),
            (kms("other"), Some(Described::Missing), Err(Outcome::KeyUnusable)),
            (foreign("key/a"), None, Err(Outcome::ForeignKey)),
            (foreign("alias/aws/s3"), None, Err(Outcome::ForeignKey)),
            (Encryption::Other("aws:fsx".into()), None, Err(Outcome::Unknown)),
        ];
        for (encryption, under, expected) in cases {
            let standing = standing(&encryption, under.as_ref(), &right, &fine, ACCOUNT);
            assert_eq!(outcome(&standing), expected, "{encryption:?}");
        }
    }

    #[test]
    fn a_right_key_that_does_not_work_mends_nothing() {
        let right = key("right");
        let cases = [
            (Described::Unusable(right.clone(), "PendingDeletion".into()), Outcome::KeyUnusable),
            (Described::Missing, Outcome::KeyUnusable),
            (Described::Hidden("AccessDenied".into()), Outcome::Unverifiable),
        ];
        for (right_is, expected) in cases {
            for encryption in [Encryption::OfS3, kms("right")] {
                let standing = standing(&encryption, Some(&right_is), &right, &right_is, ACCOUNT);
                assert_eq!(outcome(&standing), Err(expected), "{right_is:?} {encryption:?}");
            }
        }
    }

    #[test]
    fn the_key_of_another_account_can_be_the_right_one() {
        let right = KeyArn::parse("arn:aws:kms:ap-northeast-1:333333333333:key/shared").unwrap();
        let fine = Described::Usable(right.clone());
        let standing = standing(&Encryption::Kms(right.to_string()), None, &right, &fine, ACCOUNT);
        assert_eq!(standing, Standing::Right);
    }

    #[test]
    fn what_s3_does_not_show_is_not_taken_for_gone() {
        let said = |status| Said { status, code: None, message: None };
        let cases = [
            (404, Outcome::Gone),
            (405, Outcome::Gone),
            (403, Outcome::Unverifiable),
            (400, Outcome::Unverifiable),
            (301, Outcome::Unknown),
            (412, Outcome::Unknown),
        ];
        for (status, expected) in cases {
            assert_eq!(unseen(&said(status)).0, expected, "{status}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let cases = [
            (403, "AccessDenied", Outcome::Unverifiable),
            (403, "InvalidObjectState", Outcome::NeedsRestore),
            (400, "KMS.DisabledException", Outcome::KeyUnusable),
            (400, "KMS.KMSInvalidStateException", Outcome::KeyUnusable),
            (404, "NoSuchKey", Outcome::Gone),
            (404, "NoSuchVersion", Outcome::Gone),
        ];
        for (status, code, expected) in cases {
            let said = Said { status, code: Some(code.to_owned()), message: None };
            assert_eq!(unread(&said, "this function").0, expected, "{code}");
        }
    }
}
