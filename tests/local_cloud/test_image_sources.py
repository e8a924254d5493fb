"""The source action of images: its pin, its tag, its role in the registry's account, and its variables."""

import io
import json
import zipfile
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.accounts import REPOSITORY, TEST, allow, code, document
from tests.local_cloud.delivery import Delivery
from tools.layout import REGION
from tools.local_stack.images import image, index, push

REGISTRY = f"{REPOSITORY}.dkr.ecr.{REGION}.amazonaws.com"
# A tag that no image has. An execution without a pin fails at its source instead of deploying an old image.
NEVER = "pins-the-digest"
# The URI of the image by digest, from the variables of the action.
IMAGE_URI = f"#{{Image.RegistryId}}.dkr.ecr.{REGION}.amazonaws.com/#{{Image.RepositoryName}}@#{{Image.ImageDigest}}"
APPLICATION = json.dumps(
    {
        "Parameters": {"ImageUri": {"Type": "String"}},
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {"ImageUri": {"Value": {"Ref": "ImageUri"}}},
    }
)


class Images:
    """A delivery with two sources, the commit of the template and the image; it deploys the image by its digest."""

    def __init__(self, cloud, work, name: str, tag: str | None = NEVER):
        repository = cloud.repository(name, work)
        self.commit = repository.commit({"app/template.json": APPLICATION}, "First")
        repository.push("main")
        self.name, self.ecr = name, cloud.client("ecr")
        self.ecr.create_repository(repositoryName=name)
        self.delivery = Delivery(cloud, TEST, name)
        self.cloud = cloud
        self.permit("ecr:DescribeImages")
        self.delivery.client.create_pipeline(pipeline=self.structure(tag))

    def permit(self, action: str) -> None:
        """Lets the source role use this action on the repository of images."""
        resource = f"arn:aws:ecr:{REGION}:{REPOSITORY}:repository/{self.name}"
        self.cloud.client("iam").put_role_policy(
            RoleName=f"{self.name}-source", PolicyName="images", PolicyDocument=document([allow(action, resource)])
        )

    def structure(self, tag: str | None) -> dict:
        overrides = json.dumps({"ImageUri": IMAGE_URI})
        deploy = self.delivery.deploy("Deploy", 1, ActionMode="CREATE_UPDATE", ParameterOverrides=overrides)
        structure = self.delivery.structure(deploy, executionMode="QUEUED")
        structure["stages"][0]["actions"].append(
            {
                "name": "Image",
                "roleArn": self.delivery.source_role,
                "namespace": "Image",
                "actionTypeId": {"category": "Source", "owner": "AWS", "provider": "ECR", "version": "1"},
                "configuration": {"RepositoryName": self.name} | ({"ImageTag": tag} if tag else {}),
                "outputArtifacts": [{"name": "ImageArtifact"}],
            }
        )
        return structure

    def start(self, digest: str | None, kind: str = "IMAGE_DIGEST", action: str = "Image") -> str:
        pins = [{"actionName": "Source", "revisionType": "COMMIT_ID", "revisionValue": self.commit}]
        if digest:
            pins.append({"actionName": action, "revisionType": kind, "revisionValue": digest})
        started = self.delivery.client.start_pipeline_execution(name=self.name, sourceRevisions=pins)
        return started["pipelineExecutionId"]

    def deployed(self) -> str:
        stacks = self.cloud.client("cloudformation", TEST).describe_stacks(StackName=self.name)["Stacks"]
        return stacks[0]["Outputs"][0]["OutputValue"]


def test_each_source_takes_its_own_pin_although_the_tag_does_not_exist(cloud, tmp_path):
    images = Images(cloud, tmp_path, "two-sources")
    delivery, old = images.delivery, image("old")
    push(images.ecr, images.name, old, "v1")
    push(images.ecr, images.name, index(image("new"), old), "v2")
    execution = images.start(old.digest)
    ended = delivery.ended(execution)
    assert ended["status"] == "Succeeded", delivery.actions(execution)
    assert images.deployed() == f"{REGISTRY}/two-sources@{old.digest}"
    assert ended["artifactRevisions"] == [
        {"name": "Source", "revisionId": images.commit, "revisionSummary": "First"},
        {"name": "Image", "revisionId": old.digest},
    ]
    (listed,) = delivery.client.list_pipeline_executions(pipelineName=images.name)["pipelineExecutionSummaries"]
    assert {one["actionName"]: one["revisionId"] for one in listed["sourceRevisions"]} == {
        "Source": images.commit,
        "Image": old.digest,
    }

    actions = delivery.actions(execution)
    assert actions["Image"]["output"]["outputVariables"] == {
        "RegistryId": REPOSITORY,
        "RepositoryName": "two-sources",
        "ImageTag": NEVER,
        "ImageDigest": old.digest,
        "ImageURI": f"{REGISTRY}/two-sources:{NEVER}",
    }
    assert (actions["Image"]["input"]["namespace"], actions["Image"]["input"]["roleArn"]) == (
        "Image",
        delivery.source_role,
    )
    resolved = actions["Deploy"]["input"]["resolvedConfiguration"]["ParameterOverrides"]
    assert json.loads(resolved) == {"ImageUri": f"{REGISTRY}/two-sources@{old.digest}"}

    # An index is pinned like an image.
    newer = index(image("new"), old).digest
    assert delivery.ended(images.start(newer))["status"] == "Succeeded"
    assert images.deployed().endswith(f"@{newer}")


def test_the_artifact_is_a_file_about_the_image(cloud, tmp_path):
    images = Images(cloud, tmp_path, "detailed")
    delivery, one = images.delivery, image("one")
    push(images.ecr, images.name, one, "v1")
    execution = images.start(one.digest)
    assert delivery.ended(execution)["status"] == "Succeeded"
    (artifact,) = delivery.actions(execution)["Image"]["output"]["outputArtifacts"]
    place = artifact["s3location"]
    # The key's policy lets nobody else read, so the test lets the administrator in.
    decrypt = allow("kms:Decrypt", Principal={"AWS": f"arn:aws:iam::{TEST}:root"})
    delivery.kms.put_key_policy(KeyId=delivery.key, PolicyName="default", Policy=document([decrypt]))
    content = delivery.s3.get_object(Bucket=place["bucket"], Key=place["key"])["Body"].read()
    detail = json.loads(zipfile.ZipFile(io.BytesIO(content)).read("imageDetail.json"))
    pushed = datetime.strptime(detail.pop("ImagePushedAt"), "%a %b %d %H:%M:%S UTC %Y")
    assert abs(pushed - datetime.now(UTC).replace(tzinfo=None)) < timedelta(hours=1)
    assert detail == {
        "RegistryId": REPOSITORY,
        "RepositoryName": "detailed",
        "ImageDigest": one.digest,
        "ImageTags": ["v1"],
        "ImageURI": f"{REGISTRY}/detailed:{NEVER}",
        "ImageSizeInBytes": detail["ImageSizeInBytes"],
        "Version": "1.0",
    }
    assert detail["ImageSizeInBytes"].isdecimal()


def test_without_a_pin_the_tag_decides(cloud, tmp_path):
    images = Images(cloud, tmp_path, "unpinned", tag=None)
    delivery, one = images.delivery, image("one")
    push(images.ecr, images.name, one, "v1")
    missing = "imageTag:'latest'} does not exist within the repository with name 'unpinned'"
    assert missing in delivery.error(images.start(None), "Image")
    assert "Deploy" not in delivery.actions(images.start(None))
    push(images.ecr, images.name, one, "latest")
    assert delivery.ended(images.start(None))["status"] == "Succeeded"
    assert images.deployed().endswith(f"@{one.digest}")


def test_a_pin_that_does_not_exist_fails_the_source(cloud, tmp_path):
    images = Images(cloud, tmp_path, "no-such-digest")
    push(images.ecr, images.name, image("one"), NEVER)
    absent = image("never pushed").digest
    execution = images.start(absent)
    assert absent in images.delivery.error(execution, "Image")
    assert set(images.delivery.actions(execution)) == {"Source", "Image"}
    for revision in (
        {"kind": "COMMIT_ID"},
        {"action": "Source"},
        {"action": "Deploy"},
    ):
        with pytest.raises(ClientError) as caught:
            images.start(absent, **revision)
        assert code(caught) == "ValidationException", revision


def test_the_role_in_the_registrys_account_needs_the_permission(cloud, tmp_path):
    images = Images(cloud, tmp_path, "denied")
    push(images.ecr, images.name, image("one"), "v1")
    images.permit("ecr:BatchGetImage")
    execution = images.start(image("one").digest)
    assert "not authorized to perform: ecr:DescribeImages" in images.delivery.error(execution, "Image")
    # Without a role of the registry's account, the action looks in the registry of the pipeline's own account.
    structure = images.structure(NEVER)
    del structure["stages"][0]["actions"][1]["roleArn"]
    images.delivery.client.update_pipeline(pipeline=structure)
    assert "not authorized to perform: ecr:DescribeImages" in images.delivery.error(images.start(None), "Image")
    cloud.client("iam", TEST).put_role_policy(
        RoleName="denied-pipeline", PolicyName="images", PolicyDocument=document([allow("ecr:DescribeImages")])
    )
    own = f"'denied' does not exist in the registry with id '{TEST}'"
    assert own in images.delivery.error(images.start(image("one").digest), "Image")
