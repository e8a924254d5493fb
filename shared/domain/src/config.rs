//! `sekisho.toml`: one file for all accounts. Each section is checked separately.
//!
//! Each function reads only the section that it uses, so that a mistake in a route never keeps a person out of
//! production. Only the functions that read routes reject an unknown top-level key, because it may be a mistyped
//! `[[route]]`. If `[access]` or `[artifacts]` is mistyped, the function that needs the section reports a missing
//! section.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use crate::access::{Access, AccountName, TempAccessPlace};
use crate::account::AccountId;
use crate::artifacts::Artifacts;
use crate::route::{Routes, WrittenRoute};

const ROUTE: &str = "route";
const ACCESS: &str = "access";
const ARTIFACTS: &str = "artifacts";

/// The configuration file or the environment cannot be used. The message names the place and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {key}: {reason}")]
pub struct Misconfigured {
    /// The name of the file, or `environment`.
    pub file: String,
    /// The path of the key, such as `route[0].target[1].account`, or `line 3, column 5` if the file is not TOML.
    pub key: String,
    /// What is wrong, and what to write instead.
    pub reason: String,
}

/// A file that is valid TOML, and whose sections are not checked yet.
#[derive(Debug, Clone)]
pub struct Document {
    file: String,
    table: toml::Table,
}

impl Document {
    /// Parses the TOML. Messages use `file` as the file's name.
    ///
    /// # Errors
    /// If the text is not TOML. The error's key then holds the line and the column.
    pub fn parse(file: &str, text: &str) -> Result<Self, Misconfigured> {
        match text.parse::<toml::Table>() {
            Ok(table) => Ok(Self { file: file.to_owned(), table }),
            Err(error) => {
                let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
                let line = before.matches('\n').count() + 1;
                let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
                Err(Misconfigured {
                    file: file.to_owned(),
                    key: format!("line {line}, column {column}"),
                    reason: format!("not TOML: {}; correct it and deploy again", error.message()),
                })
            }
        }
    }

    /// The `[[route]]` entries. The time zones of windows are not looked up.
    ///
    /// # Errors
    /// If there is no route, a route is wrong, or a top-level key is unknown.
    pub fn routes(&self) -> Result<Routes, Misconfigured> {
        if let Some(unknown) = self.table.keys().find(|key| ![ROUTE, ACCESS, ARTIFACTS].contains(&key.as_str())) {
            return Err(self.wrong(
                unknown,
                "unknown key: the file holds `[[route]]`, `[access]` and `[artifacts]`; correct or remove it",
            ));
        }
        let written: Vec<WrittenRoute> = self.section(ROUTE)?;
        let routes = Routes::new(written).map_err(|mistake| self.wrong(&mistake.key, mistake.reason))?;
        Ok(routes.with_account_names(self.account_names()))
    }

    /// The names of accounts, as far as `[access.accounts]` can be read. temp-access reports mistakes in that section,
    /// which must not affect routes.
    fn account_names(&self) -> BTreeMap<AccountId, AccountName> {
        let read = |(name, place): (&String, &toml::Value)| {
            let place = TempAccessPlace::try_from(place.as_str()?.to_owned()).ok()?;
            Some((place.account, name.parse().ok()?))
        };
        let names = self.table.get(ACCESS).and_then(|access| access.get("accounts")?.as_table());
        names.into_iter().flatten().filter_map(read).collect()
    }

    /// The `[[route]]` entries, with the windows of their waves checked against the time zone database. A binary that
    /// calls this contains the database.
    ///
    /// # Errors
    /// As for [`Document::routes`], and if a time zone is unknown or a window never opens.
    pub fn routes_and_windows(&self) -> Result<Routes, Misconfigured> {
        let routes = self.routes()?;
        routes.check_windows().map_err(|mistake| self.wrong(&mistake.key, mistake.reason))?;
        Ok(routes)
    }

    /// The `[access]` section.
    ///
    /// # Errors
    /// If the section is missing or wrong.
    pub fn access(&self) -> Result<Access, Misconfigured> {
        let access: Access = self.section(ACCESS)?;
        access.check().map_err(|mistake| self.wrong(&mistake.key, mistake.reason))?;
        Ok(access)
    }

    /// The `[artifacts]` section.
    ///
    /// # Errors
    /// If the section is missing or wrong.
    pub fn artifacts(&self) -> Result<Artifacts, Misconfigured> {
        self.section(ARTIFACTS)
    }

    fn section<T: DeserializeOwned>(&self, name: &str) -> Result<T, Misconfigured> {
        let Some(value) = self.table.get(name) else {
            return Err(self.wrong(name, "missing: add the section, as in the README's example"));
        };
        serde_path_to_error::deserialize(value.clone()).map_err(|error| {
            let path = error.path().to_string();
            let key = match path.as_str() {
                "." => name.to_owned(),
                inner if inner.starts_with('[') => format!("{name}{inner}"),
                inner => format!("{name}.{inner}"),
            };
            self.wrong(&key, format!("{}; correct it and deploy again", error.into_inner().to_string().trim()))
        })
    }

    fn wrong(&self, key: &str, reason: impl Into<String>) -> Misconfigured {
        Misconfigured { file: self.file.clone(), key: key.to_owned(), reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMITTED: &str = include_str!("../../../config/sekisho.toml");

    fn read(text: &str) -> Document {
        Document::parse("sekisho.toml", text).unwrap()
    }

    #[test]
    fn the_committed_file_has_every_section() {
        let document = read(COMMITTED);
        assert_eq!(document.routes().unwrap().len(), 1);
        assert_eq!(document.access().unwrap().max_minutes.get(), 480);
        assert_eq!(document.artifacts().unwrap().repair, crate::artifacts::Repair::Update);
    }

    /// Each case changes the file `config/sekisho.toml` of this repository in one place.
    #[test]
    fn a_mistake_in_a_route_is_named_and_affects_no_other_section() {
        let cases = [
            (r"branches   = ", "branchs = ", "route[0].branchs", "unknown field"),
            (r#"account  = "222222222222""#, r#"account = "22222222222""#, "route[0].target[0].account", "12 digits"),
            (r#"account  = "222222222222""#, "account = 222222222222", "route[0].target[0].account", "string"),
            (r#"region   = "ap-northeast-1""#, r#"region = "tokyo""#, "route[0].target[0].region", "ap-northeast-1"),
            (r#""release/*""#, r#""release/[""#, "route[0].branches[1]", "glob"),
            (r#"["api/**", "!**/*.md"]"#, r#"["!**/*.md"]"#, "route[0].paths", "exclusions"),
            (r#"["main", "release/*"]"#, "[]", "route[0]", "branches"),
            (r#"repository = "shop""#, r#"repository = """#, "route[0].repository", "empty"),
            (r#"pipeline = "shop""#, r#"pipeline = "shop floor""#, "route[0].target[0].pipeline", "pipeline"),
            (r#"action   = "Source""#, "", "route[0].target[0]", "missing field `action`"),
            ("[[route]] ", "[[routes]] ", "routes", "unknown key"),
        ];
        for (from, to, key, text) in cases {
            let target = if to.contains("routes") { "[[routes.target]]" } else { "[[route.target]]" };
            let config = COMMITTED.replacen(from, to, 1).replace("[[route.target]]", target);
            assert_ne!(config, COMMITTED, "{from}");
            let document = read(&config);
            let error = document.routes().unwrap_err();
            assert!(error.key.starts_with(key), "{error} should be at {key}");
            assert!(error.reason.contains(text), "{error} should contain {text}");
            assert!(document.access().is_ok() && document.artifacts().is_ok());
        }
    }

    #[test]
    fn a_mistake_in_access_is_named_and_affects_no_other_section() {
        let cases = [
            ("default_minutes = 180", "default_minutes = 0", "access.default_minutes", "1"),
            ("default_minutes = 180", "default_minutes = 481", "access.default_minutes", "max_minutes"),
            ("default_minutes = 180", "default_minute = 180", "access.default_minute", "unknown field"),
            (r#"default_profile = "read-only""#, r#"default_profile = "root""#, "access.default_profile", "admin"),
            (
                "mfa_minutes    = 60",
                r#"source_ips = ["203.0.113.0/33"]"#,
                "access.profiles.admin.source_ips[0]",
                "CIDR",
            ),
            (r#"actions = ["*"]"#, "actions = []", "access.profiles.admin.statements[0].actions", "empty"),
            (r#""logs:Get*""#, r#""logs""#, "access.profiles.read-only.statements[0].actions[9]", "service:Action"),
            (r"[access.profiles.admin]", r#"[access.profiles."ad min"]"#, "access.profiles", "name"),
            ("require_mfa    = true", "require_mfa = \"yes\"", "access.profiles.admin.require_mfa", "boolean"),
            ("require_mfa    = true", "require_mfs = true", "access.profiles.admin.require_mfs", "unknown field"),
        ];
        for (from, to, key, text) in cases {
            let config = COMMITTED.replacen(from, to, 1);
            assert_ne!(config, COMMITTED, "{from}");
            let document = read(&config);
            let error = document.access().unwrap_err();
            assert!(error.key.starts_with(key), "{error} should be at {key}");
            assert!(error.reason.contains(text), "{error} should contain {text}");
            assert!(document.routes().is_ok() && document.artifacts().is_ok());
        }
    }

    #[test]
    fn routes_know_the_names_of_accounts_as_far_as_they_can_be_read() {
        let accounts = "[access.accounts]\nproduction = \"333333333333/eu-west-1\"\n\"a b\" = \"222222222222\"\n\
                        wrong = 7\nshort = \"1\"\n";
        let routes = read(&format!("{COMMITTED}\n{accounts}")).routes().unwrap();
        let name = |id: &str| routes.account_name(&id.parse().unwrap()).map(AccountName::as_str);
        assert_eq!((name("333333333333"), name("222222222222")), (Some("production"), None));
        for access in ["access = 7\n", "[access]\naccounts = 7\n"] {
            let route = "[[route]]\nrepository = \"shop\"\nbranches = [\"main\"]\n[[route.target]]\n\
                         account = \"222222222222\"\nregion = \"us-east-1\"\npipeline = \"shop\"\naction = \"Source\"\n";
            assert!(read(&format!("{access}{route}")).routes().is_ok(), "{access}");
        }
    }

    #[test]
    fn a_missing_section_is_named() {
        let document = read("");
        assert_eq!(document.routes().unwrap_err().key, "route");
        assert_eq!(document.access().unwrap_err().key, "access");
        assert_eq!(document.artifacts().unwrap_err().key, "artifacts");
    }

    #[test]
    fn a_file_that_is_not_toml_is_reported_with_line_and_column() {
        let error = Document::parse("sekisho.toml", "[access]\nmax_minutes = = 3\n").unwrap_err();
        assert_eq!(error.key, "line 2, column 15");
    }

    #[test]
    fn an_unknown_repair_or_a_malformed_role_is_reported() {
        assert!(read("[artifacts]\nrepair = \"mend\"").artifacts().unwrap_err().reason.contains("update"));
        assert!(
            read("[artifacts]\nrepair = \"copy\"\nconsumer_role = \"arn:aws:iam::222222222222:role/build\"")
                .artifacts()
                .is_ok()
        );
        assert!(read("[artifacts]\nrepair = \"copy\"\nconsumer_role = \"build\"").artifacts().is_err());
    }
}
