"""The patches to IAM: condition keys, limits of policies, and windows of time."""

import datetime
import json
from functools import partial

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.accounts import PRODUCTION, REPOSITORY, TEST, allow, code, document


def denied(call) -> None:
    with pytest.raises(ClientError) as caught:
        call()
    assert code(caught) in ("AccessDenied", "AccessDeniedException")


def test_a_condition_limits_callers_to_a_role(cloud):
    """For a session, the value of aws:PrincipalArn is the ARN of the role, even in another account."""
    trusted = {"AWS": f"arn:aws:iam::{TEST}:root"}
    may = [allow("sts:AssumeRole")]
    taker = cloud.role(TEST, "sekisho-taker", trusted, may)
    other = cloud.role(TEST, "other-taker", trusted, may)
    taken = cloud.role(
        REPOSITORY,
        "taken",
        trusted,
        [],
        Condition={"ArnLike": {"aws:PrincipalArn": f"arn:aws:iam::{TEST}:role/sekisho-*"}},
    )
    sts = cloud.client("sts", credentials=cloud.session(taker))
    assert sts.assume_role(RoleArn=taken, RoleSessionName="one")["AssumedRoleUser"]["Arn"].startswith(
        f"arn:aws:sts::{REPOSITORY}:assumed-role/taken/"
    )
    denied(
        lambda: cloud.client("sts", credentials=cloud.session(other)).assume_role(RoleArn=taken, RoleSessionName="one")
    )


def test_boundary_and_tag_of_the_principal_are_conditions(cloud):
    iam = cloud.client("iam", PRODUCTION)
    boundary = iam.create_policy(PolicyName="boundary", PolicyDocument=document([allow("*")]))["Policy"]["Arn"]
    granter = cloud.client(
        "iam",
        credentials=cloud.user(
            PRODUCTION,
            "granter",
            [
                allow(
                    ["iam:PutUserPolicy", "iam:DeleteUserPolicy"],
                    Condition={"StringEquals": {"iam:PermissionsBoundary": boundary, "aws:ResourceTag/sekisho": "yes"}},
                ),
                allow(
                    ["iam:PutRolePolicy"],
                    Condition={"StringEquals": {"iam:PermissionsBoundary": boundary, "iam:ResourceTag/sekisho": "yes"}},
                ),
            ],
        ),
    )
    tag = [{"Key": "sekisho", "Value": "yes"}]
    policy = {"PolicyName": "grant", "PolicyDocument": document([allow("s3:*")])}
    for name, settings, may in (
        ("both", {"PermissionsBoundary": boundary, "Tags": tag}, True),
        ("untagged", {"PermissionsBoundary": boundary}, False),
        ("unbounded", {"Tags": tag}, False),
    ):
        iam.create_user(UserName=name, **settings)
        iam.create_role(
            RoleName=name,
            AssumeRolePolicyDocument=document(
                [{"Effect": "Allow", "Principal": {"AWS": PRODUCTION}, "Action": "sts:AssumeRole"}]
            ),
            **settings,
        )
        for put in (
            partial(granter.put_user_policy, UserName=name, **policy),
            partial(granter.put_role_policy, RoleName=name, **policy),
        ):
            put() if may else denied(put)
    granter.delete_user_policy(UserName="both", PolicyName="grant")


def test_inline_policies_have_a_limit(cloud):
    iam = cloud.client("iam", PRODUCTION)
    iam.create_user(UserName="long")
    iam.create_role(
        RoleName="long",
        AssumeRolePolicyDocument=document(
            [{"Effect": "Allow", "Principal": {"AWS": PRODUCTION}, "Action": "sts:AssumeRole"}]
        ),
    )

    def of(size: int) -> str:
        empty = len(json.dumps(json.loads(document([allow("")])), separators=(",", ":")))
        return document([allow("a" * (size - empty))])

    for kind, limit in (("user", 2048), ("role", 10240)):
        put, name = getattr(iam, f"put_{kind}_policy"), {f"{kind.title()}Name": "long"}
        put(**name, PolicyName="one", PolicyDocument=of(limit - 200) + " " * 500)
        with pytest.raises(ClientError) as caught:
            put(**name, PolicyName="two", PolicyDocument=of(201))
        assert code(caught) == "LimitExceeded"
        put(**name, PolicyName="two", PolicyDocument=of(200))
        put(**name, PolicyName="one", PolicyDocument=of(limit - 200))


def test_a_window_opens_and_closes_by_its_condition(cloud):
    person = cloud.client("lambda", credentials=cloud.user(PRODUCTION, "person", [allow("iam:GetUser")]))
    iam, now = cloud.client("iam", PRODUCTION), datetime.datetime.now(datetime.UTC)
    denied(person.list_functions)
    opened = (now - datetime.timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    for ends, may in ((now + datetime.timedelta(minutes=1), True), (now - datetime.timedelta(seconds=1), False)):
        window = allow(
            "lambda:*",
            Condition={
                "DateGreaterThan": {"aws:CurrentTime": opened},
                "DateLessThan": {"aws:CurrentTime": ends.strftime("%Y-%m-%dT%H:%M:%SZ")},
            },
        )
        iam.put_user_policy(UserName="person", PolicyName="window", PolicyDocument=document([window]))
        person.list_functions() if may else denied(person.list_functions)
