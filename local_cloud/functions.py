"""Adds three features of Lambda that the emulator lacks.

A function gets its logging configuration in environment variables. An event that failed is sent, unchanged, to the
function's dead-letter queue, with the permissions of the function's role. IAM knows which function a call comes from.
"""

import json
from typing import Any

from botocore.exceptions import ClientError
from ministack.core import lambda_runtime
from ministack.core.responses import get_region
from ministack.services import lambda_svc, sts

from local_cloud.services import Json, client

_emulator_credentials = lambda_runtime.execution_credentials
_emulator_environment = lambda_svc._provided_worker_env
_emulator_route_async_failure = lambda_svc._route_async_failure


def install() -> None:
    """Patches the emulator."""
    lambda_svc._provided_worker_env = _environment
    lambda_svc._route_async_failure = _route_async_failure
    lambda_runtime.execution_credentials = lambda_svc.execution_credentials = _credentials


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
