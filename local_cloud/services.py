"""Adds services that the emulator lacks. Their requests are routed, authenticated and checked by IAM like others."""

import asyncio
import json
import os
from collections.abc import Callable
from typing import Any

import boto3
from botocore.config import Config
from ministack import app
from ministack.core import iam_actions, router
from ministack.core.responses import error_response_json, json_response

JSON = "application/x-amz-json-1.1"

Json = dict[str, Any]
Operation = Callable[[Json], Json]
Credentials = dict[str, str]


class Refused(Exception):
    """An error that a service returns. `code` is the error code in the service's API reference."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


def register(
    name: str,
    target_prefix: str,
    operations: dict[str, Operation],
    resource_arn: Callable[[Json, str, str], str],
) -> None:
    """Adds the JSON service `name`.

    `operations` maps the name of an operation to the function that turns a request into an answer. The function runs
    on a worker thread, in the caller's account and region. `resource_arn(request, region, account)` returns the ARN of
    the resource for which IAM checks the request.
    """

    async def handle(_method: str, _path: str, headers: Json, body: bytes, _query: Json) -> Any:
        operation = operations.get(operation_of(headers))
        if operation is None:
            return error_response_json("UnknownOperationException", f"the local {name} does not know this operation")
        try:
            answer = await asyncio.to_thread(operation, json.loads(body or b"{}"))
        except Refused as error:
            return error_response_json(error.code, str(error), error.status, content_type=JSON)
        return json_response(answer, content_type=JSON)

    router.SERVICE_PATTERNS[name] = {
        "target_prefixes": [target_prefix],
        "host_patterns": [rf"{name}\."],
        "credential_scope": name,
    }
    iam_actions.SERVICE_TO_IAM_NAMESPACE[name] = name
    app.SERVICE_HANDLERS[name] = handle

    def resource(_operation: str, request: Json, region: str, account: str) -> str:
        return resource_arn(request, region, account)

    name_resources(name, resource)


def name_resources(name: str, resource: Callable[[str, Json, str, str], str | None]) -> None:
    """Adds the resources for which IAM checks the requests to the JSON service `name`.

    `resource(operation, request, region, account)` returns an ARN, or `None` for an operation that the emulator knows.
    """
    others = iam_actions.extract_resource_arn

    def extract_resource_arn(
        service: str,
        method: str,
        path: str,
        headers: Json,
        body: bytes,
        query: Json,
        region: str,
        account: str,
    ) -> Any:
        if service == name:
            try:
                found = resource(operation_of(headers), json.loads(body or b"{}"), region, account)
            except (ValueError, AttributeError):
                return "*"
            if found is not None:
                return found
        return others(service, method, path, headers, body, query, region, account)

    iam_actions.extract_resource_arn = extract_resource_arn


def operation_of(headers: Json) -> str:
    """Returns the name of the operation of a JSON service that a request calls."""
    return str(headers.get("x-amz-target", "")).rpartition(".")[2]


def client(service: str, region: str, credentials: Credentials) -> Any:
    """A client with which one service calls another. The call goes over the endpoint, so IAM checks it."""
    make_client: Any = boto3.client
    return make_client(
        service,
        region_name=region,
        endpoint_url=os.environ["AWS_ENDPOINT_URL"],
        config=Config(retries={"total_max_attempts": 1}),
        **credentials,
    )


def page(items: list[Any], key: str, request: Json, invalid_token: str, *, size: int, names: tuple[str, str]) -> Json:
    """One page of a list. `names` are the request's fields for the token and the page's size; `size` is the default."""
    token, size = request.get(names[0]), request.get(names[1]) or size
    if token is not None and not token.isdecimal():
        raise Refused(invalid_token, "The continuation token is not valid")
    start = int(token or 0)
    more = {names[0]: str(start + size)} if start + size < len(items) else {}
    return {key: items[start : start + size]} | more
