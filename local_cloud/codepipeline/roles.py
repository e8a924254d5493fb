"""Checks the roles of a pipeline, as CodePipeline does when a pipeline is created or updated."""

import contextvars
import itertools

from ministack.core.responses import get_account_id, get_region

from local_cloud import iam
from local_cloud.codepipeline.state import pipeline_arn
from local_cloud.services import Json, Refused

SERVICE = "codepipeline.amazonaws.com"
# The session name does not matter, because no policy in the tests compares a session name.
SESSION = "pipeline-definition"


def check(structure: Json) -> None:
    """Refuses the pipeline unless CodePipeline may assume its role, and its role may assume the role of each action.

    AWS makes the same check in CreatePipeline and UpdatePipeline, even if an action's role belongs to another account.
    """
    # The check runs without the caller's context, because on AWS CodePipeline itself assumes these roles.
    arn, account, region = pipeline_arn(structure["name"]), get_account_id(), get_region()
    contextvars.Context().run(_check, structure, arn, account, region)


def _check(structure: Json, arn: str, account: str, region: str) -> None:
    role = structure["roleArn"]
    try:
        credentials = iam.service_session(role, SERVICE, arn, account, SESSION)
    except PermissionError:
        raise _refused("CodePipeline", role) from None
    session = f"arn:aws:sts::{role.split(':')[4]}:assumed-role/{role.rsplit('/', 1)[-1]}/{SESSION}"
    for action in itertools.chain.from_iterable(stage["actions"] for stage in structure["stages"]):
        other = action.get("roleArn")
        if other and not iam.session_may_assume(credentials, session, region, other):
            raise _refused(role, other)


def _refused(who: str, role: str) -> Refused:
    # The message has AWS's wording.
    return Refused("InvalidStructureException", f"{who} is not authorized to perform AssumeRole on role {role}")
