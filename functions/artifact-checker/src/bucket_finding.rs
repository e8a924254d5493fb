//! The finding that this function may not read a bucket.

use sekisho_domain::decision::Decision;

use crate::outcome::Outcome;

/// The name of the concern that marks a finding of which people are not reminded. Nobody has asked this function to
/// check the bucket.
pub(crate) const QUIET: &str = "closed";

/// The finding that this function may not read a bucket. The reason says which permissions to add. `answer` is S3's
/// answer.
pub(crate) fn closed(bucket: &str, partition: &str, region: &str, answer: &str) -> Decision<Outcome> {
    let reason = format!(
        "a pipeline stores its artifacts in the bucket, and this function may not read the bucket ({answer}). To have \
         the bucket checked, give the role sekisho-artifact-checker-{region} the permissions that it has for its own \
         bucket: s3:GetBucketPolicy, s3:GetBucketPublicAccessBlock, s3:GetEncryptionConfiguration, s3:ListBucket and \
         s3:ListBucketVersions on arn:{partition}:s3:::{bucket}, the actions of its statement ReadAndMendArtifacts on \
         arn:{partition}:s3:::{bucket}/*, and those of EncryptArtifacts on the bucket's key. If the bucket \
         need not be checked, do nothing"
    );
    Decision::new(Outcome::Unverifiable, reason).about("bucket", bucket).about("problem", "closed").about(QUIET, "true")
}
