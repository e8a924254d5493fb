"""The hop that looks at routed repositories of images, and at who may read them and pull from them."""

import json
from contextlib import suppress
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from tools.layout import CONFIG
from tools.operations.account import Broken
from tools.operations.path import DeliveryPath
from tools.operations.policy import Context, Document, Unclear, allows
from tools.operations.routes import Route

IMAGE_CHANGE = {
    "source": ["aws.ecr"],
    "detail-type": ["ECR Image Action", "ECR Replication Action"],
    "detail": {"action-type": ["PUSH", "REPLICATE", "DELETE"], "result": ["SUCCESS"]},
}
READ_IMAGE = ["ecr:DescribeImages"]
PULL = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
# Lambda needs these, and so does whoever creates a function from an image.
PULL_FOR_FUNCTION = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]


def images_can_be_pulled(path: DeliveryPath) -> None:
    """Checks each routed repository of images, the source role's access to it, and the policy for those who pull."""
    role, ecr = path.repositories.role(path.source_role), path.repositories.client("ecr")
    for route in (route for route in path.routes if route.is_image and route.names_one_repository):
        name = route.repository
        try:
            (repository,) = ecr.describe_repositories(repositoryNames=[name])["repositories"]
            policy = policy_of(ecr, name)
        except ecr.exceptions.RepositoryNotFoundException:
            raise Broken(
                f"account {path.repositories.id} has no repository of images {name} in {path.repositories.region}",
                f"create it (ImageRepositoryName of {path.repositories.target.name} in samconfig.toml, or "
                f"bootstrap/image-repository.yaml), or correct `image` in {CONFIG.name}",
            ) from None
        except ClientError as error:
            path.unclear.append(f"whether account {path.pipelines.id} may pull from {name} ({error})")
            continue
        path.need_permission(role, READ_IMAGE, path.image_arn(name), f"read {name}", path.repositories.deploy)
        if path.repositories.id != path.pipelines.id:
            _need_pull(path, name, policy)
        if repository["imageTagMutability"] != "IMMUTABLE":
            path.advice.append(
                f"the tags of {name} can be moved, and each move is a new change: make them immutable "
                f"(aws ecr put-image-tag-mutability --repository-name {name} --image-tag-mutability IMMUTABLE)"
            )
        _advise_on_functions(path, route, policy)


def policy_of(ecr: Any, name: str) -> Document:
    """The policy of the repository; empty if it has none."""
    try:
        document: Document = json.loads(ecr.get_repository_policy(repositoryName=name)["policyText"])
    except ecr.exceptions.RepositoryPolicyNotFoundException:
        return {}
    return document


def _need_pull(path: DeliveryPath, name: str, document: Document) -> None:
    """Raises `Broken` unless the repository's policy lets the pipeline account pull."""
    account = path.pipelines.id
    place = path.place_of(account, document)
    fix = (
        f"add an organizational unit of account {account} to ImageReaderOrgPaths of "
        f"{path.repositories.target.name} in samconfig.toml, then {path.repositories.deploy}; for another repository, "
        "deploy bootstrap/image-repository.yaml again"
    )

    for action in PULL:
        ask = partial(lets_in, document, action, path.image_arn(name), place, account)
        path.need_allowed(ask, f"{name} does not let account {account} in ({action})", fix)


def lets_in(document: Document, action: str, arn: str, place: Context, account: str) -> bool:
    """Whether the policy of a repository of images lets whoever has permission in the account do the action."""
    if allows(document, action, arn, place, account):
        return True
    if account in json.dumps(document):
        raise Unclear("its policy names some principals of that account: check that whoever pulls is among them")
    return False


def lets_functions_in(document: Document, arn: str, place: str | None, account: str, pipeline: str) -> bool:
    """Whether the policy of a repository of images lets Lambda pull for the functions of a pipeline's stack.

    Raises `Unclear` if that depends on the account's place in the organization, and the place is None.
    """
    source = {
        "aws:PrincipalOrgPaths": "",  # Lambda's service principal belongs to no organization.
        "aws:SourceAccount": account,
        "aws:SourceArn": f"arn:aws:lambda:{arn.split(':')[3]}:{account}:function:{pipeline}-function",
    }
    if place:
        source["aws:SourceOrgPaths"] = place
    return all(allows(document, action, arn, source, "lambda.amazonaws.com") for action in PULL_FOR_FUNCTION)


def _advise_on_functions(path: DeliveryPath, route: Route, policy: Document) -> None:
    """Advises if Lambda or a role with which CloudFormation deploys may not pull; a function from the image needs both.

    If nothing shows the account's place in the organization, `_need_pull` has reported that already.
    """
    pipeline, _ = path.source_action(route)
    account = path.pipelines.id
    seen_from = path.repositories.organization_path(account)
    with suppress(Unclear):
        if not lets_functions_in(policy, path.image_arn(route.repository), seen_from, account, pipeline["name"]):
            path.advice.append(
                f"{route.repository} does not let Lambda pull for account {account}. A function from an image needs "
                "that; a service of ECS does not"
            )
    roles = {
        role
        for stage in pipeline["stages"]
        for action in stage["actions"]
        if action["actionTypeId"]["provider"] == "CloudFormation"
        if (role := action.get("configuration", {}).get("RoleArn", "")).startswith(
            f"arn:aws:iam::{path.pipelines.id}:role/"
        )
    }
    arn, place = path.image_arn(route.repository), {"aws:ResourceAccount": path.repositories.id}
    for one in sorted(roles):
        try:
            may = all(path.pipelines.role(one).may(action, arn, place) for action in PULL_FOR_FUNCTION)
        except (Unclear, ClientError) as error:
            path.advice.append(f"check whether {one} may pull from {route.repository} ({error})")
            continue
        if not may:
            path.advice.append(
                f"{one} may not pull from {route.repository}. A function from an image needs that; a service of ECS "
                "does not"
            )
