"""The policies of examples/shop-ecs: each role may do what it must, and nothing near it."""

import json
import re
from dataclasses import dataclass, field

import parliament
import pytest

from tests.iam import mutants
from tests.iam.requests import renamed
from tests.iam.test_requests import noticed, simulate
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


@dataclass(frozen=True)
class May:
    """What a role may do with a resource, in which `{…}` is an output of the platform, and requests that miss it.

    Each request with another account, region or name is a miss as well, except those that `anywhere` names. `misses`
    are pairs of a resource (None: the same one) and a context. None of the actions in `other` is allowed.
    """

    actions: str
    resource: str | None
    context: dict[str, str] = field(default_factory=dict)
    misses: tuple[tuple[str | None, dict[str, str]], ...] = ()
    other: str = ""
    anywhere: str = ""

    def requests(self, platform):
        """Yields the action, the resource, the context and the expected outcome of each request."""
        resource = self.resource and self.resource.format(**platform)
        for action in self.actions.split():
            yield action, resource, self.context, True
            for near in self.nearby(resource):
                yield action, near, self.context, False
            for near, context in self.misses:
                yield action, near.format(**platform) if near else resource, context, False
        for action in self.other.split():
            yield action, resource, self.context, False

    def nearby(self, resource):
        if resource is None:
            return
        *head, region, account, rest = resource.split(":", 5)
        # The first part of a load balancer's name is its kind, so only the id at the end is changed.
        other_name = f"{rest}0" if "elasticloadbalancing" in head else renamed(rest)
        changed = {"account": (region, OTHER, rest), "name": (region, account, other_name)}
        if region:
            changed["region"] = ("eu-west-1", account, rest)
        yield from (":".join([*head, *parts]) for what, parts in changed.items() if what not in self.anywhere)


def passed_to(service):
    return {"iam:PassedToService": f"{service}.amazonaws.com"}


SERVICE, GROUP = arn("ecs", "service/platform-shop/shop"), arn("ec2", "security-group/sg-0123456789abcdef0")
TAG, REQUEST_TAG = "aws:ResourceTag/application", "aws:RequestTag/application"
MAY = {
    "deployer": [
        May(
            "ecs:CreateService ecs:DeleteService ecs:DescribeServices ecs:ListServiceDeployments "
            "ecs:ListTagsForResource ecs:TagResource ecs:UntagResource ecs:UpdateService",
            SERVICE,
            # These are another service on the shop's cluster, and a service of the same name on another cluster.
            misses=((SERVICE + "-two", {}), (arn("ecs", "service/platform-bank/shop"), {})),
            other="ecs:UpdateServicePrimaryTaskSet",
        ),
        May("ecs:DescribeServiceDeployments ecs:StopServiceDeployment", SERVICE),
        May(
            "ecs:DescribeServiceDeployments ecs:StopServiceDeployment",
            arn("ecs", "service-deployment/platform-shop/shop/x1"),
            misses=((arn("ecs", "service-deployment/platform-shop/bank/x1"), {}),),
            other="ecs:ContinueServiceDeployment",
        ),
        May(
            "ecs:ListTagsForResource ecs:RegisterTaskDefinition ecs:TagResource ecs:UntagResource",
            arn("ecs", "task-definition/shop:7"),
            misses=((arn("ecs", "task-definition/shop-two:7"), {}),),
            other="ecs:RunTask ecs:DeleteTaskDefinitions",
        ),
        May("ecs:DeregisterTaskDefinition ecs:DescribeTaskDefinition", None),
        May("iam:GetRole", "{ExecutionRoleArn}", other="iam:DeleteRole iam:PutRolePolicy iam:UpdateAssumeRolePolicy"),
        May(
            "iam:PassRole",
            "{ExecutionRoleArn}",
            passed_to("ecs-tasks"),
            misses=((None, passed_to("lambda")), (None, passed_to("ecs"))),
        ),
        May("iam:PassRole", "{InfrastructureRoleArn}", passed_to("ecs"), misses=((None, passed_to("ecs-tasks")),)),
        May(
            "ec2:CreateSecurityGroup",
            GROUP,
            {REQUEST_TAG: "shop"},
            misses=((None, {REQUEST_TAG: "bank"}), (None, {})),
            other="ec2:CreateTags",
            anywhere="name",
        ),
        May("ec2:CreateSecurityGroup", arn("ec2", "vpc/{VPC}"), other="ec2:DeleteVpc"),
        May(
            "ec2:CreateTags",
            GROUP,
            {"ec2:CreateAction": "CreateSecurityGroup"},
            misses=((None, {"ec2:CreateAction": "RunInstances"}), (None, {})),
            anywhere="name",
        ),
        May(
            "ec2:AuthorizeSecurityGroupEgress ec2:AuthorizeSecurityGroupIngress ec2:DeleteSecurityGroup "
            "ec2:RevokeSecurityGroupEgress ec2:RevokeSecurityGroupIngress "
            "ec2:UpdateSecurityGroupRuleDescriptionsEgress ec2:UpdateSecurityGroupRuleDescriptionsIngress",
            GROUP,
            {TAG: "shop"},
            misses=((None, {TAG: "bank"}), (None, {})),
            other="ec2:DeleteTags",
            anywhere="name",
        ),
        May("ec2:DescribeInstances ec2:DescribeSecurityGroups", None),
        # CloudFormation's role may do this for every application. Nothing lets it touch the load balancer.
        May("cloudwatch:PutMetricAlarm", arn("cloudwatch", "alarm:shop-errors")),
        *(
            May("", f"{{{name}}}", other="elasticloadbalancing:ModifyRule elasticloadbalancing:DeleteRule")
            for name in ("ProductionRule", "TestRule")
        ),
        *(
            May("", f"{{{name}}}", other="elasticloadbalancing:RegisterTargets elasticloadbalancing:DeleteTargetGroup")
            for name in ("Blue", "Green")
        ),
    ],
    "ExecutionRole": [
        May("ecr:GetAuthorizationToken", None),
        May(
            "ecr:BatchCheckLayerAvailability ecr:BatchGetImage ecr:GetDownloadUrlForLayer",
            REPOSITORY,
            misses=((REPOSITORY + "-two", {}),),
            other="ecr:PutImage ecr:InitiateLayerUpload",
        ),
        May(
            "logs:CreateLogStream logs:PutLogEvents",
            arn("logs", "log-group:/ecs/platform-shop:log-stream:page/x1"),
            other="logs:DeleteLogStream",
        ),
    ],
    "InfrastructureRole": [
        May(
            "elasticloadbalancing:DescribeListeners elasticloadbalancing:DescribeRules "
            "elasticloadbalancing:DescribeTargetGroups elasticloadbalancing:DescribeTargetHealth",
            None,
        ),
        *(
            May(
                "elasticloadbalancing:DeregisterTargets elasticloadbalancing:RegisterTargets",
                f"{{{name}}}",
                other="elasticloadbalancing:DeleteTargetGroup",
            )
            for name in ("Blue", "Green")
        ),
        *(
            May("elasticloadbalancing:ModifyRule", f"{{{name}}}", other="elasticloadbalancing:DeleteRule")
            for name in ("ProductionRule", "TestRule")
        ),
        May("elasticloadbalancing:ModifyListener", "{Listener}", other="elasticloadbalancing:DeleteListener"),
    ],
}
# Broken statements that change no outcome: a part of the mutant's name, and the reason.
UNNOTICED = [
    ("GiveTheExecutionRole for iam:*", "only PassRole has iam:PassedToService"),
    ("GiveTheInfrastructureRole for iam:*", "only PassRole has iam:PassedToService"),
    ("TagThemAtOnce for ec2:*", "only CreateTags has ec2:CreateAction"),
]


@pytest.fixture(scope="module")
def table(shop, found, deployer):
    """The documents by their names, and the requests with their expected outcomes."""
    listeners = shop.client("elbv2").describe_rules(RuleArns=[shop.platform["ProductionRule"]])["Rules"]
    listener = listeners[0]["RuleArn"].replace(":listener-rule/", ":listener/").rpartition("/")[0]
    documents: dict[str, dict] = {}
    requests: list[tuple[dict, bool]] = []
    for who, entries in MAY.items():
        own = [one for one in found if one.kind == "identity" and f"-{who}-" in one.on]
        own = deployer if who == "deployer" else own
        assert own, who
        documents |= {str(one): one.document for one in own}
        for entry in entries:
            for action, resource, context, allowed in entry.requests(shop.platform | {"Listener": listener}):
                account = resource.split(":")[4] if resource else ACCOUNT
                request = {
                    "principal": f"arn:aws:sts::{ACCOUNT}:assumed-role/{who}/session",
                    "action": action,
                    "resource": resource,
                    "account": account,
                    "context": {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/{who}"} | context,
                    "identity": [str(one) for one in own],
                    # A resource of another account admits this account, so only the role's own policies decide.
                    "resourcePolicy": None if account == ACCOUNT else "open",
                }
                requests.append((request, allowed))
    return documents, requests


def test_each_role_may_do_what_it_must_and_nothing_near_it(table):
    documents, requests = table
    results = simulate(documents, [request for request, _ in requests])
    wrong = [
        (request["action"], request["resource"], request["context"], allowed, one["result"], one["why"])
        for (request, allowed), one in zip(requests, results, strict=True)
        if one["result"] == "error" or (one["result"] == "Allowed") != allowed
    ]
    assert not wrong, "\n".join(map(str, wrong))
    assert {allowed for _, allowed in requests} == {True, False}


def test_every_broken_statement_is_noticed(table, found):
    documents, requests = table
    mutated = {str(one) for one in found if one.kind != "trust"}
    broken = [one for name in mutated for one in mutants.of(name, documents[name])]
    sent = [
        {
            "policy": mutant.policy,
            "document": mutant.document,
            "requests": [
                index
                for index, (request, _) in enumerate(requests)
                if mutant.policy in request["identity"] and mutant.concerns(request["action"])
            ],
        }
        for mutant in broken
    ]
    by_request = noticed(documents, [request for request, _ in requests], sent)
    unnoticed = [str(mutant) for mutant, by in zip(broken, by_request, strict=True) if by is None]
    left = [one for one in unnoticed if not any(one.endswith(f": {part}") for part, _ in UNNOTICED)]
    assert not left, "\n".join(left)
    assert len(unnoticed) == len(UNNOTICED), "excused for nothing"
