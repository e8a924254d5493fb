//! A change as JSON has it.

use serde::{Deserialize, Serialize};

use super::{RefKind, RepositoryArn, Revision, SourceKind, SourceRef};

/// The change of a relayed event, and of a row in the ledger. A commit and a digest have fields of their own.
#[derive(Serialize, Deserialize)]
pub(super) struct Change {
    kind: RefKind,
    repository: RepositoryArn,
    #[serde(rename = "ref")]
    source_ref: SourceRef,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<Revision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Revision>,
    previous: Option<Revision>,
    sequence: u64,
    actor: Option<String>,
    event: Option<String>,
}

impl From<super::Change> for Change {
    fn from(change: super::Change) -> Self {
        let super::Change { kind, repository, source_ref, revision, previous, sequence, actor, event } = change;
        let (commit, digest) = match kind.source() {
            SourceKind::Git => (Some(revision), None),
            SourceKind::Image => (None, Some(revision)),
        };
        Self { kind, repository, source_ref, commit, digest, previous, sequence, actor, event }
    }
}

impl TryFrom<Change> for super::Change {
    type Error = String;

    fn try_from(written: Change) -> Result<Self, String> {
        let Change { kind, repository, source_ref, commit, digest, previous, sequence, actor, event } = written;
        if kind != source_ref.kind() {
            return Err("`kind` contradicts `ref`".to_owned());
        }
        if kind.source() != repository.kind() {
            return Err("`kind` contradicts `repository`".to_owned());
        }
        let (field, revision, is_digest) = match kind.source() {
            SourceKind::Git => ("commit", commit, false),
            SourceKind::Image => ("digest", digest, true),
        };
        let revision = revision.ok_or_else(|| format!("missing field `{field}`"))?;
        for (field, revision) in [(field, Some(&revision)), ("previous", previous.as_ref())] {
            if revision.is_some_and(|revision| revision.is_digest() != is_digest) {
                return Err(format!("`{field}` contradicts `kind`"));
            }
        }
        Ok(Self { kind, repository, source_ref, revision, previous, sequence, actor, event })
    }
}
