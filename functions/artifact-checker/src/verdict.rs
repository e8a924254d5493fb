//! Derives the verdict on an object from the answers of S3 and KMS.

use sekisho_lambda::ServiceError;
use serde::{Deserialize, Serialize};

use crate::key::{KeyArn, KeyStatus, account_in_name};
use crate::object::Encryption;
use crate::outcome::Outcome;
use crate::repair::{RepairPlan, Step};

/// An outcome, and its reason in one sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) outcome: Outcome,
    pub(crate) reason: String,
}

impl Verdict {
    fn new(outcome: Outcome, reason: impl Into<String>) -> Self {
        Self { outcome, reason: reason.into() }
    }
}

/// The result of comparing an object's encryption with the right key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The object is under the right key.
    Right,
    /// The object is under a wrong key of this account or under S3's own key, and a repair is possible.
    Wrong,
    /// No repair is possible. The value is the verdict on the object.
    Settled(Verdict),
}

/// Compares an object's encryption with the right key. `status` is the status of the object's key if the key belongs to
/// `account`; `right_status` is the status of the right key.
pub(crate) fn standing(
    encryption: &Encryption,
    status: Option<&KeyStatus>,
    right: &KeyArn,
    right_status: &KeyStatus,
    account: &str,
) -> Standing {
    if let Encryption::Other(name) = encryption {
        return settled(Outcome::Unknown, format!("its encryption is `{name}`, which this function does not know"));
    }
    let key = match (encryption.key(), status) {
        (None, _) => None,
        (Some(name), _) if name == right.as_str() => Some(right),
        (Some(name), _) if account_in_name(name).is_some_and(|owner| owner != account) => {
            let owner = account_in_name(name).unwrap_or_default();
            return settled(
                Outcome::ForeignKey,
                format!(
                    "it is under {name}, a key of account {owner}: only that account can put the object under another \
                     key"
                ),
            );
        }
        (Some(_), Some(KeyStatus::Usable(arn) | KeyStatus::Unusable(arn, _))) if arn == right => Some(right),
        (Some(_), Some(KeyStatus::Usable(arn))) => Some(arn),
        (Some(_), Some(KeyStatus::Unusable(arn, state))) => {
            return settled(Outcome::KeyUnusable, format!("it is under {arn}, which is {state}: nobody can read it"));
        }
        (Some(name), Some(KeyStatus::Missing)) => {
            return settled(
                Outcome::KeyUnusable,
                format!("it is under {name}, which does not exist: nobody can read it"),
            );
        }
        // A full ARN identifies the key even if KMS does not show the key. A later request to S3 shows whether the key
        // works.
        (Some(name), Some(KeyStatus::NotShown(_)) | None) if KeyArn::parse(name).is_some() => None,
        (Some(name), Some(KeyStatus::NotShown(why))) => {
            return settled(Outcome::Unverifiable, format!("KMS does not show which key `{name}` is: {why}"));
        }
        (Some(name), None) => return settled(Outcome::Unknown, format!("the key `{name}` was not looked up")),
    };
    match right_status {
        KeyStatus::Usable(_) if key == Some(right) => Standing::Right,
        KeyStatus::Usable(_) => Standing::Wrong,
        KeyStatus::Unusable(_, state) => {
            settled(Outcome::KeyUnusable, format!("the right key {right} is {state}: enable it"))
        }
        KeyStatus::Missing => settled(Outcome::KeyUnusable, format!("the right key {right} does not exist")),
        KeyStatus::NotShown(why) => {
            settled(Outcome::Unverifiable, format!("KMS does not show the state of the right key {right}: {why}"))
        }
    }
}

fn settled(outcome: Outcome, reason: String) -> Standing {
    Standing::Settled(Verdict::new(outcome, reason))
}

/// Describes the error by the service's code and message, or by the HTTP status if the answer has no body.
pub(crate) fn in_words(error: &ServiceError) -> String {
    match (&error.code, error.status) {
        (None, Some(status)) => format!("HTTP status {status}"),
        _ => error.description(),
    }
}

/// The verdict if S3 does not show an object. A 403 is no proof that the object is gone, because S3 also answers 403 if
/// this function may not read an object that exists.
pub(crate) fn not_shown(error: &ServiceError) -> Verdict {
    let answer = in_words(error);
    match error.status {
        Some(404) => Verdict::new(Outcome::Gone, "it does not exist any more"),
        Some(405) => Verdict::new(Outcome::Gone, "the version is a delete marker"),
        Some(403) => {
            Verdict::new(Outcome::Unverifiable, format!("S3 does not let this function read its metadata ({answer})"))
        }
        // S3 has no special error code for SSE-C. It answers `InvalidRequest` if the request lacks the customer key.
        Some(400) if error.code() == Some("InvalidRequest") => Verdict::new(
            Outcome::Unverifiable,
            format!("it is encrypted with SSE-C, so that only the owner of the customer key can read it ({answer})"),
        ),
        Some(400) => Verdict::new(Outcome::Unverifiable, format!("S3 does not show it to this function ({answer})")),
        _ => Verdict::new(Outcome::Unknown, format!("S3 answered the request for it with an unknown error: {answer}")),
    }
}

/// The verdict if an object under the right key could not be read by `reader`.
pub(crate) fn not_readable(error: &ServiceError, reader: &str) -> Verdict {
    let answer = in_words(error);
    match error.code() {
        Some("NoSuchKey" | "NoSuchVersion" | "MethodNotAllowed") => {
            Verdict::new(Outcome::Gone, "it was deleted during the check")
        }
        Some("InvalidObjectState") => Verdict::new(Outcome::NeedsRestore, "it is archived: restore it to read it"),
        Some(code) if code.starts_with("KMS.") => Verdict::new(
            Outcome::KeyUnusable,
            format!("it is under the right key, but KMS does not decrypt it: {answer}"),
        ),
        _ => Verdict::new(
            Outcome::Unverifiable,
            format!("it is under the right key, but {reader} cannot read it: {answer}"),
        ),
    }
}

/// The verdict if the check has no reader, because the consumer's role cannot be assumed.
pub(crate) fn no_reader(reason: &str) -> Verdict {
    Verdict::new(Outcome::Unverifiable, reason)
}

pub(crate) fn compliant_and_read() -> Verdict {
    Verdict::new(Outcome::Compliant, "it is under the right key and can be read")
}

pub(crate) fn compliant_and_not_read() -> Verdict {
    Verdict::new(Outcome::Compliant, "it is under the right key")
}

/// The verdict on an object that was not read, because the last `reads` reads of other objects failed. `last` is the
/// verdict of the last one.
pub(crate) fn not_read_like_others(last: &Verdict, reads: u32) -> Verdict {
    let reason = format!("it was not read, because the last {reads} reads had this result: {}", last.reason);
    Verdict::new(last.outcome, reason)
}

pub(crate) fn archived() -> Verdict {
    Verdict::new(Outcome::NeedsRestore, "it is under the right key, and archived: restore it to read it")
}

/// `encryption` is the encryption before the repair. If the repair made a new version, `copied` is the encryption of the
/// version that was copied.
pub(crate) fn repaired(encryption: &str, copied: Option<&Encryption>) -> Verdict {
    let now = if copied.is_some() { "a copy of it, as the latest version," } else { "it" };
    let may_lose_context = copied.is_some_and(|copied| copied.key().is_some());
    let loss =
        if may_lose_context { "; an additional encryption context, which S3 does not show, is not kept" } else { "" };
    let reason = format!("it was under {encryption}; now {now} is under the right key and can be read{loss}");
    Verdict::new(Outcome::Repaired, reason)
}

/// The verdict on an object under a wrong key, if the plan for it is not executed.
pub(crate) fn of_plan(plan: &RepairPlan, encryption: &str) -> Verdict {
    match plan {
        RepairPlan::Step(step) => {
            let step = match step {
                Step::Update => "put it under the right key in place",
                Step::Copy => "copy it onto itself under the right key",
                Step::CopyInParts(_) => "copy it onto itself in parts under the right key",
            };
            Verdict::new(Outcome::Reported, format!("it is under {encryption}: a repair would {step}"))
        }
        RepairPlan::Leave(why) => {
            Verdict::new(Outcome::Reported, format!("it is under {encryption} and was not changed: {why}"))
        }
        RepairPlan::Restore => Verdict::new(
            Outcome::NeedsRestore,
            format!("it is under {encryption}, and archived: restore it, so that it can be copied"),
        ),
    }
}

/// The verdict on an object under a wrong key that a sweep leaves to S3 Batch Operations.
pub(crate) fn left_to_job(encryption: &str) -> Verdict {
    Verdict::new(Outcome::Reported, format!("it is under {encryption}, and its repair is left to S3 Batch Operations"))
}

/// The verdict on an object under a wrong key that stays as it is: the sweep has repaired as many objects as the
/// configuration allows, and a job can't repair this one.
pub(crate) fn above_limit(encryption: &str) -> Verdict {
    let why = "the sweep has repaired as many objects as `confirm_above` allows: raise it to let a sweep repair more";
    Verdict::new(Outcome::Reported, format!("it is under {encryption}, and {why}"))
}

/// The verdict if S3 refused the write of a repair.
pub(crate) fn not_repaired(error: &ServiceError, encryption: &str) -> Verdict {
    let answer = in_words(error);
    match error.code() {
        Some("InvalidObjectState") => of_plan(&RepairPlan::Restore, encryption),
        Some(code) if code.starts_with("KMS.") => Verdict::new(
            Outcome::KeyUnusable,
            format!("it is under {encryption}, and its key or the right key does not work: {answer}"),
        ),
        _ => Verdict::new(Outcome::Reported, format!("it is under {encryption}, and S3 refuses the repair: {answer}")),
    }
}

/// The verdict if an object is still under a wrong key after the allowed number of repairs.
pub(crate) fn not_converging(encryption: &str) -> Verdict {
    Verdict::new(
        Outcome::NonConverging,
        format!("it is under {encryption} again after three repairs within minutes: find out who writes it"),
    )
}

#[cfg(test)]
mod tests {
    use sekisho_lambda::service_error::Kind;

    use super::*;

    const ACCOUNT: &str = "222222222222";

    fn key(id: &str) -> KeyArn {
        KeyArn::parse(&format!("arn:aws:kms:ap-northeast-1:{ACCOUNT}:key/{id}")).unwrap()
    }

    fn kms(id: &str) -> Encryption {
        Encryption::Kms(key(id).to_string())
    }

    fn refused(status: u16, code: Option<&str>) -> ServiceError {
        ServiceError {
            operation: "s3:HeadObject".into(),
            kind: Kind::Refused,
            code: code.map(str::to_owned),
            message: None,
            status: Some(status),
            source: "refused".into(),
        }
    }

    fn outcome(standing: &Standing) -> Result<bool, Outcome> {
        match standing {
            Standing::Right => Ok(true),
            Standing::Wrong => Ok(false),
            Standing::Settled(verdict) => Err(verdict.outcome),
        }
    }

    #[test]
    fn an_encryption_is_compared_by_its_key() {
        let right = key("right");
        let fine = KeyStatus::Usable(right.clone());
        let usable = |id: &str| Some(KeyStatus::Usable(key(id)));
        let foreign = |name: &str| Encryption::Kms(format!("arn:aws:kms:ap-northeast-1:111111111111:{name}"));
        let cases = [
            (kms("right"), usable("right"), Ok(true)),
            (Encryption::DualLayer(right.to_string()), usable("right"), Ok(true)),
            (Encryption::S3Managed, None, Ok(false)),
            (kms("other"), usable("other"), Ok(false)),
            (Encryption::DualLayer(key("other").to_string()), usable("other"), Ok(false)),
            // A replica of the right key in another region has another ARN, so the replica is a wrong key.
            (Encryption::Kms(right.as_str().replace("ap-northeast-1", "us-east-1")), usable("other"), Ok(false)),
            (Encryption::Kms("alias/artifacts".into()), usable("right"), Ok(true)),
            (Encryption::Kms("alias/aws/s3".into()), usable("managed"), Ok(false)),
            (kms("other"), Some(KeyStatus::NotShown("AccessDenied".into())), Ok(false)),
            (Encryption::Kms("alias/x".into()), Some(KeyStatus::NotShown("no".into())), Err(Outcome::Unverifiable)),
            (kms("other"), Some(KeyStatus::Unusable(key("other"), "Disabled".into())), Err(Outcome::KeyUnusable)),
            (kms("other"), Some(KeyStatus::Missing), Err(Outcome::KeyUnusable)),
            (foreign("key/a"), None, Err(Outcome::ForeignKey)),
            (foreign("alias/aws/s3"), None, Err(Outcome::ForeignKey)),
            (Encryption::Other("aws:fsx".into()), None, Err(Outcome::Unknown)),
        ];
        for (encryption, status, expected) in cases {
            let standing = standing(&encryption, status.as_ref(), &right, &fine, ACCOUNT);
            assert_eq!(outcome(&standing), expected, "{encryption:?}");
        }
    }

    #[test]
    fn no_repair_is_possible_if_the_right_key_does_not_work() {
        let right = key("right");
        let cases = [
            (KeyStatus::Unusable(right.clone(), "PendingDeletion".into()), Outcome::KeyUnusable),
            (KeyStatus::Missing, Outcome::KeyUnusable),
            (KeyStatus::NotShown("AccessDenied".into()), Outcome::Unverifiable),
        ];
        for (right_status, expected) in cases {
            for encryption in [Encryption::S3Managed, kms("right")] {
                let standing = standing(&encryption, Some(&right_status), &right, &right_status, ACCOUNT);
                assert_eq!(outcome(&standing), Err(expected), "{right_status:?} {encryption:?}");
            }
        }
    }

    #[test]
    fn the_right_key_can_belong_to_another_account() {
        let right = KeyArn::parse("arn:aws:kms:ap-northeast-1:333333333333:key/shared").unwrap();
        let fine = KeyStatus::Usable(right.clone());
        let standing = standing(&Encryption::Kms(right.to_string()), None, &right, &fine, ACCOUNT);
        assert_eq!(standing, Standing::Right);
    }

    #[test]
    fn an_object_that_s3_does_not_show_is_not_taken_for_gone() {
        let cases = [
            (404, Outcome::Gone),
            (405, Outcome::Gone),
            (403, Outcome::Unverifiable),
            (400, Outcome::Unverifiable),
            (301, Outcome::Unknown),
            (412, Outcome::Unknown),
        ];
        for (status, expected) in cases {
            assert_eq!(not_shown(&refused(status, None)).outcome, expected, "{status}");
        }
    }

    #[test]
    fn an_unreadable_object_has_a_verdict_for_each_cause() {
        let cases = [
            (403, "AccessDenied", Outcome::Unverifiable),
            (403, "InvalidObjectState", Outcome::NeedsRestore),
            (400, "KMS.DisabledException", Outcome::KeyUnusable),
            (400, "KMS.KMSInvalidStateException", Outcome::KeyUnusable),
            (404, "NoSuchKey", Outcome::Gone),
            (404, "NoSuchVersion", Outcome::Gone),
        ];
        for (status, code, expected) in cases {
            assert_eq!(not_readable(&refused(status, Some(code)), "this function").outcome, expected, "{code}");
        }
    }
}
