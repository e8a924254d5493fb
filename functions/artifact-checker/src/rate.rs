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
    /// Half of what AWS allows, less 3 %: 5,500 GET and HEAD requests to one prefix of a bucket, and 5,500 requests of an
    /// account to KMS, which is the lowest limit of all regions. S3 does not show its partitions, and a sweep cannot find
    /// them out: S3 refuses requests only if a partition gets more than its whole rate, and then also those of pipelines.
    /// The ranges of a sweep therefore share these rates, unless the configuration names the partitions.
    ///
    /// Requests that have to wait pass together, so a second may have some more requests than the rate. The 3 % are for
    /// them, so that no second has more than half.
    pub const HALF: Self = Self { s3: 5_500 * 97 / 200, kms: 5_500 * 97 / 200 };

    /// The part of one of `invocations` that work at the same time.
    pub(crate) fn share(self, invocations: u32) -> Self {
        // 0 would mean no limit.
        let part = |rate: u32| if rate == 0 { 0 } else { (rate / invocations.max(1)).max(1) };
        Self { s3: part(self.s3), kms: part(self.kms) }
    }

    /// No limits, for the check of a single object.
    pub const UNLIMITED: Self = Self { s3: 0, kms: 0 };
}
