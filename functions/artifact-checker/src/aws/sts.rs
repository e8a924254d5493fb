//! STS: obtains credentials of another role.

use aws_sdk_s3::config::Credentials;
use aws_sdk_sts::Client;
use sekisho_lambda::ServiceError;
use sekisho_lambda::aws::Later;

use crate::aws::service_error;

const ASSUME_ROLE: &str = "sts:AssumeRole";
const SESSION_NAME: &str = "sekisho-artifact-checker";

/// Assumes a role. The credentials last an hour, which is longer than an invocation. Returns `None` if the answer
/// contains no credentials.
pub(crate) async fn assume_role(sts: &Later<Client>, role: &str) -> Result<Option<Credentials>, ServiceError> {
    let answer = sts.assume_role().role_arn(role).role_session_name(SESSION_NAME).send().await;
    let answer = answer.map_err(|error| service_error(ASSUME_ROLE, error))?;
    Ok(answer.credentials.map(|session| {
        let token = Some(session.session_token);
        Credentials::new(session.access_key_id, session.secret_access_key, token, None, ASSUME_ROLE)
    }))
}
