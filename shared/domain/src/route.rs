//! `[[route]]`: maps a change of a reference to the pipelines that the change starts.

use std::cell::OnceCell;

use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Deserializer, Serialize};

use crate::account::{AccountId, Malformed, Region, string_newtype};
use crate::change::{GitRef, RefKind};
use crate::mistake::Mistake;

/// The longest glob, in characters. Braces in a longer glob could be nested too deeply for globset to compile.
const LONGEST_GLOB: usize = 256;

/// A glob. `*` and `?` do not match `/`; `**` also matches `/`. `{a,b}` and `[ab]` are alternatives.
#[derive(Debug, Clone)]
pub struct Glob {
    glob: globset::Glob,
    /// The compiled glob. It is compiled at its first use: compiling all globs would take longer than reading the file,
    /// and an event needs few of them.
    matcher: OnceCell<GlobMatcher>,
}

impl Glob {
    fn new(pattern: &str) -> Result<Self, String> {
        if pattern.is_empty() {
            return Err("empty: write a name or a glob".to_owned());
        }
        if pattern.chars().count() > LONGEST_GLOB {
            return Err(format!("longer than {LONGEST_GLOB} characters: split it into several globs"));
        }
        match GlobBuilder::new(pattern).literal_separator(true).build() {
            Ok(glob) => Ok(Self { glob, matcher: OnceCell::new() }),
            Err(error) => Err(format!("`{pattern}` is not a glob: {}", error.kind())),
        }
    }

    /// Whether the glob matches the whole text.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match self.literal() {
            Some(name) => name == text,
            None => self.matcher.get_or_init(|| self.glob.compile_matcher()).is_match(text),
        }
    }

    /// The pattern as it is written in the configuration.
    #[must_use]
    pub fn pattern(&self) -> &str {
        self.glob.glob()
    }

    /// The pattern, if it is a plain name that matches only itself. The caller can then use the name without listing
    /// all names.
    #[must_use]
    pub fn literal(&self) -> Option<&str> {
        Some(self.pattern()).filter(|pattern| !pattern.contains(['*', '?', '[', ']', '{', '}', '\\', '!']))
    }
}

impl<'de> Deserialize<'de> for Glob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A glob for changed paths. A glob with `!` in front excludes paths that an earlier glob includes.
#[derive(Debug, Clone)]
struct PathGlob {
    glob: Glob,
    excludes: bool,
}

impl<'de> Deserialize<'de> for PathGlob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (pattern, excludes) = match text.strip_prefix('!') {
            Some(rest) => (rest, true),
            None => (text.as_str(), false),
        };
        let glob = Glob::new(pattern).map_err(serde::de::Error::custom)?;
        Ok(Self { glob, excludes })
    }
}

/// The name of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PipelineName(String);

impl TryFrom<String> for PipelineName {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        codepipeline_name(value, "the name of a pipeline: 1 to 100 letters, digits, `.`, `@`, `-` or `_`").map(Self)
    }
}
string_newtype!(PipelineName);

/// The name of an action in a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ActionName(String);

impl TryFrom<String> for ActionName {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        codepipeline_name(value, "the name of an action: 1 to 100 letters, digits, `.`, `@`, `-` or `_`").map(Self)
    }
}
string_newtype!(ActionName);

/// Checks CodePipeline's rule for names, which is the same for pipelines and actions.
fn codepipeline_name(value: String, expected: &'static str) -> Result<String, Malformed> {
    let is_valid = (1..=100).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'@' | b'-' | b'_'));
    if is_valid { Ok(value) } else { Err(Malformed::new(&value, expected)) }
}

/// A pipeline that a route starts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The account that the pipeline is in.
    pub account: AccountId,
    /// The region that the pipeline is in.
    pub region: Region,
    /// The pipeline's name.
    pub pipeline: PipelineName,
    /// The pipeline's source action, which is pinned to the change's commit.
    pub action: ActionName,
}

/// A target's identity: a pipeline of an account and region. As text, it is `account/region/pipeline`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TargetId {
    /// The account that the pipeline is in.
    pub account: AccountId,
    /// The region that the pipeline is in.
    pub region: Region,
    /// The pipeline's name.
    pub pipeline: PipelineName,
}

impl TryFrom<String> for TargetId {
    type Error = Malformed;
    fn try_from(value: String) -> Result<Self, Malformed> {
        let parts: Vec<&str> = value.splitn(3, '/').collect();
        let [account, region, pipeline] = parts.as_slice() else {
            return Err(Malformed::new(&value, "a target: write `account/region/pipeline`"));
        };
        Ok(Self { account: account.parse()?, region: region.parse()?, pipeline: pipeline.parse()? })
    }
}

impl From<TargetId> for String {
    fn from(id: TargetId) -> Self {
        id.to_string()
    }
}

impl std::fmt::Display for TargetId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.account, self.region, self.pipeline)
    }
}

impl std::str::FromStr for TargetId {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        Self::try_from(text.to_owned())
    }
}

impl Target {
    /// The target's identity.
    #[must_use]
    pub fn id(&self) -> TargetId {
        TargetId { account: self.account.clone(), region: self.region.clone(), pipeline: self.pipeline.clone() }
    }
}

/// A route: a change of a matching reference in a matching repository starts the targets.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    repository: Glob,
    #[serde(default)]
    branches: Vec<Glob>,
    #[serde(default)]
    tags: Vec<Glob>,
    paths: Option<Vec<PathGlob>>,
    #[serde(rename = "target")]
    targets: Vec<Target>,
}

impl Route {
    /// Whether the route matches this repository and reference, without regard to changed paths.
    fn concerns(&self, repository: &str, git_ref: &GitRef) -> bool {
        let globs = match git_ref.kind() {
            RefKind::Branch => &self.branches,
            RefKind::Tag => &self.tags,
        };
        self.repository.matches(repository) && globs.iter().any(|glob| glob.matches(git_ref.name()))
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
        changed
            .into_iter()
            .any(|path| globs.iter().rev().find(|glob| glob.glob.matches(path)).is_some_and(|glob| !glob.excludes))
    }

    /// For each path glob, whether the glob excludes paths, and its pattern. A stored decision about paths is valid
    /// only as long as these values do not change, so event-relay stores a digest of them.
    pub fn paths_as_written(&self) -> impl Iterator<Item = (bool, &str)> {
        self.paths.iter().flatten().map(|path| (path.excludes, path.glob.pattern()))
    }

    /// The glob for the repository's name.
    #[must_use]
    pub fn repository(&self) -> &Glob {
        &self.repository
    }

    /// The globs for names of branches.
    #[must_use]
    pub fn branches(&self) -> &[Glob] {
        &self.branches
    }

    /// The pipelines that the route starts.
    #[must_use]
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }
}

/// All routes of a configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct Routes(Vec<Route>);

impl std::ops::Deref for Routes {
    type Target = [Route];
    fn deref(&self) -> &[Route] {
        &self.0
    }
}

impl Routes {
    /// The routes that match this repository and reference, without regard to changed paths.
    pub fn concerning<'a>(&'a self, repository: &'a str, git_ref: &'a GitRef) -> impl Iterator<Item = &'a Route> {
        self.iter().filter(move |route| route.concerns(repository, git_ref))
    }

    /// Checks the rules that concern more than one value.
    pub(crate) fn check(&self) -> Result<(), Mistake> {
        if self.is_empty() {
            return Err(Mistake::new("route", "empty: add a `[[route]]`"));
        }
        for (i, route) in self.iter().enumerate() {
            let key = format!("route[{i}]");
            if route.branches.is_empty() && route.tags.is_empty() {
                let reason = "matches nothing: add `branches` or `tags`, such as `branches = [\"main\"]`";
                return Err(Mistake::new(key, reason));
            }
            if route.paths.as_ref().is_some_and(|paths| paths.iter().all(|path| path.excludes)) {
                let reason = "has only exclusions and matches nothing: put `\"**\"` in front, or remove `paths`";
                return Err(Mistake::new(format!("{key}.paths"), reason));
            }
            if route.targets.is_empty() {
                return Err(Mistake::new(format!("{key}.target"), "empty: add a `[[route.target]]`"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Document;

    fn routes(head: &str) -> Routes {
        let text = format!(
            "[[route]]\n{head}\n[[route.target]]\naccount=\"222222222222\"\nregion=\"ap-northeast-1\"\n\
             pipeline=\"p\"\naction=\"Source\"\n"
        );
        Document::parse("sekisho.toml", &text).unwrap().routes().unwrap()
    }

    fn concerns(head: &str, repository: &str, full_ref: &str) -> bool {
        routes(head).concerning(repository, &full_ref.parse().unwrap()).next().is_some()
    }

    #[test]
    fn every_accepted_glob_can_be_compiled() {
        let nested = |before: &str, inner: &str, after: &str| {
            let times = (LONGEST_GLOB - inner.len()) / (before.len() + after.len());
            before.repeat(times) + inner + &after.repeat(times)
        };
        let deepest = [("{", "}"), ("{,", "}"), ("{a,", "}"), ("{,a?", "}"), ("{*,", "}"), ("{[ab],*", "?}")];
        for pattern in deepest.map(|(before, after)| nested(before, "a", after)) {
            // `matches` compiles the glob, and panics if the glob is invalid.
            assert!(!Glob::new(&pattern).unwrap().matches("/"), "{pattern}");
        }
        let wide = Glob::new(&"?".repeat(LONGEST_GLOB)).unwrap();
        assert!(wide.matches(&"a".repeat(LONGEST_GLOB)));
        let long = Glob::new(&"a".repeat(LONGEST_GLOB + 1)).unwrap_err();
        assert!(long.contains("256 characters"), "{long}");
    }

    #[test]
    fn a_literal_matches_the_same_texts_as_globset() {
        for name in ["main", "release/1", "Main", "a b", "a,b", "あ", "@^~.$(|)+", "-"] {
            let glob = Glob::new(name).unwrap();
            assert_eq!(glob.literal(), Some(name));
            for text in ["main", "release/1", "Main", "a b", "a,b", "あ", "@^~.$(|)+", "-", "", "mainx", "release"] {
                assert_eq!(glob.matches(text), glob.glob.compile_matcher().is_match(text), "{name} of {text}");
            }
        }
    }

    #[test]
    fn single_stars_do_not_match_slashes() {
        let head = "repository = \"shop-*\"\nbranches = [\"main\", \"release/*\", \"team/**\"]";
        assert!(concerns(head, "shop-api", "refs/heads/main"));
        assert!(concerns(head, "shop-api", "refs/heads/release/1"));
        assert!(!concerns(head, "shop-api", "refs/heads/release/1/hotfix"));
        assert!(concerns(head, "shop-api", "refs/heads/team/a/b"));
        assert!(!concerns(head, "shop", "refs/heads/main"));
        assert!(!concerns(head, "shop-api", "refs/heads/Main"));
        assert!(!concerns(head, "shop-api", "refs/heads/main2"));
    }

    #[test]
    fn branch_globs_never_match_tags() {
        assert!(!concerns("repository = \"shop\"\nbranches = [\"**\"]", "shop", "refs/tags/v1"));
        assert!(!concerns("repository = \"shop\"\ntags = [\"**\"]", "shop", "refs/heads/v1"));
        assert!(concerns("repository = \"shop\"\ntags = [\"v*\"]", "shop", "refs/tags/v1"));
    }

    #[test]
    fn the_last_matching_path_glob_decides() {
        let all = routes("repository = \"s\"\nbranches = [\"m\"]\npaths = [\"api/**\", \"!**/*.md\", \"api/docs/**\"]");
        let route = &all[0];
        assert!(route.touched_by(["api/main.rs"]));
        assert!(!route.touched_by(["api/README.md", "README.md"]));
        assert!(route.touched_by(["README.md", "api/docs/README.md"]));
        assert!(!route.touched_by(["web/index.html"]));
        assert!(!route.touched_by([]));
        assert!(!routes("repository = \"s\"\nbranches = [\"m\"]")[0].looks_at_paths());
    }

    #[test]
    fn the_identity_of_a_target_is_written_with_slashes() {
        let id = routes("repository = \"s\"\nbranches = [\"m\"]")[0].targets()[0].id();
        assert_eq!(id.to_string(), "222222222222/ap-northeast-1/p");
        assert_eq!(id.to_string().parse::<TargetId>().unwrap(), id);
        assert!("222222222222/p".parse::<TargetId>().is_err());
    }

    #[test]
    fn only_a_plain_name_is_a_literal() {
        let all = routes("repository = \"shop\"\nbranches = [\"main\", \"release/*\"]");
        assert_eq!(all[0].repository().literal(), Some("shop"));
        assert_eq!(all[0].branches()[1].literal(), None);
    }
}
