"""Lambda's aliases: the ARN by which IAM judges a request, functions of other accounts, and settings of each alias.

By itself, the emulator judges a qualifier only if it is part of the function's name, takes a qualifier from a header of
its own, finds no function of another account, and uses one EventInvokeConfig for all aliases of a function.
"""

import functools
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote

import botocore.session
from ministack import app
from ministack.core import iam_actions
from ministack.core.responses import error_response_json, get_account_id, get_region, request_scope
from ministack.services import lambda_svc
from ministack.services.cloudformation import provisioners

from local_cloud import function_policies
from local_cloud.services import Json

LATEST = "$LATEST"
# A function's name, partial ARN or ARN, each with or without a qualifier.
REFERENCE = re.compile(
    r"((arn:aws:lambda:(?P<region>[a-z0-9-]+):)?(?P<account>\d{12}):function:)?"
    r"(?P<name>[\w-]+)(:(?P<qualifier>\$LATEST|[\w-]+))?",
    re.ASCII,
)
ALIAS = re.compile(r"(?!\d+$)[\w-]{1,128}", re.ASCII)
# The operations whose permission has another name.
PERMISSIONS = {"Invoke": "InvokeFunction", "InvokeWithResponseStream": "InvokeFunction"}


class Function(NamedTuple):
    """What a request names. The qualifier is empty, `$LATEST`, a version, or an alias."""

    account: str
    region: str
    name: str
    qualifier: str

    @property
    def arn(self) -> str:
        """The ARN that AWS judges: with the qualifier, if the request has one."""
        unqualified = f"arn:aws:lambda:{self.region}:{self.account}:function:{self.name}"
        return f"{unqualified}:{self.qualifier}" if self.qualifier else unqualified


_emulator_action = iam_actions.extract_iam_action
_emulator_resource = iam_actions.extract_resource_arn
_emulator_handle = app.SERVICE_HANDLERS["lambda"]
_emulator_create = lambda_svc._create_alias
_emulator_delete = lambda_svc._delete_alias
_emulator_invoke_async = lambda_svc.invoke_async_with_retry


def install() -> None:
    """Patches the emulator's Lambda, its authorization, and its aliases in templates."""
    global _emulator_action, _emulator_resource
    _emulator_action, _emulator_resource = iam_actions.extract_iam_action, iam_actions.extract_resource_arn
    iam_actions.extract_iam_action = _action
    iam_actions.extract_resource_arn = _resource
    app.SERVICE_HANDLERS["lambda"] = _handle
    function_policies.install()
    lambda_svc._create_alias = _create
    lambda_svc._delete_alias = _delete
    lambda_svc.invoke_async_with_retry = _invoke_async
    for name in ("_get_event_invoke_config", "_put_event_invoke_config", "_delete_event_invoke_config"):
        setattr(lambda_svc, name, _of_latest(getattr(lambda_svc, name)))
    handlers = provisioners._RESOURCE_HANDLERS["AWS::Lambda::Alias"]
    handlers.update(create=_created_by_template(handlers["create"]), delete=_deleted_by_template(handlers["delete"]))


def function_of(reference: str, qualifier: str = "") -> Function | None:
    """The function that a name or an ARN refers to; None if it is neither."""
    found = REFERENCE.fullmatch(reference)
    if found is None:
        return None
    account, region = found["account"] or get_account_id(), found["region"] or get_region()
    return Function(account, region, found["name"], found["qualifier"] or qualifier)


def _parts(path: str) -> list[str]:
    """The version of the API, the kind of the resource, and the rest of the path."""
    return [unquote(part) for part in path.split("/")[1:]]


def _named(path: str, query: Json) -> Function | None:
    """The function that a request is about; None if it is about no single function."""
    _, kind, reference, *rest = [*_parts(path), "", "", ""]
    if not reference or kind not in ("functions", "resource-policy"):
        return None
    # AWS judges the operations on aliases by the function.
    qualifier = "" if rest[0] == "aliases" else iam_actions._query_param(query, "Qualifier")
    return function_of(reference, qualifier or "")


@functools.cache
def _actions() -> list[tuple[str, re.Pattern[str], str]]:
    """The method, the path behind the version, and the IAM action of each of Lambda's operations on functions.

    The emulator takes several operations for others, and lets InvokeWithResponseStream pass without a permission.
    """
    model = botocore.session.get_session().get_service_model("lambda")
    found = []
    for name in model.operation_names:
        http = model.operation_model(name).http
        _, _, path = http["requestUri"].partition("?")[0].split("/", 2)
        if path.startswith(("functions/", "resource-policy/")):
            pattern = re.compile(re.sub(r"\{\w+\}", "[^/]+", path))
            found.append((http["method"], pattern, f"lambda:{PERMISSIONS.get(name, name)}"))
    return found


def _action(service: str, method: str, path: str, headers: Json, body: bytes, query: Json) -> str | None:
    if service == "lambda":
        rest = path.rstrip("/").split("/", 2)[-1]
        for wanted, pattern, action in _actions():
            if method == wanted and pattern.fullmatch(rest):
                return action
    others: str | None = _emulator_action(service, method, path, headers, body, query)
    return others


def _resource(
    service: str, method: str, path: str, headers: Json, body: bytes, query: Json, region: str, account: str
) -> str:
    function = _named(path, query) if service == "lambda" else None
    if function is not None:
        return function.arn
    others: str = _emulator_resource(service, method, path, headers, body, query, region, account)
    return others


async def _handle(method: str, path: str, headers: Json, body: bytes, query: Json) -> Any:
    function = _named(path, query)
    # The emulator takes a qualifier from this header. AWS has no such header, and IAM would not see the qualifier.
    headers = {name: value for name, value in headers.items() if name.lower() != "x-amz-qualifier"}
    if function is None or function.region != get_region():
        return await _emulator_handle(method, path, headers, body, query)
    wanted = iam_actions._query_param(query, "Qualifier")
    if wanted and function.qualifier not in ("", wanted):
        message = "The derived qualifier from the function name does not match the specified qualifier."
        return error_response_json("InvalidParameterValueException", message, 400)
    version, kind, _, *rest = _parts(path)
    # The emulator would invoke the function with an empty object.
    if rest == ["invocations"] and not _is_json(body):
        return error_response_json("InvalidRequestContentException", "Could not parse request body into json", 400)
    with request_scope(function.account, function.region):
        if kind == "resource-policy":
            return function_policies.answer(method, function.name, function.qualifier, function.arn, body, query)
        if method == "POST" and rest == ["event-invoke-config"]:
            return _update_event_invoke_config(function, body)
        if function.qualifier:
            query = {**query, "Qualifier": [function.qualifier]}
        return await _emulator_handle(method, "/".join(["", version, kind, function.name, *rest]), headers, body, query)


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body or b"{}")
    except ValueError:
        return False
    return True


def _create(name: str, request: Json) -> Any:
    if not ALIAS.fullmatch(request.get("Name", "")):
        message = (
            f"1 validation error detected: Value '{request.get('Name', '')}' at 'name' is not the name of an alias"
        )
        return error_response_json("ValidationException", message, 400)
    version, function = request.get("FunctionVersion", LATEST), lambda_svc._functions.get(name)
    if function is not None and version != LATEST and version not in function["versions"]:
        message = f"Function not found: {lambda_svc._func_arn(name)}:{version}"
        return error_response_json("ResourceNotFoundException", message, 404)
    return _emulator_create(name, request)


def _delete(name: str, alias: str) -> Any:
    answer = _emulator_delete(name, alias)
    if answer[0] == 204:
        _forget(lambda_svc._functions[name], alias)
    return answer


def _forget(function: Json, alias: str) -> None:
    """Deletes what belongs to an alias, so that a new alias of the same name starts without it."""
    function_policies.forget(function, alias)
    function.get("event_invoke_configs", {}).pop(alias, None)


def _of_latest(operation: Callable[..., Any]) -> Callable[..., Any]:
    """An operation on an EventInvokeConfig for which, as on AWS, no qualifier means the same as `$LATEST`."""

    @functools.wraps(operation)
    def of_latest(name: str, qualifier: str | None = None, *more: Any) -> Any:
        return operation(name, qualifier or LATEST, *more)

    return of_latest


def _update_event_invoke_config(function: Function, body: bytes) -> Any:
    """Changes the named settings only. PutFunctionEventInvokeConfig also resets the others."""
    answer = lambda_svc._get_event_invoke_config(function.name, function.qualifier)
    if answer[0] != 200:
        return answer
    settings = json.loads(answer[2]) | json.loads(body or b"{}")
    return lambda_svc._put_event_invoke_config(function.name, function.qualifier, settings)


def _invoke_async(function: Json, event: Json) -> None:
    """Invokes with the EventInvokeConfig of the qualifier in the invoked ARN, and of no other."""
    invoked = function_of((function.get("config") or function).get("FunctionArn", ""))
    if invoked is not None:
        held = lambda_svc._functions.get_scoped(invoked.account, invoked.region, invoked.name) or {}
        configs = held.get("event_invoke_configs") or {}
        function = {
            **function,
            "event_invoke_config": configs.get(invoked.qualifier or LATEST),
            "event_invoke_configs": {},
        }
    _emulator_invoke_async(function, event)


def _created_by_template(create: Callable[..., Any]) -> Callable[..., Any]:
    def create_resource(logical_id: str, properties: Json, stack: str, **more: Any) -> Any:
        function = function_of(properties.get("FunctionName", ""))
        held = lambda_svc._functions.get(function.name) if function else None
        version = properties.get("FunctionVersion", LATEST)
        if held is None or (version != LATEST and version not in held["versions"]):
            raise ValueError(f"AWS::Lambda::Alias {logical_id}: the function or its version {version} does not exist")
        return create(logical_id, properties, stack, **more)

    return create_resource


def _deleted_by_template(delete: Callable[..., Any]) -> Callable[..., Any]:
    def delete_resource(physical_id: str, properties: Json, **more: Any) -> Any:
        deleted = delete(physical_id, properties, **more)
        function = function_of(properties.get("FunctionName", ""))
        held = lambda_svc._functions.get(function.name) if function else None
        if held is not None:
            _forget(held, properties.get("Name", ""))
        return deleted

    return delete_resource
