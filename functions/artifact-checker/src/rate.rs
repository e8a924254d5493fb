//! The rates of the requests of a sweep, which leave at least half of what AWS allows to pipelines.

/// The most requests per second that a sweep sends. 0 means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// GET and HEAD requests to S3.
    pub s3: u32,
    /// Requests to KMS, most of which S3 sends on behalf of a request to S3.
    pub kms: u32,
}

impl Rates {
    /// Half of what AWS allows: 5,500 GET and HEAD requests to one prefix of a bucket, and 5,500 requests of an account
    /// to KMS, which is the lowest limit of all regions. A sweep goes through a bucket in the order of the keys, so its
    /// requests go to one prefix at a time.
    pub const HALF: Self = Self { s3: 2_750, kms: 2_750 };
    /// No limits, for the check of a single object.
    pub const UNLIMITED: Self = Self { s3: 0, kms: 0 };
}
