"""CloudTrail's LookupEvents: the management events of each account and region, with who called.

By itself, the emulator records nothing, or else every request under the access key. An event is here at once; on AWS it
arrives up to 15 minutes late. An event about a request that IAM denied has the error code AccessDenied. An event about
a request that failed for another reason looks like one that succeeded.
"""

import json
import time
from collections import deque
from typing import Any

from ministack import app
from ministack.core import iam_actions, iam_evaluator, router
from ministack.core.responses import error_response_json, get_account_id, get_region, new_uuid, request_scope
from ministack.services import cloudtrail

from local_cloud import iam
from local_cloud.services import JSON, Json, Refused, page

PAGE = 50
CALLS_PER_SECOND = 2
# IAM and Organizations are global services. Their events are in this region.
GLOBAL, GLOBAL_REGION = {"iam", "organizations"}, "us-east-1"
# How the names of data events begin, which LookupEvents does not have. All of S3's requests for objects are others.
DATA = {
    "dynamodb": ("Batch", "DeleteItem", "GetItem", "PutItem", "Query", "Scan", "Transact", "UpdateItem"),
    "events": ("PutEvents",),
    "lambda": ("Invoke",),
    "logs": ("PutLogEvents",),
    "monitoring": ("PutMetricData", "GetMetric", "ListMetrics"),
    "s3": ("ListBucket",),
    "sns": ("Publish",),
    "sqs": ("DeleteMessage", "ReceiveMessage", "SendMessage"),
}
READS = ("BatchGet", "Describe", "Get", "Head", "List", "Lookup")

# The times of the last calls in each account and region.
_calls: dict[tuple[str, str], deque[float]] = {}

_emulator_denied = iam_actions.access_denied_response


def install() -> None:
    """Patches the emulator."""
    app._maybe_record_cloudtrail = _record
    iam_actions.access_denied_response = _denied
    cloudtrail._DISPATCH["LookupEvents"] = _lookup


def _record(
    service: str, method: str, path: str, headers: Json, body: bytes, query: Json, _request_id: str, region: str
) -> None:
    query = app._routing_params(method, path, headers, body, query)
    action = iam_actions.extract_iam_action(service, method, path, headers, body, query)
    key = router.extract_access_key_id(headers, query)
    if action is not None and key:
        _add(service, action, key, region, None)


def _denied(service: str, action: str, principal: str, request_id: str, **more: Any) -> Any:
    key = router.extract_access_key_id(more.get("headers") or {}, {})
    if key:
        _add(service, action, key, get_region(), "AccessDenied")
    return _emulator_denied(service, action, principal, request_id, **more)


def _is_data(service: str, name: str) -> bool:
    return (service == "s3" and "Object" in name) or name.startswith(DATA.get(service, ("-",)))


def _add(service: str, action: str, key: str, region: str, error: str | None) -> None:
    name = action.partition(":")[2]
    if _is_data(service, name):
        return
    caller, event = _caller(key), new_uuid()
    region = GLOBAL_REGION if service in GLOBAL else region
    now, reads = time.time(), name.startswith(READS)
    source = f"{service}.amazonaws.com"
    detail = {
        "eventVersion": "1.08",
        "userIdentity": caller,
        "eventTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        "eventSource": source,
        "eventName": name,
        "awsRegion": region,
        "eventID": event,
        "eventType": "AwsApiCall",
        "readOnly": reads,
        "managementEvent": True,
        "recipientAccountId": caller["accountId"],
    } | ({"errorCode": error} if error else {})
    with request_scope(caller["accountId"], region):
        cloudtrail._get_event_queue().append(
            {
                "EventId": event,
                "EventName": name,
                "EventSource": source,
                "EventTime": now,
                "Username": caller.get("userName") or caller["arn"].rpartition("/")[2],
                "AccessKeyId": key,
                "ReadOnly": str(reads).lower(),
                "Resources": [],
                "CloudTrailEvent": json.dumps(detail),
            }
        )


def _caller(key: str) -> Json:
    """The `userIdentity` of an event. For a session, `sessionIssuer` names the role."""
    arn, account = iam_evaluator.caller_arn(), get_account_id()
    identity = {"type": "Root", "arn": arn, "accountId": account, "accessKeyId": key}
    if ":user/" in arn:
        return identity | {"type": "IAMUser", "userName": arn.rpartition("/")[2]}
    if ":assumed-role/" not in arn:
        return identity
    role = iam.principal_arn(arn)
    issuer = {"type": "Role", "arn": role, "accountId": account, "userName": role.rpartition("/")[2]}
    return identity | {"type": "AssumedRole", "sessionContext": {"sessionIssuer": issuer}}


def _lookup(request: Json) -> Any:
    now, calls = time.monotonic(), _calls.setdefault((get_account_id(), get_region()), deque(maxlen=CALLS_PER_SECOND))
    if len(calls) == CALLS_PER_SECOND and now - calls[0] < 1:
        return error_response_json("ThrottlingException", "Rate exceeded", 400, content_type=JSON)
    calls.append(now)
    wanted = request.get("LookupAttributes") or []
    if len(wanted) > 1 or not 1 <= request.get("MaxResults", PAGE) <= PAGE:
        message = f"LookupEvents takes one attribute, and returns from 1 to {PAGE} events."
        return error_response_json("InvalidParameterCombinationException", message, 400, content_type=JSON)
    start, end = request.get("StartTime", 0), request.get("EndTime", time.time())
    found = [
        event
        for event in reversed(cloudtrail._get_event_queue())
        if start <= event["EventTime"] <= end
        and all(event.get(one["AttributeKey"]) == one["AttributeValue"] for one in wanted)
    ]
    names = ("NextToken", "MaxResults")
    try:
        return cloudtrail._ok(page(found, "Events", request, "InvalidNextTokenException", size=PAGE, names=names))
    except Refused as error:
        return error_response_json(error.code, str(error), error.status, content_type=JSON)
