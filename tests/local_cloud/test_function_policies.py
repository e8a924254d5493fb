"""The resource policy of each function and alias: who may come through a door, in the same account and from others."""

import json

import pytest

from tests.local_cloud.accounts import OUTSIDE, PRODUCTION, TEST, allow, document
from tests.local_cloud.doors import arn_of, invoked, is_denied, make, refusal, visitor
from tools.layout import ORGANIZATION, WORKLOADS

INVOKE = "lambda:InvokeFunction"


def role(account: str, name: str) -> str:
    return f"arn:aws:iam::{account}:role/{name}"


def only(door: str, *roles: str) -> dict:
    """The statement that denies a door to everybody except these roles."""
    condition = {"ArnNotEquals": {"aws:PrincipalArn": list(roles)}}
    return {"Effect": "Deny", "Principal": "*", "Action": INVOKE, "Resource": door, "Condition": condition}


def admit(door: str, principal: str | dict, **condition) -> dict:
    """The statement that lets a principal through a door."""
    named = principal if isinstance(principal, dict) else {"AWS": principal}
    statement = {"Effect": "Allow", "Principal": named, "Action": INVOKE, "Resource": door}
    return statement | ({"Condition": condition} if condition else {})


def put(cloud, account: str, door: str, *statements: dict) -> str:
    answer = cloud.client("lambda", account).put_resource_policy(ResourceArn=door, Policy=document(list(statements)))
    assert json.loads(answer["Policy"])["Statement"] == list(statements)
    revision: str = answer["RevisionId"]
    return revision


def test_a_deny_stops_everybody_but_the_doors_own_role(cloud):
    door = make(cloud, PRODUCTION, "denying", "hana", "taro")
    put(cloud, PRODUCTION, f"{door}:hana", only(f"{door}:hana", role(PRODUCTION, "door-hana")))
    hana = visitor(cloud, "door-hana", allow(INVOKE, f"{door}:hana"))
    power = visitor(cloud, "power-user", allow("*"))
    namesake = visitor(cloud, "door-hana-2", allow(INVOKE))
    stranger = visitor(cloud, "stranger")
    assert invoked(hana, "denying:hana") == f"{door}:hana"
    for person in (power, namesake, stranger, cloud.client("lambda", PRODUCTION)):
        for reference, more in (("denying:hana", {}), ("denying", {"Qualifier": "hana"}), (f"{door}:hana", {})):
            assert is_denied(person, reference, **more)
        assert is_denied(person, "denying:hana", InvocationType="Event")
    # The policy is that of one alias, and neither of another one nor of the function.
    assert invoked(power, "denying:taro") == f"{door}:taro"
    assert invoked(power, "denying") == door
    for reference in ("denying:taro", "denying"):
        assert is_denied(hana, reference)


def test_in_the_same_account_an_allow_that_names_the_role_suffices(cloud):
    door = make(cloud, PRODUCTION, "admitting", "hana", "taro")
    put(cloud, PRODUCTION, f"{door}:hana", admit(f"{door}:hana", role(PRODUCTION, "admitted")))
    admitted, other = visitor(cloud, "admitted"), visitor(cloud, "not-admitted")
    assert invoked(admitted, "admitting:hana") == f"{door}:hana"
    for person, reference in ((other, "admitting:hana"), (admitted, "admitting:taro"), (admitted, "admitting")):
        assert is_denied(person, reference)
    # An account as principal leaves the decision to the account's own policies.
    put(cloud, PRODUCTION, f"{door}:taro", admit(f"{door}:taro", PRODUCTION))
    assert is_denied(admitted, "admitting:taro")


def test_across_accounts_both_sides_must_allow(cloud):
    door = make(cloud, PRODUCTION, "hub-target", "hub")
    hub, wanted = f"{door}:hub", {"aws:PrincipalArn": [role(TEST, "hub-caller"), role(TEST, "hub-weak")]}
    put(cloud, PRODUCTION, hub, admit(hub, TEST, ArnEquals=wanted))
    caller = visitor(cloud, "hub-caller", allow(INVOKE, "arn:aws:lambda:*:*:function:hub-target:hub"), account=TEST)
    assert invoked(caller, hub) == hub
    assert invoked(caller, f"{PRODUCTION}:function:hub-target:hub") == hub
    assert invoked(caller, door, Qualifier="hub") == hub
    answer = caller.invoke(FunctionName=hub, InvocationType="Event", Payload=b"{}")
    assert answer["StatusCode"] == 202
    # The caller's side: another role without the permission, and the same role for other functions and qualifiers.
    assert is_denied(visitor(cloud, "hub-weak", allow(INVOKE, door), account=TEST), hub)
    for reference in (door, f"{door}:$LATEST", arn_of(PRODUCTION, "none"), f"{door}:nobody"):
        assert is_denied(caller, reference), reference
    # The owner's side: another role, another account, and a role of the same name in another account.
    power = visitor(cloud, "hub-power", allow("*"), account=TEST)
    namesake = visitor(cloud, "hub-caller", allow("*"), account=OUTSIDE)
    for person in (power, namesake):
        for reference in (hub, door, f"{door}:$LATEST", f"{door}:nobody", arn_of(PRODUCTION, "none")):
            assert is_denied(person, reference), reference
    # Its name leads to the caller's own account, where there is no such function.
    assert refusal(power.invoke, FunctionName="hub-target:hub") == "ResourceNotFoundException"


def test_a_deny_also_stops_another_account(cloud):
    door = make(cloud, PRODUCTION, "hub-denying", "hub")
    hub, both = f"{door}:hub", admit(f"{door}:hub", TEST)
    put(cloud, PRODUCTION, hub, both, only(hub, role(TEST, "hub-only")))
    assert invoked(visitor(cloud, "hub-only", allow(INVOKE), account=TEST), hub) == hub
    assert is_denied(visitor(cloud, "hub-other", allow(INVOKE), account=TEST), hub)
    assert is_denied(visitor(cloud, "hub-only", allow(INVOKE)), hub)
    # An identity's own Deny counts as well.
    denied = {"Effect": "Deny", "Action": INVOKE, "Resource": "*"}
    put(cloud, PRODUCTION, hub, both)
    assert is_denied(visitor(cloud, "hub-denied", allow(INVOKE), denied, account=TEST), hub)


def test_conditions_about_the_organization_and_the_address(cloud):
    door = make(cloud, PRODUCTION, "conditional", "unit", "organization", "address")
    paths = {"ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": f"{WORKLOADS}*"}}
    for alias, condition in (
        ("unit", paths),
        ("organization", {"StringEquals": {"aws:PrincipalOrgID": ORGANIZATION}}),
        ("address", {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}),
    ):
        put(cloud, PRODUCTION, f"{door}:{alias}", admit(f"{door}:{alias}", {"AWS": "*"}, **condition))
    member = visitor(cloud, "unit-member", allow(INVOKE), account=TEST)
    outsider = visitor(cloud, "unit-outsider", allow(INVOKE), account=OUTSIDE)
    assert invoked(member, f"{door}:unit") == f"{door}:unit"
    assert invoked(outsider, f"{door}:organization") == f"{door}:organization"
    assert is_denied(outsider, f"{door}:unit")
    assert is_denied(member, f"{door}:address")


def test_a_policy_replaces_what_add_permission_wrote(cloud):
    door = make(cloud, PRODUCTION, "replaced", "hana", "taro")
    functions = cloud.client("lambda", PRODUCTION)
    hana, known = f"{door}:hana", visitor(cloud, "permitted", allow(INVOKE), account=TEST)
    permission = {"FunctionName": "replaced", "Action": INVOKE, "Principal": TEST}
    assert refusal(functions.get_resource_policy, ResourceArn=hana) == "ResourceNotFoundException"
    functions.add_permission(**permission, StatementId="test", Qualifier="hana")
    (statement,) = json.loads(functions.get_resource_policy(ResourceArn=hana)["Policy"])["Statement"]
    assert (statement["Sid"], statement["Resource"]) == ("test", hana)
    assert invoked(known, hana) == hana
    assert is_denied(known, f"{door}:taro")
    assert is_denied(known, door)
    # The same statement id may be used for another qualifier.
    functions.add_permission(**permission, StatementId="test", Qualifier="taro")
    put(cloud, PRODUCTION, hana, admit(hana, OUTSIDE))
    assert is_denied(known, hana)
    assert invoked(known, f"{door}:taro") == f"{door}:taro"
    # AddPermission adds to the policy, and GetPolicy reads the same one.
    functions.add_permission(**permission, StatementId="again", Qualifier="hana")
    found = functions.get_policy(FunctionName="replaced", Qualifier="hana")
    assert found["Policy"] == functions.get_resource_policy(ResourceArn=hana)["Policy"]
    assert len(json.loads(found["Policy"])["Statement"]) == 2
    assert invoked(known, hana) == hana
    functions.remove_permission(FunctionName="replaced", StatementId="again", Qualifier="hana")
    assert is_denied(known, hana)
    assert refusal(functions.get_policy, FunctionName="replaced") == "ResourceNotFoundException"


def test_a_policy_is_read_replaced_and_deleted_by_its_revision(cloud):
    door = make(cloud, PRODUCTION, "revised", "hana")
    functions = cloud.client("lambda", PRODUCTION)
    hana = f"{door}:hana"
    first = put(cloud, PRODUCTION, hana, only(hana, role(PRODUCTION, "one")))
    assert functions.get_resource_policy(ResourceArn=hana)["RevisionId"] == first
    second = put(cloud, PRODUCTION, hana, only(hana, role(PRODUCTION, "two")))
    assert second != first
    policy = document([only(hana, role(PRODUCTION, "three"))])
    stale = {"ResourceArn": hana, "RevisionId": first}
    assert refusal(functions.put_resource_policy, **stale, Policy=policy) == "PreconditionFailedException"
    assert refusal(functions.delete_resource_policy, **stale) == "PreconditionFailedException"
    third = functions.put_resource_policy(ResourceArn=hana, Policy=policy, RevisionId=second)["RevisionId"]
    assert is_denied(functions, "revised:hana")
    functions.delete_resource_policy(ResourceArn=hana, RevisionId=third)
    assert invoked(functions, "revised:hana") == hana
    for call in (functions.delete_resource_policy, functions.get_resource_policy):
        assert refusal(call, ResourceArn=hana) == "ResourceNotFoundException"
    # A new alias of the same name starts without the policy of the old one.
    put(cloud, PRODUCTION, hana, only(hana, role(PRODUCTION, "one")))
    functions.delete_alias(FunctionName="revised", Name="hana")
    functions.create_alias(FunctionName="revised", Name="hana", FunctionVersion="$LATEST")
    assert invoked(functions, "revised:hana") == hana


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("{", "InvalidParameterValueException"),
        ("[]", "InvalidParameterValueException"),
        (
            document([{"Effect": "Deny", "NotPrincipal": {"AWS": PRODUCTION}, "Action": INVOKE, "Resource": "*"}]),
            "InvalidParameterValueException",
        ),
        (document([{"Effect": "Allow", "Principal": PRODUCTION, "Action": "*"}]), "InvalidParameterValueException"),
        (document([admit("*", {"AWS": "*"})]), "PublicPolicyException"),
        (document([admit("*", PRODUCTION)]) + " " * 20480, "PolicyLengthExceededException"),
    ],
)
def test_a_wrong_policy_is_refused(cloud, policy, expected):
    functions = cloud.client("lambda", PRODUCTION)
    try:
        door = functions.get_function(FunctionName="refusing")["Configuration"]["FunctionArn"]
    except functions.exceptions.ResourceNotFoundException:
        door = make(cloud, PRODUCTION, "refusing", "hana")
    put(cloud, PRODUCTION, f"{door}:hana", only(f"{door}:hana", role(PRODUCTION, "one")))
    assert refusal(functions.put_resource_policy, ResourceArn=f"{door}:hana", Policy=policy) == expected
    assert is_denied(functions, "refusing:hana")
    missing = {"ResourceArn": f"{door}:nobody", "Policy": document([admit(door, PRODUCTION)])}
    assert refusal(functions.put_resource_policy, **missing) == "ResourceNotFoundException"


def test_writing_a_policy_needs_its_own_permission_for_the_door(cloud):
    door = make(cloud, PRODUCTION, "written", "hana", "taro")
    calls = {
        "PutResourcePolicy": {"Policy": document([only(f"{door}:hana", role(PRODUCTION, "one"))])},
        "GetResourcePolicy": {},
        "DeleteResourcePolicy": {},
    }
    names = {"PutResourcePolicy": "put_resource_policy", "GetResourcePolicy": "get_resource_policy"}
    for action, more in calls.items():
        name = names.get(action, "delete_resource_policy")
        near = [door, f"{door}:taro", f"{door}-x*"]
        weak = visitor(cloud, f"{action}-weak", allow(f"lambda:{action}", near), allow("lambda:AddPermission"))
        request = {"ResourceArn": f"{door}:hana", **more}
        assert refusal(getattr(weak, name), **request) == "AccessDeniedException"
        exact = visitor(cloud, f"{action}-door", allow(f"lambda:{action}", f"{door}:hana"))
        assert getattr(exact, name)(**request)["ResponseMetadata"]["HTTPStatusCode"] < 300


def called_by(functions, caller: str, function: str):
    """What a function gets if it calls another one: its answer, or the code of the error."""
    answer = functions.invoke(FunctionName=caller, Payload=json.dumps({"call": function}).encode())
    return json.loads(answer["Payload"].read())


def test_a_statement_can_be_for_one_function_with_the_role(cloud):
    """The key lambda:SourceFunctionArn is in identity policies only."""
    target, source = make(cloud, PRODUCTION, "source-target", "hub"), arn_of(PRODUCTION, "source-one")
    condition = {"ArnEquals": {"lambda:SourceFunctionArn": source}}
    role_arn = cloud.role(
        PRODUCTION,
        "source-shared",
        {"Service": "lambda.amazonaws.com"},
        [allow(INVOKE, f"{target}:hub", Condition=condition)],
    )
    for name in ("source-one", "source-two"):
        make(cloud, PRODUCTION, name, "hana", role=role_arn)
    functions = cloud.client("lambda", PRODUCTION)
    for caller in ("source-one", "source-one:hana"):
        assert called_by(functions, caller, f"{target}:hub")["invoked"] == arn_of(PRODUCTION, caller)
    assert called_by(functions, "source-two", f"{target}:hub") == "AccessDeniedException"
    # A resource policy does not see the key.
    put(cloud, PRODUCTION, target, admit(target, role_arn, **condition))
    for caller in ("source-one", "source-two"):
        assert called_by(functions, caller, target) == "AccessDeniedException"
    put(cloud, PRODUCTION, target, admit(target, role_arn))
    assert called_by(functions, "source-two", target)["invoked"] == arn_of(PRODUCTION, "source-two")
