"""A queue whose messages invoke a function: the permissions of the role, the concurrency, failures, and limits."""

import io
import json
import time
import zipfile

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.accounts import PRODUCTION, allow, code
from tools.layout import REGION

# The function waits for as long as the message says, and fails if the message says so.
WAITING = """
import json, time
def handler(event, context):
    asked = [json.loads(record["body"]) for record in event.get("Records", [])] or [event]
    time.sleep(asked[0].get("seconds", 0))
    assert not asked[0].get("fails")
    return {"records": len(asked)}
"""
TAKE = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
TRUSTED = {"Service": "lambda.amazonaws.com"}


@pytest.fixture(scope="module")
def mapped(cloud):
    """A function that takes its messages from a queue with a dead-letter queue, at most two at the same time."""
    cloud.queue(PRODUCTION, "waiting-dead")
    sqs = cloud.client("sqs", PRODUCTION)
    redrive = {"deadLetterTargetArn": f"arn:aws:sqs:{REGION}:{PRODUCTION}:waiting-dead", "maxReceiveCount": 2}
    attributes = {"VisibilityTimeout": "3", "RedrivePolicy": json.dumps(redrive)}
    url = sqs.create_queue(QueueName="waiting", Attributes=attributes)["QueueUrl"]
    role = cloud.role(PRODUCTION, "waiting", TRUSTED, [allow(TAKE)])
    create(cloud, "waiting", role)
    cloud.client("lambda", PRODUCTION).create_event_source_mapping(
        FunctionName="waiting", EventSourceArn=arn("waiting"), BatchSize=1, ScalingConfig={"MaximumConcurrency": 2}
    )
    return sqs, url


def create(cloud, name, role):
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("index.py", WAITING)
    cloud.client("lambda", PRODUCTION).create_function(
        FunctionName=name,
        Runtime="python3.12",
        Handler="index.handler",
        Role=role,
        Code={"ZipFile": package.getvalue()},
        Timeout=3,
    )


def arn(queue):
    return f"arn:aws:sqs:{REGION}:{PRODUCTION}:{queue}"


def left(sqs, url):
    """Returns the numbers of messages that wait and that are being processed."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return [int(found[name]) for name in names]


def test_a_mapping_takes_at_most_as_many_messages_as_its_concurrency(mapped):
    sqs, url = mapped
    for _ in range(4):
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"seconds": 1}))
    end, most = time.monotonic() + 20, 0
    while sum(left(sqs, url)) and time.monotonic() < end:
        most = max(most, left(sqs, url)[1])
        time.sleep(0.02)
    assert (left(sqs, url), most) == ([0, 0], 2)


def test_a_message_that_fails_comes_again_and_becomes_a_dead_letter(cloud, mapped):
    sqs, url = mapped
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"fails": True}))
    dead = url.replace("waiting", "waiting-dead")
    assert cloud.messages(PRODUCTION, dead, seconds=15) == [{"fails": True}]
    assert left(sqs, url) == [0, 0]


@pytest.mark.usefixtures("mapped")
@pytest.mark.parametrize("missing", TAKE)
def test_a_mapping_needs_the_permissions_of_the_role(cloud, missing):
    name = f"without-{missing.partition(':')[2]}"
    create(cloud, name, cloud.role(PRODUCTION, name, TRUSTED, [allow([one for one in TAKE if one != missing])]))
    with pytest.raises(ClientError, match=missing.partition(":")[2]) as caught:
        cloud.client("lambda", PRODUCTION).create_event_source_mapping(FunctionName=name, EventSourceArn=arn("waiting"))
    assert code(caught) == "InvalidParameterValueException"
    mapping = {"FunctionName": name, "EventSourceArn": arn("waiting")}
    of_template = {"Mapping": {"Type": "AWS::Lambda::EventSourceMapping", "Properties": mapping}}
    assert cloud.stack(PRODUCTION, name, of_template).startswith("ROLLBACK")


@pytest.mark.usefixtures("mapped")
def test_the_concurrency_of_a_template_may_be_a_text(cloud):
    functions, (_, queue) = cloud.client("lambda", PRODUCTION), cloud.queue(PRODUCTION, "texts")
    for text, number in (("2", 2), ("3", 3)):
        mapping = {"FunctionName": "waiting", "EventSourceArn": queue, "ScalingConfig": {"MaximumConcurrency": text}}
        status = cloud.stack(
            PRODUCTION, "texts", {"Mapping": {"Type": "AWS::Lambda::EventSourceMapping", "Properties": mapping}}
        )
        assert status in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
        (found,) = functions.list_event_source_mappings(EventSourceArn=queue)["EventSourceMappings"]
        assert found["ScalingConfig"] == {"MaximumConcurrency": number}


@pytest.mark.usefixtures("mapped")
def test_a_queue_must_hide_a_message_while_the_function_runs(cloud):
    cloud.client("sqs", PRODUCTION).create_queue(QueueName="short", Attributes={"VisibilityTimeout": "2"})
    with pytest.raises(ClientError, match="visibility timeout: 2 seconds is less than Function timeout: 3") as caught:
        cloud.client("lambda", PRODUCTION).create_event_source_mapping(
            FunctionName="waiting", EventSourceArn=arn("short")
        )
    assert code(caught) == "InvalidParameterValueException"


def test_the_concurrency_of_an_account_has_a_limit(cloud, mapped):
    sqs, url = mapped
    functions = cloud.client("lambda", PRODUCTION)
    functions.invoke(FunctionName="waiting", Payload=b"{}")
    cloud.post(f"concurrency/{PRODUCTION}", "1")
    try:
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"seconds": 2}))
        while left(sqs, url) != [0, 1]:
            time.sleep(0.02)
        time.sleep(0.2)
        with pytest.raises(functions.exceptions.TooManyRequestsException):
            functions.invoke(FunctionName="waiting", Payload=b"{}")
    finally:
        cloud.post(f"concurrency/{PRODUCTION}")
    assert "FunctionError" not in functions.invoke(FunctionName="waiting", Payload=b"{}")
