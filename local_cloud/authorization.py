"""Corrects the action and the resource for which the emulator evaluates some requests.

The emulator derives both from the request. For the requests below, the emulator's result differs from AWS's Service
Authorization Reference, so a policy that is right on AWS would be refused.
"""

import json
import re

import cbor2
from ministack.core import iam_actions

from local_cloud.services import Json

# The operations of EventBridge whose Name is the name of a bus.
OF_BUSES = {"CreateEventBus", "DeleteEventBus", "DescribeEventBus", "UpdateEventBus"}


def install() -> None:
    """Patches the emulator."""
    iam_actions.extract_iam_action = _action
    iam_actions.extract_resource_arn = _resource


_emulator_action = iam_actions.extract_iam_action
_emulator_resource = iam_actions.extract_resource_arn


def _layer_version(service: str, method: str, path: str) -> str | None:
    """The name and the number of the layer's version that the request reads, as `name:number`."""
    found = re.fullmatch(r"/[\d-]+/layers/([^/:]+)/versions/(\d+)", path)
    return f"{found[1]}:{found[2]}" if service == "lambda" and method == "GET" and found else None


def _in_cbor(service: str, path: str) -> str | None:
    """The operation of a request to CloudWatch in CBOR. The AWS SDK for Rust sends such requests.

    The emulator finds no action in the path, and would allow the request.
    """
    found = re.fullmatch(r"/service/\w+/operation/(\w+)", path)
    return found[1] if service == "monitoring" and found else None


def _action(service: str, method: str, path: str, headers: Json, body: bytes, query: Json) -> str | None:
    if _layer_version(service, method, path):
        return "lambda:GetLayerVersion"
    if operation := _in_cbor(service, path):
        return f"cloudwatch:{operation}"
    action: str | None = _emulator_action(service, method, path, headers, body, query)
    return action


def _resource(
    service: str, method: str, path: str, headers: Json, body: bytes, query: Json, region: str, account: str
) -> str:
    if version := _layer_version(service, method, path):
        return f"arn:aws:lambda:{region}:{account}:layer:{version}"
    if _in_cbor(service, path):
        # The emulator reads the name of an alarm in a document of JSON.
        name = (cbor2.loads(body) if body else {}).get("AlarmName")
        return f"arn:aws:cloudwatch:{region}:{account}:alarm:{name}" if name else "*"
    if service == "monitoring" and (dashboard := _document(body).get("DashboardName")):
        return f"arn:aws:cloudwatch::{account}:dashboard/{dashboard}"
    operation = headers.get("x-amz-target", "").rpartition(".")[2]
    if service == "events" and operation != "PutEvents":
        arn = _of_events(operation, _document(body), f"arn:aws:events:{region}:{account}")
        if arn:
            return arn
    if service == "codebuild" and operation == "BatchGetProjects":
        names = _document(body).get("names", [])
        # AWS checks each project. The project's own commands ask for one project at a time.
        return f"arn:aws:codebuild:{region}:{account}:project/{names[0]}" if len(names) == 1 else "*"
    resource: str = _emulator_resource(service, method, path, headers, body, query, region, account)
    return resource


def _document(body: bytes) -> Json:
    try:
        document = json.loads(body or b"{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _of_events(operation: str, request: Json, prefix: str) -> str | None:
    """The bus or the rule of a request; None if the request names neither."""
    if operation in OF_BUSES:
        return f"{prefix}:event-bus/{request.get('Name', 'default').rpartition('/')[2]}"
    bus = request.get("EventBusName", "default").rpartition("/")[2]
    rule = request.get("Rule") or (request.get("Name") if operation.endswith("Rule") else None)
    if rule:
        # The ARN of a rule of the default bus does not name the bus.
        return f"{prefix}:rule/{rule}" if bus == "default" else f"{prefix}:rule/{bus}/{rule}"
    return None
