//! Hints: a branch or tag that may have moved, and the event or reconcile that gave the hint.

use sekisho_domain::change::{RepositoryArn, SourceRef};

/// A branch or tag that may have moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) repository: RepositoryArn,
    pub(crate) source_ref: SourceRef,
    /// The ARN of the principal that moved the reference, if the event names a principal.
    pub(crate) actor: Option<String>,
    /// The id of the event that reported the move. A reconcile's hint has no event.
    pub(crate) event: Option<String>,
}

impl Hint {
    /// The hint that a reconcile makes for a reference, without an event.
    pub(crate) fn without_event(repository: &RepositoryArn, source_ref: SourceRef) -> Self {
        Self { repository: repository.clone(), source_ref, actor: None, event: None }
    }
}

/// The reason why the function examines a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// An event reported the reference.
    Event,
    /// A reconcile examines every routed reference, and every reference with a pending change.
    Reconcile,
}
