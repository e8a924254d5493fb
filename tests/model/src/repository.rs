//! The repositories in CodeCommit: branches, tags and the content of commits.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use event_relay::branch;
use sekisho_domain::change::{Change, CommitId, GitRef, RefKind, RepositoryArn};
use sekisho_ledger::Key;

use crate::cloud::{REPOSITORY_ACCOUNT, REPOSITORY_REGION};

/// The paths that commits touch. A list of changed paths has one path per page, in this order. One route watches only
/// the last path.
pub(crate) const PATHS: [&str; 3] = ["README.md", "web/index.html", "api/main.rs"];

/// The names of the repositories, by their index. One target follows both.
pub(crate) const NAMES: [&str; 2] = ["shop", "shelf"];

/// The index of the repository that most targets follow.
pub(crate) const SHOP: usize = 0;

/// The index of the other repository.
pub(crate) const SHELF: usize = 1;

/// The content of a commit: for each path, the number of the commit that changed the path last.
pub(crate) type Tree = BTreeMap<&'static str, u64>;

/// A branch or tag of a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reference {
    /// The index of the repository.
    pub(crate) repository: usize,
    pub(crate) git_ref: GitRef,
}

impl Reference {
    pub(crate) fn new(repository: usize, git_ref: &str) -> Self {
        Self { repository, git_ref: git_ref.parse().unwrap_or_else(|error| unreachable!("{error}")) }
    }

    /// The branch or tag of a change.
    pub(crate) fn of(change: &Change) -> Self {
        Self { repository: index(change.repository.name()), git_ref: change.git_ref.clone() }
    }

    pub(crate) fn arn(&self) -> RepositoryArn {
        let arn = format!("arn:aws:codecommit:{REPOSITORY_REGION}:{REPOSITORY_ACCOUNT}:{}", NAMES[self.repository]);
        arn.parse().unwrap_or_else(|error| unreachable!("{error}"))
    }

    /// The key of event-relay's row.
    pub(crate) fn key(&self) -> Key {
        branch::key(&self.arn(), &self.git_ref)
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {}", NAMES[self.repository], self.git_ref)
    }
}

/// The index of the repository with this name.
pub(crate) fn index(name: &str) -> usize {
    NAMES.iter().position(|one| *one == name).unwrap_or_else(|| unreachable!("no repository is named {name}"))
}

/// A repository.
#[derive(Debug)]
pub(crate) struct Repository {
    /// The repository's index, with which the ids of its commits begin.
    index: usize,
    heads: RefCell<BTreeMap<GitRef, CommitId>>,
    /// All heads of each branch and tag so far, in order.
    past_heads: RefCell<BTreeMap<GitRef, Vec<CommitId>>>,
    trees: RefCell<BTreeMap<CommitId, Tree>>,
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

    pub(crate) fn head(&self, git_ref: &GitRef) -> Option<CommitId> {
        self.heads.borrow().get(git_ref).cloned()
    }

    /// The names of all branches and tags of this kind.
    pub(crate) fn names(&self, kind: RefKind) -> Vec<String> {
        let heads = self.heads.borrow();
        heads.keys().filter(|git_ref| git_ref.kind() == kind).map(|git_ref| git_ref.name().to_owned()).collect()
    }

    pub(crate) fn past_heads(&self, git_ref: &GitRef) -> Vec<CommitId> {
        self.past_heads.borrow().get(git_ref).cloned().unwrap_or_default()
    }

    /// Makes a commit on top of `before` that changes one path.
    pub(crate) fn commit(&self, before: Option<&CommitId>, path: &'static str) -> CommitId {
        let mut trees = self.trees.borrow_mut();
        let mut tree = before.and_then(|before| trees.get(before).cloned()).unwrap_or_default();
        let number = trees.len() as u64 + 1;
        tree.insert(path, number);
        let id = format!("{}{number:039x}", self.index);
        let commit: CommitId = id.parse().unwrap_or_else(|error| unreachable!("{error}"));
        trees.insert(commit.clone(), tree);
        commit
    }

    pub(crate) fn commits(&self) -> Vec<CommitId> {
        self.trees.borrow().keys().cloned().collect()
    }

    /// Points a branch or tag at a commit. Returns the head before.
    pub(crate) fn point(&self, git_ref: &GitRef, commit: &CommitId) -> Option<CommitId> {
        self.past_heads.borrow_mut().entry(git_ref.clone()).or_default().push(commit.clone());
        self.heads.borrow_mut().insert(git_ref.clone(), commit.clone())
    }

    /// Deletes a branch or tag. Returns whether it existed.
    pub(crate) fn delete(&self, git_ref: &GitRef) -> bool {
        self.heads.borrow_mut().remove(git_ref).is_some()
    }

    /// The paths that differ between two commits. Returns `None` if one of the commits does not exist.
    pub(crate) fn differences(&self, before: &CommitId, after: &CommitId) -> Option<BTreeSet<&'static str>> {
        let trees = self.trees.borrow();
        let (before, after) = (trees.get(before)?, trees.get(after)?);
        Some(PATHS.into_iter().filter(|path| before.get(path) != after.get(path)).collect())
    }
}
