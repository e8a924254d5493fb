"""The session with which an action calls other services, and the permissions that no call checks."""

from ministack.core import iam_evaluator
from ministack.core.responses import request_scope

from local_cloud import iam
from local_cloud.codepipeline.state import pipeline_arn
from local_cloud.services import Credentials, Json, client


class Failed(Exception):
    """An action failed; `code` is CodePipeline's error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def session(execution: Json, action: Json) -> tuple[Credentials, str]:
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


def need_permission(
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
