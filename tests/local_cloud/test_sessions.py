"""The stand-in for Session Manager: whose a session is, where it can be seen, and who may end it."""

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.accounts import PRODUCTION, TEST, allow, code

TARGET = "i-0123456789abcdef0"


def test_a_session_belongs_to_its_caller_and_can_be_ended(cloud):
    trusted = {"AWS": f"arn:aws:iam::{PRODUCTION}:root"}
    role = cloud.role(PRODUCTION, "shell", trusted, [allow("ssm:StartSession")])
    person = cloud.client("ssm", credentials=cloud.session(role))
    administrator = cloud.client("ssm", PRODUCTION)
    session = person.start_session(Target=TARGET)["SessionId"]
    (found,) = administrator.describe_sessions(State="Active")["Sessions"]
    assert (found["SessionId"], found["Target"], found["Status"]) == (session, TARGET, "Connected")
    assert found["Owner"].startswith(f"arn:aws:sts::{PRODUCTION}:assumed-role/shell/")
    assert cloud.client("ssm", TEST).describe_sessions(State="Active")["Sessions"] == []
    for call in (lambda: person.describe_sessions(State="Active"), lambda: person.terminate_session(SessionId=session)):
        with pytest.raises(ClientError) as caught:
            call()
        assert code(caught) == "AccessDeniedException"
    administrator.terminate_session(SessionId=session)
    assert administrator.describe_sessions(State="Active")["Sessions"] == []
    assert [one["SessionId"] for one in administrator.describe_sessions(State="History")["Sessions"]] == [session]


def test_only_the_named_session_can_be_ended(cloud):
    administrator = cloud.client("ssm", PRODUCTION)
    one, other = [administrator.start_session(Target=TARGET)["SessionId"] for _ in range(2)]
    resource = f"arn:aws:ssm:*:{PRODUCTION}:session/{one}"
    person = cloud.user(PRODUCTION, "ends-one", [allow("ssm:TerminateSession", Resource=resource)])
    client = cloud.client("ssm", credentials=person)
    assert client.terminate_session(SessionId=one)["SessionId"] == one
    with pytest.raises(ClientError) as caught:
        client.terminate_session(SessionId=other)
    assert code(caught) == "AccessDeniedException"
    with pytest.raises(ClientError) as caught:
        administrator.terminate_session(SessionId="nobody-0")
    assert code(caught) == "DoesNotExistException"


def test_pages_of_sessions(cloud):
    administrator = cloud.client("ssm", TEST)
    started = {administrator.start_session(Target=TARGET)["SessionId"] for _ in range(3)}
    pages = administrator.get_paginator("describe_sessions").paginate(State="Active", PaginationConfig={"PageSize": 2})
    assert {one["SessionId"] for page in pages for one in page["Sessions"]} == started
