"""The template: linters, contracts with the functions, and every combination of duties in one account."""

import itertools
import json
import pathlib
import re
import subprocess
import sys
import zlib
from typing import Any

import boto3
import botocore.exceptions
import botocore.session
import pytest
from samtranslator.yaml_helper import yaml_parse

from tests.template import deployed, handlers

DUTIES = ["HostsRepositories", "HostsPipelines", "GrantsAccess"]
OUTPUTS = {
    "HostsRepositories": {"EventRelayArn", "EventRelayRoleArn", "SourceActionRoleArn", "ReportBusArn"},
    "HostsPipelines": {
        "EventBusArn",
        "PipelineStarterArn",
        "PipelineStarterRoleArn",
        "PipelineRoleArn",
        "ArtifactBucketName",
        "ArtifactKeyArn",
        "ArtifactCheckerArn",
        "ArtifactCheckerRoleArn",
    },
    "GrantsAccess": {"TempAccessArn", "TempAccessRoleArn", "AccessBoundaryArn", "WindowPolicyArn"},
}
NAMES = {
    "EventRelay": ("sekisho-event-relay", "event-relay"),
    "PipelineStarter": ("sekisho-pipeline-starter", "pipeline-starter"),
    "TempAccess": ("temp-access", "temp-access"),
    "ArtifactChecker": ("sekisho-artifact-checker", "artifact-checker"),
    "ArtifactSweeper": ("sekisho-artifact-sweeper", "artifact-checker"),
}


def lint(*arguments):
    done = subprocess.run(
        [pathlib.Path(sys.executable).with_name("cfn-lint"), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_source_is_clean():
    lint(str(deployed.TEMPLATE))


def test_the_expanded_template_is_clean(tmp_path):
    file = tmp_path / "expanded.json"
    template = deployed.expanded()
    # tests/iam/test_boundary.py checks the boundary's actions against a newer list.
    template["Resources"]["AccessBoundary"]["Metadata"] = {"cfn-lint": {"config": {"ignore_checks": ["W3037"]}}}
    file.write_text(json.dumps(template))
    lint(str(file))


def test_the_only_transform_is_sam():
    assert deployed.source()["Transform"] == "AWS::Serverless-2016-10-31"


def test_functions_have_the_names_that_others_use():
    functions = {
        name: one for name, one in deployed.source()["Resources"].items() if one["Type"] == "AWS::Serverless::Function"
    }
    assert {
        name: (one["Properties"]["FunctionName"], one["Metadata"]["BuildProperties"]["Binary"])
        for name, one in functions.items()
    } == NAMES


def test_sam_makes_no_role_of_its_own():
    roles = {name for name, one in deployed.expanded()["Resources"].items() if one["Type"] == "AWS::IAM::Role"}
    assert roles == {name for name, one in deployed.source()["Resources"].items() if one["Type"] == "AWS::IAM::Role"}


@pytest.fixture(scope="module")
def cloud():
    with deployed.cloud() as cloud:
        yield cloud


COMBINATIONS = [
    [duty for duty, has in zip(DUTIES, chosen, strict=True) if has]
    for chosen in itertools.product([False, True], repeat=3)
]


@pytest.mark.parametrize(
    "number", range(len(COMBINATIONS)), ids=lambda number: "+".join(COMBINATIONS[number]) or "none"
)
def test_the_duties_combine_in_any_way(cloud, number):
    duties = COMBINATIONS[number]
    outputs = cloud.deploy(f"10000000000{number}", dict.fromkeys(duties, "true"))
    assert set(outputs) == {"LedgerTableName", "BoardUrl"}.union(*(OUTPUTS[duty] for duty in duties))
    name = outputs["BoardUrl"].rpartition("/")[2]
    dashboard = cloud.client(f"10000000000{number}", "cloudwatch").get_dashboard(DashboardName=name)
    body = json.loads(dashboard["DashboardBody"])
    pipelines = "HostsPipelines" in duties
    assert set(body) == {"start", "widgets"} and len(body["widgets"]) == 1 + 3 * len(duties) + 3 * pipelines


def test_a_stack_without_another_account_trusts_its_own(cloud):
    """If the parameters name no other account, all duties work together in one account."""
    cloud.deploy("200000000000", dict.fromkeys(DUTIES, "true"))
    role = cloud.client("200000000000", "iam").get_role(RoleName=f"sekisho-source-action-{deployed.REGION}")["Role"]
    assert role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {"AWS": ["arn:aws:iam::200000000000:root"]}


def test_deleting_the_stack_keeps_ledger_and_artifacts(cloud):
    account = "200000000001"
    key_arn = cloud.deploy(account, {"HostsPipelines": "true", "ArtifactWrites": "repair"})["ArtifactKeyArn"]
    s3, cloudformation, dynamodb = (cloud.client(account, service) for service in ("s3", "cloudformation", "dynamodb"))
    bucket = f"sekisho-artifacts-{account}-{deployed.REGION}"
    # An administrator may not use the artifact key, so this object is under S3's own key.
    s3.put_object(Bucket=bucket, Key="shop/Source/one", Body=b"an artifact", ServerSideEncryption="AES256")
    row = {"pk": {"S": "decision#pipeline-starter#2026-11-21"}, "sk": {"S": "one"}}
    dynamodb.put_item(TableName="sekisho-ledger", Item=row)
    cloudformation.delete_stack(StackName=deployed.STACK)
    cloudformation.get_waiter("stack_delete_complete").wait(
        StackName=deployed.STACK, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    assert s3.get_object(Bucket=bucket, Key="shop/Source/one")["Body"].read() == b"an artifact"
    assert cloud.client(account, "kms").describe_key(KeyId=key_arn)["KeyMetadata"]["KeyState"] == "Enabled"
    assert dynamodb.get_item(TableName="sekisho-ledger", Key=row)["Item"] == row
    assert dynamodb.describe_table(TableName="sekisho-ledger")["Table"]["DeletionProtectionEnabled"] is True


KEPT = ["ArtifactKey", "ArtifactBucket", "Ledger"]


def test_neither_parameters_nor_a_release_replace_key_bucket_or_ledger(cloud):
    account, template = "200000000002", deployed.expanded()
    # The managed pipeline needs the source role of the repository account.
    cloud.deploy("111111111111", {"HostsRepositories": "true", "PipelineAccountIds": account}, template)
    cloud.deploy(account, {"HostsPipelines": "true"}, template)
    cloudformation = cloud.client(account, "cloudformation")

    def physical():
        return {
            one: cloudformation.describe_stack_resource(StackName=deployed.STACK, LogicalResourceId=one)[
                "StackResourceDetail"
            ]["PhysicalResourceId"]
            for one in KEPT
        }

    before = physical()
    turned = {
        "HostsRepositories": "true",
        "HostsPipelines": "true",
        "GrantsAccess": "true",
        "RepositoryAccountId": "111111111111",
        "PipelineAccountIds": "222222222222,333333333333",
        "Architecture": "x86_64",
        "LogRetentionDays": "7",
        "AlarmEmail": "somebody@example.com",
        "ArtifactWrites": "repair",
        "ManagesPipeline": "true",
        "RequiresApproval": "true",
        "PipelineName": "other",
    }
    cloud.update(account, turned, template)
    assert physical() == before
    # A later release may make changes such as these.
    changed = {name: template["Resources"][name]["Properties"] for name in KEPT}
    changed["ArtifactKey"]["Description"] = "What pipelines hand on, and more"
    changed["ArtifactBucket"]["LifecycleConfiguration"]["Rules"][0]["ExpirationInDays"] = 30
    changed["Ledger"]["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] = False
    template["Resources"]["PipelineStarter"]["Properties"]["MemorySize"] = 256
    cloud.update(account, turned, template)
    memory = cloud.client(account, "lambda").get_function_configuration(FunctionName="sekisho-pipeline-starter")[
        "MemorySize"
    ]
    assert (memory, physical()) == (256, before)


def test_properties_that_would_replace_key_bucket_or_ledger_are_unchanged():
    """To change one of these properties, CloudFormation creates a new resource, and would abandon the old one."""
    found = {}
    for name in KEPT:
        one = deployed.source()["Resources"][name]
        fixed = handlers.create_only(one["Type"])
        found[name] = {key: value for key, value in one["Properties"].items() if key in fixed}
    assert found == {
        "ArtifactKey": {},
        "ArtifactBucket": {"BucketName": {"Fn::Sub": "sekisho-artifacts-${AWS::AccountId}-${AWS::Region}"}},
        "Ledger": {
            "TableName": "sekisho-ledger",
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        },
    }


# Wrong combinations and values of the parameters for images.
READERS = {"HostsRepositories": "true", "ImageRepositoryName": "shop", "ImageReaderOrgPaths": deployed.ORG_UNIT}
WRONG_IMAGES = [
    ({"ImageRepositoryName": "shop", "HostsPipelines": "true"}, "ImagesNeedTheirAccount", 0),
    (
        {"ImageRepositoryName": "shop", "HostsRepositories": "true", "HostsPipelines": "true"}
        | {"ManagesPipeline": "true", "RepositoryAccountId": "111111111111"},
        "ImagesNeedTheirAccount",
        1,
    ),
    (READERS | {"ImageRepositoryName": ""}, "ImageReadersNeedTheRepository", 0),
    (
        READERS
        | {"HostsRepositories": "false", "HostsPipelines": "true", "ManagesPipeline": "true"}
        | {"RepositoryAccountId": "111111111111"},
        "ImageReadersNeedTheRepository",
        1,
    ),
    (READERS | {"ImageRepositoryName": "Shop"}, "ImageRepositoryName", None),
    (READERS | {"ImageRepositoryName": "shop/"}, "ImageRepositoryName", None),
    (READERS | {"ImageRepositoryName": "s"}, "ImageRepositoryName", None),
    (READERS | {"ImageRepositoryName": "sh___op"}, "ImageRepositoryName", None),
    # Without the last slash, the pattern would match another unit whose id begins the same.
    (READERS | {"ImageReaderOrgPaths": deployed.ORG_UNIT.rstrip("/")}, "ImageReaderOrgPaths", None),
    (READERS | {"ImageReaderOrgPaths": f"{deployed.ORG_UNIT}*"}, "ImageReaderOrgPaths", None),
    (READERS | {"ImageReaderOrgPaths": f"{deployed.ORG_UNIT},"}, "ImageReaderOrgPaths", None),
    (READERS | {"ImageReaderOrgPaths": "o-a1b2c3d4e5/r-ab12/*/"}, "ImageReaderOrgPaths", None),
    (READERS | {"ImageReaderOrgPaths": "*/r-ab12/ou-ab12-11111111/"}, "ImageReaderOrgPaths", None),
]
PIPELINE = {"HostsPipelines": "true", "ManagesPipeline": "true", "RepositoryAccountId": "111111111111"}
# Wrong combinations and values of the parameters for approvals, for people of Identity Center, and for the hub.
ACCESS = {"GrantsAccess": "true"}
SLACK = {"SlackWorkspaceId": "T07EA123LEP", "SlackChannelId": "C07EZ1ABC23"}
APPROVERS = SLACK | {"ApproverSlackChannelId": "C07EZ1ABC24"}
CENTER = {"IdentityStoreId": "d-1234567890", "IdentityCenterRegion": "us-east-1"}
WRONG_ACCESS = [
    (APPROVERS, "ApproversNeedTheirAccount", 0),
    (ACCESS | {"ApproverSlackChannelId": "C07EZ1ABC24"}, "ApproversNeedTheirAccount", 1),
    (ACCESS | APPROVERS | {"ApproverSlackChannelId": "C07EZ1ABC23"}, "ApproversNeedTheirAccount", 2),
    (ACCESS | APPROVERS | {"ApproverSlackChannelId": "approvers"}, "ApproverSlackChannelId", None),
    (ACCESS | CENTER | {"IdentityCenterRegion": ""}, "IdentityCenterIsNamedWhole", 0),
    (ACCESS | CENTER | {"IdentityStoreId": ""}, "IdentityCenterIsNamedWhole", 0),
    (CENTER, "IdentityCenterIsNamedWhole", 1),
    (ACCESS | CENTER | {"IdentityStoreId": "ssoins-1234567890abcdef"}, "IdentityStoreId", None),
    (ACCESS | CENTER | {"IdentityCenterRegion": "Tokyo"}, "IdentityCenterRegion", None),
    ({"HubAccountId": "222222222222"}, "HubNeedsAccess", 0),
    (ACCESS | {"HubAccountId": "222222222222,333333333333"}, "HubAccountId", None),
]


@pytest.mark.parametrize(
    ("parameters", "by", "assertion"),
    [
        ({"SlackWorkspaceId": "T07EA123LEP"}, "SlackIsNamedWhole", 0),
        ({"ManagesPipeline": "true"}, "PipelineNeedsItsAccount", 0),
        ({"ManagesRepository": "true"}, "RepositoryNeedsItsAccount", 0),
        (
            PIPELINE | {"RepositoryRegion": "eu-west-1"},
            "PipelineNeedsItsAccount",
            1,
        ),
        ({"RepositoryAccountId": "1234"}, "RepositoryAccountId", None),
        ({"PipelineAccountIds": "222222222222,shop"}, "PipelineAccountIds", None),
        ({"PipelineName": "sekisho"}, "PipelineName", None),
        ({"PipelineName": "packages"}, "PipelineName", None),
        ({"PipelineName": "twenty-one-characters"}, "PipelineName", None),
        ({"LongPipelineName": "shop"}, "LongPipelineName", None),
        ({"LongPipelineName": "sekisho-and-many-characters"}, "LongPipelineName", None),
        # No other account is named, so the source role would be in this account. But this account hosts no
        # repositories, and so has no source role.
        ({"HostsPipelines": "true", "ManagesPipeline": "true"}, "PipelineNeedsItsAccount", 2),
        ({"SlackWorkspaceId": "T07EA123LEP", "SlackChannelId": "general"}, "SlackChannelId", None),
        (
            {"PipelineAccountIds": "222222222222", "PipelineOrgPath": deployed.ORG_UNIT},
            "PipelineAccountsAreNamedOnce",
            0,
        ),
        ({"PipelineOrgPath": "ou-ab12-11111111"}, "PipelineOrgPath", None),
        *WRONG_IMAGES,
        *WRONG_ACCESS,
        ({"TemplatePath": "template.yaml; id"}, "TemplatePath", None),
        ({"TemplatePath": "../template.yaml"}, "TemplatePath", None),
    ],
)
def test_parameters_that_contradict_are_refused(cloud, parameters, by, assertion):
    """A rule's assertion or a parameter's pattern refuses the parameters, with the description in the template."""
    template = deployed.source()
    if assertion is None:
        message = f"Parameter '{by}' {template['Parameters'][by]['ConstraintDescription']}"
    else:
        message = f"rule {by} failed: {template['Rules'][by]['Assertions'][assertion]['AssertDescription']}"
    account = f"3{zlib.crc32(json.dumps(parameters).encode()) % 10**11:011}"
    with pytest.raises(botocore.exceptions.ClientError, match=re.escape(message)):
        cloud.deploy(account, parameters)


def test_a_managed_pipeline_needs_an_account_that_hosts_repositories(cloud):
    """The refused account names itself as the account with the repositories, but hosts none."""
    parameters = PIPELINE | {"RepositoryAccountId": "400000000000"}
    with pytest.raises(botocore.exceptions.ClientError, match="rule PipelineNeedsItsAccount failed"):
        cloud.deploy("400000000000", parameters)
    cloud.deploy("400000000001", parameters | {"RepositoryAccountId": "400000000001", "HostsRepositories": "true"})


@pytest.mark.parametrize("region", ["cn-north-1", "us-gov-west-1", "eusc-de-east-1"])
@pytest.mark.parametrize("file", [deployed.TEMPLATE, deployed.BOOTSTRAP], ids=lambda file: file.name)
def test_another_partition_is_refused(cloud, file, region):
    """Without this refusal, the first ARN of the partition aws would fail when half of the resources exist."""
    template = yaml_parse(file.read_text())
    body = {"Rules": template["Rules"], "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}
    body["Parameters"] = {
        name: {"Type": "String", "Default": one.get("Default", "")} for name, one in template["Parameters"].items()
    }
    message = template["Rules"]["PartitionIsSupported"]["Assertions"][0]["AssertDescription"]
    with pytest.raises(botocore.exceptions.ClientError, match=re.escape(message)):
        cloud.client("400000000002", "cloudformation", region).create_stack(
            StackName="partition", TemplateBody=json.dumps(body)
        )


@pytest.mark.parametrize("file", [deployed.TEMPLATE, deployed.BOOTSTRAP], ids=lambda file: file.name)
def test_every_region_of_another_partition_is_refused(file):
    """The list of regions comes from botocore. A new region of another partition must be added to the rule."""
    rules = yaml_parse(file.read_text())["Rules"]
    listed = rules["PartitionIsSupported"]["Assertions"][0]["Assert"]["Fn::Not"][0]["Fn::Contains"][0]
    session = botocore.session.get_session()
    partitions = set(session.get_available_partitions()) - {"aws"}
    regions = {region for one in partitions for region in session.get_available_regions("sts", one)}
    assert regions - set(listed) == set()
    assert set(listed) & set(session.get_available_regions("sts")) == set()


def test_a_longer_pipeline_name_that_is_deployed_keeps_its_resources(cloud):
    """An earlier version allowed pipeline names of 50 characters. LongPipelineName keeps all names as they were."""
    account, name = "400000000003", "a-name-of-thirty-two-characters1"
    cloud.deploy(account, dict.fromkeys([*DUTIES, "ManagesPipeline"], "true") | {"LongPipelineName": name})
    assert cloud.client(account, "codepipeline").get_pipeline(name=name)["pipeline"]["name"] == name
    iam = cloud.client(account, "iam")
    (policy,) = iam.list_role_policies(RoleName=f"sekisho-cloudformation-{deployed.REGION}")["PolicyNames"]
    document = iam.get_role_policy(RoleName=f"sekisho-cloudformation-{deployed.REGION}", PolicyName=policy)
    text = json.dumps(document["PolicyDocument"])
    assert f"role/{name}-*" in text and f"function:{name}-*" in text and "shop" not in text


def test_the_source_role_is_created_before_the_managed_pipeline(cloud):
    """CodePipeline creates a pipeline only if its role can assume the role of its source action."""
    expanded = deployed.expanded()["Resources"]
    source, image = expanded["Pipeline"]["Properties"]["Stages"][0]["Actions"]
    for action in (source, image["Fn::If"][1]):
        assert action["RoleArn"]["Fn::If"][:2] == ["OwnRepositories", {"Fn::GetAtt": ["SourceActionRole", "Arn"]}]
    # The policy is a part of the role, so it exists as soon as the role does.
    assert expanded["SourceActionRole"]["Properties"]["Policies"]
    account = "400000000004"
    for parameters in ({}, {"RepositoryAccountId": account}):
        given = dict.fromkeys([*DUTIES, "ManagesPipeline"], "true") | parameters
        if parameters:
            cloud.update(account, given, deployed.expanded())
        else:
            cloud.deploy(account, given)
        structure = cloud.client(account, "codepipeline").get_pipeline(name="shop")["pipeline"]
        role = structure["stages"][0]["actions"][0]["roleArn"]
        assert role == f"arn:aws:iam::{account}:role/sekisho-source-action-{deployed.REGION}"


def test_every_parameter_has_a_label_and_is_in_one_group():
    template = deployed.source()
    interface = template["Metadata"]["AWS::CloudFormation::Interface"]
    grouped = [name for group in interface["ParameterGroups"] for name in group["Parameters"]]
    assert sorted(grouped) == sorted(template["Parameters"])
    labels = {name: label["default"] for name, label in interface["ParameterLabels"].items()}
    assert set(labels) == set(template["Parameters"])
    assert len(set(labels.values())) == len(labels)


def test_the_build_uses_options_that_sam_has():
    spec = deployed.source()["Resources"]["Build"]["Properties"]["Source"]["BuildSpec"]["Fn::Sub"][0]
    commands = yaml_parse(spec.replace("${Image}", " --image-repository"))["phases"]["build"]["commands"]
    used = {command.split()[1]: [word for word in command.split() if word.startswith("--")] for command in commands}
    assert list(used) == ["build", "package"]
    for command, options in used.items():
        help_ = subprocess.run(
            [pathlib.Path(sys.executable).with_name("sam"), command, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env={"SAM_CLI_TELEMETRY": "0", "HOME": "/nonexistent"},
        ).stdout
        assert [option for option in options if option not in help_] == []


# For each custom action, the variables whose values Chatbot requests from the person who runs the action by a button or
# by its alias.
ASKED = {
    "AskByAlias": {"user"},
    "ShowTrain": {"route"},
    "HoldTrain": {"why"},
    "PardonChange": {"why"},
    "AcceptTargets": {"why"},
}
# The values of a variable that decide which button appears, by the function that sends the notices.
SHOWN_BY = {
    "temp-access": ("access", {"open", "ended", "scheduled", "pending", "break-glass"}),
    "event-relay": ("train", {"condemned", "held", "unknown"}),
    "artifact-checker": ("repair", {"waiting"}),
}
SENT_BY = {"TrainsByChat": "event-relay", "RepairsByChat": "artifact-checker"}
ACTIONS = {
    name: one["Properties"] | {"Condition": one["Condition"]}
    for name, one in deployed.source()["Resources"].items()
    if one["Type"] == "AWS::Chatbot::CustomAction"
}
# The template can be deployed to the partition aws only.
REGIONS = boto3.Session().get_available_regions("lambda", "aws")


def test_the_commands_of_custom_actions_fit():
    """CreateCustomAction accepts 100 characters, although CloudFormation's schema allows more."""
    chatbot = botocore.session.get_session().get_service_model("chatbot")
    shape: Any = chatbot.shape_for("CustomActionDefinition")
    most = shape.members["CommandText"].metadata["max"]
    assert most == 100 and len(REGIONS) > 30 and len(ACTIONS) == 11
    for name, action in ACTIONS.items():
        for region in REGIONS:
            command = action["Definition"]["CommandText"]["Fn::Sub"].replace("${AWS::Region}", region)
            assert len(command) <= most, f"{name}: {command} has {len(command)}"


@pytest.mark.parametrize("name", ACTIONS)
def test_every_variable_of_a_custom_action_is_given_or_asked_for(name):
    used = set(
        re.findall(r"\$(\w+)", ACTIONS[name]["Definition"]["CommandText"]["Fn::Sub"].replace("${AWS::Region}", ""))
    )
    binary = SENT_BY.get(ACTIONS[name]["Condition"], "temp-access")
    notices = deployed.ROOT / "functions" / binary / "src"
    source = "\n".join(file.read_text() for file in [notices / "notice.rs", *notices.glob("notice/*.rs")])
    additional = re.findall(r'\("(\w+)", ', source)
    shown_by, values = SHOWN_BY[binary]
    assert "AliasName" in ACTIONS[name] or "Attachments" in ACTIONS[name]
    for attachment in ACTIONS[name].get("Attachments", []):
        variables = attachment.get("Variables", {})
        assert used - ASKED.get(name, set()) <= set(variables), attachment["ButtonText"]
        for one in attachment.get("Criteria", []):
            assert one["VariableName"] in variables
            assert one["VariableName"] != shown_by or (one["Value"] in values and f'"{one["Value"]}"' in source)
        for value in variables.values():
            where, _, field = value.rpartition(".")
            assert (where, field in additional) == ("event.metadata.additionalContext", True), value
