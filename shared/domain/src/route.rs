//! `[[route]]`: which change starts which pipelines.

use std::cell::OnceCell;

use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Deserializer, Serialize};

use crate::account::{AccountId, Malformed, Region, string_newtype};
use crate::change::{GitRef, RefKind};

/// Characters of a glob. No shorter one has braces nested so deep that it can't be compiled.
const LONGEST_GLOB: usize = 256;

/// A glob: `*` and `?` stop at `/`, `**` does not, `{a,b}` and `[ab]` choose.
#[derive(Debug, Clone)]
pub struct Glob {
    glob: globset::Glob,
    /// Compiled when it is first asked: that takes longer than to read the file, and an event asks few of its globs.
    matcher: OnceCell<GlobMatcher>,
}

impl Glob {
    fn new(pattern: &str) -> Result<Self, String> {
        if pattern.is_empty() {
            return Err("empty: write a name or a glob".to_owned());
        }
        if pattern.chars().count() > LONGEST_GLOB {
            return Err(format!("longer than {LONGEST_GLOB} characters: write several globs"));
        }
        match GlobBuilder::new(pattern).literal_separator(true).build() {
            Ok(glob) => Ok(Self { glob, matcher: OnceCell::new() }),
            Err(error) => Err(format!("`{pattern}` is not a glob: {}", error.kind())),
        }
    }

    /// Whether the whole text matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match self.literal() {
            Some(name) => name == text,
            None => self.matcher.get_or_init(|| self.glob.compile_matcher()).is_match(text),
        }
    }

    /// The pattern as written.
    #[must_use]
    pub fn pattern(&self) -> &str {
        self.glob.glob()
    }

    /// The pattern, where it can match nothing but itself: such a name need not be looked up in a list.
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

/// A glob over changed paths; with `!` in front it takes out again what those before it let in.
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

/// A pipeline that a change starts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The account of the pipeline.
    pub account: AccountId,
    /// The region of the pipeline.
    pub region: Region,
    /// The pipeline.
    pub pipeline: PipelineName,
    /// The pipeline's source action, which is pinned to the change's commit.
    pub action: ActionName,
}

/// A change of a matching reference in a matching repository starts the targets.
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
    /// Whether a change of this reference concerns the route, whatever paths it touches.
    #[must_use]
    pub fn concerns(&self, repository: &str, git_ref: &GitRef) -> bool {
        let globs = match git_ref.kind() {
            RefKind::Branch => &self.branches,
            RefKind::Tag => &self.tags,
        };
        self.repository.matches(repository) && globs.iter().any(|glob| glob.matches(git_ref.name()))
    }

    /// Whether the changed paths have to be known to decide.
    #[must_use]
    pub fn looks_at_paths(&self) -> bool {
        self.paths.is_some()
    }

    /// Whether one of these changed paths concerns the route: the last glob that matches a path decides about it.
    #[must_use]
    pub fn touched_by<'p>(&self, changed: impl IntoIterator<Item = &'p str>) -> bool {
        let Some(globs) = &self.paths else { return true };
        changed
            .into_iter()
            .any(|path| globs.iter().rev().find(|glob| glob.glob.matches(path)).is_some_and(|glob| !glob.excludes))
    }

    /// The paths' globs as they are written: what was decided by them holds as long as they stay the same.
    pub fn paths_as_written(&self) -> impl Iterator<Item = (bool, &str)> {
        self.paths.iter().flatten().map(|path| (path.excludes, path.glob.pattern()))
    }

    /// The repositories' glob.
    #[must_use]
    pub fn repository(&self) -> &Glob {
        &self.repository
    }

    /// The branches' globs.
    #[must_use]
    pub fn branches(&self) -> &[Glob] {
        &self.branches
    }

    /// What it starts.
    #[must_use]
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }
}

/// All routes.
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
    /// The routes that a change of this reference concerns, whatever paths it touches.
    pub fn concerning<'a>(&'a self, repository: &'a str, git_ref: &'a GitRef) -> impl Iterator<Item = &'a Route> {
        self.iter().filter(move |route| route.concerns(repository, git_ref))
    }

    /// What the parts cannot see of each other; key and reason of the first mistake.
    pub(crate) fn check(&self) -> Result<(), (String, String)> {
        if self.is_empty() {
            return Err(("route".into(), "empty: add a `[[route]]`".into()));
        }
        for (i, route) in self.iter().enumerate() {
            let key = format!("route[{i}]");
            if route.branches.is_empty() && route.tags.is_empty() {
                return Err((
                    key,
                    "nothing to match: add `branches` or `tags`, such as `branches = [\"main\"]`".into(),
                ));
            }
            if route.paths.as_ref().is_some_and(|paths| paths.iter().all(|path| path.excludes)) {
                return Err((
                    format!("{key}.paths"),
                    "only exclusions, so that nothing matches: put `\"**\"` in front, or leave `paths` out".into(),
                ));
            }
            if route.targets.is_empty() {
                return Err((format!("{key}.target"), "empty: add a `[[route.target]]`".into()));
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
            "[[route]]\n{head}\n[[route.target]]\naccount=\"222222222222\"\nregion=\"ap-northeast-1\"\npipeline=\"p\"\naction=\"Source\"\n"
        );
        Document::parse("sekisho.toml", &text).unwrap().routes().unwrap()
    }

    fn concerns(head: &str, repository: &str, full_ref: &str) -> bool {
        routes(head).concerning(repository, &full_ref.parse().unwrap()).next().is_some()
    }

    #[test]
    fn every_glob_that_is_taken_can_be_compiled() {
        let nested = |before: &str, inner: &str, after: &str| {
            let times = (LONGEST_GLOB - inner.len()) / (before.len() + after.len());
            before.repeat(times) + inner + &after.repeat(times)
        };
        let deepest = [("{", "}"), ("{,", "}"), ("{a,", "}"), ("{,a?", "}"), ("{*,", "}"), ("{[ab],*", "?}")];
        for pattern in deepest.map(|(before, after)| nested(before, "a", after)) {
            // Compiled now, or it panics.
            assert!(!Glob::new(&pattern).unwrap().matches("/"), "{pattern}");
        }
        let wide = Glob::new(&"?".repeat(LONGEST_GLOB)).unwrap();
        assert!(wide.matches(&"a".repeat(LONGEST_GLOB)));
        let long = Glob::new(&"a".repeat(LONGEST_GLOB + 1)).unwrap_err();
        assert!(long.contains("256 characters"), "{long}");
    }

    #[test]
    fn a_name_is_what_globset_takes_for_it() {
        for name in ["main", "release/1", "Main", "a b", "a,b", "あ", "@^~.$(|)+", "-"] {
            let glob = Glob::new(name).unwrap();
            assert_eq!(glob.literal(), Some(name));
            for text in ["main", "release/1", "Main", "a b", "a,b", "あ", "@^~.$(|)+", "-", "", "mainx", "release"] {
                assert_eq!(glob.matches(text), glob.glob.compile_matcher().is_match(text), "{name} of {text}");
            }
        }
    }

    #[test]
    fn globs_stop_at_slashes() {
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
    fn branches_never_match_tags() {
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
    fn a_literal_needs_no_list() {
        let all = routes("repository = \"shop\"\nbranches = [\"main\", \"release/*\"]");
        assert_eq!(all[0].repository().literal(), Some("shop"));
        assert_eq!(all[0].branches()[1].literal(), None);
    }
}
