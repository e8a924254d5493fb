"""Adds to the emulator's event buses the events of AWS services, and events from one account to another.

By itself, the emulator has no events across accounts, ignores the `Policy` of a bus in a template and in PutPermission,
and invokes a rule's function once, without the retries of an asynchronous invocation. This module adds all three.
"""

import json
from typing import Any

from ministack.core import iam_evaluator
from ministack.core.arn import ArnParseError, parse_arn
from ministack.core.responses import get_account_id, get_region, new_uuid, request_scope
from ministack.services import eventbridge, lambda_svc
from ministack.services.cloudformation import provisioners

from local_cloud.services import Json


def install() -> None:
    """Patches the emulator."""
    eventbridge._put_events = _put_events
    eventbridge._put_permission = _put_permission
    eventbridge._dispatch_to_lambda = _dispatch_to_lambda
    _store_policies_of_templates()


def emit(account: str, region: str, source: str, detail_type: str, detail: Json, resources: list[str]) -> None:
    """Puts an event of an AWS service on the account's default bus."""
    with request_scope(account, region):
        eventbridge._ensure_default_bus()
        _emulator_put_events(
            {
                "Entries": [
                    {"Source": source, "DetailType": detail_type, "Detail": json.dumps(detail), "Resources": resources}
                ]
            },
            allow_aws_source=True,
        )


_emulator_put_events = eventbridge._put_events


def _put_events(data: Json, allow_aws_source: bool = False) -> Any:
    entries = data.get("Entries", [])
    if not 0 < len(entries) <= 10 or not any(_other_account(entry) for entry in entries):
        return _emulator_put_events(data, allow_aws_source)
    results = []
    for entry in entries:
        if _other_account(entry):
            results.append(_put_on_other_bus(entry))
        else:
            _, _, body = _emulator_put_events({"Entries": [entry]}, allow_aws_source)
            results += json.loads(body)["Entries"]
    failed = sum("ErrorCode" in result for result in results)
    return eventbridge.json_response({"FailedEntryCount": failed, "Entries": results})


def _other_account(entry: Json) -> bool:
    try:
        bus = parse_arn(entry.get("EventBusName", ""))
    except (ArnParseError, AttributeError, TypeError):
        return False
    # The emulator reports a bus in another region as missing. AWS does the same, because only the endpoint of the bus's
    # own region reaches the bus.
    other: bool = bus.service == "events" and bus.region == get_region() and bus.account_id != get_account_id()
    return other


def _put_on_other_bus(entry: Json) -> Json:
    bus = parse_arn(entry["EventBusName"])
    name, caller, region = bus.resource.removeprefix("event-bus/"), get_account_id(), get_region()
    if entry.get("Source", "").startswith("aws."):
        return {"ErrorCode": "NotAuthorizedForSourceException", "ErrorMessage": "Not authorized for the source."}
    with request_scope(bus.account_id, region):
        eventbridge._ensure_default_bus()
        policy = eventbridge._event_bus_policies.get(name) if name in eventbridge._event_buses else None
    context = iam_evaluator.EvalContext(
        principal_arn=iam_evaluator.caller_arn(),
        principal_type="AssumedRole",
        principal_account=caller,
        action="events:PutEvents",
        resource_arn=entry["EventBusName"],
        region=region,
        service_context={
            "events:source": [entry.get("Source", "")],
            "events:detail-type": [entry.get("DetailType", "")],
        },
    )
    # The caller gets the same error whether the bus does not exist or its policy does not admit the caller.
    if iam_evaluator.evaluate_resource_policy(policy, context).decision != "Allow":
        return {
            "ErrorCode": "AccessDeniedException",
            "ErrorMessage": f"User: {context.principal_arn} is not authorized to perform: events:PutEvents on "
            f"resource: {entry['EventBusName']} because no resource-based policy allows the "
            "events:PutEvents action",
        }
    event = {
        "EventId": new_uuid(),
        "Source": entry.get("Source", ""),
        "DetailType": entry.get("DetailType", ""),
        "Detail": entry.get("Detail", "{}"),
        "EventBusName": name,
        "Time": int(eventbridge._now_ts()),
        "Resources": entry.get("Resources", []),
        "Account": caller,
        "Region": region,
    }
    with request_scope(bus.account_id, region):
        eventbridge._events_log_list().append(event)
        eventbridge._dispatch_event(event)
    return {"EventId": event["EventId"]}


_emulator_put_permission = eventbridge._put_permission


def _put_permission(data: Json) -> Any:
    if "Policy" not in data:
        return _emulator_put_permission(data)
    eventbridge._event_bus_policies[data.get("EventBusName", "default")] = json.loads(data["Policy"])
    return eventbridge.json_response({})


def _dispatch_to_lambda(arn: str, payload: str) -> None:
    function, config, _ = lambda_svc._get_func_record_for_ref(arn)
    if not function or not config:
        eventbridge.logger.warning("EventBridge: no function %s", arn)
        return
    # The rule names the function, a version or an alias, and that is the ARN that the function is invoked by.
    invoked = {**config, "FunctionArn": arn}
    lambda_svc.invoke_async_with_retry(lambda_svc._execution_record_for_config(function, invoked), json.loads(payload))


def _store_policies_of_templates() -> None:
    handlers = provisioners._RESOURCE_HANDLERS["AWS::Events::EventBus"]
    create, update = handlers["create"], handlers["update"]

    def store(name: str, properties: Json) -> None:
        policy = properties.get("Policy")
        if policy:
            eventbridge._event_bus_policies[name] = json.loads(policy) if isinstance(policy, str) else policy
        else:
            eventbridge._event_bus_policies.pop(name, None)

    def create_with_policy(logical_id: str, properties: Json, stack_name: str) -> Any:
        created = create(logical_id, properties, stack_name)
        store(created[0], properties)
        return created

    def update_with_policy(physical_id: str, old: Json, new: Json, stack_name: str) -> Any:
        updated = update(physical_id, old, new, stack_name)
        store(updated[0], new)
        return updated

    handlers.update(create=create_with_policy, update=update_with_policy)
