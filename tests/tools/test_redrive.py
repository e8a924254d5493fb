"""`make redrive` tries every message once. Messages that fail stay and are visible, even if the run is interrupted."""

import io
import json

import pytest
from botocore.exceptions import ClientError

from tests.template import deployed
from tools.operations import redrive

FUNCTION = "sekisho-event-relay"


class Functions:
    """A fake of Lambda, in which each message says whether its invocation fails. The queue is not a fake."""

    def __init__(self, broken=None, full=0):
        self.invoked, self.broken, self.full = [], broken, full

    def invoke(self, FunctionName, Payload):  # noqa: N803 (boto3's names)
        if self.full:
            self.full -= 1
            raise ClientError({"Error": {"Code": "TooManyRequestsException", "Message": "Rate Exceeded."}}, "Invoke")
        asked = json.loads(Payload)
        self.invoked.append((FunctionName, asked["number"]))
        if asked["number"] == self.broken:
            raise KeyboardInterrupt
        answer = {"Payload": io.BytesIO(b'{"decisions": [{"outcome": "relayed", "reason": "a test"}]}')}
        return answer | ({"FunctionError": "Unhandled"} if asked["fails"] else {})


@pytest.fixture(scope="module")
def sqs():
    with deployed.cloud() as cloud:
        yield cloud.client("222222222222", "sqs")


def filled(sqs, name, fails):
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    for number, one in enumerate(fails):
        sqs.send_message(QueueUrl=queue, MessageBody=json.dumps({"number": number, "fails": one}))
    return queue


def visible(sqs, queue):
    found = []
    while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, VisibilityTimeout=60).get("Messages"):
        found += [json.loads(one["Body"])["number"] for one in messages]
    return sorted(found)


def test_messages_that_fail_do_not_hide_later_messages(sqs):
    queue, functions = filled(sqs, "mixed", [True] * 12 + [False] * 12), Functions()
    assert redrive.redrive_queue(sqs, queue, functions, FUNCTION) == (12, 12)
    assert sorted(functions.invoked) == [(FUNCTION, number) for number in range(24)]
    assert visible(sqs, queue) == list(range(12))


def test_after_an_interruption_the_remaining_messages_are_visible(sqs):
    queue, functions = filled(sqs, "interrupted", [True, False, False, True]), Functions(broken=2)
    with pytest.raises(KeyboardInterrupt):
        redrive.redrive_queue(sqs, queue, functions, FUNCTION)
    done = {number for _, number in functions.invoked} & {1}
    assert visible(sqs, queue) == sorted({0, 1, 2, 3} - done)


def test_a_throttled_invocation_is_tried_again(sqs, monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    queue, functions = filled(sqs, "full", [False, True]), Functions(full=3)
    assert redrive.redrive_queue(sqs, queue, functions, FUNCTION) == (1, 1)
    assert pauses == [1, 2, 4]
    # If Lambda keeps throttling, the run ends with an error, and the remaining message is visible.
    with pytest.raises(ClientError):
        redrive.redrive_queue(sqs, queue, Functions(full=100), FUNCTION)
    assert visible(sqs, queue) == [1]
