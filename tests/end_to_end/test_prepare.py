"""`make prepare` makes a user or role eligible for temp-access. If something prevents that, it changes nothing."""

import json
import subprocess

import pytest

from tools.layout import ACCOUNTS, ROOT, tool
from tools.local_stack import job

POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"}]}


def prepare(stack, environment, *principal):
    command = [tool("python"), "-m", "tools.operations.prepare", "--env", environment, *principal]
    environ = stack.environment("none")
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def user(stack):
    iam = stack.client("production", "iam")
    iam.create_user(UserName="newcomer")
    yield iam
    for name in iam.list_user_policies(UserName="newcomer")["PolicyNames"]:
        iam.delete_user_policy(UserName="newcomer", PolicyName=name)
    iam.delete_user(UserName="newcomer")


def test_a_prepared_user_can_be_granted_access(stack, user):
    done = prepare(stack, "production", "--user", "newcomer")
    assert done.returncode == 0, done.stderr
    assert prepare(stack, "production", "--user", "newcomer").returncode == 0, "a second run changes nothing"
    found = user.get_user(UserName="newcomer")["User"]
    assert found["PermissionsBoundary"]["PermissionsBoundaryArn"] == stack.outputs("production")["AccessBoundaryArn"]
    assert {"Key": "sekisho:access", "Value": "grantable"} in user.list_user_tags(UserName="newcomer")["Tags"]
    answer = job.invoke(stack, "production", "temp-access", {"user": "newcomer", "minutes": 5})
    assert answer.startswith("End time is ")


def test_another_boundary_is_not_replaced(stack, user):
    other = user.create_policy(PolicyName="other-boundary", PolicyDocument=json.dumps(POLICY))["Policy"]["Arn"]
    user.put_user_permissions_boundary(UserName="newcomer", PermissionsBoundary=other)
    done = prepare(stack, "production", "--user", "newcomer")
    assert done.returncode == 1 and "has another boundary" in done.stderr
    assert user.get_user(UserName="newcomer")["User"]["PermissionsBoundary"]["PermissionsBoundaryArn"] == other
    assert user.list_user_tags(UserName="newcomer")["Tags"] == []


@pytest.mark.parametrize(
    ("environment", "principal", "reason"),
    [
        ("test", ["--user", "newcomer"], f"(account {ACCOUNTS['test']}) grants no access"),
        ("nowhere", ["--user", "newcomer"], "no environment 'nowhere'"),
        ("production", ["--user", "nobody"], "There is no IAM user nobody"),
        ("production", ["--role", "nobody"], "There is no IAM role nobody"),
    ],
)
def test_an_impossible_preparation_is_refused_with_the_reason(stack, environment, principal, reason):
    done = prepare(stack, environment, *principal)
    assert done.returncode == 1
    assert reason in done.stderr and "Traceback" not in done.stderr
