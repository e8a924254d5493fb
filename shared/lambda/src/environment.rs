//! The process's environment variables, and the names of all variables that the functions read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sekisho_domain::account::{AccountId, Malformed};
use sekisho_domain::config::{Document, Misconfigured};

/// The name of the ledger table.
pub const LEDGER_TABLE: &str = "LEDGER_TABLE";
/// The ARN of the SNS topic for notices.
pub const NOTICE_TOPIC_ARN: &str = "NOTICE_TOPIC_ARN";
/// The account whose changes pipeline-starter accepts.
pub const REPOSITORY_ACCOUNT_ID: &str = "REPOSITORY_ACCOUNT_ID";
/// The ARN of the permissions boundary that a principal must have to get access from temp-access.
pub const ACCESS_BOUNDARY_ARN: &str = "ACCESS_BOUNDARY_ARN";
/// The account whose temp-access may hand requests on to this one. Empty without a hub.
pub const HUB_ACCOUNT_ID: &str = "HUB_ACCOUNT_ID";
/// The identity store in which temp-access looks up people of Identity Center.
pub const IDENTITY_STORE_ID: &str = "IDENTITY_STORE_ID";
/// The region of that identity store.
pub const IDENTITY_CENTER_REGION: &str = "IDENTITY_CENTER_REGION";
/// The ARN of the policy `sekisho-window`, through which people of Identity Center get access.
pub const WINDOW_POLICY_ARN: &str = "WINDOW_POLICY_ARN";
/// The name of the artifact bucket that artifact-checker checks.
pub const ARTIFACT_BUCKET: &str = "ARTIFACT_BUCKET";
/// The full ARN of the KMS key with which artifact-checker expects artifacts to be encrypted.
pub const ARTIFACT_KEY_ARN: &str = "ARTIFACT_KEY_ARN";
/// The URL of the queue of the ranges of artifact-checker's sweeps.
pub const SWEEP_QUEUE_URL: &str = "SWEEP_QUEUE_URL";
/// How many invocations may work on these ranges at the same time.
pub const SWEEP_CONCURRENCY: &str = "SWEEP_CONCURRENCY";
/// The path of the configuration file, if it is not [`CONFIG_FILE`].
pub const SEKISHO_CONFIG: &str = "SEKISHO_CONFIG";
/// The path of the configuration file in the layer.
pub const CONFIG_FILE: &str = "/opt/sekisho.toml";
/// The lowest level that is logged: `TRACE`, `DEBUG`, `INFO`, `WARN`, `ERROR` or `FATAL`.
pub(crate) const LOG_LEVEL: &str = "AWS_LAMBDA_LOG_LEVEL";
/// The function's region.
pub const REGION: &str = "AWS_REGION";
/// The endpoint of every service, if it is not AWS's own.
pub const ENDPOINT_URL: &str = "AWS_ENDPOINT_URL";
/// The endpoint of S3, if it is not AWS's own.
pub const S3_ENDPOINT_URL: &str = "AWS_ENDPOINT_URL_S3";
pub(crate) const ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";
pub(crate) const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";
pub(crate) const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";
/// OpenSSL's variables for certificate authorities other than Amazon's.
pub(crate) const OTHER_AUTHORITIES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The variables as they were when the process started.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process. Variables that are not Unicode are left out.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn of_process() -> Self {
        Self(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect())
    }

    /// The value of a variable, or `None` if it is unset or empty.
    #[must_use]
    pub fn optional(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The value of a variable.
    ///
    /// # Errors
    /// If the variable is unset or empty.
    pub fn required(&self, name: &str) -> Result<&str, Misconfigured> {
        self.optional(name).ok_or_else(|| Misconfigured {
            file: "environment".to_owned(),
            key: name.to_owned(),
            reason: "not set: deploy the function with the template, which sets it".to_owned(),
        })
    }

    /// The value of a variable that holds an account id.
    ///
    /// # Errors
    /// If the variable is unset, empty or not an account id.
    pub fn account(&self, name: &str) -> Result<AccountId, Misconfigured> {
        self.required(name)?.parse().map_err(|error: Malformed| Misconfigured {
            file: "environment".to_owned(),
            key: name.to_owned(),
            reason: error.to_string(),
        })
    }

    /// Reads the configuration file.
    ///
    /// # Errors
    /// If the file cannot be read or is not TOML.
    pub fn configuration(&self) -> Result<Document, Misconfigured> {
        let path = PathBuf::from(self.optional(SEKISHO_CONFIG).unwrap_or(CONFIG_FILE));
        let file = path.display().to_string();
        match std::fs::read_to_string(&path) {
            Ok(text) => Document::parse(&file, &text),
            Err(error) => Err(Misconfigured {
                file,
                key: "file".to_owned(),
                reason: format!(
                    "cannot be read ({error}): deploy with the configuration layer, or set {SEKISHO_CONFIG}"
                ),
            }),
        }
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let environment: Environment = [("A", ""), ("B", "b")].into_iter().collect();
        assert_eq!(environment.required("A").unwrap_err().key, "A");
        assert_eq!(environment.required("B").unwrap(), "b");
    }

    #[test]
    fn the_error_names_the_missing_file() {
        let environment: Environment = [(SEKISHO_CONFIG, "/nowhere/sekisho.toml")].into_iter().collect();
        let error = environment.configuration().unwrap_err();
        assert_eq!((error.file.as_str(), error.key.as_str()), ("/nowhere/sekisho.toml", "file"));
    }
}
