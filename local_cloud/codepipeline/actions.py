"""Runs the actions of a pipeline. Each action uses a session of its role, and returns the summary of its outcome."""

import io
import json
import time
import uuid
import zipfile
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from local_cloud.codepipeline import sources
from local_cloud.codepipeline.permissions import Failed, need_permission, session
from local_cloud.codepipeline.state import changed
from local_cloud.services import Credentials, Json, client

POLL_SECONDS = 0.1


class Stopped(Exception):
    """The execution was stopped or cancelled."""


def _deploy(execution: Json, action: Json, configuration: Json, detail: Json) -> str:
    credentials, role = session(execution, action)
    region, stack, mode = detail["input"]["region"], configuration["StackName"], configuration["ActionMode"]
    cloudformation = client("cloudformation", region, credentials)
    if mode == "CHANGE_SET_EXECUTE":
        return _execute_change_set(cloudformation, stack, configuration["ChangeSetName"])
    if mode not in ("CREATE_UPDATE", "CHANGE_SET_REPLACE"):
        raise Failed("ConfigurationError", f"The local cloud does not know ActionMode {mode}")
    overrides = json.loads(configuration.get("ParameterOverrides") or "{}")
    request = {
        "StackName": stack,
        "TemplateBody": _file(execution, configuration["TemplatePath"], credentials),
        "Capabilities": [one for one in configuration.get("Capabilities", "").split(",") if one],
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in overrides.items()],
    }
    if configuration.get("RoleArn"):
        service = {"iam:PassedToService": "cloudformation.amazonaws.com"}
        need_permission(credentials, role, region, "iam:PassRole", configuration["RoleArn"], **service)
        request["RoleARN"] = configuration["RoleArn"]
    exists = _status(cloudformation, stack) not in (None, "REVIEW_IN_PROGRESS")
    if mode == "CHANGE_SET_REPLACE":
        return _create_change_set(cloudformation, configuration["ChangeSetName"], request, exists)
    try:
        (cloudformation.update_stack if exists else cloudformation.create_stack)(**request)
    except ClientError as error:
        if "No updates are to be performed" not in str(error):
            raise
        return "Nothing to change"
    return _wait_for_stack(cloudformation, stack)


def _execute_change_set(cloudformation: Any, stack: str, name: str) -> str:
    change = cloudformation.describe_change_set(StackName=stack, ChangeSetName=name)
    if _changes_nothing(change):
        return "Nothing to change"
    cloudformation.execute_change_set(StackName=stack, ChangeSetName=name)
    return _wait_for_stack(cloudformation, stack)


def _create_change_set(cloudformation: Any, name: str, request: Json, exists: bool) -> str:
    stack = request["StackName"]
    if exists:
        cloudformation.delete_change_set(StackName=stack, ChangeSetName=name)
    cloudformation.create_change_set(ChangeSetName=name, ChangeSetType="UPDATE" if exists else "CREATE", **request)
    while True:
        change = cloudformation.describe_change_set(StackName=stack, ChangeSetName=name)
        if change["Status"] == "CREATE_COMPLETE":
            return f"Change set {name} was created."
        if _changes_nothing(change):
            return "Nothing to change"
        if change["Status"] == "FAILED":
            raise Failed("JobFailed", f"Change set {name} failed: {change.get('StatusReason')}")
        time.sleep(POLL_SECONDS)


def _changes_nothing(change: Json) -> bool:
    reason = change.get("StatusReason") or ""
    return change["Status"] == "FAILED" and ("didn't contain changes" in reason or "No updates" in reason)


def _deploy_files(execution: Json, action: Json, configuration: Json, detail: Json) -> str:
    """Puts the files of the input artifact, or the artifact itself, into a bucket. Like AWS, it removes no file."""
    if unknown := set(configuration) - {"BucketName", "Extract", "ObjectKey"}:
        raise Failed("ConfigurationError", f"The local cloud does not know {', '.join(sorted(unknown))}")
    credentials, _ = session(execution, action)
    s3 = client("s3", detail["input"]["region"], credentials)
    content = _artifact(execution, action["inputArtifacts"][0]["name"], credentials)
    bucket, key = configuration["BucketName"], configuration.get("ObjectKey", "")
    if configuration.get("Extract") != "true":
        if not key:
            raise Failed("ConfigurationError", "ObjectKey is required if Extract is false")
        s3.put_object(Bucket=bucket, Key=key, Body=content)
        return f"Deployed the artifact to {bucket}/{key}"
    archive = zipfile.ZipFile(io.BytesIO(content))
    names = [one.filename for one in archive.infolist() if not one.is_dir()]
    for name in names:
        s3.put_object(Bucket=bucket, Key=f"{key}/{name}" if key else name, Body=archive.read(name))
    return f"Deployed {len(names)} files to {bucket}"


def _artifact(execution: Json, name: str, credentials: Credentials) -> bytes:
    place = execution["artifacts"][name]
    s3 = client("s3", execution["region"], credentials)
    content: bytes = s3.get_object(Bucket=place["bucket"], Key=place["key"])["Body"].read()
    return content


def _file(execution: Json, path: str, credentials: Credentials) -> str:
    artifact, _, name = path.partition("::")
    content = _artifact(execution, artifact, credentials)
    try:
        return zipfile.ZipFile(io.BytesIO(content)).read(name).decode()
    except KeyError:
        raise Failed("ConfigurationError", f"Artifact {artifact} has no file {name}") from None


def _status(cloudformation: Any, stack: str) -> str | None:
    try:
        described = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise
    status: str = described["StackStatus"]
    return status


def _wait_for_stack(cloudformation: Any, stack: str) -> str:
    while (status := _status(cloudformation, stack)) is not None and status.endswith("IN_PROGRESS"):
        time.sleep(POLL_SECONDS)
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise Failed("JobFailed", f"Stack {stack} ended as {status}")
    return f"Stack {stack} ended as {status}"


def _approve(execution: Json, action: Json, configuration: Json, detail: Json) -> str:
    detail["token"] = str(uuid.uuid4())
    pipeline = execution["structure"]["name"]
    if configuration.get("NotificationArn"):
        credentials, _ = session(execution, action)
        approval = {
            "pipelineName": pipeline,
            "stageName": detail["stageName"],
            "actionName": action["name"],
            "token": detail["token"],
            "externalEntityLink": configuration.get("ExternalEntityLink"),
            "customData": configuration.get("CustomData"),
        }
        client("sns", execution["region"], credentials).publish(
            TopicArn=configuration["NotificationArn"],
            Subject=f"APPROVAL NEEDED: AWS CodePipeline {pipeline}"[:100],
            Message=json.dumps({"region": execution["region"], "approval": approval}),
        )
    with changed:
        while "approval" not in detail:
            if execution["abandoned"] or execution["status"] == "Cancelled":
                raise Stopped
            changed.wait(1)
    result: dict[str, str] = detail["approval"]
    if result["status"] != "Approved":
        raise Failed("JobFailed", f"Rejected: {result.get('summary', '')}")
    return result.get("summary", "")


# The functions that run the supported actions, by the action's category and provider.
ACTIONS: dict[tuple[str, str], Callable[[Json, Json, Json, Json], str]] = {
    ("Source", "CodeCommit"): sources.take_commit,
    ("Source", "ECR"): sources.take_image,
    ("Deploy", "CloudFormation"): _deploy,
    ("Deploy", "S3"): _deploy_files,
    ("Approval", "Manual"): _approve,
}
