"""The versions of a managed policy: how many there are, which one is in force, and what a stale read shows."""

import json
import time

import pytest

from tests.local_cloud.accounts import PRODUCTION, allow, document
from tests.local_cloud.doors import refusal, visitor


@pytest.fixture
def policy(cloud, request):
    """The ARN of a new policy that allows nothing that a test tries."""
    iam = cloud.client("iam", PRODUCTION)
    name = request.node.name.replace("[", "-").replace("]", "")
    arn: str = iam.create_policy(PolicyName=name, PolicyDocument=document([allow("iam:GetUser")]))["Policy"]["Arn"]
    return arn


def versions(iam, policy: str) -> list[str]:
    return sorted(one["VersionId"] for one in iam.list_policy_versions(PolicyArn=policy)["Versions"])


def test_there_are_at_most_five_versions_and_no_number_comes_again(cloud, policy):
    iam = cloud.client("iam", PRODUCTION)
    request = {"PolicyArn": policy, "PolicyDocument": document([allow("iam:GetRole")])}
    assert [iam.create_policy_version(**request)["PolicyVersion"]["VersionId"] for _ in range(4)] == [
        "v2",
        "v3",
        "v4",
        "v5",
    ]
    assert refusal(iam.create_policy_version, **request) == "LimitExceeded"
    iam.delete_policy_version(PolicyArn=policy, VersionId="v5")
    iam.delete_policy_version(PolicyArn=policy, VersionId="v4")
    made = iam.create_policy_version(**request, SetAsDefault=True)["PolicyVersion"]
    assert (made["VersionId"], made["IsDefaultVersion"]) == ("v6", True)
    assert versions(iam, policy) == ["v1", "v2", "v3", "v6"]
    assert iam.create_policy_version(**request)["PolicyVersion"]["VersionId"] == "v7"
    iam.delete_policy_version(PolicyArn=policy, VersionId="v7")
    assert iam.get_policy(PolicyArn=policy)["Policy"]["DefaultVersionId"] == "v6"
    assert refusal(iam.delete_policy_version, PolicyArn=policy, VersionId="v6") == "DeleteConflict"
    iam.set_default_policy_version(PolicyArn=policy, VersionId="v1")
    iam.delete_policy_version(PolicyArn=policy, VersionId="v6")
    assert refusal(iam.set_default_policy_version, PolicyArn=policy, VersionId="v6") == "NoSuchEntity"
    defaults = [
        one["VersionId"] for one in iam.list_policy_versions(PolicyArn=policy)["Versions"] if one["IsDefaultVersion"]
    ]
    assert defaults == ["v1"]


def test_the_default_version_is_in_force(cloud, policy):
    iam = cloud.client("iam", PRODUCTION)
    person = visitor(cloud, "versioned")
    iam.attach_role_policy(RoleName="versioned", PolicyArn=policy)
    made = iam.create_policy_version(PolicyArn=policy, PolicyDocument=document([allow("lambda:ListFunctions")]))
    assert refusal(person.list_functions) == "AccessDeniedException"
    iam.set_default_policy_version(PolicyArn=policy, VersionId=made["PolicyVersion"]["VersionId"])
    person.list_functions()
    nothing = document([{"Effect": "Deny", "Action": "*", "Resource": "*"}])
    iam.create_policy_version(PolicyArn=policy, PolicyDocument=nothing, SetAsDefault=True)
    assert refusal(person.list_functions) == "AccessDeniedException"


def test_each_operation_is_judged_by_the_arn_of_the_policy(cloud, policy):
    text = document([allow("iam:GetRole")])
    calls = {
        "create_policy_version": {"PolicyDocument": text},
        "set_default_policy_version": {"VersionId": "v2"},
        "get_policy_version": {"VersionId": "v2"},
        "list_policy_versions": {},
        "get_policy": {},
        "delete_policy_version": {"VersionId": "v1"},
    }
    for name, more in calls.items():
        action = "iam:" + name.title().replace("_", "")
        near = cloud.client("iam", credentials=cloud.user(PRODUCTION, f"{name}-near", [allow(action, f"{policy}-2")]))
        assert refusal(getattr(near, name), PolicyArn=policy, **more) == "AccessDenied"
        exact = cloud.client("iam", credentials=cloud.user(PRODUCTION, f"{name}-exact", [allow(action, policy)]))
        assert getattr(exact, name)(PolicyArn=policy, **more)["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_a_managed_policy_has_a_limit(cloud, policy):
    iam = cloud.client("iam", PRODUCTION)
    rest = len(json.dumps(json.loads(document([allow("")])), separators=(",", ":")))
    for size, fits in ((6144, True), (6145, False)):
        request = {"PolicyDocument": document([allow("a" * (size - rest))]) + " " * 100}
        if fits:
            iam.create_policy_version(PolicyArn=policy, **request)
            iam.create_policy(PolicyName="longest", **request)
        else:
            assert refusal(iam.create_policy_version, PolicyArn=policy, **request) == "LimitExceeded"
            assert refusal(iam.create_policy, PolicyName="too-long", **request) == "LimitExceeded"


def test_a_read_can_lag_behind_what_is_in_force(cloud, policy):
    iam = cloud.client("iam", PRODUCTION)
    person = visitor(cloud, "lagging")
    iam.attach_role_policy(RoleName="lagging", PolicyArn=policy)
    text = document([allow("lambda:ListFunctions")])
    time.sleep(1.1)
    cloud.post("stale-policies/1")
    try:
        made = iam.create_policy_version(PolicyArn=policy, PolicyDocument=text, SetAsDefault=True)["PolicyVersion"]
        written = time.monotonic()
        assert made["VersionId"] == "v2"
        person.list_functions()
        assert refusal(iam.get_policy_version, PolicyArn=policy, VersionId="v2") == "NoSuchEntity"
        assert versions(iam, policy) == ["v1"]
        while iam.get_policy(PolicyArn=policy)["Policy"]["DefaultVersionId"] != "v2":
            assert time.monotonic() - written < 3
        assert time.monotonic() - written > 0.9
        assert versions(iam, policy) == ["v1", "v2"]
        iam.delete_policy_version(PolicyArn=policy, VersionId="v1")
        assert versions(iam, policy) == ["v1", "v2"]
    finally:
        cloud.post("stale-policies/0")
    assert versions(iam, policy) == ["v2"]
    assert iam.get_policy_version(PolicyArn=policy, VersionId="v2")["PolicyVersion"]["Document"] == json.loads(text)
