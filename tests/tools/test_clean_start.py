"""`make clean-start` removes a failed first deployment, but nothing of a stack that was deployed successfully."""

import dataclasses
import datetime
import json
import os
import pathlib
import pty
import subprocess
import sys
import time

import pytest
from botocore.exceptions import ClientError, WaiterError

from tests.local_cloud.accounts import document
from tests.template import deployed
from tests.tools.faults import PARAMETERS, R, T
from tests.tools.runner import run, write_config
from tools.git import Clone
from tools.layout import LEDGER, REGION, ROOT, STACK
from tools.local_stack import images
from tools.operations import clean_start, stack_history
from tools.operations.leftovers import Leftover

TABLE = {
    "TableName": LEDGER,
    "BillingMode": "PAY_PER_REQUEST",
    "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
    "DeletionProtectionEnabled": True,
}
LOGS = "/aws/lambda/temp-access"
FAILS = {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": {"Fn::GetAtt": ["Ledger", "NoSuchAttribute"]}}}


class Place:
    """One account of the cloud, with its own samconfig.toml and its own profile."""

    def __init__(self, cloud, folder, account):
        self.cloud, self.account, self.folder = cloud, account, folder
        self.bucket = f"sekisho-artifacts-{account}-{REGION}"
        self.config, self.samconfig = folder / "aws", folder / "samconfig.toml"
        write_config(cloud, self.config, mine=account)
        self.samconfig.write_text(
            f'[mine.sekisho]\naccount = "{account}"\nrepositories = "mine"\n'
            f'[mine.global.parameters]\nstack_name = "{STACK}"\nregion = "{REGION}"\nprofile = "mine"\n'
            '[mine.deploy.parameters]\nparameter_overrides = ["HostsPipelines=true", "RepositoryName=code", '
            '"HostsRepositories=true", "ImageRepositoryName=images"]\n'
        )

    def client(self, service):
        return self.cloud.client(self.account, service)

    def template(self, *, fails=True):
        """Returns a template with the resources that the real one retains and, with `fails`, a resource that fails."""

        def kept(kind, **properties):
            return {"Type": kind, "DeletionPolicy": "Retain", "Properties": properties}

        resources = {
            "Ledger": kept("AWS::DynamoDB::Table", **TABLE),
            "ArtifactBucket": kept("AWS::S3::Bucket", BucketName=self.bucket),
            "ArtifactKey": kept("AWS::KMS::Key", KeyPolicy={}),
            "Repository": kept("AWS::CodeCommit::Repository", RepositoryName="code"),
            "ImageRepository": kept("AWS::ECR::Repository", RepositoryName="images"),
            "TempAccessLogs": {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": LOGS}},
        }
        failing = {"Fails": FAILS | {"DependsOn": list(resources)}} if fails else {}
        return json.dumps({"Resources": resources | failing})

    def create(self, status, **changes):
        """Creates the stack, and waits until the stack has the status."""
        cloudformation = self.client("cloudformation")
        cloudformation.create_stack(StackName=STACK, TemplateBody=self.template(**changes))
        wait(lambda: self.status() == status)

    def delete(self):
        self.client("cloudformation").delete_stack(StackName=STACK)
        wait(lambda: self.status() is None)

    def status(self):
        try:
            return self.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]["StackStatus"]
        except ClientError:
            return None

    def left(self):
        """Returns which of the retained resources exist."""
        keys = [one["KeyId"] for one in self.client("kms").list_keys()["Keys"]]
        states = [self.client("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyState"] for key in keys]
        names = [one["repositoryName"] for one in self.client("codecommit").list_repositories()["repositories"]]
        return {
            "table": LEDGER in self.client("dynamodb").list_tables()["TableNames"],
            "bucket": self.bucket in [one["Name"] for one in self.client("s3").list_buckets()["Buckets"]],
            "repository": "code" in names,
            "images": bool(self.client("ecr").describe_repositories()["repositories"]),
            "key": "Enabled" in states,
        }

    def clean_start(self, *more):
        return run(self.config, "clean-start", "mine", *more, SAMCONFIG=str(self.samconfig))


ALL = dict.fromkeys(("table", "bucket", "repository", "images", "key"), True)
NOTHING = dict.fromkeys(ALL, False)


def wait(holds):
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture(scope="module")
def cloud():
    with deployed.cloud() as cloud:
        yield cloud


@pytest.fixture
def place(cloud, tmp_path):
    """An account without a stack.

    Only this account of the local cloud has CodeCommit, so the fixture empties the account after each test.
    """
    found = Place(cloud, tmp_path, "111111111111")
    yield found
    if found.status():
        found.delete()
    if found.left()["repository"]:
        found.client("codecommit").delete_repository(repositoryName="code")
    if found.left()["images"]:
        found.client("ecr").delete_repository(repositoryName="images", force=True)
    if found.left()["table"]:
        found.client("dynamodb").update_table(TableName=LEDGER, DeletionProtectionEnabled=False)
        found.client("dynamodb").delete_table(TableName=LEDGER)
    if found.left()["bucket"]:
        for one in found.client("s3").list_objects_v2(Bucket=found.bucket).get("Contents", []):
            found.client("s3").delete_object(Bucket=found.bucket, Key=one["Key"])
        found.client("s3").delete_bucket(Bucket=found.bucket)
    for one in found.client("kms").list_keys()["Keys"]:
        found.client("kms").schedule_key_deletion(KeyId=one["KeyId"], PendingWindowInDays=7)


def test_a_failed_first_deployment_is_shown_and_then_removed(place):
    place.create("ROLLBACK_COMPLETE")
    place.client("s3").put_object(Bucket=place.bucket, Key="code/Source/one", Body=b"x")
    # A function that writes to its log after the rollback has removed the log group creates the log group again.
    place.client("logs").create_log_group(logGroupName=LOGS)
    place.client("cloudformation").update_termination_protection(StackName=STACK, EnableTerminationProtection=True)
    code, output = place.clean_start()
    assert (code, place.status(), place.left()) == (0, "ROLLBACK_COMPLETE", ALL), output
    for what in (
        f"stack {STACK}",
        f"table {LEDGER}",
        f"bucket {place.bucket}",
        "repository code",
        "repository of images images",
        "key ",
    ):
        assert f"remove  {what}" in output, output
    assert "WRITE=1" in output

    code, output = place.clean_start("--write")
    assert (code, place.status(), place.left()) == (0, None, NOTHING), output
    assert "make deploy ENV=mine" in output
    assert place.client("logs").describe_log_groups(logGroupNamePrefix=LOGS)["logGroups"] == []
    code, output = place.clean_start("--write")
    assert (code, "Nothing is left" in output) == (0, True), output


def test_leftovers_of_a_failed_stack_that_was_deleted_by_hand_are_removed(place):
    place.create("ROLLBACK_COMPLETE")
    place.delete()
    assert place.left() == ALL
    code, output = place.clean_start("--write")
    assert (code, place.left()) == (0, NOTHING), output


def test_a_stack_that_was_deployed_is_never_touched(place):
    place.create("CREATE_COMPLETE", fails=False)
    code, output = place.clean_start("--write")
    assert (code, place.status(), place.left()) == (1, "CREATE_COMPLETE", ALL), output
    # A failed update makes no difference, because the stack was deployed successfully before.
    cloudformation = place.client("cloudformation")
    cloudformation.update_stack(StackName=STACK, TemplateBody=place.template())
    wait(lambda: place.status() == "UPDATE_ROLLBACK_COMPLETE")
    code, output = place.clean_start("--write")
    assert (code, place.status(), place.left()) == (1, "UPDATE_ROLLBACK_COMPLETE", ALL), output
    assert "deployed successfully" in output


def test_the_resources_of_a_deployed_stack_stay(place):
    """Even after a deployed stack is deleted, its ledger holds decisions, and its bucket holds artifacts."""
    place.create("CREATE_COMPLETE", fails=False)
    place.delete()
    code, output = place.clean_start("--write")
    assert (code, place.left()) == (0, ALL), output
    assert output.count("leave   ") >= 3, output


def event(status, logical=STACK, reason="", physical="id"):
    kind = stack_history.STACK_TYPE if logical == STACK else "AWS::DynamoDB::Table"
    return {
        "ResourceStatus": status,
        "LogicalResourceId": logical,
        "ResourceType": kind,
        "ResourceStatusReason": reason,
        "PhysicalResourceId": physical,
    }


NOON = datetime.datetime(2026, 11, 21, 12, 0, 0, 500, datetime.UTC)


def stack(*events, status="ROLLBACK_COMPLETE", created=NOON):
    """Returns the history of a stack. The parameter `events` begins with the oldest event."""
    return stack_history.StackHistory("arn", STACK, status, created, False, list(reversed(events)))


FAILED = [event("CREATE_IN_PROGRESS"), event("ROLLBACK_IN_PROGRESS"), event("ROLLBACK_COMPLETE")]
MADE = event("CREATE_COMPLETE", "Ledger", physical=LEDGER)


def leftover(seconds=30):
    created = NOON + datetime.timedelta(seconds=seconds)
    return Leftover("Ledger", LEDGER, "table", created, remove=pytest.fail)


@pytest.mark.parametrize(
    ("histories", "one", "part"),
    [
        ([stack(FAILED[0], MADE, *FAILED[1:])], leftover(), None),
        # The stack had begun to create the resource, and the rollback cancelled the creation.
        (
            [
                stack(
                    FAILED[0], event("CREATE_IN_PROGRESS", "Ledger", "Resource creation Initiated", LEDGER), *FAILED[1:]
                )
            ],
            leftover(),
            None,
        ),
        # Some services give times in whole seconds, so a resource may seem to be older than its stack.
        ([stack(FAILED[0], MADE, *FAILED[1:])], leftover(-0.0004), None),
        ([], leftover(), "no stack"),
        # The stack did not create the table, because a table of this name existed already.
        ([stack(FAILED[0], event("CREATE_FAILED", "Ledger", "exists", LEDGER), *FAILED[1:])], leftover(), "no stack"),
        ([stack(FAILED[0], MADE, *FAILED[1:])], leftover(-3600), "no stack"),
        ([stack(FAILED[0], event("CREATE_COMPLETE", "Ledger", physical="other"), *FAILED[1:])], leftover(), "no stack"),
        # The stack was deployed successfully, and deleted later.
        ([stack(FAILED[0], MADE, event("CREATE_COMPLETE"), status="DELETE_COMPLETE")], leftover(), "successfully"),
        ([stack(MADE, *FAILED[1:])], leftover(), "successfully"),
        (
            [stack(FAILED[0], MADE, *FAILED[1:])],
            dataclasses.replace(leftover(), obstacle="it has branches"),
            "branches",
        ),
    ],
)
def test_only_resources_of_a_failed_first_deployment_are_removed(histories, one, part):
    reason = clean_start.reason_to_leave(one, histories)
    assert (reason is None) == (part is None) and (part or "") in (reason or "")


@pytest.mark.parametrize(
    "later",
    ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE", "UPDATE_IN_PROGRESS"],
)
def test_a_stack_counts_as_deployed_whatever_came_later(later):
    assert not stack(*FAILED).was_deployed
    assert stack(FAILED[0], event(later), event("DELETE_FAILED"), status="DELETE_FAILED").was_deployed
    assert stack(*FAILED, status=later).was_deployed


def test_a_pipeline_account_has_no_repository_of_images_to_leave(place):
    """There, the parameter names a repository of another account."""
    place.client("ecr").create_repository(repositoryName="images")
    named = place.samconfig.read_text()
    _, output = place.clean_start()
    assert "repository of images images" in output
    place.samconfig.write_text(named.replace('"HostsRepositories=true", ', ""))
    _, output = place.clean_start()
    assert "repository of images" not in output


def test_a_repository_with_images_stays(place):
    place.create("ROLLBACK_COMPLETE")
    images.push(place.client("ecr"), "images", images.image("one"), tag="v1")
    code, output = place.clean_start("--write")
    assert (code, place.left()) == (0, NOTHING | {"images": True}), output
    assert "leave   repository of images images: it has images" in output


def test_a_repository_with_branches_stays(place):
    place.create("ROLLBACK_COMPLETE")
    address = place.client("codecommit").get_repository(repositoryName="code")["repositoryMetadata"]["cloneUrlHttp"]
    clone = Clone(pathlib.Path(address), place.folder / "clone")
    clone.commit({"a": "a"})
    clone.push("main")
    code, output = place.clean_start("--write")
    assert (code, place.left()) == (0, NOTHING | {"repository": True}), output
    assert "aws codecommit delete-repository --repository-name code" in output


def test_a_change_set_that_was_declined_is_removed(place):
    place.client("cloudformation").create_change_set(
        StackName=STACK, ChangeSetName="one", ChangeSetType="CREATE", TemplateBody=place.template()
    )
    wait(lambda: place.status() == "REVIEW_IN_PROGRESS")
    code, output = place.clean_start("--write")
    assert (code, place.status()) == (0, None), output


@pytest.mark.parametrize(("answer", "status"), [("y", "ROLLBACK_COMPLETE"), ("111111111111", None)])
def test_on_a_terminal_the_account_id_is_the_confirmation(place, answer, status):
    place.create("ROLLBACK_COMPLETE")
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    env = os.environ | {
        "AWS_CONFIG_FILE": str(place.config),
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "SAMCONFIG": str(place.samconfig),
    }
    command = [sys.executable, "-m", "tools.operations.clean_start", "--env", "mine"]
    done = subprocess.run(command, cwd=ROOT, env=env, stdin=theirs, capture_output=True, text=True, check=False)
    os.close(ours)
    os.close(theirs)
    assert place.status() == status, done.stdout + done.stderr


def test_the_deploy_role_is_refused_and_the_message_names_who_may_do_it(place):
    iam = place.client("iam")
    iam.create_user(UserName="deployer")
    iam.put_user_policy(
        UserName="deployer",
        PolicyName="reads",
        PolicyDocument=document([{"Effect": "Allow", "Action": "cloudformation:Describe*", "Resource": "*"}]),
    )
    key = iam.create_access_key(UserName="deployer")["AccessKey"]
    place.config.write_text(
        place.config.read_text()
        .replace(f"aws_access_key_id = {place.account}", f"aws_access_key_id = {key['AccessKeyId']}")
        .replace("= root", f"= {key['SecretAccessKey']}")
    )
    place.create("ROLLBACK_COMPLETE")
    code, output = place.clean_start("--write")
    assert (code, place.status(), place.left()) == (1, "ROLLBACK_COMPLETE", ALL), output
    assert "make clean-start ENV=mine PROFILE=" in output


def test_after_the_wrong_order_a_clean_start_lets_the_right_order_succeed(cloud, tmp_path):
    """With the real template, CodePipeline refuses the managed pipeline before the repository account is deployed."""
    place = Place(cloud, tmp_path, T)
    managed, template = deployed.PARTNERS | PARAMETERS, deployed.expanded()
    with pytest.raises(WaiterError):
        cloud.deploy(T, managed, template)
    wait(lambda: place.status() == "ROLLBACK_COMPLETE")
    events = place.client("cloudformation").describe_stack_events(StackName=STACK)["StackEvents"]
    (reason,) = [one["ResourceStatusReason"] for one in events if one["ResourceStatus"] == "CREATE_FAILED"]
    assert f"is not authorized to perform AssumeRole on role arn:aws:iam::{R}:role/sekisho-source-action" in reason
    code, output = place.clean_start("--write")
    assert (code, place.status(), place.left()["table"]) == (0, None, False), output
    # `deploy` creates the bucket for the test's uploads each time, so the bucket must be removed before the next call.
    uploads = f"{deployed.CODE}-{T}"
    for one in place.client("s3").list_objects_v2(Bucket=uploads)["Contents"]:
        place.client("s3").delete_object(Bucket=uploads, Key=one["Key"])
    place.client("s3").delete_bucket(Bucket=uploads)
    cloud.deploy(R, deployed.PARTNERS | {"HostsRepositories": "true"}, template)
    cloud.deploy(T, managed, template)
    assert place.status() == "CREATE_COMPLETE"
