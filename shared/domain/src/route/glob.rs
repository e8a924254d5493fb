//! Globs for the names of repositories, branches, tags and alarms, and for changed paths.

use std::cell::OnceCell;

use globset::{GlobBuilder, GlobMatcher};

use super::spelling::{self, NameKind};

/// The longest glob, in characters. Braces in a longer glob could be nested too deeply for globset to compile.
const LONGEST_GLOB: usize = 256;

/// A glob. `*` and `?` do not match `/`, except in the name of an alarm; `**` also matches `/`. `{a,b}` and `[ab]` are
/// alternatives.
#[derive(Debug, Clone)]
pub struct Glob {
    glob: globset::Glob,
    /// The compiled glob. It is compiled at its first use: compiling all globs would take longer than reading the file,
    /// and an event needs few of them.
    matcher: OnceCell<GlobMatcher>,
}

impl Glob {
    /// Parses a glob for names of this kind. The error says what to write instead.
    pub(super) fn parse(pattern: &str, kind: NameKind) -> Result<Self, String> {
        let glob = Self::new(pattern, kind)?;
        match spelling::never_matches(pattern, kind) {
            Some(reason) => Err(spelling::advise(pattern, kind, "", reason)),
            None => Ok(glob),
        }
    }

    pub(super) fn new(pattern: &str, kind: NameKind) -> Result<Self, String> {
        if pattern.is_empty() {
            return Err("empty: write a name or a glob".to_owned());
        }
        if pattern.chars().count() > LONGEST_GLOB {
            return Err(format!("longer than {LONGEST_GLOB} characters: split it into several globs"));
        }
        match GlobBuilder::new(pattern).literal_separator(kind.has_folders()).build() {
            Ok(glob) => Ok(Self { glob, matcher: OnceCell::new() }),
            Err(error) => Err(format!("`{pattern}` is not a glob: {}; correct it", error.kind())),
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
        Some(self.literal_prefix()).filter(|prefix| prefix.len() == self.pattern().len())
    }

    /// The text with which every name begins that the glob matches.
    pub(super) fn literal_prefix(&self) -> &str {
        let end = self.pattern().find(['*', '?', '[', ']', '{', '}', '\\']).unwrap_or(self.pattern().len());
        &self.pattern()[..end]
    }
}

/// A glob in a list of branches, tags or paths. A glob with `!` in front excludes names that an earlier glob includes.
#[derive(Debug, Clone)]
pub(super) struct ListedGlob {
    pub(super) glob: Glob,
    pub(super) excludes: bool,
    /// The pattern after the prefix of its kind, such as `refs/heads/release/*`. For a path, it is the pattern alone.
    pub(super) full: String,
}

impl ListedGlob {
    fn parse(text: &str, kind: NameKind) -> Result<Self, String> {
        let (mark, pattern) = match text.strip_prefix('!') {
            Some(rest) => ("!", rest),
            None => ("", text),
        };
        let glob = Glob::new(pattern, kind)?;
        if let Some(reason) = spelling::never_matches(pattern, kind) {
            return Err(spelling::advise(pattern, kind, mark, reason));
        }
        Ok(Self { glob, excludes: !mark.is_empty(), full: format!("{}{pattern}", kind.prefix()) })
    }
}

/// A list of globs for names of one kind. For each name, the last matching glob decides.
#[derive(Debug, Clone, Default)]
pub(super) struct GlobList(Vec<ListedGlob>);

impl GlobList {
    /// Parses the list. The error has the index of the glob, if the mistake is in one glob, and the reason.
    pub(super) fn parse(texts: &[String], kind: NameKind) -> Result<Self, (Option<usize>, String)> {
        let mut globs = Vec::with_capacity(texts.len());
        for (i, text) in texts.iter().enumerate() {
            globs.push(ListedGlob::parse(text, kind).map_err(|reason| (Some(i), reason))?);
        }
        if !globs.is_empty() && globs.iter().all(|glob: &ListedGlob| glob.excludes) {
            let reason = "has only exclusions and matches nothing: put `\"**\"` in front, or remove the key";
            return Err((None, reason.to_owned()));
        }
        Ok(Self(globs))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &ListedGlob> {
        self.0.iter()
    }

    /// Whether the last glob that matches the name includes it.
    pub(super) fn includes(&self, name: &str) -> bool {
        self.0.iter().rev().find(|one| one.glob.matches(name)).is_some_and(|one| !one.excludes)
    }

    /// The glob that decides that the list includes the name. A literal name wins over a later glob, unless an
    /// exclusion between them matches the name.
    pub(super) fn covering(&self, name: &str) -> Option<&ListedGlob> {
        let mut matching = self.0.iter().rev().filter(|one| one.glob.matches(name)).take_while(|one| !one.excludes);
        let last = matching.next()?;
        Some(std::iter::once(last).chain(matching).find(|one| one.glob.literal().is_some()).unwrap_or(last))
    }

    /// The literal names that the list includes.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let literal = self.0.iter().filter(|one| !one.excludes).filter_map(|one| one.glob.literal());
        literal.filter(|name| self.includes(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branches(texts: &[&str]) -> Result<GlobList, (Option<usize>, String)> {
        let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
        GlobList::parse(&texts, NameKind::Branch)
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
            assert!(!Glob::parse(&pattern, NameKind::Path).unwrap().matches("/"), "{pattern}");
        }
        let wide = Glob::new(&"?".repeat(LONGEST_GLOB), NameKind::Path).unwrap();
        assert!(wide.matches(&"a".repeat(LONGEST_GLOB)));
        let long = Glob::new(&"a".repeat(LONGEST_GLOB + 1), NameKind::Path).unwrap_err();
        assert!(long.contains("256 characters"), "{long}");
    }

    #[test]
    fn a_literal_matches_the_same_texts_as_globset() {
        for name in ["main", "release/1", "Main", "a b", "a,b", "あ", "@^~.$(|)+", "-", "fix!"] {
            let glob = Glob::new(name, NameKind::Branch).unwrap();
            assert_eq!(glob.literal(), Some(name));
            let texts =
                ["main", "release/1", "Main", "a b", "a,b", "あ", "@^~.$(|)+", "-", "fix!", "", "mainx", "release"];
            for text in texts {
                assert_eq!(glob.matches(text), glob.glob.compile_matcher().is_match(text), "{name} of {text}");
            }
        }
    }

    #[test]
    fn the_last_matching_glob_decides_and_a_literal_name_covers() {
        let list = branches(&["main", "**", "!wip/**", "wip/keep", "!wip/k*"]).unwrap();
        let covering = |name| list.covering(name).map(|one| one.full.as_str());
        assert_eq!(covering("main"), Some("refs/heads/main"));
        assert_eq!(covering("release/1"), Some("refs/heads/**"));
        assert_eq!((covering("wip/x"), covering("wip/keep")), (None, None));
        for name in ["main", "release/1", "wip/x", "wip/keep"] {
            assert_eq!(list.includes(name), list.covering(name).is_some(), "{name}");
        }
        assert_eq!(list.names().collect::<Vec<_>>(), ["main"]);
        // The exclusion ends what `main` covers, and the glob covers the name again.
        let again = branches(&["main", "!main", "*"]).unwrap();
        assert_eq!(again.covering("main").unwrap().full, "refs/heads/*");
    }

    #[test]
    fn a_list_of_exclusions_is_a_mistake() {
        assert_eq!(branches(&["!main", "!wip/**"]).unwrap_err().0, None);
        assert_eq!(branches(&["main", "!"]).unwrap_err().0, Some(1));
        assert!(branches(&[]).unwrap().is_empty());
    }
}
