"""How access ends for good: open sessions, policies that others wrote, and chains of grants."""

import json
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tests.end_to_end.people import ask, clients, grant, scheduled
from tools.layout import ACCOUNTS, REGION
from tools.local_stack import job
from tools.local_stack.observed import error_code, grants

ACCOUNT = ACCOUNTS["production"]
TARGET = "i-0123456789abcdef0"
FOLLOW_UP, SWEEP = "sekisho-access-follow-up", "sekisho-access-sweep"


def open_sessions(stack):
    """The ids of all open sessions, by the last part of the owner's ARN."""
    found = stack.client("production", "ssm").describe_sessions(State="Active")["Sessions"]
    return {one["Owner"].rpartition("/")[2]: one["SessionId"] for one in found}


def ending(end):
    """A policy that allows everything until `end`, in whatever spelling."""
    condition = {"DateLessThan": {"aws:CurrentTime": end}}
    statement = {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": condition}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_a_revoke_ends_the_open_sessions_of_the_user_only(stack, user):
    one, other = user("shell-one"), user("shell-other")
    for name in ("shell-one", "shell-other"):
        grant(stack, user=name, minutes=10)
    one("ssm").start_session(Target=TARGET)
    other("ssm").start_session(Target=TARGET)
    answer = ask(stack, action="revoke", user="shell-one")
    assert f"One open session of Session Manager in {REGION} is ended." in answer, answer
    assert set(open_sessions(stack)) & {"shell-one", "shell-other"} == {"shell-other"}
    ask(stack, action="revoke", user="shell-other")


def test_sessions_of_a_role_end_with_the_window(stack):
    iam, boundary = stack.client("production", "iam"), stack.outputs("production")["AccessBoundaryArn"]
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}
    role = iam.create_role(
        RoleName="shells",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
        PermissionsBoundary=boundary,
        Tags=[{"Key": "sekisho:access", "Value": "grantable"}],
    )["Role"]["Arn"]
    key = stack.client("production", "sts").assume_role(RoleArn=role, RoleSessionName="night")["Credentials"]
    end = job.end_of_grant(grant(stack, role="shells", minutes=1))
    clients(stack, key)("ssm").start_session(Target=TARGET)
    scheduled(stack, FOLLOW_UP)
    assert "night" in open_sessions(stack), "the window is still open"
    while datetime.now(UTC) <= end:
        time.sleep(0.2)
    decided = [one for one in scheduled(stack, FOLLOW_UP) if one.get("role") == "shells"]
    # The schedule of the local cloud may have been faster.
    assert all(one["outcome"] == "session-ended" for one in decided)
    assert "night" not in open_sessions(stack)
    (row,) = [one for one in grants(stack, "production") if one["sk"] == "role/shells/admin"]
    # Session Manager may list a session of the last moment late, so the row keeps the debt for two minutes.
    assert "sessions_from" in row


def test_a_policy_with_an_end_that_sekisho_never_writes_is_reported_and_can_be_revoked(stack, user):
    iam = stack.client("production", "iam")
    user("far-away")
    soon = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    ends = {
        "sekisho-2099": "2099-01-01T00:00:00Z",
        "sekisho-offset": soon.astimezone(timezone(timedelta(hours=9))).isoformat(),
        "sekisho-epoch": str(int(soon.timestamp())),
        "sekisho-list": [soon.isoformat()],
    }
    for name, end in ends.items():
        iam.put_user_policy(UserName="far-away", PolicyName=name, PolicyDocument=ending(end))
    decided = [one for one in scheduled(stack, SWEEP) if one.get("user") == "far-away"]
    assert [(one["outcome"], one["policy"]) for one in decided] == [("foreign", "sekisho-2099")]
    assert "would lose sekisho-2099" in ask(stack, action="revoke", user="far-away", dry_run=True)
    answer = ask(stack, action="revoke", user="far-away")
    assert ", ".join(sorted(ends)) + " removed" in answer, answer
    assert iam.list_user_policies(UserName="far-away")["PolicyNames"] == []


def test_revoking_and_asking_again_does_not_renew_the_longest_chain(stack, user):
    user("again")
    first = job.end_of_grant(grant(stack, user="again", minutes=60))
    ask(stack, action="revoke", user="again")
    time.sleep(1.1)  # windows have whole seconds
    answer = grant(stack, user="again", minutes=60)
    assert job.end_of_grant(answer) == first and "at most 60 min from the first start" in answer, answer
    ask(stack, action="revoke", user="again")


@pytest.mark.parametrize("reason", [None, "", " \u3000"])
def test_a_profile_with_a_reason_is_not_granted_without_one(stack, user, reason):
    iam = stack.client("production", "iam")
    name = f"silent-{len(reason or '')}-{reason is None}"
    user(name)
    request = {"user": name, "profile": "admin"} | ({} if reason is None else {"reason": reason})
    answer = stack.client("production", "lambda").invoke(
        FunctionName="temp-access", Payload=json.dumps(request).encode()
    )
    found = json.loads(answer["Payload"].read())
    assert found["errorType"] == "InvalidRequest" and "`reason` is missing" in found["errorMessage"], found
    assert iam.list_user_policies(UserName=name)["PolicyNames"] == []
    # A live grant keeps its reason, so an extension needs none.
    grant(stack, user=name, minutes=1)
    assert job.end_of_grant(ask(stack, user=name, profile="admin", minutes=2))
    assert error_code(lambda: iam.get_user_policy(UserName=name, PolicyName="sekisho-admin")) is None
