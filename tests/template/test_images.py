"""Images: the repository and its policy, and the managed pipeline with an image."""

import hashlib
import json
import os
import pathlib
import re
import subprocess
import time
import zlib

import pytest
from samtranslator.yaml_helper import yaml_parse

from tests.template import deployed, policies
from tests.template.test_aliases import aliases
from tests.template.test_template import READERS, lint
from tools.git import Clone
from tools.layout import NO_TAG, ROOT
from tools.local_stack import images

PRODUCTION = "333333333333"
URI = f"#{{Image.RegistryId}}.dkr.ecr.{deployed.REGION}.amazonaws.com/#{{Image.RepositoryName}}@#{{Image.ImageDigest}}"


def bootstrap():
    return yaml_parse(deployed.IMAGES.read_text())


def test_a_further_repository_is_the_same():
    source = deployed.source()
    (here,), there = bootstrap()["Resources"].items(), source["Resources"]["ImageRepository"]
    # If the first deployment of the stack sekisho fails, its deployer may not delete the repository. An administrator,
    # who deploys a further one, may.
    del there["Condition"]
    assert (there["DeletionPolicy"], there["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert here == ("ImageRepository", there | {"DeletionPolicy": "RetainExceptOnCreate"})
    assert bootstrap()["Conditions"]["ImageReaders"] == source["Conditions"]["ImageReaders"]
    paths = "ImageReaderOrgPaths"
    assert bootstrap()["Parameters"][paths] == source["Parameters"][paths]


@pytest.mark.parametrize("name", ["s1", "shop", "a__b", "a---b", "team/cart.page_2"])
def test_names_that_ecr_allows(name):
    for template in (deployed.source(), bootstrap()):
        assert re.search(template["Parameters"]["ImageRepositoryName"]["AllowedPattern"], name)


def test_the_template_of_a_further_repository_is_clean():
    lint(str(deployed.IMAGES))
    assert aliases(deployed.IMAGES.read_text()) == []


def test_a_further_repository_outlives_its_stack(cloud_of_all):
    account = "111111111111"
    cloud_of_all.image_repository(account, ImageRepositoryName="team/cart", ImageReaderOrgPaths=deployed.ORG_UNIT)
    ecr, cloudformation = (cloud_of_all.client(account, service) for service in ("ecr", "cloudformation"))
    (found,) = policies.of(cloud_of_all, account, deployed.IMAGES_STACK)
    own, pull, for_functions = found.statements
    assert own["Condition"] == {"ArnLike": {"aws:SourceArn": f"arn:aws:lambda:{deployed.REGION}:{account}:function:*"}}
    assert pull["Condition"] == {
        "ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": [f"{deployed.ORG_UNIT}*"]},
        "StringNotEquals": {"aws:PrincipalAccount": account},
    }
    assert for_functions["Condition"] == {"ForAnyValue:StringLike": {"aws:SourceOrgPaths": [f"{deployed.ORG_UNIT}*"]}}
    cloudformation.delete_stack(StackName=deployed.IMAGES_STACK)
    cloudformation.get_waiter("stack_delete_complete").wait(
        StackName=deployed.IMAGES_STACK, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    (repository,) = ecr.describe_repositories(repositoryNames=["team/cart"])["repositories"]
    assert repository["imageTagMutability"] == "IMMUTABLE" and repository["imageScanningConfiguration"]["scanOnPush"]


def test_only_untagged_manifests_expire():
    properties = bootstrap()["Resources"]["ImageRepository"]["Properties"]
    (rule,) = json.loads(properties["LifecyclePolicy"]["LifecyclePolicyText"])["rules"]
    assert rule["selection"] == {
        "tagStatus": "untagged",
        "countType": "sinceImagePushed",
        "countUnit": "days",
        "countNumber": 30,
    }


def test_the_repository_lets_nobody_write():
    policy = bootstrap()["Resources"]["ImageRepository"]["Properties"]["RepositoryPolicyText"]
    own, *with_readers = policy["Statement"]
    statements = [own, *(one["Fn::If"][1] for one in with_readers)]
    allowed = {action for statement in statements for action in statement["Action"]}
    assert allowed == {
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:DescribeImages",
        "ecr:DescribeRepositories",
        "ecr:GetDownloadUrlForLayer",
    }


@pytest.mark.parametrize(
    "paths",
    [
        "",
        deployed.OTHER_UNIT,
        "o-a1b2c3d4e5/r-ab12/",
        f"o-a1b2c3d4e5/*/,{deployed.ORG_UNIT}ou-ab12-22222222/",
        # The longest list: the policy of the repository still fits.
        ",".join(f"o-a1b2c3d4e5/r-ab12/ou-ab12-{number:08}/" for number in range(92)),
        ",".join(["o-a1b2c3d4e5/*/"] * 225),
    ],
    ids=["none", "any root", "organization", "two", "long", "short and many"],
)
def test_lists_of_readers(cloud_of_all, paths):
    account = f"8{zlib.crc32(paths.encode()) % 10**11:011}"
    outputs = cloud_of_all.deploy(account, READERS | {"ImageReaderOrgPaths": paths})
    assert outputs["ImageRepositoryUri"] == f"{account}.dkr.ecr.{deployed.REGION}.amazonaws.com/shop"
    ecr = cloud_of_all.client(account, "ecr")
    policy = json.loads(ecr.get_repository_policy(repositoryName="shop")["policyText"])
    own, *for_readers = policy["Statement"]
    assert own["Principal"] == {"Service": "lambda.amazonaws.com"}
    if not paths:
        assert for_readers == []
        return
    found = [statement["Condition"]["ForAnyValue:StringLike"] for statement in for_readers]
    expected = [f"{path}*" for path in paths.split(",")]
    assert found == [{"aws:PrincipalOrgPaths": expected}, {"aws:SourceOrgPaths": expected}]
    assert len(json.dumps(policy)) <= 10_240


def structure(cloud, account):
    return cloud.client(account, "codepipeline").get_pipeline(name="shop")["pipeline"]


def actions(pipeline):
    return {action["name"]: action for stage in pipeline["stages"] for action in stage["actions"]}


def test_the_managed_pipeline_deploys_the_image_by_digest(cloud_of_all):
    found = actions(structure(cloud_of_all, PRODUCTION))
    assert list(found)[:2] == ["Source", "Image"]
    image, change_set = found["Image"], found["ChangeSet"]
    assert image["actionTypeId"] == {"category": "Source", "owner": "AWS", "provider": "ECR", "version": "1"}
    assert image["configuration"] == {"RepositoryName": "shop", "ImageTag": NO_TAG}
    assert image["roleArn"] == found["Source"]["roleArn"]
    assert json.loads(change_set["configuration"]["ParameterOverrides"]) == {"ImageUri": URI}
    assert image["namespace"] == "Image"
    about = found["Approval"]["configuration"]["CustomData"]
    assert "commit #{Source.CommitId} of shop (main) and image #{Image.ImageDigest} of shop in 333333333333" in about


@pytest.fixture(scope="module")
def without_image(cloud_of_all):
    """An account with a managed pipeline that has no image."""
    account, duties = "888888888888", ["HostsRepositories", "HostsPipelines", "ManagesPipeline", "RequiresApproval"]
    cloud_of_all.deploy(account, dict.fromkeys(duties, "true"))
    return account


def test_without_an_image_the_managed_pipeline_is_as_before(cloud_of_all, without_image):
    account = without_image
    found = actions(structure(cloud_of_all, account))
    assert list(found) == ["Source", "Build", "ChangeSet", "Approval", "Execute"]
    assert found["ChangeSet"]["configuration"] == {
        "ActionMode": "CHANGE_SET_REPLACE",
        "StackName": "shop",
        "ChangeSetName": "shop",
        "RoleArn": f"arn:aws:iam::{account}:role/sekisho-cloudformation-{deployed.REGION}",
        "TemplatePath": "Package::packaged.yaml",
        "Capabilities": "CAPABILITY_IAM,CAPABILITY_AUTO_EXPAND",
    }
    assert found["Approval"]["configuration"]["CustomData"] == (
        f"Deploys commit #{{Source.CommitId}} of shop (main) in {account}.\n"
        "Change set shop of stack shop lists the changes."
    )
    with_image = structure(cloud_of_all, PRODUCTION)
    assert structure(cloud_of_all, account).keys() == with_image.keys()


def properties_of_the_pipeline(cloud, account):
    """Returns a managed pipeline as CodePipeline, CodeBuild and IAM have it, without ids that differ by deployment."""
    project = cloud.client(account, "codebuild").batch_get_projects(names=["shop"])["projects"][0]
    (policy,) = (
        one.document
        for one in policies.of(cloud, account)
        if one.kind == "identity" and one.on.endswith(f"/sekisho-cloudformation-{deployed.REGION}")
    )
    found = {"pipeline": structure(cloud, account), "build": project["source"], "role": policy}
    keys = cloud.client(account, "kms").list_keys()["Keys"]
    text = json.dumps(found, sort_keys=True)
    for key in keys:
        text = text.replace(key["KeyId"], "KEY")
    return text


# The SHA-256 of these properties before the template knew images. Whoever changes a property on purpose writes the new
# value here, and into the changelog that the deployment cancels what runs in a managed pipeline.
BEFORE_IMAGES = "77076adde29171a0b38ef2067e23f48e17b124fe673835f3f1da0613f479c5d1"


def test_without_an_image_no_property_changes(cloud_of_all, without_image):
    """To change a property, CloudFormation updates a deployed pipeline, and CodePipeline cancels what runs."""
    text = properties_of_the_pipeline(cloud_of_all, without_image)
    assert hashlib.sha256(text.encode()).hexdigest() == BEFORE_IMAGES, text


APPLICATION = """
Transform: AWS::Serverless-2016-10-31
Parameters: {ImageUri: {Type: String}}
Resources:
  Hello:
    Type: AWS::Serverless::Function
    Properties: {FunctionName: shop-hello, PackageType: Image, ImageUri: !Ref ImageUri}
"""


def packaged(cloud, account, directory, template):
    """Runs the build commands of the account's managed pipeline for an application with this template.

    Returns the packaged template, or the error of sam.
    """
    source = cloud.client(account, "codebuild").batch_get_projects(names=["shop"])["projects"][0]["source"]
    (directory / "template.yaml").write_text(template)
    environment = {
        "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
        "HOME": str(directory),
        "SAM_CLI_TELEMETRY": "0",
        "AWS_DEFAULT_REGION": deployed.REGION,
        "ARTIFACT_BUCKET": "artifacts",
        "ARTIFACT_KEY_ARN": f"arn:aws:kms:{deployed.REGION}:{account}:key/artifacts",
    }
    for command in yaml_parse(source["buildspec"])["phases"]["build"]["commands"]:
        done = subprocess.run(
            ["sh", "-c", command], cwd=directory, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            return done.stderr
    return yaml_parse((directory / "packaged.yaml").read_text())["Resources"]


def test_the_build_packages_an_application_from_an_image(cloud_of_all, tmp_path):
    """sam packages a function from an image only with an option that names a repository; it pushes nothing to it."""
    hello = packaged(cloud_of_all, PRODUCTION, tmp_path, APPLICATION)["Hello"]
    assert hello["Properties"]["ImageUri"] == {"Ref": "ImageUri"}
    service = packaged(cloud_of_all, PRODUCTION, tmp_path, (ROOT / "examples/shop-ecs/template.yaml").read_text())
    assert "AWS::ECS::Service" in {one["Type"] for one in service.values()}


def test_without_an_image_the_build_packages_no_function_from_an_image(cloud_of_all, without_image, tmp_path):
    assert "Missing option '--image-repositories'" in packaged(cloud_of_all, without_image, tmp_path, APPLICATION)


@pytest.fixture
def sources(cloud_of_all, tmp_path):
    """A commit and an image for the managed pipeline; yields the pins of both."""
    codecommit, ecr = (cloud_of_all.client("111111111111", service) for service in ("codecommit", "ecr"))
    address = codecommit.create_repository(repositoryName="shop")["repositoryMetadata"]["cloneUrlHttp"]
    clone = Clone(pathlib.Path(address), tmp_path / "clone")
    commit = clone.commit({"template.yaml": "Resources: {}"})
    clone.push("main")
    digest = images.push(ecr, "shop", images.image("one"), tag="v1")
    yield [
        {"actionName": "Source", "revisionType": "COMMIT_ID", "revisionValue": commit},
        {"actionName": "Image", "revisionType": "IMAGE_DIGEST", "revisionValue": digest},
    ]
    codecommit.delete_repository(repositoryName="shop")
    ecr.batch_delete_image(repositoryName="shop", imageIds=[{"imageDigest": digest}])


def ran(cloud, **pins):
    """Runs the managed pipeline, and returns what each action did, by its name."""
    client = cloud.client(PRODUCTION, "codepipeline")
    execution = client.start_pipeline_execution(name="shop", **pins)["pipelineExecutionId"]
    which, deadline = {"pipelineName": "shop", "pipelineExecutionId": execution}, time.monotonic() + 30
    while client.get_pipeline_execution(**which)["pipelineExecution"]["status"] == "InProgress":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    found = client.list_action_executions(pipelineName="shop", filter={"pipelineExecutionId": execution})
    return {one["actionName"]: one for one in found["actionExecutionDetails"]}


def test_an_execution_that_no_order_started_deploys_nothing(cloud_of_all, sources):
    """Somebody presses "Release change" in the console, although there are a commit and an image."""
    found = ran(cloud_of_all)
    assert {name: one["status"] for name, one in found.items()} == {"Source": "Succeeded", "Image": "Failed"}
    assert NO_TAG in json.dumps(found["Image"]["output"]["executionResult"])
    found = ran(cloud_of_all, sourceRevisions=sources)
    # The local cloud does not run CodeBuild, so the pinned execution goes no further than the action Build.
    assert {name: one["status"] for name, one in found.items()} == {
        "Source": "Succeeded",
        "Image": "Succeeded",
        "Build": "Failed",
    }
    assert found["Image"]["output"]["outputVariables"]["ImageDigest"] == sources[1]["revisionValue"]


@pytest.mark.parametrize(
    ("event", "relayed"),
    [
        ("image-pushed", True),
        ("image-replicated", True),
        ("image-deleted", True),
        ("image-push-failed", False),
        ("image-scanned", False),
    ],
)
def test_the_rule_matches_what_changes_a_tag(cloud_of_all, event, relayed):
    rule = deployed.expanded()["Resources"]["EventRelayImageChange"]["Properties"]
    assert rule["Name"] == "sekisho-image-change"
    text = (deployed.ROOT / "events" / "event-relay" / f"{event}.json").read_text()
    answer = cloud_of_all.client("111111111111", "events").test_event_pattern(
        EventPattern=json.dumps(rule["EventPattern"]), Event=text
    )
    assert answer["Result"] is relayed
