"""Users of IAM Identity Center: how they are found, and what their sessions of a permission set may do."""

import datetime
import urllib.error
from functools import partial

import pytest

from tests.local_cloud.accounts import OUTSIDE, PRODUCTION, REPOSITORY, TEST, allow, document
from tests.local_cloud.doors import refusal
from tools.layout import IDENTITY_CENTER, IDENTITY_STORE

STORE = f"arn:aws:identitystore::{REPOSITORY}:identitystore/{IDENTITY_STORE}"
USERS = "arn:aws:identitystore:::user/"


def add(cloud, name: str) -> str:
    """Creates a user, and returns the user's id."""
    user: str = cloud.client("identitystore").create_user(
        IdentityStoreId=IDENTITY_STORE,
        UserName=name,
        DisplayName=name,
        Emails=[{"Value": f"{name}@example.com", "Type": "work", "Primary": True}],
    )["UserId"]
    return user


def by(path: str, value: str) -> dict:
    unique = {"UniqueAttribute": {"AttributePath": path, "AttributeValue": value}}
    return {"IdentityStoreId": IDENTITY_STORE, "AlternateIdentifier": unique}


def test_a_member_account_finds_a_user(cloud):
    hana, administrator = add(cloud, "hana"), cloud.client("identitystore")
    assert len(hana) == 47
    for account in (REPOSITORY, PRODUCTION, OUTSIDE):
        store = cloud.client("identitystore", account)
        for path, value in (("emails.value", "hana@example.com"), ("userName", "hana")):
            assert store.get_user_id(**by(path, value))["UserId"] == hana
        for path, value, expected in (
            ("emails.value", "hana", "ResourceNotFoundException"),
            ("userName", "hana@example.com", "ResourceNotFoundException"),
            ("displayName", "hana", "ValidationException"),
        ):
            assert refusal(store.get_user_id, **by(path, value)) == expected
        found = store.describe_user(IdentityStoreId=IDENTITY_STORE, UserId=hana)
        assert (found["UserName"], found["Emails"][0]["Value"]) == ("hana", "hana@example.com")
        other = {**by("userName", "hana"), "IdentityStoreId": "d-9999999999"}
        assert refusal(store.get_user_id, **other) == "ResourceNotFoundException"
    again = {"IdentityStoreId": IDENTITY_STORE, "UserName": "hana"}
    assert refusal(administrator.create_user, **again) == "ConflictException"
    assert refusal(cloud.client("identitystore", TEST).create_user, **again) == "AccessDeniedException"
    person = {"IdentityStoreId": IDENTITY_STORE, "UserId": hana}
    assert refusal(cloud.client("identitystore", TEST).delete_user, **person) == "AccessDeniedException"
    # The address may lead to another user later.
    administrator.delete_user(**person)
    assert refusal(administrator.describe_user, **person) == "ResourceNotFoundException"
    assert add(cloud, "hana") != hana
    (instance,) = cloud.client("sso-admin", PRODUCTION).list_instances()["Instances"]
    assert (instance["InstanceArn"], instance["IdentityStoreId"]) == (IDENTITY_CENTER, IDENTITY_STORE)


def test_looking_a_user_up_needs_the_store_and_the_users(cloud):
    taro = add(cloud, "taro")
    calls = {
        "get_user_id": (by("userName", "taro"), f"{USERS}*"),
        "describe_user": ({"IdentityStoreId": IDENTITY_STORE, "UserId": taro}, f"{USERS}{taro}"),
    }
    for name, (request, users) in calls.items():
        action = "identitystore:" + name.title().replace("_", "")
        for number, (resources, may) in enumerate(
            [([STORE, users], True), ("*", True), (STORE, False), (users, False), ([STORE, f"{USERS}other"], False)]
        ):
            person = cloud.user(TEST, f"{name}-{number}", [allow(action, resources)])
            call = partial(getattr(cloud.client("identitystore", credentials=person), name), **request)
            if may:
                assert call()["UserId"] == taro
            else:
                assert refusal(call) == "AccessDeniedException", (name, resources)


def template(name: str, account: str, **more) -> dict:
    """A stack with a permission set that refers to the policy `window`, and its assignment to a group of an account."""
    references = [{"Name": "window", "Path": "/"}]
    properties = {"InstanceArn": IDENTITY_CENTER, "Name": name, "SessionDuration": "PT1H"}
    assignment = {
        "InstanceArn": IDENTITY_CENTER,
        "PermissionSetArn": {"Fn::GetAtt": ["Set", "PermissionSetArn"]},
        "TargetId": account,
        "TargetType": "AWS_ACCOUNT",
        "PrincipalType": "GROUP",
        "PrincipalId": "0123456789-11111111-2222-3333-4444-555555555555",
    }
    permissions = properties | {"CustomerManagedPolicyReferences": references} | more
    return {
        "Set": {"Type": "AWS::SSO::PermissionSet", "Properties": permissions},
        "Assignment": {"Type": "AWS::SSO::Assignment", "Properties": assignment},
    }


def window(user: str, action: str, minutes: int = 5) -> dict:
    """The statement that lets one user do something for some minutes."""
    now = datetime.datetime.now(datetime.UTC)
    begin, end = (
        (now + datetime.timedelta(minutes=offset)).strftime("%Y-%m-%dT%H:%M:%SZ") for offset in (minutes - 10, minutes)
    )
    return allow(
        action,
        Condition={
            "StringEquals": {"identitystore:UserId": user},
            "DateGreaterThan": {"aws:CurrentTime": begin},
            "DateLessThan": {"aws:CurrentTime": end},
        },
    )


@pytest.fixture(scope="module")
def policy(cloud) -> str:
    """The ARN of the policy `window` in production."""
    iam = cloud.client("iam", PRODUCTION)
    nothing = {"Effect": "Deny", "Action": "none:None", "Resource": "*"}
    arn: str = iam.create_policy(PolicyName="window", PolicyDocument=document([nothing]))["Policy"]["Arn"]
    return arn


def write(cloud, policy: str, *statements: dict) -> None:
    """Makes these statements the policy's default version."""
    iam = cloud.client("iam", PRODUCTION)
    for version in iam.list_policy_versions(PolicyArn=policy)["Versions"]:
        if not version["IsDefaultVersion"]:
            iam.delete_policy_version(PolicyArn=policy, VersionId=version["VersionId"])
    iam.create_policy_version(PolicyArn=policy, PolicyDocument=document(list(statements)), SetAsDefault=True)


def test_a_window_lets_one_user_in(cloud, policy):
    jiro, mika = add(cloud, "jiro"), add(cloud, "mika")
    assert cloud.stack(REPOSITORY, "people", template("people", PRODUCTION)) == "CREATE_COMPLETE"
    sessions = {user: cloud.sign_in(PRODUCTION, "people", user) for user in (jiro, mika)}
    of_jiro, of_mika = (cloud.client("lambda", credentials=keys) for keys in sessions.values())
    assert refusal(of_jiro.list_functions) == "AccessDeniedException"
    write(cloud, policy, window(jiro, "lambda:ListFunctions"))
    # A session that is already open is let in, too.
    of_jiro.list_functions()
    assert refusal(of_mika.list_functions) == "AccessDeniedException"
    assert refusal(of_jiro.list_layers) == "AccessDeniedException"
    # A role of the account that has the same policy has no user.
    arn = cloud.role(PRODUCTION, "no-user", {"AWS": f"arn:aws:iam::{PRODUCTION}:root"}, [])
    cloud.client("iam", PRODUCTION).attach_role_policy(RoleName="no-user", PolicyArn=policy)
    no_user = cloud.client("lambda", credentials=cloud.session(arn))
    assert refusal(no_user.list_functions) == "AccessDeniedException"
    write(cloud, policy, window(jiro, "lambda:ListFunctions", -1), window(mika, "lambda:ListFunctions"))
    assert refusal(of_jiro.list_functions) == "AccessDeniedException"
    of_mika.list_functions()
    identity = cloud.client("sts", credentials=sessions[mika]).get_caller_identity()
    assert "assumed-role/AWSReservedSSO_people_" in identity["Arn"]
    assert identity["Arn"].endswith("/mika")
    assert identity["UserId"].endswith(":mika")


def test_the_boundary_of_a_permission_set_is_a_ceiling(cloud, policy):
    iam, saki = cloud.client("iam", PRODUCTION), add(cloud, "saki")
    iam.create_policy(PolicyName="ceiling", PolicyDocument=document([allow("lambda:ListFunctions")]))
    boundary = {"CustomerManagedPolicyReference": {"Name": "ceiling"}}
    bounded = template("bounded", PRODUCTION, PermissionsBoundary=boundary)
    assert cloud.stack(REPOSITORY, "bounded", bounded) == "CREATE_COMPLETE"
    write(cloud, policy, window(saki, "lambda:List*"))
    keys = cloud.sign_in(PRODUCTION, "bounded", saki)
    person = cloud.client("lambda", credentials=keys)
    person.list_functions()
    assert refusal(person.list_layers) == "AccessDeniedException"
    # An update of the permission set changes its roles.
    assert cloud.stack(REPOSITORY, "bounded", template("bounded", PRODUCTION)) == "UPDATE_COMPLETE"
    person.list_layers()
    role = cloud.client("sts", credentials=keys).get_caller_identity()["Arn"].split("/")[1]
    edit = {"RoleName": role, "PolicyName": "own", "PolicyDocument": document([allow("*")])}
    assert refusal(iam.put_role_policy, **edit) == "UnmodifiableEntity"


@pytest.mark.usefixtures("policy")
def test_an_assignment_needs_the_policies_in_the_account(cloud):
    kenta = add(cloud, "kenta")
    assert cloud.stack(REPOSITORY, "missing", template("missing", TEST)) == "ROLLBACK_COMPLETE"
    events = cloud.client("cloudformation").describe_stack_events(StackName="missing")["StackEvents"]
    assert any("policy/window" in event.get("ResourceStatusReason", "") for event in events)
    assert cloud.stack(REPOSITORY, "assigned", template("assigned", PRODUCTION)) == "CREATE_COMPLETE"
    cloud.sign_in(PRODUCTION, "assigned", kenta)
    for account, permissions, user in (
        (TEST, "assigned", kenta),
        (PRODUCTION, "missing", kenta),
        (PRODUCTION, "assigned", "0123456789-11111111-2222-3333-4444-555555555555"),
    ):
        with pytest.raises(urllib.error.HTTPError) as caught:
            cloud.sign_in(account, permissions, user)
        assert caught.value.code == 400
    without = template("assigned", PRODUCTION)
    del without["Assignment"]
    assert cloud.stack(REPOSITORY, "assigned", without) == "UPDATE_COMPLETE"
    with pytest.raises(urllib.error.HTTPError):
        cloud.sign_in(PRODUCTION, "assigned", kenta)
