//! The outcomes of a check.

use serde::{Deserialize, Serialize};

/// The result of checking an object, a bucket or an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The object is under the right key, the key works, and the object can be read.
    Compliant,
    /// The object was under a wrong key, and is now compliant.
    Repaired,
    /// The object is under a wrong key of this account and was not changed, or a bucket or pipeline is misconfigured.
    Reported,
    /// The object does not exist any more.
    Gone,
    /// The object is under another account's key, so this function cannot repair it.
    ForeignKey,
    /// The object's key or the right key does not work.
    KeyUnusable,
    /// The object is archived, and cannot be read until somebody restores it.
    NeedsRestore,
    /// S3 or KMS does not show this function the facts that a decision needs.
    Unverifiable,
    /// The object is under a wrong key again after several repairs.
    NonConverging,
    /// This function could not decide, for example because S3 gave an unknown answer or the bucket's right key is
    /// unclear.
    Unknown,
    /// A pipeline stage that failed because of the artifact was retried.
    Retried,
    /// Somebody accepted a finding.
    Accepted,
    /// The event concerns no artifact, another invocation handles the object or the sweep, or a notice about the
    /// finding was sent recently.
    Ignored,
}

impl Outcome {
    /// Whether a person should act on the outcome.
    #[must_use]
    pub fn is_finding(self) -> bool {
        !matches!(self, Self::Compliant | Self::Repaired | Self::Gone | Self::Retried | Self::Accepted | Self::Ignored)
    }

    /// The outcome's name in decisions and metrics.
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
            Self::Retried => "retried",
            Self::Accepted => "accepted",
            Self::Ignored => "ignored",
        }
    }
}
