//! `[[route]]` as it is written in the file, and its conversion into routes.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::glob::{Glob, GlobList};
use super::spelling::NameKind;
use super::target::{ActionName, PipelineName, Target, TargetId};
use super::wave::{Wave, WrittenWave};
use super::{Existing, Route, variable};
use crate::account::{AccountId, Region};
use crate::change::SourceKind;
use crate::mistake::Mistake;

/// One `[[route]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenRoute {
    name: Option<String>,
    repository: Option<String>,
    image: Option<String>,
    region: Option<Region>,
    #[serde(default)]
    branches: Vec<String>,
    #[serde(default)]
    tags: Vec<String>,
    paths: Option<Vec<String>>,
    existing: Option<Existing>,
    #[serde(rename = "target")]
    targets: Option<Vec<WrittenTarget>>,
    #[serde(rename = "wave")]
    waves: Option<Vec<WrittenWave>>,
}

/// One `[[route.target]]` or `[[route.wave.target]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenTarget {
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
            check_name(name, "route").map_err(|reason| Mistake::new(format!("{key}.name"), reason))?;
        }
        let (source, repository) = self.source(key)?;
        let list = |name: &str, globs: &[String], kind| {
            GlobList::parse(globs, kind).map_err(|(index, reason)| {
                let place = index.map_or_else(String::new, |i| format!("[{i}]"));
                Mistake::new(format!("{key}.{name}{place}"), reason)
            })
        };
        let branches = list("branches", &self.branches, NameKind::Branch)?;
        let (tags, image_tags) = match source {
            SourceKind::Git => (list("tags", &self.tags, NameKind::Tag)?, GlobList::default()),
            SourceKind::Image => (GlobList::default(), list("tags", &self.tags, NameKind::ImageTag)?),
        };
        if branches.is_empty() && tags.is_empty() && image_tags.is_empty() {
            let reason = match source {
                SourceKind::Git => "matches nothing: add `branches` or `tags`, such as `branches = [\"main\"]`",
                SourceKind::Image => "matches nothing: add `tags`, such as `tags = [\"v*\"]`",
            };
            return Err(Mistake::new(key, reason));
        }
        let paths = self.paths.map(|paths| list("paths", &paths, NameKind::Path)).transpose()?;
        if paths.as_ref().is_some_and(GlobList::is_empty) {
            let reason = "empty and matches nothing: write paths, such as `[\"api/**\"]`, or remove the key";
            return Err(Mistake::new(format!("{key}.paths"), reason));
        }
        let is_named = self.name.is_some();
        let (Expansion { targets, entries, .. }, waves) = expand(self.targets, self.waves, is_named, key)?;
        Ok(Route {
            name: self.name,
            source,
            repository,
            caches: BTreeSet::new(),
            region: self.region,
            branches,
            tags,
            image_tags,
            paths,
            existing: self.existing,
            targets,
            entries,
            waves,
        })
    }

    /// The kind of the route's repositories, and the glob for their names.
    fn source(&self, key: &str) -> Result<(SourceKind, Glob), Mistake> {
        let (source, name, pattern, kind) = match (&self.repository, &self.image) {
            (Some(repository), None) => (SourceKind::Git, "repository", repository, NameKind::Repository),
            (None, Some(image)) => (SourceKind::Image, "image", image, NameKind::ImageRepository),
            (None, None) => {
                let reason = "missing field `repository`: add it for a repository of CodeCommit, or `image` for one of \
                              ECR";
                return Err(Mistake::new(key, reason));
            }
            (Some(_), Some(_)) => {
                let reason = "has both `repository` and `image`: keep one of the two, and write a route of its own for \
                              the other";
                return Err(Mistake::new(key, reason));
            }
        };
        let glob = Glob::parse(pattern, kind).map_err(|reason| Mistake::new(format!("{key}.{name}"), reason))?;
        if source == SourceKind::Image {
            for (name, is_written) in [("branches", !self.branches.is_empty()), ("paths", self.paths.is_some())] {
                if is_written {
                    let reason = "an image has none: remove the key, and name the image tags in `tags`";
                    return Err(Mistake::new(format!("{key}.{name}"), reason));
                }
            }
        }
        Ok((source, glob))
    }
}

/// Checks the name of a route or of a wave.
pub(super) fn check_name(name: &str, what: &str) -> Result<(), String> {
    let is_valid = (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if is_valid {
        return Ok(());
    }
    Err(format!("not the name of a {what}: write 1 to 64 letters, digits, `.`, `_` or `-`"))
}

/// The targets of one route, and its waves.
fn expand(
    targets: Option<Vec<WrittenTarget>>,
    waves: Option<Vec<WrittenWave>>,
    is_named: bool,
    key: &str,
) -> Result<(Expansion<'_>, Vec<Wave>), Mistake> {
    let mut expansion = Expansion { route: key, seen: BTreeMap::new(), targets: Vec::new(), entries: Vec::new() };
    let written = match (targets, waves) {
        (Some(targets), None) => {
            expansion.add(targets, None)?;
            return Ok((expansion, Vec::new()));
        }
        (None, Some(waves)) => waves,
        (None, None) => {
            return Err(Mistake::new(key, "missing field `target`: add a `[[route.target]]`, or a `[[route.wave]]`"));
        }
        (Some(_), Some(_)) => {
            let reason = "has both `[[route.target]]` and `[[route.wave]]`: move every target into a wave, as a \
                          `[[route.wave.target]]`";
            return Err(Mistake::new(key, reason));
        }
    };
    if written.is_empty() {
        return Err(Mistake::new(format!("{key}.wave"), "empty: add a `[[route.wave]]`, or remove the key"));
    }
    if !is_named {
        let reason = "missing field `name`: add one, such as `name = \"shop\"`, because requests about a route with \
                      waves go by it";
        return Err(Mistake::new(key, reason));
    }
    let mut waves: Vec<Wave> = Vec::with_capacity(written.len());
    for (i, wave) in written.into_iter().enumerate() {
        let wave = wave.check(&format!("wave[{i}]"), &mut expansion)?;
        if let Some(first) = waves.iter().position(|one| one.name == wave.name) {
            let reason = format!("`{}` is already the name of wave[{first}]: write another name", wave.name);
            return Err(Mistake::new(format!("{key}.wave[{i}].name"), reason));
        }
        waves.push(wave);
    }
    Ok((expansion, waves))
}

/// The targets of one route, collected from its entries.
pub(super) struct Expansion<'k> {
    /// The route's path, such as `route[0]`.
    route: &'k str,
    /// For each target, the entry that it comes from, and whether that entry has no lists. Outside of waves, two source
    /// actions of one pipeline are two targets.
    seen: BTreeMap<(TargetId, Option<ActionName>), (String, bool)>,
    targets: Vec<Target>,
    /// For each target, the path of its entry after the route's.
    entries: Vec<String>,
}

impl Expansion<'_> {
    /// The path of a key, from its path after the route's.
    pub(super) fn key(&self, place: &str) -> String {
        format!("{}.{place}", self.route)
    }

    /// Adds the targets of a wave, such as `wave[0]`, or those outside of waves if `wave` is `None`. Each combination
    /// of an account and a region is a target. Returns the targets that were added.
    pub(super) fn add(&mut self, written: Vec<WrittenTarget>, wave: Option<&str>) -> Result<Vec<Target>, Mistake> {
        let (list, table) = match wave {
            None => ("target".to_owned(), "[[route.target]]"),
            Some(wave) => (format!("{wave}.target"), "[[route.wave.target]]"),
        };
        if written.is_empty() {
            return Err(Mistake::new(self.key(&list), format!("empty: add a `{table}`")));
        }
        let mut added = Vec::with_capacity(written.len());
        for (i, entry) in written.into_iter().enumerate() {
            let place = format!("{list}[{i}]");
            let is_single = entry.accounts.is_none() && entry.regions.is_none();
            for target in entry.targets(&self.key(&place))? {
                let action = wave.is_none().then(|| target.action.clone());
                let first = self.seen.insert((target.id(), action), (place.clone(), is_single));
                // A target that is repeated outside of waves and without lists was always accepted, and has no effect.
                if let Some((first, was_single)) = first
                    && !(wave.is_none() && is_single && was_single)
                {
                    let reason = format!(
                        "leads to pipeline {} of account {} in {}, and so does {}, another target of this route: \
                         remove one of them",
                        target.pipeline,
                        target.account,
                        target.region,
                        self.key(&first)
                    );
                    return Err(Mistake::new(self.key(&place), reason));
                }
                self.targets.push(target.clone());
                self.entries.push(place.clone());
                added.push(target);
            }
        }
        Ok(added)
    }
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
