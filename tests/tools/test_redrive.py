"""`make redrive`: every message is tried once, what fails stays and can be received at once, also where the run ends early."""

import importlib
import io
import json

import pytest
from botocore.exceptions import ClientError

from tests.template import deployed

FUNCTION = "sekisho-event-relay"


class Functions:
    """A function that fails what it is told to; the queue is real."""

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


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(deployed.ROOT / "scripts"))
    return importlib.import_module("redrive")


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


def test_what_fails_does_not_hide_what_comes_after_it(sqs, script):
    queue, functions = filled(sqs, "mixed", [True] * 12 + [False] * 12), Functions()
    assert script.redrive_queue(sqs, queue, functions, FUNCTION) == (12, 12)
    assert sorted(functions.invoked) == [(FUNCTION, number) for number in range(24)]
    assert visible(sqs, queue) == list(range(12))


def test_an_interrupted_run_leaves_what_is_not_done_to_be_received(sqs, script):
    queue, functions = filled(sqs, "interrupted", [True, False, False, True]), Functions(broken=2)
    with pytest.raises(KeyboardInterrupt):
        script.redrive_queue(sqs, queue, functions, FUNCTION)
    done = {number for _, number in functions.invoked} & {1}
    assert visible(sqs, queue) == sorted({0, 1, 2, 3} - done)


def test_a_function_without_room_is_waited_for(sqs, script, monkeypatch):
    pauses = []
    monkeypatch.setattr(script.time, "sleep", pauses.append)
    queue, functions = filled(sqs, "full", [False, True]), Functions(full=3)
    assert script.redrive_queue(sqs, queue, functions, FUNCTION) == (1, 1)
    assert pauses == [1, 2, 4]
    # Without end it is not: then the run ends, and what is left can be received.
    with pytest.raises(ClientError):
        script.redrive_queue(sqs, queue, Functions(full=100), FUNCTION)
    assert visible(sqs, queue) == [1]
