"""A stand-in for the permission sets of IAM Identity Center: in templates, as roles of accounts, and in sessions.

An assignment of a permission set to an account creates the set's role there. A POST to
`/_local-cloud/sign-in/<account>/<permission set>` with the id of a user returns the keys of that user's session.
"""

import json
import re
import secrets
import time
from collections.abc import Callable
from typing import Any

from ministack.core.responses import request_scope
from ministack.services import iam, sts
from ministack.services.cloudformation import provisioners

from local_cloud import identity_store
from local_cloud.services import Json, register
from tools.layout import IDENTITY_CENTER, IDENTITY_STORE, REGION

RESERVED = "/aws-reserved/"
PATH = f"{RESERVED}sso.amazonaws.com/{REGION}/"
# Nobody may edit the role of a permission set by these operations of IAM.
EDITS = (
    "AttachRolePolicy",
    "DeleteRole",
    "DeleteRolePermissionsBoundary",
    "DeleteRolePolicy",
    "DetachRolePolicy",
    "PutRolePermissionsBoundary",
    "PutRolePolicy",
    "TagRole",
    "UntagRole",
    "UpdateAssumeRolePolicy",
    "UpdateRole",
)

# The permission sets, by their ARNs. `Roles` has the name of the set's role in each account.
_sets: dict[str, Json] = {}
# The ids of the assignments. Each names the account and the permission set.
_assignments: set[str] = set()


def install() -> None:
    """Adds the resource types to CloudFormation, and ListInstances to SSO."""
    handlers = provisioners._RESOURCE_HANDLERS
    handlers["AWS::SSO::PermissionSet"] = {"create": _create, "update": _update, "delete": _delete}
    handlers["AWS::SSO::Assignment"] = {"create": _assign, "update": _reassign, "delete": _withdraw}
    instance = {"InstanceArn": IDENTITY_CENTER, "IdentityStoreId": IDENTITY_STORE, "Status": "ACTIVE"}
    register("sso", "SWBExternalService", {"ListInstances": lambda _: {"Instances": [instance]}}, lambda *_: "*")
    for name in EDITS:
        iam._IAM_HANDLERS[name] = _unless_reserved(iam._IAM_HANDLERS[name])


def _unless_reserved(edit: Callable[[Json], Any]) -> Callable[[Json], Any]:
    def edit_unless_reserved(request: Json) -> Any:
        name = iam._p(request, "RoleName")
        if iam._roles.get(name, {}).get("Path", "/").startswith(RESERVED):
            message = (
                f"Cannot perform the operation on the protected role '{name}' - this role is only modifiable by AWS"
            )
            return iam._error(400, "UnmodifiableEntity", message, ns="iam")
        return edit(request)

    return edit_unless_reserved


def _create(_logical: str, properties: Json, _stack: str) -> tuple[str, Json]:
    name = properties["Name"]
    if any(one["Name"] == name for one in _sets.values()):
        raise ValueError(f"AWS::SSO::PermissionSet {name} already exists")
    arn = f"{IDENTITY_CENTER.replace('instance', 'permissionSet')}/ps-{secrets.token_hex(8)}"
    _sets[arn] = {**properties, "Roles": {}}
    return f"{properties['InstanceArn']}|{arn}", {"PermissionSetArn": arn}


def _update(physical: str, old: Json, new: Json, stack: str) -> tuple[str, Json]:
    if new["Name"] != old["Name"]:
        return _create("", new, stack)
    arn = physical.partition("|")[2]
    roles = _sets[arn]["Roles"]
    _sets[arn] = {**new, "Roles": roles}
    for account in roles:
        _provision(_sets[arn], account)
    return physical, {"PermissionSetArn": arn}


def _delete(physical: str, _properties: Json) -> None:
    removed = _sets.pop(physical.partition("|")[2], {"Roles": {}})
    for account, role in removed["Roles"].items():
        iam._roles.pop_scoped(account, None, role, None)


def _assign(_logical: str, properties: Json, _stack: str) -> tuple[str, Json]:
    arn, account = properties["PermissionSetArn"], properties["TargetId"]
    if arn not in _sets:
        raise ValueError(f"AWS::SSO::Assignment: there is no permission set {arn}")
    _provision(_sets[arn], account)
    fields = ("InstanceArn", "TargetId", "TargetType", "PermissionSetArn", "PrincipalType", "PrincipalId")
    physical = "|".join(properties[field] for field in fields)
    _assignments.add(physical)
    return physical, {}


def _reassign(physical: str, _old: Json, new: Json, stack: str) -> tuple[str, Json]:
    """Every property of an assignment requires a replacement."""
    replaced = _assign("", new, stack)
    if replaced[0] != physical:
        _assignments.discard(physical)
    return replaced


def _withdraw(physical: str, _properties: Json) -> None:
    """As on AWS, the sessions go on. The role stays until the permission set is deleted."""
    _assignments.discard(physical)


def _provision(permissions: Json, account: str) -> None:
    """Creates or changes the set's role in an account. The policies to which the set refers must exist there."""
    references = permissions.get("CustomerManagedPolicyReferences") or []
    attached = [_existing(account, one) for one in references] + (permissions.get("ManagedPolicies") or [])
    limit = permissions.get("PermissionsBoundary") or {}
    boundary = limit.get("ManagedPolicyArn", "")
    if "CustomerManagedPolicyReference" in limit:
        boundary = _existing(account, limit["CustomerManagedPolicyReference"])
    inline = permissions.get("InlinePolicy")
    name = permissions["Roles"].setdefault(account, f"AWSReservedSSO_{permissions['Name']}_{secrets.token_hex(8)}")
    trust = {"Principal": {"Federated": f"arn:aws:iam::{account}:saml-provider/AWSSSO"}, "Effect": "Allow"}
    with request_scope(account, REGION):
        request = {"RoleName": name, "Path": PATH, "AssumeRolePolicyDocument": json.dumps({"Statement": [trust]})}
        if name not in iam._roles:
            iam._create_role({key: [value] for key, value in request.items()})
        iam._roles[name].update(
            PermissionsBoundary=boundary,
            AttachedPolicies=attached,
            InlinePolicies={"AwsSSOInlinePolicy": inline} if inline else {},
        )


def _existing(account: str, reference: Json) -> str:
    """The ARN of the customer managed policy that a permission set names."""
    arn = f"arn:aws:iam::{account}:policy{reference.get('Path', '/')}{reference['Name']}"
    if iam._policies.get_scoped(account, None, arn) is None:
        raise ValueError(f"account {account} has no policy {arn}, to which the permission set refers")
    return arn


def _sign_in(rest: str, body: bytes) -> tuple[int, str]:
    """Signs a user in, and returns the session's keys as the arguments of a client of boto3.

    Any user may sign in with a permission set that is assigned to the account, because groups have no members here.
    """
    account, _, name = rest.partition("/")
    person = identity_store.user(body.decode())
    arn = next((arn for arn, one in _sets.items() if one["Name"] == name), "none")
    if not any(f"|{account}|AWS_ACCOUNT|{arn}|" in one for one in _assignments):
        raise ValueError(f"no permission set {name!r} is assigned to account {account}")
    permissions = _sets[arn]
    role, session = permissions["Roles"][account], person["UserName"]
    key, secret, token = sts._gen_session_access_key(), sts._gen_secret(), sts._gen_session_token()
    sts.register_session(
        key,
        {
            "Arn": f"arn:aws:sts::{account}:assumed-role/{role}/{session}",
            "UserId": f"{iam._roles.get_scoped(account, None, role)['RoleId']}:{session}",
            "SecretAccessKey": secret,
            "SessionToken": token,
            "Expiration": time.time() + _seconds(permissions.get("SessionDuration", "PT1H")),
            "AccountId": account,
            "PrincipalType": "AssumedRole",
            "IdentityStoreUser": person["UserId"],
        },
    )
    return 200, json.dumps({"aws_access_key_id": key, "aws_secret_access_key": secret, "aws_session_token": token})


def _seconds(duration: str) -> int:
    (hours, minutes) = re.findall(r"PT(?:(\d+)H)?(?:(\d+)M)?", duration)[0]
    return int(hours or 0) * 3600 + int(minutes or 0) * 60


# The HTTP path on which a test signs a user in. No AWS client uses this path.
PATHS = {"sign-in": _sign_in}
