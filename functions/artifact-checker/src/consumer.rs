//! STS: reading as the role that consumes the artifacts.

use aws_sdk_s3::config::Credentials;
use aws_sdk_sts::Client;
use sekisho_lambda::aws::Later;

use crate::answer::{Refusal, Unanswered};
use crate::s3::S3;
use crate::sdk::refusal;

const ASSUME: &str = "sts:AssumeRole";
const SESSION: &str = "sekisho-artifact-checker";

/// Who proves that an object can be read.
#[derive(Debug)]
pub enum Reader {
    /// This function, or the consumer's role; the name is for people.
    As(S3, String),
    /// The consumer's role could not be taken, for this reason.
    Nobody(String),
}

/// The reader that the configuration names: the role, or this function where it names none. A session lasts an hour,
/// longer than an invocation.
///
/// # Errors
/// Where STS did not answer.
pub async fn reader(
    sts: &Later<Client>,
    s3: &aws_sdk_s3::Client,
    role: Option<&str>,
    account: &str,
) -> Result<Reader, Unanswered> {
    let Some(role) = role else { return Ok(Reader::As(S3::new(s3.clone(), account), "this function".to_owned())) };
    let session = match sts.assume_role().role_arn(role).role_session_name(SESSION).send().await {
        Ok(answer) => answer.credentials,
        Err(error) => match refusal(ASSUME, error) {
            Refusal::Said(said) => {
                return Ok(Reader::Nobody(format!("the consumer's role {role} can't be taken to read it: {said}")));
            }
            refused @ Refusal::Later(_) => return Err(refused.into_unanswered(ASSUME)),
        },
    };
    let Some(session) = session else {
        return Ok(Reader::Nobody(format!(
            "the consumer's role {role} can't be taken to read it: no credentials came"
        )));
    };
    let credentials =
        Credentials::new(session.access_key_id, session.secret_access_key, Some(session.session_token), None, ASSUME);
    let config = s3.config().to_builder().credentials_provider(credentials).build();
    Ok(Reader::As(S3::new(aws_sdk_s3::Client::from_conf(config), account), format!("the consumer's role {role}")))
}
