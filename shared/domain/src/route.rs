//! `[[route]]`: maps a change of a reference to the pipelines that the change starts.

mod agreement;
mod glob;
mod spelling;
mod target;
mod variable;
mod wave;
mod written;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use self::glob::Glob;
use self::glob::GlobList;
pub use self::target::{ActionName, PipelineName, Target, TargetId};
pub use self::variable::PLACEHOLDERS;
pub use self::wave::{AlarmGlobs, Missing, Retreat, Wave};
pub(crate) use self::written::WrittenRoute;
use crate::access::AccountName;
use crate::account::{AccountId, Region};
use crate::change::{RefKind, RepositoryArn, SourceKind, SourceRef};
use crate::mistake::Mistake;

/// What happens to references that already exist when a glob covers their repository for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Existing {
    /// They are relayed, like references that appear later.
    Relay,
    /// Their commits are recorded and not deployed.
    Baseline,
}

/// How a route covers a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coverage<'r> {
    /// The glob that covers the reference, after the prefix of its kind: `refs/heads/release/*`. A literal name that
    /// matches the reference wins over a glob. The text stays the same as long as the glob does.
    pub glob: &'r str,
    /// Whether the glob is a literal name.
    pub is_literal: bool,
    /// What happens to the reference if it already exists when the glob covers its repository for the first time.
    pub existing: Existing,
    /// Whether the route has the key `existing`. Otherwise, the value is the default.
    pub explicit: bool,
}

/// The prefix of a pull-through cache rule for all repositories to which no other rule applies.
const ROOT: &str = "ROOT";

/// A route: a change of a matching reference in a matching repository starts the targets.
#[derive(Debug, Clone)]
pub struct Route {
    name: Option<String>,
    source: SourceKind,
    repository: Glob,
    /// The prefixes of the repositories that the route's glob does not match. Empty as the configuration has it.
    caches: BTreeSet<String>,
    region: Option<Region>,
    branches: GlobList,
    tags: GlobList,
    image_tags: GlobList,
    paths: Option<GlobList>,
    existing: Option<Existing>,
    targets: Vec<Target>,
    /// For each target, the key of its `[[route.target]]` or `[[route.wave.target]]` after the route's, such as
    /// `wave[0].target[1]`, for messages.
    entries: Vec<String>,
    waves: Vec<Wave>,
}

impl Route {
    /// Whether the route matches this repository and reference, without regard to changed paths.
    fn concerns(&self, repository: &RepositoryArn, source_ref: &SourceRef) -> bool {
        self.covers_repository(repository) && self.globs(source_ref.kind()).includes(source_ref.name())
    }

    fn globs(&self, kind: RefKind) -> &GlobList {
        match kind {
            RefKind::Branch => &self.branches,
            RefKind::Tag => &self.tags,
            RefKind::Image => &self.image_tags,
        }
    }

    /// The kind of the route's repositories: the route has either the key `repository` or the key `image`.
    #[must_use]
    pub fn source(&self) -> SourceKind {
        self.source
    }

    /// The route's name, by which requests go: the key `name`, or the repository as it is written.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.repository.pattern())
    }

    /// The region of the route's repositories. `None` means every region.
    #[must_use]
    pub fn region(&self) -> Option<&Region> {
        self.region.as_ref()
    }

    /// The route's key `existing`. [`Route::coverage`] has the value that applies to a reference.
    #[must_use]
    pub fn existing(&self) -> Option<Existing> {
        self.existing
    }

    /// Whether the route is for repositories of this region.
    #[must_use]
    pub fn is_for_region(&self, region: &str) -> bool {
        self.region.as_ref().is_none_or(|own| own.as_str() == region)
    }

    /// Whether the route matches this repository, by its kind, its region and its name.
    #[must_use]
    pub fn covers_repository(&self, repository: &RepositoryArn) -> bool {
        // The name comes first, because it rules out most routes.
        let name = repository.name();
        self.repository.matches(name)
            && self.source == repository.kind()
            && self.is_for_region(repository.region())
            && !self.is_cache(name)
    }

    /// Whether the route matches repositories of this kind by a glob.
    #[must_use]
    pub fn is_glob_for(&self, kind: SourceKind) -> bool {
        self.source == kind && self.repository.literal().is_none()
    }

    /// Whether a repository is a cache of another registry. ECR puts a `/` behind the prefix. A rule without a prefix
    /// has [`ROOT`], and any repository may be its cache.
    fn is_cache(&self, name: &str) -> bool {
        let is_below = |prefix: &String| name.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with('/'));
        self.caches.iter().any(|prefix| prefix == ROOT || is_below(prefix))
    }

    /// How the route covers the reference. Returns `None` if the route does not include it. The repository is not
    /// compared.
    #[must_use]
    pub fn coverage(&self, source_ref: &SourceRef) -> Option<Coverage<'_>> {
        let covering = self.globs(source_ref.kind()).covering(source_ref.name())?;
        let is_literal = covering.glob.literal().is_some();
        let default = if is_literal { Existing::Relay } else { Existing::Baseline };
        Some(Coverage {
            glob: &covering.full,
            is_literal,
            existing: self.existing.unwrap_or(default),
            explicit: self.existing.is_some(),
        })
    }

    /// The globs that include references of this kind, each after the prefix of the kind, as in [`Coverage::glob`].
    pub fn including(&self, kind: RefKind) -> impl Iterator<Item = &str> {
        self.globs(kind).iter().filter(|one| !one.excludes).map(|one| one.full.as_str())
    }

    /// The globs that exclude references of this kind.
    pub fn excluding(&self, kind: RefKind) -> impl Iterator<Item = &str> {
        self.globs(kind).iter().filter(|one| one.excludes).map(|one| one.glob.pattern())
    }

    /// The branches, tags or image tags that the route includes by their literal names.
    pub fn literal_names(&self, kind: RefKind) -> impl Iterator<Item = &str> {
        self.globs(kind).names()
    }

    /// Whether the route has path globs, so that the changed paths must be known.
    #[must_use]
    pub fn looks_at_paths(&self) -> bool {
        self.paths.is_some()
    }

    /// Whether the route includes at least one of these changed paths. For each path, the last matching glob decides.
    #[must_use]
    pub fn touched_by<'p>(&self, changed: impl IntoIterator<Item = &'p str>) -> bool {
        let Some(globs) = &self.paths else { return true };
        changed.into_iter().any(|path| globs.includes(path))
    }

    /// For each path glob, whether the glob excludes paths, and its pattern. A stored decision about paths is valid
    /// only as long as these values do not change, so event-relay stores a digest of them.
    pub fn paths_as_written(&self) -> impl Iterator<Item = (bool, &str)> {
        self.paths.iter().flat_map(GlobList::iter).map(|path| (path.excludes, path.glob.pattern()))
    }

    /// The glob for the name of the CodeCommit or ECR repository.
    #[must_use]
    pub fn repository(&self) -> &Glob {
        &self.repository
    }

    /// The pipelines that the route starts, including those of its waves, in order. A list of accounts or regions is
    /// expanded: each combination is a target.
    #[must_use]
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The waves, in order. Empty for a route whose targets get every change at once.
    #[must_use]
    pub fn waves(&self) -> &[Wave] {
        &self.waves
    }

    /// The route's wave that the target is in.
    #[must_use]
    pub fn wave_of(&self, target: &TargetId) -> Option<&Wave> {
        self.waves.iter().find(|wave| wave.targets.iter().any(|one| one.is(target)))
    }
}

/// All routes of a configuration.
#[derive(Debug, Clone)]
pub struct Routes {
    all: Vec<Route>,
    /// The names of accounts. People can tell names apart, and not ids.
    account_names: BTreeMap<AccountId, AccountName>,
}

impl std::ops::Deref for Routes {
    type Target = [Route];
    fn deref(&self) -> &[Route] {
        &self.all
    }
}

impl Routes {
    /// Checks the entries of the file and converts them.
    pub(crate) fn new(written: Vec<WrittenRoute>) -> Result<Self, Mistake> {
        if written.is_empty() {
            return Err(Mistake::new("route", "empty: add a `[[route]]`"));
        }
        let check = |(i, route): (usize, WrittenRoute)| route.check(&format!("route[{i}]"));
        let mut routes = written.into_iter().enumerate().map(check).collect::<Result<Vec<_>, _>>()?;
        agreement::agree(&mut routes)?;
        Ok(Self { all: routes, account_names: BTreeMap::new() })
    }

    pub(crate) fn with_account_names(self, account_names: BTreeMap<AccountId, AccountName>) -> Self {
        Self { account_names, ..self }
    }

    /// The name of an account, if the configuration has one.
    #[must_use]
    pub fn account_name(&self, account: &AccountId) -> Option<&AccountName> {
        self.account_names.get(account)
    }

    /// The routes, in which no glob matches an image repository whose name begins with one of these prefixes and `/`. A
    /// route that has the literal name of such a repository matches it.
    #[must_use]
    pub fn without_caches(&self, prefixes: &BTreeSet<String>) -> Self {
        let mut routes = self.clone();
        for route in routes.all.iter_mut().filter(|route| route.is_glob_for(SourceKind::Image)) {
            route.caches.clone_from(prefixes);
        }
        routes
    }

    /// Checks the windows of all waves against the time zone database.
    pub(crate) fn check_windows(&self) -> Result<(), Mistake> {
        for (i, route) in self.iter().enumerate() {
            for (j, wave) in route.waves().iter().enumerate() {
                let mistake = |(place, reason)| Mistake::new(format!("route[{i}].wave[{j}].{place}"), reason);
                wave.windows.check().map_err(mistake)?;
            }
        }
        Ok(())
    }

    /// The routes that match this repository and reference, without regard to changed paths.
    pub fn concerning<'a>(
        &'a self,
        repository: &'a RepositoryArn,
        source_ref: &'a SourceRef,
    ) -> impl Iterator<Item = &'a Route> {
        self.iter().filter(move |route| route.concerns(repository, source_ref))
    }

    /// The waves that the target is in: at most one of each route.
    pub fn waves_of<'a>(&'a self, target: &'a TargetId) -> impl Iterator<Item = &'a Wave> {
        self.iter().filter_map(move |route| route.wave_of(target))
    }

    /// The targets of all routes.
    #[must_use]
    pub fn target_ids(&self) -> BTreeSet<TargetId> {
        self.iter().flat_map(Route::targets).map(Target::id).collect()
    }
}

#[cfg(test)]
mod tests;
