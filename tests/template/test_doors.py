"""The doors of temp-access: its aliases, the approvers' channel, and bootstrap/person.yaml for the role of a door."""

import json

import botocore.exceptions
import parliament
import pytest

from tests.template import deployed
from tests.template.conftest import DOOR, PREPARED, PRODUCTION
from tests.template.test_policies import MANAGED_POLICY_LIMIT
from tests.template.test_template import ACCESS, APPROVERS, DUTIES, NAMES, SLACK, lint
from tools.layout import REGION

BOUNDARY = f"arn:aws:iam::{PRODUCTION}:policy/sekisho-access-boundary"
FUNCTION = f"arn:aws:lambda:{REGION}:{PRODUCTION}:function:temp-access"
# Findings of the linter parliament that are accepted on purpose: the finding, and a part of its text.
MEANT = [
    ("MALFORMED", "neither Resource nor NotResource"),  # a trust policy has neither
    ("RESOURCE_STAR", "cloudwatch:DescribeAlarms"),  # chat shows the graph of any alarm
]


def test_each_function_has_the_alias_for_dashboards_at_the_latest_version(cloud_of_all):
    """A published version would keep its old configuration."""
    account = "444444444444"
    assert {key for key, value in deployed.ACCOUNTS[account].items() if value == "true"} == set(DUTIES)
    functions = cloud_of_all.client(account, "lambda")
    for name, _ in NAMES.values():
        assert functions.get_alias(FunctionName=name, Name="board")["FunctionVersion"] == "$LATEST"
        assert [one["Name"] for one in functions.list_aliases(FunctionName=name)["Aliases"]] == ["board"], name


@pytest.mark.parametrize("account", ["333333333333", "444444444444"])
def test_an_asynchronous_request_is_carried_out_within_a_minute_or_never(cloud_of_all, account):
    functions = cloud_of_all.client(account, "lambda")
    config = functions.get_function_event_invoke_config(FunctionName="temp-access")
    assert (config["MaximumEventAgeInSeconds"], config["MaximumRetryAttempts"]) == (60, 0)


def test_an_account_is_not_its_own_hub(cloud_of_all):
    """Such a door would let temp-access claim any door of its own account."""
    with pytest.raises(botocore.exceptions.ClientError, match="rule HubNeedsAccess failed"):
        cloud_of_all.deploy("700000000004", ACCESS | {"HubAccountId": "700000000004"})


def of(cloud, account):
    """Returns the kinds of resources that a stack has, by their logical ids."""
    pages = cloud.client(account, "cloudformation").get_paginator("list_stack_resources")
    found = [one for page in pages.paginate(StackName=deployed.STACK) for one in page["StackResourceSummaries"]]
    return {one["LogicalResourceId"]: one["ResourceType"] for one in found}


def test_the_new_parameters_add_nothing_by_default(cloud_of_all):
    """Without them, a stack that has Slack and grants access gets only the guardrail and the aliases."""
    cloud_of_all.deploy("700000000000", ACCESS | SLACK)
    cloud_of_all.deploy("700000000001", ACCESS | APPROVERS)
    without, with_approvers = (of(cloud_of_all, account) for account in ("700000000000", "700000000001"))
    added = {"ApproverPolicy", "ApproverRole", "ApproverChannel", "ApproveRequest", "DeclineRequest"}
    assert with_approvers.keys() - without.keys() == added and without.keys() <= with_approvers.keys()
    environment = cloud_of_all.client("700000000000", "lambda").get_function_configuration(FunctionName="temp-access")
    values = environment["Environment"]["Variables"]
    assert [values[name] for name in ("IDENTITY_STORE_ID", "IDENTITY_CENTER_REGION", "HUB_ACCOUNT_ID")] == [""] * 3
    # The way back leaves nothing behind.
    cloud_of_all.update("700000000001", ACCESS | SLACK, deployed.expanded())
    assert of(cloud_of_all, "700000000001") == without
    with pytest.raises(botocore.exceptions.ClientError, match="NoSuchEntity"):
        cloud_of_all.client("700000000001", "iam").get_role(RoleName=f"sekisho-door-approvers-{REGION}")


def test_the_channels_have_their_own_roles_limits_and_buttons():
    """A button appears only in the channel whose role may do what the button does."""
    resources = deployed.source()["Resources"]
    people, approvers = (resources[name]["Properties"] for name in ("ChatChannel", "ApproverChannel"))
    assert people["GuardrailPolicies"] == [{"Ref": "ChatGuardrail"}]
    assert approvers["GuardrailPolicies"] == [{"Ref": "ApproverPolicy"}]
    assert resources["ApproverRole"]["Properties"]["ManagedPolicyArns"] == [{"Ref": "ApproverPolicy"}]
    shown = json.dumps(people["CustomizationResourceArns"])
    assert approvers["CustomizationResourceArns"] == [{"Ref": "ApproveRequest"}, {"Ref": "DeclineRequest"}]
    assert not [name for name in ("ApproveRequest", "DeclineRequest") if name in shown]
    # Both channels show the same notices.
    assert people["SnsTopicArns"] == approvers["SnsTopicArns"] == [{"Ref": "Notices"}]
    # Without the qualifier, the request would come through the door of everybody.
    for name in ("ApproveRequest", "DeclineRequest"):
        command = resources[name]["Properties"]["Definition"]["CommandText"]["Fn::Sub"]
        assert command.startswith("lambda invoke temp-access --qualifier approvers --region ")


def test_the_roles_of_doors_have_the_names_that_the_policies_of_the_doors_admit(cloud_of_all):
    iam = cloud_of_all.client(PRODUCTION, "iam")
    for door in (DOOR, "approvers"):
        assert iam.get_role(RoleName=f"sekisho-door-{door}-{REGION}")


# bootstrap/person.yaml


def test_the_template_is_clean():
    lint(str(deployed.PERSON))


def test_parliament_finds_nothing_unintended(person):
    found = [one for policy in person for one in parliament.analyze_policy_string(json.dumps(policy.document)).findings]
    unintended = [one for one in found if not any(kind == one.issue and part in str(one) for kind, part in MEANT)]
    assert unintended == []


def test_a_person_may_do_what_the_channel_may_do_and_use_one_door(person, accounts):
    """Otherwise a member who maps the role of a door would lose something, or gain more than the door."""
    (channel,) = [
        policy.statements
        for policy in accounts[PRODUCTION]
        if policy.kind == "managed" and policy.on.endswith(f"policy/sekisho-chat-{REGION}")
    ]
    (own,) = [policy for policy in person if policy.kind == "identity"]
    ours = {statement["Sid"]: statement for statement in own.statements}
    assert ours.pop("UseDoor")["Resource"] == f"{FUNCTION}:{DOOR}"
    # Production has no repositories, so the role of its channel has no statement about trains.
    assert (
        ours.pop("AskAboutTrains")["Resource"] == f"arn:aws:lambda:{REGION}:{PRODUCTION}:function:sekisho-event-relay"
    )
    assert ours == {statement["Sid"]: statement for statement in channel}
    assert len(json.dumps(own.document)) < MANAGED_POLICY_LIMIT


def test_only_chatbot_assumes_the_role_of_a_door(person):
    (trust,) = [policy.statements for policy in person if policy.kind == "trust"]
    assert [(one["Principal"], one["Action"]) for one in trust] == [
        ({"Service": "chatbot.amazonaws.com"}, "sts:AssumeRole")
    ]


def test_a_prepared_user_has_the_boundary_and_the_tag_and_nothing_else(cloud_of_all):
    iam = cloud_of_all.client(PRODUCTION, "iam")
    user = iam.get_user(UserName=PREPARED)["User"]
    assert user["PermissionsBoundary"]["PermissionsBoundaryArn"] == BOUNDARY
    tags = {tag["Key"]: tag["Value"] for tag in iam.list_user_tags(UserName=PREPARED)["Tags"]}
    assert tags["sekisho:access"] == "grantable"
    assert iam.list_user_policies(UserName=PREPARED)["PolicyNames"] == []
    assert iam.list_attached_user_policies(UserName=PREPARED)["AttachedPolicies"] == []


def test_removing_a_person_removes_the_role_and_keeps_the_user(cloud_of_all):
    account, stack = "700000000002", deployed.PERSON_STACK.format("taro")
    cloud_of_all.deploy(account, ACCESS | SLACK)
    outputs = cloud_of_all.person(account, "taro", PreparedUser="prd-taro")
    name = f"sekisho-door-taro-{REGION}"
    assert outputs["DoorRoleArn"] == f"arn:aws:iam::{account}:role/{name}"
    cloudformation, iam = (cloud_of_all.client(account, service) for service in ("cloudformation", "iam"))
    cloudformation.delete_stack(StackName=stack)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_role(RoleName=name)
    assert iam.get_user(UserName="prd-taro")


@pytest.mark.parametrize("name", ["board", "hub", "approvers", "Hana", "1a", "hana_k", "a" * 33, ""])
def test_a_name_that_is_no_door_is_refused(cloud_of_all, name):
    cloudformation = cloud_of_all.client("700000000003", "cloudformation")
    with pytest.raises(botocore.exceptions.ClientError, match="Parameter 'DoorName' must be up to 32"):
        cloudformation.create_stack(
            StackName="refused",
            TemplateBody=deployed.PERSON.read_text(),
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[{"ParameterKey": "DoorName", "ParameterValue": name}],
        )


def test_the_longest_name_fits(cloud_of_all):
    """A role's name has at most 64 characters."""
    cloud_of_all.person("700000000003", "a" * 32)
    longest = max(map(len, ("ap-southeast-1", REGION)))
    assert len(f"sekisho-door-{'a' * 32}-") + longest <= 64
