"""A stand-in for the users of IAM Identity Center: the service identitystore.

The store belongs to the organization's management account, which creates and deletes users. Each member may look users
up. As on AWS, a policy must allow the store as well as the users.
"""

import secrets
import uuid
from collections.abc import Callable

from ministack.core import iam_evaluator
from ministack.core.responses import get_account_id, get_region

from local_cloud.organization import MANAGEMENT
from local_cloud.services import Json, Refused, register
from tools.layout import IDENTITY_STORE

STORE_ARN = f"arn:aws:identitystore::{MANAGEMENT}:identitystore/{IDENTITY_STORE}"

# The users, by their ids.
_users: dict[str, Json] = {}


def install() -> None:
    """Adds the service."""
    operations = {name: _judged(name, operation) for name, operation in _OPERATIONS.items()}
    register("identitystore", "AWSIdentityStore", operations, lambda *_: STORE_ARN)


def user(identity: str) -> Json:
    """The user with this id."""
    found = _users.get(identity)
    if found is None:
        raise Refused("ResourceNotFoundException", "USER not found.", 404)
    return found


def _judged(name: str, operation: Callable[[Json], Json]) -> Callable[[Json], Json]:
    """An operation for which IAM also checks the users; that it checks the store is the rule for every request."""

    def judged(request: Json) -> Json:
        if request.get("IdentityStoreId") != IDENTITY_STORE:
            raise Refused("ResourceNotFoundException", "IDENTITY_STORE not found.", 404)
        denied = None
        if name != "CreateUser":
            users = f"arn:aws:identitystore:::user/{request.get('UserId', '*')}"
            key = iam_evaluator._verified_key.get()
            denied = iam_evaluator.enforce(key, f"identitystore:{name}", "identitystore", get_region(), users)
        if denied is not None or (name in ("CreateUser", "DeleteUser") and get_account_id() != MANAGEMENT):
            message = f"User: {iam_evaluator.caller_arn()} is not authorized to perform: identitystore:{name}"
            raise Refused("AccessDeniedException", message)
        return operation(request)

    return judged


def _create(request: Json) -> Json:
    for path in ("userName", "emails.value"):
        if any(_value(one, path) is not None and _value(one, path) == _value(request, path) for one in _users.values()):
            raise Refused("ConflictException", f"Duplicate {path}.", 409)
    if not request.get("UserName"):
        raise Refused("ValidationException", "UserName is required.")
    identity = f"{secrets.token_hex(5)}-{uuid.uuid4()}"
    _users[identity] = {**request, "UserId": identity, "UserStatus": "ENABLED"}
    return _named(identity)


def _named(identity: str) -> Json:
    return {"IdentityStoreId": IDENTITY_STORE, "UserId": identity}


def _value(one: Json, path: str) -> str | None:
    emails: list[Json] = one.get("Emails") or [{}]
    value: str | None = one.get("UserName") if path == "userName" else emails[0].get("Value")
    return value


def _delete(request: Json) -> Json:
    del _users[user(request.get("UserId", ""))["UserId"]]
    return {}


def _describe(request: Json) -> Json:
    return user(request.get("UserId", ""))


def _find(request: Json) -> Json:
    unique = request.get("AlternateIdentifier", {}).get("UniqueAttribute", {})
    path, wanted = unique.get("AttributePath"), unique.get("AttributeValue")
    if path not in ("userName", "emails.value") or not isinstance(wanted, str):
        raise Refused("ValidationException", "AlternateIdentifier must name userName or emails.value.")
    for identity, one in _users.items():
        if _value(one, path) == wanted:
            return _named(identity)
    raise Refused("ResourceNotFoundException", "USER not found.", 404)


_OPERATIONS = {"CreateUser": _create, "DeleteUser": _delete, "DescribeUser": _describe, "GetUserId": _find}
