"""The policies of examples/shop-ecs: each role may do what it must, and nothing near it."""

import json
import re

import parliament
import pytest

from tests.iam.test_requests import simulate
from tests.template import handlers, policies
from tests.template.policies import listed
from tests.template.shop_ecs import ACCOUNT, FOR_THE_PIPELINE, OTHER, REPOSITORY, running, template
from tests.template.test_policies import MANAGED_POLICY_LIMIT
from tools.layout import REGION

# Calls of CloudFormation's handlers for what the template does not do.
LEFT_OUT = {"the tags of a security group never change": {"ec2:DeleteTags"}}
# Findings of the linter parliament that are accepted on purpose: the finding, and a part of its text.
MEANT = [
    ("MALFORMED", "neither Resource nor NotResource"),  # a trust policy has neither
    # parliament asks for every kind of resource that an action may have, and one statement names only one of them.
    ("RESOURCE_MISMATCH", "listener/net/"),
    ("RESOURCE_MISMATCH", "listener-rule/net/"),
    ("RESOURCE_MISMATCH", "ec2:CreateSecurityGroup"),
    ("UNKNOWN_ACTION", "ecs:StopServiceDeployment"),  # parliament's list is older than the action
]
ANY_RESOURCE = {"SignInToRegistries", "Look", "ReadAndRetireTaskDefinitions", "FindSecurityGroups"}


@pytest.fixture(scope="module")
def shop():
    with running() as shop:
        yield shop


@pytest.fixture(scope="module")
def found(shop):
    """All policies of the two stacks that have some."""
    return [one for stack in ("platform-shop", "deploy-shop") for one in policies.of(shop.cloud, ACCOUNT, stack)]


def test_parliament_finds_nothing_unintended(found):
    unintended, unused = [], set(MEANT)
    assert sorted(one.kind for one in found) == ["identity", "identity", "managed", "trust", "trust"]
    for policy in found:
        for one in parliament.analyze_policy_string(json.dumps(policy.document)).findings:
            meant = {entry for entry in MEANT if entry[0] == one.issue and entry[1] in str(one)}
            unused -= meant
            if not meant:
                unintended.append(f"{policy}: {one}")
    assert not unintended, "\n".join(unintended)
    assert unused == set()


def test_policies_fit_and_have_no_wildcard_that_aws_does_not_require(found):
    for policy in found:
        assert len(re.sub(r"\s", "", json.dumps(policy.document))) <= MANAGED_POLICY_LIMIT
        for statement in policy.statements:
            assert not [one for one in listed(statement["Action"]) if "*" in one]
            if "*" in listed(statement.get("Resource", [])):
                assert statement["Sid"] in ANY_RESOURCE
            if policy.kind == "trust":
                assert statement["Condition"] == {
                    "StringEqualsIfExists": {"aws:SourceAccount": ACCOUNT},
                    "ArnLikeIfExists": {"aws:SourceArn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:*"},
                }


def actions(found):
    return {
        action
        for policy in found
        for statement in policy.statements
        if statement["Effect"] == "Allow"
        for action in listed(statement["Action"])
    }


@pytest.fixture(scope="module")
def deployer(accounts, found):
    """The policies of CloudFormation's role in the account TEST, and the policy for the application."""
    role = [one for one in accounts[ACCOUNT] if one.kind == "identity" and "role/sekisho-cloudformation-" in one.on]
    return [*role, *(one for one in found if one.kind == "managed")]


def test_the_pipeline_may_call_what_cloudformation_calls(deployer):
    allowed, left_out = actions(deployer), set().union(*LEFT_OUT.values())
    kinds = {one["Type"] for one in template("template.yaml")["Resources"].values()}
    assert kinds == FOR_THE_PIPELINE
    assert {kind: missing for kind in kinds if (missing := handlers.calls_of(kind) - allowed - left_out)} == {}
    assert left_out <= set().union(*(handlers.calls_of(kind) for kind in kinds))
    assert left_out & allowed == set()


def test_the_policy_allows_nothing_that_cloudformation_does_not_call(found):
    managed = [one for one in found if one.kind == "managed"]
    assert actions(managed) - set().union(*(handlers.calls_of(kind) for kind in FOR_THE_PIPELINE)) == set()


def arn(service, rest, account=ACCOUNT, region=REGION):
    return f"arn:aws:{service}:{region}:{account}:{rest}"


SERVICE, GROUP = arn("ecs", "service/platform-shop/shop"), arn("ec2", "security-group/sg-0123456789abcdef0")
TAGGED, FOREIGN = {"aws:ResourceTag/application": "shop"}, {"aws:ResourceTag/application": "bank"}
# Requests of CloudFormation's role: an action, its resource (`{…}` is an output of the platform), the context, and
# whether the request is allowed. Each miss differs in one point from an allowed request.
Rows = list[tuple[str, str, dict[str, str], bool]]
DEPLOYER: Rows = [
    ("ecs:UpdateService", SERVICE, {}, True),
    ("ecs:UpdateService", arn("ecs", "service/platform-shop/shop-two"), {}, False),
    ("ecs:UpdateService", arn("ecs", "service/platform-bank/shop"), {}, False),
    ("ecs:UpdateService", arn("ecs", "service/platform-shop/shop", account=OTHER), {}, False),
    ("ecs:UpdateService", arn("ecs", "service/platform-shop/shop", region="eu-west-1"), {}, False),
    ("ecs:StopServiceDeployment", arn("ecs", "service-deployment/platform-shop/shop/x1"), {}, True),
    ("ecs:StopServiceDeployment", arn("ecs", "service-deployment/platform-shop/bank/x1"), {}, False),
    ("ecs:RegisterTaskDefinition", arn("ecs", "task-definition/shop:7"), {}, True),
    ("ecs:RegisterTaskDefinition", arn("ecs", "task-definition/shop-two:7"), {}, False),
    ("ecs:RunTask", arn("ecs", "task-definition/shop:7"), {}, False),
    ("ecs:ExecuteCommand", arn("ecs", "task/platform-shop/x1"), {}, False),
    ("ecs:DeleteCluster", arn("ecs", "cluster/platform-shop"), {}, False),
    ("iam:PassRole", "{ExecutionRoleArn}", {"iam:PassedToService": "ecs-tasks.amazonaws.com"}, True),
    ("iam:PassRole", "{ExecutionRoleArn}", {"iam:PassedToService": "lambda.amazonaws.com"}, False),
    ("iam:PassRole", "{InfrastructureRoleArn}", {"iam:PassedToService": "ecs.amazonaws.com"}, True),
    ("iam:PassRole", "{InfrastructureRoleArn}", {"iam:PassedToService": "ecs-tasks.amazonaws.com"}, False),
    ("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/admin", {"iam:PassedToService": "ecs-tasks.amazonaws.com"}, False),
    ("iam:DeleteRole", "{ExecutionRoleArn}", {}, False),
    ("iam:PutRolePolicy", "{ExecutionRoleArn}", {}, False),
    ("elasticloadbalancing:ModifyRule", "{ProductionRule}", {}, False),
    ("elasticloadbalancing:DeleteRule", "{TestRule}", {}, False),
    ("elasticloadbalancing:DeleteTargetGroup", "{Blue}", {}, False),
    ("ec2:CreateSecurityGroup", GROUP, {"aws:RequestTag/application": "shop"}, True),
    ("ec2:CreateSecurityGroup", GROUP, {"aws:RequestTag/application": "bank"}, False),
    ("ec2:CreateSecurityGroup", GROUP, {}, False),
    ("ec2:CreateSecurityGroup", arn("ec2", "vpc/{VPC}"), {}, True),
    ("ec2:CreateSecurityGroup", arn("ec2", "vpc/vpc-0123456789abcdef0"), {}, False),
    ("ec2:CreateTags", GROUP, {"ec2:CreateAction": "CreateSecurityGroup"}, True),
    ("ec2:CreateTags", GROUP, {"ec2:CreateAction": "RunInstances"}, False),
    ("ec2:CreateTags", GROUP, {}, False),
    ("ec2:AuthorizeSecurityGroupIngress", GROUP, TAGGED, True),
    ("ec2:AuthorizeSecurityGroupIngress", GROUP, FOREIGN, False),
    ("ec2:AuthorizeSecurityGroupIngress", GROUP, {}, False),
    ("cloudwatch:PutMetricAlarm", arn("cloudwatch", "alarm:shop-errors"), {}, True),
    ("cloudwatch:PutMetricAlarm", arn("cloudwatch", "alarm:bank-errors"), {}, False),
]
EXECUTION: Rows = [
    ("ecr:BatchGetImage", REPOSITORY, {}, True),
    ("ecr:GetDownloadUrlForLayer", REPOSITORY, {}, True),
    ("ecr:BatchGetImage", REPOSITORY + "-two", {}, False),
    ("ecr:PutImage", REPOSITORY, {}, False),
    ("logs:PutLogEvents", arn("logs", "log-group:/ecs/platform-shop:log-stream:page/x1"), {}, True),
    ("logs:PutLogEvents", arn("logs", "log-group:/ecs/platform-bank:log-stream:page/x1"), {}, False),
]
INFRASTRUCTURE: Rows = [
    ("elasticloadbalancing:ModifyRule", "{ProductionRule}", {}, True),
    ("elasticloadbalancing:ModifyRule", "{TestRule}", {}, True),
    ("elasticloadbalancing:ModifyRule", "{ProductionRule}0", {}, False),
    ("elasticloadbalancing:DeleteRule", "{ProductionRule}", {}, False),
    ("elasticloadbalancing:RegisterTargets", "{Blue}", {}, True),
    ("elasticloadbalancing:RegisterTargets", "{Green}", {}, True),
    ("elasticloadbalancing:RegisterTargets", "{Blue}0", {}, False),
]


@pytest.mark.parametrize(
    ("who", "rows"), [("deployer", DEPLOYER), ("ExecutionRole", EXECUTION), ("InfrastructureRole", INFRASTRUCTURE)]
)
def test_each_role_may_do_what_it_must_and_nothing_near_it(shop, found, deployer, who, rows):
    own = deployer if who == "deployer" else [one for one in found if one.kind == "identity" and f"-{who}-" in one.on]
    assert own
    requests = []
    for action, resource, context, _ in rows:
        named = resource.format(**shop.platform)
        requests.append(
            {
                "principal": f"arn:aws:sts::{ACCOUNT}:assumed-role/{who}/session",
                "action": action,
                "resource": named,
                "account": named.split(":")[4],
                "context": {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/{who}"} | context,
                "identity": [str(one) for one in own],
                # The policy of a resource in another account admits this account, so only the role's policies decide.
                "resourcePolicy": None if named.split(":")[4] == ACCOUNT else "open",
            }
        )
    results = simulate({str(one): one.document for one in own}, requests)
    errors = [one["why"] for one in results if one["result"] == "error"]
    assert errors == []
    assert [one["result"] == "Allowed" for one in results] == [row[3] for row in rows], [
        (row, one) for row, one in zip(rows, results, strict=True) if (one["result"] == "Allowed") != row[3]
    ]
