//! The settings that decide who may access a bucket.

use futures_util::join;
use sekisho_lambda::ServiceError;

use crate::aws::s3::S3;
use crate::aws::service_error;
use crate::posture::BucketAccess;

/// Reads the settings. A setting that S3 does not show to this function is `None`.
pub(crate) async fn of_bucket(s3: &S3, bucket: &str) -> Result<BucketAccess, ServiceError> {
    let (blocks_public_access, policy) = join!(blocks_public_access(s3, bucket), policy(s3, bucket));
    Ok(BucketAccess { blocks_public_access: shown(blocks_public_access)?, policy: shown(policy)? })
}

fn shown<T>(answer: Result<T, ServiceError>) -> Result<Option<T>, ServiceError> {
    match answer {
        Ok(setting) => Ok(Some(setting)),
        Err(error) if error.is_refused() => Ok(None),
        Err(error) => Err(error),
    }
}

async fn blocks_public_access(s3: &S3, bucket: &str) -> Result<bool, ServiceError> {
    let answer = s3.client.get_public_access_block().bucket(bucket).expected_bucket_owner(&s3.owner).send().await;
    match answer {
        Ok(output) => Ok(output.public_access_block_configuration.is_some_and(|settings| {
            [
                settings.block_public_acls,
                settings.block_public_policy,
                settings.ignore_public_acls,
                settings.restrict_public_buckets,
            ]
            .into_iter()
            .all(|setting| setting == Some(true))
        })),
        Err(error) => {
            let error = service_error("s3:GetPublicAccessBlock", error);
            match error.code() {
                Some("NoSuchPublicAccessBlockConfiguration") => Ok(false),
                _ => Err(error),
            }
        }
    }
}

/// The bucket's policy; an empty text if the bucket has none.
async fn policy(s3: &S3, bucket: &str) -> Result<String, ServiceError> {
    let answer = s3.client.get_bucket_policy().bucket(bucket).expected_bucket_owner(&s3.owner).send().await;
    match answer {
        Ok(output) => Ok(output.policy.unwrap_or_default()),
        Err(error) => {
            let error = service_error("s3:GetBucketPolicy", error);
            match error.code() {
                Some("NoSuchBucketPolicy") => Ok(String::new()),
                _ => Err(error),
            }
        }
    }
}
