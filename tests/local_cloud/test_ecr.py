"""ECR: the events about images, what DescribeImages says, immutable tags, and repositories of other accounts."""

import json
import urllib.request

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.accounts import OUTSIDE, PRODUCTION, REPOSITORY, TEST, allow, code, document
from tools.layout import ORGANIZATION, ORGANIZATION_ROOT, REGION, WORKLOADS, WORKLOADS_UNIT
from tools.local_stack.images import (
    CHART,
    CONFIG,
    IMAGE,
    INDEX,
    SIGNATURE,
    chart,
    cosign,
    image,
    index,
    push,
    signature,
)

PULL = [
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:DescribeImages",
    "ecr:DescribeRepositories",
    "ecr:GetDownloadUrlForLayer",
]


def arn(name: str) -> str:
    return f"arn:aws:ecr:{REGION}:{REPOSITORY}:repository/{name}"


def of_organization(*paths: str) -> dict:
    condition = {"ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": list(paths)}}
    # A repository's policy has no Resource.
    return {"Effect": "Allow", "Principal": "*", "Action": PULL, "Condition": condition}


def create(cloud, name: str, *statements: dict, **more):
    ecr = cloud.client("ecr")
    ecr.create_repository(repositoryName=name, **more)
    if statements:
        ecr.set_repository_policy(repositoryName=name, policyText=document(list(statements)))
    return ecr


def reads(name: str, digest: str) -> dict:
    """The calls that read a repository of the repository account, by their names."""
    given = {"registryId": REPOSITORY, "repositoryName": name}
    one = [{"imageDigest": digest}]
    return {
        "describe_images": given | {"imageIds": one},
        "batch_get_image": given | {"imageIds": one},
        "get_download_url_for_layer": given | {"layerDigest": digest},
        "batch_check_layer_availability": given | {"layerDigests": [digest]},
        "describe_repositories": {"registryId": REPOSITORY, "repositoryNames": [name]},
    }


def refused(call, **request) -> str:
    with pytest.raises(ClientError) as caught:
        call(**request)
    return code(caught)


def by_protocol(cloud, method: str, name: str, reference: str, manifest) -> None:
    """Puts or deletes a manifest through the registry's own HTTP API, `/v2/`."""
    request = urllib.request.Request(
        f"{cloud.url}/v2/{name}/manifests/{reference}",
        data=manifest.body.encode(),
        headers={"Content-Type": manifest.media_type},
        method=method,
    )
    urllib.request.urlopen(request).close()


def watched(cloud, name: str):
    """Returns a function that waits for some events about the repository, and returns their details."""
    url, queue = cloud.queue(REPOSITORY, f"{name}-events")
    events = cloud.client("events")
    pattern = {"source": ["aws.ecr"], "detail": {"repository-name": [name]}}
    events.put_rule(Name=f"{name}-events", EventPattern=json.dumps(pattern))
    events.put_targets(Rule=f"{name}-events", Targets=[{"Id": "queue", "Arn": queue}])

    def received(count: int) -> list:
        found = cloud.messages(REPOSITORY, url, count)
        about = {(one["detail-type"], one["account"], one["region"]) for one in found}
        assert about == {("ECR Image Action", REPOSITORY, REGION)}
        assert all(one["resources"] == [] for one in found)
        return [one["detail"] for one in found]

    return received


def detail(name: str, action: str, digest: str, tag: str | None = None) -> dict:
    about = {"result": "SUCCESS", "repository-name": name, "image-digest": digest, "action-type": action}
    return about | ({"image-tag": tag} if tag else {})


def test_each_push_and_each_deleted_tag_is_one_event(cloud):
    ecr, received = create(cloud, "pushed"), watched(cloud, "pushed")
    one, other = image("one"), image("other")
    push(ecr, "pushed", one, "v1")
    by_protocol(cloud, "PUT", "pushed", "v2", one)
    push(ecr, "pushed", other)
    by_protocol(cloud, "PUT", "pushed", signature(one).digest, signature(one))
    assert received(4) == [
        detail("pushed", "PUSH", one.digest, "v1"),
        detail("pushed", "PUSH", one.digest, "v2"),
        detail("pushed", "PUSH", other.digest),
        detail("pushed", "PUSH", signature(one).digest),
    ]
    # A push that changes nothing is refused, so it makes no event.
    assert refused(push, ecr=ecr, repository="pushed", manifest=one, tag="v1") == "ImageAlreadyExistsException"
    assert refused(push, ecr=ecr, repository="pushed", manifest=other) == "ImageAlreadyExistsException"

    ids = [{"imageTag": "v1"}, {"imageDigest": other.digest}, {"imageTag": "v9"}]
    answer = ecr.batch_delete_image(repositoryName="pushed", imageIds=ids)
    assert answer["imageIds"] == [{"imageDigest": one.digest, "imageTag": "v1"}, {"imageDigest": other.digest}]
    assert [failure["failureCode"] for failure in answer["failures"]] == ["ImageNotFound"]
    assert received(2) == [detail("pushed", "DELETE", one.digest, "v1"), detail("pushed", "DELETE", other.digest)]
    # The image stays until its last tag is deleted.
    (left,) = ecr.describe_images(repositoryName="pushed", imageIds=[{"imageDigest": one.digest}])["imageDetails"]
    assert left["imageTags"] == ["v2"]
    ecr.batch_delete_image(repositoryName="pushed", imageIds=[{"imageTag": "v2"}])
    gone = {"repositoryName": "pushed", "imageIds": [{"imageDigest": one.digest}]}
    assert refused(ecr.describe_images, **gone) == "ImageNotFoundException"
    assert received(1) == [detail("pushed", "DELETE", one.digest, "v2")]


def test_an_image_that_is_deleted_by_its_digest_loses_all_tags(cloud):
    ecr, received, one = create(cloud, "deleted"), watched(cloud, "deleted"), image("one")
    for delete in (
        lambda: ecr.batch_delete_image(repositoryName="deleted", imageIds=[{"imageDigest": one.digest}]),
        lambda: by_protocol(cloud, "DELETE", "deleted", one.digest, one),
    ):
        for tag in ("v1", "v2"):
            by_protocol(cloud, "PUT", "deleted", tag, one)
        delete()
        assert received(4)[2:] == [detail("deleted", "DELETE", one.digest, tag) for tag in ("v1", "v2")]
        assert ecr.describe_images(repositoryName="deleted")["imageDetails"] == []


def test_describe_images_tells_images_from_what_else_is_in_a_repository(cloud):
    ecr = create(cloud, "described")
    one, other = image("one"), image("other")
    manifests = [one, other, index(one, other), signature(one), cosign(one), chart("shop")]
    for manifest, tag in zip(manifests, ("v1", None, "all", None, "signed", "chart"), strict=True):
        push(ecr, "described", manifest, tag)

    def described(manifest) -> dict:
        ids = [{"imageDigest": manifest.digest}]
        (found,) = ecr.describe_images(repositoryName="described", imageIds=ids)["imageDetails"]
        return found

    def kind(manifest) -> tuple:
        found = described(manifest)
        return found["imageManifestMediaType"], found.get("artifactMediaType"), found.get("subjectManifestDigest")

    assert [kind(manifest) for manifest in manifests] == [
        (IMAGE, CONFIG, None),
        (IMAGE, CONFIG, None),
        (INDEX, None, None),
        (IMAGE, SIGNATURE, one.digest),
        (IMAGE, CONFIG, None),
        (IMAGE, CHART, None),
    ]
    assert described(one)["imageTags"] == ["v1"] and "imageTags" not in described(other)
    assert (described(one)["registryId"], described(one)["repositoryName"]) == (REPOSITORY, "described")
    times = [described(manifest)["imagePushedAt"] for manifest in manifests]
    assert times == sorted(times) and len(set(times)) == len(times)
    # A further tag does not change when the image was pushed.
    push(ecr, "described", one, "v2")
    assert described(one)["imagePushedAt"] == times[0] and described(one)["imageTags"] == ["v1", "v2"]


def test_describe_images_has_pages_a_filter_and_errors(cloud):
    ecr = create(cloud, "paged")
    images = [image(str(number)) for number in range(5)]
    for number, one in enumerate(images):
        push(ecr, "paged", one, f"v{number}" if number else None)

    def digests(**request) -> list:
        pages = ecr.get_paginator("describe_images").paginate(repositoryName="paged", **request)
        return [one["imageDigest"] for page in pages for one in page["imageDetails"]]

    everything = sorted(one.digest for one in images)
    first = ecr.describe_images(repositoryName="paged", maxResults=2)
    assert len(first["imageDetails"]) == 2 and first["nextToken"]
    assert digests(PaginationConfig={"PageSize": 2}) == everything
    assert digests(filter={"tagStatus": "UNTAGGED"}) == [images[0].digest]
    assert digests(filter={"tagStatus": "TAGGED"}) == sorted(one.digest for one in images[1:])
    assert digests(filter={"tagStatus": "ANY"}) == everything
    twice = [{"imageTag": "v1"}, {"imageDigest": images[1].digest}]
    assert digests(imageIds=twice) == [images[1].digest]

    def error(**request) -> str:
        return refused(ecr.describe_images, **{"repositoryName": "paged"} | request)

    assert error(repositoryName="nowhere") == "RepositoryNotFoundException"
    assert error(imageIds=[{"imageTag": "v9"}]) == "ImageNotFoundException"
    # One image that does not exist fails the whole call, and so does a tag that belongs to another digest.
    assert error(imageIds=[{"imageTag": "v1"}, {"imageTag": "v9"}]) == "ImageNotFoundException"
    mixed = [{"imageTag": "v1", "imageDigest": images[2].digest}]
    assert error(imageIds=mixed) == "ImageNotFoundException"
    assert error(imageIds=[{"imageTag": "v1"}], maxResults=2) == "InvalidParameterException"
    assert error(nextToken="x") == "InvalidParameterException"


def test_a_tag_moves_only_where_tags_are_mutable(cloud):
    ecr = create(cloud, "mutable")
    create(cloud, "immutable", imageTagMutability="IMMUTABLE")
    for name in ("mutable", "immutable"):
        push(ecr, name, image("one"), "v1")
    moved = push(ecr, "mutable", image("other"), "v1")
    assert refused(push, ecr=ecr, repository="immutable", manifest=image("other"), tag="v1") == (
        "ImageTagAlreadyExistsException"
    )
    for name, digest in (("mutable", moved), ("immutable", image("one").digest)):
        (found,) = ecr.describe_images(repositoryName=name, imageIds=[{"imageTag": "v1"}])["imageDetails"]
        assert found["imageDigest"] == digest
    (untagged,) = ecr.describe_images(repositoryName="mutable", filter={"tagStatus": "UNTAGGED"})["imageDetails"]
    assert untagged["imageDigest"] == image("one").digest


def test_only_the_unit_may_pull_and_nobody_there_may_push(cloud):
    ecr = create(cloud, "shared", of_organization(WORKLOADS, f"{WORKLOADS}*"))
    digest = push(ecr, "shared", image("shared"), "v1")
    calls = reads("shared", digest)
    for account in (TEST, PRODUCTION):
        reader = cloud.client("ecr", account)
        answers = {name: getattr(reader, name)(**request) for name, request in calls.items()}
        assert answers["describe_images"]["imageDetails"][0]["registryId"] == REPOSITORY
        assert answers["batch_get_image"]["images"][0]["imageManifest"] == image("shared").body
        assert answers["describe_repositories"]["repositories"][0]["repositoryArn"] == arn("shared")
        request = {"registryId": REPOSITORY, "repository": "shared", "manifest": image("evil"), "tag": "v2"}
        assert refused(push, ecr=reader, **request) == "AccessDeniedException"
        assert refused(reader.list_images, registryId=REPOSITORY, repositoryName="shared") == "AccessDeniedException"
    outside = cloud.client("ecr", OUTSIDE)
    for name, request in calls.items():
        assert refused(getattr(outside, name), **request) == "AccessDeniedException", name
    # Without registryId, a request means the caller's own repositories.
    other = cloud.client("ecr", TEST)
    assert refused(other.describe_images, repositoryName="shared") == "RepositoryNotFoundException"
    # The caller learns nothing about a repository that does not exist, and the owner needs no policy.
    missing = {"registryId": REPOSITORY, "repositoryName": "missing"}
    assert refused(other.describe_images, **missing) == "AccessDeniedException"
    assert refused(ecr.describe_images, **missing) == "RepositoryNotFoundException"


def test_a_pull_needs_the_permission_of_both_sides(cloud):
    ecr = create(cloud, "both", of_organization(WORKLOADS))
    create(cloud, "closed")
    digest = push(ecr, "both", image("both"), "v1")
    push(ecr, "closed", image("both"), "v1")

    def role(name: str, statements: list):
        trusted = {"AWS": f"arn:aws:iam::{TEST}:root"}
        return cloud.client("ecr", credentials=cloud.session(cloud.role(TEST, name, trusted, statements)))

    calls = reads("both", digest)
    puller, other = role("puller", [allow(PULL, arn("both"))]), role("other", [allow(PULL, arn("closed"))])
    for name, request in calls.items():
        getattr(puller, name)(**request)
        assert refused(getattr(other, name), **request) == "AccessDeniedException", name
    for name, request in reads("closed", digest).items():
        assert refused(getattr(other, name), **request) == "AccessDeniedException", name
    # A Deny of the repository's policy counts more than everything else.
    deny = {"Effect": "Deny", "Principal": "*", "Action": "ecr:BatchGetImage"}
    policy = document([of_organization(WORKLOADS), deny])
    ecr.set_repository_policy(repositoryName="both", policyText=policy)
    assert refused(puller.batch_get_image, **calls["batch_get_image"]) == "AccessDeniedException"
    assert refused(ecr.batch_get_image, **calls["batch_get_image"]) == "AccessDeniedException"
    assert puller.describe_images(**calls["describe_images"])["imageDetails"]


def test_a_template_shares_its_repository_and_a_changed_policy_counts_at_once(cloud):
    elsewhere = of_organization(f"{ORGANIZATION}/{ORGANIZATION_ROOT}/ou-seki-elsewhere/")
    properties = {
        "RepositoryName": "templated",
        "ImageTagMutability": "IMMUTABLE",
        "LifecyclePolicy": {"LifecyclePolicyText": json.dumps({"rules": []})},
    }
    cloudformation, request = (
        cloud.client("cloudformation"),
        {"registryId": REPOSITORY, "repositoryName": "templated"},
    )

    def deploy(apply, statement: dict, waiter: str) -> None:
        policy = {"RepositoryPolicyText": json.loads(document([statement]))}
        resource = {"Type": "AWS::ECR::Repository", "Properties": properties | policy}
        apply(StackName="images", TemplateBody=json.dumps({"Resources": {"Images": resource}}))
        cloudformation.get_waiter(waiter).wait(StackName="images", WaiterConfig={"Delay": 1})

    deploy(cloudformation.create_stack, elsewhere, "stack_create_complete")
    push(cloud.client("ecr"), "templated", image("one"), "v1")
    reader = cloud.client("ecr", TEST)
    assert refused(reader.describe_images, **request) == "AccessDeniedException"
    deploy(cloudformation.update_stack, of_organization(WORKLOADS), "stack_update_complete")
    (found,) = reader.describe_images(**request)["imageDetails"]
    assert found["imageTags"] == ["v1"]
    (repository,) = cloud.client("ecr").describe_repositories(repositoryNames=["templated"])["repositories"]
    assert repository["imageTagMutability"] == "IMMUTABLE"


def test_the_permission_to_list_repositories_is_not_about_one_of_them(cloud):
    ecr = create(cloud, "listed-1")
    create(cloud, "listed-2")
    statement = allow("ecr:DescribeRepositories", arn("listed-*"))
    reader = cloud.client("ecr", credentials=cloud.user(REPOSITORY, "lists-images", [statement]))
    (found,) = reader.describe_repositories(repositoryNames=["listed-1"])["repositories"]
    assert found["repositoryArn"] == arn("listed-1")
    assert refused(reader.describe_repositories) == "AccessDeniedException"
    pages = ecr.get_paginator("describe_repositories").paginate(PaginationConfig={"PageSize": 1})
    names = [one["repositoryName"] for page in pages for one in page["repositories"]]
    assert names == sorted(names) and {"listed-1", "listed-2"} <= set(names)
    assert refused(ecr.describe_repositories, repositoryNames=["nowhere"]) == "RepositoryNotFoundException"


def test_pull_through_cache_rules_are_kept_by_prefix(cloud):
    ecr = cloud.client("ecr", TEST)
    for prefix in ("quay", "docker-hub"):
        ecr.create_pull_through_cache_rule(ecrRepositoryPrefix=prefix, upstreamRegistryUrl=f"{prefix}.example.com")
    given = {"ecrRepositoryPrefix": "quay", "upstreamRegistryUrl": "quay.example.com"}
    assert refused(ecr.create_pull_through_cache_rule, **given) == "PullThroughCacheRuleAlreadyExistsException"
    pages = ecr.get_paginator("describe_pull_through_cache_rules").paginate(PaginationConfig={"PageSize": 1})
    rules = [rule for page in pages for rule in page["pullThroughCacheRules"]]
    assert [(rule["ecrRepositoryPrefix"], rule["registryId"]) for rule in rules] == [
        ("docker-hub", TEST),
        ("quay", TEST),
    ]
    assert cloud.client("ecr").describe_pull_through_cache_rules()["pullThroughCacheRules"] == []
    ecr.delete_pull_through_cache_rule(ecrRepositoryPrefix="quay")
    missing = {"ecrRepositoryPrefixes": ["quay"]}
    assert refused(ecr.describe_pull_through_cache_rules, **missing) == "PullThroughCacheRuleNotFoundException"


@pytest.mark.parametrize(
    ("name", "path", "admits"),
    [
        ("any-root", f"{ORGANIZATION}/*/{WORKLOADS_UNIT}/", True),
        ("anybody", f"{ORGANIZATION}/*", True),
        ("only-root", f"{ORGANIZATION}/{ORGANIZATION_ROOT}/", False),
        ("elsewhere", f"{ORGANIZATION}/{ORGANIZATION_ROOT}/ou-seki-elsewhere/", False),
        ("only-below", f"{WORKLOADS}ou-*", False),
    ],
)
def test_the_pattern_of_a_path_decides_which_units_may_pull(cloud, name, path, admits):
    digest = push(create(cloud, name, of_organization(path)), name, image(name))
    request = reads(name, digest)["describe_images"]
    if admits:
        assert cloud.client("ecr", TEST).describe_images(**request)["imageDetails"]
    else:
        assert refused(cloud.client("ecr", TEST).describe_images, **request) == "AccessDeniedException"
