//! The repositories: branches, tags and the content of commits, and the tags of images.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use event_relay::branch;
use sekisho_domain::change::{Change, RefKind, RepositoryArn, Revision, SourceKind, SourceRef};
use sekisho_ledger::Key;

use crate::cloud::{REPOSITORY_ACCOUNT, REPOSITORY_REGION};

/// The paths that commits touch. A list of changed paths has one path per page, in this order. One route watches only
/// the last path.
pub(crate) const PATHS: [&str; 3] = ["README.md", "web/index.html", "api/main.rs"];

/// The names of the repositories in CodeCommit, by their index. One target follows both.
pub(crate) const NAMES: [&str; 2] = ["shop", "shelf"];

/// The index of the repository that most targets follow.
pub(crate) const SHOP: usize = 0;

/// The index of the other repository.
pub(crate) const SHELF: usize = 1;

/// The index of the repository of images, which [`crate::registry`] has. Its name is that of the first repository.
pub(crate) const IMAGES: usize = 2;

/// The content of a commit: for each path, the number of the commit that changed the path last.
pub(crate) type Tree = BTreeMap<&'static str, u64>;

/// A branch, a tag, or the tag of an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reference {
    /// The index of the repository.
    pub(crate) repository: usize,
    pub(crate) source_ref: SourceRef,
}

impl Reference {
    pub(crate) fn new(repository: usize, source_ref: &str) -> Self {
        Self { repository, source_ref: source_ref.parse().unwrap_or_else(|error| unreachable!("{error}")) }
    }

    /// The branch or tag of a change.
    pub(crate) fn of(change: &Change) -> Self {
        let repository = match change.repository.kind() {
            SourceKind::Git => index(change.repository.name()),
            SourceKind::Image => IMAGES,
        };
        Self { repository, source_ref: change.source_ref.clone() }
    }

    pub(crate) fn arn(&self) -> RepositoryArn {
        let service = if self.repository == IMAGES { "ecr" } else { "codecommit" };
        let resource = if self.repository == IMAGES { "repository/shop" } else { NAMES[self.repository] };
        let arn = format!("arn:aws:{service}:{REPOSITORY_REGION}:{REPOSITORY_ACCOUNT}:{resource}");
        arn.parse().unwrap_or_else(|error| unreachable!("{error}"))
    }

    /// The key of event-relay's row.
    pub(crate) fn key(&self) -> Key {
        branch::key(&self.arn(), &self.source_ref)
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = NAMES.get(self.repository).unwrap_or(&NAMES[SHOP]);
        write!(formatter, "{name} {}", self.source_ref)
    }
}

/// The index of the repository in CodeCommit with this name.
pub(crate) fn index(name: &str) -> usize {
    NAMES.iter().position(|one| *one == name).unwrap_or_else(|| unreachable!("no repository is named {name}"))
}

/// A repository.
#[derive(Debug)]
pub(crate) struct Repository {
    /// The repository's index, with which the ids of its commits begin.
    index: usize,
    heads: RefCell<BTreeMap<SourceRef, Revision>>,
    /// All heads of each branch and tag so far, in order.
    past_heads: RefCell<BTreeMap<SourceRef, Vec<Revision>>>,
    trees: RefCell<BTreeMap<Revision, Tree>>,
    /// The number of comparisons of two commits that gave no paths: CodeCommit answered that it cannot compare the
    /// commits, or the caller did not wait for the answer.
    pub(crate) without_paths: Cell<usize>,
}

impl Repository {
    pub(crate) fn new(index: usize) -> Self {
        Self {
            index,
            heads: RefCell::default(),
            past_heads: RefCell::default(),
            trees: RefCell::default(),
            without_paths: Cell::default(),
        }
    }

    pub(crate) fn head(&self, source_ref: &SourceRef) -> Option<Revision> {
        self.heads.borrow().get(source_ref).cloned()
    }

    /// The names of all branches and tags of this kind.
    pub(crate) fn names(&self, kind: RefKind) -> Vec<String> {
        let heads = self.heads.borrow();
        heads
            .keys()
            .filter(|source_ref| source_ref.kind() == kind)
            .map(|source_ref| source_ref.name().to_owned())
            .collect()
    }

    pub(crate) fn past_heads(&self, source_ref: &SourceRef) -> Vec<Revision> {
        self.past_heads.borrow().get(source_ref).cloned().unwrap_or_default()
    }

    /// Makes a commit on top of `before` that changes one path.
    pub(crate) fn commit(&self, before: Option<&Revision>, path: &'static str) -> Revision {
        let mut trees = self.trees.borrow_mut();
        let mut tree = before.and_then(|before| trees.get(before).cloned()).unwrap_or_default();
        let number = trees.len() as u64 + 1;
        tree.insert(path, number);
        // People see only the first digits of a commit, so these must differ between commits.
        let id = format!("{}{number:07x}{number:032x}", self.index);
        let commit: Revision = id.parse().unwrap_or_else(|error| unreachable!("{error}"));
        trees.insert(commit.clone(), tree);
        commit
    }

    pub(crate) fn commits(&self) -> Vec<Revision> {
        self.trees.borrow().keys().cloned().collect()
    }

    /// Points a branch or tag at a commit. Returns the head before.
    pub(crate) fn point(&self, source_ref: &SourceRef, commit: &Revision) -> Option<Revision> {
        self.past_heads.borrow_mut().entry(source_ref.clone()).or_default().push(commit.clone());
        self.heads.borrow_mut().insert(source_ref.clone(), commit.clone())
    }

    /// Deletes a branch or tag. Returns whether it existed.
    pub(crate) fn delete(&self, source_ref: &SourceRef) -> bool {
        self.heads.borrow_mut().remove(source_ref).is_some()
    }

    /// The paths that differ between two commits. Returns `None` if one of the commits does not exist.
    pub(crate) fn differences(&self, before: &Revision, after: &Revision) -> Option<BTreeSet<&'static str>> {
        let trees = self.trees.borrow();
        let (before, after) = (trees.get(before)?, trees.get(after)?);
        Some(PATHS.into_iter().filter(|path| before.get(path) != after.get(path)).collect())
    }
}
