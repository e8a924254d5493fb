"""How a service that the emulator lacks becomes one of its own: routed, signed and under IAM as the others are."""

import asyncio
import json
import os

import boto3
from botocore.config import Config
from ministack import app
from ministack.core import iam_actions, router
from ministack.core.responses import error_response_json, json_response

JSON = "application/x-amz-json-1.1"


class Refused(Exception):
    """An error of the service, by the code its API reference gives it."""

    def __init__(self, code: str, message: str, status: int = 400):
        super().__init__(message)
        self.code, self.status = code, status


def register(name: str, target_prefix: str, operations: dict, resource_arn) -> None:
    """Adds the JSON service `name`.

    `operations` maps an operation's name to a function from request to answer, called on a worker thread in the
    caller's account and region. `resource_arn(request, region, account)` names what IAM is asked about.
    """

    async def handle(_method, _path, headers, body, _query):
        operation = operations.get(headers.get("x-amz-target", "").rpartition(".")[2])
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
    others = iam_actions.extract_resource_arn

    def extract_resource_arn(service, method, path, headers, body, query_params, region, account_id):
        if service != name:
            return others(service, method, path, headers, body, query_params, region, account_id)
        try:
            return resource_arn(json.loads(body or b"{}"), region, account_id)
        except (ValueError, AttributeError):
            return "*"

    iam_actions.extract_resource_arn = extract_resource_arn


def client(service: str, region: str, credentials: dict):
    """A client of the cloud itself, for a service that works with another one: over the endpoint, under IAM."""
    return boto3.client(
        service,
        region_name=region,
        endpoint_url=os.environ["AWS_ENDPOINT_URL"],
        config=Config(retries={"total_max_attempts": 1}),
        **credentials,
    )
