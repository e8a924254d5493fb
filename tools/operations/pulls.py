"""The hop that looks at the tasks of ECS that a routed pipeline deploys, and at the roles with which ECS pulls images.

A task definition names its execution role. The task definitions are those of the stacks that the pipeline's
CloudFormation actions deploy, and of the services that its ECS actions deploy. For any other deployment, such as
to EKS, it only advises to check the role.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from tools.operations.account import Account, Broken, Role, need
from tools.operations.images import PULL, policy_of
from tools.operations.path import DeliveryPath
from tools.operations.policy import Document, Unclear, allows, as_list

IMAGE = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com/([^@:]+)([@:].*)?")
SIGN_IN = ["ecr:GetAuthorizationToken"]
TASK_DEFINITION = "AWS::ECS::TaskDefinition"
# Only requests of services have these keys, such as those of Lambda for its functions.
OF_SERVICES = ["aws:SourceAccount", "aws:SourceArn", "aws:SourceOrgID", "aws:SourceOrgPaths"]


def tasks_can_pull(path: DeliveryPath) -> None:
    """Checks the execution role of each task definition that a routed pipeline with an image deploys."""
    pipelines = {route.pipeline: path.source_action(route)[0] for route in path.routes if route.is_image}
    for name, pipeline in pipelines.items():
        places, others = _places(path.pipelines, pipeline)
        if others or not places:
            what = f"action {', '.join(others)} of pipeline {name}" if others else f"pipeline {name}"
            path.advice.append(
                f"nothing shows which role pulls the image that {what} deploys: check that role yourself (see "
                "docs/images.md, Both sides of a pull)"
            )
        for where, definitions in places.items():
            try:
                for arn in definitions():
                    _need_pulls(path, path.pipelines.client("ecs").describe_task_definition(taskDefinition=arn))
            except ClientError as error:
                path.unclear.append(f"whether ECS may pull the images of {where} ({error})")


def _places(account: Account, pipeline: dict[str, Any]) -> tuple[dict[str, Callable[[], list[str]]], list[str]]:
    """What the pipeline deploys in its own account and region, each with a function that lists its task definitions.

    Also returns the names of the actions that deploy in another way or to another place.
    """
    places: dict[str, Callable[[], list[str]]] = {}
    others = []
    for action in (action for stage in pipeline["stages"] for action in stage["actions"]):
        settings, kind = action.get("configuration", {}), action["actionTypeId"]
        # With a role of its own, an action may deploy to another account.
        is_here = action.get("region", account.region) == account.region and account.id in action.get(
            "roleArn", account.id
        )
        stack, service = settings.get("StackName", "#{"), settings.get("ServiceName", "#{")
        # The value of a variable is known only while an execution runs.
        if is_here and kind["provider"] == "CloudFormation" and "#{" not in stack:
            places[f"stack {stack}"] = partial(_of_stack, account, stack)
        elif is_here and kind["provider"] == "ECS" and "#{" not in service:
            cluster = settings.get("ClusterName", "default")
            places[f"service {cluster}/{service}"] = partial(_of_service, account, cluster, service)
        elif kind["category"] == "Deploy":
            others.append(action["name"])
    return places, others


def _of_stack(account: Account, stack: str) -> list[str]:
    """The task definitions of a stack; none if the stack does not exist yet."""
    try:
        pages = account.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack)
        found = [one for page in pages for one in page["StackResourceSummaries"]]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationError":
            return []
        raise
    kept = [one for one in found if one["ResourceType"] == TASK_DEFINITION and "DELETE" not in one["ResourceStatus"]]
    return [one["PhysicalResourceId"] for one in kept if one.get("PhysicalResourceId")]


def _of_service(account: Account, cluster: str, service: str) -> list[str]:
    """The task definition of a service; none if the service or its cluster does not exist yet, or not any more."""
    ecs = account.client("ecs")
    try:
        found = ecs.describe_services(cluster=cluster, services=[service])["services"]
    except ecs.exceptions.ClusterNotFoundException:
        return []
    kept = [one for one in found if one.get("status") != "INACTIVE"]
    # A service with task sets has no task definition of its own.
    return [one["taskDefinition"] for one in kept if one.get("taskDefinition")]


def _need_pulls(path: DeliveryPath, answer: dict[str, Any]) -> None:
    """Raises `Broken` unless the role of a task definition may pull each image of the repository account."""
    definition = answer["taskDefinition"]
    found = (IMAGE.fullmatch(container.get("image", "")) for container in definition["containerDefinitions"])
    images = {(image[2], image[3]) for image in found if image and image[1] == path.repositories.id}
    if not images:
        return
    task, arn = definition["taskDefinitionArn"].rpartition("/")[2], definition.get("executionRoleArn")
    if not arn:
        path.advice.append(
            f"task definition {task} has no execution role, so the role of the instance pulls: check that role yourself"
        )
        return
    role = path.pipelines.roles().get(arn)
    if role is None:
        raise Broken(f"{arn}, the execution role of task definition {task}, is gone", "create the role again")
    for region, name in sorted(images):
        _need_pull(path, role, region, name)


def _need_pull(path: DeliveryPath, role: Role, region: str, name: str) -> None:
    """Raises `Broken` unless the role's policies and boundary allow the pull, and the repository's policy does."""
    repository = f"arn:aws:ecr:{region}:{path.repositories.id}:repository/{name}"
    fix = (
        f"in the template of that role, allow {SIGN_IN[0]} on * and {', '.join(PULL)} on {repository}; if the role has "
        "a boundary, that has to allow them, too"
    )
    requested = {"aws:RequestedRegion": region, "aws:PrincipalArn": role.arn, "aws:PrincipalAccount": path.pipelines.id}
    documents = [role.policy, role.boundary or {}]
    for actions, resource, purpose in (
        (SIGN_IN, "*", "sign in to registries of images"),
        (PULL, repository, f"pull {name}"),
    ):
        try:
            path.need_permission(role, actions, resource, purpose, fix, requested)
        except Broken as broken:
            if not (keys := _unknown_keys(documents, {"aws:ResourceAccount", *requested})):
                raise
            path.unclear.append(f"whether {broken}: its policies have conditions on {', '.join(keys)}")
    if path.repositories.id == path.pipelines.id:
        return
    policy = policy_of(path.repositories.session.client("ecr", region_name=region), name)
    account = path.pipelines.id
    facts = path.place_of(account, policy) | requested | {"aws:SecureTransport": "true"}
    is_known = region == path.repositories.region and any(
        route.is_image and route.repository == name for route in path.routes
    )
    for action in PULL:
        try:
            admitted = allows(policy, action, repository, facts, account)
        except Unclear as unclear:
            # The hop before has asked the same about a repository that a route names.
            if not is_known:
                path.unclear.append(f"whether {name} lets {role.arn} in ({action}): {unclear}")
            continue
        problem = f"{name} does not let {role.arn} in ({action})"
        if not admitted and (keys := _unknown_keys([policy], {"aws:PrincipalOrgPaths", *OF_SERVICES, *facts})):
            path.unclear.append(f"whether {problem}: its policy has conditions on {', '.join(keys)}")
            continue
        need(admitted, problem, f"admit that role, or its account by ImageReaderOrgPaths, in the policy of {name}")


def _unknown_keys(documents: list[Document], known: set[str]) -> list[str]:
    """The condition keys of the documents whose values are not known here."""
    statements = [one for document in documents for one in as_list(document.get("Statement", []))]
    keys = {key for one in statements for condition in one.get("Condition", {}).values() for key in condition}
    return sorted(key for key in keys if key.lower() not in {one.lower() for one in known})
