"""`make validate` lets Access Analyzer check each policy, makes a change set, and leaves nothing behind."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest

from tests.template import deployed
from tests.tools.faults import T
from tests.tools.runner import run, write_config
from tools.layout import REGION, STACK
from tools.operations.environment import environment
from tools.operations.expansion import policies
from tools.operations.validate import OBJECT

# The template is not deployed to this account.
PRODUCTION = "333333333333"


class Analyzer(BaseHTTPRequestHandler):
    """A fake of Access Analyzer's ValidatePolicy, which reports one action as wrong."""

    seen: ClassVar[list[tuple[str, dict]]] = []
    wrong = "sns:Publish"

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        request = json.loads(self.rfile.read(length))
        assert urlsplit(self.path).path == "/policy/validation", self.path
        assert parse_qs(urlsplit(self.path).query).keys() <= {"maxResults", "nextToken"}
        self.seen.append((request["policyType"], json.loads(request["policyDocument"])))
        findings = []
        if self.wrong in request["policyDocument"]:
            findings.append(
                {
                    "findingDetails": f"The action {self.wrong} does not exist.",
                    "findingType": "ERROR",
                    "issueCode": "INVALID_ACTION",
                    "learnMoreLink": "https://docs.aws.amazon.com/",
                    "locations": [{"path": [{"value": "Statement"}, {"index": 0}], "span": _SPAN}],
                }
            )
        answer = json.dumps({"findings": findings}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_arguments):
        """Overrides the method of the base class, so that the server writes no log."""


_PLACE = {"line": 1, "column": 1, "offset": 0}
_SPAN = {"start": _PLACE, "end": _PLACE}


@contextmanager
def analyzer(wrong):
    """Runs the fake of Access Analyzer, and yields its URL and the list of policies that it receives."""
    Analyzer.wrong, Analyzer.seen = wrong, []
    server = HTTPServer(("127.0.0.1", 0), Analyzer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", Analyzer.seen
    finally:
        server.shutdown()
        server.server_close()


def with_analyzer(config, url):
    """Changes every profile of the AWS config file, so that its calls to Access Analyzer go to that URL."""
    services = f"[services fake]\naccessanalyzer =\n  endpoint_url = {url}\n"
    text = config.read_text().replace("[profile ", "services = fake\n[profile ")
    config.write_text(text.removeprefix("services = fake\n") + "services = fake\n" + services)


@pytest.fixture(scope="module")
def sam_bucket(cloud):
    """The stack in both accounts with the bucket for sam's uploads, which sam creates at the first deployment."""
    for account in (T, PRODUCTION):
        bucket = f"aws-sam-cli-managed-default-samclisourcebucket-{account}"
        template = {
            "Resources": {"Bucket": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": bucket}}},
            "Outputs": {"SourceBucket": {"Value": {"Ref": "Bucket"}}},
        }
        cloudformation = cloud.client(account, "cloudformation")
        cloudformation.create_stack(StackName="aws-sam-cli-managed-default", TemplateBody=json.dumps(template))
        waiter = cloudformation.get_waiter("stack_create_complete")
        waiter.wait(StackName="aws-sam-cli-managed-default", WaiterConfig={"Delay": 1, "MaxAttempts": 30})


def change_sets(cloud, account):
    return cloud.client(account, "cloudformation").list_change_sets(StackName=STACK)["Summaries"]


def test_every_policy_is_shown_with_its_values(config):
    with analyzer("no:SuchAction") as (url, seen):
        with_analyzer(config, url)
        code, output = run(config, "validate", "local-test")
    assert f"Access Analyzer read {len(seen)} policies: no findings." in output
    assert code == 0, output
    text = json.dumps(seen)
    assert "Fn::" not in text and '"Ref"' not in text and "${AWS::" not in text
    assert f"arn:aws:s3:::sekisho-artifacts-{T}-{REGION}/*" in text
    assert {kind for kind, _ in seen} == {"IDENTITY_POLICY", "RESOURCE_POLICY"}


def test_the_expanded_policies_are_those_that_are_deployed(cloud):
    """The only differences are values that a deployment creates, such as the id of a key."""
    session = boto3.Session(region_name=REGION)
    expected = {one.name: one.document for one in policies(environment("local-test"), session)}
    iam = cloud.client(T, "iam")
    role, name = f"sekisho-pipeline-starter-{REGION}", "pipeline-starter"
    found = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    assert expected["PipelineStarterRole (pipeline-starter)"] == found
    role = f"sekisho-source-action-{REGION}"
    found = policies(environment("local-repository"), session)
    (trust,) = [one.document for one in found if one.name == "SourceActionRole (trust)"]
    assert trust == cloud.client("111111111111", "iam").get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
    (images,) = [one for one in found if one.name == "ImageRepository"]
    deployed_there = cloud.client("111111111111", "ecr").get_repository_policy(repositoryName="shop")["policyText"]
    without = [{key: value for key, value in one.items() if key != "Resource"} for one in images.document["Statement"]]
    assert (images.kind, without) == ("RESOURCE_POLICY", json.loads(deployed_there)["Statement"])
    assert {one["Resource"] for one in images.document["Statement"]} == {"*"}


def test_an_error_in_a_policy_fails_the_command(config):
    with analyzer("codepipeline:StartPipelineExecution") as (url, _):
        with_analyzer(config, url)
        code, output = run(config, "validate", "local-test")
    assert code == 1, output
    assert "ERROR  PipelineStarterRole (pipeline-starter): The action" in output
    assert "INVALID_ACTION, Statement[0]: https://docs.aws.amazon.com/" in output


def test_what_cannot_be_validated_is_reported(cloud, tmp_path):
    config = tmp_path / "config"
    write_config(cloud, config, production="444444444444")
    text = (
        (deployed.ROOT / "samconfig.toml").read_text().replace(f'account = "{PRODUCTION}"', 'account = "444444444444"')
    )
    (tmp_path / "samconfig.toml").write_text(text)
    code, output = run(config, "validate", "local-production", SAMCONFIG=str(tmp_path / "samconfig.toml"))
    assert code == 0, output
    assert "Not validated: the policies (Access Analyzer: " in output
    assert "Not validated: the change set (no template could be put into sam's bucket" in output


@pytest.mark.usefixtures("sam_bucket")
def test_a_change_set_is_made_and_deleted(cloud, config):
    code, output = run(config, "validate", "local-test")
    assert code == 0, output
    assert f"CloudFormation made a change set for stack {STACK}, which was deleted again" in output
    assert change_sets(cloud, T) == []
    status = cloud.client(T, "cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]["StackStatus"]
    assert status.endswith("_COMPLETE")


@pytest.mark.usefixtures("sam_bucket")
def test_a_stack_that_does_not_exist_yet_leaves_nothing(cloud, config):
    write_config(cloud, config, production=PRODUCTION)
    code, output = run(config, "validate", "local-production")
    assert code == 0, output
    assert "which was deleted again: Add" in output
    stacks = cloud.client(PRODUCTION, "cloudformation").describe_stacks()["Stacks"]
    assert [one["StackName"] for one in stacks] == ["aws-sam-cli-managed-default"]
    s3 = cloud.client(PRODUCTION, "s3")
    (bucket,) = [one["Name"] for one in s3.list_buckets()["Buckets"]]
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [OBJECT]


@pytest.mark.usefixtures("sam_bucket")
def test_a_template_that_cloudformation_refuses_fails_the_command(config, tmp_path):
    text = (deployed.ROOT / "samconfig.toml").read_text().replace('"ArtifactWrites=repair"', '"ArtifactWrites=never"')
    (tmp_path / "samconfig.toml").write_text(text)
    code, output = run(config, "validate", "local-test", SAMCONFIG=str(tmp_path / "samconfig.toml"))
    assert code == 1, output
    assert "CloudFormation" in output and "ArtifactWrites" in output
