"""Adds parts of IAM that the emulator lacks: some condition keys, policy limits, and roles that services assume."""

import contextvars
import dataclasses
import json
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from ministack import app
from ministack.core import iam_actions, iam_evaluator
from ministack.core.responses import request_scope
from ministack.services import iam, s3, sts

from local_cloud.services import Credentials, Json

# AWS's limits for the total size of a principal's inline policies, in characters without white space.
INLINE_LIMITS = {"user": 2048, "role": 10240}

# The fields of a session that this package adds, and the condition keys that have their values.
SESSION_KEYS = {"FunctionArn": "lambda:sourcefunctionarn", "IdentityStoreUser": "identitystore:userid"}

_request_keys: contextvars.ContextVar[Json] = contextvars.ContextVar("condition_keys_of_the_request")


def install() -> None:
    """Patches the emulator."""
    iam_evaluator._resolve_condition_key = _resolve_condition_key
    iam_evaluator._principal_keys = _principal_keys
    iam_evaluator.evaluate_resource_policy = _evaluate_resource_policy
    iam_actions.request_tag_context = _request_context
    app.pin_request_origin = _pin_request_origin
    iam._IAM_HANDLERS["GetAccountAuthorizationDetails"] = _authorization_details
    iam._IAM_HANDLERS["PutUserPolicy"] = _within_limit("user", iam._put_user_policy)
    iam._IAM_HANDLERS["PutRolePolicy"] = _within_limit("role", iam._put_role_policy)


def principal_arn(arn: str) -> str:
    """The value of `aws:PrincipalArn` for a caller; for a session, the ARN of the session's role."""
    session = re.fullmatch(r"arn:aws:sts::(\d{12}):assumed-role/([^/]+)/.*", arn)
    if session is None:
        return arn
    account, role = session.groups()
    record = iam._roles.get_scoped(account, None, role) or {}
    return record.get("Arn") or f"arn:aws:iam::{account}:role/{role}"


_emulator_resolve_condition_key = iam_evaluator._resolve_condition_key


def _resolve_condition_key(key: str, context: Any) -> Any:
    name = key.lower()
    if name == "aws:principalarn":
        caller = iam_evaluator.caller_arn()
        # The emulator's S3 evaluates a caller from another account as that account's root. Here the real caller counts.
        if context.principal_arn.endswith(":root") and f":{context.principal_account}:" in caller:
            return principal_arn(caller)
        return principal_arn(context.principal_arn)
    if name == "aws:resourceaccount" and context.resource_arn.startswith("arn:aws:s3:::"):
        # A bucket's ARN names no account. The emulator would return the caller's account instead of the bucket owner's.
        return s3._bucket_owner_account(context.resource_arn[13:].partition("/")[0])
    value = _emulator_resolve_condition_key(key, context)
    return _request_keys.get({}).get(name) if value is None else value


_emulator_principal_keys = iam_evaluator._principal_keys
_emulator_evaluate_resource_policy = iam_evaluator.evaluate_resource_policy


def _principal_keys(credential: Any) -> Json:
    keys: Json = _emulator_principal_keys(credential)
    session = sts._sessions.get(credential.access_key_id) or {}
    return keys | {key: session[field] for field, key in SESSION_KEYS.items() if field in session}


def _evaluate_resource_policy(policy: Any, context: Any, *more: Any, **named: Any) -> Any:
    # AWS has this key in identity policies only, so a resource policy that needs it allows nothing.
    keys = {key: value for key, value in context.principal_keys.items() if key != SESSION_KEYS["FunctionArn"]}
    without = dataclasses.replace(context, principal_keys=keys)
    return _emulator_evaluate_resource_policy(policy, without, *more, **named)


_emulator_request_context = iam_actions.request_tag_context


def _request_context(service: str, action: str, body: bytes, params: Json) -> Json:
    """Collects condition keys of the request and its resource. The emulator calls this before it evaluates policies."""
    keys: Json = _emulator_request_context(service, action, body, params)
    more: Json = {}
    if action == "events:PutEvents":
        entries = json.loads(body or b"{}").get("Entries", [])
        more = {
            "events:source": [entry.get("Source", "") for entry in entries],
            "events:detail-type": [entry.get("DetailType", "") for entry in entries],
        }
    elif service == "iam":
        for parameter, records in (("UserName", iam._users), ("RoleName", iam._roles)):
            record = records.get(iam_actions._query_param(params, parameter)) or {}
            if record.get("PermissionsBoundary"):
                more["iam:permissionsboundary"] = record["PermissionsBoundary"]
            for tag in record.get("Tags") or []:
                more[f"iam:resourcetag/{tag['Key'].lower()}"] = tag["Value"]
    _request_keys.set(more)
    return keys


_emulator_pin_request_origin = app.pin_request_origin


def _pin_request_origin(source_ip: str, _secure: bool) -> None:
    # The endpoint is plain HTTP on loopback, and stands for AWS's TLS endpoints. So aws:SecureTransport is always true.
    _emulator_pin_request_origin(source_ip, True)


_emulator_authorization_details = iam._IAM_HANDLERS["GetAccountAuthorizationDetails"]


def _authorization_details(params: Json) -> Any:
    """Adds the boundaries of users and roles, which the emulator leaves out."""
    status, headers, body = _emulator_authorization_details(params)
    for records in (iam._users, iam._roles):
        for record in records.values():
            if boundary := record.get("PermissionsBoundary"):
                arn = f"<Arn>{record['Arn']}</Arn>"
                kind = "<PermissionsBoundaryType>Policy</PermissionsBoundaryType>"
                named = f"{kind}<PermissionsBoundaryArn>{boundary}</PermissionsBoundaryArn>"
                added = f"{arn}<PermissionsBoundary>{named}</PermissionsBoundary>"
                body = body.replace(arn.encode(), added.encode())
    return status, headers, body


def _within_limit(kind: str, put: Callable[[Json], Any]) -> Callable[[Json], Any]:
    def put_within_limit(params: Json) -> Any:
        name = iam._p(params, "UserName" if kind == "user" else "RoleName")
        held = (
            iam._user_inline_policies.get(name)
            if kind == "user"
            else (iam._roles.get(name) or {}).get("InlinePolicies")
        ) or {}
        wanted = held | {iam._p(params, "PolicyName"): iam._p(params, "PolicyDocument")}
        size = sum(
            len(re.sub(r"\s", "", document if isinstance(document, str) else json.dumps(document)))
            for document in wanted.values()
        )
        if size > INLINE_LIMITS[kind]:
            message = f"Maximum policy size of {INLINE_LIMITS[kind]} bytes exceeded for {kind} {name}"
            return iam._error(409, "LimitExceeded", message, ns="iam")
        return put(params)

    return put_within_limit


def service_session(
    role_arn: str, service: str, source_arn: str, source_account: str, name: str, ceiling: Sequence[str] = ()
) -> Credentials:
    """Returns credentials of a role that an AWS service assumes for one of the service's resources.

    `ceiling` has the ARNs of managed policies that limit the session. Raises PermissionError unless the role's trust
    policy lets the service assume the role.
    """
    account, role_name = role_arn.split(":")[4], role_arn.rsplit("/", 1)[-1]
    role = iam._roles.get_scoped(account, None, role_name)
    trust = json.loads(role["AssumeRolePolicyDocument"]) if role else {}
    statements = trust.get("Statement", [])
    statements = [statements] if isinstance(statements, dict) else statements
    # The emulator lets an account's root match every service in a trust policy. Therefore only the statements that name
    # this service are evaluated, as if they named everybody.
    named = [
        {**statement, "Principal": "*"}
        for statement in statements
        if iam_evaluator._service_principal_matches(statement.get("Principal"), service)
    ]
    context = iam_evaluator.EvalContext(
        principal_arn=service,
        principal_type="Service",
        principal_account=source_account,
        action="sts:AssumeRole",
        resource_arn=role_arn,
        region="",
        service_context={"aws:sourceaccount": source_account, "aws:sourcearn": source_arn},
    )
    if not iam_evaluator.evaluate_trust_policy({"Statement": named}, service, context):
        raise PermissionError(f"{service} is not authorized to perform AssumeRole on role {role_arn}")
    key, secret, token = sts._gen_session_access_key(), sts._gen_secret(), sts._gen_session_token()
    sts.register_session(
        key,
        {
            "Arn": f"arn:aws:sts::{account}:assumed-role/{role_name}/{name}",
            "UserId": f"{role['RoleId']}:{name}",
            "SecretAccessKey": secret,
            "SessionToken": token,
            "Expiration": time.time() + 3600,
            "AccountId": account,
            "PrincipalType": "AssumedRole",
            "SessionPolicies": {"PolicyArns": list(ceiling)} if ceiling else None,
        },
    )
    return {"aws_access_key_id": key, "aws_secret_access_key": secret, "aws_session_token": token}


def session_may_assume(credentials: Credentials, session_arn: str, region: str, role_arn: str) -> bool:
    """Whether a role's session may assume another role, by the session's policies and the other role's trust policy.

    The decision is made here and not by a request to STS. CloudFormation creates a pipeline in the thread that serves
    all requests, so this thread would wait for its own answer.
    """
    account = session_arn.split(":")[4]
    owner, role_name = role_arn.split(":")[4], role_arn.rsplit("/", 1)[-1]
    role = iam._roles.get_scoped(owner, None, role_name)
    with request_scope(account, region):
        key = credentials["aws_access_key_id"]
        if role is None or iam_evaluator.enforce(key, "sts:AssumeRole", "sts", region, role_arn) is not None:
            return False
        context = iam_evaluator.EvalContext(
            principal_arn=session_arn,
            principal_type="AssumedRole",
            principal_account=account,
            action="sts:AssumeRole",
            resource_arn=role_arn,
            region=region,
        )
        return bool(iam_evaluator.evaluate_trust_policy(role["AssumeRolePolicyDocument"], session_arn, context))
