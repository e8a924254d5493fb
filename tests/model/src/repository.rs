//! CodeCommit's repository `shop`: branches, tags and the content of commits.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use sekisho_domain::change::{CommitId, GitRef, RefKind, RepositoryArn};

/// The paths that commits touch. A list of changed paths has one path per page, in this order. One route watches only
/// the last path.
pub(crate) const PATHS: [&str; 3] = ["README.md", "web/index.html", "api/main.rs"];

/// The repository's only name.
pub(crate) const NAME: &str = "shop";

/// The content of a commit: for each path, the number of the commit that changed the path last.
pub(crate) type Tree = BTreeMap<&'static str, u64>;

/// The repository.
#[derive(Debug, Default)]
pub(crate) struct Repository {
    heads: RefCell<BTreeMap<GitRef, CommitId>>,
    /// All heads of each branch and tag so far, in order.
    past_heads: RefCell<BTreeMap<GitRef, Vec<CommitId>>>,
    trees: RefCell<BTreeMap<CommitId, Tree>>,
    /// The number of comparisons of two commits that gave no paths: CodeCommit answered that it cannot compare the
    /// commits, or the caller did not wait for the answer.
    pub(crate) without_paths: Cell<usize>,
}

/// The repository's ARN.
pub(crate) fn arn() -> RepositoryArn {
    let arn =
        format!("arn:aws:codecommit:{}:{}:{NAME}", crate::cloud::REPOSITORY_REGION, crate::cloud::REPOSITORY_ACCOUNT);
    arn.parse().unwrap_or_else(|error| unreachable!("{error}"))
}

impl Repository {
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
        let commit: CommitId = format!("{number:040x}").parse().unwrap_or_else(|error| unreachable!("{error}"));
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
