"""bootstrap/deploy-role.yaml: only the named principals may assume the role, and the role can deploy the template."""

import hashlib
import json
import re
import zlib

import botocore.exceptions
import parliament
import pytest
from samtranslator.yaml_helper import yaml_parse

from tests.template import deployed, handlers
from tests.template.conftest import OF_DEPLOYERS, PRODUCTION
from tests.template.policies import listed
from tests.template.test_policies import MANAGED_POLICY_LIMIT
from tests.template.test_template import lint

# Findings of the linter parliament that are accepted on purpose: the finding, and a part of its text.
MEANT = [
    ("INVALID_ARN", "aws:transform/Serverless-2016-10-31"),  # the transform belongs to AWS
    # For these actions, AWS has resource types that parliament does not have in its list: topic, table, channel.
    ("RESOURCE_MISMATCH", "sns:Unsubscribe"),
    ("RESOURCE_MISMATCH", "dynamodb:GetResourcePolicy"),
    ("RESOURCE_MISMATCH", "chatbot:TagResource"),
    ("RESOURCE_STAR", "cloudwatch:DescribeAlarms"),  # CloudFormation describes all alarms
    ("UNKNOWN_ACTION", "s3:"),  # CloudFormation's handlers have these actions, and parliament's list does not
    ("UNKNOWN_ACTION", "lambda:GetFunctionScalingConfig"),
    ("UNKNOWN_ACTION", "lambda:GetResourcePolicy"),
]


def actions(role):
    """Returns the actions that the role is allowed, on any resource."""
    return {
        action
        for policy in role
        if policy.kind == "managed"
        for statement in policy.statements
        if statement["Effect"] == "Allow"
        for action in listed(statement["Action"])
    }


@pytest.fixture
def role(deployer):
    return deployer


def test_the_template_is_clean():
    # The IAM table checks each action against a newer list than cfn-lint's.
    lint(str(deployed.BOOTSTRAP), "--ignore-checks", "W3037")


def test_only_the_named_principals_may_assume_the_role(role):
    (trust,) = [policy.document for policy in role if policy.kind == "trust"]
    (statement,) = trust["Statement"]
    assert statement["Principal"] == {"AWS": f"arn:aws:iam::{OF_DEPLOYERS}:root"}
    account = f"arn:aws:iam::{OF_DEPLOYERS}"
    of_identity_center = f"{account}:role/aws-reserved/sso.amazonaws.com/*AWSReservedSSO_Deploy_*"
    assert statement["Condition"] == {
        "ArnLike": {"aws:PrincipalArn": [f"{account}:role/ci", f"{account}:user/ops-*", of_identity_center]}
    }


PATH = "arn:aws:iam::111111111111:role/aws-reserved/sso.amazonaws.com"


@pytest.mark.parametrize(
    ("given", "trusted"),
    [
        ("arn:aws:iam::111111111111:role/AWSReservedSSO_Admin_0a", [f"{PATH}/*AWSReservedSSO_Admin_0a"]),
        (f"{PATH}/eu-west-1/AWSReservedSSO_Admin_0a", [f"{PATH}/eu-west-1/AWSReservedSSO_Admin_0a"]),
        (f"{PATH}/AWSReservedSSO_Admin_0a", [f"{PATH}/AWSReservedSSO_Admin_0a"]),
        (
            f"arn:aws:iam::111111111111:role/AWSReservedSSO_A_*,arn:aws:iam::111111111111:role/ci,{PATH}/*/AWSReservedSSO_B",
            [f"{PATH}/*AWSReservedSSO_A_*", "arn:aws:iam::111111111111:role/ci", f"{PATH}/*/AWSReservedSSO_B"],
        ),
        # Identity Center's roles have no such path, so this is another kind of role, and its ARN stays unchanged.
        ("arn:aws:iam::111111111111:role/my/AWSReservedSSO_A", ["arn:aws:iam::111111111111:role/my/AWSReservedSSO_A"]),
    ],
)
def test_the_short_form_of_a_role_of_identity_center_gets_its_path(cloud_of_all, given, trusted):
    account = f"7{zlib.crc32(given.encode()) % 10**11:011}"
    parameters = {"DeployerAccountId": "111111111111", "DeployerArns": given}
    cloud_of_all.bootstrap_with(account, parameters)
    role = cloud_of_all.client(account, "iam").get_role(RoleName=f"sekisho-deploy-{deployed.REGION}")["Role"]
    (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Condition"]["ArnLike"]["aws:PrincipalArn"] == trusted


def test_the_arn_of_a_session_is_refused_with_the_form_to_write(cloud_of_all):
    """`aws sts get-caller-identity` shows an ARN of this form, so a person may paste it."""
    session = "arn:aws:sts::111111111111:assumed-role/AWSReservedSSO_Admin_0a/hana"
    with pytest.raises(botocore.exceptions.ClientError, match="write arn:aws:iam::111111111111:role/NAME"):
        cloud_of_all.bootstrap_with("799999999999", {"DeployerAccountId": "111111111111", "DeployerArns": session})


# If you change the role, raise Version in the template, and write the new digest here. The digest leaves out the parts
# that need no new version: descriptions of parameters, comments, and outputs.
VERSION, DIGEST = "7", "ba4f5d6775b99d88"


def test_a_changed_role_has_a_new_version():
    template = yaml_parse(deployed.BOOTSTRAP.read_text())
    digest = hashlib.sha256(json.dumps(template["Resources"], sort_keys=True).encode()).hexdigest()[:16]
    assert (template["Outputs"]["Version"]["Value"], digest) == (VERSION, DIGEST)


def test_parliament_finds_nothing_unintended(role):
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


def test_it_may_call_what_cloudformation_calls(role):
    """CloudFormation's schemas name the calls; tests/iam/table/deployment.py checks each call with its resource."""
    allowed = {action.lower() for action in actions(role)}
    lacking = {
        kind: missing
        for kind in handlers.kinds()
        if (missing := sorted(one for one in handlers.calls(kind) if one.lower() not in allowed))
    }
    assert lacking == {}


def test_the_calls_left_out_are_in_the_handlers():
    assert {kind: left for kind in handlers.UNUSED if (left := handlers.unused(kind) - handlers.calls_of(kind))} == {}


# The application's stack may not do these actions. A template that needs one of them needs ApplicationPolicyArn.
NOT_FOR_APPLICATIONS = {
    "only a policy for logs is attached": "iam:PutRolePolicy iam:DeleteRolePolicy",
    "a role's trust stays as it was made": "iam:UpdateAssumeRolePolicy iam:UpdateRole iam:UpdateRoleDescription",
    "no layer": "lambda:GetLayerVersion",
    "no reserved concurrency": "lambda:PutFunctionConcurrency lambda:DeleteFunctionConcurrency",
    "no endless loop": "lambda:PutFunctionRecursionConfig",
}


def test_the_applications_stack_may_call_what_cloudformation_calls(accounts):
    (policy,) = [
        one for one in accounts["222222222222"] if one.kind == "identity" and "role/sekisho-cloudformation-" in one.on
    ]
    allowed = {
        action
        for statement in policy.statements
        if statement["Effect"] == "Allow"
        for action in listed(statement["Action"])
    }
    kinds = ("AWS::Lambda::Function", "AWS::IAM::Role", "AWS::Logs::LogGroup", "AWS::Lambda::Permission")
    left_out = {action for names in NOT_FOR_APPLICATIONS.values() for action in names.split()}
    assert {kind: missing for kind in kinds if (missing := handlers.calls(kind) - allowed - left_out)} == {}
    assert left_out & allowed == set()
    assert left_out <= {action for kind in kinds for action in handlers.calls(kind)}


def test_a_first_deployment_can_create_the_key_and_schedule_its_deletion(role):
    """KMS creates a key only for a caller who may change the key's policy, when the key has no alias and no tag yet."""
    (key,) = [
        one
        for policy in role
        if policy.kind == "managed"
        for one in policy.statements
        if "kms:PutKeyPolicy" in listed(one["Action"])
    ]
    assert f"arn:aws:kms:{deployed.REGION}:{PRODUCTION}:key/*" in listed(key["Resource"])
    assert "Condition" not in key
    lacking = {}
    for name, one in deployed.expanded()["Resources"].items():
        if one.get("DeletionPolicy") == "RetainExceptOnCreate":
            lacking[name] = handlers.calls(one["Type"], "delete") - actions(role)
    assert lacking == {"ArtifactKey": set(), "ArtifactBucket": set()}
