"""`make prepare` warns about whatever makes a user or role stronger than a profile."""

import json
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from tools.operations import strength

ACCOUNT = "333333333333"
USER = f"arn:aws:iam::{ACCOUNT}:user/prd-user"


def trust(principal, effect="Allow"):
    return json.dumps({"Statement": [{"Effect": effect, "Principal": principal, "Action": "sts:AssumeRole"}]})


def role(name, document):
    return {
        "RoleName": name,
        "RoleId": "AROA0123456789ABCDEF",
        "Arn": f"arn:aws:iam::{ACCOUNT}:role/{name}",
        "Path": "/",
        "CreateDate": "2026-01-01T00:00:00Z",
        "AssumeRolePolicyDocument": document,
    }


class Session:
    """A session whose clients return the given answers, each of which is checked against the service's model."""

    def __init__(self, **answers):
        self.clients = {}
        for service, calls in answers.items():
            keys = {"aws_access_key_id": "AKID", "aws_secret_access_key": "secret"}
            make_client: Any = boto3.client
            client = make_client(service, region_name="ap-northeast-1", **keys)
            stub = Stubber(client)
            for operation, answer in calls:
                if isinstance(answer, str):
                    stub.add_client_error(operation, answer)
                else:
                    stub.add_response(operation, answer)
            stub.activate()
            self.clients[service] = client

    def client(self, service):
        return self.clients[service]


def session(attached=(), inline=(), groups=(), roles=(), clusters=(), entries=(), management="111111111111"):
    group = {"GroupId": "AGPA0123456789ABCDEF", "Path": "/", "CreateDate": "2026-01-01T00:00:00Z"}
    organization = {"MasterAccountId": management}
    return Session(
        iam=[
            ("list_attached_user_policies", {"AttachedPolicies": [{"PolicyName": one} for one in attached]}),
            ("list_user_policies", {"PolicyNames": list(inline)}),
            ("list_groups_for_user", {"Groups": [group | {"GroupName": one, "Arn": "arn:" * 5} for one in groups]}),
            ("list_roles", {"Roles": list(roles)}),
        ],
        eks=[
            ("list_clusters", {"clusters": list(clusters)}),
            *(("list_access_entries", {"accessEntries": list(entries)}) for _ in clusters),
        ],
        organizations=[
            (
                "describe_organization",
                {"Organization": organization} if management else "AWSOrganizationsNotInUseException",
            )
        ],
    )


def found(**stronger):
    return list(strength.warnings(session(**stronger), "User", "prd-user", USER, ACCOUNT))


@pytest.mark.parametrize(
    "weak",
    [
        {},
        {"management": None},
        {"inline": ["sekisho-admin"]},
        {"clusters": ["shop"], "entries": [USER + "-2"]},
        {"roles": [role("shop", trust({"Service": "ec2.amazonaws.com"}))]},
        {"roles": [role("shop", trust({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}))]},
        {"roles": [role("shop", trust({"AWS": USER}, "Deny"))]},
    ],
)
def test_a_principal_with_nothing_else_gets_no_warning(weak):
    assert found(**weak) == []


@pytest.mark.parametrize(
    ("stronger", "text"),
    [
        ({"attached": ["ReadOnlyAccess"], "inline": ["sekisho-admin", "own"]}, "at any time: ReadOnlyAccess, own."),
        ({"groups": ["operators"]}, "groups at any time: operators."),
        ({"roles": [role("shop", trust({"AWS": [USER]}))]}, f"AssumableRoleArns: arn:aws:iam::{ACCOUNT}:role/shop."),
        ({"roles": [role("open", trust("*"))]}, "role/open."),
        ({"clusters": ["shop"], "entries": [USER]}, "Clusters of other regions than"),
        ({"management": ACCOUNT}, "management account"),
    ],
)
def test_whatever_makes_a_principal_stronger_is_named(stronger, text):
    (warning,) = found(**stronger)
    assert text in warning


def test_what_cannot_be_read_is_named_as_well():
    denied: Any = Session(
        iam=[("list_attached_user_policies", "AccessDenied"), ("list_roles", "AccessDenied")],
        eks=[("list_clusters", "AccessDeniedException")],
        organizations=[("describe_organization", "AccessDeniedException")],
    )
    texts = list(strength.warnings(denied, "User", "prd-user", USER, ACCOUNT))
    assert len(texts) == 4 and all(text.startswith("This could not be checked: ") for text in texts)
