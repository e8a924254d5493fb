"""Tiny manifests of images and of what else a registry keeps, and their push to ECR by PutImage."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

OCI = "application/vnd.oci"
IMAGE, INDEX, CONFIG = f"{OCI}.image.manifest.v1+json", f"{OCI}.image.index.v1+json", f"{OCI}.image.config.v1+json"
LAYER, EMPTY = f"{OCI}.image.layer.v1.tar+gzip", f"{OCI}.empty.v1+json"
# The types of a signature, by the present form (a referrer) and by cosign's former one, and of a Helm chart.
SIGNATURE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
CHART = "application/vnd.cncf.helm.config.v1+json"
CHART_LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"


@dataclass(frozen=True)
class Manifest:
    """A manifest as it is pushed, and its media type."""

    body: str
    media_type: str

    @property
    def digest(self) -> str:
        """The digest under which the registry keeps the manifest."""
        return f"sha256:{hashlib.sha256(self.body.encode()).hexdigest()}"

    @property
    def descriptor(self) -> dict[str, Any]:
        """The entry with which another manifest refers to this one."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.body)}


def image(content: str) -> Manifest:
    """A container image. Another content gives another digest."""
    return _manifest(IMAGE, config=_blob(CONFIG, f"config of {content}"), layers=[_blob(LAYER, content)])


def index(*images: Manifest) -> Manifest:
    """An image index, as a build for several platforms makes one."""
    return _manifest(INDEX, manifests=[one.descriptor for one in images])


def signature(of: Manifest) -> Manifest:
    """A signature that refers to its subject, as the OCI specification 1.1 has it. It needs no tag."""
    layers = [_blob(SIGNATURE, f"signature of {of.digest}")]
    return _manifest(IMAGE, artifactType=SIGNATURE, config=_blob(EMPTY, "{}"), layers=layers, subject=of.descriptor)


def cosign(of: Manifest) -> Manifest:
    """A signature in cosign's former form: an image without a subject, which `cosign_tag` ties to its subject."""
    return _manifest(IMAGE, config=_blob(CONFIG, "config"), layers=[_blob(SIMPLE_SIGNING, f"signature of {of.digest}")])


def cosign_tag(of: Manifest) -> str:
    """The tag of a signature in cosign's former form."""
    return f"{of.digest.replace(':', '-')}.sig"


def chart(name: str) -> Manifest:
    """A Helm chart."""
    return _manifest(IMAGE, config=_blob(CHART, f"config of {name}"), layers=[_blob(CHART_LAYER, name)])


def push(ecr: Any, repository: str, manifest: Manifest, tag: str | None = None, **more: str) -> str:
    """Pushes the manifest and returns its digest. Without a tag, the push is by digest.

    `ecr` is a client of the local cloud. AWS would refuse the push, because the layers are not there.
    """
    given = {"imageTag": tag} if tag else {}
    answer = ecr.put_image(
        repositoryName=repository,
        imageManifest=manifest.body,
        imageManifestMediaType=manifest.media_type,
        **given,
        **more,
    )
    digest: str = answer["image"]["imageId"]["imageDigest"]
    return digest


def _manifest(media_type: str, **fields: Any) -> Manifest:
    return Manifest(json.dumps({"schemaVersion": 2, "mediaType": media_type} | fields), media_type)


def _blob(media_type: str, content: str) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"
    return {"mediaType": media_type, "digest": digest, "size": len(content)}
