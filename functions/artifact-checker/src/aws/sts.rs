//! STS: a session of the role that consumes the artifacts.

use aws_sdk_s3::config::Credentials;
use aws_sdk_sts::Client;
use sekisho_lambda::aws::Later;
use sekisho_lambda::service_error::ServiceError;

use crate::aws::s3::S3;
use crate::aws::service_error;
use crate::verdict::in_words;

const ASSUME_ROLE: &str = "sts:AssumeRole";
const SESSION_NAME: &str = "sekisho-artifact-checker";

/// The reader that proves that an object can be read.
#[derive(Debug)]
pub(crate) enum Reader {
    Client {
        s3: S3,
        /// The reader's name for people.
        name: String,
    },
    /// The consumer's role could not be assumed, for this reason.
    Unavailable(String),
}

/// The configured reader: a session of the consumer's role, or this function if no role is configured. A session lasts
/// an hour, which is longer than an invocation.
pub(crate) async fn reader(
    sts: &Later<Client>,
    s3: &aws_sdk_s3::Client,
    role: Option<&str>,
    account: &str,
) -> Result<Reader, ServiceError> {
    let Some(role) = role else {
        return Ok(Reader::Client { s3: S3::new(s3.clone(), account), name: "this function".to_owned() });
    };
    let unavailable = |why: &str| {
        Ok(Reader::Unavailable(format!("this function cannot assume the consumer's role {role} to read it: {why}")))
    };
    let answer = match sts.assume_role().role_arn(role).role_session_name(SESSION_NAME).send().await {
        Ok(answer) => answer,
        Err(error) => {
            let error = service_error(ASSUME_ROLE, error);
            return if error.is_refused() { unavailable(&in_words(&error)) } else { Err(error) };
        }
    };
    let Some(session) = answer.credentials else { return unavailable("the answer of STS contains no credentials") };
    let token = Some(session.session_token);
    let credentials = Credentials::new(session.access_key_id, session.secret_access_key, token, None, ASSUME_ROLE);
    let config = s3.config().to_builder().credentials_provider(credentials).build();
    let s3 = S3::new(aws_sdk_s3::Client::from_conf(config), account);
    Ok(Reader::Client { s3, name: format!("the consumer's role {role}") })
}
