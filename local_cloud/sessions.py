"""A stand-in for Session Manager: StartSession, DescribeSessions and TerminateSession.

A session is only a record: there is no shell. The owner of a session is the caller of StartSession, as on AWS. Sessions
belong to an account and a region, and any target may be named. The only filter of DescribeSessions is the state.
"""

import json
import secrets
import time
from collections.abc import Callable
from typing import Any

from ministack import app
from ministack.core import iam_evaluator
from ministack.core.responses import error_response_json, get_account_id, get_region, json_response
from ministack.services import ssm

from local_cloud.services import JSON, Json, Refused, name_resources, operation_of, page

PAGE = 50
MOST = 200

# The sessions of each account and region, by their ids.
_sessions: dict[tuple[str, str], dict[str, Json]] = {}

_emulator_handle = ssm.handle_request


def install() -> None:
    """Adds the operations to the emulator's SSM, and the resources for which IAM checks their requests."""
    app.SERVICE_HANDLERS["ssm"] = _handle
    name_resources("ssm", _resource)


def _resource(operation: str, request: Json, region: str, account: str) -> str | None:
    if operation not in _OPERATIONS:
        return None
    if operation == "TerminateSession":
        return f"arn:aws:ssm:{region}:{account}:session/{request.get('SessionId', '')}"
    if operation == "StartSession":
        return f"arn:aws:ec2:{region}:{account}:instance/{request.get('Target', '')}"
    return "*"


def _here() -> dict[str, Json]:
    return _sessions.setdefault((get_account_id(), get_region()), {})


def _start(request: Json) -> Json:
    owner = iam_evaluator.caller_arn()
    identity = f"{owner.rpartition('/')[2]}-{secrets.token_hex(9)[:17]}"
    _here()[identity] = {
        "SessionId": identity,
        "Target": request.get("Target", ""),
        "Status": "Connected",
        "StartDate": time.time(),
        "Owner": owner,
    }
    return {"SessionId": identity, "TokenValue": "none", "StreamUrl": "wss://localhost"}


def _describe(request: Json) -> Json:
    if request.get("State") not in ("Active", "History") or not 1 <= request.get("MaxResults", 1) <= MOST:
        raise Refused("ValidationException", "State and MaxResults are not valid")
    ended = "Terminated" if request["State"] == "History" else "Connected"
    found = [one for one in _here().values() if one["Status"] == ended]
    return page(found, "Sessions", request, "InvalidNextToken", size=PAGE, names=("NextToken", "MaxResults"))


def _terminate(request: Json) -> Json:
    session = _here().get(request.get("SessionId", ""))
    if session is None:
        raise Refused("DoesNotExistException", "Session does not exist")
    session |= {"Status": "Terminated", "EndDate": time.time()}
    return {"SessionId": session["SessionId"]}


_OPERATIONS: dict[str, Callable[[Json], Json]] = {
    "StartSession": _start,
    "DescribeSessions": _describe,
    "TerminateSession": _terminate,
}


async def _handle(method: str, path: str, headers: Json, body: bytes, query: Json) -> Any:
    operation = _OPERATIONS.get(operation_of(headers))
    if operation is None:
        return await _emulator_handle(method, path, headers, body, query)
    try:
        return json_response(operation(json.loads(body or b"{}")), content_type=JSON)
    except Refused as error:
        return error_response_json(error.code, str(error), error.status, content_type=JSON)
