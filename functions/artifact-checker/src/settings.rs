//! The values that the environment and the configuration file set for this function.

use sekisho_domain::artifacts::Artifacts;
use sekisho_domain::config::Misconfigured;
use sekisho_lambda::Environment;
use sekisho_lambda::environment::{ARTIFACT_BUCKET, ARTIFACT_KEY_ARN};

use crate::key::KeyArn;

/// The function's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The `[artifacts]` section of the configuration file.
    pub artifacts: Artifacts,
    /// The artifact bucket that was deployed with this function.
    pub bucket: String,
    /// The right key of `bucket`.
    pub key: KeyArn,
}

impl Settings {
    /// Reads the settings.
    ///
    /// # Errors
    /// If a variable or the `[artifacts]` section is missing or malformed.
    pub(crate) fn read(environment: &Environment) -> Result<Self, Misconfigured> {
        Ok(Self {
            artifacts: environment.configuration()?.artifacts()?,
            bucket: environment.required(ARTIFACT_BUCKET)?.to_owned(),
            key: KeyArn::of_variable(ARTIFACT_KEY_ARN, environment.required(ARTIFACT_KEY_ARN)?)?,
        })
    }
}
