"""An alias of a function is a door: IAM judges the ARN with the alias, and the function sees it."""

import json
import time
import urllib.request

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from tests.local_cloud.accounts import PRODUCTION, TEST, allow
from tests.local_cloud.doors import arn_of, invoked, is_denied, make, refusal, visitor
from tools.layout import REGION

INVOKE = "lambda:InvokeFunction"


@pytest.fixture(scope="module")
def door(cloud) -> str:
    """The ARN of a function that has the aliases `hana` and `taro`."""
    return make(cloud, PRODUCTION, "door", "hana", "taro")


def test_the_function_sees_the_alias_in_every_spelling(cloud, door):
    functions = cloud.client("lambda", PRODUCTION)
    partial = f"{PRODUCTION}:function:door"
    for reference in ("door:hana", f"{door}:hana", f"{partial}:hana"):
        assert invoked(functions, reference) == f"{door}:hana"
        assert invoked(functions, reference, Qualifier="hana") == f"{door}:hana"
    for reference in ("door", door, partial):
        assert invoked(functions, reference) == door
        assert invoked(functions, reference, Qualifier="hana") == f"{door}:hana"
        assert invoked(functions, reference, Qualifier="$LATEST") == f"{door}:$LATEST"
    mixed = {"FunctionName": "door:hana", "Qualifier": "taro"}
    assert refusal(functions.invoke, **mixed) == "InvalidParameterValueException"
    for missing in ("door:nobody", "door:HANA", "door:7"):
        assert refusal(functions.invoke, FunctionName=missing) == "ResourceNotFoundException"


def test_a_payload_that_is_no_json_is_refused(cloud, door):
    functions = cloud.client("lambda", PRODUCTION)
    refused = {"FunctionName": "door:hana", "Payload": b"{user:prd-user}"}
    assert refusal(functions.invoke, **refused) == "InvalidRequestContentException"
    assert invoked(functions, "door:hana") == f"{door}:hana"


@pytest.mark.parametrize(
    ("suffix", "opens"),
    [
        ("", [""]),
        (":*", ["hana", "taro", "$LATEST"]),
        ("*", ["", "hana", "taro", "$LATEST"]),
        (":hana", ["hana"]),
        (":$LATEST", ["$LATEST"]),
        (":Hana", []),
        (":han", []),
    ],
)
def test_iam_judges_the_arn_with_the_qualifier(cloud, door, suffix, opens):
    person = visitor(cloud, f"opens-{len(opens)}-{len(suffix)}-{suffix.strip(':*$')}", allow(INVOKE, door + suffix))
    for qualifier in ("", "hana", "taro", "$LATEST"):
        more = {"Qualifier": qualifier} if qualifier else {}
        spellings = [("door", more), (door, more)]
        if qualifier:
            spellings += [(f"door:{qualifier}", {}), (f"{door}:{qualifier}", {})]
        for reference, named in spellings:
            if qualifier in opens:
                assert invoked(person, reference, **named).removeprefix(door).lstrip(":") == qualifier
            else:
                assert is_denied(person, reference, **named), (reference, named)


def test_a_pattern_also_opens_a_function_whose_name_begins_alike(cloud, door):
    make(cloud, PRODUCTION, "door-x")
    assert invoked(visitor(cloud, "wide", allow(INVOKE, f"{door}*")), "door-x") == f"{door}-x"
    assert is_denied(visitor(cloud, "narrow", allow(INVOKE, [door, f"{door}:*"])), "door-x")


def test_no_header_chooses_an_alias(cloud, door):
    """The emulator takes an alias from a header of its own, which IAM would not see."""
    person = visitor(cloud, "by-header", allow(INVOKE, door))
    address = f"{cloud.url}/2015-03-31/functions/door/invocations"
    request = AWSRequest("POST", address, data=b"{}", headers={"x-amz-qualifier": "hana"})
    SigV4Auth(person._request_signer._credentials, "lambda", REGION).add_auth(request)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(urllib.request.Request(address, b"{}", dict(request.headers))) as answer:
        assert json.load(answer)["invoked"] == door


def test_a_streamed_answer_needs_the_same_permission(cloud, door):
    request = {"FunctionName": "door", "Qualifier": "hana", "Payload": b"{}"}
    near = visitor(cloud, "streams-near", allow(INVOKE, door))
    assert refusal(near.invoke_with_response_stream, **request) == "AccessDeniedException"
    exact = visitor(cloud, "streams", allow(INVOKE, f"{door}:hana"))
    assert exact.invoke_with_response_stream(**request)["StatusCode"] == 200


def test_each_operation_on_an_alias_has_its_own_action(cloud):
    door = make(cloud, PRODUCTION, "managed", "hana")
    calls = {
        "CreateAlias": {"FunctionName": "managed", "Name": "new", "FunctionVersion": "$LATEST"},
        "GetAlias": {"FunctionName": "managed", "Name": "hana"},
        "UpdateAlias": {"FunctionName": "managed", "Name": "hana", "Description": "Hana's"},
        "ListAliases": {"FunctionName": "managed"},
        "DeleteAlias": {"FunctionName": "managed", "Name": "hana"},
    }
    names = {action: "".join(f"_{one.lower()}" if one.isupper() else one for one in action)[1:] for action in calls}
    for action, request in calls.items():
        # AWS judges operations on an alias by the function.
        near = visitor(cloud, f"{action}-near", allow(f"lambda:{action}", f"{door}:*"))
        assert refusal(getattr(near, names[action]), **request) == "AccessDeniedException"
        others = [f"lambda:{one}" for one in calls if one != action]
        other = visitor(cloud, f"{action}-other", allow(others))
        assert refusal(getattr(other, names[action]), **request) == "AccessDeniedException"
        exact = visitor(cloud, f"{action}-exact", allow(f"lambda:{action}", door))
        assert getattr(exact, names[action])(**request)["ResponseMetadata"]["HTTPStatusCode"] < 300
    functions = cloud.client("lambda", PRODUCTION)
    for name, version, expected in (
        ("7", "$LATEST", "ValidationException"),
        ("a.b", "$LATEST", "ValidationException"),
        ("old", "7", "ResourceNotFoundException"),
        ("new", "$LATEST", "ResourceConflictException"),
    ):
        request = {"FunctionName": "managed", "Name": name, "FunctionVersion": version}
        assert refusal(functions.create_alias, **request) == expected, name


def test_a_template_creates_an_alias_of_latest(cloud):
    door = make(cloud, PRODUCTION, "templated")
    properties = {"FunctionName": "templated", "Name": "board", "FunctionVersion": "$LATEST"}
    age = {"FunctionName": "templated", "Qualifier": "board", "MaximumEventAgeInSeconds": 60}
    resources = {
        "Board": {"Type": "AWS::Lambda::Alias", "Properties": properties},
        "Age": {"Type": "AWS::Lambda::EventInvokeConfig", "Properties": age, "DependsOn": "Board"},
    }
    assert cloud.stack(PRODUCTION, "board", resources) == "CREATE_COMPLETE"
    functions = cloud.client("lambda", PRODUCTION)
    assert invoked(functions, "templated:board") == f"{door}:board"
    config = functions.get_function_event_invoke_config(FunctionName="templated", Qualifier="board")
    assert config["MaximumEventAgeInSeconds"] == 60
    for name, wrong in (("no-function", {"FunctionName": "none"}), ("no-version", {"FunctionVersion": "9"})):
        resources = {"Board": {"Type": "AWS::Lambda::Alias", "Properties": properties | {"Name": "other"} | wrong}}
        assert cloud.stack(PRODUCTION, name, resources) == "ROLLBACK_COMPLETE"
    cloud.client("cloudformation", PRODUCTION).delete_stack(StackName="board")
    end = time.monotonic() + 20
    while functions.list_aliases(FunctionName="templated")["Aliases"] and time.monotonic() < end:
        time.sleep(0.1)
    assert functions.list_aliases(FunctionName="templated")["Aliases"] == []


def test_each_alias_has_its_own_event_invoke_config(cloud):
    door = make(cloud, PRODUCTION, "late", "hana", "taro")
    functions = cloud.client("lambda", PRODUCTION)
    put, get = functions.put_function_event_invoke_config, functions.get_function_event_invoke_config
    whole = put(FunctionName="late", MaximumEventAgeInSeconds=60, MaximumRetryAttempts=0)
    assert whole["FunctionArn"] == f"{door}:$LATEST"
    assert get(FunctionName="late", Qualifier="$LATEST")["MaximumEventAgeInSeconds"] == 60
    assert refusal(get, FunctionName="late", Qualifier="hana") == "ResourceNotFoundException"
    put(FunctionName="late", Qualifier="hana", MaximumEventAgeInSeconds=90, MaximumRetryAttempts=1)
    functions.update_function_event_invoke_config(FunctionName="late:hana", MaximumEventAgeInSeconds=120)
    found = get(FunctionName=f"{door}:hana")
    assert (found["FunctionArn"], found["MaximumEventAgeInSeconds"]) == (f"{door}:hana", 120)
    assert found["MaximumRetryAttempts"] == 1
    listed = functions.list_function_event_invoke_configs(FunctionName="late")["FunctionEventInvokeConfigs"]
    assert {one["FunctionArn"] for one in listed} == {f"{door}:$LATEST", f"{door}:hana"}
    near = visitor(cloud, "late-near", allow("lambda:PutFunctionEventInvokeConfig", door))
    request = {"FunctionName": "late", "Qualifier": "taro", "MaximumEventAgeInSeconds": 60}
    assert refusal(near.put_function_event_invoke_config, **request) == "AccessDeniedException"
    exact = visitor(cloud, "late-exact", allow("lambda:PutFunctionEventInvokeConfig", f"{door}:taro"))
    exact.put_function_event_invoke_config(**request)
    functions.delete_alias(FunctionName="late", Name="hana")
    functions.create_alias(FunctionName="late", Name="hana", FunctionVersion="$LATEST")
    assert refusal(get, FunctionName="late", Qualifier="hana") == "ResourceNotFoundException"
    functions.delete_function_event_invoke_config(FunctionName="late")
    assert refusal(get, FunctionName="late") == "ResourceNotFoundException"


def test_an_asynchronous_invocation_uses_the_config_of_its_alias(cloud):
    """A failed event is tried as often as the alias says, and the function sees the alias each time."""
    url, _ = cloud.queue(PRODUCTION, "late-events")
    door = make(cloud, PRODUCTION, "retried", "once", "twice")
    functions = cloud.client("lambda", PRODUCTION)
    functions.put_function_event_invoke_config(FunctionName="retried", MaximumRetryAttempts=0)
    functions.put_function_event_invoke_config(FunctionName="retried", Qualifier="once", MaximumRetryAttempts=0)
    functions.put_function_event_invoke_config(FunctionName="retried", Qualifier="twice", MaximumRetryAttempts=1)
    payload = json.dumps({"fail": True, "to": url}).encode()
    for reference in ("retried:once", "retried:twice"):
        answer = functions.invoke(FunctionName=reference, InvocationType="Event", Payload=payload)
        assert answer["StatusCode"] == 202
    seen = [one["invoked"] for one in cloud.messages(PRODUCTION, url, count=4, seconds=5)]
    assert sorted(seen) == [f"{door}:once", f"{door}:twice", f"{door}:twice"]
    near = visitor(cloud, "late-event", allow(INVOKE, door))
    assert is_denied(near, "retried:once", InvocationType="Event")


def test_a_rule_invokes_the_alias_that_it_names(cloud):
    url, _ = cloud.queue(TEST, "ruled")
    door = make(cloud, TEST, "ruled", "hana")
    events = cloud.client("events", TEST)
    events.put_rule(Name="ruled", EventPattern='{"source":["doors"]}')
    events.put_targets(Rule="ruled", Targets=[{"Id": "1", "Arn": f"{door}:hana", "Input": json.dumps({"to": url})}])
    events.put_events(Entries=[{"Source": "doors", "DetailType": "knock", "Detail": "{}"}])
    assert [one["invoked"] for one in cloud.messages(TEST, url)] == [f"{arn_of(TEST, 'ruled')}:hana"]
