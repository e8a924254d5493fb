"""Adds to the emulator's ECR the events about images, the repositories of other accounts, and what DescribeImages says.

A request with a `registryId` reaches the repositories of that account, if the caller's policies and the policy of the
repository allow it. A push puts an event on the default bus of the repository's account, whether it comes by PutImage
or by the protocol of registries (`/v2/`).
"""

import json
import time
from collections.abc import Iterable
from typing import Any

from ministack import app
from ministack.core import iam_evaluator
from ministack.core.responses import (
    AccountRegionScopedDict,
    error_response_json,
    get_account_id,
    get_region,
    json_response,
    request_scope,
)
from ministack.services import ecr

from local_cloud import buses
from local_cloud.services import JSON, Json, Operation, Refused, name_resources, operation_of, page

PAGE, MOST = 100, 1000

# The pull-through cache rules of each account and region, by their prefixes. A rule caches nothing.
_cache_rules = AccountRegionScopedDict()

_emulator_handle = ecr.handle_request
_emulator_put_manifest = ecr._v2_put_manifest
_emulator_put_image = ecr._put_image
_emulator_delete_manifest = ecr._v2_delete_manifest
_emulator_policy_for_arn = ecr.repository_policy_for_arn


def install() -> None:
    """Patches the emulator."""
    app.SERVICE_HANDLERS["ecr"] = _handle
    name_resources("ecr", _resource)
    ecr.repository_policy_for_arn = _policy_for_arn
    ecr._find_image = _find
    ecr._v2_put_manifest = _put_manifest
    ecr._v2_delete_manifest = _delete_manifest
    ecr._put_image = _put_image
    ecr._batch_delete_image = _answering(_batch_delete_image)
    ecr._describe_images = _answering(_describe_images)
    ecr._describe_repositories = _answering(_describe_repositories)


def _answering(operation: Operation) -> Any:
    """An operation of this module as the emulator calls its own operations."""

    def answer(request: Json) -> Any:
        try:
            return json_response(operation(request), content_type=JSON)
        except Refused as error:
            return error_response_json(error.code, str(error), error.status, content_type=JSON)

    return answer


async def _handle(method: str, path: str, headers: Json, body: bytes, query: Json) -> Any:
    try:
        owner = json.loads(body or b"{}").get("registryId") or get_account_id()
    except (ValueError, AttributeError):
        owner = get_account_id()
    added = _ADDED.get(operation_of(headers))
    with request_scope(owner, get_region()):
        if added is not None:
            return _answering(added)(json.loads(body or b"{}"))
        return await _emulator_handle(method, path, headers, body, query)


def _resource(operation: str, request: Json, region: str, account: str) -> str | None:
    names = request.get("repositoryNames") or [request.get("repositoryName")]
    prefix = f"arn:aws:ecr:{region}:{request.get('registryId') or account}:repository"
    if operation == "DescribeRepositories":
        # AWS checks each repository that the request names. Our own programs name one at a time, or none.
        return f"{prefix}/{names[0]}" if len(names) == 1 and names[0] else f"{prefix}/*"
    return f"{prefix}/{names[0]}" if names[0] else None


def _policy_for_arn(arn: str) -> tuple[str, str] | None:
    """The policy and the owner of a repository.

    Nothing in another account may be read if there is no such repository, because no policy admits the caller.
    """
    owner = iam_evaluator._account_from_arn(arn)
    if owner is None or owner == get_account_id():
        found: tuple[str, str] | None = _emulator_policy_for_arn(arn)
        return found
    with request_scope(owner, arn.split(":")[3]):
        return _emulator_policy_for_arn(arn) or ("", owner)


def _find(name: str, image_id: Json) -> Json | None:
    """The image that has both the digest and the tag of an image id, as far as the id names them."""
    digest, tag = image_id.get("imageDigest"), image_id.get("imageTag")
    for image in ecr._images.get(name, []) if digest or tag else []:
        if digest in (None, image["imageDigest"]) and (tag is None or tag in image["imageTags"]):
            found: Json = image
            return found
    return None


def _emit(action: str, name: str, digest: str, tags: Iterable[str | None]) -> None:
    """Puts one event for each tag on the bus. The event about an image without a tag names none."""
    for tag in tags:
        detail = {"result": "SUCCESS", "repository-name": name, "image-digest": digest, "action-type": action}
        if tag:
            detail["image-tag"] = tag
        buses.emit(get_account_id(), get_region(), "aws.ecr", "ECR Image Action", detail, [])


def _pushed(name: str, digest: str, tag: str | None, known: Json | None) -> None:
    """Completes a push; `known` is the image if it was there before. A further tag does not change its time."""
    image = _find(name, {"imageDigest": digest})
    if known is None and image is not None:
        # The emulator's time has whole seconds, so two pushes of a test would have the same time.
        image["imagePushedAt"] = round(time.time(), 3)
    _emit("PUSH", name, digest, [tag])


def _put_manifest(name: str, reference: str, headers: Json, body: bytes) -> Any:
    known = _find(name, {"imageDigest": ecr._content_digest(body)})
    answer = _emulator_put_manifest(name, reference, headers, body)
    if answer[0] == 201:
        tag = None if reference.startswith("sha256:") else reference
        _pushed(name, answer[1]["Docker-Content-Digest"], tag, known)
    return answer


def _put_image(request: Json) -> Any:
    name, tag = request.get("repositoryName", ""), request.get("imageTag")
    digest = request.get("imageDigest") or ecr._image_digest(request.get("imageManifest", ""))
    known = _find(name, {"imageDigest": digest})
    mutable = (ecr._repositories.get(name) or {}).get("imageTagMutability") == "MUTABLE"
    if known is not None and (tag is None or (mutable and tag in known["imageTags"])):
        message = f"Image with digest '{digest}' and tag '{tag}' already exists in the repository with name '{name}'"
        return error_response_json("ImageAlreadyExistsException", message, 400, content_type=JSON)
    answer = _emulator_put_image(request)
    if answer[0] == 200:
        _pushed(name, digest, tag, known)
    return answer


def _delete_manifest(name: str, reference: str) -> Any:
    known = _find(name, {"imageDigest": reference})
    answer = _emulator_delete_manifest(name, reference)
    if answer[0] == 202 and known is not None:
        _emit("DELETE", name, reference, known["imageTags"] or [None])
    return answer


def _batch_delete_image(request: Json) -> Json:
    """Deletes images by digest, and tags by tag. As on AWS, an image is deleted with its last tag."""
    name = _repository(request)["repositoryName"]
    deleted, failures = [], []
    for image_id in request.get("imageIds", []):
        image = _find(name, image_id)
        if image is None:
            reason = "Requested image not found"
            failures.append({"imageId": image_id, "failureCode": "ImageNotFound", "failureReason": reason})
            continue
        tags = [image_id["imageTag"]] if image_id.get("imageTag") else image["imageTags"] or [None]
        image["imageTags"] = [tag for tag in image["imageTags"] if tag not in tags]
        if not image["imageTags"]:
            ecr._images[name].remove(image)
            ecr._manifest_blobs.get(name, {}).pop(image["imageDigest"], None)
        digest = {"imageDigest": image["imageDigest"]}
        deleted += [digest | ({"imageTag": tag} if tag else {}) for tag in tags]
        _emit("DELETE", name, image["imageDigest"], tags)
    return {"imageIds": deleted, "failures": failures}


def _repository(request: Json) -> Json:
    name = request.get("repositoryName", "")
    return _repositories_named([name])[0]


def _repositories_named(names: list[str]) -> list[Json]:
    for name in names:
        if name not in ecr._repositories:
            raise Refused(
                "RepositoryNotFoundException",
                f"The repository with name '{name}' does not exist in the registry with id '{get_account_id()}'",
            )
    return [ecr._repositories[name] for name in names]


def _describe_repositories(request: Json) -> Json:
    names: list[str] = request.get("repositoryNames") or []
    found = [ecr._repo_shape(one) for one in _repositories_named(names or sorted(ecr._repositories))]
    return {"repositories": found} if names else _page(found, "repositories", request)


def _describe_images(request: Json) -> Json:
    name = _repository(request)["repositoryName"]
    wanted = request.get("imageIds")
    if wanted:
        if "maxResults" in request or "nextToken" in request:
            raise Refused("InvalidParameterException", "imageIds can't be used with maxResults and nextToken")
        found = {one["imageDigest"]: one for one in (_existing(name, image_id) for image_id in wanted)}
        return {"imageDetails": [_detail(name, image) for image in found.values()]}
    status = request.get("filter", {}).get("tagStatus", "ANY")
    images = [
        image
        for image in ecr._images.get(name, [])
        if status == "ANY" or (status == "TAGGED") == bool(image["imageTags"])
    ]
    # AWS documents no order. This order has nothing to do with the times of the pushes, so nobody can rely on it.
    images.sort(key=lambda image: image["imageDigest"])
    return _page([_detail(name, image) for image in images], "imageDetails", request)


def _page(items: list[Any], key: str, request: Json) -> Json:
    if not 1 <= request.get("maxResults", 1) <= MOST:
        raise Refused("InvalidParameterException", f"maxResults must be from 1 to {MOST}")
    names = ("nextToken", "maxResults")
    return page(items, key, request, "InvalidParameterException", size=PAGE, names=names)


def _existing(name: str, image_id: Json) -> Json:
    image = _find(name, image_id)
    if image is None:
        digest, tag = image_id.get("imageDigest", "null"), image_id.get("imageTag", "null")
        raise Refused(
            "ImageNotFoundException",
            f"The image with imageId {{imageDigest:'{digest}', imageTag:'{tag}'}} does not exist within the "
            f"repository with name '{name}' in the registry with id '{get_account_id()}'",
        )
    return image


def _detail(name: str, image: Json) -> Json:
    manifest = _manifest(image)
    config = manifest.get("config") or {}
    sizes = [one.get("size", 0) for one in (config, *manifest.get("layers", []))]
    detail = {
        "registryId": get_account_id(),
        "repositoryName": name,
        "imageDigest": image["imageDigest"],
        "imageSizeInBytes": sum(sizes),
        "imagePushedAt": image["imagePushedAt"],
        "imageManifestMediaType": image["imageManifestMediaType"],
        "imageStatus": "ACTIVE",
    }
    some = {
        "imageTags": image["imageTags"],
        "artifactMediaType": manifest.get("artifactType") or config.get("mediaType"),
        "subjectManifestDigest": (manifest.get("subject") or {}).get("digest"),
    }
    return detail | {key: value for key, value in some.items() if value}


def _manifest(image: Json) -> Json:
    try:
        manifest = json.loads(image["imageManifest"])
    except ValueError:
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _create_cache_rule(request: Json) -> Json:
    prefix = request["ecrRepositoryPrefix"]
    if prefix in _cache_rules:
        raise Refused("PullThroughCacheRuleAlreadyExistsException", f"A rule with the prefix '{prefix}' already exists")
    rule = {"ecrRepositoryPrefix": prefix, "upstreamRegistryUrl": request["upstreamRegistryUrl"]}
    _cache_rules[prefix] = rule | {"registryId": get_account_id(), "createdAt": time.time()}
    return dict(_cache_rules[prefix])


def _describe_cache_rules(request: Json) -> Json:
    names = request.get("ecrRepositoryPrefixes") or sorted(_cache_rules)
    if missing := [name for name in names if name not in _cache_rules]:
        raise Refused("PullThroughCacheRuleNotFoundException", f"No rule has the prefix '{missing[0]}'")
    return _page([_cache_rules[name] for name in names], "pullThroughCacheRules", request)


def _delete_cache_rule(request: Json) -> Json:
    prefix = request.get("ecrRepositoryPrefix")
    if prefix not in _cache_rules:
        raise Refused("PullThroughCacheRuleNotFoundException", f"No rule has the prefix '{prefix}'")
    return dict(_cache_rules.pop(prefix))


# The operations that the emulator lacks.
_ADDED: dict[str, Operation] = {
    "CreatePullThroughCacheRule": _create_cache_rule,
    "DescribePullThroughCacheRules": _describe_cache_rules,
    "DeletePullThroughCacheRule": _delete_cache_rule,
}
