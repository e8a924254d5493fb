"""bootstrap/deploy-role.yaml: who may take the role, and whether it suffices for what the template makes."""

import json
import pathlib
import re

import cfnlint
import parliament
import pytest
from template import deployed, policies
from template.policies import listed
from template.test_policies import MANAGED_POLICY_LIMIT
from template.test_template import lint

TEMPLATE = deployed.ROOT / "bootstrap" / "deploy-role.yaml"
ACCOUNT, DEPLOYER = "333333333333", "444444444444"
# What parliament finds and we mean: the finding, what it says.
MEANT = [
    ("INVALID_ARN", "aws:transform/Serverless-2016-10-31"),  # AWS's own
    ("RESOURCE_POLICY_PRIVILEGE_ESCALATION", "sekisho-artifacts-"),  # the deployer writes the bucket's policy
    # AWS has a resource for these by now: the topic, the table, the channel.
    ("RESOURCE_MISMATCH", "sns:Unsubscribe"),
    ("RESOURCE_MISMATCH", "dynamodb:GetResourcePolicy"),
    ("RESOURCE_MISMATCH", "chatbot:TagResource"),
    ("UNKNOWN_ACTION", "s3:"),  # newer, or older, than parliament's list: CloudFormation's own handlers name them
    ("UNKNOWN_ACTION", "lambda:GetFunctionScalingConfig"),
]
# What CloudFormation's handlers read for properties that the template does not use.
UNUSED = {"kms:Decrypt"}


def schema(kind):
    """What CloudFormation's handlers of a kind of resource say that they call."""
    schemas = pathlib.Path(cfnlint.__file__).parent / "data" / "schemas"
    known = json.loads((schemas / "providers" / f"{deployed.REGION}.json").read_text())
    return json.loads((schemas / "resources" / f"{known[kind]}.json").read_text()).get("handlers", {})


def actions(role):
    """What the role is allowed, wherever."""
    return {action for policy in role if policy.kind == "managed" for statement in policy.statements
            if statement["Effect"] == "Allow" for action in listed(statement["Action"])}


@pytest.fixture(scope="module")
def role():
    """The role's policies as deployed."""
    with deployed.cloud() as cloud:
        cloudformation = cloud.client(ACCOUNT, "cloudformation")
        given = {"DeployerAccountId": DEPLOYER, "DeployerArns": f"arn:aws:iam::{DEPLOYER}:role/ci,arn:aws:iam::{DEPLOYER}:user/ops-*"}
        cloudformation.create_stack(
            StackName="sekisho-deploy", TemplateBody=TEMPLATE.read_text(), Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()])
        cloudformation.get_waiter("stack_create_complete").wait(StackName="sekisho-deploy", WaiterConfig={"Delay": 1, "MaxAttempts": 30})
        yield policies.of(cloud, ACCOUNT, "sekisho-deploy")


def test_the_template_is_clean():
    lint(str(TEMPLATE))


def test_only_the_named_may_take_it(role):
    (trust,) = [policy.document for policy in role if policy.kind == "trust"]
    (statement,) = trust["Statement"]
    assert statement["Principal"] == {"AWS": f"arn:aws:iam::{DEPLOYER}:root"}
    assert statement["Condition"] == {"ArnLike": {"aws:PrincipalArn": [f"arn:aws:iam::{DEPLOYER}:role/ci", f"arn:aws:iam::{DEPLOYER}:user/ops-*"]}}


def test_parliament_finds_nothing_that_is_not_meant(role):
    found, unused = [], set(MEANT)
    for policy in (one for one in role if one.kind == "managed"):
        for one in parliament.analyze_policy_string(json.dumps(policy.document)).findings:
            meant = {entry for entry in MEANT if entry[0] == one.issue and entry[1] in str(one)}
            unused -= meant
            if not meant:
                found.append(f"{policy}: {one}")
    assert not found, "\n".join(found)
    assert unused == set()


def test_policies_fit_and_allow_no_wildcard_action(role):
    for policy in (one for one in role if one.kind == "managed"):
        assert len(re.sub(r"\s", "", json.dumps(policy.document))) <= MANAGED_POLICY_LIMIT
        for statement in policy.statements:
            assert statement["Effect"] == "Deny" or not [one for one in listed(statement["Action"]) if "*" in one]


def test_it_may_read_all_that_cloudformation_reads(role):
    """By the handlers in CloudFormation's own schemas, which cfn-lint brings along."""
    allowed = {action.lower() for action in actions(role)}
    lacking = {}
    for kind in sorted({one["Type"] for one in deployed.expanded()["Resources"].values()}):
        missing = [one for one in schema(kind).get("read", {}).get("permissions", []) if one.lower() not in allowed and one not in UNUSED]
        if missing:
            lacking[kind] = missing
    assert lacking == {}


def test_a_first_deployment_can_make_the_key_and_take_it_back(role):
    """KMS makes no key whose policy its maker could not change: asked before the key has an alias or a tag."""
    (key,) = [one for policy in role if policy.kind == "managed" for one in policy.statements if "kms:PutKeyPolicy" in listed(one["Action"])]
    assert f"arn:aws:kms:{deployed.REGION}:{ACCOUNT}:key/*" in listed(key["Resource"])
    assert "Condition" not in key
    lacking = {}
    for name, one in deployed.expanded()["Resources"].items():
        if one.get("DeletionPolicy") == "RetainExceptOnCreate":
            lacking[name] = set(schema(one["Type"])["delete"]["permissions"]) - actions(role)
    assert lacking == {"ArtifactKey": set(), "ArtifactBucket": set()}
