"""`make doctor` finds the roles with which ECS pulls what a pipeline deploys, and checks both sides of the pull."""

import contextlib
import json
from types import SimpleNamespace
from typing import Any

import pytest

from tests.local_cloud.accounts import document
from tests.tools.faults import Deployed, R, T, Undo, denied_by_managed_policy, limited_by_boundary
from tests.tools.test_doctor_images import IMAGE, path_with, policy_with
from tools.layout import REGION
from tools.operations import pulls
from tools.operations.account import Broken
from tools.operations.images import PULL
from tools.operations.routes import Route

ROLE = "shop-execution"
ROLE_ARN = f"arn:aws:iam::{T}:role/{ROLE}"
REPOSITORY = f"arn:aws:ecr:{REGION}:{R}:repository/shop"
URI = f"{R}.dkr.ecr.{REGION}.amazonaws.com/shop@sha256:{'a' * 64}"
SIGN_IN = {"Sid": "SignIn", "Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"}
WHOLE = {"Sid": "Pull", "Effect": "Allow", "Action": PULL, "Resource": REPOSITORY}
DENIED = {"Sid": "Denied", "Effect": "Deny", "Action": "*", "Resource": "*"}
OPEN = {"Effect": "Allow", "Principal": "*", "Action": PULL}
ORGANIZATION = "aws:ResourceOrgID"
TRUST = {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}


@contextlib.contextmanager
def deployed(cloud, image=URI, role: str | None = ROLE_ARN):
    """The pipeline has deployed a stack with a task definition, whose execution role may pull."""
    iam, cloudformation = cloud.client(T, "iam"), cloud.client(T, "cloudformation")
    iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=document([TRUST]))
    put(cloud, SIGN_IN, WHOLE)
    properties = {"Family": "shop", "ContainerDefinitions": [{"Name": "page", "Image": image}]}
    properties |= {"ExecutionRoleArn": role} if role else {}
    template = {"Resources": {"Task": {"Type": "AWS::ECS::TaskDefinition", "Properties": properties}}}
    cloudformation.create_stack(StackName="shop", TemplateBody=json.dumps(template))
    cloudformation.get_waiter("stack_create_complete").wait(StackName="shop", WaiterConfig={"Delay": 1})
    try:
        yield
    finally:
        cloudformation.delete_stack(StackName="shop")
        cloudformation.get_waiter("stack_delete_complete").wait(StackName="shop", WaiterConfig={"Delay": 1})
        with contextlib.suppress(iam.exceptions.NoSuchEntityException):
            iam.delete_role_policy(RoleName=ROLE, PolicyName="execution")
            iam.delete_role(RoleName=ROLE)


def put(cloud, *statements) -> None:
    """Writes the policy of the execution role."""
    cloud.client(T, "iam").put_role_policy(
        RoleName=ROLE, PolicyName="execution", PolicyDocument=document([*statements])
    )


def role_with(*statements):
    """A fault: the execution role has only these statements."""

    def fault(cloud: Deployed) -> Undo:
        put(cloud, *statements)
        return lambda: None

    return fault


def role_deleted(cloud: Deployed) -> Undo:
    """The execution role does not exist."""
    iam = cloud.client(T, "iam")
    iam.delete_role_policy(RoleName=ROLE, PolicyName="execution")
    iam.delete_role(RoleName=ROLE)
    return lambda: None


def repository_denies(role):
    """The repository's policy denies this role what it allows to its account."""
    denied = {"Effect": "Deny", "Principal": "*", "Action": PULL[1]}
    statement = denied | {"Condition": {"ArnEquals": {"aws:PrincipalArn": role}}}

    def change(text: str) -> str:
        whole = json.loads(text)
        return json.dumps(whole | {"Statement": [*whole["Statement"], statement]})

    return policy_with(change)


def check(config, monkeypatch, *routes):
    path = path_with(config, monkeypatch, *(routes or (IMAGE,)))
    pulls.tasks_can_pull(path)
    return path


def test_a_task_that_may_pull_is_in_order_also_for_the_deploy_role(cloud, config, config_of_deployer, monkeypatch):
    with deployed(cloud):
        for one in (config, config_of_deployer):
            path = check(one, monkeypatch)
            assert (path.unclear, path.advice) == ([], [])


FAULTS = [
    (role_with(WHOLE), f"{ROLE_ARN} may not sign in to registries of images (ecr:GetAuthorizationToken)"),
    *(
        (role_with(SIGN_IN, WHOLE | {"Action": [one for one in PULL if one != missing]}), f"pull shop ({missing})")
        for missing in PULL
    ),
    (role_with(SIGN_IN, WHOLE | {"Resource": f"{REPOSITORY}-web"}), "may not pull shop"),
    (role_with(SIGN_IN, WHOLE | {"Resource": REPOSITORY.replace(R, T)}), "may not pull shop"),
    (denied_by_managed_policy(T, ROLE, PULL[0]), f"may not pull shop ({PULL[0]})"),
    (limited_by_boundary(T, ROLE, ["ecr:GetAuthorizationToken", *PULL[1:]]), f"may not pull shop ({PULL[0]})"),
    (role_deleted, "the execution role of task definition shop:"),
    (repository_denies(ROLE_ARN), f"shop does not let {ROLE_ARN} in ({PULL[1]})"),
    (policy_with(lambda _: None), f"shop does not let {ROLE_ARN} in (ecr:"),
]


@pytest.mark.parametrize(("fault", "problem"), FAULTS, ids=[f"{n}-{text}" for n, (_, text) in enumerate(FAULTS)])
def test_a_task_that_may_not_pull_is_named(cloud, config, monkeypatch, fault, problem):
    with deployed(cloud), contextlib.ExitStack() as stack:
        stack.callback(fault(cloud))
        with pytest.raises(Broken) as broken:
            check(config, monkeypatch)
    assert problem in str(broken.value)
    assert ROLE in f"{broken.value} {broken.value.fix}"


@pytest.mark.parametrize(
    "near",
    [
        limited_by_boundary(T, ROLE, ["ecr:*"]),
        repository_denies(f"{ROLE_ARN}-2"),
        role_with(SIGN_IN, WHOLE | {"Resource": f"{REPOSITORY[:-4]}*"}),
        role_with(SIGN_IN, WHOLE, DENIED | {"Condition": {"StringNotEquals": {"aws:RequestedRegion": REGION}}}),
        role_with(SIGN_IN, WHOLE | {"Condition": {"StringEquals": {"aws:PrincipalAccount": T}}}),
    ],
    ids=["wide boundary", "another role denied", "all repositories", "other regions denied", "its account"],
)
def test_a_task_that_may_pull_otherwise_is_in_order(cloud, config, monkeypatch, near):
    with deployed(cloud), contextlib.ExitStack() as stack:
        stack.callback(near(cloud))
        path = check(config, monkeypatch)
    assert (path.unclear, path.advice) == ([], [])


@pytest.mark.parametrize(
    ("fault", "key"),
    [
        (
            role_with(SIGN_IN, WHOLE, DENIED | {"Condition": {"StringNotEqualsIfExists": {ORGANIZATION: "o-1"}}}),
            ORGANIZATION,
        ),
        (
            policy_with(lambda _: document([OPEN | {"Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}}])),
            "aws:PrincipalOrgID",
        ),
    ],
    ids=["role", "repository"],
)
def test_a_condition_whose_value_is_not_known_leaves_the_question_open(cloud, config, monkeypatch, fault, key):
    with deployed(cloud), contextlib.ExitStack() as stack:
        stack.callback(fault(cloud))
        path = check(config, monkeypatch)
    assert path.unclear and all(f"conditions on {key}" in one for one in path.unclear), path.unclear


@pytest.mark.parametrize("image", ["public.ecr.aws/nginx/nginx:1", URI.replace(R, T)], ids=["public", "own registry"])
def test_an_image_of_another_registry_is_not_checked(cloud, config, monkeypatch, image):
    with deployed(cloud, image):
        put(cloud, SIGN_IN)
        path = check(config, monkeypatch)
    assert (path.unclear, path.advice) == ([], [])


def test_nothing_is_deployed_yet(config, monkeypatch):
    path = check(config, monkeypatch)
    assert (path.unclear, path.advice) == ([], [])


def test_a_task_without_an_execution_role_is_only_advice(cloud, config, monkeypatch):
    with deployed(cloud, role=None):
        path = check(config, monkeypatch)
    assert "has no execution role, so the role of the instance pulls" in path.advice[0] and path.unclear == []


def test_an_older_deploy_role_leaves_the_question_open(cloud, config_of_deployer, monkeypatch):
    iam, which = cloud.client(T, "iam"), {"RoleName": f"sekisho-deploy-{REGION}", "PolicyName": "older"}
    for missing in ("cloudformation:ListStackResources", "ecs:DescribeTaskDefinition"):
        iam.put_role_policy(**which, PolicyDocument=document([{"Effect": "Deny", "Action": missing, "Resource": "*"}]))
        try:
            with deployed(cloud):
                path = check(config_of_deployer, monkeypatch)
        finally:
            iam.delete_role_policy(**which)
        (question,) = path.unclear
        assert "whether ECS may pull the images of stack shop" in question and missing in question


def test_a_policy_that_cannot_be_judged_is_reported_once(cloud, config, monkeypatch):
    """The hop of the repositories looks only at those that a route names without a glob."""
    condition = {"Condition": {"NumericLessThan": {"aws:MultiFactorAuthAge": "1"}}}
    change = policy_with(lambda _: document([{"Effect": "Allow", "Principal": "*", "Action": PULL, **condition}]))
    for name, expected in (("shop", 0), ("sh*", len(PULL))):
        with deployed(cloud), contextlib.ExitStack() as stack:
            stack.callback(change(cloud))
            path = check(config, monkeypatch, Route(name, (), ("v*",), (), "shop", "Image", is_image=True))
        assert len(path.unclear) == expected


def action(provider, region=None, **configuration):
    kind = {"category": "Deploy", "provider": provider}
    found = {"name": provider, "actionTypeId": kind, "configuration": configuration}
    return found | ({"region": region} if region else {})


def path_of(*actions) -> Any:
    """A path whose only pipeline has these actions, in an account with a service."""

    class Missing(Exception):
        pass

    def describe_services(cluster, services):
        if cluster == "missing":
            raise Missing
        deleted, with_task_sets = {"taskDefinition": "deleted", "status": "INACTIVE"}, {"status": "ACTIVE"}
        return {"services": [deleted, with_task_sets, {"taskDefinition": f"{cluster}/{services[0]}"}]}

    exceptions = SimpleNamespace(ClusterNotFoundException=Missing)
    ecs = SimpleNamespace(describe_services=describe_services, exceptions=exceptions)
    account = SimpleNamespace(id=T, region=REGION, client=lambda _: ecs)
    pipeline = {"stages": [{"actions": [*actions]}]}
    return SimpleNamespace(
        pipelines=account, routes=[IMAGE], advice=[], unclear=[], source_action=lambda _: (pipeline, {})
    )


def test_the_service_of_an_action_of_ecs_shows_its_task_definition():
    path = path_of(
        action("ECS", ClusterName="web", ServiceName="shop"),
        action("ECS", ServiceName="cart"),
        action("ECS", ClusterName="missing", ServiceName="shop"),
        action("ECS", ServiceName="#{variables.Service}"),
    )
    places, others = pulls._places(path.pipelines, path.source_action(IMAGE)[0])
    assert {where: found() for where, found in places.items()} == {
        "service web/shop": ["web/shop"],
        "service default/cart": ["default/cart"],
        "service missing/shop": [],
    }
    assert others == ["ECS"], "the service is known only while an execution runs"


def test_a_pipeline_that_shows_no_role_gets_advice():
    elsewhere = action("CloudFormation", "us-east-1", StackName="shop")
    foreign = action("CloudFormation", StackName="shop") | {"roleArn": f"arn:aws:iam::{R}:role/deploy"}
    path = path_of(elsewhere, foreign, action("EKS", ClusterName="web"), action("CodeDeployToECS"))
    pulls.tasks_can_pull(path)
    (advice,) = path.advice
    named = "action CloudFormation, CloudFormation, EKS, CodeDeployToECS of pipeline shop"
    assert f"nothing shows which role pulls the image that {named} deploys" in advice and path.unclear == []
