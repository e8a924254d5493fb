"""A sweep that is too large for one invocation: its ranges in the queue, and what it leaves to temp-access.

With SEKISHO_SWEEP_OBJECTS=100000 in the environment, the sweep checks that many objects instead of 6,000, which one
invocation would check alone. Then the test itself writes the rows of a sweep that an invocation has left to the queue.
"""

import json
import os
import time

import pytest
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

from tests.end_to_end import people
from tools.layout import ACCOUNTS, LEDGER
from tools.local_stack import job
from tools.local_stack.observed import decisions
from tools.local_stack.stack import eventually

PROFILE, CHECKER = "test", "sekisho-artifact-checker"
ACCOUNT = ACCOUNTS[PROFILE]
# A repair by a copy is an event, and so a further invocation in the account.
OBJECTS, WRONG = int(os.environ.get("SEKISHO_SWEEP_OBJECTS", "6000")), 3
# An invocation checks so many objects before it leaves the rest to the queue.
ALONE = 20_000
SECONDS = 60 + OBJECTS / 50
CONCURRENCY, OF_SWEEPS = 10, 5
PERSON = "beside-a-sweep"
# Slack waits for an answer for 15 s. On AWS, no invocation takes time from another; here, those of the sweep, the local
# cloud and other tests share the machine's cores.
IN_TIME = 15


@pytest.fixture(scope="module")
def bucket(stack):
    """The artifact bucket with many objects, some of which are under the wrong key, as if their events were lost."""
    events, s3 = stack.client(PROFILE, "events"), stack.client(PROFILE, "s3")
    name = stack.outputs(PROFILE)["ArtifactBucketName"]
    job.invoke(stack, PROFILE, CHECKER, {"action": "sweep", "bucket": name})
    events.disable_rule(Name="sekisho-artifact-write")
    try:
        with job.artifact_reader(stack, PROFILE) as pipeline:
            right = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": stack.outputs(PROFILE)["ArtifactKeyArn"]}
            pipeline.put_object(Bucket=name, Key="sweep/right", Body=b"right", **right)
        job.put_without_key(stack, PROFILE, "sweep/wrong", b"wrong")
        keys = [f"sweep/{number % 20}/{number}" for number in range(OBJECTS - 2)]
        wrong = keys[1 :: OBJECTS // WRONG][: WRONG - 1]
        stack.post(f"copies/{ACCOUNT}/{name}/sweep/right", "\n".join(keys))
        stack.post(f"copies/{ACCOUNT}/{name}/sweep/wrong", "\n".join(wrong))
    finally:
        events.enable_rule(Name="sekisho-artifact-write")
    yield name, ["sweep/wrong", *wrong]
    for start in range(0, len(keys), 1000):
        listed = [{"Key": key} for key in keys[start : start + 1000]]
        s3.delete_objects(Bucket=name, Delete={"Objects": listed, "Quiet": True})


def sweep(stack, bucket):
    """The row of the latest sweep, with its totals and open ranges."""
    place = {"pk": {"S": f"sweep#{bucket}"}, "sk": {"S": "state"}}
    item = stack.client(PROFILE, "dynamodb").get_item(TableName=LEDGER, Key=place, ConsistentRead=True)["Item"]
    return {name: TypeDeserializer().deserialize(value) for name, value in item.items()}


def leave_to_the_queue(stack, bucket, *ends, **of_range):
    """Writes the rows of a sweep whose ranges are all open, and whose messages are lost. `ends` divides the ranges."""
    done = sweep(stack, bucket)
    nothing = {name: type(value)() for name, value in done["totals"].items()}
    nothing |= {name: dict.fromkeys(done["totals"][name], 0) for name in ("checks", "repairs")}
    row = done | {"sweep": "left", "complete": False, "listed": False, "position": None, "until": 0}
    row["totals"] = nothing
    limits = [None, *ends, None]
    opened = [{"number": number, "end": end} for number, end in enumerate(limits[1:])]
    ranges = {"open": opened, "next": len(opened), "unchecked": 0, "named_unchecked": []}
    rows = [row | {"ranges": ranges}]
    for one, start in zip(opened, limits, strict=False):
        position = start and {"key": start, "version": None}
        place = {"sk": f"range#{one['number']:05}", "range": one["number"], "end": one["end"], "position": position}
        rows.append(row | place | of_range)
    for one in rows:
        item = {name: TypeSerializer().serialize(value) for name, value in one.items()}
        stack.client(PROFILE, "dynamodb").put_item(TableName=LEDGER, Item=item)


@pytest.fixture(scope="module")
def person(stack):
    """A user who is prepared for access in the account of the sweep."""
    boundary = stack.outputs(PROFILE)["AccessBoundaryArn"]
    stack.client(PROFILE, "iam").create_user(UserName=PERSON, PermissionsBoundary=boundary, Tags=people.TAGS)
    return PERSON


def grant_and_revoke(stack, person):
    """Asks for access and ends it. Yields how many seconds each of the two answers took."""
    grant: dict[str, object] = {"minutes": 5, "reason": "a test"}
    revoke: dict[str, object] = {"action": "revoke"}
    for request, part in [(grant, "End time is "), (revoke, "is ended")]:
        asked = time.monotonic()
        # If Lambda throttled the invocation, this call would raise.
        answer = job.invoke(stack, PROFILE, "temp-access", {"user": person} | request)
        took = time.monotonic() - asked
        assert part in answer, answer
        yield took


def in_flight(stack, queue):
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    url = stack.client(PROFILE, "sqs").get_queue_url(QueueName=queue)["QueueUrl"]
    found = stack.client(PROFILE, "sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return [int(found[name]) for name in names]


def test_a_large_sweep_checks_every_object_once_and_leaves_room_for_temp_access(stack, bucket, person):
    name, wrong = bucket
    if OBJECTS <= ALONE:
        leave_to_the_queue(stack, name, "sweep/13", "sweep/17", "sweep/5")
    # The first answer includes a cold start, which may take as long as a sweep on a busy machine.
    list(grant_and_revoke(stack, person))
    alone = max(grant_and_revoke(stack, person))
    stack.post(f"concurrency/{ACCOUNT}", str(CONCURRENCY))
    try:
        began, answers, most = time.monotonic(), [], 0
        job.invoke(stack, PROFILE, CHECKER, {"action": "sweep", "bucket": name})
        while not sweep(stack, name)["complete"]:
            assert time.monotonic() - began < SECONDS, sweep(stack, name)
            for answer in grant_and_revoke(stack, person):
                answers.append(answer)
                most = max(most, in_flight(stack, "sekisho-artifact-ranges")[1])
    finally:
        stack.post(f"concurrency/{ACCOUNT}", "")
    took = time.monotonic() - began
    slowest = max(answers)
    print(f"{OBJECTS} objects in {took:.1f} s; {len(answers)} answers within {slowest:.2f} s, alone {alone:.2f} s")
    assert 1 < most <= OF_SWEEPS and len(answers) > 1 and slowest < IN_TIME
    row, s3 = sweep(stack, name), stack.client(PROFILE, "s3")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=name)
    keys = [one["Key"] for page in pages for one in page["Contents"] if not one["Key"].startswith("sekisho-reports/")]
    totals = row["totals"]
    assert (totals["objects"], totals["outcomes"]["repaired"]) == (len(keys), WRONG)
    assert row["ranges"]["unchecked"] == 0 and row["ranges"]["next"] > 1
    key = stack.outputs(PROFILE)["ArtifactKeyArn"]
    assert {s3.head_object(Bucket=name, Key=one)["SSEKMSKeyId"] for one in wrong} == {key}
    assert in_flight(stack, "sekisho-artifact-ranges") == [0, 0]
    assert in_flight(stack, "sekisho-artifact-sweeper-dead-letters") == [0, 0]


def test_a_range_that_fails_again_and_again_is_set_aside_and_makes_the_sweep_incomplete(stack, bucket):
    name, _ = bucket
    # Three invocations took the range, and none of them came to an end.
    leave_to_the_queue(stack, name, attempts=3)
    before = len(decisions(stack, PROFILE, "artifact-checker"))
    job.invoke(stack, PROFILE, CHECKER, {"action": "sweep", "bucket": name})
    eventually("the sweep ends", lambda: sweep(stack, name)["complete"], SECONDS)
    assert sweep(stack, name)["ranges"]["unchecked"] == 1
    reasons = [one["reason"] for one in decisions(stack, PROFILE, "artifact-checker")[before:]]
    assert any("is set aside" in reason for reason in reasons), json.dumps(reasons)
