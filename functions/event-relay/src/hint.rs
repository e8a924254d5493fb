//! Which branch or tag may have moved, and how the function learned of it.

use sekisho_domain::change::{CommitId, GitRef, RepositoryArn};

/// A branch or tag that may have moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) repository: RepositoryArn,
    pub(crate) git_ref: GitRef,
    /// Set for a tag only. CodeCommit has no operation that reads a tag, so the event is the only source.
    pub(crate) tag: Option<TagMove>,
    /// ARN of the principal that moved the reference, if the event names one.
    pub(crate) actor: Option<String>,
    /// Id of the event; `None` if a reconcile found the reference.
    pub(crate) event: Option<String>,
}

impl Hint {
    /// A hint of the reconcile, without an event.
    pub(crate) fn without_event(repository: &RepositoryArn, git_ref: GitRef) -> Self {
        Self { repository: repository.clone(), git_ref, tag: None, actor: None, event: None }
    }
}

/// What an event reports about a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TagMove {
    /// The commit that the tag points at.
    pub(crate) commit: CommitId,
    /// When the event happened, in epoch milliseconds: a late event must not undo a newer one.
    pub(crate) at: Option<u64>,
}

/// Why the function examines a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// An event. An event comes only once, so the invocation waits if another one holds the reference.
    Event,
    /// A reconcile that lists a routed branch. It does not wait for other invocations, because other branches need the
    /// time.
    Reconcile,
    /// A reconcile that found a pending change. The change must be finished even if no route is left.
    Pending,
}
