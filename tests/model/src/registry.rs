//! The ECR repository: images, tags, and manifests that are no images.

use std::cell::RefCell;
use std::collections::BTreeMap;

use event_relay::image::Image;
use sekisho_domain::change::Revision;
use sekisho_domain::timestamp::epoch_millis;
use time::OffsetDateTime;

/// What a manifest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A container image.
    Image,
    /// A list of container images for several platforms.
    Index,
    /// A Helm chart, which no pipeline deploys.
    Chart,
    /// A signature of another manifest, which no pipeline deploys.
    Signature,
}

impl Kind {
    /// Whether the manifest is a container image or an index. Only these start pipelines.
    pub(crate) fn is_routable(self) -> bool {
        matches!(self, Self::Image | Self::Index)
    }
}

#[derive(Debug, Clone, Copy)]
struct Manifest {
    kind: Kind,
    pushed: OffsetDateTime,
}

/// The repository.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    manifests: RefCell<BTreeMap<Revision, Manifest>>,
    tags: RefCell<BTreeMap<String, Revision>>,
    /// The manifests that were archived instead of deleted. ECR still describes them, but not by a tag and in no list.
    archived: RefCell<BTreeMap<Revision, Manifest>>,
    /// The manifests that were deleted or archived, each with the time.
    gone: RefCell<BTreeMap<Revision, OffsetDateTime>>,
    /// When event-relay last asked for a manifest and got no answer.
    unanswered: RefCell<BTreeMap<Revision, OffsetDateTime>>,
}

impl Registry {
    /// Pushes a new manifest without a tag. No two manifests have the same digest.
    pub(crate) fn push(&self, kind: Kind, now: OffsetDateTime) -> Revision {
        let number = self.pushed_count() + 1;
        let digest = format!("sha256:{number:064x}");
        let digest: Revision = digest.parse().unwrap_or_else(|error| unreachable!("{error}"));
        self.manifests.borrow_mut().insert(digest.clone(), Manifest { kind, pushed: now });
        digest
    }

    /// Points a tag at a manifest.
    pub(crate) fn tag(&self, tag: &str, digest: &Revision) {
        self.tags.borrow_mut().insert(tag.to_owned(), digest.clone());
    }

    /// Deletes a tag, and the manifest with its last tag. Returns the manifest at which the tag pointed.
    pub(crate) fn untag(&self, tag: &str, now: OffsetDateTime) -> Option<Revision> {
        let digest = self.tags.borrow_mut().remove(tag)?;
        if self.tags_of(&digest).is_empty() {
            self.delete(&digest, now);
        }
        Some(digest)
    }

    /// Deletes a manifest with all its tags; every second one is archived. Returns the tags.
    pub(crate) fn delete(&self, digest: &Revision, now: OffsetDateTime) -> Vec<String> {
        let tags = self.tags_of(digest);
        self.tags.borrow_mut().retain(|_, at| at != digest);
        let removed = self.manifests.borrow_mut().remove(digest);
        if let Some(manifest) = removed.filter(|_| self.gone_count().is_multiple_of(2)) {
            self.archived.borrow_mut().insert(digest.clone(), manifest);
        }
        self.gone.borrow_mut().insert(digest.clone(), now);
        tags
    }

    /// Notes that event-relay asked for a manifest by its digest and got no answer.
    pub(crate) fn note_unanswered(&self, digest: &Revision, now: OffsetDateTime) {
        self.unanswered.borrow_mut().insert(digest.clone(), now);
    }

    /// When event-relay last got no answer about a manifest.
    pub(crate) fn unanswered(&self, digest: &Revision) -> Option<OffsetDateTime> {
        self.unanswered.borrow().get(digest).copied()
    }

    /// When a manifest was deleted or archived. `None` if it exists.
    pub(crate) fn gone_since(&self, digest: &Revision) -> Option<OffsetDateTime> {
        self.gone.borrow().get(digest).copied()
    }

    /// The number of manifests that were ever pushed.
    pub(crate) fn pushed_count(&self) -> u64 {
        (self.manifests.borrow().len() + self.gone.borrow().len()) as u64
    }

    /// The number of manifests that were deleted or archived.
    pub(crate) fn gone_count(&self) -> usize {
        self.gone.borrow().len()
    }

    /// What a manifest is. `None` if it was deleted.
    pub(crate) fn kind(&self, digest: &Revision) -> Option<Kind> {
        self.manifests.borrow().get(digest).map(|manifest| manifest.kind)
    }

    /// The digests of all images that exist.
    pub(crate) fn images(&self) -> Vec<Revision> {
        let manifests = self.manifests.borrow();
        manifests.iter().filter(|(_, manifest)| manifest.kind.is_routable()).map(|(digest, _)| digest.clone()).collect()
    }

    /// The manifest at which a tag points.
    pub(crate) fn at(&self, tag: &str) -> Option<Revision> {
        self.tags.borrow().get(tag).cloned()
    }

    /// ECR's description of a manifest. `None` if it was deleted.
    pub(crate) fn describe(&self, digest: &Revision) -> Option<Image> {
        let archived = self.archived.borrow().get(digest).copied();
        let Manifest { kind, pushed } = self.manifests.borrow().get(digest).copied().or(archived)?;
        let (manifest, artifact) = match kind {
            Kind::Image | Kind::Signature => {
                ("application/vnd.oci.image.manifest.v1+json", Some("application/vnd.oci.image.config.v1+json"))
            }
            Kind::Index => ("application/vnd.oci.image.index.v1+json", None),
            Kind::Chart => {
                ("application/vnd.oci.image.manifest.v1+json", Some("application/vnd.cncf.helm.config.v1+json"))
            }
        };
        Some(Image {
            digest: digest.clone(),
            tags: self.tags_of(digest),
            pushed: i64::try_from(epoch_millis(pushed)).unwrap_or(i64::MAX),
            manifest: Some(manifest.to_owned()),
            artifact: artifact.map(ToOwned::to_owned),
            has_subject: kind == Kind::Signature,
            is_archived: archived.is_some(),
        })
    }

    /// ECR's descriptions of all manifests with tags.
    pub(crate) fn describe_tagged(&self) -> Vec<Image> {
        let digests: Vec<Revision> = self.manifests.borrow().keys().cloned().collect();
        digests.iter().filter_map(|digest| self.describe(digest)).filter(|image| !image.tags.is_empty()).collect()
    }

    fn tags_of(&self, digest: &Revision) -> Vec<String> {
        self.tags.borrow().iter().filter(|(_, at)| *at == digest).map(|(tag, _)| tag.clone()).collect()
    }
}
