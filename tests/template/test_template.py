"""The template: lint, contracts, and every combination of duties in one account."""

import itertools
import json
import pathlib
import subprocess
import sys
import zlib

import botocore.exceptions
import pytest
from template import deployed

DUTIES = ["HostsRepositories", "HostsPipelines", "GrantsAccess"]
OUTPUTS = {
    "HostsRepositories": {"EventRelayArn", "EventRelayRoleArn", "SourceActionRoleArn"},
    "HostsPipelines": {"EventBusArn", "PipelineStarterArn", "PipelineStarterRoleArn", "PipelineRoleArn", "ArtifactBucketName",
                       "ArtifactKeyArn", "ArtifactCheckerArn", "ArtifactCheckerRoleArn"},
    "GrantsAccess": {"TempAccessArn", "TempAccessRoleArn", "AccessBoundaryArn"},
}
NAMES = {
    "EventRelay": ("sekisho-event-relay", "event-relay"), "PipelineStarter": ("sekisho-pipeline-starter", "pipeline-starter"),
    "TempAccess": ("temp-access", "temp-access"), "ArtifactChecker": ("sekisho-artifact-checker", "artifact-checker"),
}


def lint(*arguments):
    done = subprocess.run([pathlib.Path(sys.executable).with_name("cfn-lint"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_source_is_clean():
    lint(str(deployed.TEMPLATE))


def test_the_expanded_template_is_clean(tmp_path):
    file = tmp_path / "expanded.json"
    file.write_text(json.dumps(deployed.expanded()))
    lint(str(file))


def test_the_only_transform_is_sam():
    assert deployed.source()["Transform"] == "AWS::Serverless-2016-10-31"


def test_functions_have_the_names_that_others_use():
    functions = {name: one for name, one in deployed.source()["Resources"].items() if one["Type"] == "AWS::Serverless::Function"}
    assert {name: (one["Properties"]["FunctionName"], one["Metadata"]["BuildProperties"]["Binary"]) for name, one in functions.items()} == NAMES


def test_sam_makes_no_role_of_its_own():
    roles = {name for name, one in deployed.expanded()["Resources"].items() if one["Type"] == "AWS::IAM::Role"}
    assert roles == {name for name, one in deployed.source()["Resources"].items() if one["Type"] == "AWS::IAM::Role"}


@pytest.fixture(scope="module")
def cloud():
    with deployed.cloud() as cloud:
        yield cloud


COMBINATIONS = [[duty for duty, has in zip(DUTIES, chosen) if has] for chosen in itertools.product([False, True], repeat=3)]


@pytest.mark.parametrize("number", range(len(COMBINATIONS)), ids=lambda number: "+".join(COMBINATIONS[number]) or "none")
def test_the_duties_combine_in_any_way(cloud, number):
    duties = COMBINATIONS[number]
    outputs = cloud.deploy(f"10000000000{number}", dict.fromkeys(duties, "true"))
    assert set(outputs) == {"LedgerTableName"}.union(*(OUTPUTS[duty] for duty in duties))


def test_a_stack_of_its_own_trusts_its_own_account(cloud):
    """With no partner named, all duties together in one account deal with each other."""
    cloud.deploy("200000000000", dict.fromkeys(DUTIES, "true"))
    role = cloud.client("200000000000", "iam").get_role(RoleName=f"sekisho-source-action-{deployed.REGION}")["Role"]
    assert role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {"AWS": ["arn:aws:iam::200000000000:root"]}


def test_deleting_the_stack_keeps_ledger_and_artifacts(cloud):
    account = "200000000001"
    key_arn = cloud.deploy(account, {"HostsPipelines": "true"})["ArtifactKeyArn"]
    s3, cloudformation = cloud.client(account, "s3"), cloud.client(account, "cloudformation")
    bucket = f"sekisho-artifacts-{account}-{deployed.REGION}"
    cloudformation.delete_stack(StackName=deployed.STACK)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=deployed.STACK, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    assert s3.head_bucket(Bucket=bucket)
    assert cloud.client(account, "kms").describe_key(KeyId=key_arn)["KeyMetadata"]["KeyState"] == "Enabled"
    table = cloud.client(account, "dynamodb").describe_table(TableName="sekisho-ledger")["Table"]
    assert table["DeletionProtectionEnabled"] is True


def test_no_parameter_replaces_key_bucket_or_ledger(cloud):
    """An update of other parameters leaves the key in place; table and bucket have fixed names, which CloudFormation never replaces."""
    account, kept = "200000000002", ["ArtifactKey", "ArtifactBucket", "Ledger"]
    cloud.deploy(account, {"HostsPipelines": "true"})
    cloudformation = cloud.client(account, "cloudformation")

    def physical():
        return {one: cloudformation.describe_stack_resource(StackName=deployed.STACK, LogicalResourceId=one)["StackResourceDetail"]
                ["PhysicalResourceId"] for one in kept}

    before = physical()
    turned = {"HostsRepositories": "true", "HostsPipelines": "true", "GrantsAccess": "true", "RepositoryAccountId": "111111111111",
              "PipelineAccountIds": "222222222222,333333333333", "Architecture": "x86_64", "LogRetentionDays": "7",
              "AlarmEmail": "somebody@example.com", "ArtifactWrites": "repair", "ManagesPipeline": "true", "RequiresApproval": "true",
              "PipelineName": "other"}
    cloudformation.update_stack(
        StackName=deployed.STACK, UsePreviousTemplate=True, Capabilities=["CAPABILITY_NAMED_IAM"],
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in turned.items()])
    cloudformation.get_waiter("stack_update_complete").wait(StackName=deployed.STACK, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    assert physical() == before


@pytest.mark.parametrize(("parameters", "said"), [
    ({"SlackWorkspaceId": "T07EA123LEP"}, "give both, or none"),
    ({"ManagesPipeline": "true"}, "ManagesPipeline needs HostsPipelines=true"),
    ({"ManagesRepository": "true"}, "ManagesRepository needs HostsRepositories=true"),
    ({"HostsPipelines": "true", "ManagesPipeline": "true", "RepositoryRegion": "eu-west-1"}, "the stack's own region"),
    ({"RepositoryAccountId": "1234"}, "an account id of 12 digits"),
    ({"PipelineAccountIds": "222222222222,shop"}, "account ids of 12 digits"),
    ({"PipelineName": "sekisho"}, "must not be named like this stack's own parts"),
])
def test_parameters_that_contradict_are_refused(cloud, parameters, said):
    account = f"3{zlib.crc32(said.encode()) % 10**11:011}"
    with pytest.raises(botocore.exceptions.ClientError, match=said):
        cloud.deploy(account, parameters)
