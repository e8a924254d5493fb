"""`make doctor` checks the routes of images: who reads the images, who may pull them, and what the pipeline takes."""

import contextlib
from typing import NamedTuple

import pytest

from tests.local_cloud.accounts import document
from tests.tools.faults import (
    OTHER_ACCOUNT,
    RELAY,
    SOURCE,
    Deployed,
    Fault,
    R,
    T,
    Undo,
    rule_disabled,
    rule_pattern,
    rule_starts_pipeline,
    source_with,
    without_statement,
)
from tools.layout import ORGANIZATION, ORGANIZATION_ROOT, REGION, WORKLOADS, WORKLOADS_UNIT
from tools.operations import hops, images, pipelines
from tools.operations.account import Account, Broken
from tools.operations.environment import environment
from tools.operations.path import DeliveryPath
from tools.operations.routes import Route

CODE = Route("shop", ("main",), (), (), "shop", "Source")
IMAGE = Route("shop", (), ("v*",), (), "shop", "Image", is_image=True)


@pytest.fixture
def path(config, monkeypatch):
    """The path of the test account, with a route of the code and a route of the image to one pipeline."""
    return path_with(config, monkeypatch)


def path_with(config, monkeypatch, *routes):
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    path = DeliveryPath(Account(environment("repository")), Account(environment("test")))
    path.routes = [*(routes or (CODE, IMAGE))]
    return path


def policy_with(change) -> Fault:
    """The policy of the repository has another text."""

    def fault(cloud: Deployed) -> Undo:
        ecr, which = cloud.client(R, "ecr"), {"repositoryName": "shop"}
        text = ecr.get_repository_policy(**which)["policyText"]
        if (changed := change(text)) is None:
            ecr.delete_repository_policy(**which)
        else:
            assert changed != text
            ecr.set_repository_policy(**which, policyText=changed)
        return lambda: ecr.set_repository_policy(**which, policyText=text)

    return fault


def account_leaves_the_unit(cloud: Deployed) -> Undo:
    """The pipeline account is no longer in the organizational unit."""
    organizations = cloud.client(R, "organizations")

    def move(source: str, target: str) -> None:
        organizations.move_account(AccountId=T, SourceParentId=source, DestinationParentId=target)

    move(WORKLOADS_UNIT, ORGANIZATION_ROOT)
    return lambda: move(ORGANIZATION_ROOT, WORKLOADS_UNIT)


def repository_of_images_deleted(cloud: Deployed) -> Undo:
    """The repository of images does not exist."""
    ecr, which = cloud.client(R, "ecr"), {"repositoryName": "shop"}
    text = ecr.get_repository_policy(**which)["policyText"]
    ecr.delete_repository(**which)

    def undo() -> None:
        ecr.create_repository(**which, imageTagMutability="IMMUTABLE")
        ecr.set_repository_policy(**which, policyText=text)

    return undo


def tags_can_be_moved(cloud: Deployed) -> Undo:
    """The tags of the repository are mutable."""
    ecr, which = cloud.client(R, "ecr"), {"repositoryName": "shop"}
    ecr.put_image_tag_mutability(**which, imageTagMutability="MUTABLE")
    return lambda: ecr.put_image_tag_mutability(**which, imageTagMutability="IMMUTABLE")


def test_each_hop_but_the_first_holds(path):
    """The first hop compares the routes with those of the deployed configuration, which has no image."""
    for hop in hops.HOPS[1:]:
        hop.check(path)
    assert (path.unclear, path.advice) == ([], [])


class Link(NamedTuple):
    """A broken link: the check that finds it, its fault, and parts of the reported problem and fix."""

    check: object
    fault: Fault
    problem: str
    fix: str


CHANGE = "sekisho-image-change"
LINKS = [
    Link(hops.relay_is_invoked, rule_disabled(R, CHANGE), f"rule {CHANGE} of account {R} is DISABLED", "enable-rule"),
    Link(hops.relay_is_invoked, rule_pattern(R, CHANGE, "PUSH", "PULL"), "looks for", "make deploy"),
    Link(
        hops.relay_runs,
        without_statement("ReadImages", R, RELAY, "event-relay"),
        "may not read shop (ecr:DescribeImages)",
        "make deploy",
    ),
    Link(
        pipelines.pipelines_exist,
        source_with(lambda action: action["configuration"].update(RepositoryName="cart"), action=1),
        "takes repository cart, and the route is of shop",
        "correct the route",
    ),
    Link(
        pipelines.pipelines_are_correct,
        source_with(lambda action: action.pop("roleArn"), action=1),
        f"takes None, not arn:aws:iam::{R}:role/{SOURCE}",
        "update-pipeline",
    ),
    # The console adds such a rule for a source action of ECR.
    Link(
        pipelines.pipelines_are_correct,
        rule_starts_pipeline("default", "aws.ecr"),
        "rule codepipeline-shop-main (bus default) starts pipeline shop as well, without a pin",
        "aws events disable-rule",
    ),
    Link(
        images.images_can_be_pulled,
        repository_of_images_deleted,
        f"account {R} has no repository of images shop in {REGION}",
        "ImageRepositoryName of repository",
    ),
    Link(
        images.images_can_be_pulled,
        without_statement("ReadImages", R, SOURCE, "source-action"),
        f"{SOURCE} may not read shop (ecr:DescribeImages)",
        "make deploy",
    ),
    *(
        Link(images.images_can_be_pulled, fault, f"shop does not let account {T} in (ecr:", "ImageReaderOrgPaths")
        for fault in (
            account_leaves_the_unit,
            policy_with(lambda text: text.replace(WORKLOADS, f"{ORGANIZATION}/*/ou-seki-otherunit/")),
            policy_with(lambda text: text.replace(ORGANIZATION, "o-zzzzzzzzzz")),
            policy_with(lambda text: text.replace('"ecr:BatchGetImage",', "")),
            policy_with(lambda _: None),
        )
    ),
]


@pytest.mark.parametrize("link", LINKS, ids=[f"{number}-{link.problem}" for number, link in enumerate(LINKS)])
def test_a_broken_link_is_named(cloud, path, link):
    with contextlib.ExitStack() as stack:
        stack.callback(link.fault(cloud))
        with pytest.raises(Broken) as broken:
            link.check(path)
    assert link.problem in str(broken.value)
    assert link.fix in broken.value.fix


@pytest.mark.parametrize(
    ("check", "fault", "advice"),
    [
        (images.images_can_be_pulled, tags_can_be_moved, "the tags of shop can be moved"),
        (
            images.images_can_be_pulled,
            without_statement("PullForFunctions", T, f"sekisho-cloudformation-{REGION}", "cloudformation"),
            f"sekisho-cloudformation-{REGION} may not pull from shop",
        ),
        (
            images.images_can_be_pulled,
            policy_with(lambda text: text.replace("aws:SourceOrgPaths", "aws:PrincipalOrgPaths")),
            f"shop does not let Lambda pull for account {T}",
        ),
        (
            pipelines.pipelines_exist,
            source_with(lambda action: action["configuration"].pop("ImageTag"), action=1),
            "source action Image of pipeline shop has the tag latest",
        ),
    ],
    ids=["mutable tags", "no function", "Lambda not admitted", "a tag that may exist"],
)
def test_what_could_be_better_is_only_advice(cloud, path, check, fault, advice):
    with contextlib.ExitStack() as stack:
        stack.callback(fault(cloud))
        check(path)
    (found,) = path.advice
    assert advice in found and path.unclear == []


def test_a_policy_that_names_principals_of_the_account_is_reported(cloud, path):
    statement = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{T}:role/task"}, "Action": images.PULL}
    with contextlib.ExitStack() as stack:
        stack.callback(policy_with(lambda _: document([statement]))(cloud))
        images.images_can_be_pulled(path)
    assert len(path.unclear) == len(images.PULL)
    assert all("names some principals of that account" in one for one in path.unclear)


def test_a_policy_that_names_the_account_admits_it(cloud, path):
    statement = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{T}:root"}, "Action": images.PULL}
    with contextlib.ExitStack() as stack:
        stack.callback(policy_with(lambda _: document([statement]))(cloud))
        images.images_can_be_pulled(path)
    assert path.unclear == []


def test_the_deploy_role_may_look_at_images(config_of_deployer, monkeypatch):
    path = path_with(config_of_deployer, monkeypatch)
    images.images_can_be_pulled(path)
    assert (path.unclear, path.advice) == ([], [])


@pytest.mark.parametrize("missing", ["organizations:ListParents", "ecr:DescribeRepositories"])
def test_what_the_deploy_role_may_not_see_stays_open(cloud, config_of_deployer, monkeypatch, missing):
    path, iam = path_with(config_of_deployer, monkeypatch), cloud.client(R, "iam")
    which = {"RoleName": f"sekisho-deploy-{REGION}", "PolicyName": "older"}
    denied = document([{"Effect": "Deny", "Action": missing, "Resource": "*"}])
    iam.put_role_policy(**which, PolicyDocument=denied)
    try:
        images.images_can_be_pulled(path)
    finally:
        iam.delete_role_policy(**which)
    assert path.unclear and path.advice == []


def test_a_glob_needs_the_list_of_repositories(config, monkeypatch, cloud):
    path = path_with(config, monkeypatch, Route("shop*", (), ("v*",), (), "shop", "Image", is_image=True))
    hops.relay_runs(path)
    pipelines.pipelines_exist(path)
    images.images_can_be_pulled(path)
    with contextlib.ExitStack() as stack:
        stack.callback(without_statement("FindCachesOfOtherRegistries", R, RELAY, "event-relay")(cloud))
        with pytest.raises(Broken, match="may not look for caches"):
            hops.relay_runs(path_with(config, monkeypatch, *path.routes))


def test_a_source_of_another_kind_is_named(path):
    with pytest.raises(Broken, match="takes its source from CodeCommit, not from ECR"):
        path.routes = [Route("shop", (), ("v*",), (), "shop", "Source", is_image=True)]
        pipelines.pipelines_exist(path)
    with pytest.raises(Broken, match="takes its source from ECR, not from CodeCommit"):
        path.routes = [Route("shop", ("main",), (), (), "shop", "Image")]
        pipelines.pipelines_exist(path)


def test_another_account_has_another_place(path):
    assert path.repositories.organization_path(T) == WORKLOADS
    assert path.repositories.organization_path(OTHER_ACCOUNT) == f"{ORGANIZATION}/{ORGANIZATION_ROOT}/"
    assert path.pipelines.organization_path(T) is None
