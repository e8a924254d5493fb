"""`make deploy` checks each fact before it builds, and reports all problems at once."""

import dataclasses

import boto3
import pytest
from botocore.stub import Stubber

from tests.template import deployed
from tests.tools.faults import (
    PIPELINE,
    SOURCE,
    R,
    T,
    report_bus_admits_another_account,
    source_role_trusts_another_account,
)
from tests.tools.runner import run, write_config
from tools.failure import Failure
from tools.layout import LEDGER, REGION, ROOT, STACK
from tools.operations import preflight as checks
from tools.operations.deployment import Deployment, Unknown
from tools.operations.environment import environment

DENIED = "AccessDeniedException"


def target(**parameters):
    """Returns the environment `production` with additional parameters."""
    found = environment("production")
    return dataclasses.replace(found, parameters=found.parameters | parameters)


class Stubbed(Deployment):
    """A deployment whose clients return prepared answers. Each answer is checked against the service's model."""

    def __init__(self, found, **answers):
        super().__init__(found)
        self.answers = answers

    def client(self, service, region=None):
        client = boto3.client(service, region_name=region or REGION, aws_access_key_id="a", aws_secret_access_key="b")
        stubber = Stubber(client)
        for operation, answer in self.answers[service.replace("-", "_")]:
            if isinstance(answer, str):
                stubber.add_client_error(operation, answer)
            else:
                stubber.add_response(operation, answer)
        stubber.activate()
        return client


def problems(check, deployment):
    return [(one.blocks, one.text, one.fix) for one in check(deployment)]


# Checks of the Slack channel and its workspace

SLACK = {"SlackWorkspaceId": "T07EA123LEP", "SlackChannelId": "C07EZ1ABC23"}


def channels(*names, channel=SLACK["SlackChannelId"]):
    configurations = [
        {
            "SlackTeamName": "team",
            "SlackTeamId": SLACK["SlackWorkspaceId"],
            "SlackChannelId": channel,
            "SlackChannelName": "deploy",
            "ChatConfigurationArn": f"arn:aws:chatbot::333333333333:chat-configuration/slack-channel/{name}",
            "IamRoleArn": "arn:aws:iam::333333333333:role/chat",
            "SnsTopicArns": [],
        }
        for name in names
    ]
    return [("describe_slack_channel_configurations", {"SlackChannelConfigurations": configurations})]


def test_a_channel_can_be_configured_only_once_in_an_account():
    deployment = Stubbed(target(**SLACK), chatbot=channels("by-hand"))
    ((blocks, text, fix),) = problems(checks.channel_is_free, deployment)
    assert blocks and "C07EZ1ABC23 is already configured in account 333333333333, as by-hand" in text
    assert "delete the configuration by-hand" in fix
    # A configuration that the same stack created in another region is a problem, too.
    assert problems(
        checks.channel_is_free, Stubbed(target(**SLACK), chatbot=channels("sekisho-333333333333-us-east-1"))
    )


def test_the_stacks_own_channel_and_other_channels_are_no_problem():
    own = channels(f"sekisho-333333333333-{REGION}")
    assert problems(checks.channel_is_free, Stubbed(target(**SLACK), chatbot=own)) == []
    other = channels("by-hand", channel="C00000000OT")
    assert problems(checks.channel_is_free, Stubbed(target(**SLACK), chatbot=other)) == []
    assert problems(checks.channel_is_free, Stubbed(target())) == []


def workspaces(*found):
    listed = [{"SlackTeamId": one, "SlackTeamName": "team", "State": state} for one, state in found]
    return [("describe_slack_workspaces", {"SlackWorkspaces": listed})]


@pytest.mark.parametrize(
    ("found", "authorized"),
    [([("T07EA123LEP", "ENABLED")], True), ([("T07EA123LEP", "DISABLED")], False), ([("TOTHER", "ENABLED")], False)],
)
def test_the_workspace_has_to_be_authorized(found, authorized):
    deployment = Stubbed(target(**SLACK), chatbot=workspaces(*found))
    reported = problems(checks.workspace_is_authorized, deployment)
    assert (reported == []) is authorized
    assert authorized or "not authorized for Slack workspace T07EA123LEP" in reported[0][1]


# Checks of the account


@pytest.mark.parametrize(
    ("status", "enabled"), [("ENABLED", True), ("ENABLED_BY_DEFAULT", True), ("DISABLED", False), ("ENABLING", False)]
)
def test_the_region_has_to_be_enabled(status, enabled):
    answer = {"RegionName": REGION, "RegionOptStatus": status}
    deployment = Stubbed(target(), account=[("get_region_opt_status", answer)])
    reported = problems(checks.region_is_enabled, deployment)
    assert (reported == []) is enabled
    assert enabled or f"aws account enable-region --region-name {REGION}" in reported[0][2]


@pytest.mark.parametrize(("limit", "noted"), [(10, True), (1000, False)])
def test_a_small_quota_of_lambda_is_noted_and_does_not_block(limit, noted):
    deployment = Stubbed(
        target(), **{"lambda": [("get_account_settings", {"AccountLimit": {"ConcurrentExecutions": limit}})]}
    )
    assert [blocks for blocks, _, _ in problems(checks.quotas_suffice, deployment)] == ([False] if noted else [])


@pytest.mark.parametrize(
    ("limit", "reserved", "blocked"),
    [(104, "5", True), (105, "5", False), (105, "0", False), (1000, "4", True), (1000, "1", True)],
)
def test_a_reservation_that_lambda_would_refuse_or_that_is_too_small_blocks(limit, reserved, blocked):
    answer = {"AccountLimit": {"ConcurrentExecutions": limit}}
    deployment = Stubbed(target(AccessConcurrency=reserved), **{"lambda": [("get_account_settings", answer)]})
    assert [blocks for blocks, _, _ in problems(checks.quotas_suffice, deployment)] == ([True] if blocked else [])


@pytest.mark.parametrize(("limit", "sweeping", "blocks"), [(100, "50", []), (100, "51", [False]), (100, "100", [True])])
def test_a_sweep_must_leave_some_concurrency_to_the_others(limit, sweeping, blocks):
    answer = {"AccountLimit": {"ConcurrentExecutions": limit}}
    deployment = Stubbed(target(SweepConcurrency=sweeping), **{"lambda": [("get_account_settings", answer)]})
    assert [blocked for blocked, _, _ in problems(checks.quotas_suffice, deployment)] == blocks


@pytest.mark.parametrize(
    ("kind", "number", "noted"), [("ARM/Small", 0.0, True), ("ARM/Small", 1.0, False), ("Linux/Small", 0.0, None)]
)
def test_a_build_quota_of_0_is_noted_and_does_not_block(kind, number, noted):
    name = f"Concurrently running builds for {kind} environment"
    quotas = {"Quotas": [{"QuotaName": name, "Value": number}]}
    deployment = Stubbed(target(), service_quotas=[("list_service_quotas", quotas)])
    if noted is None:
        with pytest.raises(Unknown):
            problems(checks.builds_may_run, deployment)
    else:
        assert [blocks for blocks, _, _ in problems(checks.builds_may_run, deployment)] == ([False] if noted else [])


DEPLOYER = f"arn:aws:sts::333333333333:assumed-role/sekisho-deploy-{REGION}/me"


def deploy_role(outputs, caller=DEPLOYER):
    stack = {"StackName": "sekisho-deploy", "CreationTime": 0, "StackStatus": "CREATE_COMPLETE"}
    listed = [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()]
    described = {"Stacks": [stack | {"Outputs": listed}]}
    return Stubbed(
        target(),
        sts=[("get_caller_identity", {"Account": "333333333333", "Arn": caller})],
        cloudformation=[("describe_stacks", described)],
    )


def test_an_older_deploy_role_is_refused():
    ((blocks, text, fix),) = problems(checks.deploy_role_is_current, deploy_role({"DeployRoleArn": "arn"}))
    assert blocks and "has version 1" in text and "bootstrap/deploy-role.yaml" in fix
    assert problems(checks.deploy_role_is_current, deploy_role({"Version": "99"})) == []
    # An administrator's permissions do not depend on the version of the deploy role.
    administrator = "arn:aws:sts::333333333333:assumed-role/admin/me"
    assert problems(checks.deploy_role_is_current, deploy_role({}, administrator)) == []


def test_a_role_that_may_not_read_its_version_is_not_refused():
    deployment = deploy_role({})
    deployment.answers["cloudformation"] = [("describe_stacks", DENIED)]
    with pytest.raises(Unknown, match=r"deploy that template again"):
        problems(checks.deploy_role_is_current, deployment)


# Checks of samconfig.toml and the template


@pytest.mark.parametrize(
    ("parameters", "part"),
    [
        ({"HostsPipeline": "true"}, "HostsPipeline is no parameter of template.yaml, so sam would ignore it"),
        ({"PipelineName": "sekisho-x"}, "PipelineName=sekisho-x is not allowed"),
        ({"ArtifactWrites": "deny"}, "ArtifactWrites=deny is not allowed"),
        ({"LogRetentionDays": "91"}, "LogRetentionDays=91 is not allowed"),
        ({"PipelineAccountIds": ",".join(["222222222222"] * 56)}, "PipelineAccountIds="),
        ({"PipelineAccountIds": "222222222222, 333333333333"}, "PipelineAccountIds="),
    ],
)
def test_a_parameter_that_cloudformation_would_refuse_is_reported(parameters, part):
    ((blocks, text, _),) = problems(checks.parameters_are_valid, Stubbed(target(**parameters)))
    assert blocks and part in text


def test_the_committed_environments_are_valid():
    for name in ("repository", "test", "production", "local-repository", "local-test", "local-production"):
        for check in (checks.parameters_are_valid, checks.partners_are_the_environments):
            assert problems(check, Stubbed(environment(name))) == []


@pytest.mark.parametrize(
    ("more", "blocks"),
    [
        ({}, [True]),
        ({"ManagesPipeline": "false"}, [False]),
        ({"RepositoryAccountId": ""}, [True]),
        ({"RepositoryAccountId": R}, []),
        ({"HostsRepositories": "false"}, []),
        ({"PipelineAccountIds": "222222222222,333333333333"}, []),
        ({"PipelineAccountIds": ""}, []),
    ],
)
def test_an_account_with_both_duties_must_list_itself(more, blocks):
    found = target(
        **{
            "HostsRepositories": "true",
            "RepositoryAccountId": "333333333333",
            "PipelineAccountIds": "222222222222",
            **more,
        }
    )
    reported = problems(checks.own_pipelines_are_named, Deployment(found))
    assert [one[0] for one in reported] == blocks
    for _, _, fix in reported:
        assert fix.startswith("set PipelineAccountIds=222222222222,333333333333 in [production.deploy.parameters]")


@pytest.mark.parametrize("parameters", [{"RepositoryAccountId": "444444444444"}, {"RepositoryRegion": "eu-west-1"}])
def test_parameters_that_name_another_repository_account_are_reported(parameters):
    ((name, given),) = parameters.items()
    ((blocks, text, fix),) = problems(checks.partners_are_the_environments, Stubbed(target(**parameters)))
    assert blocks and given in text and name in fix


# Checks on the local cloud: the order of the accounts, what exists in the account, and all checks together

P = "333333333333"


@pytest.fixture
def place(cloud, tmp_path, monkeypatch):
    """An AWS config file with a profile for each of three accounts. The process of the test uses this file as well."""
    config = tmp_path / "config"
    write_config(cloud, config, repository=R, test=T, production=P)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setattr(checks, "has_rust_target", lambda _: True)
    return config


def refusal(found):
    """Returns the text with which the preflight refuses a deployment, or an empty text if it accepts the deployment."""
    try:
        checks.preflight(dataclasses.replace(found, asks=False))
    except Failure as failure:
        return str(failure)
    return ""


@pytest.mark.usefixtures("place")
def test_a_pipeline_account_with_the_repository_account_before_it_is_accepted():
    assert refusal(environment("production")) == ""


@pytest.mark.usefixtures("place")
def test_a_stack_is_updated_over_its_own_names():
    assert refusal(environment("test")) == ""


@pytest.mark.usefixtures("place")
def test_a_source_role_without_trust_is_refused_with_the_command(cloud):
    undo = source_role_trusts_another_account(cloud)
    try:
        text = refusal(environment("test"))
    finally:
        undo()
    assert f"Role {SOURCE} of account {R} does not trust arn:aws:iam::{T}:role/{PIPELINE} yet" in text
    assert "make deploy ENV=repository, and after that make deploy ENV=test" in text
    assert "\n1. " not in text, "only one thing is wrong"


@pytest.mark.usefixtures("place")
def test_a_bus_that_does_not_admit_the_reports_is_noted_and_does_not_block(cloud, capsys):
    assert problems(checks.report_bus_admits_the_starter, Deployment(environment("test"))) == []
    undo = report_bus_admits_another_account(cloud)
    try:
        assert refusal(environment("test")) == ""
    finally:
        undo()
    printed = capsys.readouterr().out
    assert f"Note: Bus sekisho of account {R} does not admit the reports of this account yet" in printed
    assert f"make deploy ENV=repository, with {T} in its PipelineAccountIds" in printed


@pytest.fixture(scope="module")
def empty():
    """A cloud without any stack."""
    with deployed.cloud() as cloud:
        yield cloud


def test_the_pipeline_account_first_is_refused_before_the_build(empty, tmp_path):
    config = tmp_path / "config"
    write_config(empty, config, repository=R, test=T)
    samconfig = tmp_path / "samconfig.toml"
    samconfig.write_text(
        (ROOT / "samconfig.toml")
        .read_text()
        .replace('"ManagesPipeline=true"', '"Architecture=x86_64",\n  "ManagesPipeline=true"')
    )
    code, output = run(config, "deploy", "test", SAMCONFIG=str(samconfig))
    assert code == 1, output
    assert f"Account {R} has no role {SOURCE} yet" in output
    assert (
        "deploy the repository account first: make deploy ENV=repository, and after that make deploy ENV=test" in output
    )
    assert "Building" not in output


def test_without_a_managed_pipeline_the_order_is_only_noted(empty, place, capsys):
    write_config(empty, place, repository=R, test=T)
    assert refusal(environment("local-test")) == ""
    assert f"Note: Account {R} has no role {SOURCE} yet" in capsys.readouterr().out


def test_a_repository_account_that_cannot_be_read_does_not_block(empty, place, capsys):
    write_config(empty, place, test=T)
    assert refusal(environment("test")) == ""
    assert "Could not be checked: the source role of the repository account" in capsys.readouterr().out


def test_one_account_with_all_duties_needs_no_earlier_one(empty, place):
    write_config(empty, place, production=P)
    found = environment("production")
    parameters = {"HostsRepositories": "true", "HostsPipelines": "true", "ManagesPipeline": "true"}
    own = dataclasses.replace(found, repositories="production", parameters=parameters)
    assert refusal(own) == ""


def test_everything_that_is_wrong_is_reported_at_once(empty, place):
    write_config(empty, place, repository=R, test=T)
    dynamodb, s3 = empty.client(T, "dynamodb"), empty.client(T, "s3")
    dynamodb.create_table(
        TableName=LEDGER,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
    )
    bucket = f"sekisho-artifacts-{T}-{REGION}"
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    # A log group of this name exists if somebody already has a function of the name temp-access.
    empty.client(T, "logs").create_log_group(logGroupName="/aws/lambda/temp-access")
    events = empty.client(T, "events")
    events.create_event_bus(Name="sekisho")
    found = environment("test")
    wrong = dataclasses.replace(found, parameters=found.parameters | {"ArtifactWrites": "deny", "GrantsAccess": "true"})
    try:
        text = refusal(wrong)
    finally:
        dynamodb.delete_table(TableName=LEDGER)
        s3.delete_bucket(Bucket=bucket)
        events.delete_event_bus(Name="sekisho")
    for part in (
        "1. ",
        "ArtifactWrites=deny",
        "/aws/lambda/temp-access",
        f"a table {LEDGER}",
        "an event bus sekisho",
        f"a bucket {bucket}",
        f"no role {SOURCE} yet",
    ):
        assert part in text
    assert "6 problem(s)" in text and "make clean-start ENV=test" in text


def test_a_failed_first_deployment_is_refused_with_the_command_that_removes_it(empty, place):
    write_config(empty, place, repository=R, production=P)
    cloudformation = empty.client(P, "cloudformation")
    body = '{"Resources": {"Pipeline": {"Type": "AWS::CodePipeline::Pipeline", "Properties": {"Name": "x"}}}}'
    cloudformation.create_stack(StackName=STACK, TemplateBody=body)
    while cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]["StackStatus"] != "ROLLBACK_COMPLETE":
        pass
    text = refusal(environment("production"))
    cloudformation.delete_stack(StackName=STACK)
    assert "is ROLLBACK_COMPLETE: its first deployment failed" in text
    assert "make clean-start ENV=production PROFILE=" in text


def test_credentials_that_may_read_nothing_do_not_block(empty, place, capsys):
    """Only a problem that a check has found blocks a deployment. A check that can't read its fact does not block it."""
    iam = empty.client(P, "iam")
    iam.create_user(UserName="nobody")
    key = iam.create_access_key(UserName="nobody")["AccessKey"]
    text = f"[profile production]\nregion = {REGION}\nendpoint_url = {empty.endpoint}\n"
    text += f"aws_access_key_id = {key['AccessKeyId']}\naws_secret_access_key = {key['SecretAccessKey']}\n"
    place.write_text(text)
    assert refusal(target(**SLACK)) == ""
    assert capsys.readouterr().out.count("Could not be checked: ") >= 6


# The local cloud has no API of Chatbot and no Service Quotas, so this check can't read its fact.
ABSENT = {"the quota of CodeBuild suffices"}


def test_the_deploy_role_may_check_every_fact(config_of_deployer, monkeypatch, capsys):
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config_of_deployer))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setattr(checks, "has_rust_target", lambda _: True)
    assert refusal(environment("test")) == ""
    output = capsys.readouterr().out
    unchecked = {line.removeprefix("Could not be checked: ").partition(" (")[0] for line in output.splitlines()}
    assert unchecked == ABSENT, output
