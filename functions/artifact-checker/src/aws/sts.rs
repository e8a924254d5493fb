//! STS: obtains credentials of another role.

use std::borrow::Cow;

use aws_sdk_s3::config::Credentials;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sekisho_lambda::ServiceError;
use sekisho_lambda::signed::Signed;

use crate::aws::element;

const OPERATION: &str = "sts:AssumeRole";
const FORM: &str = "application/x-www-form-urlencoded";
const SESSION_NAME: &str = "sekisho-artifact-checker";

/// Assumes a role. The credentials last an hour, which is longer than an invocation. Returns `None` if the answer
/// contains no credentials.
pub(crate) async fn assume_role(sts: &Signed, role: &str) -> Result<Option<Credentials>, ServiceError> {
    let role = utf8_percent_encode(role, NON_ALPHANUMERIC);
    let body = format!("Action=AssumeRole&Version=2011-06-15&RoleArn={role}&RoleSessionName={SESSION_NAME}");
    let answer = sts.post("/", &[("content-type", FORM)], body).await;
    // All calls of STS have the same path.
    let answer = answer.map_err(|error| ServiceError { operation: Cow::Borrowed(OPERATION), ..error })?;
    let of_session = |name| element(&answer.body, name);
    let parts = (of_session("AccessKeyId"), of_session("SecretAccessKey"), of_session("SessionToken"));
    let (Some(key), Some(secret), Some(token)) = parts else { return Ok(None) };
    Ok(Some(Credentials::new(key, secret, Some(token), None, OPERATION)))
}
