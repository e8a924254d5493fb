"""One organization of all accounts, and the condition keys about it.

By itself, the emulator gives each account that calls Organizations an organization of its own, and knows no paths. Here
the repository account manages one organization. The test and production accounts are in its unit `workloads`, and
the fourth account is directly below the root.
"""

import time
from typing import Any

from ministack import app
from ministack.core import iam_evaluator
from ministack.core.responses import error_response_json, get_account_id, get_region, request_scope
from ministack.services import organizations

from local_cloud.services import JSON, Json, operation_of
from tools.layout import ACCOUNTS, ORGANIZATION, ORGANIZATION_ROOT, OUTSIDE_ACCOUNT, REGION, WORKLOADS_UNIT

MANAGEMENT = ACCOUNTS["repository"]
UNIT = "workloads"
# For each condition key about an organization: whose account counts, and whether the value is the account's path.
KEYS = {
    "aws:principalorgid": ("principal", False),
    "aws:principalorgpaths": ("principal", True),
    "aws:resourceorgid": ("resource", False),
    "aws:resourceorgpaths": ("resource", True),
    "aws:sourceorgid": ("source", False),
    "aws:sourceorgpaths": ("source", True),
}

_emulator_handle = organizations.handle_request


def install() -> None:
    """Creates the organization, and adds its condition keys to those of the module `iam`."""
    with request_scope(MANAGEMENT, REGION):
        _create()
    others = iam_evaluator._resolve_condition_key

    def resolve(key: str, context: Any) -> Any:
        found = KEYS.get(key.lower())
        if found is None:
            return others(key, context)
        whose, is_path = found
        path = path_of(_account(whose, context, others))
        if path is None:
            return None
        return [path] if is_path else ORGANIZATION

    iam_evaluator._resolve_condition_key = resolve
    app.SERVICE_HANDLERS["organizations"] = _handle


def _create() -> None:
    of_organization = f"arn:aws:organizations::{MANAGEMENT}"
    root = f"{of_organization}:root/{ORGANIZATION}/{ORGANIZATION_ROOT}"
    organizations._orgs["self"] = {
        "Id": ORGANIZATION,
        "Arn": f"{of_organization}:organization/{ORGANIZATION}",
        "FeatureSet": "ALL",
        "MasterAccountArn": f"{of_organization}:account/{ORGANIZATION}/{MANAGEMENT}",
        "MasterAccountId": MANAGEMENT,
        "MasterAccountEmail": _email("repository"),
        "AvailablePolicyTypes": [],
    }
    organizations._roots[ORGANIZATION_ROOT] = {"Id": ORGANIZATION_ROOT, "Arn": root, "Name": "Root", "PolicyTypes": []}
    organizations._ous[WORKLOADS_UNIT] = {
        "Id": WORKLOADS_UNIT,
        "Arn": f"{of_organization}:ou/{ORGANIZATION}/{WORKLOADS_UNIT}",
        "Name": UNIT,
        "Path": f"/{UNIT}/",
        "_ParentId": ORGANIZATION_ROOT,
    }
    for name, account in {**ACCOUNTS, "outside": OUTSIDE_ACCOUNT}.items():
        organizations._accounts[account] = {
            "Id": account,
            "Arn": f"{of_organization}:account/{ORGANIZATION}/{account}",
            "Email": _email(name),
            "Name": name,
            "Status": "ACTIVE",
            "JoinedMethod": "INVITED" if account == MANAGEMENT else "CREATED",
            "JoinedTimestamp": int(time.time()),
            "Path": "/",
            "_ParentId": WORKLOADS_UNIT if name in ("test", "production") else ORGANIZATION_ROOT,
        }


def _email(name: str) -> str:
    return f"{name}@example.com"


def path_of(account: str | None) -> str | None:
    """The account's path as condition keys have it, such as `o-x/r-y/ou-z/`; None outside the organization."""
    with request_scope(MANAGEMENT, REGION):
        member = organizations._accounts.get(account)
        if member is None:
            return None
        path, parent = "", member["_ParentId"]
        while parent is not None:
            path = f"{parent}/{path}"
            parent = (organizations._ous.get(parent) or {}).get("_ParentId")
    return f"{ORGANIZATION}/{path}"


def _account(whose: str, context: Any, others: Any) -> str | None:
    """The account that a condition key is about; None if a request like this one does not have the key."""
    account: str | None
    # A service is no principal of an organization. Only its request has a source, the account for which it acts.
    by_service = context.principal_type == "Service"
    if whose == "source":
        account = context.service_context.get("aws:sourceaccount") if by_service else None
    elif whose == "principal":
        account = None if by_service else context.principal_account
    else:
        account = others("aws:ResourceAccount", context)
    return account


async def _handle(method: str, path: str, headers: Json, body: bytes, query: Json) -> Any:
    """Answers for the one organization. As on AWS, members may only describe it."""
    caller = get_account_id()
    if path_of(caller) is None:
        return _error("AWSOrganizationsNotInUseException", "Your account is not a member of an organization.")
    if caller != MANAGEMENT and operation_of(headers) != "DescribeOrganization":
        return _error("AccessDeniedException", "You don't have permissions to access this resource.")
    with request_scope(MANAGEMENT, get_region()):
        return await _emulator_handle(method, path, headers, body, query)


def _error(code: str, message: str) -> Any:
    return error_response_json(code, message, 400, content_type=JSON)
