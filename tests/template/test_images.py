"""Images: the repository and its policy, and the managed pipeline with an image."""

import json
import pathlib
import time
import zlib

import pytest
from samtranslator.yaml_helper import yaml_parse

from tests.template import deployed, policies
from tests.template.test_aliases import aliases
from tests.template.test_template import READERS, lint
from tools.git import Clone
from tools.local_stack import images

PRODUCTION = "333333333333"
URI = f"#{{Image.RegistryId}}.dkr.ecr.{deployed.REGION}.amazonaws.com/#{{Image.RepositoryName}}@#{{Image.ImageDigest}}"


def bootstrap():
    return yaml_parse(deployed.IMAGES.read_text())


def test_a_further_repository_is_the_same():
    source = deployed.source()
    (here,), there = bootstrap()["Resources"].items(), source["Resources"]["ImageRepository"]
    assert here == ("ImageRepository", {key: value for key, value in there.items() if key != "Condition"})
    assert bootstrap()["Conditions"]["ImageReaders"] == source["Conditions"]["ImageReaders"]
    paths = "ImageReaderOrgPaths"
    assert bootstrap()["Parameters"][paths] == source["Parameters"][paths]


def test_the_template_of_a_further_repository_is_clean():
    lint(str(deployed.IMAGES))
    assert aliases(deployed.IMAGES.read_text()) == []


def test_a_further_repository_outlives_its_stack(cloud_of_all):
    account = "111111111111"
    cloud_of_all.image_repository(account, ImageRepositoryName="team/cart", ImageReaderOrgPaths=deployed.ORG_UNIT)
    ecr, cloudformation = (cloud_of_all.client(account, service) for service in ("ecr", "cloudformation"))
    (found,) = policies.of(cloud_of_all, account, deployed.IMAGES_STACK)
    (pull, for_functions) = found.statements
    assert pull["Condition"] == {"ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": [f"{deployed.ORG_UNIT}*"]}}
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
    policy = bootstrap()["Resources"]["ImageRepository"]["Properties"]["RepositoryPolicyText"]["Fn::If"][1]
    allowed = {action for statement in policy["Statement"] for action in statement["Action"]}
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
    if not paths:
        with pytest.raises(ecr.exceptions.RepositoryPolicyNotFoundException):
            ecr.get_repository_policy(repositoryName="shop")
        return
    policy = json.loads(ecr.get_repository_policy(repositoryName="shop")["policyText"])
    found = [statement["Condition"]["ForAnyValue:StringLike"] for statement in policy["Statement"]]
    expected = [f"{path}*" for path in paths.split(",")]
    assert found == [{"aws:PrincipalOrgPaths": expected}, {"aws:SourceOrgPaths": expected}]
    assert len(json.dumps(policy, separators=(",", ":"))) <= 10_240


def structure(cloud, account):
    return cloud.client(account, "codepipeline").get_pipeline(name="shop")["pipeline"]


def actions(pipeline):
    return {action["name"]: action for stage in pipeline["stages"] for action in stage["actions"]}


def test_the_managed_pipeline_deploys_the_image_by_digest(cloud_of_all):
    found = actions(structure(cloud_of_all, PRODUCTION))
    assert list(found)[:2] == ["Source", "Image"]
    image, change_set = found["Image"], found["ChangeSet"]
    assert image["actionTypeId"] == {"category": "Source", "owner": "AWS", "provider": "ECR", "version": "1"}
    assert image["configuration"] == {"RepositoryName": "shop", "ImageTag": "sekisho-pins-the-digest"}
    assert image["roleArn"] == found["Source"]["roleArn"]
    assert json.loads(change_set["configuration"]["ParameterOverrides"]) == {"ImageUri": URI}
    assert image["namespace"] == "Image"
    about = found["Approval"]["configuration"]["CustomData"]
    assert "commit #{Source.CommitId} of shop (main) and image #{Image.ImageDigest} of shop in 333333333333" in about


def test_without_an_image_the_managed_pipeline_is_as_before(cloud_of_all):
    """To change a property, CloudFormation updates a deployed pipeline, and CodePipeline cancels what runs."""
    account = "888888888888"
    duties = dict.fromkeys(["HostsRepositories", "HostsPipelines", "ManagesPipeline", "RequiresApproval"], "true")
    cloud_of_all.deploy(account, duties)
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
    assert "sekisho-pins-the-digest" in json.dumps(found["Image"]["output"]["executionResult"])
    found = ran(cloud_of_all, sourceRevisions=sources)
    # The local cloud does not run CodeBuild, so the pinned execution goes no further than the action Build.
    assert {name: one["status"] for name, one in found.items()} == {
        "Source": "Succeeded",
        "Image": "Succeeded",
        "Build": "Failed",
    }
    assert found["Image"]["output"]["outputVariables"]["ImageDigest"] == sources[1]["revisionValue"]
