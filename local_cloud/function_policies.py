"""The resource policies of Lambda's functions, one for each function, version and alias.

PutResourcePolicy takes a whole policy, also with Deny and with any condition key, and replaces what AddPermission wrote
for the same ARN. The emulator lacks it, and keeps one policy for a function and all of its aliases.
"""

import functools
import inspect
import json
import uuid
from collections.abc import Callable
from typing import Any

from ministack.core import iam_actions
from ministack.core.arn import ArnParseError, parse_arn
from ministack.core.responses import error_response_json, get_account_id, json_response
from ministack.services import lambda_svc

from local_cloud.services import Json, Refused

# AWS's limit for a policy, in bytes.
SIZE = 20480
# Each statement has one of each of these.
REQUIRED = ({"Effect"}, {"Principal"}, {"Action", "NotAction"}, {"Resource", "NotResource"})
EVERYBODY: list[Any] = ["*", {"AWS": "*"}, {"AWS": ["*"]}]


def install() -> None:
    """Patches the emulator."""
    lambda_svc.function_policy_for_arn = _policy_for_arn
    lambda_svc._add_permission = _on_its_own_policy(lambda_svc._add_permission)
    lambda_svc._remove_permission = _on_its_own_policy(lambda_svc._remove_permission)
    lambda_svc._get_policy = _get_policy


def forget(function: Json, qualifier: str) -> None:
    """Deletes the policy of a qualifier."""
    function.get("policies", {}).pop(qualifier, None)


def _policy(function: Json, qualifier: str | None) -> Json:
    """The policy of a function, or of one of its versions or aliases."""
    policy: Json = function["policy"]
    if qualifier:
        policy = function.get("policies", {}).get(qualifier) or {**policy, "Statement": []}
    return policy


def _store(function: Json, qualifier: str | None, policy: Json) -> None:
    if qualifier:
        function.setdefault("policies", {})[qualifier] = policy
    else:
        function["policy"] = policy


def _policy_for_arn(arn: str) -> tuple[Json | str, str] | None:
    """The policy and the owner of the function, version or alias with this ARN.

    Nothing in another account may be called if there is no such function, because no policy admits the caller.
    """
    try:
        spec = parse_arn(arn)
    except ArnParseError:
        return None
    kind, name, qualifier = [*spec.resource.split(":", 2), "", ""][:3]
    if kind != "function":
        return None
    function = lambda_svc._functions.get_scoped(spec.account_id, spec.region, name)
    if function is not None:
        return _policy(function, qualifier), spec.account_id
    return None if spec.account_id == get_account_id() else ("", spec.account_id)


def _on_its_own_policy(operation: Callable[..., Any]) -> Callable[..., Any]:
    """One of the emulator's operations on policies, applied to the policy of the request's qualifier."""
    signature = inspect.signature(operation)

    @functools.wraps(operation)
    def on_its_own_policy(*arguments: Any, **more: Any) -> Any:
        given = signature.bind(*arguments, **more).arguments
        function = lambda_svc._functions.get(given["func_name"])
        qualifier = lambda_svc._qualifier_from_path_or_query(given.get("path_qualifier"), given.get("query_params"))
        if function is None or not qualifier:
            return operation(*arguments, **more)
        unqualified = function["policy"]
        function["policy"] = _policy(function, qualifier)
        try:
            return operation(*arguments, **more)
        finally:
            _store(function, qualifier, function["policy"])
            function["policy"] = unqualified

    return on_its_own_policy


def _get_policy(func_name: str, query_params: Json | None = None, path_qualifier: str | None = None) -> Any:
    qualifier = lambda_svc._qualifier_from_path_or_query(path_qualifier, query_params)
    missing = lambda_svc._validate_function_qualifier_exists(func_name, qualifier)
    if missing:
        return missing
    policy = _policy(lambda_svc._functions[func_name], qualifier)
    if not policy["Statement"]:
        return error_response_json("ResourceNotFoundException", "The resource you requested does not exist.", 404)
    return json_response({"Policy": json.dumps(policy), "RevisionId": _revision(policy)})


def _revision(policy: Json) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(policy)))


def answer(method: str, name: str, qualifier: str, arn: str, body: bytes, query: Json) -> Any:
    """Answers PutResourcePolicy, GetResourcePolicy and DeleteResourcePolicy."""
    found = _get_policy(name, {}, qualifier)
    if method == "GET" or (found[0] != 200 and method == "DELETE"):
        return found
    missing = lambda_svc._validate_function_qualifier_exists(name, qualifier or None)
    if missing:
        return missing
    request: Json = json.loads(body or b"{}")
    expected = request.get("RevisionId") or iam_actions._query_param(query, "RevisionId")
    function = lambda_svc._functions[name]
    if expected and expected != _revision(_policy(function, qualifier)):
        message = "The RevisionId provided does not match the latest RevisionId of the policy."
        return error_response_json("PreconditionFailedException", message, 412)
    if method == "DELETE":
        _store(function, qualifier, {**function["policy"], "Statement": []})
        return 204, {}, b""
    try:
        _store(function, qualifier, _checked(request.get("Policy", ""), arn))
    except Refused as error:
        return error_response_json(error.code, str(error), error.status)
    return _get_policy(name, {}, qualifier)


def _checked(text: str, arn: str) -> Json:
    """The policy in a request. Raises `Refused` if AWS would refuse it, or if it can't be judged here."""
    if len(text.encode()) > SIZE:
        raise Refused("PolicyLengthExceededException", f"The policy is longer than {SIZE} bytes.")
    try:
        policy: Json = json.loads(text)
        statements = policy["Statement"]
    except (ValueError, KeyError, TypeError):
        raise Refused("InvalidParameterValueException", "The policy is not a valid policy document.") from None
    statements = statements if isinstance(statements, list) else [statements]
    for statement in statements:
        missing = [name for name in REQUIRED if not name & statement.keys()]
        if missing:
            # AWS also takes NotPrincipal, but the emulator would ignore such a statement.
            message = f"A statement of the policy for {arn} has no {min(missing[0])}."
            raise Refused("InvalidParameterValueException", message)
        if statement["Effect"] == "Allow" and statement["Principal"] in EVERYBODY and not statement.get("Condition"):
            raise Refused("PublicPolicyException", f"The policy would grant public access to {arn}.")
    return {**policy, "Statement": statements}
