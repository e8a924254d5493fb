"""Adds features of Lambda that the emulator lacks.

A function gets its logging configuration in environment variables. An event that failed is sent, unchanged, to the
function's dead-letter queue, with the permissions of the function's role. IAM knows which function a call comes from.
A queue is mapped to a function only if the function's role may take messages out of the queue, and if the queue hides a
message for at least as long as the function may run. The concurrency has a limit for each account, which a test can
set.
"""

import functools
import json
import threading
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError
from ministack.core import iam_evaluator, lambda_runtime
from ministack.core.responses import error_response_json, get_region
from ministack.services import lambda_svc, sqs, sts
from ministack.services.cloudformation import provisioners

from local_cloud.services import Json, Refused, client

_emulator_credentials = lambda_runtime.execution_credentials
_emulator_environment = lambda_svc._provided_worker_env
_emulator_route_async_failure = lambda_svc._route_async_failure
_emulator_create_mapping = lambda_svc._create_esm
_emulator_acquire = lambda_svc._acquire_execution_slot
# The most invocations at the same time, by account. Other accounts have no limit besides the emulator's own.
_limits: dict[str, int] = {}
_counting = threading.Lock()


def install() -> None:
    """Patches the emulator."""
    lambda_svc._provided_worker_env = _environment
    lambda_svc._route_async_failure = _route_async_failure
    lambda_runtime.execution_credentials = lambda_svc.execution_credentials = _credentials
    lambda_svc._create_esm = _create_mapping
    handlers = provisioners._RESOURCE_HANDLERS["AWS::Lambda::EventSourceMapping"]
    handlers.update(create=_mapped_by_template(handlers["create"]), update=_updated_by_template(handlers["update"]))
    lambda_svc._acquire_execution_slot = _acquire


def _credentials(config: Json) -> dict[str, str]:
    """The credentials of a function, whose session also has the function's ARN, without a qualifier."""
    keys: dict[str, str] = _emulator_credentials(config)
    sts._sessions[keys["AWS_ACCESS_KEY_ID"]]["FunctionArn"] = ":".join(config["FunctionArn"].split(":")[:7])
    return keys


def _environment(config: Json, code_dir: str, port: int) -> Json:
    environment: Json = _emulator_environment(config, code_dir, port)
    logging = config.get("LoggingConfig") or {}
    for name, setting in (("AWS_LAMBDA_LOG_FORMAT", "LogFormat"), ("AWS_LAMBDA_LOG_LEVEL", "ApplicationLogLevel")):
        if logging.get(setting):
            environment[name] = logging[setting]
    return environment


def _route_async_failure(target: str, name: str, event: Json, result: Json) -> None:
    function = (lambda_svc._functions.get(name) or {}).get("config", {})
    dead_letters = (function.get("DeadLetterConfig") or {}).get("TargetArn")
    if target != dead_letters or ":sqs:" not in target:
        # As on AWS, a destination gets an envelope with the event, not the bare event. The emulator makes the envelope.
        _emulator_route_async_failure(target, name, event, result)
        return
    keys = lambda_runtime.execution_credentials(function)
    error: Any = result.get("body") if isinstance(result.get("body"), dict) else {}
    try:
        sqs = client("sqs", get_region(), {key.lower(): value for key, value in keys.items()})
        _, _, _, _, account, queue = target.split(":")
        sqs.send_message(
            QueueUrl=f"{sqs.meta.endpoint_url}/{account}/{queue}",
            MessageBody=json.dumps(event, ensure_ascii=False),
            MessageAttributes={
                # AWS also sets RequestID. It is missing here, because the emulator does not pass on the request's id.
                "ErrorCode": {"DataType": "Number", "StringValue": "200"},
                "ErrorMessage": {
                    "DataType": "String",
                    "StringValue": str(error.get("errorMessage") or "none")[:1024],
                },
            },
        )
    except ClientError as failure:
        lambda_svc.logger.error("Lambda %s: its dead letter is lost: %s", name, failure)


def _check_mapping(request: Json) -> None:
    """Refuses a mapping that AWS refuses, in AWS's words."""
    name, _ = lambda_svc._resolve_name_and_qualifier(request.get("FunctionName", ""))
    function, queue_arn = (lambda_svc._functions.get(name) or {}).get("config"), request.get("EventSourceArn", "")
    queue = next((one for one in sqs._queues.values() if one["attributes"].get("QueueArn") == queue_arn), None)
    # The emulator itself refuses a function or queue that does not exist.
    if not function or not queue:
        return
    key = lambda_runtime.execution_credentials(function)["AWS_ACCESS_KEY_ID"]
    for action in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes"):
        if iam_evaluator.enforce(key, f"sqs:{action}", "sqs", get_region(), queue_arn) is not None:
            message = f"The provided execution role does not have permissions to call {action} on SQS"
            raise Refused("InvalidParameterValueException", message)
    hidden, timeout = int(queue["attributes"].get("VisibilityTimeout", 30)), int(function.get("Timeout", 3))
    if hidden < timeout:
        message = f"Queue visibility timeout: {hidden} seconds is less than Function timeout: {timeout} seconds"
        raise Refused("InvalidParameterValueException", message)


def _create_mapping(request: Json) -> Any:
    try:
        _check_mapping(request)
    except Refused as error:
        return error_response_json(error.code, str(error), error.status)
    return _emulator_create_mapping(request)


def _mapped_by_template(create: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(create)
    def create_checked(logical_id: str, properties: Json, stack_name: str) -> Any:
        _check_mapping(properties)
        return create(logical_id, _with_number(properties), stack_name)

    return create_checked


def _updated_by_template(update: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(update)
    def update_with_number(physical_id: str, old: Json, new: Json, stack_name: str) -> Any:
        return update(physical_id, old, _with_number(new), stack_name)

    return update_with_number


def _with_number(properties: Json) -> Json:
    """The properties with the concurrency as a number. The value of a parameter is a text, which AWS converts."""
    scaling = properties.get("ScalingConfig")
    if not scaling:
        return properties
    return properties | {"ScalingConfig": {name: int(value) for name, value in scaling.items()}}


def _acquire(function: Json, config: Json) -> Any:
    account = lambda_svc._inflight_key(config).partition(":")[0]
    with _counting:
        running = sum(count for key, count in lambda_svc._inflight.items() if key.startswith(f"{account}:"))
        if running >= _limits.get(account, running + 1):
            return None, "account"
        return _emulator_acquire(function, config)


def _set_limit(account: str, body: bytes) -> tuple[int, str]:
    """Limits the concurrency of an account to the number in the body, or ends the limit if the body is empty.

    Returns the number of running invocations of each function of the account.
    """
    if body:
        _limits[account] = int(body)
    else:
        _limits.pop(account, None)
    with _counting:
        running = {key.split(":")[2]: count for key, count in lambda_svc._inflight.items() if key.startswith(account)}
    return 200, json.dumps(running)


PATHS = {"concurrency": _set_limit}
