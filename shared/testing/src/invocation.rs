//! Invocations as Lambda describes them.

use sekisho_lambda::Invocation;
use time::OffsetDateTime;

/// The region of every invocation.
pub const REGION: &str = "ap-northeast-1";

/// An invocation of `function` without an alias in `account`, with the request id `request-1`, that Lambda ends at
/// `deadline`.
#[must_use]
pub fn invocation(function: &str, account: &str, deadline: OffsetDateTime) -> Invocation {
    Invocation {
        request_id: "request-1".to_owned(),
        partition: "aws".to_owned(),
        account: account.parse().unwrap(),
        region: REGION.parse().unwrap(),
        function: function.to_owned(),
        qualifier: None,
        deadline,
    }
}
