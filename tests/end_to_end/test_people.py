"""People of Identity Center, with IAM enforced: how one policy lets several people in, each for an own window."""

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from tests.end_to_end.people import ask, grant
from tools.layout import ACCOUNTS, IDENTITY_CENTER, IDENTITY_STORE, REGION, ROOT
from tools.local_stack import doors, job
from tools.local_stack.observed import decisions, error_code, grants

ACCOUNT = ACCOUNTS["production"]
POLICY = f"arn:aws:iam::{ACCOUNT}:policy/sekisho-window"
DENIED = "AccessDeniedException"
READ_ONLY = "read-only"


@pytest.fixture(scope="module")
def permission_set(stack):
    """Deploys bootstrap/identity-center.yaml, as its first comment says."""
    cloudformation, name = stack.client("repository", "cloudformation"), f"sekisho-identity-center-{ACCOUNT}"
    parameters = {
        "InstanceArn": IDENTITY_CENTER,
        "GroupId": "0123456789-11111111-2222-3333-4444-555555555555",
        "AccountId": ACCOUNT,
    }
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=(ROOT / "bootstrap" / "identity-center.yaml").read_text(),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
    )
    cloudformation.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1})
    yield "sekisho-window"
    cloudformation.delete_stack(StackName=name)


class Person:
    """A user of Identity Center who is signed in with the permission set."""

    def __init__(self, stack, permission_set, name):
        self.address = f"{name}@example.com"
        self.user = stack.client("repository", "identitystore").create_user(
            IdentityStoreId=IDENTITY_STORE,
            UserName=self.address,
            DisplayName=name,
            Emails=[{"Value": self.address, "Type": "work", "Primary": True}],
        )["UserId"]
        keys = json.loads(stack.post(f"sign-in/{ACCOUNT}/{permission_set}", self.user))
        self.client = clients(stack, keys)

    def refusal(self):
        """Why the open session may not do what the profiles of this test allow; None if it may."""
        return error_code(self.client("lambda").list_functions)

    @property
    def is_in(self):
        return self.refusal() is None


def clients(stack, keys):
    """A function that makes a client for a service with the keys of a session."""
    make_client: Any = boto3.client
    return lambda service: make_client(service, region_name=REGION, endpoint_url=stack.endpoint, **keys)


@pytest.fixture
def person(stack, permission_set):
    """A function that makes a person, whose access ends with the test."""
    made = []

    def make(name):
        made.append(Person(stack, permission_set, name))
        return made[-1]

    yield make
    for one in made:
        ask(stack, action="revoke", person=one.address)


def who_is_in(*people):
    return [one.is_in for one in people]


def test_one_policy_lets_several_people_in(stack, person):
    everybody = saki, mika, other = person("saki"), person("mika"), person("other")
    assert {one.refusal() for one in everybody} == {DENIED}

    grant(stack, person=saki.address, profile=READ_ONLY, minutes=30)
    # The sessions were already open.
    assert who_is_in(*everybody) == [True, False, False]
    assert error_code(saki.client("s3").list_buckets) == "AccessDenied", "the profile does not allow it"

    grant(stack, person=mika.address, profile=READ_ONLY, minutes=20)
    assert who_is_in(*everybody) == [True, True, False]
    listed = ask(stack, action="list")
    assert saki.address in listed and mika.address in listed and other.address not in listed
    keys = {row["sk"] for row in grants(stack, "production")}
    assert {f"person/{one.user}/{READ_ONLY}" for one in (saki, mika)} <= keys

    ended = ask(stack, action="revoke", person=saki.address)
    assert f"Access of person {saki.address} is ended" in ended, ended
    assert who_is_in(*everybody) == [False, True, False]
    grant(stack, person=other.address, profile=READ_ONLY, minutes=20)
    assert who_is_in(*everybody) == [False, True, True], "the next grant brings nobody back"


def test_the_policy_ends_access_of_an_open_session(stack, person):
    long, short = person("long"), person("short")
    grant(stack, person=long.address, profile=READ_ONLY, minutes=20)
    end = job.end_of_grant(grant(stack, person=short.address, profile=READ_ONLY, minutes=10))
    assert who_is_in(long, short) == [True, True]
    for _ in range(3):
        is_in, is_in_force = end_early(stack, short, end, long)
        if is_in_force:
            break
    assert is_in_force, "the policy is restored again and again"
    assert is_in == [True, False]


def end_early(stack, short, end, long):
    """Ends the access of `short` in two seconds by the policy alone, and returns who is in afterwards: `long`, `short`.

    The test does not wait ten minutes: it writes the policy again with an earlier end. The follow-up of each minute
    restores the policy from the grants, so the second result is whether the written version is still in force.
    """
    iam, early = stack.client("production", "iam"), datetime.now(UTC) + timedelta(seconds=2)
    versions = iam.list_policy_versions(PolicyArn=POLICY)["Versions"]
    (current,) = [one["VersionId"] for one in versions if one["IsDefaultVersion"]]
    document = iam.get_policy_version(PolicyArn=POLICY, VersionId=current)["PolicyVersion"]["Document"]
    text, (before, after) = json.dumps(document), (f"{one:%Y-%m-%dT%H:%M:%SZ}" for one in (end, early))
    assert text.count(before) == len([one for one in document["Statement"] if short.user in json.dumps(one)]) > 0
    if len(versions) == 5:
        iam.delete_policy_version(PolicyArn=POLICY, VersionId=versions[-1]["VersionId"])
    written = iam.create_policy_version(PolicyArn=POLICY, PolicyDocument=text.replace(before, after), SetAsDefault=True)
    while datetime.now(UTC) < early:
        time.sleep(0.1)
    people = who_is_in(long, short)
    in_force = iam.get_policy(PolicyArn=POLICY)["Policy"]["DefaultVersionId"]
    return people, in_force == written["PolicyVersion"]["VersionId"]


def test_a_person_asks_for_access_and_another_approves(stack, person):
    hana, other = person(doors.HANA), person("another")
    request = {"person": hana.address, "profile": doors.OPERATOR, "minutes": 5}

    def through(door, **request):
        functions = clients(stack, doors.member(stack, door))("lambda")
        answer = functions.invoke(FunctionName=f"temp-access:{door}", Payload=json.dumps(request))
        body = json.loads(answer["Payload"].read())
        return body["errorType"] if "FunctionError" in answer else body

    assert through("hana", **{**request, "person": other.address}) == "Refused", "nobody but Hana is Hana's"
    waits = through("hana", **request)
    code = waits.split(" ")[1]
    assert waits.startswith(f"Request {code} waits for approval"), waits
    assert through("hana", approve=code) == "Refused"
    assert who_is_in(hana, other) == [False, False]
    answer = through("taro", approve=code)
    assert answer.startswith("End time is "), answer
    assert who_is_in(hana, other) == [True, False]
    granted = [one for one in decisions(stack, "production", "temp-access", "granted") if one.get("approved_by")]
    assert (granted[-1]["door"], granted[-1]["approved_by"]) == ("hana", "taro"), granted
