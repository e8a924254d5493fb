"""The instance metadata service of one EC2 instance, to which an instance profile can be attached.

The emulator's own service names a role that does not exist, and its keys belong to nobody. This module returns the keys
of a session of the profile's role, if that role trusts EC2. A client uses the service if
AWS_EC2_METADATA_SERVICE_ENDPOINT is set to the endpoint of the local cloud.
"""

from typing import Any

from ministack import app
from ministack.core.responses import request_scope
from ministack.services import iam as emulator_iam
from ministack.services import imds

from local_cloud import iam
from local_cloud.services import Json
from tools.layout import REGION

_emulator_handle = imds.handle_request
_emulator_credentials = imds._credentials_doc


class _Instance:
    """The account of the instance, and the name of its instance profile; both are empty if no profile is attached."""

    account = profile = ""


_instance = _Instance()


def install() -> None:
    """Patches the emulator."""
    app.SERVICE_HANDLERS["imds"] = _handle
    imds._credentials_doc = _credentials


def _attach(rest: str, _body: bytes) -> tuple[int, str]:
    """Attaches an instance profile to the instance. `rest` is `<account>/<name of the profile>`."""
    account, _, profile = rest.partition("/")
    if _role_of(account, profile) is None:
        raise ValueError(f"account {account} has no instance profile {profile!r} with a role")
    _instance.account, _instance.profile = account, profile
    return 200, "attached\n"


# The HTTP path on which a test attaches an instance profile. No AWS client uses this path.
PATHS = {"instance": _attach}


def _role_of(account: str, profile: str) -> str | None:
    """The name of the role in an instance profile; None if there is no such profile or role."""
    with request_scope(account, REGION):
        roles: list[str] = (emulator_iam._instance_profiles.get(profile) or {}).get("Roles", [])
    return roles[0] if roles else None


async def _handle(method: str, path: str, headers: Json, body: bytes, query: Json) -> Any:
    role = _role_of(_instance.account, _instance.profile)
    if role is None and "/iam" in path:
        return 404, {"Content-Type": "text/plain"}, b"Not Found"
    imds._DEFAULT_ROLE = role
    try:
        with request_scope(_instance.account, REGION):
            return await _emulator_handle(method, path, headers, body, query)
    except PermissionError:
        # As on AWS, the HTTP status is 200, and the document contains the error.
        return 200, {"Content-Type": "application/json"}, b'{"Code": "AssumeRoleUnauthorizedAccess"}'


def _credentials() -> Json:
    account = _instance.account
    session = iam.service_session(
        f"arn:aws:iam::{account}:role/{imds._DEFAULT_ROLE}",
        "ec2.amazonaws.com",
        f"arn:aws:ec2:{REGION}:{account}:instance/{imds._INSTANCE_ID}",
        account,
        imds._INSTANCE_ID,
    )
    document: Json = _emulator_credentials()
    return document | {
        "AccessKeyId": session["aws_access_key_id"],
        "SecretAccessKey": session["aws_secret_access_key"],
        "Token": session["aws_session_token"],
    }
