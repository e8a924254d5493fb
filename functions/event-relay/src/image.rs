//! Images of an ECR repository, and which of them are routed.

use sekisho_domain::change::Revision;

/// A repository of ECR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRepository {
    /// The name.
    pub name: String,
    /// When it was created, in milliseconds since 1970.
    pub created: u64,
}

/// What ECR says about one manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The digest of the manifest.
    pub digest: Revision,
    /// The tags that point at the manifest.
    pub tags: Vec<String>,
    /// When the manifest was pushed, in milliseconds since 1970.
    pub pushed: i64,
    /// The media type of the manifest.
    pub manifest: Option<String>,
    /// The media type of what the manifest is about.
    pub artifact: Option<String>,
    /// Whether the manifest refers to another one, as a signature does.
    pub has_subject: bool,
    /// Whether the image is archived, so that nobody can pull it.
    pub is_archived: bool,
}

/// The media types of the manifests of container images and of their indexes.
const MANIFESTS: [&str; 4] = [
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
];
/// The media types of the configurations of container images.
const CONFIGURATIONS: [&str; 2] =
    ["application/vnd.docker.container.image.v1+json", "application/vnd.oci.image.config.v1+json"];

/// Why no pipeline starts for images with this tag; `None` if one may. The tools that sign images push a signature like
/// an image, under a tag that names the digest of the signed image. ECR's description does not tell such a signature
/// apart.
pub(crate) fn unroutable_tag(tag: &str) -> Option<String> {
    let rest = tag.strip_prefix("sha256-")?;
    let (digits, kind) = rest.split_once('.').map_or((rest, None), |(digits, kind)| (digits, Some(kind)));
    let is_digest = digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let is_about_image = matches!(kind, None | Some("sig" | "att" | "sbom"));
    (is_digest && is_about_image)
        .then(|| "the tag names a signature, an attestation or a list of them of another image".to_owned())
}

impl Image {
    /// Why no pipeline starts for the image; `None` if it is a container image, or an index of them, that can be
    /// pulled.
    #[must_use]
    pub fn unroutable(&self) -> Option<String> {
        if self.is_archived {
            return Some("the image is archived, so nobody can pull it".to_owned());
        }
        if self.has_subject {
            return Some("the manifest refers to another image, as signatures and attestations do".to_owned());
        }
        let is_container = |artifact: &str| CONFIGURATIONS.contains(&artifact);
        let manifest = self.manifest.as_deref().filter(|manifest| !MANIFESTS.contains(manifest));
        let artifact = self.artifact.as_deref().filter(|artifact| !is_container(artifact));
        // An index has no configuration, so ECR may give it no media type of an artifact, or the one of the index.
        let artifact = artifact.filter(|artifact| !MANIFESTS.contains(artifact));
        let other = manifest.or(artifact)?;
        let shown: String = other.chars().take(100).collect();
        Some(format!("`{shown}` is the media type of no container image"))
    }
}
