"""The patches to IAM: condition keys, limits of policies, and windows of time."""

import datetime
import io
import json
import zipfile
from functools import partial
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.accounts import PRODUCTION, REPOSITORY, TEST, allow, code, document
from tools.layout import REGION


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


def test_a_window_that_begins_later_is_closed_until_its_start(cloud):
    person = cloud.client("lambda", credentials=cloud.user(PRODUCTION, "later", [allow("iam:GetUser")]))
    iam, now = cloud.client("iam", PRODUCTION), datetime.datetime.now(datetime.UTC)
    for start, may in ((now + datetime.timedelta(minutes=1), False), (now - datetime.timedelta(seconds=1), True)):
        begins = {"aws:CurrentTime": start.strftime("%Y-%m-%dT%H:%M:%SZ")}
        window = allow("lambda:*", Condition={"DateGreaterThanEquals": begins})
        iam.put_user_policy(UserName="later", PolicyName="window", PolicyDocument=document([window]))
        person.list_functions() if may else denied(person.list_functions)


def test_policies_are_evaluated_for_the_actions_and_arns_of_aws(cloud):
    """A permission for exactly what AWS's Service Authorization Reference names suffices, and no less does."""
    events, layer = cloud.client("events", TEST), f"arn:aws:lambda:{REGION}:{TEST}:layer:arns:1"
    events.create_event_bus(Name="arns")
    for bus in ("default", "arns"):
        events.put_rule(Name="arns", EventBusName=bus, EventPattern='{"source":["none"]}')
    cloud.client("codebuild", TEST).create_project(
        name="arns",
        source={"type": "NO_SOURCE", "buildspec": "version: 0.2"},
        artifacts={"type": "NO_ARTIFACTS"},
        environment={"type": "LINUX_CONTAINER", "image": "image", "computeType": "BUILD_GENERAL1_SMALL"},
        serviceRole=f"arn:aws:iam::{TEST}:role/none",
    )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a", "1")
    cloud.client("lambda", TEST).publish_layer_version(LayerName="arns", Content={"ZipFile": archive.getvalue()})
    prefix = f"arn:aws:events:{REGION}:{TEST}"
    calls: list[tuple[str, str, dict[str, Any], str, str]] = [
        ("events", "describe_event_bus", {"Name": "arns"}, "events:DescribeEventBus", f"{prefix}:event-bus/arns"),
        ("events", "describe_event_bus", {}, "events:DescribeEventBus", f"{prefix}:event-bus/default"),
        ("events", "describe_rule", {"Name": "arns"}, "events:DescribeRule", f"{prefix}:rule/arns"),
        (
            "events",
            "describe_rule",
            {"Name": "arns", "EventBusName": "arns"},
            "events:DescribeRule",
            f"{prefix}:rule/arns/arns",
        ),
        ("events", "list_targets_by_rule", {"Rule": "arns"}, "events:ListTargetsByRule", f"{prefix}:rule/arns"),
        ("lambda", "get_layer_version", {"LayerName": "arns", "VersionNumber": 1}, "lambda:GetLayerVersion", layer),
        (
            "codebuild",
            "batch_get_projects",
            {"names": ["arns"]},
            "codebuild:BatchGetProjects",
            f"arn:aws:codebuild:{REGION}:{TEST}:project/arns",
        ),
    ]
    for number, (service, operation, arguments, action, arn) in enumerate(calls):
        exact = cloud.client(service, credentials=cloud.user(TEST, f"exact-{number}", [allow(action, arn)]))
        getattr(exact, operation)(**arguments)
        other = cloud.client(service, credentials=cloud.user(TEST, f"other-{number}", [allow(action, arn + "x")]))
        denied(partial(getattr(other, operation), **arguments))


def test_the_details_of_users_and_roles_have_their_boundaries(cloud):
    iam, trust = cloud.client("iam", PRODUCTION), document([])
    boundary = iam.create_policy(PolicyName="limit", PolicyDocument=document([allow("*")]))["Policy"]["Arn"]
    for name, limit in (("limited", {"PermissionsBoundary": boundary}), ("free", {})):
        iam.create_user(UserName=name, **limit)
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust, **limit)
    details = iam.get_account_authorization_details()
    for found, key in ((details["UserDetailList"], "UserName"), (details["RoleDetailList"], "RoleName")):
        limits = {one[key]: one.get("PermissionsBoundary") for one in found if one[key] in ("limited", "free")}
        attached = {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": boundary}
        assert limits == {"limited": attached, "free": None}
