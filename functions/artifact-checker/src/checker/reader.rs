//! The reader, which reads a byte of an object to prove that the object can be read.

use sekisho_lambda::ServiceError;
use sekisho_ledger::Store;

use crate::aws::s3::S3;
use crate::aws::sts;
use crate::run::Run;
use crate::verdict::in_words;

/// The identity that reads objects for a check.
#[derive(Debug)]
pub(crate) enum Reader {
    Client {
        s3: S3,
        /// The reader's name in messages.
        name: String,
    },
    /// The consumer's role could not be assumed, for this reason.
    Unavailable(String),
}

impl Reader {
    /// The configured reader of a bucket: a session of the consumer's role, or this function if no role is configured.
    pub(crate) async fn configured<L: Store>(run: &Run<'_, L>, bucket: &str) -> Result<Self, ServiceError> {
        let Some(role) = run.settings.artifacts.consumer_role(bucket) else {
            return Ok(Self::Client { s3: run.s3(), name: "this function".to_owned() });
        };
        let why = match sts::assume_role(&run.clients.sts, role).await {
            Ok(Some(credentials)) => {
                let s3 = run.s3().with_credentials(credentials);
                return Ok(Self::Client { s3, name: format!("the consumer's role {role}") });
            }
            Ok(None) => "the answer of STS contains no credentials".to_owned(),
            Err(error) if error.is_refused() => in_words(&error),
            Err(error) => return Err(error),
        };
        Ok(Self::Unavailable(format!(
            "this function cannot assume the consumer's role {role} to read the object: {why}. The stack's parameter \
             ArtifactConsumerRoleArn has to name the role, and the role has to trust this function's role"
        )))
    }
}
