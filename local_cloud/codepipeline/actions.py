"""Runs the actions of a pipeline. Each action uses a session of its role, and returns the summary of its outcome."""

import io
import json
import secrets
import time
import uuid
import zipfile
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError
from ministack.core import iam_evaluator
from ministack.core.responses import request_scope

from local_cloud import codecommit, iam
from local_cloud.codepipeline.state import changed, pipeline_arn
from local_cloud.services import Credentials, Json, client

POLL_SECONDS = 0.1


class Failed(Exception):
    """An action failed; `code` is CodePipeline's error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Stopped(Exception):
    """The execution was stopped or cancelled."""


def _session(execution: Json, action: Json) -> tuple[Credentials, str]:
    """The action's credentials and its role. The pipeline's role assumes the action's own role if there is one."""
    role: str = execution["structure"]["roleArn"]
    arn = pipeline_arn(execution["structure"]["name"])
    try:
        credentials = iam.service_session(
            role, "codepipeline.amazonaws.com", arn, execution["account"], execution["id"]
        )
    except PermissionError as error:
        raise Failed("PermissionError", str(error)) from None
    if action.get("roleArn"):
        role = action["roleArn"]
        sts = client("sts", execution["region"], credentials)
        given = sts.assume_role(RoleArn=role, RoleSessionName=execution["id"])["Credentials"]
        credentials = {
            "aws_access_key_id": given["AccessKeyId"],
            "aws_secret_access_key": given["SecretAccessKey"],
            "aws_session_token": given["SessionToken"],
        }
    return credentials, role


def _need_permission(
    credentials: Credentials, role: str, region: str, action: str, resource: str, **context: str
) -> None:
    """Raises `Failed` unless the role has the permission.

    Some permissions are checked by no API call of the local cloud: the SDKs lack the operation
    `codecommit:UploadArchive`, and AWS checks `iam:PassRole` within another call.
    """
    with request_scope(role.split(":")[4], region):
        key, service = credentials["aws_access_key_id"], action.split(":", maxsplit=1)[0]
        denied = iam_evaluator.enforce(key, action, service, region, resource, context)
    if denied is not None:
        raise Failed("PermissionError", f"{role} is not authorized to perform: {action} on resource: {resource}")


def _source(execution: Json, action: Json, configuration: Json, detail: Json) -> str:
    credentials, role = _session(execution, action)
    account, region = role.split(":")[4], detail["input"]["region"]
    name, branch = configuration["RepositoryName"], configuration["BranchName"]
    repositories = client("codecommit", region, credentials)
    if pin := execution["pins"].get(action["name"]):
        commit = pin["revisionValue"]
    else:
        commit = repositories.get_branch(repositoryName=name, branchName=branch)["branch"]["commitId"]
    about = repositories.get_commit(repositoryName=name, commitId=commit)["commit"]
    resource = f"arn:aws:codecommit:{region}:{account}:{name}"
    _need_permission(credentials, role, region, "codecommit:UploadArchive", resource)
    message: str = about["message"].strip()
    execution["revisions"][action["name"]] = {"name": action["name"], "revisionId": commit, "revisionSummary": message}
    for artifact in action.get("outputArtifacts", []):
        archive = codecommit.archive(name, commit)
        detail["output"]["outputArtifacts"].append(_put_artifact(execution, artifact["name"], archive, credentials))
    detail["output"]["outputVariables"] = {
        "RepositoryName": name,
        "BranchName": branch,
        "CommitId": commit,
        "CommitMessage": message,
        "AuthorDate": about["author"]["date"],
        "CommitterDate": about["committer"]["date"],
    }
    execution["variables"][action.get("namespace", "")] = detail["output"]["outputVariables"]
    return message


def _put_artifact(execution: Json, artifact: str, content: bytes, credentials: Credentials) -> Json:
    store = execution["structure"]["artifactStore"]
    key = f"{execution['structure']['name'][:20]}/{artifact[:10]}/{secrets.token_urlsafe(8)[:7]}"
    encryption = {"ServerSideEncryption": "aws:kms"}
    if "encryptionKey" in store:
        encryption["SSEKMSKeyId"] = store["encryptionKey"]["id"]
    client("s3", execution["region"], credentials).put_object(
        Bucket=store["location"], Key=key, Body=content, ContentType="application/zip", **encryption
    )
    execution["artifacts"][artifact] = {"bucket": store["location"], "key": key}
    return {"name": artifact, "s3location": execution["artifacts"][artifact]}


def _deploy(execution: Json, action: Json, configuration: Json, detail: Json) -> str:
    credentials, role = _session(execution, action)
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
        _need_permission(credentials, role, region, "iam:PassRole", configuration["RoleArn"], **service)
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


def _file(execution: Json, path: str, credentials: Credentials) -> str:
    artifact, _, name = path.partition("::")
    place = execution["artifacts"][artifact]
    s3 = client("s3", execution["region"], credentials)
    content = s3.get_object(Bucket=place["bucket"], Key=place["key"])["Body"].read()
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
        credentials, _ = _session(execution, action)
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
    ("Source", "CodeCommit"): _source,
    ("Deploy", "CloudFormation"): _deploy,
    ("Approval", "Manual"): _approve,
}
