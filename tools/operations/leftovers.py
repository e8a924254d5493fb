"""Finds the template's resources that may outlive their stack, and offers a function that removes each."""

import datetime
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.exceptions import ClientError

from tools.failure import Failure
from tools.layout import LEDGER
from tools.operations.environment import Environment
from tools.operations.stack_history import StackHistory
from tools.operations.template import value

# The error codes with which the services report that a resource does not exist.
GONE = {
    "404",
    "NoSuchBucket",
    "NoSuchEntity",
    "NotFoundException",
    "PipelineNotFoundException",
    "RepositoryDoesNotExistException",
    "RepositoryNotFoundException",
    "RepositoryPolicyNotFoundException",
    "ResourceNotFoundException",
}
# For each duty, the functions that an account with this duty has: the logical id and the name.
FUNCTIONS_OF = {
    "HostsRepositories": {"EventRelay": "sekisho-event-relay"},
    "HostsPipelines": {
        "PipelineStarter": "sekisho-pipeline-starter",
        "ArtifactChecker": "sekisho-artifact-checker",
        "ArtifactSweeper": "sekisho-artifact-sweeper",
    },
    "GrantsAccess": {"TempAccess": "temp-access"},
}
# The days until KMS deletes a key. KMS accepts no longer time. Until the end, the deletion can be cancelled.
KEY_DAYS = 30


@dataclass(frozen=True)
class Leftover:
    """A resource of the template that exists: its logical and its physical id, and when it was created."""

    logical: str
    identity: str
    text: str
    created: datetime.datetime
    remove: Callable[[], object]
    # The part of the removal that must come before the stack's deletion, because CloudFormation would fail without it.
    before_stack: Callable[[], object] | None = None
    # The reason for which the resource stays even if a failed first deployment created it.
    obstacle: str | None = None


def found(call: Callable[..., Any], **arguments: Any) -> dict[str, Any] | None:
    """The answer of a call about a resource, or None if the resource does not exist."""
    try:
        answer: dict[str, Any] = call(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] in GONE:
            return None
        raise
    return answer


def bucket_name(target: Environment) -> str:
    """The name of the artifact bucket."""
    return f"sekisho-artifacts-{target.account}-{target.region}"


def leftovers(session: boto3.Session, target: Environment, stacks: Iterable[StackHistory]) -> Iterator[Leftover]:
    """The retained resources that exist now. It does not matter which stack created them."""
    yield from _ledger(session)
    yield from _bucket(session, bucket_name(target))
    yield from _repository(session, value(target, "RepositoryName"))
    # In a pipeline account, the parameter names a repository of the repository account.
    if target.does("HostsRepositories") and (name := value(target, "ImageRepositoryName")):
        yield from _image_repository(session, name)
    for functions in FUNCTIONS_OF.values():
        for function, name in functions.items():
            yield from _log_group(session, f"{function}Logs", f"/aws/lambda/{name}")
    for key in {one.created_resource("ArtifactKey") for one in stacks}:
        if key:
            yield from _key(session, key)


def _ledger(session: boto3.Session) -> Iterator[Leftover]:
    dynamodb = session.client("dynamodb")
    described = found(dynamodb.describe_table, TableName=LEDGER)
    if described is None:
        return
    table = described["Table"]

    def remove() -> None:
        if table.get("DeletionProtectionEnabled"):
            dynamodb.update_table(TableName=LEDGER, DeletionProtectionEnabled=False)
        # UpdateTable returns before the table is active again, so this waits until DeleteTable can succeed.
        dynamodb.get_waiter("table_exists").wait(TableName=LEDGER)
        dynamodb.delete_table(TableName=LEDGER)
        dynamodb.get_waiter("table_not_exists").wait(TableName=LEDGER)

    yield Leftover("Ledger", LEDGER, f"table {LEDGER}, with all its rows", table["CreationDateTime"], remove)


def _bucket(session: boto3.Session, name: str) -> Iterator[Leftover]:
    s3 = session.client("s3")
    created = {one["Name"]: one["CreationDate"] for one in s3.list_buckets()["Buckets"]}
    if name not in created:
        return

    def empty() -> None:
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
            listed = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            keys: Any = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in listed]
            if keys and (
                errors := s3.delete_objects(Bucket=name, Delete={"Objects": keys, "Quiet": True}).get("Errors")
            ):
                raise Failure(f"Bucket {name} can't be emptied ({errors[0].get('Message')}): see its policy.")

    def remove() -> None:
        # The deletion of the stack may have removed the bucket in the meantime.
        if found(s3.head_bucket, Bucket=name) is not None:
            empty()
            s3.delete_bucket(Bucket=name)

    text = f"bucket {name}, with all versions of its objects"
    yield Leftover("ArtifactBucket", name, text, created[name], remove, before_stack=empty)


def _repository(session: boto3.Session, name: str) -> Iterator[Leftover]:
    codecommit = session.client("codecommit")
    described = found(codecommit.get_repository, repositoryName=name)
    if described is None:
        return
    metadata = described["repositoryMetadata"]
    branches = codecommit.list_branches(repositoryName=name)["branches"]
    obstacle = (
        f"it has branches ({', '.join(branches[:3])}). If you have a copy of them: "
        f"aws codecommit delete-repository --repository-name {name} --region {session.region_name}"
    )
    yield Leftover(
        "Repository",
        metadata["repositoryId"],
        f"repository {name}",
        metadata["creationDate"],
        lambda: codecommit.delete_repository(repositoryName=name),
        obstacle=obstacle if branches else None,
    )


def _image_repository(session: boto3.Session, name: str) -> Iterator[Leftover]:
    ecr = session.client("ecr")
    described = found(ecr.describe_repositories, repositoryNames=[name])
    if described is None:
        return
    (repository,) = described["repositories"]
    images = ecr.list_images(repositoryName=name)["imageIds"]
    obstacle = (
        "it has images. If nobody needs them: "
        f"aws ecr delete-repository --force --repository-name {name} --region {session.region_name}"
    )
    yield Leftover(
        "ImageRepository",
        name,
        f"repository of images {name}",
        repository["createdAt"],
        lambda: ecr.delete_repository(repositoryName=name),
        obstacle=obstacle if images else None,
    )


def log_group(logs: Any, name: str) -> dict[str, Any] | None:
    """The log group with this name; None if there is none."""
    groups = logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    return next((one for one in groups if one["logGroupName"] == name), None)


def _log_group(session: boto3.Session, logical: str, name: str) -> Iterator[Leftover]:
    """The function's log group, if any. CloudFormation deletes it, but a function that still writes gets a new one."""
    logs = session.client("logs")
    if group := log_group(logs, name):
        created = datetime.datetime.fromtimestamp(group["creationTime"] / 1000, datetime.UTC)

        def remove() -> None:
            if log_group(logs, name):
                logs.delete_log_group(logGroupName=name)

        yield Leftover(logical, name, f"log group {name}", created, remove)


def _key(session: boto3.Session, key: str) -> Iterator[Leftover]:
    kms = session.client("kms")
    described = found(kms.describe_key, KeyId=key)
    if described is None or described["KeyMetadata"]["KeyState"].startswith("Pending"):
        return
    yield Leftover(
        "ArtifactKey",
        key,
        f"key {key}, which KMS deletes after {KEY_DAYS} days; until then the deletion can be cancelled",
        described["KeyMetadata"]["CreationDate"],
        lambda: kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=KEY_DAYS),
    )
