"""Whoever could invoke an alias is named; in doubt, a principal is named."""

import pytest

from tools.operations.callers import Principals, trusted
from tools.operations.doors import policy

ACCOUNT, OTHER = "222222222222", "111111111111"
FUNCTION = f"arn:aws:lambda:ap-northeast-1:{ACCOUNT}:function:temp-access"
ALIAS = f"{FUNCTION}:hana"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/sekisho-door-hana-ap-northeast-1"
INVOKE = {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": ALIAS}
DENY = {"Effect": "Deny", "Action": "lambda:*", "Resource": "*"}
MFA = {"Bool": {"aws:MultiFactorAuthPresent": "true"}}
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/sekisho-access-boundary"


class Iam:
    """A fake of IAM with one role, which has these statements, and with groups and managed policies."""

    def __init__(self, *statements, boundary=None, managed=(), group=()):
        self.role = {
            "Arn": ROLE.replace("door-hana", "any"),
            "RolePolicyList": [{"PolicyName": "own", "PolicyDocument": {"Statement": list(statements)}}],
            "AttachedManagedPolicies": [{"PolicyArn": arn} for arn, _ in managed],
        } | ({"PermissionsBoundary": {"PermissionsBoundaryArn": BOUNDARY}} if boundary else {})
        self.managed = [*managed, *([(BOUNDARY, boundary)] if boundary else [])]
        self.group = group

    def get_paginator(self, operation):
        assert operation == "get_account_authorization_details"
        return self

    def paginate(self):
        user = {"Arn": f"arn:aws:iam::{ACCOUNT}:user/member", "GroupList": ["all"], "AttachedManagedPolicies": []}
        own = {"PolicyName": "own", "PolicyDocument": {"Statement": list(self.group)}}
        yield {
            "UserDetailList": [user] if self.group else [],
            "RoleDetailList": [self.role],
            "GroupDetailList": [{"GroupName": "all", "GroupPolicyList": [own], "AttachedManagedPolicies": []}],
            "Policies": [
                {
                    "Arn": arn,
                    "PolicyVersionList": [
                        {"IsDefaultVersion": False, "Document": {"Statement": [INVOKE | {"Resource": "*"}]}},
                        {"IsDefaultVersion": True, "Document": {"Statement": list(document)}},
                    ],
                }
                for arn, document in self.managed
                if document is not None
            ],
        }


def named(iam, resource_policy=None):
    return [arn.rpartition("/")[2] for arn in Principals(iam, ACCOUNT).who_could_invoke(ALIAS, resource_policy)]


ANY = ["sekisho-any-ap-northeast-1"]
# Statements of an identity, and whether they could open an alias without a policy.
STATEMENTS = [
    ([INVOKE], True),
    ([INVOKE | {"Resource": f"{FUNCTION}:*"}], True),
    ([INVOKE | {"Resource": f"{FUNCTION}*"}], True),
    ([INVOKE | {"Action": "LAMBDA:invoke*", "Resource": "*"}], True),
    ([INVOKE | {"Resource": FUNCTION}], False),
    ([INVOKE | {"Resource": f"{FUNCTION}:taro"}], False),
    ([INVOKE | {"Action": "lambda:GetFunction"}], False),
    ([{"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}], True),
    ([{"Effect": "Allow", "NotAction": ["iam:*", "lambda:Invoke*"], "Resource": "*"}], False),
    ([{"Effect": "Allow", "Action": "*", "NotResource": FUNCTION}], True),
    ([INVOKE, DENY], False),
    # A condition may hold for an Allow, and may not hold for a Deny.
    ([INVOKE | {"Condition": MFA}], True),
    ([INVOKE, DENY | {"Condition": MFA}], True),
    ([INVOKE, {"Effect": "Deny", "NotAction": "iam:*", "Resource": "*"}], False),
    ([INVOKE, {"Effect": "Deny", "Action": "*", "NotResource": FUNCTION}], True),
    # The resource of this statement depends on a variable.
    ([INVOKE | {"Resource": f"{FUNCTION}:${{aws:username}}"}], True),
    ([INVOKE | {"Condition": {"StringEquals": {"aws:PrincipalArn": ROLE}}}], False),
]


@pytest.mark.parametrize(("statements", "could"), STATEMENTS)
def test_an_alias_without_a_policy_is_open_to_every_identity_that_may_invoke_it(statements, could):
    assert named(Iam(*statements)) == (ANY if could else [])


@pytest.mark.parametrize(("statements", "_"), STATEMENTS)
def test_behind_the_doors_policy_nobody_is_left(statements, _):
    assert named(Iam(*statements), policy(ALIAS, ROLE)) == []


def test_a_group_a_managed_policy_and_a_boundary_count():
    assert named(Iam(group=[INVOKE])) == ["member"]
    assert named(Iam(managed=[("arn:aws:iam::aws:policy/Power", [INVOKE])])) == ANY
    assert named(Iam(managed=[("arn:aws:iam::aws:policy/Read", [INVOKE | {"Action": "lambda:Get*"}])])) == []
    # A policy that was not listed may allow anything.
    assert named(Iam(managed=[("arn:aws:iam::aws:policy/Unknown", None)])) == ANY
    assert named(Iam(INVOKE, boundary=[INVOKE])) == ANY
    assert named(Iam(INVOKE, boundary=[INVOKE, DENY])) == []


def test_what_the_aliass_own_policy_admits_is_named():
    def admit(principal, **more):
        return {"Statement": [{**INVOKE, "Principal": principal, **more}]}

    assert named(Iam(), admit({"AWS": ROLE.replace("door-hana", "any")})) == ANY
    assert named(Iam(), admit({"AWS": f"arn:aws:iam::{ACCOUNT}:root"})) == []
    assert named(Iam(), admit("*")) == [*ANY, "everybody, also in other accounts"]
    assert named(Iam(), admit({"Service": "events.amazonaws.com"})) == ["events.amazonaws.com"]
    assert named(Iam(), admit({"AWS": [OTHER, f"arn:aws:iam::{ACCOUNT}:root"]})) == [OTHER]
    role = f"arn:aws:iam::{OTHER}:role/sekisho-temp-access-ap-northeast-1"
    one = {"Condition": {"StringEquals": {"aws:PrincipalArn": role}}}
    assert named(Iam(), admit({"AWS": f"arn:aws:iam::{OTHER}:root"}, **one)) == ["sekisho-temp-access-ap-northeast-1"]


def test_a_deny_for_everybody_but_the_role_also_stops_services_and_other_accounts():
    wanted = policy(ALIAS, ROLE)
    for principal in (
        "*",
        {"Service": "events.amazonaws.com"},
        {"AWS": OTHER},
        {"AWS": f"arn:aws:iam::{OTHER}:role/x"},
    ):
        whole = {"Statement": [{**INVOKE, "Principal": principal}, *wanted["Statement"]]}
        assert named(Iam(INVOKE), whole) == [], principal
    # The Deny has an exception for one more role, so the holders of that role are named, too.
    wanted["Statement"][1]["Condition"]["StringNotEquals"]["aws:PrincipalArn"] = [
        ROLE,
        ROLE.replace("door-hana", "any"),
    ]
    assert named(Iam(INVOKE), wanted) == ANY
    assert named(Iam(), wanted) == []


def test_whoever_may_assume_the_role_besides_chatbot_is_found():
    def trust(principal):
        return {"Statement": [{"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}]}

    assert list(trusted(trust({"Service": "chatbot.amazonaws.com"}))) == []
    assert list(trusted(trust({"Service": ["chatbot.amazonaws.com", "lambda.amazonaws.com"], "AWS": OTHER}))) == [
        "lambda.amazonaws.com",
        OTHER,
    ]
    assert list(trusted(trust("*"))) == ["*"]
    assert list(trusted({"Statement": [{"Effect": "Deny", "Principal": "*", "Action": "sts:AssumeRole"}]})) == []
