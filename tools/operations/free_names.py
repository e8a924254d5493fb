"""The check of `make deploy` that no resource exists yet under a name that the stack is about to use."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tools.layout import BUS, LEDGER
from tools.operations import stack_history
from tools.operations.deployment import Deployment, Problem
from tools.operations.leftovers import FUNCTIONS_OF, bucket_name, found, log_group
from tools.operations.template import value

OF_AN_EARLIER_STACK = "if an earlier stack left it: docs/deploy.md, Take it down; else rename or delete it"
# A repository of images can't be renamed, and to delete it would take the images away from all accounts.
OF_IMAGES = (
    "else do not delete it, because other accounts may run its images: leave ImageRepositoryName empty, and the "
    "repository goes on working with the policy that it has (docs/images.md, The repository), or choose another name"
)


def names_are_free(deployment: Deployment) -> Iterator[Problem]:
    """A resource that the stack is about to create must not exist yet under its name."""
    target = deployment.target
    if deployment.stack and deployment.stack["StackStatus"] in stack_history.FAILED_FIRST:
        return  # make clean-start removes the resources of such a stack, too
    present: dict[str, str] = {}
    if deployment.stack:
        pages = (
            deployment.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=target.stack)
        )
        present = {
            one["LogicalResourceId"]: one.get("PhysicalResourceId", "")
            for page in pages
            for one in page["StackResourceSummaries"]
            if one["ResourceStatus"] != "DELETE_COMPLETE"
        }
    # The stack owns a repository of images, but not the one with the new name.
    if present.get("ImageRepository") != value(target, "ImageRepositoryName"):
        present.pop("ImageRepository", None)
    for logical, text, exists in fixed_names(deployment):
        if logical not in present and exists():
            left = OF_IMAGES if logical == "ImageRepository" else OF_AN_EARLIER_STACK
            yield Problem(
                f"Account {target.account} already has {text}, and stack {target.stack} does not own it",
                f"if a failed first deployment left it: make clean-start ENV={target.name} PROFILE=… as an "
                f"administrator; {left}",
            )


def fixed_names(deployment: Deployment) -> Iterator[tuple[str, str, Callable[[], object]]]:
    """The resources with fixed names: the logical id, the description, and a function that looks for the resource."""
    target = deployment.target

    def exists(service: str, operation: str, **arguments: Any) -> Callable[[], object]:
        return lambda: found(getattr(deployment.client(service), operation), **arguments)

    yield "Ledger", f"a table {LEDGER}", exists("dynamodb", "describe_table", TableName=LEDGER)
    logs = deployment.client("logs")
    for duty, functions in FUNCTIONS_OF.items():
        for function, name in functions.items() if deployment.has(duty) else ():
            yield function, f"a function {name}", exists("lambda", "get_function_configuration", FunctionName=name)
            group = f"/aws/lambda/{name}"
            yield f"{function}Logs", f"a log group {group}", partial(log_group, logs, group)
    if deployment.has("HostsRepositories") or deployment.has("HostsPipelines"):
        yield "Bus", f"an event bus {BUS}", exists("events", "describe_event_bus", Name=BUS)
    if deployment.has("HostsPipelines"):
        bucket = bucket_name(target)
        yield "ArtifactBucket", f"a bucket {bucket}", exists("s3", "head_bucket", Bucket=bucket)
    if deployment.has("ManagesPipeline"):
        name = value(target, "LongPipelineName") or value(target, "PipelineName")
        yield "Pipeline", f"a pipeline {name}", exists("codepipeline", "get_pipeline", name=name)
    if deployment.has("ManagesRepository"):
        name = value(target, "RepositoryName")
        yield "Repository", f"a repository {name}", exists("codecommit", "get_repository", repositoryName=name)
    if deployment.has("HostsRepositories") and (name := value(target, "ImageRepositoryName")):
        of_images = exists("ecr", "describe_repositories", repositoryNames=[name])
        yield "ImageRepository", f"a repository of images {name}", of_images
    if deployment.has("GrantsAccess"):
        arn = f"arn:{deployment.partition}:iam::{target.account}:policy/sekisho-access-boundary"
        text = "a policy sekisho-access-boundary (GrantsAccess can be set in one region of an account only)"
        yield "AccessBoundary", text, exists("iam", "get_policy", PolicyArn=arn)
