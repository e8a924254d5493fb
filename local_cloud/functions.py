"""What Lambda does around a function, and the emulator does not: it tells it of its logging, and it sends a dead letter
as the function's role, with the event as it came."""

import json

from botocore.exceptions import ClientError
from ministack.core import lambda_runtime
from ministack.core.responses import get_region
from ministack.services import lambda_svc

from local_cloud.services import client

_own_environment = lambda_svc._provided_worker_env
_own_route_async_failure = lambda_svc._route_async_failure


def install() -> None:
    lambda_svc._provided_worker_env = _environment
    lambda_svc._route_async_failure = _route_async_failure


def _environment(config: dict, code_dir: str, port: int) -> dict:
    environment = _own_environment(config, code_dir, port)
    logging = config.get("LoggingConfig") or {}
    for name, setting in (("AWS_LAMBDA_LOG_FORMAT", "LogFormat"), ("AWS_LAMBDA_LOG_LEVEL", "ApplicationLogLevel")):
        if logging.get(setting):
            environment[name] = logging[setting]
    return environment


def _route_async_failure(target: str, name: str, event: dict, result: dict) -> None:
    function = (lambda_svc._functions.get(name) or {}).get("config", {})
    letters = (function.get("DeadLetterConfig") or {}).get("TargetArn")
    if target != letters or ":sqs:" not in target:
        # A destination, which gets the emulator's envelope, as on AWS.
        _own_route_async_failure(target, name, event, result)
        return
    keys = lambda_runtime.execution_credentials(function)
    error = result.get("body") if isinstance(result.get("body"), dict) else {}
    try:
        sqs = client("sqs", get_region(), {key.lower(): value for key, value in keys.items()})
        _, _, _, _, account, queue = target.split(":")
        url, body = f"{sqs.meta.endpoint_url}/{account}/{queue}", json.dumps(event, ensure_ascii=False)
        sqs.send_message(
            QueueUrl=url,
            MessageBody=body,
            MessageAttributes={
                # RequestID is missing: the emulator does not hand it on.
                "ErrorCode": {"DataType": "Number", "StringValue": "200"},
                "ErrorMessage": {"DataType": "String", "StringValue": str(error.get("errorMessage") or "none")[:1024]},
            },
        )
    except ClientError as failure:
        lambda_svc.logger.error("Lambda %s: its dead letter is lost: %s", name, failure)
