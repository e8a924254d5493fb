"""Doors of temp-access, with IAM enforced: who asks, who approves, in which account, and through which door."""

import json
import time
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest

from tools.layout import ACCOUNTS, PERSON, REGION, TEST_PERSON
from tools.local_stack import doors, job
from tools.local_stack.observed import decisions, error_code, ledger

DENIED = "AccessDeniedException"
FUNCTION = "temp-access"
OPERATOR = {"user": PERSON, "profile": doors.OPERATOR, "reason": "a test", "minutes": 5}
TEST, PRODUCTION = ACCOUNTS["test"], ACCOUNTS["production"]


def function_of(account, name=FUNCTION):
    return f"arn:aws:lambda:{REGION}:{account}:function:{name}"


@pytest.fixture(scope="module")
def acts(stack):
    """A function that makes a client of Lambda for a member of the channel, as Chatbot acts for that member."""

    def make(name):
        make_client: Any = boto3.client
        keys = doors.member(stack, name)
        return make_client("lambda", region_name=REGION, endpoint_url=stack.endpoint, **keys)

    return make


def ask(functions, door, **request):
    """Sends a request to a door. Returns the answer, or the type of the function's error."""
    answer = functions.invoke(FunctionName=f"{FUNCTION}:{door}" if door else FUNCTION, Payload=json.dumps(request))
    body = json.loads(answer["Payload"].read())
    return body["errorType"] if "FunctionError" in answer else body


def code_of(answer):
    """The code in the answer to a request that needs an approval."""
    first = answer.split("\n")[0].split(" ")
    assert first[0] == "Request" and first[2:6] == ["waits", "for", "approval", "until"], answer
    return first[1]


@pytest.fixture(scope="module")
def operator(stack):
    """The clients of a user of the test account whom temp-access may let in there."""
    return lambda service: stack.client(TEST_PERSON, service)


def test_one_person_asks_and_another_approves_for_another_account(stack, acts, operator):
    hana, taro = acts(doors.HANA), acts(doors.TARO)
    assert error_code(operator("lambda").list_functions) is not None
    there = {**OPERATOR, "user": TEST_PERSON, "account": "test"}
    code = code_of(ask(hana, "hana", **there))
    again = code_of(ask(hana, "hana", **there))
    assert again == code, "the same request has the same code"
    assert code in ask(hana, "", action="pending", account="test")
    assert ask(hana, "hana", account="test", approve=code) == "Refused", "nobody approves their own request"
    assert ask(taro, "taro", approve=code) == "NotFound", "the code belongs to the other account"
    assert error_code(operator("lambda").list_functions) is not None, "a request gives nothing"

    answer = ask(taro, "taro", account="test", approve=code.lower())
    assert answer.startswith("End time is ") and "hana" in answer, answer
    assert operator("lambda").list_functions()["Functions"]
    assert error_code(operator("s3").list_buckets) is not None, "the profile allows Lambda only"
    (granted,) = decisions(stack, "test", FUNCTION, "granted")
    assert (granted["door"], granted["approved_by"]) == ("hana", "taro")
    assert ask(taro, "taro", account="test", approve=code) == "NotFound", "a code is used once"

    ended = ask(acts("a stranger"), "", action="revoke", user=TEST_PERSON, account="test")
    assert "is ended" in ended, ended
    assert error_code(operator("lambda").list_functions) is not None


def test_access_through_the_hub_ends_by_its_date_alone(stack, acts, operator):
    before = len(decisions(stack, "test", FUNCTION))
    there = {**OPERATOR, "user": TEST_PERSON, "account": "test", "minutes": 1}
    code = code_of(ask(acts(doors.HANA), "hana", **there))
    assert error_code(operator("lambda").list_functions) == DENIED, "a request gives nothing"
    asked = datetime.now(UTC)
    end = job.end_of_grant(ask(acts(doors.TARO), "taro", account="test", approve=code))
    assert 50 < (end - asked).total_seconds() < 75, "the minute begins with the approval"
    let_in = 0
    while datetime.now(UTC) < end:
        came_in = error_code(operator("lambda").list_functions) is None
        # A call that was made before the end may be judged after it.
        assert came_in or datetime.now(UTC) >= end
        let_in += came_in
        time.sleep(0.5)
    assert let_in > 10 and error_code(operator("lambda").list_functions) == DENIED

    # Nobody has ended the access. At most, a sweep has already removed the policy, because its date was over.
    outcomes = [one["outcome"] for one in decisions(stack, "test", FUNCTION)[before:]]
    assert outcomes.count("granted") == 1 and "revoked" not in outcomes, outcomes
    policies = stack.client("test", "iam").list_user_policies(UserName=TEST_PERSON)["PolicyNames"]
    assert f"sekisho-{doors.OPERATOR}" in policies or "swept" in outcomes, (policies, outcomes)


def test_a_request_can_be_withdrawn_or_declined(acts):
    hana, taro = acts(doors.HANA), acts(doors.TARO)
    for functions, door in ((hana, "hana"), (taro, "taro")):
        code = code_of(ask(hana, "hana", **OPERATOR))
        assert code in ask(functions, door, decline=code)
        assert ask(taro, "taro", approve=code) == "NotFound"


def test_a_profile_with_approval_is_refused_at_the_door_of_the_channel(acts):
    assert ask(acts("a stranger"), "", **OPERATOR) == "Refused"
    assert ask(acts(doors.HANA), "", **OPERATOR) == "Refused", "also for somebody who has a door"
    assert ask(acts(doors.TARO), "taro", **OPERATOR) == "Refused", "the person is not one of Taro's"


def test_an_emergency_needs_no_approval_and_stays_pending_until_somebody_else_closes_it(stack, acts):
    hana, taro = acts(doors.HANA), acts(doors.TARO)
    emergency = {"user": PERSON, "profile": doors.EMERGENCY}
    assert ask(hana, "hana", **emergency) == "InvalidRequest", "an emergency needs a reason"
    assert ask(hana, "", reason="the shop is down", **emergency) == "Refused", "and a person's door"
    answer = ask(hana, "hana", reason="the shop is down <!channel>", **emergency)
    assert answer.startswith("End time is "), answer
    (code,) = [row["code"] for row in ledger(stack, "production") if row["pk"] == "request" and row["code"] in answer]
    assert ask(hana, "hana", approve=code) == "Refused"
    assert code in ask(taro, "taro", action="pending")
    ask(hana, "", action="revoke", user=PERSON)
    assert code in ask(taro, "taro", action="pending"), "the review stays"
    assert code in ask(taro, "taro", approve=code)
    assert code not in ask(taro, "taro", action="pending")


# Who tries which door. IAM, and not a message of the function, has to deny each of these.
WRONG_DOORS = [
    ("hana", function_of(PRODUCTION, f"{FUNCTION}:taro")),
    ("hana", function_of(PRODUCTION, f"{FUNCTION}:approvers")),
    ("hana", function_of(PRODUCTION, f"{FUNCTION}:board")),
    ("hana", function_of(PRODUCTION, f"{FUNCTION}:$LATEST")),
    ("hana", function_of(TEST)),
    ("hana", function_of(TEST, f"{FUNCTION}:hub")),
    ("taro", function_of(PRODUCTION, f"{FUNCTION}:hana")),
    ("a stranger", function_of(PRODUCTION, f"{FUNCTION}:hana")),
    ("a stranger", function_of(PRODUCTION, f"{FUNCTION}:taro")),
    ("a stranger", function_of(TEST, f"{FUNCTION}:hub")),
]


@pytest.mark.parametrize(("member", "function"), WRONG_DOORS)
def test_iam_denies_the_wrong_door(acts, member, function):
    assert error_code(lambda: acts(member).invoke(FunctionName=function, Payload=b'{"action":"list"}')) == DENIED


@pytest.mark.parametrize("door", ["hana", "taro", "approvers"])
def test_a_permission_to_invoke_everything_opens_no_door(stack, door):
    administrator = stack.client("production", "lambda")
    assert ask(administrator, "", action="list"), "the administrator may invoke the function itself"
    invoke = {"FunctionName": f"{FUNCTION}:{door}", "Payload": b'{"action":"list"}'}
    assert error_code(lambda: administrator.invoke(**invoke)) == DENIED
    assert error_code(lambda: administrator.invoke(InvocationType="Event", **invoke)) == DENIED


@pytest.mark.parametrize("profile", ["test", "production"])
def test_nobody_but_the_hub_comes_through_the_door_of_the_hub(stack, profile):
    envelope = {"version": 1, "id": "1", "until": "2036-01-01T00:00:00.000Z", "door": "hana", "request": OPERATOR}
    administrator = stack.client(profile, "lambda")
    invoke = {"FunctionName": function_of(TEST, f"{FUNCTION}:hub"), "Payload": json.dumps(envelope).encode()}
    assert error_code(lambda: administrator.invoke(**invoke)) == DENIED


def test_an_account_without_a_door_for_this_hub_is_refused(acts):
    hana = acts(doors.HANA)
    assert ask(hana, "hana", account="nowhere", **OPERATOR) == "InvalidRequest"
    assert ask(hana, "hana", account="outside", **OPERATOR) == "Refused"


EVENT = {
    "version": "0",
    "id": "1",
    "source": "aws.events",
    "detail-type": "Scheduled Event",
    "account": PRODUCTION,
    "region": REGION,
    "time": "2026-11-29T00:00:00Z",
    "resources": [],
    "detail": {},
}
# Requests that change something, for each function.
CHANGES: dict[str, list[dict]] = {
    "temp-access": [
        {"user": PERSON},
        {"action": "revoke", "user": PERSON},
        {"person": "hana@example.com"},
        {"action": "revoke", "person": "hana@example.com"},
        {"approve": "ABCDEFGH"},
    ],
    "sekisho-event-relay": [
        {"action": "hold", "route": "shop", "reason": "a test"},
        {"action": "resend", "route": "shop", "account": TEST},
    ],
    "sekisho-pipeline-starter": [EVENT],
    "sekisho-artifact-checker": [EVENT, {"action": "sweep", "bucket": "sekisho-artifacts", "dry_run": True}],
    "sekisho-artifact-sweeper": [EVENT, {"action": "sweep", "bucket": "sekisho-artifacts", "dry_run": True}],
}
# A request that each function answers through its read-only alias.
SHOWN = {
    "temp-access": {"action": "list"},
    "sekisho-event-relay": {"action": "where"},
    "sekisho-pipeline-starter": {"action": "explain", "event": EVENT},
}


def kept(stack, profile, name):
    """What a function has written: its decisions; of temp-access, also grants, requests, and policies in IAM."""
    written: list[object] = [decisions(stack, profile, name)]
    if name == FUNCTION:
        iam = stack.client(profile, "iam")
        policies = iam.list_user_policies(UserName=PERSON)["PolicyNames"]
        written += [iam.get_user_policy(UserName=PERSON, PolicyName=one)["PolicyDocument"] for one in policies]
        versions = iam.list_policy_versions(PolicyArn=f"arn:aws:iam::{PRODUCTION}:policy/sekisho-window")["Versions"]
        written += [(one["VersionId"], one["IsDefaultVersion"]) for one in versions]
        written += [row for row in ledger(stack, profile) if row["pk"] in ("grant", "request", "window")]
    return written


@pytest.mark.parametrize("function", CHANGES)
def test_the_board_changes_nothing(stack, function):
    profile = "repository" if function == "sekisho-event-relay" else "production"
    functions = stack.client(profile, "lambda")
    name = function.removeprefix("sekisho-")
    before = kept(stack, profile, name)
    for request in CHANGES[function]:
        answer = functions.invoke(FunctionName=f"{function}:board", Payload=json.dumps(request))
        assert json.loads(answer["Payload"].read())["errorType"] == "Refused", request
    assert kept(stack, profile, name) == before
    if function in SHOWN:
        answer = functions.invoke(FunctionName=f"{function}:board", Payload=json.dumps(SHOWN[function]))
        assert "FunctionError" not in answer, answer["Payload"].read()
