"""The versions of managed policies: numbers that never come again, SetDefaultPolicyVersion, the size, and stale reads.

As on AWS, a policy has at most five versions, the default one is in force, and it can't be deleted. On AWS, IAM's reads
lag behind its writes. Here they do so only if a test asks for it; what is in force never lags.
"""

import copy
import re
import time
from collections.abc import Callable
from typing import Any

from ministack.core.responses import get_account_id
from ministack.services import iam

from local_cloud.services import Json

# AWS's limit for a managed policy, in characters without white space.
SIZE = 6144
READS = ("GetPolicy", "GetPolicyVersion", "ListPolicyVersions")
WRITES = ("CreatePolicyVersion", "SetDefaultPolicyVersion", "DeletePolicyVersion", "CreatePolicy", "DeletePolicy")


class _Lag:
    """How many seconds a read lags behind the writes."""

    seconds = 0.0


# For each account and policy: since when it is as recorded. The first record of a policy that was there has time 0.
_history: dict[tuple[str, str], list[tuple[float, Json | None]]] = {}


_emulator_create_version = iam._create_policy_version


def install() -> None:
    """Patches the emulator."""
    handlers = iam._IAM_HANDLERS
    # Templates create versions, too.
    iam._create_policy_version = _create_version
    handlers["SetDefaultPolicyVersion"] = _set_default
    handlers["CreatePolicyVersion"] = _within_size(_create_version)
    handlers["CreatePolicy"] = _within_size(iam._create_policy)
    for name in WRITES:
        handlers[name] = _recorded(handlers[name])
    for name in READS:
        handlers[name] = _stale(handlers[name])


def _set_lag(rest: str, _body: bytes) -> tuple[int, str]:
    _Lag.seconds = float(rest)
    return 200, f"reads lag by {rest} s\n"


# The HTTP path on which a test makes reads lag: `<seconds>` follows. No AWS client uses this path.
PATHS = {"stale-policies": _set_lag}


def _arn(request: Json) -> str:
    path = iam._p(request, "Path") or "/"
    created = f"arn:aws:iam::{get_account_id()}:policy{path}{iam._p(request, 'PolicyName')}"
    return iam._p(request, "PolicyArn") or created


def _set_default(request: Json) -> Any:
    policy, wanted = iam._policies.get(_arn(request)), iam._p(request, "VersionId")
    if policy is None or wanted not in policy["Versions"]:
        return iam._error(404, "NoSuchEntity", f"Policy version {wanted} not found.", ns="iam")
    for name, version in policy["Versions"].items():
        version["IsDefaultVersion"] = name == wanted
    policy["DefaultVersionId"] = wanted
    return iam._xml(200, "SetDefaultPolicyVersionResponse", "", ns="iam")


def _create_version(request: Json) -> Any:
    """Creates a version whose number the policy never had. The emulator gives the number of a deleted version again."""
    policy = iam._policies.get(_arn(request))
    status, headers, body = _emulator_create_version(request)
    if policy is None or status != 200:
        return status, headers, body
    given = next(reversed(policy["Versions"]))
    policy["Highest"] = max(policy.get("Highest", 1) + 1, int(given[1:]))
    name = f"v{policy['Highest']}"
    policy["Versions"][name] = policy["Versions"].pop(given) | {"VersionId": name}
    if policy["DefaultVersionId"] == given:
        policy["DefaultVersionId"] = name
    return status, headers, body.replace(f"<VersionId>{given}<".encode(), f"<VersionId>{name}<".encode())


def _within_size(put: Callable[[Json], Any]) -> Callable[[Json], Any]:
    def put_within_size(request: Json) -> Any:
        if len(re.sub(r"\s", "", iam._p(request, "PolicyDocument"))) > SIZE:
            return iam._error(409, "LimitExceeded", f"Cannot exceed quota for PolicySize: {SIZE}", ns="iam")
        return put(request)

    return put_within_size


def _recorded(write: Callable[[Json], Any]) -> Callable[[Json], Any]:
    def recorded(request: Json) -> Any:
        arn = _arn(request)
        records = _history.setdefault((get_account_id(), arn), [])
        if not records:
            records.append((0, copy.deepcopy(iam._policies.get(arn))))
        answer = write(request)
        records.append((time.monotonic(), copy.deepcopy(iam._policies.get(arn))))
        return answer

    return recorded


def _stale(read: Callable[[Json], Any]) -> Callable[[Json], Any]:
    def stale(request: Json) -> Any:
        arn = _arn(request)
        records = _history.get((get_account_id(), arn))
        if not _Lag.seconds or not records:
            return read(request)
        now = iam._policies.get(arn)
        if records[-1][1] != now:
            # A template changed the policy.
            records.append((time.monotonic(), copy.deepcopy(now)))
        shown = [policy for since, policy in records if since <= time.monotonic() - _Lag.seconds][-1]
        _show(arn, shown)
        try:
            return read(request)
        finally:
            _show(arn, now)

    return stale


def _show(arn: str, policy: Json | None) -> None:
    if policy is None:
        iam._policies.pop(arn, None)
    else:
        iam._policies[arn] = policy
