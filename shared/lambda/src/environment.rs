//! The process's environment, read once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sekisho_domain::account::{AccountId, Malformed};
use sekisho_domain::config::{Document, Misconfigured};

/// Names the ledger's table.
pub const LEDGER_TABLE: &str = "LEDGER_TABLE";
/// Names another configuration file than [`CONFIG_FILE`].
pub const SEKISHO_CONFIG: &str = "SEKISHO_CONFIG";
/// Where the layer puts the configuration.
pub const CONFIG_FILE: &str = "/opt/sekisho.toml";
/// `TRACE`, `DEBUG`, `INFO`, `WARN`, `ERROR` or `FATAL`: lines below it are not written.
pub const LOG_LEVEL: &str = "AWS_LAMBDA_LOG_LEVEL";
/// The function's name, set by Lambda.
pub const FUNCTION_NAME: &str = "AWS_LAMBDA_FUNCTION_NAME";

/// The variables as they were when the process started.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Of this process; what is not Unicode is left out.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn of_process() -> Self {
        Self(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect())
    }

    /// The value, where the variable is set and not empty.
    #[must_use]
    pub fn optional(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The value.
    ///
    /// # Errors
    /// Where it is not set, or empty.
    pub fn required(&self, name: &str) -> Result<&str, Misconfigured> {
        self.optional(name).ok_or_else(|| Misconfigured {
            file: "environment".to_owned(),
            key: name.to_owned(),
            reason: "not set: deploy the function with the template, which sets it".to_owned(),
        })
    }

    /// The value as an account id.
    ///
    /// # Errors
    /// Where it is not set, or none.
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
    /// Where it cannot be read, or is no TOML.
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
    fn empty_is_not_set() {
        let environment: Environment = [("A", ""), ("B", "b")].into_iter().collect();
        assert_eq!(environment.required("A").unwrap_err().key, "A");
        assert_eq!(environment.required("B").unwrap(), "b");
    }

    #[test]
    fn a_missing_file_is_named() {
        let environment: Environment = [(SEKISHO_CONFIG, "/nowhere/sekisho.toml")].into_iter().collect();
        let error = environment.configuration().unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/sekisho.toml: file: cannot be read"), "{error}");
    }
}
