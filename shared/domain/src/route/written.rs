//! `[[route]]` as it is written in the file, and its conversion into routes.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::glob::{Glob, GlobList};
use super::spelling::NameKind;
use super::target::{ActionName, PipelineName, Target};
use super::{Existing, Route, variable};
use crate::account::{AccountId, Region};
use crate::mistake::Mistake;

/// One `[[route]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenRoute {
    name: Option<String>,
    repository: String,
    region: Option<Region>,
    #[serde(default)]
    branches: Vec<String>,
    #[serde(default)]
    tags: Vec<String>,
    paths: Option<Vec<String>>,
    existing: Option<Existing>,
    #[serde(rename = "target")]
    targets: Vec<WrittenTarget>,
}

/// One `[[route.target]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTarget {
    account: Option<AccountId>,
    accounts: Option<Vec<AccountId>>,
    region: Option<Region>,
    regions: Option<Vec<Region>>,
    pipeline: PipelineName,
    action: ActionName,
    #[serde(default)]
    variables: BTreeMap<String, String>,
}

impl WrittenRoute {
    /// Checks the route's keys. `key` is the route's path, such as `route[0]`.
    pub(super) fn check(self, key: &str) -> Result<Route, Mistake> {
        if let Some(name) = &self.name {
            check_name(name).map_err(|reason| Mistake::new(format!("{key}.name"), reason))?;
        }
        let repository = Glob::parse(&self.repository, NameKind::Repository)
            .map_err(|reason| Mistake::new(format!("{key}.repository"), reason))?;
        let list = |name: &str, globs: &[String], kind| {
            GlobList::parse(globs, kind).map_err(|(index, reason)| {
                let place = index.map_or_else(String::new, |i| format!("[{i}]"));
                Mistake::new(format!("{key}.{name}{place}"), reason)
            })
        };
        let branches = list("branches", &self.branches, NameKind::Branch)?;
        let tags = list("tags", &self.tags, NameKind::Tag)?;
        if branches.is_empty() && tags.is_empty() {
            let reason = "matches nothing: add `branches` or `tags`, such as `branches = [\"main\"]`";
            return Err(Mistake::new(key, reason));
        }
        let paths = self.paths.map(|paths| list("paths", &paths, NameKind::Path)).transpose()?;
        if paths.as_ref().is_some_and(GlobList::is_empty) {
            let reason = "empty and matches nothing: write paths, such as `[\"api/**\"]`, or remove the key";
            return Err(Mistake::new(format!("{key}.paths"), reason));
        }
        let targets = expand(self.targets, key)?;
        Ok(Route {
            name: self.name,
            repository,
            region: self.region,
            branches,
            tags,
            paths,
            existing: self.existing,
            targets,
        })
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let is_valid = (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if is_valid {
        return Ok(());
    }
    Err("not the name of a route: write 1 to 64 letters, digits, `.`, `_` or `-`".to_owned())
}

/// The targets of one route. Each combination of an account and a region is a target.
fn expand(written: Vec<WrittenTarget>, key: &str) -> Result<Vec<Target>, Mistake> {
    if written.is_empty() {
        return Err(Mistake::new(format!("{key}.target"), "empty: add a `[[route.target]]`"));
    }
    // For each target, whether it comes from an entry with lists.
    let mut seen: BTreeMap<Target, bool> = BTreeMap::new();
    let mut targets = Vec::with_capacity(written.len());
    for (i, entry) in written.into_iter().enumerate() {
        let key = format!("{key}.target[{i}]");
        let has_lists = entry.accounts.is_some() || entry.regions.is_some();
        for target in entry.targets(&key)? {
            let bare = Target { variables: BTreeMap::new(), ..target.clone() };
            match seen.insert(bare, has_lists) {
                None => targets.push(target),
                // A repeated target without lists was always accepted, and has no effect.
                Some(false) if !has_lists => targets.push(target),
                Some(_) => {
                    let reason = format!(
                        "leads to pipeline {} of account {} in {}, and so does another target of this route: \
                         remove one of them",
                        target.pipeline, target.account, target.region
                    );
                    return Err(Mistake::new(key, reason));
                }
            }
        }
    }
    Ok(targets)
}

impl WrittenTarget {
    fn targets(self, key: &str) -> Result<Vec<Target>, Mistake> {
        let accounts = one_or_more(self.account, self.accounts, key, "account", "accounts")?;
        let regions = one_or_more(self.region, self.regions, key, "region", "regions")?;
        for (name, value) in &self.variables {
            variable::check(name, value).map_err(|reason| Mistake::new(format!("{key}.variables.{name}"), reason))?;
        }
        let combinations = accounts.iter().flat_map(|account| regions.iter().map(move |region| (account, region)));
        let target = |(account, region): (&AccountId, &Region)| Target {
            account: account.clone(),
            region: region.clone(),
            pipeline: self.pipeline.clone(),
            action: self.action.clone(),
            variables: self.variables.clone(),
        };
        Ok(combinations.map(target).collect())
    }
}

/// The values of a key that is written either as one value or as a list.
fn one_or_more<T: Ord + std::fmt::Display>(
    one: Option<T>,
    more: Option<Vec<T>>,
    key: &str,
    singular: &str,
    plural: &str,
) -> Result<Vec<T>, Mistake> {
    match (one, more) {
        (Some(one), None) => Ok(vec![one]),
        (Some(_), Some(_)) => {
            Err(Mistake::new(key, format!("has both `{singular}` and `{plural}`: keep one of the two")))
        }
        (None, None) => Err(Mistake::new(key, format!("missing field `{singular}`: add it, or a list `{plural}`"))),
        (None, Some(more)) => {
            let key = format!("{key}.{plural}");
            if more.is_empty() {
                return Err(Mistake::new(key, "empty: write at least one, or remove the target"));
            }
            let mut seen = BTreeSet::new();
            if let Some((i, again)) = more.iter().enumerate().find(|(_, value)| !seen.insert(*value)) {
                return Err(Mistake::new(format!("{key}[{i}]"), format!("`{again}` a second time: remove it")));
            }
            Ok(more)
        }
    }
}
